"""LightGBM as a rater of its own: the probability of every level from what is known of user and item."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale, dot_rows
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.boosted_residuals import REPEATABLE
from hybrid_sim.models.hold_outs import hold_outs
from hybrid_sim.models.linked_prior import FeatureBlock
from hybrid_sim.models.registry import rater
from hybrid_sim.models.side_features import SideEncoder
from hybrid_sim.models.support import SupportTable
from hybrid_sim.models.training import require_positive, require_ratings

MAX_LEVELS = 25
"""Every level costs a tree per round; scales with more are for raters that predict a number."""

COLD_SHARE = 0.1

TASTE_PRIOR = 10.0
"""Further ratings that left nothing over, by which a taste is shrunk."""

SETTINGS: dict[str, Any] = {
    **REPEATABLE,
    "objective": "multiclass",
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "lambda_l2": 10.0,
    "feature_fraction": 0.4,
}


@rater("boosted", order=60)
@dataclass
class BoostedLevels:
    """Multiclass boosting over statistics of the ratings, biases, tastes, side information and item texts.

    A taste is the mean of what the biases leave over of a user's ratings, weighted by how alike items
    are. For every training rating the statistics are computed from the ratings of the other `n_folds` - 1
    folds: with the rating itself among them, or with it alone left out, they would give it away. `n_cold`
    times a tenth of the items and of the users is held out as a whole, so that it is learned what to say
    of new ones.

    An unknown user or item has the statistics of one without ratings and no side information; a pair of which
    neither is known is abstained from. `embedder` adds the `n_axes` leading directions of item texts.
    """

    n_trees: int = 150
    n_leaves: int = 16
    n_folds: int = 5
    n_cold: int = 2
    n_axes: int = 20
    seed: int = 0
    embedder: Embedder | None = None
    scale_: RatingScale = field(init=False, repr=False)
    user_side_: NDArray[np.float32] = field(init=False, repr=False)
    item_side_: NDArray[np.float32] = field(init=False, repr=False)
    statistics_: _Statistics = field(init=False, repr=False)
    n_ratings_: int = field(init=False, repr=False)
    model_: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, n_trees=self.n_trees, n_axes=self.n_axes)
        for name, least in (("n_folds", 2), ("n_leaves", 2), ("n_cold", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} of BoostedLevels must be at least {least}, got {getattr(self, name)}")

    def fit(self, dataset: Dataset) -> Self:
        """Compute features out of fold, then boost.

        Raises:
            DataError: there are fewer than two ratings.
            SettingsError: the scale has too many levels.
        """
        import lightgbm

        require_ratings(dataset)
        if len(dataset) == 1:
            raise DataError(f"data set {dataset.name!r} has one rating; statistics out of fold need at least two")
        self.scale_ = dataset.scale
        if self.scale_.n_levels > MAX_LEVELS:
            raise SettingsError(
                f"BoostedLevels takes at most {MAX_LEVELS} levels, the scale has {self.scale_.n_levels}; "
                "use a rater that predicts a number, such as 'factorization', or bin the ratings"
            )
        self.user_side_ = _with_unknown(SideEncoder().fit(dataset.users).encode(dataset.users))
        self.item_side_ = _with_unknown(self._item_side(dataset))
        level = self.scale_.index(dataset.rating)
        features, rows = self._out_of_fold(dataset)
        data = lightgbm.Dataset(features, level[rows], params={"verbose": -1})
        settings = {
            **SETTINGS,
            "num_class": self.scale_.n_levels,
            "num_leaves": self.n_leaves,
            "seed": self.seed % 2**31,
        }
        self.model_ = lightgbm.train(settings, data, self.n_trees).model_to_string()
        self.__dict__.pop("_booster", None)
        self.statistics_ = _Statistics().fit(dataset, self.item_side_)
        self.n_ratings_ = len(dataset)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The boosted probabilities, smoothed as if every level had been seen half a time more."""
        known = (pairs.user >= 0) | (pairs.item >= 0)
        probs = np.full((len(pairs), self.scale_.n_levels), np.nan)
        if known.any():
            raw = self._booster.predict(self._features(self.statistics_, pairs.take(known)), num_threads=1)
            smooth = np.asarray(raw, dtype=float) * self.n_ratings_ + 0.5
            probs[known] = smooth / smooth.sum(axis=1, keepdims=True)
        return RatingDistribution(self.scale_, probs)

    def _item_side(self, dataset: Dataset) -> FloatArray:
        side = SideEncoder().fit(dataset.items).encode(dataset.items)
        if self.embedder is None:
            return side
        vectors = self.embedder.embed(item_texts(dataset)).astype(float)
        return np.hstack([side, FeatureBlock.of(vectors, self.n_axes).scores])

    def _out_of_fold(self, dataset: Dataset) -> tuple[NDArray[np.float32], IntArray]:
        """Features of held-out ratings from the others, and their row numbers; some ratings come twice."""
        plans = hold_outs(dataset, self.n_folds, self.n_cold, COLD_SHARE, self.seed)
        features = [
            self._features(
                _Statistics().fit(dataset.take(plan.train_rows), self.item_side_),
                dataset.pairs.take(plan.held_rows),
            )
            for plan in plans
        ]
        return np.concatenate(features), np.concatenate([plan.held_rows for plan in plans])

    def _features(self, statistics: _Statistics, pairs: Pairs) -> NDArray[np.float32]:
        return np.hstack(
            [statistics.of(pairs, self.item_side_), self.user_side_[pairs.user], self.item_side_[pairs.item]]
        )

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.model_)


@dataclass
class _Statistics:
    """What some ratings say about users and items; the last row of every array answers for an unknown one.

    `taste_` has shape `(n_users + 1, n_item_features)`: the sum over a user's ratings of the item's features
    times what the biases leave over of the rating.
    """

    support_: SupportTable = field(init=False, repr=False)
    user_bias_: FloatArray = field(init=False, repr=False)
    item_bias_: FloatArray = field(init=False, repr=False)
    taste_: NDArray[np.float32] = field(init=False, repr=False)

    def fit(self, dataset: Dataset, item_side: NDArray[np.float32]) -> Self:
        biases = Biases().fit(dataset)
        self.support_ = SupportTable().fit(dataset)
        self.user_bias_ = np.append(biases.user_bias_, 0.0)
        self.item_bias_ = np.append(biases.item_bias_, 0.0)
        left_over = dataset.rating - biases.expect(dataset.pairs)
        shape = (dataset.n_users + 1, dataset.n_items + 1)
        given = sp.csr_array((left_over, (dataset.user, dataset.item)), shape=shape)
        self.taste_ = np.asarray(given @ item_side, dtype=np.float32)
        return self

    def of(self, pairs: Pairs, item_side: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of pairs: means, counts, spreads, biases and their sum, liking by taste, level shares."""
        known = self.support_.of(pairs)
        user_bias, item_bias = self.user_bias_[pairs.user], self.item_bias_[pairs.item]
        alike = np.einsum("pf,pf->p", self.taste_[pairs.user], item_side[pairs.item])
        columns = [
            dot_rows(known.user_shares, self.support_.levels_),
            dot_rows(known.item_shares, self.support_.levels_),
            np.log1p(known.n_user),
            np.log1p(known.n_item),
            known.user_spread,
            known.item_spread,
            user_bias,
            item_bias,
            user_bias + item_bias,
            alike / (known.n_user + TASTE_PRIOR),
        ]
        shares = [known.user_shares, known.item_shares]
        return np.hstack([np.column_stack(columns), *shares]).astype(np.float32)


def _with_unknown(rows: FloatArray) -> NDArray[np.float32]:
    return np.vstack([rows, np.zeros((1, rows.shape[1]))]).astype(np.float32)
