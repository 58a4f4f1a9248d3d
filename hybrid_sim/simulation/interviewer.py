"""Asks a language model for ratings: profiles first, then some items per call, then once more for what is missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.progress import track
from hybrid_sim.core.settings import RunSettings
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.core.user_state import UserState
from hybrid_sim.llm.question import Answer, LanguageModel
from hybrid_sim.profiles.llm_writer import LLMWriter
from hybrid_sim.profiles.statistical_writer import StatisticalWriter
from hybrid_sim.profiles.writers import ProfileWriter, write_profiles
from hybrid_sim.prompts.profile import ProfilePrompts
from hybrid_sim.prompts.rating import RatingsReply, history_index, rating_question
from hybrid_sim.prompts.templates import Template, load_template
from hybrid_sim.retrieval.index import VectorIndex

USERS_AT_A_TIME = 256
"""Users whose profiles and ratings are asked for together; a run that ends early has finished the first ones."""


@dataclass(frozen=True)
class RatingRequest:
    """A user at one moment, and the items that the model is asked about (row numbers of the dataset)."""

    state: UserState
    items: IntArray


@dataclass
class LLMRatings:
    """The model's ratings of the items of a request, filled in as replies arrive.

    `ratings` has shape `(n_samples, n_items)`, NaN where an answer is missing. `reasons` are those of the first sample
    that gave any, "" without. `n_rejected` counts ratings that were off the scale, repeated, invented or otherwise not
    what was asked for.
    """

    state: UserState
    items: IntArray
    ratings: FloatArray
    reasons: list[str] = field(default_factory=list)
    n_rejected: int = 0

    def add(self, sample: int, rows: IntArray, reply: RatingsReply) -> None:
        """Keep the ratings of a reply about the items in these rows, and its reasons where no earlier one is."""
        given = ~np.isnan(reply.ratings)
        self.ratings[sample, rows[given]] = reply.ratings[given]
        self.n_rejected += reply.rejected
        for row, reason in zip(rows, reply.reasons, strict=True):
            self.reasons[row] = self.reasons[row] or reason


def pairs_of(requests: Sequence[RatingRequest | LLMRatings]) -> Pairs:
    """The (user, item) pairs of all requests, one after the other."""
    users = np.repeat([one.state.user for one in requests], [len(one.items) for one in requests]).astype(np.int64)
    return Pairs(users, np.concatenate([np.zeros(0, dtype=np.int64), *(one.items for one in requests)]))


def distribution_of(answers: Sequence[LLMRatings], scale: RatingScale) -> RatingDistribution:
    """Relative frequencies of the levels among the samples of each pair of `pairs_of`; NaN where there are none."""
    parts = [np.zeros((len(answer.items), scale.n_levels)) for answer in answers]
    for answer, counts in zip(answers, parts, strict=True):
        sample, item = np.nonzero(~np.isnan(answer.ratings))
        np.add.at(counts, (item, scale.index(answer.ratings[sample, item])), 1.0)
    counts = np.concatenate([np.zeros((0, scale.n_levels)), *parts])
    n_samples = counts.sum(axis=1, keepdims=True)
    return RatingDistribution(scale, counts / np.where(n_samples > 0, n_samples, np.nan))


@dataclass(frozen=True)
class Interviewer:
    """Asks a model for the ratings of one dataset's users.

    `author` writes the profiles of users who have none; None: the model sees no profiles.
    `index` finds similar items, where past ratings are chosen by them (`history_index`).
    """

    model: LanguageModel
    author: ProfileWriter | None
    template: Template
    dataset: Dataset
    settings: RunSettings
    users_at_a_time: int = USERS_AT_A_TIME
    index: VectorIndex | None = None

    def ask(self, requests: Sequence[RatingRequest]) -> list[LLMRatings]:
        """The model's ratings for every request, in order."""
        answers: list[LLMRatings] = []
        with track("users asked about", len(requests)) as task:
            for start in range(0, len(requests), self.users_at_a_time):
                part = requests[start : start + self.users_at_a_time]
                states = [request.state for request in part]
                if self.author is not None:
                    states = write_profiles(self.author, states, self.settings.profile)
                answers += self._rated([RatingRequest(s, r.items) for s, r in zip(states, part, strict=True)])
                task.advance(len(part))
        return answers

    def _rated(self, requests: Sequence[RatingRequest]) -> list[LLMRatings]:
        """Every item of every request asked about `samples` times, and what is missing once more."""
        n_samples, size = self.settings.rating.samples, self.settings.rating.items_per_call
        answers = [
            LLMRatings(r.state, r.items, np.full((n_samples, len(r.items)), np.nan), [""] * len(r.items))
            for r in requests
        ]
        calls = [
            _Call(answer, sample, np.arange(start, min(start + size, len(answer.items))))
            for answer in answers
            for start in range(0, len(answer.items), size)
            for sample in range(n_samples)
        ]
        incomplete = self._send(calls)
        self._send([call.missing() for call in incomplete])
        return answers

    def _send(self, calls: Sequence[_Call]) -> list[_Call]:
        """Ask all, note the replies, and return the calls whose reply lacks ratings; one without a reply is over."""
        questions = [
            rating_question(
                self.template,
                self.dataset,
                call.answer.state,
                call.answer.items[call.rows],
                self.settings.rating,
                call.sample,
                self.index,
            )
            for call in calls
        ]
        incomplete = []
        for call, reply in zip(calls, self.model.ask(questions), strict=True):
            if isinstance(reply, Answer):
                call.answer.add(call.sample, call.rows, reply.value)
                if np.isnan(reply.value.ratings).any():
                    incomplete.append(call)
        return incomplete


@dataclass(frozen=True)
class _Call:
    """Some items of a request, asked about in one question; `rows` are their places among the items of the request."""

    answer: LLMRatings
    sample: int
    rows: IntArray

    def missing(self) -> _Call:
        """A call about those of the items that have no rating yet."""
        return _Call(self.answer, self.sample, self.rows[np.isnan(self.answer.ratings[self.sample, self.rows])])


def profile_author(dataset: Dataset, settings: RunSettings, model: LanguageModel | None) -> ProfileWriter:
    """Who writes profiles: the model if there is one and the settings say so, else statistics."""
    writer = StatisticalWriter().fit(dataset)
    if model is None or settings.profile.writer == "statistics":
        return writer
    return LLMWriter(model, dataset, ProfilePrompts(settings.profile, settings.prompts), writer)


def interviewer(
    dataset: Dataset,
    settings: RunSettings,
    model: LanguageModel,
    users_at_a_time: int = USERS_AT_A_TIME,
    without: Collection[str] = (),
) -> Interviewer:
    """An interviewer that asks `model` as the settings say; without the component `profile` it shows no profiles.

    Raises:
        SettingsError: a file of the user's prompts cannot be used.
    """
    template = load_template("rate", settings.prompts)
    author = None if "profile" in without else profile_author(dataset, settings, model)
    index = history_index(dataset, settings.rating)
    return Interviewer(model, author, template, dataset, settings, users_at_a_time, index)
