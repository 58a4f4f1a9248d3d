"""Shrunk user and item biases: how generous the user is, how well the item is liked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, Pairs, RatingScale
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.training import BellRater, is_known, require_positive, require_ratings, residual_spread

MAX_SWEEPS = 200
TOLERANCE = 1e-10
"""Sweeps stop when no bias moves by more than this part of the scale's range."""


@rater("biases", order=10, members=[Member("biases", light=True)])
@dataclass
class Biases(BellRater):
    """Predicts global mean + user bias + item bias.

    The biases minimise the sum of (r - mean - b_u - b_i)² + reg_user Σ b_u² + reg_item Σ b_i², found by
    alternating exact solutions (Koren 2010, "Factor in the Neighbors", section 2.1). A bias is thus a mean
    residual, shrunk as if it had been observed as zero `reg_user` (`reg_item`) times more. An unknown user or
    item has the bias zero; a pair of which neither is known is abstained from.
    """

    reg_user: float = 5.0
    reg_item: float = 2.5
    scale_: RatingScale = field(init=False, repr=False)
    global_mean_: float = field(init=False, repr=False)
    user_bias_: FloatArray = field(init=False, repr=False)
    item_bias_: FloatArray = field(init=False, repr=False)
    user_rated_: NDArray[np.bool_] = field(init=False, repr=False)
    item_rated_: NDArray[np.bool_] = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, reg_user=self.reg_user, reg_item=self.reg_item)

    def fit(self, dataset: Dataset) -> Self:
        """Estimate the biases; `user_bias_` has shape `(n_users,)`, `item_bias_` `(n_items,)`, in rating units."""
        require_ratings(dataset)
        self.scale_ = dataset.scale
        self.global_mean_ = float(dataset.rating.mean())
        self.user_rated_, self.item_rated_ = dataset.user_counts > 0, dataset.item_counts > 0
        self.user_bias_, self.item_bias_ = self._alternate(dataset)
        self.spread_ = residual_spread(dataset.scale, dataset.rating - self.expect(dataset.pairs))
        return self

    def _alternate(self, dataset: Dataset) -> tuple[FloatArray, FloatArray]:
        centred = dataset.rating - self.global_mean_
        user_weight = dataset.user_counts + self.reg_user
        item_weight = dataset.item_counts + self.reg_item
        user_sum = np.bincount(dataset.user, weights=centred, minlength=dataset.n_users)
        item_sum = np.bincount(dataset.item, weights=centred, minlength=dataset.n_items)
        user_bias, item_bias = np.zeros(dataset.n_users), np.zeros(dataset.n_items)
        smallest_move = TOLERANCE * (dataset.scale.high - dataset.scale.low)
        for _ in range(MAX_SWEEPS):
            taken = np.bincount(dataset.item, weights=user_bias[dataset.user], minlength=dataset.n_items)
            item_bias = (item_sum - taken) / item_weight
            taken = np.bincount(dataset.user, weights=item_bias[dataset.item], minlength=dataset.n_users)
            before, user_bias = user_bias, (user_sum - taken) / user_weight
            if np.abs(user_bias - before).max() < smallest_move:
                break
        return user_bias, item_bias

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        user_known, item_known = (
            is_known(self.user_rated_, pairs.user),
            is_known(self.item_rated_, pairs.item),
        )
        mean = (
            self.global_mean_
            + np.where(user_known, self.user_bias_[pairs.user], 0.0)
            + np.where(item_known, self.item_bias_[pairs.item], 0.0)
        )
        return np.where(user_known | item_known, mean, np.nan)
