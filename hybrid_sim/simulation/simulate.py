"""A simulation: how users rate items, what a language model says about it, and what the users are like afterwards.

The statistical answer comes first. Then a language model, if there is one, is asked about ratings that are known, to
learn what its word is worth, and about the pairs where it is expected to help. Its word corrects the statistical
answer; where it says nothing, of the pair or of a new item to others, that answer stays as it was, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.history import Histories, History
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.settings import ProfileSettings
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.core.user_state import Timeline, UserState
from hybrid_sim.profiles.writers import Author, update_profiles, write_profiles
from hybrid_sim.simulation.interviewer import Inquiry, Interviewer, Opinion, distribution_of
from hybrid_sim.simulation.llm_value import LLM_SOURCE as LLM_SOURCE
from hybrid_sim.simulation.llm_value import Worth, can_teach, worth_asking
from hybrid_sim.simulation.simulator import Prediction, Simulator


@dataclass(frozen=True)
class Simulation:
    """The answers about pairs, a rating drawn from each, and what the model said.

    `statistical` is the answer before the model's word. `asked` marks the pairs that it was asked about, `said` holds
    the frequencies of its answers, a row of NaN where there is none, `reasons` its words. `users` are the users that it
    was asked about, by row, as they were before these ratings.
    """

    pairs: Pairs
    prediction: Prediction
    ratings: FloatArray
    statistical: RatingDistribution
    asked: NDArray[np.bool_]
    said: RatingDistribution
    reasons: NDArray[np.object_]
    users: dict[int, UserState]


def simulate(
    simulator: Simulator,
    dataset: Dataset,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    interviewer: Interviewer | None = None,
    seed: int = 0,
    timelines: Mapping[str, Timeline] | None = None,
    ask_about: IntArray | None = None,
) -> Simulation:
    """How each user rates the item beside it; `simulator` was fitted to `dataset`, `interviewer` asks the model.

    `timelines` are profiles that users have already, by user id; all others are written first. `ask_about` are the rows
    that the model is asked about: known users and items with a text, each pair once. By default those where it is
    expected to help most (`worth_asking`), for the share of calls that the settings say.

    Raises:
        SettingsError: the simulator was fitted to other data.
    """
    simulator.require_fitted_to(dataset)
    prediction = simulator.predict(user_ids, item_ids)
    pairs, statistical = dataset.encode(user_ids, item_ids), prediction.distribution
    if interviewer is None:
        silence = RatingDistribution.abstain(dataset.scale, len(pairs))
        return Simulation(
            pairs,
            prediction,
            prediction.sample(seed),
            statistical,
            silence.answered,
            silence,
            _no_words(len(pairs)),
            {},
        )
    past = Past(dataset, timelines or {})
    settings = interviewer.settings.rating
    chosen = ask_about
    if chosen is None:
        chosen = worth_asking(simulator, dataset, pairs, statistical, settings.share, settings.items_per_call)
    n_learn_from = settings.learn_from if len(chosen) else 0
    known = learning_inquiries(past, n_learn_from, settings.items_per_call, seed)
    if len(chosen) and not can_teach(simulator, known):
        known = []
    worth = Worth.learn(simulator, dataset, interviewer.opinions(known))
    opinions = interviewer.opinions(inquiries(past, pairs.take(chosen)))
    asked, said, reasons = _by_pair(opinions, dataset, pairs)
    prediction = worth.correct(prediction, simulator, pairs, said)
    users = {opinion.state.user: opinion.state for opinion in opinions}
    return Simulation(pairs, prediction, prediction.sample(seed), statistical, asked, said, reasons, users)


class Past:
    """What is known of the users of a dataset: their ratings, and the profiles that they have already."""

    def __init__(self, dataset: Dataset, timelines: Mapping[str, Timeline]) -> None:
        self.dataset, self._histories = dataset, Histories(dataset)
        self._timelines = {
            dataset.users.index.get_loc(name): t for name, t in timelines.items() if name in dataset.users.index
        }

    def now(self, user: int) -> UserState:
        """The user after all ratings of the dataset."""
        return UserState(user, self._histories.of(user), self._timelines.get(user, Timeline()))

    def before_last(self, user: int, n: int) -> tuple[UserState, History]:
        """The user before the last `n` ratings, without versions of the profile that rest on them; and these."""
        history = self._histories.of(user)
        last = history.last(n)
        start = None if last.timestamp is None else int(last.timestamp[0])
        versions = self._timelines.get(user, Timeline()).versions
        timeline = Timeline(tuple(v for v in versions if start is not None and v.at is not None and v.at < start))
        return UserState(user, history.first(len(history) - n), timeline), last


def users_before(
    simulation: Simulation,
    dataset: Dataset,
    author: Author,
    settings: ProfileSettings,
    timelines: Mapping[str, Timeline] | None = None,
) -> list[UserState]:
    """All known users of the simulation as they were before its ratings; `author` writes the profiles that lack."""
    past = Past(dataset, timelines or {})
    states = [simulation.users.get(user) or past.now(user) for user in _rows_by_user(simulation.pairs)]
    return write_profiles(author, states, settings)


def advance(
    states: Sequence[UserState], simulation: Simulation, dataset: Dataset, author: Author, settings: ProfileSettings
) -> list[UserState]:
    """The users after the simulation: its ratings enter their histories, in order, and then their profiles."""
    pairs, rows = simulation.pairs, _rows_by_user(simulation.pairs)
    lived = [
        replace(state, history=state.history.then(pairs.item[rows[state.user]], simulation.ratings[rows[state.user]]))
        for state in states
    ]
    return update_profiles(author, dataset, lived, settings)


def learning_inquiries(past: Past, n_users: int, n_items: int, seed: int) -> list[Inquiry]:
    """The last ratings of some users, asked about as if they were not known: `n_items` each, at most half of all."""
    counts = past.dataset.user_counts
    chosen = np.sort(stream(seed, "learn from").permutation(np.flatnonzero(counts >= 2))[:n_users])
    told = np.array([bool(text) for text in item_texts(past.dataset)])
    states = [past.before_last(user, min(n_items, int(counts[user]) // 2)) for user in chosen.tolist()]
    return [Inquiry(state, last.item[told[last.item]]) for state, last in states if told[last.item].any()]


def inquiries(past: Past, pairs: Pairs) -> list[Inquiry]:
    """The pairs as one inquiry per user, users and items in order of first appearance."""
    return [Inquiry(past.now(user), pairs.item[rows]) for user, rows in _rows_by_user(pairs).items()]


def _by_pair(
    opinions: Sequence[Opinion], dataset: Dataset, pairs: Pairs
) -> tuple[NDArray[np.bool_], RatingDistribution, NDArray[np.object_]]:
    """Which pairs were asked about, what was said about each, and why: NaN and "" where nothing was."""
    said = distribution_of(opinions, dataset.scale)
    row_of: dict[tuple[int, int], int] = {}
    reasons: list[str] = []
    for opinion in opinions:
        for item, reason in zip(opinion.items.tolist(), opinion.reasons, strict=True):
            row_of[opinion.state.user, item] = len(reasons)
            reasons.append(reason)
    keys = zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)
    rows = np.array([row_of.get(key, -1) for key in keys], dtype=np.int64)
    probs = np.vstack([said.probs, np.full(dataset.scale.n_levels, np.nan)])[rows]
    return rows >= 0, RatingDistribution(dataset.scale, probs), np.array([*reasons, ""], dtype=object)[rows]


def _no_words(n: int) -> NDArray[np.object_]:
    return np.full(n, "", dtype=object)


def _rows_by_user(pairs: Pairs) -> dict[int, IntArray]:
    """The rows of every known user, users in order of first appearance; rows of unknown items are left out."""
    rows: dict[int, list[int]] = {}
    for row, (user, item) in enumerate(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)):
        if user >= 0 and item >= 0:
            rows.setdefault(user, []).append(row)
    return {user: np.array(found, dtype=np.int64) for user, found in rows.items()}
