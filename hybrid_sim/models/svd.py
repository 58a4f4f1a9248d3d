"""Biased matrix factorization by stochastic gradient descent: Surprise's `SVD`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.surprise_fit import (
    expect_biases,
    expect_factors,
    places_of,
    require_converged,
    surprise_data,
)
from hybrid_sim.models.training import bell, require_positive, require_seed, residual_spread


@rater(
    "svd",
    order=21,
    component="neighbours",
    explanation="users with similar ratings",
    members=[Member("svd")],
)
@dataclass
class SVD:
    """Predicts global mean + user bias + item bias + product of factors (Koren et al. 2009, equation 5).

    A user or item without ratings counts with zero bias and factors, as in Surprise. A pair of which neither
    is known, for which Surprise answers the global mean, is abstained from.
    """

    n_factors: int = 100
    n_epochs: int = 20
    learning_rate: float = 0.005
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
        """Let Surprise fit; biases and factors have a row per rated user and item, `*_place_` tells which.

        Raises:
            DataError: there are no ratings.
            SettingsError: the descent diverged.
        """
        import surprise

        data = surprise_data(dataset)
        algorithm = surprise.SVD(
            n_factors=self.n_factors,
            n_epochs=self.n_epochs,
            lr_all=self.learning_rate,
            reg_all=self.regularization,
            random_state=self.seed,
        ).fit(data.trainset)
        require_converged(self, dataset, algorithm.bu, algorithm.pu, algorithm.qi)
        self.scale_, self.global_mean_ = dataset.scale, float(data.trainset.global_mean)
        self.user_place_, self.item_place_ = data.user_place, data.item_place
        self.user_bias_, self.item_bias_ = algorithm.bu, algorithm.bi
        self.user_factors_, self.item_factors_ = algorithm.pu, algorithm.qi
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
