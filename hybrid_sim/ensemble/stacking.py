"""The linear half of the combiner: a ridge regression on the members' means, with weights that move with support."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.core.types import FloatArray, dot_rows
from hybrid_sim.models.support import Support


@dataclass
class LinearStack:
    """Feature-weighted linear stacking (Sill et al. 2009).

    Each member's weight is a linear function of the logarithms of how many ratings user and item have. `strength`
    is the ridge penalty, in ratings.
    """

    strength: float = 30.0
    centre_: float = field(init=False, repr=False)
    coefficients_: FloatArray = field(init=False, repr=False)

    def fit(self, means: FloatArray, support: Support, ratings: FloatArray) -> Self:
        """Learn from members' means, shape `(n_pairs, n_members)`, without gaps."""
        self.centre_ = float(ratings.mean())
        design = self._design(means, support)
        penalty = np.full(design.shape[1], self.strength)
        penalty[0] = 0.0
        system = design.T @ design + np.diag(penalty)
        self.coefficients_ = np.asarray(np.linalg.solve(system, design.T @ (ratings - self.centre_)))
        return self

    def predict(self, means: FloatArray, support: Support) -> FloatArray:
        """Expected ratings, shape `(n_pairs,)`, not moved into the scale."""
        return self.centre_ + dot_rows(self._design(means, support), self.coefficients_)

    def weights(self, support: Support) -> FloatArray:
        """The weight of each member for each pair, shape `(n_pairs, n_members)`: predictions are linear in the means.

        `predict` is `offset + Σ weights × (means - centre_)`.
        """
        plain, _, of_user, of_item = self._blocks()
        by_user, by_item = self._experience(support)
        return np.asarray(plain + by_user[:, None] * of_user + by_item[:, None] * of_item)

    def offset(self, support: Support) -> FloatArray:
        """The prediction where every member's mean is `centre_`, shape `(n_pairs,)`."""
        _, alone, _, _ = self._blocks()
        by_user, by_item = self._experience(support)
        return np.asarray(self.centre_ + alone[0] + by_user * alone[1] + by_item * alone[2])

    def _blocks(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Coefficients of the means, of the columns without a member, and of means by support of user and item."""
        found = self.coefficients_
        n = (len(found) - 3) // 3
        plain, of_user, of_item = found[1 : n + 1], found[n + 3 : 2 * n + 3], found[2 * n + 3 :]
        return plain, found[[0, n + 1, n + 2]], of_user, of_item

    @staticmethod
    def _experience(support: Support) -> tuple[FloatArray, FloatArray]:
        return np.log1p(support.n_user) - 4.0, np.log1p(support.n_item) - 4.0

    def _design(self, means: FloatArray, support: Support) -> FloatArray:
        centred = means - self.centre_
        by_user, by_item = self._experience(support)
        return np.column_stack(
            [
                np.ones(len(means)),
                centred,
                by_user,
                by_item,
                centred * by_user[:, None],
                centred * by_item[:, None],
            ]
        )


@dataclass
class PlainAverage:
    """The members' plain average in place of learned weights."""

    centre_: float = field(init=False, repr=False)
    n_members_: int = field(init=False, repr=False)

    def fit(self, means: FloatArray, support: Support, ratings: FloatArray) -> Self:
        """Count the members; there is nothing to learn."""
        self.centre_, self.n_members_ = float(ratings.mean()), means.shape[1]
        return self

    def predict(self, means: FloatArray, support: Support) -> FloatArray:
        """The average of each row, shape `(n_pairs,)`."""
        return np.asarray(means.mean(axis=1))

    def weights(self, support: Support) -> FloatArray:
        """The same for every member, shape `(n_pairs, n_members)`."""
        return np.full((len(support.n_user), self.n_members_), 1.0 / self.n_members_)

    def offset(self, support: Support) -> FloatArray:
        """The prediction where every member's mean is `centre_`: that, shape `(n_pairs,)`."""
        return np.full(len(support.n_user), self.centre_)
