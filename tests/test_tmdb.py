"""The TMDB client over real HTTP against a loopback server; the key is found nowhere."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_httpserver import HTTPServer

from hybrid_sim.cli import main
from hybrid_sim.core.errors import NetworkError, SettingsError, StorageError
from hybrid_sim.data import load
from hybrid_sim.data.http import RetryPolicy
from hybrid_sim.data.tmdb import add_tmdb
from hybrid_sim.data.tmdb_client import TmdbClient

KEY = "5e27151e5e27151e5e27151e5e27151e"
TOKEN = "eyJhbGciOi.c2VudGluZWw.dG9rZW4"
QUICK = RetryPolicy(attempts=3, first_wait=0.01, deadline=0.5)
FILM: dict[str, Any] = {
    "id": 603,
    "overview": "A hacker learns the truth.",
    "genres": [{"id": 28, "name": "Action"}],
    "original_language": "en",
    "runtime": 136,
    "belongs_to_collection": {"name": "The Matrix Collection"},
    "origin_country": ["US"],
    "production_companies": [{"name": "Village Roadshow"}],
    "credits": {
        "cast": [{"name": "Keanu"}, {"name": "Carrie"}],
        "crew": [{"job": "Director", "name": "Lana"}],
    },
    "vote_average": 8.2,
}


def client(httpserver: HTTPServer, cache: Path, key: str = KEY) -> TmdbClient:
    return TmdbClient(key, cache, base_url=httpserver.url_for("/3"), policy=QUICK)


def expect_film(httpserver: HTTPServer, query: dict[str, str]) -> None:
    httpserver.expect_request("/3/search/movie", query_string=query).respond_with_json({"results": [{"id": 603}]})
    details = {"append_to_response": "credits"} | ({"api_key": KEY} if "api_key" in query else {})
    httpserver.expect_request("/3/movie/603", query_string=details).respond_with_json(FILM)


def test_a_film_is_found_and_kept(httpserver: HTTPServer, tmp_path: Path) -> None:
    expect_film(httpserver, {"query": "The Matrix", "year": "1999", "api_key": KEY})
    film = client(httpserver, tmp_path).find("Matrix, The", 1999.0)
    assert film is not None
    assert (film.overview, film.genres, film.language) == ("A hacker learns the truth.", ("Action",), "en")
    assert (film.runtime, film.collection, film.countries) == (136, "The Matrix Collection", ("US",))
    assert (film.cast, film.director) == (("Keanu", "Carrie"), "Lana")
    assert client(httpserver, tmp_path).find("Matrix, The", 1999.0) == film
    assert len(httpserver.log) == 2, "the second answer comes from the disk"


def test_a_token_travels_in_a_header(httpserver: HTTPServer, tmp_path: Path) -> None:
    expect_film(httpserver, {"query": "Heat"})
    assert client(httpserver, tmp_path, TOKEN).find("Heat", np.nan) is not None
    for request, _ in httpserver.log:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in request.url


def test_an_unknown_film_is_none_and_that_is_kept_too(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/3/search/movie").respond_with_json({"results": []})
    for _ in range(2):
        assert client(httpserver, tmp_path).find("Nothing", 1990.0) is None
    assert len(httpserver.log) == 1


def test_a_damaged_answer_on_disk_is_asked_for_again(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/3/search/movie").respond_with_json({"results": []})
    client(httpserver, tmp_path).find("Nothing", 1990.0)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:5])
    assert client(httpserver, tmp_path).find("Nothing", 1990.0) is None
    assert len(httpserver.log) == 2


def test_storms_and_broken_servers_are_tried_again(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_ordered_request("/3/search/movie").respond_with_data("", 429, {"Retry-After": "0"})
    httpserver.expect_ordered_request("/3/search/movie").respond_with_data("<html>", 500)
    httpserver.expect_ordered_request("/3/search/movie").respond_with_json({"results": []})
    assert client(httpserver, tmp_path).find("Heat", 1995.0) is None
    assert len(httpserver.log) == 3


@pytest.mark.parametrize("wait", ["Wed, 21 Oct 2015 07:28:00 GMT", "soon", ""])
def test_any_retry_after_is_borne(httpserver: HTTPServer, tmp_path: Path, wait: str) -> None:
    httpserver.expect_request("/3/search/movie").respond_with_data("", 429, {"Retry-After": wait})
    with pytest.raises(NetworkError, match="answered 429"):
        client(httpserver, tmp_path).find("Heat", 1995.0)
    assert len(httpserver.log) == QUICK.attempts


def test_a_refused_key_fails_at_once(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/3/search/movie").respond_with_json({"status_message": "Invalid"}, 401)
    with pytest.raises(NetworkError, match=r"answered 401 .*: TMDB refuses the key; check TMDB_API_KEY"):
        client(httpserver, tmp_path).find("Heat", 1995.0)
    assert len(httpserver.log) == 1
    assert not list(tmp_path.iterdir()), "a refusal is not kept"


def test_a_server_that_never_answers_meets_the_deadline(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/3"
        asking = TmdbClient(KEY, tmp_path, address, RetryPolicy(attempts=2, first_wait=0.01, deadline=0.2))
        with pytest.raises(NetworkError, match=r"cannot be reached: .*timed out"):
            asking.find("Heat", 1995.0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "answered something that is not JSON"),
        ("[]", "TMDB answered without 'results'"),
        ('{"results": 5}', "TMDB answered without 'results'"),
        ('{"results": [7]}', "TMDB answered without 'id'"),
        ('{"results": [{"id": "7"}]}', "TMDB answered without 'id'"),
    ],
)
def test_malformed_answers_are_network_errors(httpserver: HTTPServer, tmp_path: Path, body: str, message: str) -> None:
    httpserver.expect_request("/3/search/movie").respond_with_data(body)
    with pytest.raises(NetworkError, match=message):
        client(httpserver, tmp_path).find("Heat", 1995.0)


def test_details_that_lack_everything_are_an_empty_film(httpserver: HTTPServer, tmp_path: Path) -> None:
    bare = {
        "id": 603,
        "credits": {"crew": [5, {"job": "Director"}]},
        "belongs_to_collection": None,
        "runtime": 0,
    }
    httpserver.expect_request("/3/search/movie").respond_with_json({"results": [{"id": 603}]})
    httpserver.expect_request("/3/movie/603").respond_with_json(bare)
    film = client(httpserver, tmp_path).find("Heat", 1995.0)
    assert film is not None
    assert (film.overview, film.collection, film.director, film.cast) == ("", "", "", ())
    assert np.isnan(film.runtime)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("key", [KEY, TOKEN])
def test_the_key_is_found_nowhere(
    httpserver: HTTPServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    caplog.set_level(logging.DEBUG)
    asking = client(httpserver, tmp_path / "cache", key)
    written = [repr(asking), str(asking)]
    httpserver.expect_ordered_request("/3/search/movie").respond_with_json({"results": []})
    asking.find("Kept", 1990.0)
    for status in (401, 404, 500):
        httpserver.expect_request("/3/search/movie").respond_with_data("", status)
        with pytest.raises(NetworkError) as raised:
            asking.find(f"Fails {status}", 1990.0)
        written += traceback.format_exception(raised.value)
        written += [str(vars(error)) for error in chain(raised.value)]
        httpserver.clear()
    unreachable = TmdbClient(key, tmp_path / "cache", "http://127.0.0.1:9/3", QUICK)
    with pytest.raises(NetworkError) as raised:
        unreachable.find("Away", 1990.0)
    written += traceback.format_exception(raised.value)
    # The test server's own log names the addresses that it was asked for.
    written += [record.getMessage() for record in caplog.records if record.name != "werkzeug"]
    written += [path.name + path.read_text() for path in (tmp_path / "cache").iterdir()]
    assert not [text for text in written if key in text]


def test_the_key_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMDB_API_KEY", raising=False)
    with pytest.raises(SettingsError, match="the environment variable TMDB_API_KEY is not set"):
        TmdbClient.from_environment(tmp_path)
    monkeypatch.setenv("TMDB_API_KEY", f" {KEY}\n")
    assert TmdbClient.from_environment(tmp_path).key == KEY


def test_a_cache_that_cannot_be_written_is_a_storage_error(httpserver: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    httpserver.expect_request("/3/search/movie").respond_with_json({"results": []})
    with pytest.raises(StorageError, match="cannot be written"):
        client(httpserver, tmp_path / "file").find("Heat", 1995.0)


def test_a_dataset_gets_its_texts(httpserver: HTTPServer, tmp_path: Path) -> None:
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.0,1\n1,2,0.5,2\n")
    (folder / "movies.csv").write_text('movieId,title,genres\n1,"Matrix, The (1999)",War\n2,Babylon 5,War\n')
    expect_film(httpserver, {"query": "The Matrix", "year": "1999", "api_key": KEY})
    nothing = {"query": "Babylon 5", "api_key": KEY}
    httpserver.expect_request("/3/search/movie", query_string=nothing).respond_with_json({"results": []})
    dataset = load("ml-latest-small", folder)
    items = add_tmdb(dataset, client(httpserver, tmp_path / "cache").fetch(dataset)).items
    assert items["overview"].tolist() == ["A hacker learns the truth.", ""]
    assert items["genres"].tolist() == [("War",), ("War",)], "the data set's own genres stay"
    assert items["director"].tolist() == ["Lana", ""]
    assert not [column for column in items if "vote" in str(column)]
    assert json.loads(next((tmp_path / "cache").iterdir()).read_bytes())


def test_the_command_gathers_texts_that_the_data_set_is_then_read_with(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.0,964982703\n2,2,3.0,964982704\n")
    (folder / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Action\n2,Nothing (1990),Drama\n")
    expect_film(httpserver, {"query": "Heat", "year": "1995", "api_key": KEY})
    httpserver.expect_request("/3/search/movie").respond_with_json({"results": []})
    monkeypatch.setenv("TMDB_API_KEY", KEY)
    monkeypatch.setenv("HYBRID_SIM_CACHE", str(tmp_path / "cache"))
    command = ["data", "texts", "ml-latest-small", "--data", str(tmp_path), "--mirror", httpserver.url_for("/3")]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{folder / 'movies_tmdb.parquet'}\n"
    items = load("ml-latest-small", tmp_path).items
    assert items["overview"].tolist() == ["A hacker learns the truth.", ""]
    assert items["companies"].tolist() == [("Village Roadshow",), ()]
    assert items["language"].tolist() == ["en", ""]
    assert items["collection"].tolist() == ["The Matrix Collection", ""]


def test_the_command_needs_a_name_and_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMDB_API_KEY", raising=False)
    assert main(["data", "texts"]) == 2
    assert main(["data", "texts", "ml-100k", "--data", str(tmp_path)]) == 2
