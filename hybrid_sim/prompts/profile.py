"""Questions that ask a language model to write a user's profile (Lusifer's first phase, Ebrat et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ReplyError
from hybrid_sim.core.history import History
from hybrid_sim.core.settings import ProfileSettings
from hybrid_sim.core.types import describe_levels
from hybrid_sim.core.user_state import UserProfile
from hybrid_sim.llm.question import Message, Question
from hybrid_sim.llm.replies import read_reply
from hybrid_sim.prompts.context import MAX_PHRASES, MAX_SUMMARY, shown_person, shown_rated
from hybrid_sim.prompts.templates import Words, load_words
from hybrid_sim.prompts.untrusted import as_data, shown_text

MAX_PHRASE = 100
"""Characters that are kept of a like, a dislike; the model is asked for short phrases."""

MAX_CHANGE = 400
MAX_TOKENS = 1200
"""A reply as asked for has about 400 tokens in English; other scripts have more."""

_TEXTS = {"type": "array", "items": {"type": "string"}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "likes": _TEXTS,
        "dislikes": _TEXTS,
        "change": {"type": "string"},
    },
    "required": ["summary", "likes", "dislikes", "change"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class ProfileReply:
    """What a reply says of a user; phrases are not blank, and none is there twice."""

    summary: str
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]
    change: str


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    summary: str
    likes: list[str]
    dislikes: list[str]
    change: str


@dataclass(frozen=True)
class ProfilePrompts:
    """The words for first profiles and for updates, from the package or from a folder of the user's."""

    settings: ProfileSettings
    folder: Path | None = None

    @cached_property
    def first(self) -> Words:
        """The words for a user's first profile."""
        return load_words("profile_first", self.folder)

    @cached_property
    def update(self) -> Words:
        """The words for every later version."""
        return load_words("profile_update", self.folder)

    def question(self, dataset: Dataset, user: int, batch: History, before: UserProfile | None) -> Question:
        """Ask for the version that follows `before` (None: the first) now that the user has rated `batch`.

        The answer's value is a `ProfileReply`. The prompt holds the user's age, gender and occupation as far as they
        are known, the version before, and title, year, genres, overview and rating of the items of `batch`; no ids.
        """
        words = self.first if before is None else self.update
        messages = words.messages(
            scale=describe_levels(dataset.scale.levels),
            forbidden=forbidden(self.settings),
            person=as_data(shown_person(dataset, user, before), MAX_SUMMARY),
            rated=as_data(shown_rated(dataset, batch)),
        )
        return Question(words.label(SCHEMA), messages, SCHEMA, read_profile, MAX_TOKENS)


def forbidden(settings: ProfileSettings) -> str:
    """One sentence on what a profile must not hold, "" where everything may stand in it."""
    never = [
        *([] if settings.may_quote_titles else ["name a title"]),
        *([] if settings.may_quote_ratings else ["quote a rating or any other number of points or stars"]),
    ]
    return f"Never {' and never '.join(never)}." if never else ""


def ask_again(question: Question, reply: str, faults: Sequence[str]) -> Question:
    """The same question once more, with the reply it had and a sentence on what is wrong with it."""
    complaint = f"This does not follow the rules: it {' and '.join(faults)}. Write it again, all of it, without that."
    again = (Message("assistant", reply), Message("user", complaint))
    return replace(question, messages=question.messages + again)


def read_profile(text: str) -> ProfileReply:
    """The profile in a reply.

    Raises:
        ReplyError: the reply is not one JSON object with summary, likes, dislikes and change, or its summary is blank.
    """
    reply = read_reply(text, _Reply)
    if not reply.summary.strip():
        raise ReplyError("the summary of the profile is blank")
    return ProfileReply(
        shown_text(reply.summary.strip(), MAX_SUMMARY),
        _phrases(reply.likes),
        _phrases(reply.dislikes),
        shown_text(" ".join(reply.change.split()), MAX_CHANGE),
    )


def _phrases(phrases: Sequence[str]) -> tuple[str, ...]:
    said = {" ".join(phrase.split()).casefold(): " ".join(phrase.split()) for phrase in reversed(phrases)}
    kept = [shown_text(phrase, MAX_PHRASE) for folded, phrase in reversed(said.items()) if folded]
    return tuple(kept[:MAX_PHRASES])
