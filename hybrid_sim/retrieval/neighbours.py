"""Rating-signed neighbours: how the user rated the items in the own history whose texts are most alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.training import is_known
from hybrid_sim.retrieval.content import centred, item_vectors
from hybrid_sim.retrieval.embedder import default_embedder

MAX_COMPARISONS = 4_000_000
"""Similarities held in memory at once: 32 MB."""


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
        residual, nearest = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
        for rows, user in self._batches(pairs):
            own = slice(self.history_start_[user], self.history_start_[user + 1])
            cosines = self.vectors_[pairs.item[rows]] @ self.vectors_[self.history_item_[own]].T
            cosines[pairs.item[rows, None] == self.history_item_[own]] = 0.0
            weights = _largest(np.maximum(cosines, 0.0), self.k) ** 2
            residual[rows] = weights @ self.history_residual_[own] / (self.shrink + weights.sum(axis=1))
            nearest[rows] = np.sqrt(weights.max(axis=1))
        return Likeness(residual, nearest)

    def _batches(self, pairs: Pairs) -> Iterator[tuple[IntArray, int]]:
        """Rows of pairs that can be answered, one user at a time and not too many at once."""
        counts = np.diff(self.history_start_)
        has_text = (pairs.item >= 0) & self.vectors_[pairs.item].any(axis=1)
        known = np.flatnonzero(is_known(counts > 0, pairs.user) & has_text)
        order = known[np.argsort(pairs.user[known], kind="stable")]
        users, starts = np.unique(pairs.user[order], return_index=True)
        for user, rows in zip(users.tolist(), np.split(order, starts[1:]), strict=False):
            step = max(1, MAX_COMPARISONS // int(counts[user]))
            for start in range(0, len(rows), step):
                yield rows[start : start + step], user


def _largest(cosines: FloatArray, k: int) -> FloatArray:
    """Each row with all but its k largest numbers replaced by zero; equals of the k-th are kept."""
    if cosines.shape[1] <= k:
        return cosines
    least = np.partition(cosines, -k, axis=1)[:, [-k]]
    return np.where(cosines >= least - 1e-12, cosines, 0.0)
