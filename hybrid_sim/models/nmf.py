"""Non-negative matrix factorization: Surprise's `NMF`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import rater
from hybrid_sim.models.surprise_fit import expect_factors, places_of, require_converged, surprise_data
from hybrid_sim.models.training import bell, require_positive, require_seed, residual_spread


@rater("nmf", order=23)
@dataclass
class NMF:
    """Predicts the product of non-negative user and item factors (Luo et al. 2014, without biases).

    Where the user or the item has no ratings, Surprise calls the prediction impossible and answers the global
    mean; here such a pair is abstained from.
    """

    n_factors: int = 15
    n_epochs: int = 50
    regularization: float = 0.06
    seed: int = 0
    scale_: RatingScale = field(init=False, repr=False)
    user_place_: IntArray = field(init=False, repr=False)
    item_place_: IntArray = field(init=False, repr=False)
    user_factors_: FloatArray = field(init=False, repr=False)
    item_factors_: FloatArray = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_epochs=self.n_epochs, regularization=self.regularization)
        require_seed(self, self.seed)

    def fit(self, dataset: Dataset) -> Self:
        """Let Surprise fit; factors have a row per rated user and item, `*_place_` tells which.

        Raises:
            DataError: there are no ratings, or the scale has negative levels.
            SettingsError: the factors are not finite.
        """
        import surprise

        if dataset.scale.low < 0:
            raise DataError(
                f"NMF cannot learn from the scale {dataset.scale} of data set {dataset.name!r}, which has "
                "negative levels; use svd, or shift the ratings"
            )
        data = surprise_data(dataset)
        algorithm = surprise.NMF(
            n_factors=self.n_factors,
            n_epochs=self.n_epochs,
            reg_pu=self.regularization,
            reg_qi=self.regularization,
            random_state=self.seed,
        ).fit(data.trainset)
        require_converged(self, dataset, algorithm.pu, algorithm.qi)
        self.scale_ = dataset.scale
        self.user_place_, self.item_place_ = data.user_place, data.item_place
        self.user_factors_, self.item_factors_ = algorithm.pu, algorithm.qi
        self.spread_ = residual_spread(dataset.scale, dataset.rating - self.expect(dataset.pairs))
        return self

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        user, item = places_of(self.user_place_, pairs.user), places_of(self.item_place_, pairs.item)
        products = expect_factors(self.user_factors_, self.item_factors_, user, item)
        return np.where((user >= 0) & (item >= 0), products, np.nan)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean."""
        return bell(self.scale_, self.expect(pairs), self.spread_)
