"""The simple models that a simulator is compared with, fitted to the same training ratings."""

from __future__ import annotations

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import Pairs, RatingDistribution
from hybrid_sim.evaluation.validity.negative_controls import Filled
from hybrid_sim.models import RATERS

REFERENCES = ("global_mean", "user_mean", "item_mean", "biases", "knn", "svd", "nmf")
"""Histograms of all, of the user's and of the item's ratings; biases; and the three models of Lusifer's paper."""


def references(train: Dataset, pairs: Pairs, seed: int = 0) -> dict[str, RatingDistribution]:
    """The answers of `REFERENCES` about the pairs; where one abstains, the histogram of all training ratings."""
    raters = {name: RATERS[name].suited_to(train.scale, None, seed) for name in REFERENCES}
    return {name: Filled(rater).fit(train).rate(pairs) for name, rater in raters.items()}
