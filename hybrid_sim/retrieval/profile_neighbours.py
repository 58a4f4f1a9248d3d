"""Neighbours by profile: how users who like and dislike the same things rated the item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.training import is_known, require_positive
from hybrid_sim.retrieval.content import centred
from hybrid_sim.retrieval.embedder import default_embedder
from hybrid_sim.retrieval.facets import SignedFacets
from hybrid_sim.retrieval.index import VectorIndex
from hybrid_sim.retrieval.products import fixed_order


@rater(
    "profile_neighbours",
    order=33,
    component="profile_neighbours",
    explanation="ratings by users with similar profiles",
    members=[Member("profile_neighbours", default=False)],
)
@dataclass
class ProfileNeighbours:
    """Predicts biases plus the mean residual of the item's ratings by the `k` users with the most similar profiles.

    residual(u, i) = Σ w_v (r_vi - b_vi) / (shrink + Σ w_v) with w_v = max(0, cos(u, v))² over those neighbours v of u
    who rated i. A profile is the likes and, negated, the dislikes of `SignedFacets`, less the mean of all profiles; the
    neighbours are found in a FAISS index of profiles. Users without ratings and items that nobody rated are abstained
    from.
    """

    embedder: Embedder = field(default_factory=default_embedder)
    k: int = 200
    shrink: float = 1.0
    biases_: Biases = field(init=False, repr=False)
    embedder_name_: str = field(init=False, repr=False)
    neighbours_: IntArray = field(init=False, repr=False)
    weights_: FloatArray = field(init=False, repr=False)
    item_rated_: NDArray[np.bool_] = field(init=False, repr=False)
    history_start_: IntArray = field(init=False, repr=False)
    history_item_: IntArray = field(init=False, repr=False)
    history_residual_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, k=self.k, shrink=self.shrink)

    def fit(self, dataset: Dataset) -> Self:
        """Find every user's neighbours; `neighbours_` (-1: none) and `weights_` have shape `(n_users, k)`.

        Raises:
            DataError: there are no ratings.
        """
        facets = SignedFacets(self.embedder).fit(dataset)
        self.biases_, self.embedder_name_ = facets.biases_, facets.embedder_name_
        profiles = centred(np.concatenate([facets.likes_, -facets.dislikes_], axis=1))
        nearest = VectorIndex().fit(profiles).search(profiles, min(self.k + 1, dataset.n_users))
        others = nearest.found & (nearest.rows != np.arange(dataset.n_users)[:, None])
        self.neighbours_ = np.where(others, nearest.rows, -1)
        self.weights_ = np.where(others, np.maximum(nearest.similarities, 0.0) ** 2, 0.0)
        self.item_rated_ = dataset.item_counts > 0
        order = np.lexsort((dataset.item, dataset.user))
        self.history_start_ = np.concatenate([[0], np.cumsum(dataset.user_counts)]).astype(np.int64)
        self.history_item_ = dataset.item[order]
        self.history_residual_ = (dataset.rating - self.biases_.expect(dataset.pairs))[order]
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean, as wide as the residuals of the biases."""
        return RatingDistribution.from_mean(self.biases_.scale_, self.expect(pairs), self.biases_.spread_)

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        known = is_known(self.biases_.user_rated_, pairs.user) & is_known(self.item_rated_, pairs.item)
        mean = np.full(len(pairs), np.nan)
        asked = pairs.take(known)
        history = self.history_start_, self.history_item_, self.history_residual_
        residual = _mean_residual(asked.user, asked.item, self.neighbours_, self.weights_, *history, self.shrink)
        mean[known] = self.biases_.expect(asked) + residual
        return mean


@fixed_order
def _mean_residual(
    user: IntArray,
    item: IntArray,
    neighbours: IntArray,
    weights: FloatArray,
    start: IntArray,
    rated: IntArray,
    residual: FloatArray,
    shrink: float,
) -> FloatArray:
    """The shrunk weighted mean of the residuals of each item's ratings by the user's neighbours, `(n_pairs,)`.

    The ratings are sorted by user and item; those of user v start at `start[v]`.
    """
    out = np.zeros(len(user))
    for p in range(len(user)):
        total, weight = 0.0, shrink
        for n in range(neighbours.shape[1]):
            v = neighbours[user[p], n]
            if v < 0:
                continue
            own = rated[start[v] : start[v + 1]]
            place = np.searchsorted(own, item[p])
            if place < len(own) and own[place] == item[p]:
                total += weights[user[p], n] * residual[start[v] + place]
                weight += weights[user[p], n]
        out[p] = total / weight
    return out
