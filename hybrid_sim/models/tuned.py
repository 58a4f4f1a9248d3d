"""Raters whose settings are chosen by a hold-out of their own training ratings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import Pairs, RatingDistribution
from hybrid_sim.models.registry import rater
from hybrid_sim.models.surprise_raters import SVD
from hybrid_sim.models.training import require_ratings

HELD_OUT = 0.1
"""Share of the training ratings on which settings are compared."""

EPOCHS, FACTORS, REGULARIZATION = (20, 40, 80, 160), (20, 100), (0.05, 0.1, 0.15)
"""The settings of `TunedSVD`, each with each."""


@rater("svd_tuned", order=24)
@dataclass
class TunedSVD:
    """`SVD` with the numbers of epochs and factors and the regularization that predict held-out ratings best."""

    seed: int = 0
    chosen_: SVD = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Compare all settings, then fit the best to all ratings.

        Raises:
            DataError: there are no ratings.
        """
        grid = product(FACTORS, EPOCHS, REGULARIZATION)
        candidates = [SVD(factors, epochs, regularization=reg, seed=self.seed) for factors, epochs, reg in grid]
        self.chosen_ = candidates[best_of(candidates, dataset, self.seed)].fit(dataset)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The distributions of the chosen one."""
        return self.chosen_.rate(pairs)


def best_of(candidates: Sequence[Rater], dataset: Dataset, seed: int) -> int:
    """Which of unfitted raters has the lowest RMSE on a random `HELD_OUT` of the ratings, the others being learned.

    The first of equals, or the first if there are fewer than two ratings. Rows from which a rater abstains are judged
    by the mean of the learned ratings.

    Raises:
        DataError: there are no ratings.
    """
    require_ratings(dataset)
    order = stream(seed, "tuning").permutation(len(dataset))
    n_held = int(np.ceil(HELD_OUT * len(dataset)))
    if n_held == len(dataset):
        return 0
    learned, held = dataset.take(np.sort(order[n_held:])), dataset.take(np.sort(order[:n_held]))
    errors = []
    for candidate in candidates:
        means = expected(copy.deepcopy(candidate).fit(learned), held.pairs)
        errors.append(np.mean((np.where(np.isnan(means), learned.rating.mean(), means) - held.rating) ** 2))
    return int(np.argmin(errors))
