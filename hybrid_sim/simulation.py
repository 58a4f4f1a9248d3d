"""A simulation: how users rate items, what a language model says about it, and what the users are like afterwards.

The statistical answer comes first. Then a language model, if there is one, is asked about ratings that are known, to
learn what its word is worth, and about the pairs where it is expected to help. Its word corrects the statistical
answer; where it says nothing that answer stays as it was, to the last bit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.asking import Inquiry, Interviewer, Opinion, distribution_of
from hybrid_sim.data.dataset import Dataset
from hybrid_sim.data.text import item_texts
from hybrid_sim.history import Histories
from hybrid_sim.models.correction import MIN_ROWS, Correction
from hybrid_sim.profiles.author import Author, update_profiles, write_profiles
from hybrid_sim.random import stream
from hybrid_sim.settings import ProfileSettings
from hybrid_sim.simulator import Prediction, Simulator
from hybrid_sim.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.user import UserState

LLM_SOURCE = "llm+stat"
"""The top rung of the fallback ladder: a language model's word corrected the statistical answer."""

_log = logging.getLogger("hybrid_sim")


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
) -> Simulation:
    """How each user rates the item beside it; `simulator` was fitted to `dataset`, `interviewer` asks the model.

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
    histories = Histories(dataset)
    settings = interviewer.settings.rating
    known = learning_inquiries(dataset, histories, settings.learn_from, settings.items_per_call, seed)
    worth = Worth.learn(simulator, dataset, interviewer.opinions(known))
    chosen = worth_asking(simulator, dataset, pairs, statistical, settings.share)
    opinions = interviewer.opinions(inquiries(histories, pairs.take(chosen)))
    asked, said, reasons = _by_pair(opinions, dataset, pairs)
    prediction = worth.correct(prediction, simulator, pairs, said)
    users = {opinion.state.user: opinion.state for opinion in opinions}
    return Simulation(pairs, prediction, prediction.sample(seed), statistical, asked, said, reasons, users)


def users_before(
    simulation: Simulation, dataset: Dataset, author: Author, settings: ProfileSettings
) -> list[UserState]:
    """All known users of the simulation as they were before its ratings; `author` writes the profiles that lack."""
    histories = Histories(dataset)
    users = _rows_by_user(simulation.pairs)
    states = [simulation.users.get(user) or UserState(user, histories.of(user)) for user in users]
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


def learning_inquiries(dataset: Dataset, histories: Histories, n_users: int, n_items: int, seed: int) -> list[Inquiry]:
    """The last ratings of some users, asked about as if they were not known: `n_items` each, at most half of all."""
    able = np.flatnonzero(dataset.user_counts >= 2)
    chosen = np.sort(stream(seed, "learn from").permutation(able)[:n_users])
    found = []
    for user in chosen.tolist():
        history = histories.of(user)
        n = min(n_items, len(history) // 2)
        found.append(Inquiry(UserState(user, history.first(len(history) - n)), history.last(n).item))
    return found


def inquiries(histories: Histories, pairs: Pairs) -> list[Inquiry]:
    """The pairs as one inquiry per user, users and items in order of first appearance."""
    return [
        Inquiry(UserState(user, histories.of(user)), pairs.item[rows]) for user, rows in _rows_by_user(pairs).items()
    ]


def worth_asking(
    simulator: Simulator, dataset: Dataset, pairs: Pairs, statistical: RatingDistribution, share: float
) -> IntArray:
    """Rows of the pairs where a language model is expected to help most: `share` of those that it can be asked about.

    It can be asked about known users and items with a text, about each pair once. It helps most where the statistical
    answer is widest, and the more so the less often the item was rated.
    """
    has_text = np.array([bool(text) for text in item_texts(dataset)])
    known = np.flatnonzero((pairs.user >= 0) & (pairs.item >= 0))
    known = known[has_text[pairs.item[known]]]
    _, first = np.unique(pairs.user[known] * dataset.n_items + pairs.item[known], return_index=True)
    able = np.sort(known[first])
    rarity = 1.0 / (1.0 + dataset.item_counts[pairs.item[able]])
    help_ = statistical.std()[able] * (1.0 + rarity)
    return np.sort(able[np.argsort(-help_, kind="stable")[: round(share * len(able))]])


@dataclass(frozen=True)
class Worth:
    """What the model's word is worth: a correction where user and item were rated before, and one where not."""

    warm: Correction
    cold: Correction

    @classmethod
    def learn(cls, simulator: Simulator, dataset: Dataset, opinions: Sequence[Opinion]) -> Self:
        """Learn from opinions about the latest ratings of users, beside what the ensemble said while it missed them."""
        said = distribution_of(opinions, dataset.scale)
        users = np.repeat([o.state.user for o in opinions], [len(o.items) for o in opinions]).astype(np.int64)
        pairs = Pairs(users, np.concatenate([np.zeros(0, dtype=np.int64), *(o.items for o in opinions)]))
        ratings = _ratings_of(dataset, pairs)
        held = [simulator.ensemble_.held_opinion(pairs, cold=cold) for cold in (False, True)]
        n = int((said.answered & held[0].answered).sum())
        if n < MIN_ROWS and (n or not opinions):
            _log.warning(
                "the model rated %d known pairs, %d are needed to learn what its word is worth: it changes no answer "
                "(settings rating.learn_from and rating.items_per_call say how many are asked)",
                n,
                MIN_ROWS,
            )
        return cls(*(Correction().fit(opinion, said, ratings) for opinion in held))

    def correct(
        self, prediction: Prediction, simulator: Simulator, pairs: Pairs, said: RatingDistribution
    ) -> Prediction:
        """The prediction moved by what the model said; rows without its word stay as they are, to the last bit."""
        before = prediction.distribution
        warm = simulator.ensemble_.support_.of(pairs).regime == 0
        probs = before.probs.copy()
        low, high, source = prediction.low.copy(), prediction.high.copy(), prediction.source.copy()
        for correction, regime in ((self.warm, warm), (self.cold, ~warm)):
            rows = np.flatnonzero(regime & said.answered)
            if not (len(rows) and correction.coefficients_.any()):
                continue
            after = correction.apply(before.take(rows), said.take(rows))
            interval = simulator.ensemble_.interval(pairs.take(rows), after)
            probs[rows], low[rows], high[rows], source[rows] = after.probs, interval.low, interval.high, LLM_SOURCE
        distribution = RatingDistribution(before.scale, probs)
        return replace(prediction, distribution=distribution, low=low, high=high, source=source)


def _ratings_of(dataset: Dataset, pairs: Pairs) -> FloatArray:
    """The rating of each pair in the dataset; every one is there."""
    keys = dataset.user * dataset.n_items + dataset.item
    order = np.argsort(keys, kind="stable")
    return np.asarray(dataset.rating[order[np.searchsorted(keys[order], pairs.user * dataset.n_items + pairs.item)]])


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
    rows = np.array([row_of.get(key, -1) for key in zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)])
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
