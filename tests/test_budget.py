"""Budgets hold at every moment, prices are known or said to be unknown, and forecasts come close."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hybrid_sim.core.errors import BudgetError, SettingsError
from hybrid_sim.llm.budget import NANO, Budget, Ledger, Reservation, dollars, parse_budget
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import Price, check_price, is_local, price_of, read_prices
from hybrid_sim.llm.question import Answer, Failure, Message, Question, Usage
from hybrid_sim.llm.tokens import TokenEstimates, forecast, most_prompt_tokens, size_of


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("5usd", 5 * NANO), ("5 USD", 5 * NANO), ("$5", 5 * NANO), ("5$", 5 * NANO), (" 0.50 ", NANO // 2), ("0", 0),
        ("usd 2", 2 * NANO), ("0.000000001usd", 1), ("12 dollars", 12 * NANO), ("1.1", 1_100_000_000),
    ],
)  # fmt: skip
def test_amounts_are_read(text: str, nano: int) -> None:
    assert parse_budget(text) == nano


@pytest.mark.parametrize("text", ["", "five", "-5usd", "5eur", "1e3", "nan", "inf", "5,50", "0.0000000001", "$", "5 5"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not an amount of US dollars; write it like 5usd"):
        parse_budget(text)


def test_the_worst_case_is_set_aside_settled_and_released() -> None:
    budget = Budget(max_money=1000)
    first, second = budget.reserve(600), budget.reserve(400)
    assert (budget.committed, budget.spent, budget.calls) == (1000, 0, 2)
    with pytest.raises(BudgetError, match=r"is used up: .* spent, .* reserved .* may cost up to"):
        budget.reserve(1)
    budget.settle(first, 100)
    budget.release(second)
    assert (budget.committed, budget.spent, budget.calls) == (100, 100, 1)
    third = budget.reserve(900)
    budget.settle(third, None)
    assert budget.spent == 1000
    with pytest.raises(KeyError):
        budget.settle(third, 0)


def test_a_call_of_an_earlier_process_that_is_resumed_is_counted_once() -> None:
    budget = Budget(max_money=1000, max_calls=2, ledger=Ledger(calls=1, at_worst=700))
    adopted = budget.adopt(700)
    assert (budget.calls, budget.spent, budget.committed) == (1, 0, 700)
    budget.reserve(300)
    budget.settle(adopted, 100)
    assert (budget.calls, budget.spent, budget.committed) == (2, 100, 400)


def test_a_cost_above_the_worst_case_is_counted_as_it_is() -> None:
    budget = Budget(max_money=1000)
    budget.settle(budget.reserve(100), 950)
    with pytest.raises(BudgetError):
        budget.reserve(100)


def test_calls_are_limited_and_unsent_ones_given_back() -> None:
    budget = Budget(max_calls=2)
    budget.settle(budget.reserve(None), None)
    second = budget.reserve(None)
    with pytest.raises(BudgetError, match="budget of 2 calls is used up; raise --max-calls"):
        budget.reserve(None)
    budget.release(second)
    budget.reserve(None)


def test_row_44_minutes_are_counted_on_a_clock_that_does_not_jump_and_go_on_after_a_restart() -> None:
    now = [1000.0]
    budget = Budget(max_minutes=10, ledger=Ledger(seconds=300.0), clock=lambda: now[0])
    budget.reserve(None)
    now[0] += 299.0
    budget.reserve(None)
    now[0] += 2.0
    with pytest.raises(BudgetError, match="budget of 10 minutes is used up; raise --max-minutes"):
        budget.reserve(None)
    assert inspect.signature(Budget).parameters["clock"].default is time.monotonic


def test_row_13_an_unknown_price_cannot_be_budgeted() -> None:
    with pytest.raises(SettingsError, match="a money budget needs a price"):
        Budget(max_money=NANO).reserve(None)
    with pytest.raises(
        SettingsError, match="2 earlier calls of this run may have been paid at a price that is not known"
    ):
        Budget(max_money=NANO, ledger=Ledger(unknown_cost=3, unpriced=2))
    with pytest.raises(SettingsError, match=r"the price of model 'mystery'.* at this endpoint.*llm\.prices"):
        check_price(price_of("mystery"), "mystery")
    check_price(price_of("gpt-4o-mini"), "gpt-4o-mini")
    Budget().reserve(None)


def test_row_13_missing_usage_is_an_unknown_cost_not_zero() -> None:
    price = price_of("gpt-4o-mini")
    assert price is not None
    for usage in (Usage(), Usage(0, 0), Usage(0, 5), Usage(10, None)):
        assert price.cost(usage) is None
    budget = Budget(max_money=1000)
    budget.settle(budget.reserve(800), price.cost(Usage()))
    assert budget.spent == 800


def test_row_43_the_budget_is_rebuilt_from_the_journal(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with Journal(file) as journal:
        journal.finish(journal.start("a", "p", 900), Answer("{}", None, Usage(5, 5)), 300)
        journal.fail(journal.start("b", "p", 200), Failure("passing", "timed out"), None, possibly_paid=True)
        journal.fail(journal.start("c", "p", 200), Failure("passing", "refused"), None, possibly_paid=False)
        journal.start("d", "p", 100)
    with Journal(file) as journal:
        budget = Budget(max_money=1000, max_calls=5, ledger=journal.ledger())
    assert (budget.spent, budget.calls) == (300 + 200 + 100, 4)
    with pytest.raises(BudgetError):
        budget.reserve(401)
    budget.reserve(400)
    with pytest.raises(BudgetError):
        budget.reserve(0)


def spend(budget: Budget, rng: random.Random) -> int:
    """One call with a random end; what it did cost."""
    worst = rng.randrange(1, 2000)
    reservation = budget.reserve(worst)
    assert budget.committed <= (budget.max_money or 0)
    return end(budget, reservation, worst, rng)


def end(budget: Budget, reservation: Reservation, worst: int, rng: random.Random) -> int:
    fate = rng.random()
    if fate < 0.1:
        budget.release(reservation)
        return 0
    cost = 0 if fate < 0.2 else rng.randrange(worst + 1)
    budget.settle(reservation, None if fate > 0.9 else cost)
    return worst if fate > 0.9 else cost


def test_row_43_sixteen_workers_never_exceed_the_cap() -> None:
    async def worker(budget: Budget, seed: str, paid: list[int]) -> None:
        rng = random.Random(seed)
        for _ in range(200):
            worst = rng.randrange(1, 2000)
            try:
                reservation = budget.reserve(worst)
            except BudgetError:
                return
            assert budget.committed <= 50_000
            await asyncio.sleep(0)
            paid.append(end(budget, reservation, worst, rng))

    async def run(seed: int) -> None:
        budget, paid = Budget(max_money=50_000), list[int]()
        await asyncio.gather(*(worker(budget, f"{seed}/{number}", paid) for number in range(16)))
        assert sum(paid) == budget.spent == budget.committed
        assert 48_000 < budget.spent <= 50_000

    for seed in range(20):
        asyncio.run(run(seed))


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns far more often than usual, so that a missing lock shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("eager_threads")
def test_row_43_sixteen_threads_never_exceed_the_cap() -> None:
    budget = Budget(max_money=2_000_000)
    paid, broken = list[int](), list[BaseException]()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            while True:
                paid.append(spend(budget, rng))
        except BudgetError:
            pass
        except AssertionError as error:
            broken.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken
    assert sum(paid) == budget.spent == budget.committed <= 2_000_000


@pytest.mark.usefixtures("eager_threads")
def test_row_43_of_sixteen_threads_one_gets_the_last_of_the_money() -> None:
    barrier = threading.Barrier(16)

    def take(budget: Budget) -> bool:
        barrier.wait()
        try:
            budget.reserve(600)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        for _ in range(150):
            assert sum(threads.map(take, [Budget(max_money=1000)] * 16)) == 1


def test_prices_are_dated_and_hold_for_the_provider_that_asks_them() -> None:
    prices = read_prices()
    assert prices.as_of
    assert prices.source.startswith("https://")
    mini = Price(150_000, 75_000, 600_000)
    assert price_of("gpt-4o-mini") == price_of("gpt-4o-mini-2024-07-18", "https://api.openai.com/v1") == mini
    assert price_of("gpt-4o-mini", batch=True) == Price(75_000, 37_500, 300_000)
    assert price_of("gpt-4o-2024-05-13") == Price(5_000_000, 5_000_000, 15_000_000)
    assert price_of("gpt-4o-2024-11-20") == Price(2_500_000, 1_250_000, 10_000_000)
    for other in ("gpt-5-pro", "gpt-4o-audio-preview", "ft:gpt-4o-mini", "gpt-4o-mini-", ""):
        assert price_of(other) is None
    assert price_of("gpt-4o-mini", "https://models.example.com/v1") is None


def test_the_cost_of_a_call_is_rounded_up_and_cached_tokens_are_cheaper() -> None:
    price = Price(input=150_000, cached_input=75_000, output=600_000)
    assert price.cost(Usage(1000, 100, 400)) == 600 * 150 + 400 * 75 + 100 * 600
    assert price.cost(Usage(1000, 100, 5000)) == 1000 * 75 + 100 * 600
    assert Price(1, 1, 1).cost(Usage(1, 0)) == 1
    assert price.worst(1000, 100) == 1000 * 150 + 100 * 600
    assert Price(0, 0, 0).cost(Usage()) == 0


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://127.0.0.1:8080/v1", True), ("http://localhost:11434/v1", True), ("http://[::1]:8000/v1", True),
        ("http://192.168.1.7/v1", True), ("http://10.0.0.1:1/v1", True), ("https://box.local/v1", True),
        ("http://vllm:8000/v1", True), ("127.0.0.1:8080", True), ("https://user:pw@api.openai.com/v1", False),
        ("https://localhost.example.com/v1", False), ("https://8.8.8.8/v1", False), ("", False), ("http://[::1", False),
        ("https://127.0.0.1.example.com", False),
    ],
)  # fmt: skip
def test_local_endpoints_cost_nothing(address: str, local: bool) -> None:
    assert is_local(address) is local
    if address:
        assert (price_of("any", address) == Price(0, 0, 0)) is local


def write(path: Path, **content: object) -> Path:
    path.write_text(json.dumps({"as_of": "2026-01", "source": "me", **content}))
    return path


def test_a_price_file_of_the_user_replaces_that_of_the_package(tmp_path: Path) -> None:
    file = write(tmp_path / "prices.json", models={"mine": {"input": 0.0375, "output": 2}}, batch_factor=0.25)
    assert price_of("mine", "https://models.example.com/v1", file) == Price(37_500, 37_500, 2_000_000)
    assert price_of("mine", "http://127.0.0.1/v1", file, batch=True) == Price(9_375, 9_375, 500_000)
    assert price_of("gpt-4o-mini", None, file) is None
    assert price_of("other", "http://127.0.0.1/v1", file) == Price(0, 0, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"models": {"m": {"input": 1, "ouput": 2}}}, r"prices\.json: models\.m\.(output: Field required|ouput)"),
        ({"models": {"m": {"input": -1, "output": 2}}}, r"models\.m\.input: .*greater than or equal to 0"),
        ({"models": {}, "prices": 1}, r"prices: Extra inputs are not permitted"),
        ({"models": {}, "as_of": "yesterday"}, r"as_of: .*pattern"),
        ({}, r"models: Field required"),
    ],
)
def test_a_wrong_price_file_is_refused_by_field(content: dict[str, object], message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "prices.json", **content)
    with pytest.raises(SettingsError, match=message):
        price_of("m", None, file)
    with pytest.raises(SettingsError, match=r"none\.json: No such file"):
        price_of("m", None, tmp_path / "none.json")


def asked(rng: random.Random, prompt: str, max_tokens: int = 1000) -> Question:
    words = "".join(rng.choice("abc äß漢\ud800") for _ in range(rng.randrange(500, 4000)))
    return Question(prompt, (Message("system", "Rate."), Message("user", words)), {"type": "object"}, str, max_tokens)


def test_the_bound_is_above_one_token_per_byte() -> None:
    question = Question("p", (Message("user", "漢" * 100),), {"a": "ä"}, str)
    assert size_of(question) == 300 + len('{"a": "ä"}'.encode())
    assert most_prompt_tokens(question) > size_of(question)


@pytest.mark.parametrize("seed", range(12))
def test_after_a_pilot_of_20_calls_the_forecast_is_within_a_fifth_of_the_bill(seed: int, tmp_path: Path) -> None:
    """Tokenizer, length of replies, cached share and failing calls are drawn anew for each of two prompts."""
    rng, price = random.Random(seed), Price(150_000, 75_000, 600_000)
    minds = {
        prompt: (rng.uniform(0.15, 0.8), rng.uniform(20, 400), rng.choice([0.0, 0.5]), rng.choice([0.0, 0.2]))
        for prompt in ("profile", "rate")
    }

    def ask(journal: Journal, question: Question) -> None:
        per_byte, length, cached, failing = minds[question.prompt]
        while True:
            attempt = journal.start(f"{rng.random()}", question.prompt, 1, size=size_of(question))
            n_prompt = round(size_of(question) * per_byte * rng.uniform(0.9, 1.1)) + 10
            usage = Usage(n_prompt, round(length * rng.uniform(0.5, 1.5)), round(n_prompt * cached))
            if rng.random() >= failing:
                return journal.finish(attempt, Answer("{}", None, usage), price.cost(usage))
            if rng.random() < 0.5:
                journal.fail(attempt, Failure("invalid", "no JSON", usage), price.cost(usage), possibly_paid=False)
            else:
                journal.fail(attempt, Failure("passing", "busy"), None, possibly_paid=False)

    with Journal(tmp_path / "journal.sqlite") as journal:
        for prompt in minds:
            for _ in range(20):
                ask(journal, asked(rng, prompt))
        before = journal.ledger()
        questions = [asked(rng, prompt) for prompt in minds for _ in range(150)]
        told = forecast(
            questions, TokenEstimates(journal.usage_by_prompt()), price, concurrency=10, seconds_per_call=1.0
        )
        for question in questions:
            ask(journal, question)
        after = journal.ledger()
    assert told.money == pytest.approx(after.money - before.money, rel=0.2)
    assert told.prompt_tokens == pytest.approx(after.prompt_tokens - before.prompt_tokens, rel=0.2)
    assert told.completion_tokens == pytest.approx(after.completion_tokens - before.completion_tokens, rel=0.2)
    assert told.calls == pytest.approx(after.calls - before.calls, rel=0.2)
    assert told.minutes == pytest.approx(told.calls / 10 / 60, rel=0.01)


def test_a_forecast_without_a_pilot_or_a_price_says_what_it_can() -> None:
    question = Question("p", (Message("user", "x" * 398),), {}, str, max_tokens=500)
    told = forecast([question] * 10, TokenEstimates(), None, concurrency=5, seconds_per_call=6.0)
    assert (told.calls, told.prompt_tokens, told.completion_tokens, told.money) == (10, 1000, 2000, None)
    assert told.minutes == pytest.approx(0.2)
    assert "unknown price" in str(told)
    assert forecast([], TokenEstimates(), Price(1, 1, 1), concurrency=5).money == 0


def test_money_is_shown_with_all_digits_that_matter() -> None:
    assert [dollars(n) for n in (0, 1, 150, NANO, 1_234_500_000_000)] == [
        "$0.00", "$0.000000001", "$0.00000015", "$1.00", "$1,234.50",
    ]  # fmt: skip
