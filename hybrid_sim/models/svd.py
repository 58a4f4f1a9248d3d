"""Surprise's matrix factorizations: `SVD`, `SVDpp` (also counts which items a user rated) and `NMF` (non-negative)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from scipy import sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.surprise_fit import (
    SurpriseData,
    expect_biases,
    expect_factors,
    places_of,
    require_converged,
    surprise_data,
)
from hybrid_sim.models.training import bell, require_positive, require_seed, residual_spread


@dataclass
class _Factorization:
    """Global mean + user bias + item bias + product of factors, as fitted by an algorithm of Surprise.

    Biases and factors have a row per rated user and item; `*_place_`, shape `(n_users,)` and `(n_items,)`, say which.
    """

    scale_: RatingScale = field(init=False, repr=False)
    global_mean_: float = field(init=False, repr=False)
    user_place_: IntArray = field(init=False, repr=False)
    item_place_: IntArray = field(init=False, repr=False)
    user_bias_: FloatArray = field(init=False, repr=False)
    item_bias_: FloatArray = field(init=False, repr=False)
    user_factors_: FloatArray = field(init=False, repr=False)
    item_factors_: FloatArray = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Let Surprise fit.

        Raises:
            DataError: there are no ratings, or the method cannot learn from this scale.
            SettingsError: the descent diverged.
        """
        data = surprise_data(dataset)
        algorithm = self._algorithm().fit(data.trainset)
        self.scale_ = dataset.scale
        self.user_place_, self.item_place_ = data.user_place, data.item_place
        self._keep(algorithm, data)
        arrays = (self.user_bias_, self.item_bias_, self.user_factors_, self.item_factors_)
        require_converged(self, dataset, *arrays)
        self.spread_ = residual_spread(dataset.scale, dataset.rating - self.expect(dataset.pairs))
        return self

    def _algorithm(self) -> Any:
        raise NotImplementedError

    def _keep(self, algorithm: Any, data: SurpriseData) -> None:
        self.global_mean_ = float(data.trainset.global_mean)
        self.user_bias_, self.item_bias_ = algorithm.bu, algorithm.bi
        self.user_factors_, self.item_factors_ = algorithm.pu, algorithm.qi

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        user, item = places_of(self.user_place_, pairs.user), places_of(self.item_place_, pairs.item)
        biases = expect_biases(self.global_mean_, self.user_bias_, self.item_bias_, user, item)
        return biases + expect_factors(self.user_factors_, self.item_factors_, user, item)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean."""
        return bell(self.scale_, self.expect(pairs), self.spread_)


@rater(
    "svd",
    order=21,
    component="neighbours",
    explanation="users with similar ratings",
    members=[Member("svd")],
)
@dataclass
class SVD(_Factorization):
    """Predicts global mean + user bias + item bias + product of factors (Koren et al. 2009, equation 5).

    A user or item without ratings counts with zero bias and factors, as in Surprise. A pair of which neither
    is known, for which Surprise answers the global mean, is abstained from.
    """

    n_factors: int = 100
    n_epochs: int = 20
    learning_rate: float = 0.005
    regularization: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_epochs=self.n_epochs, learning_rate=self.learning_rate)
        require_seed(self, self.seed)

    def _algorithm(self) -> Any:
        import surprise

        return surprise.SVD(
            n_factors=self.n_factors,
            n_epochs=self.n_epochs,
            lr_all=self.learning_rate,
            reg_all=self.regularization,
            random_state=self.seed,
        )


@rater("svdpp", order=22)
@dataclass
class SVDpp(_Factorization):
    """SVD with p_u + |I_u|^-1/2 Σ y_j as a user's factors, I_u being the items that the user rated (Koren 2008).

    A user or item without ratings counts with zero bias and factors, as in Surprise. A pair of which neither
    is known, for which Surprise answers the global mean, is abstained from.
    """

    n_factors: int = 20
    n_epochs: int = 20
    learning_rate: float = 0.007
    regularization: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_epochs=self.n_epochs, learning_rate=self.learning_rate)
        require_seed(self, self.seed)

    def _algorithm(self) -> Any:
        import surprise

        return surprise.SVDpp(
            n_factors=self.n_factors,
            n_epochs=self.n_epochs,
            lr_all=self.learning_rate,
            reg_all=self.regularization,
            random_state=self.seed,
            cache_ratings=True,
        )

    def _keep(self, algorithm: Any, data: SurpriseData) -> None:
        super()._keep(algorithm, data)
        rated = sparse.csr_array((np.ones(len(data.user)), (data.user, data.item)))
        n_rated = np.bincount(data.user)
        self.user_factors_ = algorithm.pu + np.asarray(rated @ algorithm.yj) / np.sqrt(n_rated)[:, None]


@rater("nmf", order=23)
@dataclass
class NMF(_Factorization):
    """Predicts the product of non-negative user and item factors (Luo et al. 2014, without biases).

    Where the user or the item has no ratings, Surprise calls the prediction impossible and answers the global
    mean; here such a pair is abstained from.
    """

    n_factors: int = 15
    n_epochs: int = 50
    regularization: float = 0.06
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_epochs=self.n_epochs, regularization=self.regularization)
        require_seed(self, self.seed)

    def fit(self, dataset: Dataset) -> Self:
        """Let Surprise fit.

        Raises:
            DataError: there are no ratings, or the scale has negative levels.
            SettingsError: the factors are not finite.
        """
        if dataset.scale.low < 0:
            raise DataError(
                f"NMF cannot learn from the scale {dataset.scale} of data set {dataset.name!r}, which has "
                "negative levels; use svd, or shift the ratings"
            )
        return super().fit(dataset)

    def _algorithm(self) -> Any:
        import surprise

        return surprise.NMF(
            n_factors=self.n_factors,
            n_epochs=self.n_epochs,
            reg_pu=self.regularization,
            reg_qi=self.regularization,
            random_state=self.seed,
        )

    def _keep(self, algorithm: Any, data: SurpriseData) -> None:
        self.global_mean_, self.user_factors_, self.item_factors_ = 0.0, algorithm.pu, algorithm.qi
        self.user_bias_, self.item_bias_ = np.zeros(len(algorithm.pu)), np.zeros(len(algorithm.qi))

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        known = (places_of(self.user_place_, pairs.user) >= 0) & (places_of(self.item_place_, pairs.item) >= 0)
        return np.where(known, super().expect(pairs), np.nan)
