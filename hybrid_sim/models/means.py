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


@rater("user_mean", order=1)
@dataclass
class UserMean:
    """The histogram of the user's own ratings, shrunk to that of all ratings; abstains for a user without
    ratings.

    The histogram of all counts as `smoothing` ratings of the user's own.
    """

    smoothing: float = 5.0
    scale_: RatingScale = field(init=False, repr=False)
    probs_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, smoothing=self.smoothing)

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels per user; `probs_` has shape `(n_users, n_levels)`, NaN for users without ratings.

        Raises:
            DataError: there are no ratings.
        """
        require_ratings(dataset)
        self.scale_ = dataset.scale
        self.probs_ = _histograms(dataset, dataset.user, dataset.n_users, self.smoothing)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The distribution of each pair's user."""
        return RatingDistribution(self.scale_, _look_up(self.probs_, pairs.user))


@rater("item_mean", order=2)
@dataclass
class ItemMean:
    """The histogram of the item's ratings, shrunk to that of all ratings; abstains for an item without
    ratings.

    The histogram of all counts as `smoothing` ratings of the item's own.
    """

    smoothing: float = 5.0
    scale_: RatingScale = field(init=False, repr=False)
    probs_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, smoothing=self.smoothing)

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels per item; `probs_` has shape `(n_items, n_levels)`, NaN for items without ratings.

        Raises:
            DataError: there are no ratings.
        """
        require_ratings(dataset)
        self.scale_ = dataset.scale
        self.probs_ = _histograms(dataset, dataset.item, dataset.n_items, self.smoothing)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The distribution of each pair's item."""
        return RatingDistribution(self.scale_, _look_up(self.probs_, pairs.item))


def _histogram(dataset: Dataset, smoothing: float) -> FloatArray:
    n_levels = dataset.scale.n_levels
    counts = np.bincount(dataset.scale.index(dataset.rating), minlength=n_levels) + smoothing / n_levels
    return np.asarray(counts / counts.sum())


def _histograms(dataset: Dataset, rows: IntArray, n_rows: int, smoothing: float) -> FloatArray:
    n_levels = dataset.scale.n_levels
    cells = rows * n_levels + dataset.scale.index(dataset.rating)
    counts = np.bincount(cells, minlength=n_rows * n_levels).reshape(n_rows, n_levels)
    n_ratings = counts.sum(axis=1, keepdims=True)
    shrunk = (counts + smoothing * _histogram(dataset, smoothing=1.0)) / (n_ratings + smoothing)
    return np.where(n_ratings > 0, shrunk, np.nan)


def _look_up(probs: FloatArray, rows: IntArray) -> FloatArray:
    return np.where(rows[:, None] >= 0, probs[rows], np.nan)
