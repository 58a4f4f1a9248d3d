"""Planning a run: which questions it would send, and the calls, tokens, money and minutes that these would take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_sim.llm.budget import dollars
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Question, Usage
from hybrid_sim.llm.tokens import TokenEstimates

SECONDS_PER_CALL = 2.0
"""How long a call takes, before any has been timed."""


class Planner:
    """Answers from a journal and sends nothing; `questions` are those that it could not answer, each once.

    A question that builds on an unanswered one (an update of a profile that is not written yet) is gathered in the form
    that it has without that answer, so its length is an estimate.
    """

    def __init__(self, sampling: dict[str, Any], journal: Journal | None = None) -> None:
        self._sampling, self._journal = sampling, journal
        self._missing: dict[str, Question] = {}

    @property
    def questions(self) -> list[Question]:
        """The questions that would be sent so far."""
        return list(self._missing.values())

    def ask(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        """The stored answers, and a failure of the kind "not_asked" for every other question."""
        by_key = {question.key(self._sampling): question for question in questions}
        stored = dict(self._journal.answers(by_key)) if self._journal else {}
        self._missing.update((key, question) for key, question in by_key.items() if key not in stored)
        planned = Failure("not_asked", "the run is only planned")
        return [stored.get(question.key(self._sampling), planned) for question in questions]


@dataclass(frozen=True)
class Forecast:
    """What questions are expected to take, retries included; `money` in nano-dollars, None where no price is known.

    >>> str(Forecast(calls=1200, prompt_tokens=900_000, completion_tokens=60_000, money=171_000_000, minutes=2.5))
    '1,200 calls, 900,000 tokens in and 60,000 out, $0.171, 2.5 minutes'
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    money: int | None
    minutes: float

    def __str__(self) -> str:
        cost = "at an unknown price" if self.money is None else dollars(self.money)
        tokens = f"{self.prompt_tokens:,} tokens in and {self.completion_tokens:,} out"
        return f"{self.calls:,} calls, {tokens}, {cost}, {self.minutes:.1f} minutes"


def forecast(
    questions: Iterable[Question],
    estimates: TokenEstimates,
    price: Price | None,
    *,
    concurrency: int,
    seconds_per_call: float = SECONDS_PER_CALL,
) -> Forecast:
    """What `questions` are expected to take, with `concurrency` calls at a time.

    The usage of earlier calls with a prompt says how long its replies are, how many calls an answer takes, and what
    share of the list price is charged (cached parts of a prompt are cheaper).
    """
    calls = prompt_tokens = completion_tokens = money = 0.0
    for question in questions:
        usage = estimates.usage(question.prompt)
        counted = usage.counted / usage.answers if usage else 1.0
        n_in, n_out = estimates.prompt_tokens(question) * counted, estimates.reply_tokens(question) * counted
        calls += usage.attempts / usage.answers if usage else 1.0
        prompt_tokens, completion_tokens = prompt_tokens + n_in, completion_tokens + n_out
        if price is not None:
            share = 1.0
            if usage and usage.cost:
                share = usage.cost / max(1, price.cost(Usage(usage.prompt_tokens, usage.completion_tokens)) or 1)
            money += (n_in * price.input + n_out * price.output) / 1000 * share
    return Forecast(
        calls=round(calls),
        prompt_tokens=round(prompt_tokens),
        completion_tokens=round(completion_tokens),
        money=None if price is None else round(money),
        minutes=calls * seconds_per_call / concurrency / 60,
    )
