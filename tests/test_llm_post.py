"""Questions by post: whole waves as batches through the real journal and budget, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_server import LoopbackLLM, dead_address

from hybrid_sim.core.errors import BudgetError, NetworkError, ReplyError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.batch import Patience
from hybrid_sim.llm.batch_sending import Post, PostedWave
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Message, Question
from hybrid_sim.llm.sending import Counts
from hybrid_sim.llm.transport import Endpoint, Wire

SETTINGS = LLMSettings(model="loopback")
PRICE = Price(input=75_000, cached_input=37_500, output=300_000)
QUICK = Patience(poll=0.005, attempts=2, first_wait=0.01, deadline=5.0)
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


def read_number(text: str) -> int:
    try:
        return int(json.loads(text)["number"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReplyError("the reply holds no number") from error


def questions(n: int, start: int = 0) -> dict[str, Question]:
    asked = [
        Question("count@1", (Message("user", f"number {number}"),), NUMBER, read_number, max_tokens=50)
        for number in range(start, start + n)
    ]
    return {question.key(SETTINGS.sampling): question for question in asked}


def repeat(body: dict[str, Any]) -> str:
    """A mind that counts as it is told to."""
    return json.dumps({"number": int(body["messages"][0]["content"].split()[1])})


class Run:
    """One process of a run: what it gave, and why it stopped."""

    def __init__(self, url: str, file: Path, *, max_money: int | None = None, interrupt_after: float | None = None):
        self.url, self.file, self.max_money, self.interrupt_after = url, file, max_money, interrupt_after
        self.given: dict[str, Answer | Failure] = {}
        self.counts = Counts()

    def ask(self, asked: dict[str, Question]) -> dict[str, Answer | Failure]:
        with Journal(self.file) as self.journal:
            self.budget = Budget(max_money=self.max_money, ledger=self.journal.ledger())
            found = self.journal.find(list(asked))
            try:
                asyncio.run(self._ask({key: question for key, question in asked.items() if key not in found}))
            finally:
                self.ledger = self.journal.ledger()
                self.found = self.journal.find(list(asked))
        return self.given

    async def _ask(self, missing: dict[str, Question]) -> None:
        wire = Wire(Endpoint(self.url, "no-key"), 1, 5.0)
        post = Post(SETTINGS, wire, self.journal, self.budget, PRICE, self.counts, QUICK)
        self.wave = PostedWave(post, missing, self._give)
        if self.interrupt_after is not None:
            asyncio.get_running_loop().call_later(self.interrupt_after, self.wave.interrupt)
        try:
            await self.wave.run()
        finally:
            self.stopped = post.stopped
            await wire.close()

    def _give(self, key: str, outcome: Answer | Failure) -> None:
        assert key not in self.given, "given twice"
        self.given[key] = outcome


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(repeat) as loopback:
        loopback.batches.polls = 1
        yield loopback


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def values(given: dict[str, Answer | Failure], asked: dict[str, Question]) -> list[Any]:
    """What each question was answered, a failure by its kind."""
    return [outcome.value if isinstance(outcome := given[key], Answer) else outcome.kind for key in asked]


def test_answers_come_committed_and_at_the_price_of_a_batch(server: LoopbackLLM, file: Path) -> None:
    asked, run = questions(12), Run(server.url, file)
    assert values(run.ask(asked), asked) == list(range(12))
    assert run.found.keys() == asked.keys()
    assert run.ledger.answered == run.ledger.calls == run.counts.calls == 12
    assert run.ledger.money == sum(PRICE.cost(answer.usage) or 0 for answer in run.found.values()) > 0
    assert run.budget.committed == run.budget.spent == run.ledger.money
    again = Run(server.url, file)
    assert again.ask(asked) == {}
    assert len(server.batches.batches) == 1


def test_what_is_no_answer_is_asked_once_more_with_more_room_if_it_was_cut(server: LoopbackLLM, file: Path) -> None:
    faults = {1: "prose", 2: "cut", 3: "refusal", 4: "500", 5: "null"}
    server.batches.row_faults = lambda number, body: faults.get(number) if len(server.batches.batches) == 1 else None
    asked, run = questions(7), Run(server.url, file)
    assert values(run.ask(asked), asked) == [0, 1, "refused", 3, 4, 5, 6]
    second = [json.loads(row)["body"] for row in server.batches.uploads[1].splitlines()]
    assert sorted((body["messages"][0]["content"], body["max_tokens"]) for body in second) == [
        ("number 0", 50), ("number 1", 100), ("number 3", 50), ("number 4", 50),
    ]  # fmt: skip
    assert (run.counts.asked_again, run.counts.answered, run.counts.failed) == (4, 6, 1)
    assert run.ledger.failed == 5


def test_what_is_no_answer_twice_is_a_failure(server: LoopbackLLM, file: Path) -> None:
    server.batches.row_faults = lambda number, body: "prose"
    asked, run = questions(3), Run(server.url, file)
    assert values(run.ask(asked), asked) == ["invalid"] * 3
    assert len(server.batches.batches) == 2
    assert run.found == {}
    assert run.budget.committed == run.budget.spent


def test_row_11_a_server_without_schemas_is_asked_in_json_mode(server: LoopbackLLM, file: Path) -> None:
    server.batches.row_faults = lambda number, body: "no_schema"
    asked, run = questions(3), Run(server.url, file)
    assert values(run.ask(asked), asked) == [0, 1, 2]
    second = [json.loads(row)["body"] for row in server.batches.uploads[1].splitlines()]
    assert {body["response_format"]["type"] for body in second} == {"json_object"}


def test_row_43_what_does_not_fit_into_the_budget_is_not_sent(server: LoopbackLLM, file: Path) -> None:
    asked = questions(10)
    cap = 4 * PRICE.worst(300, 50)
    run = Run(server.url, file, max_money=cap)
    given = values(run.ask(asked), asked)
    n_sent = server.batches.n_rows
    assert given == [*range(n_sent), *["not_asked"] * (10 - n_sent)]
    assert 4 <= n_sent < 10
    assert isinstance(run.stopped, BudgetError)
    assert run.budget.committed <= cap
    assert run.ledger.calls == n_sent


def test_row_27_killed_while_results_come_in_and_taken_up_again(server: LoopbackLLM, file: Path) -> None:
    class StoppedDead(BaseException):
        pass

    def die(text: str) -> int:
        if read_number(text) == 2:
            raise StoppedDead
        return read_number(text)

    asked = questions(6)
    mortal = {key: replace(question, check=die) for key, question in asked.items()}
    first = Run(server.url, file)
    with pytest.raises(StoppedDead):
        first.ask(mortal)
    committed = len(first.found)
    assert 0 < committed < 6
    assert first.ledger.possibly_paid == 6 - committed
    second = Run(server.url, file)
    second.ask(asked)
    assert len(second.given) == 6 - committed
    assert len(second.found) == 6
    assert server.batches.n_rows == 6
    assert second.counts.calls == 0


def test_row_43_a_batch_under_way_is_fetched_even_if_the_budget_is_used_up(server: LoopbackLLM, file: Path) -> None:
    server.batches.polls = 1_000_000
    asked = questions(5)
    cap = 5 * PRICE.worst(400, 50)
    first = Run(server.url, file, max_money=cap, interrupt_after=0.5)
    first.ask(asked)
    assert first.wave.interrupted
    assert first.given == {}
    assert first.stopped is None
    assert first.ledger.at_worst > 0
    server.batches.polls = 0
    second = Run(server.url, file, max_money=first.ledger.at_worst)
    assert values(second.ask({**asked, **questions(2, 50)}), asked) == [0, 1, 2, 3, 4]
    assert isinstance(second.stopped, BudgetError)
    assert (second.ledger.calls, second.ledger.answered, second.ledger.at_worst) == (5, 5, 0)
    assert second.budget.spent == second.ledger.money < first.ledger.at_worst
    assert [outcome.kind for outcome in second.given.values() if isinstance(outcome, Failure)] == ["not_asked"] * 2
    assert server.batches.n_rows == 5


def test_a_refused_batch_is_not_paid_and_leaves_nothing_set_aside(server: LoopbackLLM, file: Path) -> None:
    server.batches.refusal = "Enqueued token limit reached"
    asked, run = questions(3), Run(server.url, file)
    assert values(run.ask(asked), asked) == ["not_asked"] * 3
    assert isinstance(run.stopped, NetworkError)
    assert run.budget.committed == 0
    assert run.ledger.possibly_paid == 0
    server.batches.refusal = None
    assert values(Run(server.url, file).ask(asked), asked) == [0, 1, 2]


def test_row_1_a_dead_endpoint_is_named_and_nothing_counts_as_answered(file: Path) -> None:
    address = dead_address()
    asked, run = questions(3), Run(address, file)
    assert values(run.ask(asked), asked) == ["not_asked"] * 3
    assert re.search(f"{address} cannot be reached after 2 attempts", str(run.stopped))
    assert run.found == {}
