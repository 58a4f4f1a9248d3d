"""What a run is going to take: calls, tokens, money and minutes, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hybrid_sim.llm.budget import dollars
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Question, Usage
from hybrid_sim.llm.tokens import Tokens

SECONDS_PER_CALL = 2.0
"""How long a call takes, before any has been timed."""


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
        return (
            f"{self.calls:,} calls, {self.prompt_tokens:,} tokens in and {self.completion_tokens:,} out, {cost}, "
            f"{self.minutes:.1f} minutes"
        )


def forecast(
    questions: Iterable[Question],
    tokens: Tokens,
    price: Price | None,
    *,
    concurrency: int,
    seconds_per_call: float = SECONDS_PER_CALL,
) -> Forecast:
    """What `questions` are expected to take, with `concurrency` calls at a time.

    What has been seen of a prompt (`tokens`) says how long its replies are, how many calls an answer takes, and what
    share of the list price is charged (parts of a prompt that the provider has kept are cheaper).
    """
    calls = prompt_tokens = completion_tokens = 0.0
    money = 0.0
    for question in questions:
        seen = tokens.seen(question.prompt)
        counted = seen.counted / seen.answers if seen else 1.0
        words_in, words_out = tokens.prompt_tokens(question) * counted, tokens.reply_tokens(question) * counted
        calls += seen.attempts / seen.answers if seen else 1.0
        prompt_tokens, completion_tokens = prompt_tokens + words_in, completion_tokens + words_out
        if price is not None:
            list_price = words_in * price.input + words_out * price.output
            money += list_price / 1000 * _charged_share(question.prompt, tokens, price)
    return Forecast(
        calls=round(calls),
        prompt_tokens=round(prompt_tokens),
        completion_tokens=round(completion_tokens),
        money=None if price is None else round(money),
        minutes=calls * seconds_per_call / concurrency / 60,
    )


def _charged_share(prompt: str, tokens: Tokens, price: Price) -> float:
    seen = tokens.seen(prompt)
    if seen is None or not seen.cost:
        return 1.0
    return seen.cost / max(1, price.cost(Usage(seen.prompt_tokens, seen.completion_tokens)) or 1)
