"""How many tokens a question takes: a bound that holds, and an estimate that learns from what servers counted."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hybrid_sim.llm.ledger import Seen
from hybrid_sim.llm.question import Question

TOKENS_PER_BYTE = 0.25
"""English text in common tokenizers, before any server has counted."""

REPLY_SHARE = 0.4
"""Share of its token limit that a reply takes, before any reply has come."""

_AROUND_MESSAGE, _AROUND_PROMPT = 16, 64


def size_of(question: Question) -> int:
    """Bytes of UTF-8 in what a server counts: the messages and the schema of the reply."""
    words = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in question.messages)
    return words + len(json.dumps(question.schema, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def most_prompt_tokens(question: Question) -> int:
    """More tokens than the prompt can have.

    A token of a byte-level tokenizer is at least one byte. The markers that chat templates put around each message and
    around the whole are counted generously.
    """
    return size_of(question) + _AROUND_MESSAGE * len(question.messages) + _AROUND_PROMPT


class Tokens:
    """Estimates per prompt, calibrated on what has been seen of it.

    Of a prompt that has not been seen, the tokens per byte are those of all others, and the length of its replies is a
    guess.

    >>> from hybrid_sim.llm.question import Message
    >>> words = Message("user", "x" * 400)
    >>> question = Question("rate", (words,), schema={}, check=str, max_tokens=500)
    >>> Tokens().prompt_tokens(question), Tokens().reply_tokens(question)
    (100.5, 200.0)
    >>> tokens = Tokens([Seen("rate", 21, 20, counted=20, size=8_000, prompt_tokens=2_400, completion_tokens=1_000)])
    >>> tokens.prompt_tokens(question), tokens.reply_tokens(question)
    (120.6, 50.0)
    """

    def __init__(self, seen: Iterable[Seen] = ()) -> None:
        self._seen = {prompt.prompt: prompt for prompt in seen if prompt.counted and prompt.answers}

    def seen(self, prompt: str) -> Seen | None:
        """What has been seen of a prompt that was answered at least once."""
        return self._seen.get(prompt)

    def prompt_tokens(self, question: Question) -> float:
        """Tokens of the question as it is sent."""
        mine = self._seen.get(question.prompt)
        known = [mine] if mine else list(self._seen.values())
        if not known:
            return size_of(question) * TOKENS_PER_BYTE
        return size_of(question) * sum(each.prompt_tokens for each in known) / sum(each.size for each in known)

    def reply_tokens(self, question: Question) -> float:
        """Tokens of the reply."""
        mine = self._seen.get(question.prompt)
        return mine.completion_tokens / mine.counted if mine else REPLY_SHARE * question.max_tokens
