"""The plainest raters: how ratings are distributed over all, over one user's, or over one item's ratings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import rater
from hybrid_sim.models.training import require_positive, require_ratings


@rater("global_mean", order=0)
@dataclass
class GlobalMean:
    """The histogram of all ratings, whoever is asked about whatever: always an answer.

    `smoothing` pseudo-ratings are spread evenly over the levels, so that no level is impossible.
    """

    smoothing: float = 1.0
    scale_: RatingScale = field(init=False, repr=False)
    probs_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, smoothing=self.smoothing)

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels; `probs_` has shape `(n_levels,)`.

        Raises:
            DataError: there are no ratings.
        """
        require_ratings(dataset)
        self.scale_ = dataset.scale
        self.probs_ = _histogram(dataset, self.smoothing)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The same distribution for every pair."""
        return RatingDistribution(self.scale_, np.tile(self.probs_, (len(pairs), 1)))


@dataclass
class _GroupMean:
    """Histograms per user or item, shrunk to that of all ratings."""

    smoothing: float = 5.0
    scale_: RatingScale = field(init=False, repr=False)
    probs_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, smoothing=self.smoothing)

    def _fit(self, dataset: Dataset, rows: IntArray, n_rows: int) -> Self:
        require_ratings(dataset)
        self.scale_ = dataset.scale
        n_levels = dataset.scale.n_levels
        cells = rows * n_levels + dataset.scale.index(dataset.rating)
        counts = np.bincount(cells, minlength=n_rows * n_levels).reshape(n_rows, n_levels)
        n_ratings = counts.sum(axis=1, keepdims=True)
        shrunk = (counts + self.smoothing * _histogram(dataset, smoothing=1.0)) / (n_ratings + self.smoothing)
        self.probs_ = np.where(n_ratings > 0, shrunk, np.nan)
        return self

    def _of(self, rows: IntArray) -> RatingDistribution:
        return RatingDistribution(self.scale_, np.where(rows[:, None] >= 0, self.probs_[rows], np.nan))


@rater("user_mean", order=1)
@dataclass
class UserMean(_GroupMean):
    """The histogram of the user's ratings, shrunk to that of all; abstains for a user without ratings.

    The histogram of all counts as `smoothing` ratings of the user's own.
    """

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels per user; `probs_` has shape `(n_users, n_levels)`, NaN for users without ratings.

        Raises:
            DataError: there are no ratings.
        """
        return self._fit(dataset, dataset.user, dataset.n_users)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The distribution of each pair's user."""
        return self._of(pairs.user)


@rater("item_mean", order=2)
@dataclass
class ItemMean(_GroupMean):
    """The histogram of the item's ratings, shrunk to that of all; abstains for an item without ratings.

    The histogram of all counts as `smoothing` ratings of the item's own.
    """

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels per item; `probs_` has shape `(n_items, n_levels)`, NaN for items without ratings.

        Raises:
            DataError: there are no ratings.
        """
        return self._fit(dataset, dataset.item, dataset.n_items)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The distribution of each pair's item."""
        return self._of(pairs.item)


def _histogram(dataset: Dataset, smoothing: float) -> FloatArray:
    n_levels = dataset.scale.n_levels
    counts = np.bincount(dataset.scale.index(dataset.rating), minlength=n_levels) + smoothing / n_levels
    return np.asarray(counts / counts.sum())
