"""LightGBM: small trees on what the linear stack leaves over."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse

from hybrid_sim.core.types import FloatArray, IntArray

REPEATABLE: dict[str, Any] = {
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
"""Settings of LightGBM that every model here shares: the same trees whatever the machine does beside."""

SETTINGS: dict[str, Any] = {
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
    """The mean of `n_models` boosted ensembles of `n_trees` trees that differ in their random seed."""

    n_trees: int = 150
    n_models: int = 2
    seed: int = 0
    models_: list[str] = field(init=False, repr=False)

    def fit(self, features: FloatArray, residuals: FloatArray) -> Self:
        """Learn residuals, in rating units, from features of shape `(n_pairs, n_features)`."""
        import lightgbm

        self.models_ = []
        self.__dict__.pop("_boosters", None)
        self.__dict__.pop("_credits", None)
        for k in range(self.n_models):
            data = lightgbm.Dataset(features, residuals, params={"verbose": -1})
            settings = {**SETTINGS, "seed": (self.seed + k) % 2**31}
            self.models_.append(lightgbm.train(settings, data, self.n_trees).model_to_string())
        return self

    def predict(self, features: FloatArray) -> FloatArray:
        """Expected residuals, shape `(n_pairs,)`."""
        return np.asarray(np.mean([booster.predict(features, num_threads=1) for booster in self._boosters], axis=0))

    def contributions(self, features: FloatArray) -> FloatArray:
        """What each feature adds to `predict`, shape `(n_pairs, n_features + 1)`; the last column is the mean of all.

        Each split on a pair's way down a tree credits its feature with the change of the mean of the training rows
        below (Saabas 2014, "Interpreting random forests"). Shapley values need some thirty times longer.
        """
        starts, table = self._credits
        leaves = [booster.predict(features, pred_leaf=True, num_threads=1) for booster in self._boosters]
        place = np.concatenate([np.reshape(leaf, (len(features), -1)) for leaf in leaves], axis=1) + starts
        ends = np.arange(len(features) + 1) * len(starts)
        shape = (len(features), len(table))
        chosen = scipy.sparse.csr_array((np.ones(place.size), place.ravel(), ends), shape=shape)
        return np.asarray(chosen @ table) / self.n_models

    @cached_property
    def _credits(self) -> tuple[IntArray, FloatArray]:
        """Where each tree's leaves begin, and the credits of every leaf of all trees."""
        trees = []
        for booster in self._boosters:
            model = booster.dump_model()
            n_features = model["max_feature_idx"] + 1
            trees += [_leaf_credits(info["tree_structure"], n_features) for info in model["tree_info"]]
        starts = np.concatenate([[0], np.cumsum([len(tree) for tree in trees])[:-1]])
        return starts.astype(np.int64), np.concatenate(trees)

    @cached_property
    def _boosters(self) -> list[Any]:
        import lightgbm

        return [lightgbm.Booster(model_str=model) for model in self.models_]


def _leaf_credits(tree: dict[str, Any], n_features: int) -> FloatArray:
    """What each feature adds on the way to each leaf, shape `(n_leaves, n_features + 1)`; last the mean at the root."""
    credits: dict[int, FloatArray] = {}

    def descend(node: dict[str, Any], credit: FloatArray) -> None:
        if "split_feature" not in node:
            credits[node.get("leaf_index", 0)] = credit
            return
        here = _node_mean(node)[0]
        for child in (node["left_child"], node["right_child"]):
            passed = credit.copy()
            passed[node["split_feature"]] += _node_mean(child)[0] - here
            descend(child, passed)

    start = np.zeros(n_features + 1)
    start[-1] = _node_mean(tree)[0]
    descend(tree, start)
    return np.array([credits[leaf] for leaf in range(len(credits))])


def _node_mean(node: dict[str, Any]) -> tuple[float, int]:
    """The mean prediction of the training rows that came by a node, and their number."""
    if "split_feature" not in node:
        return node["leaf_value"], node.get("leaf_count", 1)
    (left, n_left), (right, n_right) = _node_mean(node["left_child"]), _node_mean(node["right_child"])
    return (left * n_left + right * n_right) / (n_left + n_right), n_left + n_right
