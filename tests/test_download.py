"""Downloads over real HTTP from a loopback server: complete and checked, or nothing at all."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hybrid_sim.core.errors import NetworkError, SettingsError, StorageError
from hybrid_sim.core.progress import listen
from hybrid_sim.data.download import download
from hybrid_sim.data.http import RetryPolicy

QUICK = RetryPolicy(attempts=3, first_wait=0.01, deadline=2.0)


def archive(entries: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in entries.items():
            bundle.writestr(name, data)
    return content.getvalue()


SMALL = archive({"ml-100k/": b"", "ml-100k/u.data": b"1\t1\t5\t100\n", "ml-100k/README": b"made up"})


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def is_empty(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


class Listening:
    """Counts what is reported."""

    def __init__(self) -> None:
        self.done: dict[str, tuple[int, int]] = {}

    @contextmanager
    def start(self, label: str, total: int) -> Iterator[Listening]:
        self.label, self.total, self.steps = label, total, 0
        yield self
        self.done[label] = (self.steps, total)

    def advance(self, steps: int = 1, note: str = "", left: float | None = None) -> None:
        self.steps += steps


def test_a_set_is_fetched_once(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/sets/ml-100k.zip").respond_with_data(SMALL)
    heard = Listening()
    with listen(heard.start):
        folder = download("ml-100k", tmp_path / "new", mirror=httpserver.url_for("/sets/"), md5=md5(SMALL))
    assert folder == tmp_path / "new" / "ml-100k"
    assert (folder / "u.data").read_bytes() == b"1\t1\t5\t100\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ml-100k"], "no temporary file stays"
    assert heard.done == {"download ml-100k": (len(SMALL), len(SMALL)), "unpack ml-100k": (3, 3)}
    assert download("ml-100k", tmp_path / "new", mirror="http://127.0.0.1:9/") == folder
    assert len(httpserver.log) == 1


def test_the_pinned_checksum_guards_the_sets_that_never_change(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/ml-100k.zip").respond_with_data(SMALL)
    message = f"the checksum is {md5(SMALL)} instead of {'0e33842e24a9c977be4e0107933c0723'}: the file is damaged"
    with pytest.raises(NetworkError, match=message):
        download("ml-100k", tmp_path, mirror=httpserver.url_for(""), policy=QUICK)
    assert is_empty(tmp_path)


def test_the_published_checksum_guards_the_others(httpserver: HTTPServer, tmp_path: Path) -> None:
    content = archive({"ml-latest-small/ratings.csv": b"x"})
    httpserver.expect_request("/ml-latest-small.zip").respond_with_data(content)
    published = httpserver.expect_oneshot_request("/ml-latest-small.zip.md5")
    published.respond_with_data(f"MD5 (ml-latest-small.zip) = {md5(content)}\n")
    folder = download("ml-latest-small", tmp_path, mirror=httpserver.url_for(""), policy=QUICK)
    assert (folder / "ratings.csv").is_file()
    httpserver.expect_request("/ml-latest-small.zip.md5").respond_with_data("<html>moved</html>")
    with pytest.raises(NetworkError, match=r"ml-latest-small\.zip\.md5 holds no MD5 checksum"):
        download("ml-latest-small", tmp_path / "other", mirror=httpserver.url_for(""), policy=QUICK)


@pytest.mark.parametrize("entry", ["../outside", "/etc/outside", "ml-100k/../../outside", "elsewhere/u.data", "..\\x"])
def test_entries_that_lead_outside_are_refused(httpserver: HTTPServer, tmp_path: Path, entry: str) -> None:
    content = archive({"ml-100k/u.data": b"x", entry: b"y"})
    httpserver.expect_request("/ml-100k.zip").respond_with_data(content)
    with pytest.raises(NetworkError, match="leads outside the folder ml-100k"):
        download("ml-100k", tmp_path / "data", mirror=httpserver.url_for(""), md5=md5(content))
    assert is_empty(tmp_path / "data")
    assert not list(tmp_path.rglob("outside"))


def test_a_bomb_is_refused(httpserver: HTTPServer, tmp_path: Path) -> None:
    content = archive({"ml-100k/u.data": bytes(401 << 20)})
    assert len(content) < 20 << 20
    httpserver.expect_request("/ml-100k.zip").respond_with_data(content)
    with pytest.raises(NetworkError, match="unpacks to more than is expected"):
        download("ml-100k", tmp_path, mirror=httpserver.url_for(""), md5=md5(content))
    assert is_empty(tmp_path)


def test_an_entry_that_states_too_small_a_size_is_refused(httpserver: HTTPServer, tmp_path: Path) -> None:
    size, stated = (1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    content = archive({"ml-100k/u.data": bytes(1 << 20)}).replace(size, stated)
    httpserver.expect_request("/ml-100k.zip").respond_with_data(content)
    with pytest.raises(NetworkError, match="is not a zip file"):
        download("ml-100k", tmp_path, mirror=httpserver.url_for(""), md5=md5(content))
    assert is_empty(tmp_path)


def test_a_body_without_end_is_refused(httpserver: HTTPServer, tmp_path: Path) -> None:
    def endless(_: Request) -> Response:
        return Response((bytes(1 << 20) for _ in range(1000)), mimetype="application/zip")

    httpserver.expect_request("/ml-100k.zip").respond_with_handler(endless)
    with pytest.raises(NetworkError, match="sends more than the 20971520 bytes"):
        download("ml-100k", tmp_path, mirror=httpserver.url_for(""), md5="0" * 32, policy=QUICK)
    assert is_empty(tmp_path)


def test_what_is_no_zip_is_refused(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/ml-100k.zip").respond_with_data(b"<html>login</html>")
    address = httpserver.url_for("")
    with pytest.raises(NetworkError, match="is not a zip file"):
        download("ml-100k", tmp_path, mirror=address, md5=md5(b"<html>login</html>"), policy=QUICK)
    other = archive({"ml-100k": b"a file, not a folder"})
    httpserver.clear()
    httpserver.expect_request("/ml-100k.zip").respond_with_data(other)
    with pytest.raises(NetworkError, match="holds no folder ml-100k"):
        download("ml-100k", tmp_path, mirror=httpserver.url_for(""), md5=md5(other), policy=QUICK)


def test_passing_faults_are_tried_again(httpserver: HTTPServer, tmp_path: Path) -> None:
    for status in (503, 429):
        httpserver.expect_ordered_request("/ml-100k.zip").respond_with_data("busy", status, {"Retry-After": "0"})
    httpserver.expect_ordered_request("/ml-100k.zip").respond_with_data(SMALL)
    download("ml-100k", tmp_path, mirror=httpserver.url_for(""), md5=md5(SMALL), policy=QUICK)
    assert len(httpserver.log) == 3


def test_retries_are_bounded_and_refusals_are_not_retried(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/ml-100k.zip").respond_with_data("broken", 500)
    with pytest.raises(NetworkError, match=r"ml-100k\.zip answered 500"):
        download("ml-100k", tmp_path, mirror=httpserver.url_for(""), policy=QUICK)
    assert len(httpserver.log) == QUICK.attempts
    httpserver.clear()
    httpserver.expect_request("/ml-100k.zip").respond_with_data("gone", 404)
    with pytest.raises(NetworkError, match=r"ml-100k\.zip answered 404"):
        download("ml-100k", tmp_path, mirror=httpserver.url_for(""), policy=QUICK)
    assert len(httpserver.log) == 1


@contextmanager
def raw_server(answer: bytes, *, pause: float = 0.0) -> Iterator[str]:
    """A socket that sends `answer` byte by byte with a pause after each, then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    try:
                        for place in range(0, len(answer), 1 if pause else len(answer)):
                            connection.sendall(answer[place : place + (1 if pause else len(answer))])
                            time.sleep(pause)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_body_that_breaks_off_is_a_network_error(tmp_path: Path) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(SMALL)}\r\n\r\n".encode()
    with raw_server(head + SMALL[:50]) as address, pytest.raises(NetworkError, match="broke off after 50 of"):
        download("ml-100k", tmp_path, mirror=address, md5=md5(SMALL), policy=QUICK)
    assert is_empty(tmp_path)


def test_a_body_that_drips_meets_the_deadline(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    policy = RetryPolicy(attempts=1, deadline=0.5)
    started = time.monotonic()
    with (
        raw_server(head + bytes(400), pause=0.01) as address,
        pytest.raises(NetworkError, match="is too slow"),
    ):
        download("ml-100k", tmp_path, mirror=address, md5=md5(SMALL), policy=policy)
    assert time.monotonic() - started < 8


def test_a_server_that_never_answers_meets_the_deadline(tmp_path: Path) -> None:
    policy = RetryPolicy(attempts=2, first_wait=0.01, deadline=0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NetworkError, match=rf"{address}/ml-100k.zip cannot be reached: .*timed out"):
            download("ml-100k", tmp_path, mirror=address, md5=md5(SMALL), policy=policy)


def test_a_refused_connection_names_the_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(NetworkError, match=rf"{address}/ml-100k.zip cannot be reached: .*refused"):
        download("ml-100k", tmp_path, mirror=address, policy=QUICK)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot be written: .*; free space or choose --data DIR"):
        download("ml-100k", tmp_path / "file" / "data", mirror="http://127.0.0.1:9", policy=QUICK)


def test_unknown_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'ml-1b' cannot be downloaded; did you mean 'ml-1m'"):
        download("ml-1b", tmp_path)
