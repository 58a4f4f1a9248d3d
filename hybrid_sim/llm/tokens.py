"""Token counts of questions: bounds, checks against truncation, and forecasts of what questions will take.

A server counts tokens of the messages and of the schema; before it has, there are bounds and estimates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_sim.core.errors import NetworkError
from hybrid_sim.llm.budget import PromptUsage, dollars
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Question, Usage

TOKENS_PER_BYTE = 0.25
"""Of English text in common tokenizers, before any server has counted."""

REPLY_SHARE = 0.4
"""Share of its token limit that a reply takes, before any reply has come."""

SECONDS_PER_CALL = 2.0
"""How long a call takes, before any has been timed."""

MOST_BYTES = 10.0
"""Bytes that a token of a long prompt holds at most, on average: in no language does one hold many more than five."""

_AROUND_MESSAGE, _AROUND_PROMPT = 16, 64
"""Tokens that chat templates put around each message and around the whole, counted generously."""

_LONG, _ENOUGH = 2000, 5
"""Bytes from which a prompt is checked for truncation; counts from which the lowest one bounds the next."""


def size_of(question: Question) -> int:
    """Bytes of UTF-8 in what a server counts: the messages and the schema of the reply."""
    return _message_bytes(question) + _n_bytes(json.dumps(question.schema, ensure_ascii=False))


def most_prompt_tokens(question: Question) -> int:
    """An upper bound of the prompt's tokens: a token of a byte-level tokenizer is at least one byte."""
    return size_of(question) + _AROUND_MESSAGE * len(question.messages) + _AROUND_PROMPT


def beyond_context(question: Question, context: int | None) -> str:
    """Why a question cannot fit into a context window of so many tokens with its reply; "" where it may.

    The bound is the same for all runs: whether a question is sent never depends on what was answered before.
    """
    if context is None or _message_bytes(question) / MOST_BYTES + question.max_tokens <= context:
        return ""
    return f"prompt and reply do not fit into the {context} tokens of llm.context_tokens"


def _message_bytes(question: Question) -> int:
    return sum(_n_bytes(message.content) for message in question.messages)


def _n_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


class TruncationCheck:
    """Detects a server that silently truncates long prompts: it counts far fewer tokens than the prompt must have.

    A lower bound of the tokens is one for each `MOST_BYTES` bytes. Once a prompt was answered `_ENOUGH` times, half of
    the fewest tokens per byte that were counted for it is a better one. Short prompts are not checked.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._counted: dict[str, tuple[int, float]] = {}

    def error(self, question: Question, n_tokens: int | None) -> NetworkError | None:
        """Why the run must stop, if the tokens that the server counted cannot be the whole prompt."""
        size = _message_bytes(question)
        if n_tokens is None or size < _LONG:
            return None
        n_counted, fewest = self._counted.get(question.prompt, (0, float("inf")))
        per_byte = max(1 / MOST_BYTES, fewest / 2 if n_counted >= _ENOUGH else 0.0)
        if n_tokens < size * per_byte:
            return NetworkError(
                f"{self._address} counted {n_tokens} tokens in a prompt of {size:,} bytes: it truncates long prompts; "
                "raise the context size of the server (num_ctx in Ollama, --ctx-size in llama.cpp, --max-model-len in "
                "vLLM)"
            )
        self._counted[question.prompt] = n_counted + 1, min(fewest, n_tokens / size)
        return None


class TokenEstimates:
    """Estimated tokens of questions and replies, calibrated on the usage of earlier calls, prompt by prompt.

    For a prompt without usage, the tokens per byte are those of all others, and the length of its replies is a guess.

    >>> from hybrid_sim.llm.question import Message
    >>> question = Question("rate", (Message("user", "x" * 400),), schema={}, check=str, max_tokens=500)
    >>> TokenEstimates().prompt_tokens(question), TokenEstimates().reply_tokens(question)
    (100.5, 200.0)
    >>> usage = PromptUsage("rate", 21, 20, counted=20, size=8_000, prompt_tokens=2_400, completion_tokens=1_000)
    >>> TokenEstimates([usage]).prompt_tokens(question), TokenEstimates([usage]).reply_tokens(question)
    (120.6, 50.0)
    """

    def __init__(self, usages: Iterable[PromptUsage] = ()) -> None:
        self._usages = {usage.prompt: usage for usage in usages if usage.counted and usage.answers}

    def usage(self, prompt: str) -> PromptUsage | None:
        """The usage of a prompt that was answered at least once."""
        return self._usages.get(prompt)

    def prompt_tokens(self, question: Question) -> float:
        """Estimated tokens of the question."""
        own = self.usage(question.prompt)
        usages = [own] if own else list(self._usages.values())
        if not usages:
            return size_of(question) * TOKENS_PER_BYTE
        return size_of(question) * sum(each.prompt_tokens for each in usages) / sum(each.size for each in usages)

    def reply_tokens(self, question: Question) -> float:
        """Estimated tokens of the reply."""
        own = self.usage(question.prompt)
        return own.completion_tokens / own.counted if own else REPLY_SHARE * question.max_tokens


class Planner:
    """Answers from a journal and sends nothing; `questions` are those that it could not answer, by key.

    A question that builds on an unanswered one (an update of a profile that is not written yet) is gathered in the form
    that it has without that answer, so its length is an estimate.
    """

    def __init__(self, sampling: dict[str, Any], journal: Journal | None = None) -> None:
        self._sampling, self._journal = sampling, journal
        self.questions: dict[str, Question] = {}

    def ask(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        """The stored answers, and a failure of the kind "not_asked" for every other question."""
        keys = [question.key(self._sampling) for question in questions]
        by_key = dict(zip(keys, questions, strict=True))
        stored = dict(self._journal.answers(by_key)) if self._journal else {}
        self.questions |= {key: question for key, question in by_key.items() if key not in stored}
        return [stored.get(key, Failure("not_asked", "the run is only planned")) for key in keys]


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
    minutes, cost = calls * seconds_per_call / concurrency / 60, None if price is None else round(money)
    return Forecast(round(calls), round(prompt_tokens), round(completion_tokens), cost, minutes)
