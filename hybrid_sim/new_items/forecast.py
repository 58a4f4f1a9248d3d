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
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import shortened
from hybrid_sim.core.frames import Framed
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, like_level
from hybrid_sim.ensemble.correction import N_PANEL
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.new_items.audience import Segment, Segments
from hybrid_sim.new_items.uncertainty import ItemMeanInterval
from hybrid_sim.retrieval.index import Neighbours
from hybrid_sim.simulation.explain import Explanation, explain
from hybrid_sim.simulation.interviewer import Interviewer
from hybrid_sim.simulation.simulate import LLMUse, Simulation, simulate
from hybrid_sim.simulation.simulator import Prediction, Simulator

N_KEYWORDS = 5

LIMITS = (
    "A text does not tell how well an item is made, nor who will come across it: items that are alike on paper are "
    "rated differently, so the intervals are wide."
)
"""What a forecast from texts cannot know, in a sentence."""


@dataclass(frozen=True)
class Fan:
    """A user who would like an item or rate it highly, with an explanation.

    `likes` is the probability of a like, `above_usual` the expected rating less the user's own mean.
    """

    user_id: str
    mean: float
    likes: float
    above_usual: float
    explanation: Explanation

    @property
    def own_ratings(self) -> str:
        """The two ratings of the user's own that speak most for the item, in words; "" without any."""
        cited = [cited for cited in self.explanation.evidence if cited.contribution > 0][:2]
        return " and ".join(f"{one.rating:g} for {shortened(one.title)}" for one in cited)


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
    more than they usually like items, `highest` would rate it highest, `segments` are groups that differ from the other
    users, and `keywords` what the item shares with what its fans liked. `similar` are the rated items with the most
    similar texts, `fits` the users whose profiles it fits best.
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
    highest: tuple[Fan, ...]
    segments: tuple[Segment, ...]
    similar: tuple[SimilarItem, ...]
    fits: tuple[Fit, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        users = {
            name: [{**vars(fan), "explanation": fan.explanation.to_json()} for fan in getattr(self, name)]
            for name in ("fans", "highest")
        }
        parts = {name: [asdict(part) for part in getattr(self, name)] for name in ("segments", "similar", "fits")}
        return {**vars(self), "keywords": list(self.keywords), **users, **parts}


@dataclass(frozen=True)
class Forecasts(Framed, Sequence[ItemForecast]):
    """The forecast of each item, and the simulation of every pair, all users of the first item first.

    `dataset` is the name of the data, `synthetic` if it is made up.
    """

    items: list[ItemForecast]
    simulation: Simulation
    dataset: str
    synthetic: bool = False

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
                "highest": " ".join(user.user_id for user in item.highest),
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
    pairs = Pairs(np.tile(users, len(items)), np.repeat(items, len(users)))
    user_ids, item_ids = dataset.users.index[pairs.user].tolist(), dataset.items.index[pairs.item].tolist()
    has_text = np.array([bool(text) for text in item_texts(dataset)])
    asked = np.flatnonzero(np.isin(pairs.user, panel) & has_text[pairs.item])
    simulation = simulate(simulator, dataset, user_ids, item_ids, interviewer, seed, ask_about=asked)
    forecaster = _Forecaster(simulator, dataset, items, users, simulation, like_from, level, n_shown)
    forecasts = [forecaster.of(row, item) for row, item in enumerate(items.tolist())]
    return Forecasts(forecasts, simulation, dataset.name, dataset.synthetic)


class _Forecaster:
    """What the forecasts of items share.

    Shape `(n_items, n_users)`: `means` are the expected ratings, `likes` the probabilities of a like, `above` the
    expected ratings less the users' own means; `probs` are the distributions, shape `(n_items, n_users, n_levels)`.
    """

    def __init__(
        self,
        simulator: Simulator,
        dataset: Dataset,
        items: IntArray,
        users: IntArray,
        simulation: Simulation,
        like_from: float,
        level: float,
        n_shown: int,
    ) -> None:
        self.dataset, self.users, self.like_from, self.level, self.n_shown = dataset, users, like_from, level, n_shown
        prediction, support = simulation.prediction, simulator.ensemble_.support_
        shape, levels = (-1, len(users)), np.array(prediction.distribution.scale.levels)
        self.probs = prediction.distribution.probs.reshape(*shape, len(levels))
        self.means, self.likes = self.probs @ levels, self.probs[:, :, levels >= like_from].sum(axis=2)
        self.above = self.means - support.user_shares_[users] @ support.levels_
        shift = prediction.distribution.mean() - simulation.statistical.mean()
        self.shift = shift.reshape(shape).mean(axis=1)
        self.answered = simulation.llm.answered.reshape(shape).sum(axis=1)
        self.intervals = self._intervals(simulator.ensemble_, items)
        self.segments = Segments(dataset.users.iloc[users], simulator.seed)
        # Among those who like it rather than not, if there are any: for a user who likes nothing a rating above the
        # usual is no like yet. Nobody is a fan whose rating would be below the usual.
        probable = self.likes > 0.5
        eager = (probable | ~probable.any(axis=1, keepdims=True)) & (self.above > 0.0)
        self.fans = self._first_users(simulator, simulation, np.where(eager, self.above, -np.inf))
        self.highest = self._first_users(simulator, simulation, self.means)
        titles = dataset.items["title"] if "title" in dataset.items else [""] * dataset.n_items
        self.titles = [title or str(item_id) for title, item_id in zip(titles, dataset.items.index, strict=True)]
        self.totals = np.bincount(dataset.item, weights=dataset.rating, minlength=dataset.n_items)
        self.item_index, self.profile_index = simulator.indexes(dataset)

    def of(self, row: int, item: int) -> ItemForecast:
        """The forecast of the item in a row of the arrays; `item` is its row number in the dataset."""
        means, likes, scale = self.means[row], self.likes[row], self.dataset.scale
        mean, probs = float(means.mean()), self.probs[row].mean(axis=0).tolist()
        low, high = self.intervals[row]
        return ItemForecast(
            item_id=str(self.dataset.items.index[item]),
            title=self.titles[item],
            n_users=len(self.users),
            mean=mean,
            low=low,
            high=high,
            level=self.level,
            likes=float(likes.mean()),
            like_from=self.like_from,
            panel=int(self.answered[row]),
            shift=float(self.shift[row]),
            probs={f"{level:g}": prob for level, prob in zip(scale.levels, probs, strict=True)},
            keywords=_common_keywords(self.fans[row]),
            fans=self.fans[row],
            highest=self.highest[row],
            segments=self.segments.of(means, likes, self.above[row]),
            similar=self._similar(item),
            fits=self._fits(item),
        )

    def _intervals(self, ensemble: Ensemble, items: IntArray) -> Sequence[tuple[float, float] | tuple[None, None]]:
        """The interval of each item's mean rating; nothing where too few items were held out to learn them."""
        scale = self.dataset.scale
        learned = ItemMeanInterval.learn(ensemble.cold_items_, scale)
        if learned is None:
            return [(None, None)] * len(items)
        ends = learned.interval(self.means.mean(axis=1), ensemble.item_features(items), scale, self.level)
        return [(low, high) for low, high in ends.tolist()]

    def _first_users(self, simulator: Simulator, simulation: Simulation, score: FloatArray) -> list[tuple[Fan, ...]]:
        """For each item the users with the highest finite scores."""
        order = np.argsort(-score, axis=1, kind="stable")[:, : self.n_shown]
        row, place = np.nonzero(np.isfinite(np.take_along_axis(score, order, axis=1)))
        column = order[row, place]
        pairs = row * len(self.users) + column
        reasons = simulation.reasons[pairs].tolist()
        explanations = explain(simulator, simulation.prediction.take(pairs), self.dataset, reasons)
        figures = np.column_stack([part[row, column] for part in (self.means, self.likes, self.above)]).tolist()
        fans = [
            Fan(one.user_id, mean, likes, above, one)
            for (mean, likes, above), one in zip(figures, explanations, strict=True)
        ]
        ends = np.searchsorted(row, np.arange(len(score) + 1))
        return [tuple(fans[start:end]) for start, end in pairwise(ends)]

    def _similar(self, item: int) -> tuple[SimilarItem, ...]:
        """The rated items with the most similar texts."""
        counts, ids = self.dataset.item_counts, self.dataset.items.index
        wanted = (counts > 0) & (np.arange(len(counts)) != item)
        search = partial(self.item_index.search, self.item_index.vectors_[[item]])
        return tuple(
            SimilarItem(str(ids[k]), self.titles[k], similarity, int(counts[k]), float(self.totals[k] / counts[k]))
            for k, similarity in _first(search, wanted, self.n_shown)
        )

    def _fits(self, item: int) -> tuple[Fit, ...]:
        """The users whose profiles the item fits best."""
        ids = self.dataset.users.index
        wanted = np.zeros(len(ids), dtype=bool)
        wanted[self.users] = True
        search = partial(self.profile_index.audience, self.item_index.vectors_[[item]])
        return tuple(Fit(str(ids[k]), score) for k, score in _first(search, wanted, self.n_shown))


def _common_keywords(fans: Sequence[Fan]) -> tuple[str, ...]:
    """What the item has in common with what more of its fans liked than disliked, the commonest first."""
    counts = Counter(keyword for fan in fans for keyword in fan.explanation.keywords)
    counts.subtract(keyword for fan in fans for keyword in fan.explanation.against)
    return tuple(keyword for keyword, n in counts.most_common(N_KEYWORDS) if n > 0)


def _first(search: Callable[[int], Neighbours], wanted: NDArray[np.bool_], n: int) -> list[tuple[int, float]]:
    """The first `n` wanted rows that a search finds, with their similarities above 0; it is widened until there are."""
    k = 4 * n
    while True:
        nearest = search(k)
        places = np.flatnonzero(nearest.similarities[0] > 0)  # NaN, where nothing was found, is not above 0
        rows = nearest.rows[0, places]
        first = np.flatnonzero(wanted[rows])[:n]
        if len(first) == n or len(places) < k or k >= len(wanted):
            return list(zip(rows[first].tolist(), nearest.similarities[0, places[first]].tolist(), strict=True))
        k *= 4
