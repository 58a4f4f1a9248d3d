"""The plainest raters: how ratings are distributed over all, over one user's, or over one item's ratings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import rater
from hybrid_sim.models.training import require_positive, require_ratings


@rater("global_mean", order=0)
@dataclass
class GlobalMean:
    """The histogram of all ratings, the same for every pair; it never abstains.

    `smoothing` pseudo-ratings are spread evenly over the levels, so that no level is impossible. `probs_` has shape
    `(n_levels,)`.
    """

    smoothing: float = 1.0
    scale_: RatingScale = field(init=False, repr=False)
    probs_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, smoothing=self.smoothing)

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels."""
        require_ratings(dataset)
        self.scale_ = dataset.scale
        n_levels = dataset.scale.n_levels
        counts = np.bincount(dataset.scale.index(dataset.rating), minlength=n_levels) + self.smoothing / n_levels
        self.probs_ = np.asarray(counts / counts.sum())
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The same distribution for every pair."""
        return RatingDistribution(self.scale_, np.tile(self.probs_, (len(pairs), 1)))


@dataclass
class _GroupMean:
    """The histogram of each user's (or item's) ratings, to which that of all is added as `smoothing` ratings.

    Abstains for a user (an item) without ratings. `probs_` has a row per user (item).
    """

    side: ClassVar[Literal["user", "item"]]
    smoothing: float = 5.0
    scale_: RatingScale = field(init=False, repr=False)
    probs_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, smoothing=self.smoothing)

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels of each user (item)."""
        overall = GlobalMean().fit(dataset).probs_
        self.scale_ = dataset.scale
        n_levels, n_rows = len(overall), len(getattr(dataset, f"{self.side}s"))
        cells = getattr(dataset, self.side) * n_levels + dataset.scale.index(dataset.rating)
        counts = np.bincount(cells, minlength=n_rows * n_levels).reshape(n_rows, n_levels)
        n_ratings = counts.sum(axis=1, keepdims=True)
        shrunk = (counts + self.smoothing * overall) / (n_ratings + self.smoothing)
        self.probs_ = np.where(n_ratings > 0, shrunk, np.nan)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The distribution of each pair's user (item)."""
        rows = getattr(pairs, self.side)
        return RatingDistribution(self.scale_, np.where(rows[:, None] >= 0, self.probs_[rows], np.nan))


@rater("user_mean", order=1)
class UserMean(_GroupMean):
    """The histogram of the user's ratings, shrunk to that of all; abstains for a user without ratings."""

    side = "user"


@rater("item_mean", order=2)
class ItemMean(_GroupMean):
    """The histogram of the item's ratings, shrunk to that of all; abstains for an item without ratings."""

    side = "item"
