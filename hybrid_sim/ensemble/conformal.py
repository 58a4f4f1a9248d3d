"""Intervals with calibrated coverage: split conformal prediction on the levels of the scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution
from hybrid_sim.models.support import Support

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
    """Intervals of levels around the most probable one that grow to the likelier side until they hold enough mass.

    The threshold of each support bucket is the quantile of the mass at which held-out ratings were covered (Romano et
    al. 2020, adaptive prediction sets; Mondrian by bucket, Vovk 2012): coverage holds in each bucket and not only on
    average. A bucket with fewer than `MIN_ROWS` ratings uses the threshold of all.
    """

    coverage: float = 0.9
    thresholds_: FloatArray = field(init=False, repr=False)

    def fit(
        self, held: RatingDistribution, ratings: FloatArray, support: Support, weights: FloatArray | None = None
    ) -> Self:
        """Learn thresholds from out-of-fold distributions of `ratings`.

        `weights` of shape `(n_pairs,)` say how much each counts (None: all the same). Rows that abstain are left out.
        With too few ratings for this coverage an interval is the whole scale.
        """
        answered = held.answered
        weights = np.ones(len(held)) if weights is None else weights
        held, support = held.take(answered), support.take(answered)
        ratings, weights = ratings[answered], weights[answered]
        order, reached = _grow(held)
        place = np.argmax(order == held.scale.index(ratings)[:, None], axis=1)
        rows = np.arange(len(ratings))
        # A level joins while the mass before it is at most the threshold: that mass is a rating's conformity score.
        needed = np.where(place == 0, 0.0, reached[rows, np.maximum(place - 1, 0)])
        bucket = _buckets(support)
        rows_of = [_enough(bucket == k) for k in range(len(BUCKET_EDGES) + 1)]
        self.thresholds_ = np.array([self._threshold(needed[rows], weights[rows]) for rows in rows_of])
        return self

    def _threshold(self, needed: FloatArray, weights: FloatArray) -> float:
        """The smallest mass at which a share `coverage` of the weight was inside, one more rating being outside.

        Weighted as in Tibshirani et al. 2019, with the mean weight for the rating to come: counted as not covered, it
        makes the coverage hold in finite samples.
        """
        order = np.argsort(needed, kind="stable")
        inside = np.cumsum(weights[order])
        total = weights.sum() + weights.mean() if len(weights) else 1.0
        reached = np.flatnonzero(inside >= self.coverage * total - 1e-9)  # rounding must not cost a level
        return float(needed[order[reached[0]]]) if len(reached) else np.inf

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


def _enough(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """These rows, or all where they are too few."""
    return rows if rows.sum() >= MIN_ROWS else np.ones_like(rows)


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
