"""Asking a language model for ratings: profiles first, then some items at a time, then once more what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.progress import track
from hybrid_sim.core.settings import RunSettings
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution, RatingScale
from hybrid_sim.core.user_state import UserState
from hybrid_sim.llm.question import Answer
from hybrid_sim.profiles.llm_writer import Asks
from hybrid_sim.profiles.writers import Author, write_profiles
from hybrid_sim.prompts.rating import RatingsReply, rating_question
from hybrid_sim.prompts.templates import Template
from hybrid_sim.retrieval.index import VectorIndex

USERS_AT_A_TIME = 256
"""Users whose profiles and ratings are asked for together; a run that ends early has finished the first ones."""


@dataclass(frozen=True)
class Inquiry:
    """A user at one moment, and the items that the model is asked about (row numbers of the dataset)."""

    state: UserState
    items: IntArray


@dataclass(frozen=True)
class Opinion:
    """What the model said about the items of an inquiry.

    `ratings` has shape `(n_samples, n_items)`, NaN where an answer is missing. `reasons` are those of the first sample
    that gave any, "" without. `n_rejected` counts ratings that were off the scale, repeated, invented or otherwise not
    what was asked for.
    """

    state: UserState
    items: IntArray
    ratings: FloatArray
    reasons: tuple[str, ...]
    n_rejected: int = 0


def distribution_of(opinions: Sequence[Opinion], scale: RatingScale) -> RatingDistribution:
    """How often each level was said about each item, all inquiries one after the other; silence abstains."""
    parts = [np.zeros((len(opinion.items), scale.n_levels)) for opinion in opinions]
    for opinion, counts in zip(opinions, parts, strict=True):
        sample, item = np.nonzero(~np.isnan(opinion.ratings))
        np.add.at(counts, (item, scale.index(opinion.ratings[sample, item])), 1.0)
    counts = np.concatenate([np.zeros((0, scale.n_levels)), *parts])
    said = counts.sum(axis=1, keepdims=True)
    return RatingDistribution(scale, counts / np.where(said > 0, said, np.nan))


@dataclass(frozen=True)
class Interviewer:
    """Puts inquiries about one dataset to a language model.

    `author` writes the profiles of users who have none; None: the model sees no profiles.
    `index` finds similar items, where past ratings are chosen by them (`history_index`).
    """

    model: Asks
    author: Author | None
    words: Template
    dataset: Dataset
    settings: RunSettings
    users_at_a_time: int = USERS_AT_A_TIME
    index: VectorIndex | None = None

    def opinions(self, inquiries: Sequence[Inquiry]) -> list[Opinion]:
        """The opinion on every inquiry, in order."""
        found: list[Opinion] = []
        with track("users asked about", len(inquiries)) as task:
            for start in range(0, len(inquiries), self.users_at_a_time):
                part = inquiries[start : start + self.users_at_a_time]
                states = [inquiry.state for inquiry in part]
                if self.author is not None:
                    states = write_profiles(self.author, states, self.settings.profile)
                found += self._rated([Inquiry(s, i.items) for s, i in zip(states, part, strict=True)])
                task.advance(len(part))
        return found

    def _rated(self, inquiries: Sequence[Inquiry]) -> list[Opinion]:
        """Every item of every inquiry asked about `samples` times, and what is missing once more."""
        n_samples = self.settings.rating.samples
        drafts = [
            _Draft(inquiry, np.full((n_samples, len(inquiry.items)), np.nan), [""] * len(inquiry.items))
            for inquiry in inquiries
        ]
        size = self.settings.rating.items_per_call
        parts = [
            _Part(draft, sample, np.arange(start, min(start + size, len(draft.inquiry.items))))
            for draft in drafts
            for start in range(0, len(draft.inquiry.items), size)
            for sample in range(n_samples)
        ]
        incomplete = self._ask(parts)
        self._ask([part.missing() for part in incomplete])
        return [draft.opinion() for draft in drafts]

    def _ask(self, parts: Sequence[_Part]) -> list[_Part]:
        """Ask all parts, note the answers, and return the parts of which the answer is incomplete."""
        questions = [
            rating_question(
                self.words,
                self.dataset,
                part.draft.inquiry.state,
                part.draft.inquiry.items[part.rows],
                self.settings.rating,
                part.sample,
                self.index,
            )
            for part in parts
        ]
        incomplete = []
        for part, answer in zip(parts, self.model.ask(questions), strict=True):
            if isinstance(answer, Answer):
                part.note(answer.value)
                if np.isnan(answer.value.ratings).any():
                    incomplete.append(part)
        return incomplete


@dataclass
class _Draft:
    """An opinion that is being gathered."""

    inquiry: Inquiry
    ratings: FloatArray
    reasons: list[str]
    n_rejected: int = 0

    def opinion(self) -> Opinion:
        return Opinion(self.inquiry.state, self.inquiry.items, self.ratings, tuple(self.reasons), self.n_rejected)


@dataclass(frozen=True)
class _Part:
    """Some items of a draft, asked about in one question; `rows` are their places among the items of the inquiry."""

    draft: _Draft
    sample: int
    rows: IntArray

    def note(self, reply: RatingsReply) -> None:
        """Keep the ratings of the reply, and its reasons where no earlier one is."""
        given = ~np.isnan(reply.ratings)
        self.draft.ratings[self.sample, self.rows[given]] = reply.ratings[given]
        self.draft.n_rejected += reply.rejected
        for row, reason in zip(self.rows, reply.reasons, strict=True):
            self.draft.reasons[row] = self.draft.reasons[row] or reason

    def missing(self) -> _Part:
        """The part of this part that has no rating yet."""
        unknown = np.isnan(self.draft.ratings[self.sample, self.rows])
        return _Part(self.draft, self.sample, self.rows[unknown])
