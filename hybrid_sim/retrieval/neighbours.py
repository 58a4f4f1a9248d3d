"""Rating-signed neighbours: how the user rated the items in the own history whose texts are most alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.training import is_known
from hybrid_sim.retrieval.content import centred, item_vectors
from hybrid_sim.retrieval.embedder import default_embedder
from hybrid_sim.retrieval.products import SPARE, nearest

MAX_QUERIES = 4096
"""Items compared with a user's history at once, which bounds the memory."""

EQUAL = 1e-12
"""Cosines that differ by less are equal."""


@dataclass(frozen=True)
class Likeness:
    """What a user's history says about each pair, both of shape `(n_pairs,)`.

    `residual` is the shrunk mean of the user's ratings of alike items, less biases, in rating units;
    `nearest` the similarity of the most alike item, at least 0. Both are NaN where the rater abstains.
    """

    residual: FloatArray
    nearest: FloatArray


@rater(
    "neighbours",
    order=30,
    component="neighbours",
    explanation="this user's ratings of similar items",
    members=[Member("neighbours")],
)
@dataclass
class HistoryNeighbours:
    """Predicts biases plus the mean residual of the `k` most alike items that the user rated.

    residual(u, i) = Σ w_j (r_uj - b_uj) / (shrink + Σ w_j) with w_j = max(0, cos(i, j))² over those items j,
    the item i itself left out. Cosines are of text vectors less the catalogue's mean. A user without ratings,
    an unknown item and an item without text are abstained from.
    """

    embedder: Embedder = field(default_factory=default_embedder)
    k: int = 40
    shrink: float = 0.5
    biases_: Biases = field(init=False, repr=False)
    embedder_name_: str = field(init=False, repr=False)
    vectors_: FloatArray = field(init=False, repr=False)
    has_text_: NDArray[np.bool_] = field(init=False, repr=False)
    history_start_: IntArray = field(init=False, repr=False)
    history_item_: IntArray = field(init=False, repr=False)
    history_residual_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.k < 1 or not (np.isfinite(self.shrink) and self.shrink > 0):
            raise SettingsError(
                f"HistoryNeighbours needs k of at least 1 and shrink above 0, got {self.k}, {self.shrink}"
            )

    def fit(self, dataset: Dataset) -> Self:
        """Keep each user's items and residuals, sorted by user; `vectors_` has shape `(n_items, dim)`.

        Raises:
            DataError: there are no ratings.
        """
        self.biases_ = Biases().fit(dataset)
        self.vectors_ = centred(item_vectors(dataset, self.embedder))
        self.has_text_ = np.any(self.vectors_ != 0, axis=1)
        self.embedder_name_ = self.embedder.name
        by_user = np.argsort(dataset.user, kind="stable")
        self.history_start_ = np.concatenate([[0], np.cumsum(dataset.user_counts)]).astype(np.int64)
        self.history_item_ = dataset.item[by_user]
        self.history_residual_ = (dataset.rating - self.biases_.expect(dataset.pairs))[by_user]
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean, as wide as the residuals of the biases."""
        return RatingDistribution.from_mean(self.biases_.scale_, self.expect(pairs), self.biases_.spread_)

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        return self.biases_.expect(pairs) + self.likeness(pairs).residual

    def likeness(self, pairs: Pairs) -> Likeness:
        """What the user's ratings of alike items say, and how alike the nearest of them is."""
        residual, closest = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
        for rows, user in self._batches(pairs):
            own = slice(self.history_start_[user], self.history_start_[user + 1])
            rated, residuals = self.history_item_[own], self.history_residual_[own]
            pending, width = rows, self.k + 1 + SPARE
            while len(pending):
                weights, places, complete = self._weights(pairs.item[pending], rated, width)
                sums = np.einsum("pk,pk->p", weights, residuals[places])
                residual[pending] = sums / (self.shrink + weights.sum(axis=1))
                closest[pending] = np.sqrt(weights.max(axis=1))
                pending, width = pending[~complete], len(rated)
        return Likeness(residual, closest)

    def _weights(self, items: IntArray, rated: IntArray, width: int) -> tuple[FloatArray, IntArray, NDArray[np.bool_]]:
        """Squared cosines of the k most alike of the `rated` items and of all equal to the k-th, and their places.

        The `width` nearest are looked at; a row is not complete if there may be more that equal the k-th.
        """
        places, cosines = nearest(self.vectors_[items], self.vectors_[rated], width)
        cosines = np.where(rated[places] == items[:, None], 0.0, np.maximum(cosines, 0.0))
        if len(rated) <= self.k:
            return cosines**2, places, np.ones(len(items), dtype=bool)
        least = np.partition(cosines, -self.k, axis=1)[:, -self.k, None]
        complete = (cosines[:, -1] < least[:, 0] - EQUAL) | (least[:, 0] <= EQUAL) | (places.shape[1] == len(rated))
        return np.where(cosines >= least - EQUAL, cosines, 0.0) ** 2, places, complete

    def _batches(self, pairs: Pairs) -> Iterator[tuple[IntArray, int]]:
        """Rows of pairs that can be answered, one user at a time and not too many at once."""
        counts = np.diff(self.history_start_)
        has_text = (pairs.item >= 0) & self.has_text_[pairs.item]
        known = np.flatnonzero(is_known(counts > 0, pairs.user) & has_text)
        order = known[np.argsort(pairs.user[known], kind="stable")]
        users, starts = np.unique(pairs.user[order], return_index=True)
        for user, rows in zip(users.tolist(), np.split(order, starts[1:]), strict=False):
            for start in range(0, len(rows), MAX_QUERIES):
                yield rows[start : start + MAX_QUERIES], user
