"""Forecasts of new items: how users would rate them, who would like them most and why, and similar rated items.

The simulator has the new items already, fitted or refitted with them (`hybrid_sim.new_items.run`). A language model, if
there is one, is asked about each item for a panel of users; its ratings then correct the predictions of all users
(`hybrid_sim.simulation.llm_value`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.frames import Framed
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingScale
from hybrid_sim.ensemble.correction import N_PANEL
from hybrid_sim.new_items.audience import Segment, Segments
from hybrid_sim.new_items.uncertainty import ItemMeanInterval
from hybrid_sim.retrieval.index import Neighbours
from hybrid_sim.simulation.explain import Explanation, explain
from hybrid_sim.simulation.interviewer import Interviewer
from hybrid_sim.simulation.simulate import LLMUse, Simulation, simulate
from hybrid_sim.simulation.simulator import Prediction, Simulator

LIKED_FROM = 0.6
"""Ratings in the upper 40% of the scale's range are likes: 4 and 5 of 1 to 5, 3.5 and more of 0.5 to 5."""

N_KEYWORDS = 5


@dataclass(frozen=True)
class Fan:
    """A user who would like an item, with an explanation.

    `likes` is the probability of a like, `above_usual` the expected rating less the user's own mean.
    """

    user_id: str
    mean: float
    likes: float
    above_usual: float
    explanation: Explanation


@dataclass(frozen=True)
class SimilarItem:
    """A rated item, the cosine of its text and the new item's, and how it was rated."""

    item_id: str
    title: str
    similarity: float
    n_ratings: int
    mean_rating: float


@dataclass(frozen=True)
class Fit:
    """A user whose profile an item fits: cos(likes, item) - cos(dislikes, item), between -2 and 2."""

    user_id: str
    score: float


@dataclass(frozen=True)
class ItemForecast:
    """How users would rate one new item.

    `mean` is the expected rating, `likes` the expected share of ratings from `like_from` upwards and `probs` the
    distribution over the levels, all averaged over `n_users` users. `low` and `high` enclose the mean that the item's
    ratings will have, with probability `level` (see `ItemMeanInterval`); None where that could not be learned. A
    language model answered for `panel` users, and its correction moved `mean` by `shift`. `fans` would like the item
    most, `segments` are groups of users, and `keywords` what the item shares with what its fans liked. `similar` are
    the rated items with the most similar texts, `fits` the users whose profiles it fits best.
    """

    item_id: str
    title: str
    n_users: int
    mean: float
    low: float | None
    high: float | None
    level: float
    likes: float
    like_from: float
    panel: int
    shift: float
    probs: dict[str, float]
    keywords: tuple[str, ...]
    fans: tuple[Fan, ...]
    segments: tuple[Segment, ...]
    similar: tuple[SimilarItem, ...]
    fits: tuple[Fit, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        fans = [{**vars(fan), "explanation": fan.explanation.to_json()} for fan in self.fans]
        parts = {name: [asdict(part) for part in getattr(self, name)] for name in ("segments", "similar", "fits")}
        return {**vars(self), "keywords": list(self.keywords), "fans": fans, **parts}


@dataclass(frozen=True)
class Forecasts(Framed, Sequence[ItemForecast]):
    """The forecast of each item, and the simulation of every pair, all users of the first item first."""

    items: list[ItemForecast]
    simulation: Simulation

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: Any) -> Any:
        return self.items[place]

    def __repr__(self) -> str:
        return f"Forecasts({len(self)} new items, {self[0].n_users if self.items else 0:,} users)"

    @property
    def prediction(self) -> Prediction:
        """The prediction of every pair."""
        return self.simulation.prediction

    def with_use(self, use: LLMUse) -> Forecasts:
        """The same with what a language model was asked."""
        return replace(self, simulation=replace(self.simulation, use=use))

    def to_frame(self) -> pd.DataFrame:
        """A row per item; fans, keywords and similar items as ids and words between spaces."""
        plain = ("item_id", "title", "n_users", "mean", "low", "high", "likes", "like_from", "panel", "shift")
        rows = [
            {
                **{name: getattr(item, name) for name in plain},
                **{f"p_{level}": prob for level, prob in item.probs.items()},
                "fans": " ".join(fan.user_id for fan in item.fans),
                "keywords": " ".join(item.keywords),
                "similar": " ".join(other.item_id for other in item.similar),
                "fits": " ".join(fit.user_id for fit in item.fits),
            }
            for item in self
        ]
        return pd.DataFrame(rows)


def forecast_items(
    simulator: Simulator,
    dataset: Dataset,
    items: IntArray,
    users: IntArray | None = None,
    *,
    like_from: float | None = None,
    n_shown: int = 5,
    level: float = 0.9,
    interviewer: Interviewer | None = None,
    n_panel: int = N_PANEL,
    seed: int = 0,
) -> Forecasts:
    """How users would rate items.

    `items` and `users` are row numbers of `dataset`, which the simulator was fitted or refitted to; None: all users
    with ratings. Ratings from `like_from` upwards are likes (None: those in the upper 40% of the scale). `n_shown` fans
    and similar items are given for each item. `interviewer` asks a language model about every item for the same
    `n_panel` of the users, drawn by `seed`.

    Raises:
        SettingsError: the simulator was fitted to other data, there are no users, or `like_from` is beyond the scale.
    """
    simulator.require_fitted_to(dataset)
    users = np.flatnonzero(dataset.user_counts) if users is None else np.unique(users)
    if not len(users):
        raise SettingsError(f"there is no user to ask in {dataset.name}; name data with ratings")
    like_from = like_level(dataset.scale, like_from)
    panel = stream(seed, "panel").permutation(users)[:n_panel]  # by chance: who will rate an item is not known
    simulation = _simulated(simulator, dataset, items, users, panel, interviewer, seed)
    prediction, shape = simulation.prediction, (len(items), len(users))
    shift = (prediction.distribution.mean() - simulation.statistical.mean()).reshape(shape).mean(axis=1)
    answered = simulation.llm.answered.reshape(shape).sum(axis=1)
    support = simulator.ensemble_.support_
    answers = _Answers.of(prediction, support.user_shares_[users] @ support.levels_, like_from)
    fans = _fans(simulator, dataset, users, simulation, answers, n_shown)
    uncertainty = ItemMeanInterval.learn(simulator.ensemble_, dataset)
    segments, catalogue = Segments(dataset.users.iloc[users], simulator.seed), _Catalogue(simulator, dataset)
    forecasts = []
    for row, item in enumerate(items.tolist()):
        means, likes, mean = answers.means[row], answers.likes[row], float(answers.means[row].mean())
        low, high = (None, None) if uncertainty is None else uncertainty.interval(mean, dataset.scale, level)
        by_level = zip(dataset.scale.levels, answers.probs[row].mean(axis=0).tolist(), strict=True)
        one = ItemForecast(
            item_id=str(dataset.items.index[item]),
            title=catalogue.titles[item],
            n_users=len(users),
            mean=mean,
            low=low,
            high=high,
            level=level,
            likes=float(likes.mean()),
            like_from=like_from,
            panel=int(answered[row]),
            shift=float(shift[row]),
            probs={f"{name:g}": prob for name, prob in by_level},
            keywords=_common_keywords(fans[row]),
            fans=fans[row],
            segments=segments.of(means, likes, answers.above[row]),
            similar=catalogue.similar(item, n_shown),
            fits=catalogue.fits(item, users, n_shown),
        )
        forecasts.append(one)
    return Forecasts(forecasts, simulation)


def _simulated(
    simulator: Simulator,
    dataset: Dataset,
    items: IntArray,
    users: IntArray,
    panel: IntArray,
    interviewer: Interviewer | None,
    seed: int,
) -> Simulation:
    """Every user about every item, the language model for the panel about those that have a text."""
    pairs = Pairs(np.tile(users, len(items)), np.repeat(items, len(users)))
    user_ids, item_ids = dataset.users.index[pairs.user].tolist(), dataset.items.index[pairs.item].tolist()
    has_text = np.array([bool(text) for text in item_texts(dataset)])
    asked = np.flatnonzero(np.isin(pairs.user, panel) & has_text[pairs.item])
    return simulate(simulator, dataset, user_ids, item_ids, interviewer, seed, ask_about=asked)


@dataclass(frozen=True)
class _Answers:
    """What every user says about every item, shape `(n_items, n_users)`.

    The expected rating, the probability of a like, how far the expected rating is above the user's own mean, and the
    distribution, shape `(n_items, n_users, n_levels)`.
    """

    means: FloatArray
    likes: FloatArray
    above: FloatArray
    probs: FloatArray

    @classmethod
    def of(cls, prediction: Prediction, usual: FloatArray, like_from: float) -> _Answers:
        """`usual` are the users' own means, in the order of the prediction's users."""
        levels = np.array(prediction.distribution.scale.levels)
        probs = prediction.distribution.probs.reshape(-1, len(usual), len(levels))
        means, liked = probs @ levels, levels >= like_from
        return cls(means, probs[:, :, liked].sum(axis=2), means - usual, probs)


def like_level(scale: RatingScale, like_from: float | None = None) -> float:
    """The lowest level that is a like: the first from `like_from` upwards, or from 60% of the way up the scale.

    >>> like_level(RatingScale((1, 2, 3, 4, 5)))
    4.0

    Raises:
        SettingsError: no level of the scale, or every one, would be a like.
    """
    wanted = scale.low + LIKED_FROM * (scale.high - scale.low) if like_from is None else like_from
    liked = [level for level in scale.levels if level >= wanted - 1e-9]
    if not 0 < len(liked) < scale.n_levels:
        raise SettingsError(
            f"likes from {wanted:g} upwards are all or none of the scale {scale}; choose a level within"
        )
    return liked[0]


def _fans(
    simulator: Simulator,
    dataset: Dataset,
    users: IntArray,
    simulation: Simulation,
    answers: _Answers,
    n_shown: int,
) -> list[tuple[Fan, ...]]:
    """For each item the users who would like it most beyond their own usual.

    Among those who like it rather than not, if there are any: some users like everything, and for a user who likes
    nothing a rating above the usual is no like yet. Nobody is a fan whose rating would be below the usual.
    """
    means, likes, above = answers.means, answers.likes, answers.above
    probable = likes > 0.5
    eager = np.where((probable | ~probable.any(axis=1, keepdims=True)) & (above > 0.0), above, -np.inf)
    order = np.argsort(-eager, axis=1, kind="stable")[:, :n_shown]
    row, place = np.nonzero(np.isfinite(np.take_along_axis(eager, order, axis=1)))
    column = order[row, place]
    rows = row * len(users) + column
    explanations = explain(simulator, simulation.prediction.take(rows), dataset, simulation.reasons[rows].tolist())
    fans = [
        Fan(explanation.user_id, float(means[k, u]), float(likes[k, u]), float(above[k, u]), explanation)
        for k, u, explanation in zip(row, column, explanations, strict=True)
    ]
    ends = np.searchsorted(row, np.arange(len(means) + 1))
    return [tuple(fans[ends[k] : ends[k + 1]]) for k in range(len(means))]


def _common_keywords(fans: Sequence[Fan]) -> tuple[str, ...]:
    """What the item has in common with what more of its fans liked than disliked, the commonest first."""
    counts = Counter(keyword for fan in fans for keyword in fan.explanation.keywords)
    counts.subtract(keyword for fan in fans for keyword in fan.explanation.against)
    return tuple(keyword for keyword, n in counts.most_common(N_KEYWORDS) if n > 0)


class _Catalogue:
    """The rated items and the users' profiles, found by the simulator's indexes."""

    def __init__(self, simulator: Simulator, dataset: Dataset) -> None:
        items = dataset.items
        titles = items["title"].tolist() if "title" in items else [""] * len(items)
        self.titles = [title or str(item_id) for title, item_id in zip(titles, items.index, strict=True)]
        self._item_ids, self._user_ids, self._counts = items.index, dataset.users.index, dataset.item_counts
        self._totals = np.bincount(dataset.item, weights=dataset.rating, minlength=dataset.n_items)
        self._items, self._profiles = simulator.indexes(dataset)

    def similar(self, item: int, n: int) -> tuple[SimilarItem, ...]:
        """The rated items with the most similar texts."""
        wanted = (self._counts > 0) & (np.arange(len(self._counts)) != item)
        text = self._items.vectors_[[item]]
        return tuple(
            SimilarItem(
                str(self._item_ids[row]),
                self.titles[row],
                similarity,
                int(self._counts[row]),
                float(self._totals[row] / self._counts[row]),
            )
            for row, similarity in _first(partial(self._items.search, text), wanted, n)
        )

    def fits(self, item: int, users: IntArray, n: int) -> tuple[Fit, ...]:
        """Those of `users` whose profiles the item fits best."""
        wanted = np.zeros(len(self._user_ids), dtype=bool)
        wanted[users] = True
        nearest = _first(partial(self._profiles.audience, self._items.vectors_[[item]]), wanted, n)
        return tuple(Fit(str(self._user_ids[row]), score) for row, score in nearest)


def _first(search: Callable[[int], Neighbours], wanted: NDArray[np.bool_], n: int) -> list[tuple[int, float]]:
    """The first `n` wanted rows that a search finds, with their similarities above 0; it is widened until there are."""
    k = 4 * n
    while True:
        nearest = search(k)
        places = np.flatnonzero(nearest.similarities[0] > 0)  # NaN, where nothing was found, is not above 0
        rows = nearest.rows[0, places]
        chosen = np.flatnonzero(wanted[rows])[:n]
        if len(chosen) == n or len(places) < k or k >= len(wanted):
            return list(zip(rows[chosen].tolist(), nearest.similarities[0, places[chosen]].tolist(), strict=True))
        k *= 4
