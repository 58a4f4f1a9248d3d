"""Token counts of questions: bounds that hold, estimates from what servers counted, and checks against truncation."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hybrid_sim.core.errors import NetworkError
from hybrid_sim.llm.budget import PromptUsage
from hybrid_sim.llm.question import Question

TOKENS_PER_BYTE = 0.25
"""Of English text in common tokenizers, before any server has counted."""

REPLY_SHARE = 0.4
"""Share of its token limit that a reply takes, before any reply has come."""

MOST_BYTES = 10.0
"""Bytes that a token of a long prompt holds at most, on average: in no language does one hold many more than five."""

_AROUND_MESSAGE, _AROUND_PROMPT = 16, 64


def size_of(question: Question) -> int:
    """Bytes of UTF-8 in what a server counts: the messages and the schema of the reply."""
    schema = json.dumps(question.schema, ensure_ascii=False)
    return _message_bytes(question) + len(schema.encode("utf-8", "surrogatepass"))


def most_prompt_tokens(question: Question) -> int:
    """An upper bound of the prompt's tokens.

    A token of a byte-level tokenizer is at least one byte. The markers that chat templates put around each message and
    around the whole are counted generously.
    """
    return size_of(question) + _AROUND_MESSAGE * len(question.messages) + _AROUND_PROMPT


def beyond_context(question: Question, context: int | None) -> str:
    """Why a question cannot fit into a context window of so many tokens with its reply; "" where it may.

    The bound is the same for all runs: whether a question is sent never depends on what was answered before.
    """
    if context is None or _message_bytes(question) / MOST_BYTES + question.max_tokens <= context:
        return ""
    return f"prompt and reply do not fit into the {context} tokens of llm.context_tokens"


def _message_bytes(question: Question) -> int:
    return sum(len(message.content.encode("utf-8", "surrogatepass")) for message in question.messages)


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


class TruncationCheck:
    """Detects a server that silently truncates long prompts: it counts far fewer tokens than the prompt must have.

    A lower bound of the tokens is one for each `MOST_BYTES` bytes. Once a prompt was answered `_ENOUGH` times, half of
    the fewest tokens per byte that were counted for it is a better one. Short prompts are not checked.
    """

    _LONG, _ENOUGH = 2000, 5

    def __init__(self, address: str) -> None:
        self._address = address
        self._counted: dict[str, tuple[int, float]] = {}

    def error(self, question: Question, n_tokens: int | None) -> NetworkError | None:
        """Why the run must stop, if the tokens that the server counted cannot be the whole prompt."""
        size = _message_bytes(question)
        if n_tokens is None or size < self._LONG:
            return None
        n_counted, fewest = self._counted.get(question.prompt, (0, float("inf")))
        per_byte = max(1 / MOST_BYTES, fewest / 2 if n_counted >= self._ENOUGH else 0.0)
        if n_tokens < size * per_byte:
            return NetworkError(
                f"{self._address} counted {n_tokens} tokens in a prompt of {size:,} bytes: it truncates long prompts; "
                "raise the context size of the server (num_ctx in Ollama, --ctx-size in llama.cpp, --max-model-len in "
                "vLLM)"
            )
        self._counted[question.prompt] = n_counted + 1, min(fewest, n_tokens / size)
        return None
