"""LightGBM: a rater of its own, with a probability for every level, and small trees on the linear stack's residuals."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hybrid_sim.core.compiled import compiled
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale, dot_rows
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.features import FeatureBlock, SideEncoder
from hybrid_sim.models.hold_outs import hold_outs
from hybrid_sim.models.registry import rater
from hybrid_sim.models.support import SupportTable
from hybrid_sim.models.training import require_positive, require_ratings

REPEATABLE: dict[str, Any] = {
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
"""Settings of LightGBM that every model here shares: the same trees whatever the number of cores."""

RESIDUAL_SETTINGS: dict[str, Any] = {
    **REPEATABLE,
    "objective": "regression",
    "num_leaves": 10,
    "learning_rate": 0.03,
    "min_data_in_leaf": 150,
    "lambda_l2": 20.0,
    "feature_fraction": 0.5,
}


@dataclass
class BoostedResidual:
    """The mean of `n_models` boosted ensembles of `n_trees` trees that differ in their random seed.

    The trees are kept as arrays: a call of LightGBM's own prediction takes longer than what is computed for a single
    pair. Node k sends a pair to `children_[k, 0]` if feature `feature_[k]` is at most `threshold_[k]`, else to
    `children_[k, 1]`; ~j is leaf j. A leaf has a row in `values_`, shape `(n_leaves, n_models)`, what it adds to each
    model, and in `credits_`, shape `(n_leaves, n_features + 1)`, see `contributions`.
    """

    n_trees: int = 150
    n_models: int = 2
    seed: int = 0
    roots_: IntArray = field(init=False, repr=False)
    feature_: IntArray = field(init=False, repr=False)
    threshold_: FloatArray = field(init=False, repr=False)
    children_: IntArray = field(init=False, repr=False)
    values_: FloatArray = field(init=False, repr=False)
    credits_: FloatArray = field(init=False, repr=False)

    def fit(self, features: FloatArray, residuals: FloatArray) -> Self:
        """Learn residuals, in rating units, from features of shape `(n_pairs, n_features)`."""
        import lightgbm

        trees, roots = _Trees(), []
        for k in range(self.n_models):
            data = lightgbm.Dataset(features, residuals, params={"verbose": -1})
            settings = {**RESIDUAL_SETTINGS, "seed": (self.seed + k) % 2**31}
            for tree in lightgbm.train(settings, data, self.n_trees).dump_model()["tree_info"]:
                credit = np.zeros(features.shape[1] + 1)
                credit[-1] = _node_mean(tree["tree_structure"])[0]
                roots.append(trees.add(tree["tree_structure"], np.eye(self.n_models)[k], credit))
        self.roots_, self.feature_ = np.array(roots), np.array(trees.feature, dtype=np.int64)
        self.threshold_ = np.array(trees.threshold, dtype=float)
        self.children_ = np.array(trees.children, dtype=np.int64).reshape(-1, 2)
        self.values_, self.credits_ = np.array(trees.values), np.array(trees.credits)
        return self

    def predict(self, features: FloatArray) -> FloatArray:
        """Expected residuals, shape `(n_pairs,)`."""
        return np.asarray(self._sums(features, self.values_).mean(axis=1))

    def contributions(self, features: FloatArray) -> FloatArray:
        """What each feature adds to `predict`, shape `(n_pairs, n_features + 1)`; the last column is the mean of all.

        Each split on a pair's way down a tree credits its feature with the change of the mean of the training rows
        below (Saabas 2014, "Interpreting random forests"). Shapley values need some thirty times longer.
        """
        return self._sums(features, self.credits_) / self.n_models

    def _sums(self, features: FloatArray, of_leaves: FloatArray) -> FloatArray:
        return np.asarray(_leaf_sums(features, self.roots_, self.feature_, self.threshold_, self.children_, of_leaves))


@compiled()
def _leaf_sums(
    features: FloatArray,
    roots: IntArray,
    feature: IntArray,
    threshold: FloatArray,
    children: IntArray,
    of_leaves: FloatArray,
) -> FloatArray:
    """The sum of the rows of `of_leaves` over the leaves that each pair reaches, added in the order of the trees."""
    sums = np.zeros((len(features), of_leaves.shape[1]))
    for pair in range(len(features)):
        for root in roots:
            node = root
            while node >= 0:
                node = children[node, 0 if features[pair, feature[node]] <= threshold[node] else 1]
            for column in range(of_leaves.shape[1]):
                sums[pair, column] += of_leaves[~node, column]
    return sums


@dataclass
class _Trees:
    """Nodes and leaves of all trees while they are gathered."""

    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    children: list[list[int]] = field(default_factory=list)
    values: list[FloatArray] = field(default_factory=list)
    credits: list[FloatArray] = field(default_factory=list)

    def add(self, node: dict[str, Any], model: FloatArray, credit: FloatArray) -> int:
        """Append a node and all below it; returns its number. `model` is one in the column of the tree's model."""
        if "split_feature" not in node:
            self.values.append(node["leaf_value"] * model)
            self.credits.append(credit)
            return ~(len(self.values) - 1)
        number, mean = len(self.feature), _node_mean(node)[0]
        self.feature.append(node["split_feature"])
        self.threshold.append(node["threshold"])
        self.children.append([0, 0])
        for side, child in enumerate((node["left_child"], node["right_child"])):
            passed = credit.copy()
            passed[node["split_feature"]] += _node_mean(child)[0] - mean
            self.children[number][side] = self.add(child, model, passed)
        return number


def _node_mean(node: dict[str, Any]) -> tuple[float, int]:
    """The mean prediction of the training rows that reached a node, and their number."""
    if "split_feature" not in node:
        return node["leaf_value"], node.get("leaf_count", 1)
    (left, n_left), (right, n_right) = _node_mean(node["left_child"]), _node_mean(node["right_child"])
    return (left * n_left + right * n_right) / (n_left + n_right), n_left + n_right


MAX_LEVELS = 25
"""Every level costs a tree per round; scales with more are for raters that predict a number."""

COLD_SHARE = 0.1

TASTE_PRIOR = 10.0
"""Further ratings with a residual of zero by which a taste is shrunk."""

LEVEL_SETTINGS: dict[str, Any] = {
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

    A taste is the mean of a user's residuals from the biases, weighted by the similarity of items. `n_cold` times a
    tenth of the items and of the users is held out as a whole, for the trees to learn about new ones. An unknown user
    or item has the statistics of one without ratings and no side information; a pair of which neither is known is
    abstained from. `embedder` adds the `n_axes` leading directions of item texts.
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
            **LEVEL_SETTINGS,
            "num_class": self.scale_.n_levels,
            "num_leaves": self.n_leaves,
            "seed": self.seed % 2**31,
        }
        self.model_ = lightgbm.train(settings, data, self.n_trees).model_to_string()
        self.statistics_ = _Statistics().fit(dataset, self.item_side_)
        self.n_ratings_ = len(dataset)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The boosted probabilities, with half a pseudo-count added to every level."""
        known = (pairs.user >= 0) | (pairs.item >= 0)
        probs = np.full((len(pairs), self.scale_.n_levels), np.nan)
        if known.any():
            raw = _booster(self.model_).predict(self._features(self.statistics_, pairs.take(known)), num_threads=1)
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
        """Features of held-out ratings from the others, and their row numbers; some ratings come twice.

        Statistics that contain the rating itself give it away. So do statistics that lack it alone: a mean without it
        is the lower the higher the rating is. Those of a whole fold of others do not.
        """
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


@lru_cache(maxsize=4)
def _booster(model: str) -> Any:
    """The trees that LightGBM wrote as text: parsing takes longer than a prediction."""
    import lightgbm

    return lightgbm.Booster(model_str=model)


@dataclass
class _Statistics:
    """Statistics of ratings by user and item; the last row of every array answers for an unknown one.

    `taste_` has shape `(n_users + 1, n_item_features)`: the sum over a user's ratings of the item's features times the
    rating's residual from the biases.
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
        residual = dataset.rating - biases.expect(dataset.pairs)
        shape = (dataset.n_users + 1, dataset.n_items + 1)
        by_pair = sp.csr_array((residual, (dataset.user, dataset.item)), shape=shape)
        self.taste_ = np.asarray(by_pair @ item_side, dtype=np.float32)
        return self

    def of(self, pairs: Pairs, item_side: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of pairs: means, counts, spreads, biases and their sum, match with the taste, level shares."""
        support = self.support_.of(pairs)
        user_bias, item_bias = self.user_bias_[pairs.user], self.item_bias_[pairs.item]
        match = np.einsum("pf,pf->p", self.taste_[pairs.user], item_side[pairs.item])
        columns = [
            dot_rows(support.user_shares, self.support_.levels_),
            dot_rows(support.item_shares, self.support_.levels_),
            np.log1p(support.n_user),
            np.log1p(support.n_item),
            support.user_spread,
            support.item_spread,
            user_bias,
            item_bias,
            user_bias + item_bias,
            match / (support.n_user + TASTE_PRIOR),
        ]
        shares = [support.user_shares, support.item_shares]
        return np.hstack([np.column_stack(columns), *shares]).astype(np.float32)


def _with_unknown(rows: FloatArray) -> NDArray[np.float32]:
    return np.vstack([rows, np.zeros((1, rows.shape[1]))]).astype(np.float32)
