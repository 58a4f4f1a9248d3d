"""How one person's answers hang together: learned from ratings that a simulator was not fitted to.

Parameters maximise the log likelihood of each user's later training ratings, one after the other, given those before
them (prequential likelihood, Dawid 1984). Held-out ratings of a protocol have no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution
from hybrid_sim.environments.belief import CutArray, cutpoints, sequential_probabilities

N_TASTES = 16
"""Dimensions of the taste vector."""

MOST = 0.9
"""Largest share of a latent variance that people's level and taste may have together."""


@dataclass(frozen=True)
class Correlation:
    """Shares of the variance of a latent rating that come from the person's `level` and `taste`."""

    level: float
    taste: float

    def prior(self, n_tastes: int) -> FloatArray:
        """The diagonal of Σ₀, shape `(1 + n_tastes,)`."""
        return np.append(self.level, np.full(n_tastes, self.taste))


@dataclass(frozen=True)
class Sequences:
    """Ratings user by user in the order of time, with the cutpoints of their predictions.

    `rows` are the row numbers in the dataset, `starts` the first rating of each user and, last, the end.
    """

    rows: IntArray
    starts: IntArray
    item: IntArray
    level: IntArray
    cuts: CutArray

    @classmethod
    def of(cls, ratings: Dataset, predicted: RatingDistribution) -> Sequences:
        """The ratings of a dataset, of which `predicted` has a row each."""
        time = np.zeros(len(ratings), dtype=np.int64) if ratings.timestamp is None else ratings.timestamp
        order = np.lexsort((time, ratings.user))
        starts = np.concatenate([[0], np.cumsum(ratings.user_counts)]).astype(np.int64)
        level = ratings.scale.index(ratings.rating)[order]
        return cls(order, starts, ratings.item[order], level, cutpoints(predicted)[order])

    def predicted(self, features: FloatArray, correlation: Correlation, n_learned: int = -1) -> FloatArray:
        """The distribution of each rating given the user's ratings before it, `(n_ratings, n_levels)`, dataset order.

        `n_learned` bounds how many of each user's first ratings are learned from (-1: all).
        """
        prior = correlation.prior(features.shape[1] - 1)
        probs = np.empty((len(self.item), self.cuts.shape[1] + 1))
        probs[self.rows] = sequential_probabilities(
            self.starts, self.item, self.level, self.cuts, features, prior, n_learned
        )
        return probs

    def log_loss(self, features: FloatArray, correlation: Correlation) -> float:
        """The mean negative log probability of each rating given the user's ratings before it."""
        probs = self.predicted(features, correlation)[self.rows]
        return float(-np.log(np.maximum(probs[np.arange(len(probs)), self.level], 1e-12)).mean())


def item_features(vectors: FloatArray) -> FloatArray:
    """(1, unit vector) of each item, shape `(n_items, 1 + N_TASTES)`: the leading principal axes of `vectors`.

    An item without a vector has no taste, only the person's level.
    """
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    tastes = vectors @ axes[:N_TASTES].T
    lengths = np.linalg.norm(tastes, axis=1, keepdims=True)
    return np.hstack([np.ones((len(tastes), 1)), tastes / np.where(lengths > 1e-9, lengths, 1.0)])


def learn_correlation(sequences: Sequences, features: FloatArray) -> Correlation:
    """The correlation with the smallest log loss on these ratings (Nelder and Mead 1965)."""

    def correlation(x: FloatArray) -> Correlation:
        shares = MOST * expit(x)
        level, taste = (shares / max(1.0, shares.sum() / MOST)).tolist()
        return Correlation(level, taste)

    start = logit(np.array([0.05, 0.10]) / MOST)
    options = {"xatol": 0.02, "fatol": 1e-6, "maxiter": 100}
    best = minimize(
        lambda x: sequences.log_loss(features, correlation(x)), start, method="Nelder-Mead", options=options
    )
    return correlation(best.x)
