"""Raters that add a residual to the biases by texts: signed profiles, similar items, users with similar profiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder, vector_length
from hybrid_sim.core.rater import FitCost
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.registry import OTHERS, TASTE, Member, rater
from hybrid_sim.models.training import is_known, require_positive
from hybrid_sim.retrieval.content import centred, item_vectors, rows_by_user
from hybrid_sim.retrieval.embedder import default_embedder
from hybrid_sim.retrieval.index import VectorIndex
from hybrid_sim.retrieval.products import SPARE, fixed_order, nearest, pair_products


@dataclass
class ResidualRater:
    """Biases plus a residual that follows from texts; `shrink` draws residuals towards zero."""

    embedder: Embedder = field(default_factory=default_embedder)
    shrink: float = 1.0
    biases_: Biases = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, shrink=self.shrink)

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        return self.biases_.expect(pairs) + self.residual(pairs)

    def residual(self, pairs: Pairs) -> FloatArray:
        """What is added to the biases of each pair, in rating units, NaN where the rater abstains."""
        raise NotImplementedError

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean, as wide as the residuals of the biases."""
        return RatingDistribution.from_mean(self.biases_.scale_, self.expect(pairs), self.biases_.spread_)


@dataclass
class HistoryRater(ResidualRater):
    """A `ResidualRater` over ratings that are kept by user: those of user u are rows `history_start_[u : u + 2]`."""

    k: int = 40
    history_start_: IntArray = field(init=False, repr=False)
    history_item_: IntArray = field(init=False, repr=False)
    history_residual_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, k=self.k, shrink=self.shrink)

    def _keep_history(self, dataset: Dataset, order: IntArray) -> None:
        """Keep items and residuals of the ratings; `order` sorts the ratings by user."""
        self.history_start_ = np.concatenate([[0], np.cumsum(dataset.user_counts)]).astype(np.int64)
        self.history_item_ = dataset.item[order]
        self.history_residual_ = (dataset.rating - self.biases_.expect(dataset.pairs))[order]


SLOPE_PRECISION = 1 / 9
"""Prior precision of the slope: in units of residual spread per unit score it is expected within ±3."""


@rater(
    "facets",
    order=31,
    component="embeddings",
    group=TASTE,
    members=[Member("facets")],
)
@dataclass
class SignedFacets(ResidualRater):
    """Predicts biases plus slope × (likes - dislikes) · item.

    A user's `likes` is the sum of the text vectors of items with a positive residual from the biases, weighted by the
    residual, and shortened to length |sum| / (shrink + |sum|), so that little evidence makes a short profile;
    `dislikes` likewise for negative residuals. The slope is a ridge regression on scores that leave the rating itself
    out. A user without ratings, an unknown item and an item without text are abstained from.
    """

    shrink: float = 5.0
    vectors_: FloatArray = field(init=False, repr=False)
    has_text_: NDArray[np.bool_] = field(init=False, repr=False)
    likes_: FloatArray = field(init=False, repr=False)
    dislikes_: FloatArray = field(init=False, repr=False)
    slope_: float = field(init=False, repr=False)

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Two vectors per rating, its item's and its user's; vectors of items and both profiles of users."""
        n_rows = 2 * len(dataset) + 3 * dataset.n_users + 4 * dataset.n_items
        memory = 8.0 * vector_length(self.embedder) * n_rows
        return FitCost(memory, 3e-8 * vector_length(self.embedder) * len(dataset))

    def fit(self, dataset: Dataset) -> Self:
        """Build both profiles, shape `(n_users, dim)`, and the slope in rating units per unit score."""
        self.biases_ = Biases().fit(dataset)
        self.vectors_ = centred(item_vectors(dataset, self.embedder))
        self.has_text_ = np.any(self.vectors_ != 0, axis=1)
        residuals = (dataset.rating - self.biases_.expect(dataset.pairs)) / self.biases_.spread_
        self.likes_, scores_for = self._profile(dataset, np.maximum(residuals, 0.0))
        self.dislikes_, scores_against = self._profile(dataset, np.maximum(-residuals, 0.0))
        scores = scores_for - scores_against
        slope = (scores @ residuals) / (scores @ scores + SLOPE_PRECISION)
        self.slope_ = float(slope * self.biases_.spread_)
        return self

    def _profile(self, dataset: Dataset, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Profiles from weighted items, and each training pair's score with its own rating left out."""
        shape = (dataset.n_users, dataset.n_items)
        total = scipy.sparse.csr_array((weights, (dataset.user, dataset.item)), shape=shape) @ self.vectors_
        squares = np.einsum("ud,ud->u", total, total)
        own = self.vectors_[dataset.item]
        products = np.einsum("pd,pd->p", own, total[dataset.user])
        lengths = np.einsum("pd,pd->p", own, own)
        left = np.maximum(squares[dataset.user] - 2 * weights * products + weights**2 * lengths, 0.0)
        scores = (products - weights * lengths) / (self.shrink + np.sqrt(left))
        return total / (self.shrink + np.sqrt(squares))[:, None], scores

    def residual(self, pairs: Pairs) -> FloatArray:
        """Slope times score."""
        return self.slope_ * self.score(pairs)

    def score(self, pairs: Pairs) -> FloatArray:
        """(likes - dislikes) · item of each pair, between -2 and 2, NaN where the rater abstains."""
        known = is_known(self.biases_.user_rated_, pairs.user) & (pairs.item >= 0)
        known[known] &= self.has_text_[pairs.item[known]]
        user, item = pairs.user[known], pairs.item[known]
        scores = np.full(len(pairs), np.nan)
        for_item = pair_products(user, item, self.likes_, self.vectors_)
        scores[known] = for_item - pair_products(user, item, self.dislikes_, self.vectors_)
        return scores


MAX_QUERIES = 4096
"""Items compared with a user's history at once, which bounds the memory."""

EQUAL = 1e-12
"""Cosines that differ by less are equal."""


@rater(
    "neighbours",
    order=30,
    component="neighbours",
    group=TASTE,
    members=[Member("neighbours")],
)
@dataclass
class HistoryNeighbours(HistoryRater):
    """Predicts biases plus the mean residual of the `k` most similar items that the user rated.

    residual(u, i) = Σ w_j (r_uj - b_uj) / (shrink + Σ w_j) with w_j = max(0, cos(i, j))² over those items j, the item i
    itself left out. Cosines are of text vectors less the catalogue's mean. A user without ratings, an unknown item and
    an item without text are abstained from.
    """

    shrink: float = 0.5
    vectors_: FloatArray = field(init=False, repr=False)
    has_text_: NDArray[np.bool_] = field(init=False, repr=False)

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Vectors of items and what they are centred from; a few columns of the ratings."""
        memory = 24.0 * vector_length(self.embedder) * dataset.n_items + 100.0 * len(dataset)
        return FitCost(memory, 2e-6 * len(dataset))

    def fit(self, dataset: Dataset) -> Self:
        """Keep each user's items and residuals; `vectors_` has shape `(n_items, dim)`."""
        self.biases_ = Biases().fit(dataset)
        self.vectors_ = centred(item_vectors(dataset, self.embedder))
        self.has_text_ = np.any(self.vectors_ != 0, axis=1)
        self._keep_history(dataset, np.argsort(dataset.user, kind="stable"))
        return self

    def residual(self, pairs: Pairs) -> FloatArray:
        """The shrunk mean residual of the user's ratings of similar items."""
        residual = np.full(len(pairs), np.nan)
        has_text = (pairs.item >= 0) & self.has_text_[pairs.item]
        answered = is_known(np.diff(self.history_start_) > 0, pairs.user) & has_text
        for user, of_user in rows_by_user(pairs, answered):
            own = slice(self.history_start_[user], self.history_start_[user + 1])
            rated, residuals = self.history_item_[own], self.history_residual_[own]
            for first in range(0, len(of_user), MAX_QUERIES):
                pending, width = of_user[first : first + MAX_QUERIES], self.k + 1 + SPARE
                while len(pending):
                    weights, places, complete = self._weights(pairs.item[pending], rated, width)
                    sums = np.einsum("pk,pk->p", weights, residuals[places])
                    residual[pending] = sums / (self.shrink + weights.sum(axis=1))
                    pending, width = pending[~complete], len(rated)
        return residual

    def _weights(self, items: IntArray, rated: IntArray, width: int) -> tuple[FloatArray, IntArray, NDArray[np.bool_]]:
        """Squared cosines of the k most similar of the `rated` items and of all equal to the k-th, and their places.

        The `width` nearest are looked at; a row is not complete if there may be more that equal the k-th: which of
        several equal items count must not depend on their order.
        """
        places, cosines = nearest(self.vectors_[items], self.vectors_[rated], width)
        cosines = np.where(rated[places] == items[:, None], 0.0, np.maximum(cosines, 0.0))
        if len(rated) <= self.k:
            return cosines**2, places, np.ones(len(items), dtype=bool)
        least = np.partition(cosines, -self.k, axis=1)[:, -self.k, None]
        complete = (cosines[:, -1] < least[:, 0] - EQUAL) | (least[:, 0] <= EQUAL) | (places.shape[1] == len(rated))
        return np.where(cosines >= least - EQUAL, cosines, 0.0) ** 2, places, complete


@rater(
    "profile_neighbours",
    order=33,
    component="profile",
    group=OTHERS,
    members=[Member("profile_neighbours", default=False)],
)
@dataclass
class ProfileNeighbours(HistoryRater):
    """Predicts biases plus the mean residual of the item's ratings by the `k` users with the most similar profiles.

    residual(u, i) = Σ w_v (r_vi - b_vi) / (shrink + Σ w_v) with w_v = max(0, cos(u, v))² over those neighbours v of u
    who rated i. A profile is the likes and, negated, the dislikes of `SignedFacets`, less the mean of all profiles; the
    neighbours are found in a FAISS index of profiles. Users without ratings and items that nobody rated are abstained
    from.
    """

    k: int = 200
    neighbours_: IntArray = field(init=False, repr=False)
    weights_: FloatArray = field(init=False, repr=False)
    item_rated_: NDArray[np.bool_] = field(init=False, repr=False)

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Likes and dislikes first; then every user's profile twice, and neighbours with their weights."""
        of_facets, length = SignedFacets(self.embedder).fit_cost(dataset), 2 * vector_length(self.embedder)
        of_search = dataset.n_users * (30.0 * length + 40.0 * min(self.k, dataset.n_users))
        return FitCost(
            max(of_facets.memory, of_search), of_facets.seconds + 1e-9 * length * float(dataset.n_users) ** 2
        )

    def fit(self, dataset: Dataset) -> Self:
        """Find every user's neighbours; `neighbours_` (-1: none) and `weights_` have shape `(n_users, k)`."""
        facets = SignedFacets(self.embedder).fit(dataset)
        self.biases_ = facets.biases_
        profiles = centred(np.concatenate([facets.likes_, -facets.dislikes_], axis=1))
        nearest = VectorIndex().fit(profiles).search(profiles, min(self.k + 1, dataset.n_users))
        others = nearest.found & (nearest.rows != np.arange(dataset.n_users)[:, None])
        self.neighbours_ = np.where(others, nearest.rows, -1)
        self.weights_ = np.where(others, np.maximum(nearest.similarities, 0.0) ** 2, 0.0)
        self.item_rated_ = dataset.item_counts > 0
        self._keep_history(dataset, np.lexsort((dataset.item, dataset.user)))
        return self

    def residual(self, pairs: Pairs) -> FloatArray:
        """The shrunk weighted mean residual of the item's ratings by the user's neighbours."""
        answered = is_known(self.biases_.user_rated_, pairs.user) & is_known(self.item_rated_, pairs.item)
        residual, part = np.full(len(pairs), np.nan), pairs.take(answered)
        history = self.history_start_, self.history_item_, self.history_residual_
        residual[answered] = _mean_residual(
            part.user, part.item, self.neighbours_, self.weights_, *history, self.shrink
        )
        return residual


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
