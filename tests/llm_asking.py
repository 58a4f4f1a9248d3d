"""Small questions, and a run folder to ask them in, for the tests of the client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Answer, Failure, Message, Question
from hybrid_sim.llm.replies import read_reply
from hybrid_sim.llm.sending import Backoff

SCHEMA = {
    "type": "object",
    "properties": {"rating": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
    "required": ["rating"],
    "additionalProperties": False,
}


class Rating(BaseModel):
    rating: int = Field(ge=1, le=5)


def read_rating(text: str) -> int:
    return read_reply(text, Rating).rating


def question(number: int, *, sample: int = 0, padding: int = 0, max_tokens: int = 100) -> Question:
    words = (
        Message("system", "Rate what the user is shown from 1 to 5." + " Really." * (padding // 8)),
        Message("user", f'{{"item": {number}}}'),
    )
    return Question("rate@1", words, SCHEMA, read_rating, max_tokens, sample)


def questions(n: int) -> list[Question]:
    return [question(number) for number in range(n)]


@contextmanager
def asking(
    folder: Path,
    url: str,
    *,
    budget: dict[str, Any] | None = None,
    replay: bool = False,
    first_wait: float = 0.01,
    **settings: Any,
) -> Iterator[LLM]:
    """A client with a journal in `folder`."""
    options = {"model": "loopback", "base_url": url, "concurrency": 8, "attempts": 3, "deadline": 5.0, **settings}
    with Journal(folder / "journal.sqlite", replay=replay) as journal:
        limits = Budget(**(budget or {}), ledger=journal.ledger())
        with LLM(LLMSettings(**options), journal, limits, replay=replay, backoff=Backoff(first_wait, 1.0)) as llm:
            yield llm


def kinds(results: Sequence[Answer | Failure]) -> list[str]:
    """What each result is: "answer" or the kind of failure."""
    return ["answer" if isinstance(result, Answer) else result.kind for result in results]
