"""A simulation: how users rate items, what a language model says about it, and what the users are like afterwards.

The statistical answer comes first. Then a language model, if there is one, is asked about ratings that are known, to
learn what its word is worth, and about the pairs where it is expected to help. Its word corrects the statistical
answer; where it says nothing that answer stays as it was, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.asking import Inquiry, Interviewer, Opinion, distribution_of
from hybrid_sim.data.dataset import Dataset
from hybrid_sim.history import Histories
from hybrid_sim.profiles.author import Author, update_profiles, write_profiles
from hybrid_sim.random import stream
from hybrid_sim.settings import ProfileSettings
from hybrid_sim.simulator import Prediction, Simulator
from hybrid_sim.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.user import UserState
from hybrid_sim.worth import LLM_SOURCE as LLM_SOURCE
from hybrid_sim.worth import Worth, worth_asking


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
    chosen = worth_asking(simulator, dataset, pairs, statistical, settings.share, settings.items_per_call)
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
