"""Matrix factorization that also counts which items a user rated: Surprise's `SVDpp`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy import sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import rater
from hybrid_sim.models.surprise_fit import (
    SurpriseData,
    expect_biases,
    expect_factors,
    places_of,
    require_converged,
    surprise_data,
)
from hybrid_sim.models.training import bell, require_positive, require_seed, residual_spread


@rater("svdpp", order=22)
@dataclass
class SVDpp:
    """SVD with p_u + |I_u|^-1/2 Σ y_j as a user's factors, I_u being the items that the user rated (Koren
    2008).

    A user or item without ratings counts with zero bias and factors, as in Surprise. A pair of which neither
    is known, for which Surprise answers the global mean, is abstained from.
    """

    n_factors: int = 20
    n_epochs: int = 20
    learning_rate: float = 0.007
    regularization: float = 0.02
    seed: int = 0
    scale_: RatingScale = field(init=False, repr=False)
    global_mean_: float = field(init=False, repr=False)
    user_place_: IntArray = field(init=False, repr=False)
    item_place_: IntArray = field(init=False, repr=False)
    user_bias_: FloatArray = field(init=False, repr=False)
    item_bias_: FloatArray = field(init=False, repr=False)
    user_factors_: FloatArray = field(init=False, repr=False)
    item_factors_: FloatArray = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_epochs=self.n_epochs, learning_rate=self.learning_rate)
        require_seed(self, self.seed)

    def fit(self, dataset: Dataset) -> Self:
        """Let Surprise fit; `user_factors_` hold the implicit part, as a row per rated user has it once and
        for all.

        Raises:
            DataError: there are no ratings.
            SettingsError: the descent diverged.
        """
        import surprise

        data = surprise_data(dataset)
        algorithm = surprise.SVDpp(
            n_factors=self.n_factors,
            n_epochs=self.n_epochs,
            lr_all=self.learning_rate,
            reg_all=self.regularization,
            random_state=self.seed,
            cache_ratings=True,
        ).fit(data.trainset)
        require_converged(self, dataset, algorithm.bu, algorithm.pu, algorithm.qi, algorithm.yj)
        self.scale_, self.global_mean_ = dataset.scale, float(data.trainset.global_mean)
        self.user_place_, self.item_place_ = data.user_place, data.item_place
        self.user_bias_, self.item_bias_ = algorithm.bu, algorithm.bi
        self.user_factors_ = algorithm.pu + _implicit_factors(data, algorithm.yj)
        self.item_factors_ = algorithm.qi
        self.spread_ = residual_spread(dataset.scale, dataset.rating - self.expect(dataset.pairs))
        return self

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        user, item = places_of(self.user_place_, pairs.user), places_of(self.item_place_, pairs.item)
        biases = expect_biases(self.global_mean_, self.user_bias_, self.item_bias_, user, item)
        return biases + expect_factors(self.user_factors_, self.item_factors_, user, item)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean."""
        return bell(self.scale_, self.expect(pairs), self.spread_)


def _implicit_factors(data: SurpriseData, item_factors: FloatArray) -> FloatArray:
    rated = sparse.csr_array((np.ones(len(data.user)), (data.user, data.item)))
    n_rated = np.bincount(data.user)
    return np.asarray(rated @ item_factors) / np.sqrt(n_rated)[:, None]
