"""Questions that ask a language model to write a user's profile (Lusifer's first phase, Ebrat et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ReplyError
from hybrid_sim.core.settings import ProfileSettings
from hybrid_sim.core.types import describe_levels
from hybrid_sim.core.user_state import History, UserProfile
from hybrid_sim.llm.question import Message, Question, object_schema
from hybrid_sim.llm.replies import read_reply
from hybrid_sim.prompts.context import MAX_PHRASES, MAX_SUMMARY, rated_records, user_record
from hybrid_sim.prompts.templates import Template, load_template
from hybrid_sim.prompts.untrusted import as_data, shown_text

MAX_PHRASE = 100
"""Characters that are kept of a like or dislike; the model is asked for short phrases."""

MAX_CHANGE = 400
MAX_TOKENS = 1200
"""A reply as asked for has about 400 tokens in English; other scripts have more."""


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest}


_PHRASES = {"type": "array", "maxItems": 10, "items": _text(MAX_PHRASE)}
SCHEMA = object_schema({"summary": _text(1500), "likes": _PHRASES, "dislikes": _PHRASES, "change": _text(MAX_CHANGE)})
"""Its bounds are above what the prompts ask for, and below the token limit."""


class ProfileReply(BaseModel, extra="forbid", strict=True, frozen=True):
    """The profile in a reply; from `read_profile`, no phrase is blank or there twice."""

    summary: str
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]
    change: str


@dataclass(frozen=True)
class ProfilePrompts:
    """The questions for profiles, whose templates come from the package or from the user's `folder`."""

    settings: ProfileSettings
    folder: Path | None = None

    @cached_property
    def _first(self) -> Template:
        return load_template("profile_first", self.folder)

    @cached_property
    def _update(self) -> Template:
        return load_template("profile_update", self.folder)

    def question(self, dataset: Dataset, user: int, batch: History, before: UserProfile | None) -> Question:
        """Ask for the version that follows `before` (None: the first) now that the user has rated `batch`.

        The answer's value is a `ProfileReply`. The prompt holds the user's age, gender and occupation as far as they
        are known, the version before, and title, year, genres, overview and rating of the items of `batch`; no ids.
        """
        template = self._first if before is None else self._update
        messages = template.messages(
            scale=describe_levels(dataset.scale.levels),
            forbidden=self._forbidden(),
            person=as_data(user_record(dataset, user, before), MAX_SUMMARY),
            rated=as_data(rated_records(dataset, batch)),
        )
        return Question(template.label(SCHEMA), messages, SCHEMA, read_profile, MAX_TOKENS)

    def _forbidden(self) -> str:
        """The sentence of the prompt on what a profile must not hold; "" where the settings allow everything."""
        never = [] if self.settings.may_quote_titles else ["name a title"]
        never += [] if self.settings.may_quote_ratings else ["quote a rating or any other number of points or stars"]
        return f"Never {' and never '.join(never)}." if never else ""


def ask_again(question: Question, reply: str, faults: Sequence[str]) -> Question:
    """The question, followed by the reply it had and a sentence on what is wrong with that."""
    complaint = f"This does not follow the rules: it {' and '.join(faults)}. Write it again, all of it, without that."
    again = (Message("assistant", reply), Message("user", complaint))
    return replace(question, messages=question.messages + again)


def read_profile(text: str) -> ProfileReply:
    """The profile in a reply, its texts cut to the lengths that are kept.

    Raises:
        ReplyError: the reply is not one JSON object with summary, likes, dislikes and change, or its summary is blank.
    """
    reply = read_reply(text, ProfileReply)
    if not reply.summary.strip():
        raise ReplyError("the summary of the profile is blank")
    return ProfileReply(
        summary=shown_text(reply.summary.strip(), MAX_SUMMARY),
        likes=_distinct(reply.likes),
        dislikes=_distinct(reply.dislikes),
        change=shown_text(" ".join(reply.change.split()), MAX_CHANGE),
    )


def _distinct(phrases: Sequence[str]) -> tuple[str, ...]:
    """The phrases that are not blank, each in its first spelling; spaces and case make no difference."""
    spellings = {" ".join(phrase.split()).casefold(): " ".join(phrase.split()) for phrase in reversed(phrases)}
    kept = [shown_text(spelling, MAX_PHRASE) for folded, spelling in reversed(spellings.items()) if folded]
    return tuple(kept[:MAX_PHRASES])
