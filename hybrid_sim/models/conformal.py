"""Intervals that hold what they promise: split conformal prediction on the levels of the scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.models.support import Support
from hybrid_sim.types import FloatArray, IntArray, RatingDistribution

BUCKET_EDGES = (1, 6, 21)
"""Training ratings of the item at which the support buckets 1-5, 6-20 and > 20 begin; below is bucket 0."""

MIN_ROWS = 300


@dataclass(frozen=True)
class Interval:
    """Lowest and highest level of each pair's interval, in rating units, shape `(n_pairs,)`."""

    low: FloatArray
    high: FloatArray


@dataclass
class Conformal:
    """Levels join the most probable one, the likelier neighbour first, until their mass reaches a threshold.

    The threshold of each support bucket is the quantile at which held-out ratings were covered (Romano et al. 2020,
    adaptive prediction sets; Mondrian by bucket, Vovk 2012). A bucket with too few ratings uses the threshold of all.
    """

    coverage: float = 0.9
    thresholds_: FloatArray = field(init=False, repr=False)

    def fit(self, held: RatingDistribution, ratings: FloatArray, support: Support) -> Self:
        """Learn thresholds from distributions of ratings that were kept from their author.

        Rows that abstain teach nothing. With too few ratings for any promise an interval is the whole scale.
        """
        answered = held.answered
        held, ratings, support = held.take(answered), ratings[answered], support.take(answered)
        order, reached = _grow(held)
        place = np.argmax(order == held.scale.index(ratings)[:, None], axis=1)
        rows = np.arange(len(ratings))
        needed = np.where(place == 0, 0.0, reached[rows, np.maximum(place - 1, 0)])
        bucket = _buckets(support)
        self.thresholds_ = np.array(
            [
                self._threshold(needed[bucket == k] if (bucket == k).sum() >= MIN_ROWS else needed)
                for k in range(len(BUCKET_EDGES) + 1)
            ]
        )
        return self

    def _threshold(self, needed: FloatArray) -> float:
        """The smallest mass at which a share `coverage` of the ratings was inside."""
        rank = int(np.ceil((len(needed) + 1) * self.coverage))
        return float(np.sort(needed)[rank - 1]) if rank <= len(needed) else np.inf

    def interval(self, distribution: RatingDistribution, support: Support) -> Interval:
        """The interval of each pair; NaN where the distribution abstains."""
        order, reached = _grow(distribution)
        threshold = self.thresholds_[_buckets(support)][:, None]
        added = np.column_stack([np.ones(len(order), dtype=bool), reached[:, :-1] <= threshold])
        levels = distribution.scale.values[order]
        low = np.where(added, levels, np.inf).min(axis=1)
        high = np.where(added, levels, -np.inf).max(axis=1)
        missing = ~distribution.answered
        return Interval(np.where(missing, np.nan, low), np.where(missing, np.nan, high))


def _buckets(support: Support) -> IntArray:
    return np.searchsorted(BUCKET_EDGES, support.n_item, side="right")


def _grow(distribution: RatingDistribution) -> tuple[IntArray, FloatArray]:
    """Positions of levels in the order in which they join the interval, and the mass reached with each."""
    probs = np.nan_to_num(distribution.probs)
    n_pairs, n_levels = probs.shape
    padded = np.column_stack([np.full(n_pairs, -1.0), probs, np.full(n_pairs, -1.0)])
    rows = np.arange(n_pairs)
    low = high = probs.argmax(axis=1)
    order = np.empty((n_pairs, n_levels), dtype=np.int64)
    order[:, 0] = low
    for step in range(1, n_levels):
        down = padded[rows, low] > padded[rows, high + 2]
        low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
        order[:, step] = np.where(down, low, high)
    return order, np.cumsum(np.take_along_axis(probs, order, axis=1), axis=1)
