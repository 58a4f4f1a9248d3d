"""Nearest neighbours on top of biases: Surprise's `KNNBaseline`, predicted by a compiled kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numba
import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.surprise_fit import SurpriseData, expect_biases, places_of, surprise_data
from hybrid_sim.models.training import bell, require_positive, residual_spread

SIMILARITIES = ("cosine", "msd", "pearson", "pearson_baseline")


@rater(
    "knn",
    order=20,
    component="neighbours",
    explanation="users with similar ratings",
    settings=lambda scale: {"similarity": "msd" if 0.0 in scale.levels else "cosine"},  # cosine: undefined at 0
    members=[Member("knn")],
)
@dataclass
class KNN:
    """Predicts biases + the weighted mean residual of the `k` nearest neighbours (Koren 2010, eq. 3).

    Neighbours are users who rated the item, or with `user_based=False` items that the user rated. Equal
    similarities are settled as Surprise does: whoever comes first in the ratings is nearer. With fewer than
    `min_k` neighbours of positive similarity the biases alone answer, also for a pair with one side unknown;
    with both unknown the rater abstains. Memory: five square matrices of the number of rated users (or items)
    while fitting, one afterwards.
    """

    k: int = 40
    user_based: bool = True
    similarity: str = "cosine"
    min_k: int = 1
    scale_: RatingScale = field(init=False, repr=False)
    global_mean_: float = field(init=False, repr=False)
    user_place_: IntArray = field(init=False, repr=False)
    item_place_: IntArray = field(init=False, repr=False)
    user_bias_: FloatArray = field(init=False, repr=False)
    item_bias_: FloatArray = field(init=False, repr=False)
    similarity_: FloatArray = field(init=False, repr=False)
    starts_: IntArray = field(init=False, repr=False)
    neighbours_: IntArray = field(init=False, repr=False)
    residuals_: FloatArray = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, k=self.k, min_k=self.min_k)
        if self.similarity not in SIMILARITIES:
            raise SettingsError(f"similarity of KNN is one of {', '.join(SIMILARITIES)}, got {self.similarity!r}")

    def fit(self, dataset: Dataset) -> Self:
        """Let Surprise fit; everything fitted is in Surprise's numbers of users and items, see `*_place_`.

        Raises:
            DataError: there are no ratings, or the similarity is undefined for them.
        """
        import surprise

        data = surprise_data(dataset)
        algorithm = surprise.KNNBaseline(
            k=self.k,
            min_k=self.min_k,
            sim_options={"name": self.similarity, "user_based": self.user_based},
            bsl_options={},
            verbose=False,
        )
        try:
            algorithm.fit(data.trainset)
        except ZeroDivisionError as error:
            raise DataError(
                f"the {self.similarity} similarity of KNN is undefined on data set {dataset.name!r}: the "
                "common ratings of some neighbours are all zero or equal their biases; pass similarity='msd'"
            ) from error
        self.scale_, self.global_mean_ = dataset.scale, float(data.trainset.global_mean)
        self.user_place_, self.item_place_ = data.user_place, data.item_place
        self.user_bias_, self.item_bias_ = algorithm.bu, algorithm.bi
        self.similarity_ = algorithm.sim
        self._keep_residuals(data)
        self.spread_ = residual_spread(dataset.scale, dataset.rating - self.expect(dataset.pairs))
        return self

    def _keep_residuals(self, data: SurpriseData) -> None:
        """Per item (or user) the ratings' neighbours and residuals, in the order of the ratings."""
        side, neighbours = (data.item, data.user) if self.user_based else (data.user, data.item)
        order = np.argsort(side, kind="stable")
        biases = expect_biases(self.global_mean_, self.user_bias_, self.item_bias_, data.user, data.item)
        self.starts_ = np.concatenate([[0], np.cumsum(np.bincount(side))]).astype(np.int64)
        self.neighbours_ = neighbours[order]
        self.residuals_ = (data.rating - biases)[order]

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        user, item = places_of(self.user_place_, pairs.user), places_of(self.item_place_, pairs.item)
        who, side = (user, item) if self.user_based else (item, user)
        nearest = _mean_residual(
            who, side, self.similarity_, self.starts_, self.neighbours_, self.residuals_, self.k, self.min_k
        )
        return expect_biases(self.global_mean_, self.user_bias_, self.item_bias_, user, item) + nearest

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean."""
        return bell(self.scale_, self.expect(pairs), self.spread_)


@numba.njit(nogil=True)
def _mean_residual(
    who: IntArray,
    side: IntArray,
    similarity: FloatArray,
    starts: IntArray,
    neighbours: IntArray,
    residuals: FloatArray,
    k: int,
    min_k: int,
) -> FloatArray:
    """Per pair the mean residual of the k most similar neighbours, weighted by similarity; zero without
    enough of them.

    The nearest so far are kept sorted; a newcomer goes behind its equals, so that the first met wins a tie.
    """
    result = np.zeros(len(who))
    nearest, values = np.empty(k), np.empty(k)
    for pair in range(len(who)):
        if who[pair] < 0 or side[pair] < 0:
            continue
        found = 0
        for entry in range(starts[side[pair]], starts[side[pair] + 1]):
            closeness = similarity[who[pair], neighbours[entry]]
            if not closeness > 0.0 or (found == k and closeness <= nearest[k - 1]):
                continue
            found = min(found + 1, k)
            position = found - 1
            while position > 0 and nearest[position - 1] < closeness:
                nearest[position], values[position] = nearest[position - 1], values[position - 1]
                position -= 1
            nearest[position], values[position] = closeness, residuals[entry]
        if found >= min_k:
            weighted, total = 0.0, 0.0
            for position in range(found):
                weighted += nearest[position] * values[position]
                total += nearest[position]
            result[pair] = weighted / total
    return result
