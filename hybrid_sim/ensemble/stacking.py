"""Two steps of the combiner: expected ratings by a ridge regression on the members' means, and the shares of levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.optimize import minimize

from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution, RatingScale, dot_rows
from hybrid_sim.models.support import Support


@dataclass
class LinearStack:
    """Feature-weighted linear stacking (Sill et al. 2009).

    Each member's weight is a linear function of the logarithms of how many ratings user and item have. `strength`
    is the ridge penalty, in ratings. With `weighted` False it is the members' plain average instead.
    """

    strength: float = 30.0
    weighted: bool = True
    centre_: float = field(init=False, repr=False)
    coefficients_: FloatArray = field(init=False, repr=False)

    def fit(self, means: FloatArray, support: Support, ratings: FloatArray) -> Self:
        """Learn from members' means, shape `(n_pairs, n_members)`, without gaps."""
        self.centre_ = float(ratings.mean())
        if not self.weighted:
            n = means.shape[1]
            self.coefficients_ = np.concatenate([[0.0], np.full(n, 1.0 / n), np.zeros(2 * n + 2)])
            return self
        design = self._design(means, support)
        penalty = np.full(design.shape[1], self.strength)
        penalty[0] = 0.0
        system = design.T @ design + np.diag(penalty)
        self.coefficients_ = np.asarray(np.linalg.solve(system, design.T @ (ratings - self.centre_)))
        return self

    def predict(self, means: FloatArray, support: Support) -> FloatArray:
        """Expected ratings, shape `(n_pairs,)`, not moved into the scale."""
        if not self.weighted:
            return np.asarray(means.mean(axis=1))
        return self.centre_ + dot_rows(self._design(means, support), self.coefficients_)

    def weights(self, support: Support) -> FloatArray:
        """The weight of each member for each pair, shape `(n_pairs, n_members)`: predictions are linear in the means.

        `predict` is `offset + Σ weights × (means - centre_)`.
        """
        n = (len(self.coefficients_) - 3) // 3
        plain, of_user, of_item = (self.coefficients_[first : first + n] for first in (1, n + 3, 2 * n + 3))
        by_user, by_item = _log_counts(support)
        return np.asarray(plain + by_user[:, None] * of_user + by_item[:, None] * of_item)

    def offset(self, support: Support) -> FloatArray:
        """The prediction where every member's mean is `centre_`, shape `(n_pairs,)`."""
        n = (len(self.coefficients_) - 3) // 3
        alone = self.coefficients_[[0, n + 1, n + 2]]
        by_user, by_item = _log_counts(support)
        return np.asarray(self.centre_ + alone[0] + by_user * alone[1] + by_item * alone[2])

    def _design(self, means: FloatArray, support: Support) -> FloatArray:
        """Columns: one, the centred means, both log counts, and the means times either log count."""
        centred = means - self.centre_
        by_user, by_item = _log_counts(support)
        products = centred * by_user[:, None], centred * by_item[:, None]
        return np.column_stack([np.ones(len(means)), centred, by_user, by_item, *products])


def _log_counts(support: Support) -> tuple[FloatArray, FloatArray]:
    """Logarithms of how many ratings user and item have, about centred: zero at 54 ratings."""
    return np.log1p(support.n_user) - 4.0, np.log1p(support.n_item) - 4.0


MAX_FIT_CELLS = 3_000_000
"""Pairs times levels that a fit looks at; it has a dozen weights, more rows change nothing."""

MAX_PREDICT_CELLS = 500_000
"""Pairs times levels that are shaped at a time: their features take 80 bytes each, in several copies."""


@dataclass
class LevelShape:
    """A conditional logit over the levels (McFadden 1974), then tilted to the expected rating.

    A level's utility is linear in: the logarithm of the probability that the best ordinal member gives it, its distance
    to the expected rating (plain, and per spread of the user and of that member), and how often user and item got it.
    """

    penalty: float = 1.0
    scale_: RatingScale = field(init=False, repr=False)
    weights_: FloatArray = field(init=False, repr=False)
    offsets_: FloatArray = field(init=False, repr=False)
    centre_: FloatArray = field(init=False, repr=False)
    spread_: FloatArray = field(init=False, repr=False)

    def fit(self, reference: RatingDistribution, mean: FloatArray, support: Support, ratings: FloatArray) -> Self:
        """Learn from `reference` distributions and expected ratings `mean` about pairs with known `ratings`."""
        self.scale_ = reference.scale
        n_levels = self.scale_.n_levels
        rows = np.arange(0, len(ratings), max(1, len(ratings) * n_levels // MAX_FIT_CELLS))
        utility = self._utilities(reference.take(rows), mean[rows], support.take(rows))
        n_features = utility.shape[2]
        flat = utility.reshape(-1, n_features)
        self.centre_, self.spread_ = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-9)
        utility = (utility - self.centre_) / self.spread_
        level = self.scale_.index(ratings[rows])
        solution = minimize(
            _negative_log_likelihood,
            np.zeros(n_features + n_levels),
            args=(utility, level, self.penalty),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 200},
        ).x
        self.weights_, self.offsets_ = solution[:n_features], solution[n_features:]
        return self

    def predict(self, reference: RatingDistribution, mean: FloatArray, support: Support) -> RatingDistribution:
        """Distributions with exactly the expected ratings `mean`."""
        step = max(1, MAX_PREDICT_CELLS // self.scale_.n_levels)
        probs = np.empty_like(reference.probs)
        for start in range(0, len(mean), step):
            rows = np.arange(start, min(start + step, len(mean)))
            probs[rows] = self._tilted(reference.take(rows), mean[rows], support.take(rows)).probs
        return RatingDistribution(self.scale_, probs)

    def _tilted(self, reference: RatingDistribution, mean: FloatArray, support: Support) -> RatingDistribution:
        utility = (self._utilities(reference, mean, support) - self.centre_) / self.spread_
        utility = dot_rows(utility, self.weights_) + self.offsets_
        probs = np.exp(utility - utility.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        return RatingDistribution(self.scale_, probs).tilted_to(mean)

    def _utilities(self, reference: RatingDistribution, mean: FloatArray, support: Support) -> FloatArray:
        """Features of every level, shape `(n_pairs, n_levels, n_features)`."""
        levels = self.scale_.values
        unit = (levels[-1] - levels[0]) / 4.0
        place = (levels - levels.mean()) / unit
        apart = -(((levels - mean[:, None]) / unit) ** 2)
        log_user, log_item = np.log(support.user_shares), np.log(support.item_shares)
        experience = (np.log1p(support.n_user) - 4.0)[:, None]
        reference_spread = np.maximum(reference.std() / unit, 0.1)[:, None]
        return np.stack(
            [
                np.log(np.maximum(reference.probs, 1e-6)),
                place * ((mean - levels.mean()) / unit)[:, None],
                place * ((reference.mean() - levels.mean()) / unit)[:, None],
                apart,
                apart / (support.user_spread / unit)[:, None] ** 2,
                apart / reference_spread**2,
                apart * experience,
                log_user,
                log_user * experience,
                log_item,
            ],
            axis=2,
        )


def _negative_log_likelihood(
    coefficients: FloatArray, utility: FloatArray, level: IntArray, penalty: float
) -> tuple[float, FloatArray]:
    n_pairs, _, n_features = utility.shape
    score = utility @ coefficients[:n_features] + coefficients[n_features:]
    score -= score.max(axis=1, keepdims=True)
    probs = np.exp(score)
    total = probs.sum(axis=1)
    rows = np.arange(n_pairs)
    value = float((np.log(total) - score[rows, level]).sum() + 0.5 * penalty * coefficients @ coefficients)
    probs /= total[:, None]
    probs[rows, level] -= 1.0
    slope = np.concatenate([np.einsum("nl,nlf->f", probs, utility), probs.sum(axis=0)])
    return value, slope + penalty * coefficients
