"""Questions sent in batches: through the journal and the budget, over real HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_server import DEAD_ADDRESS, LoopbackLLM

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError, ReplyError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.batch import Polling
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Message, Question

PRICE = Price(input=75_000, cached_input=75_000, output=300_000)
QUICK = Polling(poll=0.005, attempts=2, first_wait=0.01, deadline=5.0)
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


def read_number(text: str) -> int:
    try:
        return int(json.loads(text)["number"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReplyError("the reply holds no number") from error


def questions(n: int, start: int = 0) -> list[Question]:
    return [
        Question("count@1", (Message("user", f"number {number}"),), NUMBER, read_number, max_tokens=50)
        for number in range(start, start + n)
    ]


def repeat(body: dict[str, Any]) -> str:
    """A mind that counts as it is told to."""
    return json.dumps({"number": int(body["messages"][0]["content"].split()[1])})


class Run:
    """One process of a run, and what it leaves: answers in the journal, counts, why it stopped."""

    def __init__(self, url: str, file: Path, *, max_money: int | None = None, **settings: Any) -> None:
        prices = file.with_name("prices.json")
        models = {"loopback": {"input": 0.15, "output": 0.6}}
        prices.write_text(json.dumps({"as_of": "2025-01", "source": "me", "batch_factor": 0.5, "models": models}))
        self.settings = LLMSettings(model="loopback", base_url=url, prices=prices, **settings)
        self.file, self.max_money = file, max_money
        self.stopped: HybridSimError | None = None

    def ask(self, *waves: Sequence[Question]) -> list[Any]:
        """The value of each answer, a failure by its kind."""
        keys = [question.key(self.settings.sampling) for asked in waves for question in asked]
        with Journal(self.file) as journal:
            self.budget = Budget(max_money=self.max_money, ledger=journal.ledger())
            with LLM(self.settings, journal, self.budget, batch=True, polling=QUICK) as llm:
                self.counts = llm.counts
                try:
                    results: list[Answer | Failure] = [result for asked in waves for result in llm.ask(asked)]
                finally:
                    self.stopped, self.ledger, self.stored = llm.stopped, journal.ledger(), journal.find(keys)
        return [result.value if isinstance(result, Answer) else result.kind for result in results]


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(repeat) as loopback:
        loopback.batches.polls = 1
        yield loopback


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def test_answers_come_committed_and_at_the_price_of_a_batch(server: LoopbackLLM, file: Path) -> None:
    run = Run(server.url, file)
    assert run.ask(questions(12)) == list(range(12))
    assert len(run.stored) == 12
    assert run.ledger.answered == run.ledger.calls == run.counts.calls == 12
    assert run.ledger.money == sum(PRICE.cost(answer.usage) or 0 for answer in run.stored.values()) > 0
    assert run.budget.committed == run.budget.spent == run.ledger.money
    assert Run(server.url, file).ask(questions(12)) == list(range(12))
    assert len(server.batches.batches) == 1
    assert server.n_requests == 0


def test_a_reply_that_fails_is_requested_once_more_with_more_tokens_if_it_was_cut(
    server: LoopbackLLM, file: Path
) -> None:
    faults = {1: "prose", 2: "cut", 3: "refusal", 4: "500", 5: "null"}
    server.batches.row_faults = lambda number, body: faults.get(number) if len(server.batches.batches) == 1 else None
    run = Run(server.url, file)
    assert run.ask(questions(7)) == [0, 1, "refused", 3, 4, 5, 6]
    second = [json.loads(row)["body"] for row in server.batches.uploads[1].splitlines()]
    assert sorted((body["messages"][0]["content"], body["max_tokens"]) for body in second) == [
        ("number 0", 50), ("number 1", 100), ("number 3", 50), ("number 4", 50),
    ]  # fmt: skip
    assert (run.counts.asked_again, run.counts.answered, run.counts.failed) == (4, 6, 1)
    assert run.ledger.failed == 5


def test_a_reply_that_fails_twice_is_a_failure(server: LoopbackLLM, file: Path) -> None:
    server.batches.row_faults = lambda number, body: "prose"
    run = Run(server.url, file)
    assert run.ask(questions(3)) == ["invalid"] * 3
    assert len(server.batches.batches) == 2
    assert run.stored == {}
    assert run.budget.committed == run.budget.spent


def test_row_05_a_run_that_has_stopped_sends_no_second_batch_and_none_later(server: LoopbackLLM, file: Path) -> None:
    server.batches.shuffled = False
    server.batches.row_faults = lambda number, body: {1: "prose", 2: "402", 3: "401"}.get(number)
    run = Run(server.url, file)
    assert run.ask(questions(4), questions(1, 50)) == ["invalid", "not_asked", "not_asked", 3, "not_asked"]
    assert isinstance(run.stopped, BudgetError)
    assert len(server.batches.batches) == 1


def test_row_07_a_question_beyond_the_context_is_not_sent(server: LoopbackLLM, file: Path) -> None:
    long = replace(questions(1)[0], max_tokens=300)
    assert Run(server.url, file, context_tokens=256).ask([*questions(2), long]) == [0, 1, "context"]
    assert server.batches.n_rows == 2


def test_row_11_a_server_without_schemas_is_asked_in_json_mode(server: LoopbackLLM, file: Path) -> None:
    server.batches.row_faults = lambda number, body: "no_schema"
    assert Run(server.url, file).ask(questions(3)) == [0, 1, 2]
    last = [json.loads(row)["body"] for row in server.batches.uploads[-1].splitlines()]
    assert {body["response_format"]["type"] for body in last} == {"json_object"}


def test_a_batch_of_which_nothing_is_usable_is_not_paid_for_again(server: LoopbackLLM, file: Path) -> None:
    server.batches.row_faults = lambda number, body: "prose"
    run = Run(server.url, file)
    assert set(run.ask(questions(20))) == {"invalid"}
    assert "brought nothing usable" in str(run.stopped)
    assert len(server.batches.batches) == 1


def test_row_12_a_server_that_truncates_prompts_stops_the_run(server: LoopbackLLM, file: Path) -> None:
    server.batches.row_faults = lambda number, body: "prompt_cut"
    long = [replace(each, messages=(Message("user", "number 1" + " " * 6000),)) for each in questions(1)]
    run = Run(server.url, file)
    assert run.ask(long) == ["not_asked"]
    assert "truncates long prompts" in str(run.stopped)
    assert len(server.batches.batches) == 1
    assert run.stored == {}


def test_row_43_what_does_not_fit_into_the_budget_is_not_sent(server: LoopbackLLM, file: Path) -> None:
    cap = 4 * PRICE.worst(300, 50)
    run = Run(server.url, file, max_money=cap)
    results = run.ask(questions(10))
    n_sent = server.batches.n_rows
    assert results == [*range(n_sent), *["not_asked"] * (10 - n_sent)]
    assert 4 <= n_sent < 10
    assert isinstance(run.stopped, BudgetError)
    assert run.budget.committed <= cap
    assert run.ledger.calls == n_sent


def test_row_27_killed_while_results_come_in_and_continued(server: LoopbackLLM, file: Path) -> None:
    class StoppedDead(BaseException):
        pass

    def die(text: str) -> int:
        if read_number(text) == 2:
            raise StoppedDead
        return read_number(text)

    first = Run(server.url, file)
    with pytest.raises(StoppedDead):
        first.ask([replace(question, check=die) for question in questions(6)])
    n_committed = len(first.stored)
    assert 0 < n_committed < 6
    assert first.ledger.possibly_paid == 6 - n_committed
    second = Run(server.url, file)
    assert second.ask(questions(6)) == list(range(6))
    assert (second.counts.from_journal, second.counts.calls) == (n_committed, 0)
    assert server.batches.n_rows == 6


def test_row_28_43_an_interrupted_batch_goes_on_and_is_fetched_even_if_the_budget_is_used_up(
    server: LoopbackLLM, file: Path
) -> None:
    server.batches.polls, server.batches.on_look = 1_000_000, lambda: os.kill(os.getpid(), signal.SIGTERM)
    first = Run(server.url, file, max_money=5 * PRICE.worst(400, 50))
    with pytest.raises(KeyboardInterrupt):
        first.ask(questions(5))
    assert (first.stopped, first.stored) == (None, {})
    assert first.ledger.at_worst > 0
    server.batches.polls, server.batches.on_look = 0, lambda: None
    second = Run(server.url, file, max_money=first.ledger.at_worst)
    assert second.ask([*questions(2, 50), *questions(5)]) == ["not_asked"] * 2 + [0, 1, 2, 3, 4]
    assert isinstance(second.stopped, BudgetError)
    assert (second.ledger.calls, second.ledger.answered, second.ledger.at_worst) == (5, 5, 0)
    assert second.budget.spent == second.ledger.money < first.ledger.at_worst
    assert server.batches.n_rows == 5


def test_a_refused_batch_is_not_paid_and_leaves_nothing_reserved(server: LoopbackLLM, file: Path) -> None:
    server.batches.refusal = "Enqueued token limit reached"
    run = Run(server.url, file)
    assert run.ask(questions(3)) == ["not_asked"] * 3
    assert isinstance(run.stopped, NetworkError)
    assert run.budget.committed == 0
    assert run.ledger.possibly_paid == 0
    server.batches.refusal = None
    assert Run(server.url, file).ask(questions(3)) == [0, 1, 2]


def test_row_01_a_dead_endpoint_is_named_and_nothing_counts_as_answered(file: Path) -> None:
    run = Run(DEAD_ADDRESS, file)
    assert run.ask(questions(3)) == ["not_asked"] * 3
    assert re.search(f"{DEAD_ADDRESS} cannot be reached after 2 attempts", str(run.stopped))
    assert run.stored == {}
