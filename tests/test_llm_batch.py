"""Batches over real HTTP: every request is carried out once, whatever ends, fails or is killed in between."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from llm_server import DEAD_ADDRESS, LoopbackLLM

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError
from hybrid_sim.llm.batch import Polling, run_batch
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.outcomes import Fault, Reply
from hybrid_sim.llm.transport import Endpoint, EndpointClient

QUICK = Polling(poll=0.005, attempts=3, first_wait=0.01, deadline=5.0)
KEY = "sk-sentinel-0123456789"
Outcomes = list[tuple[str, Reply | Fault]]


def bodies(n: int, start: int = 0) -> dict[str, dict[str, Any]]:
    """`n` requests under keys as long as those of questions."""
    return {
        f"{number:064x}": {"model": "loopback", "messages": [{"role": "user", "content": f"{number}"}]}
        for number in range(start, start + n)
    }


def repeat(body: Mapping[str, Any]) -> str:
    """A mind that repeats the last message."""
    return json.dumps({"said": body["messages"][-1]["content"]})


def run(
    url: str,
    notes: Any,
    requests: Mapping[str, Mapping[str, Any]],
    deliver: Callable[[str, Reply | Fault], None] | None = None,
    **limits: int,
) -> Outcomes:
    """Keys and outcomes as they are delivered."""
    outcomes: Outcomes = []

    async def work() -> None:
        client = EndpointClient(Endpoint(url, KEY), 1, 5.0)
        keep = deliver or (lambda key, outcome: outcomes.append((key, outcome)))
        try:
            await run_batch(client, requests, notes, keep, QUICK, **limits)
        finally:
            await client.close()

    asyncio.run(work())
    return outcomes


def said(outcome: Reply | Fault) -> str:
    assert isinstance(outcome, Reply)
    text: str = json.loads(outcome.text)["said"]
    return text


def n_replies(outcomes: Outcomes) -> int:
    return sum(isinstance(outcome, Reply) for _, outcome in outcomes)


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(repeat) as loopback:
        yield loopback


class Paper:
    """Notes in memory."""

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}

    def note(self, name: str) -> str | None:
        return self._notes.get(name)

    def write_note(self, name: str, value: str) -> None:
        self._notes[name] = value


@pytest.fixture
def notes() -> Paper:
    return Paper()


def test_every_request_is_answered_once_and_by_its_own_answer(server: LoopbackLLM, notes: Paper) -> None:
    requests = bodies(30)
    outcomes = run(server.url, notes, requests)
    assert len(outcomes) == 30
    assert {key: said(outcome) for key, outcome in outcomes} == {
        key: body["messages"][0]["content"] for key, body in requests.items()
    }
    assert server.batches.n_rows == 30
    assert server.visits["GET /v1/batches/batch_1"] == 3
    assert server.n_requests == 0
    assert run(server.url, notes, {}) == []


def test_large_batches_are_split_by_requests_and_by_bytes(server: LoopbackLLM, notes: Paper) -> None:
    assert len(run(server.url, notes, bodies(25), max_rows=10)) == 25
    assert [batch["request_counts"]["total"] for batch in server.batches.batches.values()] == [10, 10, 5]
    assert len(run(server.url, notes, bodies(25), max_bytes=2000)) == 25
    assert all(len(content) <= 2000 for content in server.batches.uploads[3:])
    assert len(run(server.url, notes, bodies(2), max_bytes=1)) == 2  # a request beyond the limit goes alone


def test_rows_that_fail_come_with_their_own_error(server: LoopbackLLM, notes: Paper) -> None:
    server.batches.row_faults = lambda number, body: {2: "context_length", 3: "500", 4: "content_filter"}.get(number)
    outcomes = dict(run(server.url, notes, bodies(5)))
    faults = [outcome for outcome in map(outcomes.get, bodies(3, 1)) if isinstance(outcome, Fault)]
    assert [(fault.remedy, fault.kind) for fault in faults] == [
        ("skip", "context"), ("retry", "passing"), ("skip", "filtered"),
    ]  # fmt: skip
    assert "This model's maximum context length is 4097" in faults[0].message
    assert n_replies(list(outcomes.items())) == 2


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_a_batch_that_ends_early_delivers_what_is_done(server: LoopbackLLM, notes: Paper, end: str) -> None:
    server.batches.end, server.batches.done_share = end, 0.5
    outcomes = run(server.url, notes, bodies(10))
    unfinished = {key: outcome for key, outcome in outcomes if isinstance(outcome, Fault)}
    assert (len(outcomes), len(unfinished)) == (10, 5)
    assert {(fault.remedy, fault.message, fault.possibly_paid) for fault in unfinished.values()} == {
        ("retry", "This request could not be executed before the batch ended.", False)
    }
    server.batches.end = "completed"
    assert n_replies(run(server.url, notes, {key: bodies(10)[key] for key in unfinished})) == 5
    assert server.batches.n_rows == 15


def test_a_batch_that_is_refused_costs_nothing_and_can_be_tried_again(server: LoopbackLLM, notes: Paper) -> None:
    server.batches.refusal = "Enqueued token limit reached for gpt-4o-mini"
    with pytest.raises(
        NetworkError, match=r"batch_1 was refused: Enqueued token limit reached.*nothing of it was paid"
    ):
        run(server.url, notes, bodies(4))
    server.batches.refusal_code = "billing_hard_limit_reached"
    with pytest.raises(BudgetError, match=r"batch_2 was refused: .*; raise the quota"):
        run(server.url, notes, bodies(4))
    server.batches.refusal = None
    assert len(run(server.url, notes, bodies(4))) == 4
    assert len(server.batches.batches) == 3


def test_passing_faults_are_borne_and_nothing_is_submitted_twice(server: LoopbackLLM, notes: Paper) -> None:
    server.batches.troubles = {
        "POST /v1/files": ["502", "drop_after_work"],
        "POST /v1/batches": ["503", "drop_after_work"],
        "GET /v1/batches/batch_1": ["429_absent", "drop_after_work"],
        "GET /v1/files/batch_1_output/content": ["500", "drop_after_work"],
    }
    assert len(run(server.url, notes, bodies(6))) == 6
    assert server.batches.n_rows == 6
    assert not any(server.batches.troubles.values())


@pytest.mark.parametrize(
    ("trouble", "error", "match"),
    [
        ("insufficient_quota", BudgetError, "exceeded your current quota.*run the same command again"),
        ("402", BudgetError, "Insufficient balance"),
        ("401", NetworkError, "Incorrect API key"),
        ("404", NetworkError, "without batches where the endpoint has none"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(
    server: LoopbackLLM, notes: Paper, trouble: str, error: type[HybridSimError], match: str
) -> None:
    server.batches.troubles = {"POST /v1/batches": [trouble]}
    with pytest.raises(error, match=match) as raised:
        run(server.url, notes, bodies(2))
    assert KEY not in str(raised.value)
    assert server.visits["POST /v1/batches"] == 1
    assert len(run(server.url, notes, bodies(2))) == 2


def test_a_dead_endpoint_is_named(notes: Paper) -> None:
    with pytest.raises(NetworkError, match=f"{DEAD_ADDRESS} cannot be reached after 3 attempts"):
        run(DEAD_ADDRESS, notes, bodies(1))


class StoppedDead(BaseException):
    """The process is gone."""


class Mortal:
    """Notes that die before or after the write of a given number, counting deliveries too."""

    def __init__(self, paper: Paper, at: int, late: bool) -> None:
        self._paper, self._left, self._late = paper, at, late
        self.outcomes: Outcomes = []

    def note(self, name: str) -> str | None:
        return self._paper.note(name)

    def write_note(self, name: str, value: str) -> None:
        self._commit(lambda: self._paper.write_note(name, value))

    def deliver(self, key: str, outcome: Reply | Fault) -> None:
        self._commit(lambda: self.outcomes.append((key, outcome)))

    def _commit(self, work: Callable[[], None]) -> None:
        self._left -= 1
        if self._left == 0 and not self._late:
            raise StoppedDead
        work()
        if self._left == 0:
            raise StoppedDead


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_row_27_killed_at_any_commit_nothing_is_paid_twice_and_nothing_lost(
    server: LoopbackLLM, notes: Paper, late: bool
) -> None:
    at, finished = 0, False
    while not finished and at < 40:
        at += 1
        before, requests = server.batches.n_rows, bodies(4, 100 * at)
        mortal = Mortal(notes, at, late)
        try:
            run(server.url, mortal, requests, mortal.deliver, max_rows=2)
            finished = True
        except StoppedDead:
            pass
        done = dict(mortal.outcomes)
        left = {key: body for key, body in requests.items() if key not in done}
        outcomes = run(server.url, notes, left, max_rows=2)
        assert dict(outcomes).keys() == left.keys()
        assert n_replies(outcomes) == len(left)
        assert server.batches.n_rows - before == 4
    assert 12 < at < 40


def test_row_27_killed_for_good_while_waiting(server: LoopbackLLM, tmp_path: Path) -> None:
    server.batches.polls = 10_000
    child = f"""
import asyncio, openai, pathlib, test_llm_batch as t
from hybrid_sim.llm.journal import Journal
with Journal(pathlib.Path({str(tmp_path / "journal.sqlite")!r})) as journal:
    t.run({server.url!r}, journal, t.bodies(5))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", child], env=environment) as process:
        deadline = time.monotonic() + 15
        while not server.visits["GET /v1/batches/batch_1"] and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    server.batches.polls = 0
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert len(run(server.url, journal, bodies(5))) == 5
    assert server.batches.n_rows == 5


def test_a_batch_waits_until_its_own_questions_are_asked(server: LoopbackLLM, notes: Paper) -> None:
    mortal = Mortal(notes, 6, late=True)  # dies at the second of four deliveries
    with pytest.raises(StoppedDead):
        run(server.url, mortal, bodies(4), mortal.deliver)
    assert len(mortal.outcomes) < 4
    assert len(run(server.url, notes, bodies(3, 50))) == 3  # another wave comes first
    assert len(run(server.url, notes, bodies(4))) == 4
    assert server.batches.n_rows == 7


def test_lines_that_are_no_results_are_said_and_their_requests_are_missing(
    server: LoopbackLLM, notes: Paper, caplog: pytest.LogCaptureFixture
) -> None:
    garbage = b'{"custom_id": 3}\n[]\nnot json \x1b[31m\n{"custom_id": "unknown", "response": null, "error": null}\n\n'

    server.batches.shuffled = False
    server.batches.spoil_output = lambda content: garbage + content[: content.index(b"\n") + 1] + content[-20:]
    with caplog.at_level(logging.WARNING):
        outcomes = run(server.url, notes, bodies(3))
    messages = [outcome.message for _, outcome in outcomes if isinstance(outcome, Fault)]
    assert messages == ["the batch gave no result for it"] * 2
    assert n_replies(outcomes) == 1
    assert "no result: not json \\x1b[31m" in caplog.text


def test_a_result_that_comes_twice_is_delivered_once(server: LoopbackLLM, notes: Paper) -> None:
    server.batches.spoil_output = lambda content: content * 2
    assert len(run(server.url, notes, bodies(3))) == 3


def test_a_damaged_note_on_a_batch_is_said_and_its_requests_are_sent_again(
    server: LoopbackLLM, notes: Paper, caplog: pytest.LogCaptureFixture
) -> None:
    notes.write_note("batches", '["lost"]')
    assert len(run(server.url, notes, bodies(3))) == 3
    assert "the notes of 1 open batches are damaged" in caplog.text


def test_row_25_a_server_that_repeats_the_key_does_not_spread_it(server: LoopbackLLM, notes: Paper) -> None:
    server.batches.spoil_output = lambda content: content.replace(b"said", b"said " + KEY.encode())
    outcomes = run(server.url, notes, bodies(2))
    assert n_replies(outcomes) == 2
    assert KEY not in repr(outcomes)
    server.batches.refusal = f"no batches for {KEY}"
    with pytest.raises(NetworkError, match=r"no batches for \[key\]"):
        run(server.url, notes, bodies(1, 9))
