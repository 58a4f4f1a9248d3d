"""EASE: a linear item-item model with a closed-form solution, on what biases leave over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.linalg
import scipy.sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, Pairs, RatingScale
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.registry import rater
from hybrid_sim.models.training import BellRater, require_positive
from hybrid_sim.models.tuned import best_of

STRENGTHS = (25.0, 50.0, 100.0, 200.0, 400.0, 800.0)
"""Ridge penalties, in users, of which one is chosen."""

MAX_ITEMS = 15_000
"""More items need more than 4 GB for the inverse."""

BLOCK = 1000
"""Users whose predictions are made at a time."""


@rater("ease", order=25)
@dataclass
class EASE(BellRater):
    """Predicts biases + Σ_j x_uj B_ji, where x are the user's residuals from the biases, zero where there is no rating.

    B minimises |X - XB|² + strength |B|² with a diagonal of zeros: B_ij = -P_ij / P_jj with P = (X'X + strength I)^-1
    (Steck 2019, "Embarrassingly shallow autoencoders for sparse data"; there x says only which items the user has).
    `strength` None is the one of `STRENGTHS` that predicts held-out training ratings best.
    """

    strength: float | None = None
    seed: int = 0
    scale_: RatingScale = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)
    biases_: Biases = field(init=False, repr=False)
    residuals_: scipy.sparse.csr_array = field(init=False, repr=False)
    weights_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.strength is not None:
            require_positive(self, strength=self.strength)

    def fit(self, dataset: Dataset) -> Self:
        """Solve for B; `weights_` has shape `(n_items, n_items)`.

        Raises:
            DataError: there are no ratings, or more than `MAX_ITEMS` items.
        """
        if dataset.n_items > MAX_ITEMS:
            raise DataError(f"EASE inverts a square of all items; {dataset.name!r} has {dataset.n_items:,}, too many")
        strength = self.strength
        if strength is None:
            candidates = [EASE(strength, self.seed) for strength in STRENGTHS]
            strength = STRENGTHS[best_of(candidates, dataset, self.seed)]
        self.scale_, self.biases_ = dataset.scale, Biases().fit(dataset)
        residuals = dataset.rating - self.biases_.expect(dataset.pairs)
        shape = dataset.n_users, dataset.n_items
        self.residuals_ = scipy.sparse.csr_array((residuals, (dataset.user, dataset.item)), shape=shape)
        gram = (self.residuals_.T @ self.residuals_).toarray()
        gram[np.diag_indices_from(gram)] += strength
        inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
        self.weights_ = -inverse / np.diag(inverse)
        np.fill_diagonal(self.weights_, 0.0)
        self.spread_ = self.biases_.spread_
        return self

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        means = self.biases_.expect(pairs)
        rows = np.flatnonzero(pairs.known)
        users, place = np.unique(pairs.user[rows], return_inverse=True)
        for start in range(0, len(users), BLOCK):
            scores = self.residuals_[users[start : start + BLOCK]] @ self.weights_
            here = np.flatnonzero((place >= start) & (place < start + BLOCK))
            means[rows[here]] += scores[place[here] - start, pairs.item[rows[here]]]
        return means
