"""A simulation: how users rate items, what a language model adds, and the users' histories and profiles afterwards.

The statistical prediction comes first. A language model, if there is one, is then asked about ratings that are known,
to learn how far its ratings correct the prediction, and about the pairs where the largest gain is expected. A pair that
has no correction keeps its statistical prediction to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import HybridSimError
from hybrid_sim.core.frames import Framed
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.settings import ProfileSettings
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.core.user_state import Histories, History, Timeline, UserState
from hybrid_sim.llm.budget import Ledger
from hybrid_sim.llm.client import LLM
from hybrid_sim.profiles.writers import ProfileWriter, update_profiles, write_profiles
from hybrid_sim.simulation.interviewer import Interviewer, LLMRatings, RatingRequest
from hybrid_sim.simulation.llm_value import LLMValue, can_learn, pairs_to_ask
from hybrid_sim.simulation.simulator import Prediction, Simulator, pair_ids


@dataclass(frozen=True)
class LLMUse:
    """What a run asked of a language model: `calls` and `failed` questions now, `ledger` and `failures` in all.

    `stopped` is why no more could be asked (a limit, a dead endpoint, ...), None where nothing stood in the way.
    """

    model: str
    calls: int
    failed: int
    stopped: HybridSimError | None
    ledger: Ledger
    failures: Mapping[str, int]

    @classmethod
    def of(cls, llm: LLM) -> Self:
        """The use of `llm` so far."""
        journal, counts = llm.journal, llm.counts
        return cls(llm.settings.model, counts.calls, counts.failed, llm.stopped, journal.ledger(), journal.failures())


@dataclass(frozen=True)
class Simulation(Framed):
    """Predictions and drawn ratings of pairs, row by row.

    `statistical` is the distribution before the language model's correction. `asked` marks the pairs that the model was
    asked about, `llm` holds the frequencies of its ratings (NaN without one), `reasons` its reasons ("" without).
    `known` are the ratings that the dataset holds already, NaN for the others. `users` are the users that it was asked
    about, by row, as they were before these ratings; `use` says what it cost, `value` what it is worth (`LLMValue`).
    """

    pairs: Pairs
    prediction: Prediction
    ratings: FloatArray
    statistical: RatingDistribution
    asked: NDArray[np.bool_]
    llm: RatingDistribution
    reasons: NDArray[np.object_]
    known: FloatArray
    users: dict[int, UserState]
    use: LLMUse | None = None
    value: Sequence[Mapping[str, Any]] = ()

    def __repr__(self) -> str:
        return f"Simulation({len(self.ratings):,} ratings, {int(self.llm.answered.sum()):,} with a language model)"

    def llm_shift(self) -> dict[str, float] | None:
        """How far the language model moved expected ratings, in rating units: mean and largest shift of `pairs` pairs;
        None where it moved none.
        """
        shift = np.abs(self.prediction.distribution.mean() - self.statistical.mean())
        moved = shift[shift > 0.0]
        if not len(moved):
            return None
        return {"pairs": len(moved), "mean": float(moved.mean()), "largest": float(moved.max())}

    def to_frame(self) -> pd.DataFrame:
        """A row per pair: `user_id, item_id, rating` (drawn), the prediction's columns, `llm_rating, known_rating`."""
        return ratings_frame(self.prediction, self.ratings, self.llm.mean(), self.known)


def ratings_frame(prediction: Prediction, ratings: FloatArray, llm: FloatArray, known: FloatArray) -> pd.DataFrame:
    """The table of a simulation: its prediction with drawn, LLM and known ratings."""
    frame = prediction.to_frame().drop(columns="known")  # `known_rating` says it
    frame.insert(2, "rating", ratings)
    return frame.assign(llm_rating=llm, known_rating=known)


def simulate(
    simulator: Simulator,
    dataset: Dataset,
    user_ids: Iterable[str] | pd.DataFrame,
    item_ids: Iterable[str] | None = None,
    interviewer: Interviewer | None = None,
    seed: int = 0,
    timelines: Mapping[str, Timeline] | None = None,
    ask_about: IntArray | None = None,
) -> Simulation:
    """A rating drawn for each pair, in memory; `hs.Run` keeps one in a folder and can ask a language model.

    `user_ids` and `item_ids` are two lists of one length, or the first is a DataFrame with `user_id` and `item_id`.
    `interviewer` asks the language model; `timelines` are profiles that users have already, by user id, all others are
    written first. `ask_about` are rows of known users and items with a text, each pair once; by default those with the
    largest expected gain, for the share of calls that the settings say (`pairs_to_ask`).

        hs.simulate(simulator, data, ["u0001", "u0002"], ["f0001", "f0001"]).to_frame()["rating"]

    Raises:
        SettingsError: the simulator was fitted to other data.
    """
    simulator.require_fitted_to(dataset)
    user_ids, item_ids = pair_ids(user_ids, item_ids)
    prediction = simulator.predict(user_ids, item_ids)
    pairs, statistical = dataset.encode(user_ids, item_ids), prediction.distribution
    answers = LLMRatings.none_yet([], 1)
    if interviewer is not None:
        states, settings = UserStates(dataset, timelines or {}), interviewer.settings.rating
        if ask_about is None:
            ask_about = pairs_to_ask(simulator, dataset, pairs, statistical, settings.share, settings.items_per_call)
        n_users = settings.learn_from if len(ask_about) else 0
        calibration = calibration_requests(states, n_users, settings.items_per_call, seed)
        if len(ask_about) and not can_learn(simulator, calibration):
            calibration = []
        value = LLMValue.learn(simulator, dataset, interviewer.ask(calibration))
        ask_about = ask_about[value.may_help(simulator, pairs.take(ask_about))]
        answers = interviewer.ask(rating_requests(states, pairs.take(ask_about)))
    asked, llm, reasons = _by_pair(answers, dataset, pairs)
    if interviewer is not None:
        prediction = value.correct(prediction, simulator, pairs, llm)
    users = {state.user: state for state in answers.states}
    known_ratings = dataset.rating_of(pairs)
    return Simulation(
        pairs, prediction, prediction.sample(seed), statistical, asked, llm, reasons, known_ratings, users,
        value=[] if interviewer is None else value.about(),
    )  # fmt: skip


class UserStates:
    """The users of a dataset at any moment: their ratings, and the profiles that they have already."""

    def __init__(self, dataset: Dataset, timelines: Mapping[str, Timeline]) -> None:
        self.dataset, self._histories = dataset, Histories(dataset)
        self._timelines = {
            dataset.users.index.get_loc(name): t for name, t in timelines.items() if name in dataset.users.index
        }

    def now(self, user: int) -> UserState:
        """The user after all ratings of the dataset."""
        return UserState(user, self._histories.of(user), self._timelines.get(user, Timeline()))

    def before_last(self, user: int, n: int) -> tuple[UserState, History]:
        """The user before the last `n` ratings, without profile versions that rest on them; and these ratings."""
        history = self._histories.of(user)
        last = history.last(n)
        start = None if last.timestamp is None else int(last.timestamp[0])
        versions = self._timelines.get(user, Timeline()).versions
        # A version of the very second of a hidden rating may rest on it.
        timeline = Timeline(tuple(v for v in versions if start is not None and v.at is not None and v.at < start))
        return UserState(user, history.first(len(history) - n), timeline), last


def users_before(
    simulation: Simulation,
    dataset: Dataset,
    author: ProfileWriter,
    settings: ProfileSettings,
    timelines: Mapping[str, Timeline] | None = None,
) -> list[UserState]:
    """All known users of the simulation as they were before its ratings; `author` writes the profiles that lack."""
    states = UserStates(dataset, timelines or {})
    users = [simulation.users.get(user) or states.now(user) for user in simulation.pairs.rows_by_user()]
    return write_profiles(author, users, settings)


def advance(
    states: Sequence[UserState],
    simulation: Simulation,
    dataset: Dataset,
    author: ProfileWriter,
    settings: ProfileSettings,
) -> list[UserState]:
    """The users after the simulation: its ratings enter their histories, in order, and then their profiles."""
    pairs, rows = simulation.pairs, simulation.pairs.rows_by_user()
    later = [
        replace(state, history=state.history.then(pairs.item[rows[state.user]], simulation.ratings[rows[state.user]]))
        for state in states
    ]
    return update_profiles(author, dataset, later, settings)


def calibration_requests(states: UserStates, n_users: int, n_items: int, seed: int) -> list[RatingRequest]:
    """Requests about the last ratings of `n_users` users, as if these were not known: `n_items` each, at most half."""
    counts = states.dataset.user_counts
    users = np.sort(stream(seed, "learn from").permutation(np.flatnonzero(counts >= 2))[:n_users])
    has_text = np.array([bool(text) for text in item_texts(states.dataset)])
    before = [states.before_last(user, min(n_items, int(counts[user]) // 2)) for user in users.tolist()]
    return [RatingRequest(state, last.item[has_text[last.item]]) for state, last in before if has_text[last.item].any()]


def rating_requests(states: UserStates, pairs: Pairs) -> list[RatingRequest]:
    """The pairs as one request per user, users and items in order of first appearance."""
    return [RatingRequest(states.now(user), pairs.item[rows]) for user, rows in pairs.rows_by_user().items()]


def _by_pair(
    answers: LLMRatings, dataset: Dataset, pairs: Pairs
) -> tuple[NDArray[np.bool_], RatingDistribution, NDArray[np.object_]]:
    """For each pair: whether the model was asked, the distribution of its ratings (NaN without), its reason."""
    asked = answers.pairs.keys(dataset.n_items)
    row_of = pd.Series(np.arange(len(asked)), index=asked)
    row_of = row_of[~row_of.index.duplicated(keep="last")]
    rows = row_of.reindex(pairs.keys(dataset.n_items), fill_value=-1).to_numpy()
    probs = np.vstack([answers.distribution(dataset.scale).probs, np.full(dataset.scale.n_levels, np.nan)])
    return rows >= 0, RatingDistribution(dataset.scale, probs[rows]), np.append(answers.reasons, "")[rows]
