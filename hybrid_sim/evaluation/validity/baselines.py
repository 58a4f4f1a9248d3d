"""The simple models that a simulator is compared with, fitted to the same training ratings."""

from __future__ import annotations

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
from hybrid_sim.evaluation.validity.planted import Filled
from hybrid_sim.models import make_rater

REFERENCES = ("global_mean", "user_mean", "item_mean", "biases", "knn", "svd", "nmf")
"""Histograms of all, of the user's and of the item's ratings; biases; and the three models of Lusifer's paper."""


def references(train: Dataset, pairs: Pairs, seed: int = 0) -> dict[str, RatingDistribution]:
    """The answers of `REFERENCES` about the pairs; where one abstains, the histogram of all training ratings."""
    return {name: Filled(_made(name, train.scale, seed)).fit(train).rate(pairs) for name in REFERENCES}


def _made(name: str, scale: RatingScale, seed: int) -> Rater:
    if name == "knn":
        return make_rater(name, similarity="msd" if 0.0 in scale.levels else "cosine")  # cosine: undefined at 0
    rater = make_rater(name)
    return make_rater(name, seed=seed) if hasattr(rater, "seed") else rater
