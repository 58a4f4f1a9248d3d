"""LLM.ask: what is sent once, what is replayed, what is kept secret, and how a run is interrupted."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llm_asking import asking, kinds, question, questions, read_rating
from llm_server import FaultPlan, LoopbackLLM, always
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hybrid_sim.core.errors import ReplyError, RunError, SettingsError
from hybrid_sim.core.progress import listen
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Message, Question
from hybrid_sim.llm.transport import Endpoint

SENTINEL = "sk-sentinel-7f3a9c51e2"


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        results = llm.ask([question(1), question(2), question(1), question(1)])
        assert results[0] is results[2] is results[3]
        assert server.n_requests == 2


def test_nothing_to_ask_is_no_call(tmp_path: Path) -> None:
    with asking(tmp_path, "http://127.0.0.1:9/v1") as llm:
        assert llm.ask([]) == []


def test_row_33_samples_have_answers_of_their_own(tmp_path: Path) -> None:
    samples = [question(1, sample=number) for number in range(5)]
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        first = llm.ask(samples)
        assert server.n_requests == 5
        assert llm.ask(samples) == first
        assert server.n_requests == 5


@pytest.mark.parametrize("concurrency", [1, 64])
def test_a_finished_run_again_makes_no_call(concurrency: int, tmp_path: Path) -> None:
    faults = FaultPlan(seed=3, share=0.2)
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url, attempts=9) as llm:
        before = llm.ask(questions(60))
    with asking(tmp_path, "http://127.0.0.1:9/v1", concurrency=concurrency) as llm:
        assert [result.text for result in llm.ask(questions(60))] == [result.text for result in before]
        assert (llm.counts.calls, llm.counts.from_journal) == (0, 60)


def test_a_replay_needs_no_key_and_a_missing_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        before = llm.ask(questions(10))
    with asking(tmp_path, "https://api.openai.com/v1", replay=True) as llm:
        assert llm.ask(questions(10)) == before
        with pytest.raises(RunError, match=r"lacks 2 of the answers .* prompt rate@1"):
            llm.ask(questions(12))


def test_a_stored_text_must_pass_the_check_of_today(tmp_path: Path) -> None:
    def never_four(text: str) -> int:
        if read_rating(text) == 4:
            raise ReplyError("four is not allowed any more")
        return read_rating(text)

    stricter = Question("rate@1", question(1).messages, question(1).schema, never_four, 100)
    with LoopbackLLM(mind=lambda body: '{"rating": 4}') as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
    with LoopbackLLM(mind=lambda body: '{"rating": 3}') as server, asking(tmp_path, server.url) as llm:
        (answer,) = llm.ask([stricter])
        assert answer.value == 3
        assert server.n_requests == 1


def test_another_temperature_is_another_question(tmp_path: Path) -> None:
    with LoopbackLLM() as server:
        for temperature in (0.0, 0.7):
            with asking(tmp_path, server.url, temperature=temperature) as llm:
                llm.ask([question(1)])
        assert [body["temperature"] for body in server.bodies] == [0.0, 0.7]


def test_it_works_where_a_loop_is_running(tmp_path: Path) -> None:
    with LoopbackLLM() as server:

        async def notebook() -> list[str]:
            with asking(tmp_path, server.url) as llm:
                return kinds(llm.ask(questions(5))) + kinds(llm.ask(questions(9)))

        assert asyncio.run(notebook()) == ["answer"] * 14


def test_connections_last_over_waves(tmp_path: Path) -> None:
    with LoopbackLLM() as server, asking(tmp_path, server.url, concurrency=1) as llm:
        for wave in range(4):
            llm.ask([question(wave)])
        assert len({received.headers.get("host") for received in server.requests}) == 1
        assert server.counts == {"answered": 4}


def test_a_defect_in_a_check_is_not_swallowed(tmp_path: Path) -> None:
    def broken(text: str) -> int:
        raise ZeroDivisionError

    defect = Question("broken@1", (Message("user", "x"),), {}, broken)
    with LoopbackLLM(latency=0.05) as server, asking(tmp_path, server.url) as llm:
        with pytest.raises(ZeroDivisionError):
            llm.ask([defect, *questions(3)])
        assert llm.journal.ledger().answered == 0
        assert kinds(llm.ask(questions(3))) == ["answer"] * 3


def test_progress_is_reported(tmp_path: Path) -> None:
    class Listener:
        said: list[Any] = []  # noqa: RUF012

        def start(self, label: str, total: int) -> Any:
            self.said.append((label, total))
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def advance(self, steps: int = 1, note: str = "", left: float | None = None) -> None:
            self.said.append(steps)

    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm, listen(Listener().start):
        llm.ask([*questions(3), question(1)])
    assert Listener.said[0] == ("asking loopback", 4)
    assert sum(Listener.said[1:]) == 4


def test_the_key_and_the_address_come_from_the_environment() -> None:
    settings = LLMSettings()
    assert Endpoint.of(settings, {"OPENAI_API_KEY": "sk-1"}).address == "https://api.openai.com/v1"
    elsewhere = {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "https://llm.example.org/v1/"}
    assert Endpoint.of(settings, elsewhere).address == "https://llm.example.org/v1"
    assert Endpoint.of(LLMSettings(base_url="http://127.0.0.1:8080/v1"), {}).key != ""
    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        Endpoint.of(settings, {})


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hunter22@example.org/v1",
        "https://example.org/v1?key=hunter22",
        "hunter22",
        "ftp://hunter22",
        "http://[hunter22/v1",
    ],
)
def test_row_25_an_address_with_a_secret_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(SettingsError, match=r"llm\.base_url") as caught:
        Endpoint.of(LLMSettings(base_url=address), {"OPENAI_API_KEY": "sk-1"})
    assert "hunter22" not in str(caught.value)


def echoing(statuses: Sequence[int]) -> Any:
    """A server that repeats the key in all that it says."""
    left = iter(statuses)

    def reply(request: Request) -> Response:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        assert key == SENTINEL
        status = next(left, 401)
        body = f'{{"error": {{"message": "bad key {key}", "code": "{key}"}}, "choices": [{{"message": '
        body += f'{{"content": "the key is {key}"}}}}]}}'
        return Response(body if status != 503 else f"<html>{key}</html>", status, {"Retry-After": key})

    return reply


def test_row_25_the_key_is_nowhere_in_what_a_run_writes(
    tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SENTINEL)
    caplog.set_level(logging.DEBUG)
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(echoing([503, 200, 200, 500, 400, 401]))
    shown = []
    with asking(tmp_path, httpserver.url_for("/v1"), concurrency=1) as llm:
        shown += [
            repr(llm.ask(questions(8))),
            str(llm.stopped),
            repr(llm),
            repr(vars(llm)),
            repr(Endpoint.of(llm.settings)),
        ]
        try:
            llm.ask([Question("broken@1", (Message("user", "x"),), {"a": object()}, read_rating)])
        except TypeError as error:
            shown.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
        shown += [file.read_bytes().decode(errors="replace") for file in tmp_path.iterdir()]
    shown += [file.read_bytes().decode(errors="replace") for file in tmp_path.iterdir()]
    assert len(httpserver.log) >= 6
    assert "[key]" in "".join(shown)
    for text in [*shown, caplog.text]:
        assert SENTINEL not in text


CHILD = """
import signal, sys
from pathlib import Path
from llm_asking import asking, kinds, questions
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
with asking(Path(sys.argv[1]), sys.argv[2], concurrency=4, deadline=300.0) as llm:
    try:
        llm.ask(questions(400))
    except KeyboardInterrupt:
        print("interrupted", llm.counts.calls, llm.counts.answered, flush=True)
        sys.exit(130)
"""


def interrupted(folder: Path, server: LoopbackLLM, signals: Sequence[signal.Signals]) -> list[str]:
    """Run a child against the server, send it signals while calls are in flight, and give its last words."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), server.url], stdout=subprocess.PIPE, text=True, env=environment
    )
    with child:
        try:
            deadline = time.monotonic() + 60
            while server.n_requests < 6 and time.monotonic() < deadline:
                time.sleep(0.01)
            for number in signals:
                child.send_signal(number)
                time.sleep(0.1)
            output, _ = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130
    return output.split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_row_28_once_finishes_what_is_in_flight(number: signal.Signals, tmp_path: Path) -> None:
    with LoopbackLLM(latency=0.4) as server:
        words = interrupted(tmp_path, server, [number])
        assert words == ["interrupted", str(server.n_requests), str(server.n_requests)]
        assert len(server.answered) == server.n_requests < 20
    with Journal(tmp_path / "journal.sqlite") as journal:
        ledger = journal.ledger()
        assert (ledger.answered, ledger.possibly_paid) == (server.n_requests, 0)


def test_row_28_twice_stops_now(tmp_path: Path) -> None:
    slow = lambda number, body: "hang" if number > 3 else None  # noqa: E731
    with LoopbackLLM(faults=slow, latency=0.05) as server:
        interrupted(tmp_path, server, [signal.SIGINT, signal.SIGINT])  # long before the deadline of the calls
    with Journal(tmp_path / "journal.sqlite") as journal:
        ledger = journal.ledger()
        assert (ledger.answered, ledger.possibly_paid) == (3, server.n_requests - 3)
        assert ledger.failed == server.n_requests - 3


def test_signal_handlers_come_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with LoopbackLLM(faults=always("401")) as server, asking(tmp_path, server.url) as llm:
        llm.ask(questions(3))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
