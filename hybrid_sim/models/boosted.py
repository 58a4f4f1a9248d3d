"""LightGBM: small trees on what the linear stack leaves over."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from hybrid_sim.types import FloatArray

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
        for k in range(self.n_models):
            data = lightgbm.Dataset(features, residuals, params={"verbose": -1})
            settings = {**SETTINGS, "seed": (self.seed + k) % 2**31}
            self.models_.append(lightgbm.train(settings, data, self.n_trees).model_to_string())
        return self

    def predict(self, features: FloatArray) -> FloatArray:
        """Expected residuals, shape `(n_pairs,)`."""
        return np.asarray(np.mean([booster.predict(features, num_threads=1) for booster in self._boosters], axis=0))

    @cached_property
    def _boosters(self) -> list[Any]:
        import lightgbm

        return [lightgbm.Booster(model_str=model) for model in self.models_]
