"""Asks a language model for ratings: profiles first, then some items per call, then once more for what is missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

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
from hybrid_sim.prompts.rating import history_index, rating_question
from hybrid_sim.prompts.templates import Template, load_template
from hybrid_sim.retrieval.index import VectorIndex

USERS_AT_A_TIME = 256
"""Users whose profiles and ratings are asked for together; a run that ends early has finished the first ones."""


@dataclass(frozen=True)
class RatingRequest:
    """A user at one moment, and the items that the model is asked about (row numbers of the dataset)."""

    state: UserState
    items: IntArray


@dataclass(frozen=True)
class LLMRatings:
    """The model's ratings of the pairs of all requests, one request after the other, filled in as replies arrive.

    `ratings` has shape `(n_samples, n_pairs)`, NaN where an answer is missing; `reasons` has one per pair, that of the
    first sample that gave any, "" without. `states` are the users as the model was shown them, one per request.
    """

    pairs: Pairs
    ratings: FloatArray
    reasons: NDArray[np.object_]
    states: list[UserState] = field(default_factory=list)

    @classmethod
    def none_yet(cls, requests: Sequence[RatingRequest], n_samples: int) -> Self:
        """No answer to any of the requests."""
        users = np.repeat([one.state.user for one in requests], [len(one.items) for one in requests]).astype(np.int64)
        pairs = Pairs(users, np.concatenate([np.zeros(0, dtype=np.int64), *(one.items for one in requests)]))
        return cls(pairs, np.full((n_samples, len(pairs)), np.nan), np.full(len(pairs), "", dtype=object))

    def distribution(self, scale: RatingScale) -> RatingDistribution:
        """Relative frequencies of the levels among the samples of each pair; NaN where there are none."""
        sample, pair = np.nonzero(~np.isnan(self.ratings))
        counts = np.zeros((len(self.pairs), scale.n_levels))
        np.add.at(counts, (pair, scale.index(self.ratings[sample, pair])), 1.0)
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

    def ask(self, requests: Sequence[RatingRequest]) -> LLMRatings:
        """The model's ratings of every item of every request; what is missing is asked for once more."""
        n_samples, size = self.settings.rating.samples, self.settings.rating.items_per_call
        answers = LLMRatings.none_yet(requests, n_samples)
        ends = np.cumsum([len(request.items) for request in requests], dtype=np.int64)
        rows_of = np.split(np.arange(len(answers.pairs)), ends[:-1])
        with track("users asked about", len(requests)) as task:
            for start in range(0, len(requests), self.users_at_a_time):
                states = [request.state for request in requests[start : start + self.users_at_a_time]]
                if self.author is not None:
                    states = write_profiles(self.author, states, self.settings.profile)
                answers.states.extend(states)
                calls = [
                    _Call(state, sample, rows[first : first + size])
                    for state, rows in zip(states, rows_of[start:], strict=False)
                    for first in range(0, len(rows), size)
                    for sample in range(n_samples)
                ]
                self._send(self._send(calls, answers), answers)
                task.advance(len(states))
        return answers

    def _send(self, calls: Sequence[_Call], answers: LLMRatings) -> list[_Call]:
        """Ask all and note the ratings; the calls for what replies lack. One without a reply is not repeated."""
        questions = [
            rating_question(
                self.template,
                self.dataset,
                call.state,
                answers.pairs.item[call.rows],
                self.settings.rating,
                call.sample,
                self.index,
            )
            for call in calls
        ]
        incomplete = []
        for call, reply in zip(calls, self.model.ask(questions), strict=True):
            if isinstance(reply, Answer):
                answers.ratings[call.sample, call.rows] = reply.value.ratings
                reasons = zip(answers.reasons[call.rows], reply.value.reasons, strict=True)
                answers.reasons[call.rows] = [earlier or reason for earlier, reason in reasons]
                if (missing := np.isnan(reply.value.ratings)).any():
                    incomplete.append(replace(call, rows=call.rows[missing]))
        return incomplete


@dataclass(frozen=True)
class _Call:
    """Some items of a user, asked about in one question; `rows` are their places among all pairs."""

    state: UserState
    sample: int
    rows: IntArray


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
