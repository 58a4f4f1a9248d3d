"""Support: how many ratings a prediction rests on, of the user and of the item, and how these are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, dot_rows

REGIMES = ("warm", "cold item", "cold user", "cold both", "new user")
"""Whether item and user have been rated and have rated at all; "new user" is warm, but with few ratings of the user."""

NEW_USER = 10
"""Ratings up to which a user is new. Where users with fewer than twenty were left out, warm folds have none of them."""


@dataclass(frozen=True)
class Support:
    """Columns over pairs: training ratings of the user and of the item, and the spread of their ratings.

    Spreads are standard deviations in rating units, shrunk towards that of all ratings as if by five further ratings.
    `user_shares` and `item_shares` have shape `(n_pairs, n_levels)`: how often each level was used, shrunk likewise.
    """

    n_user: FloatArray
    n_item: FloatArray
    user_spread: FloatArray
    item_spread: FloatArray
    user_shares: NDArray[np.float32]
    item_shares: NDArray[np.float32]

    @classmethod
    def of(cls, dataset: Dataset, pairs: Pairs) -> Support:
        """The support that the ratings of `dataset` give to `pairs`."""
        return SupportTable().fit(dataset).of(pairs)

    @classmethod
    def concatenate(cls, parts: Sequence[Support]) -> Support:
        """The rows of several, one after the other."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    @property
    def regime(self) -> IntArray:
        """Index into `REGIMES` of each pair."""
        cold = (self.n_item == 0) + 2 * (self.n_user == 0).astype(np.int64)
        return np.where((cold == 0) & (self.n_user <= NEW_USER), REGIMES.index("new user"), cold)

    def take(self, rows: NDArray[np.bool_] | IntArray | slice) -> Support:
        """The support of these rows."""
        return Support(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass
class SupportTable:
    """The support of every user and item of a dataset; the last row answers for an unknown one (-1)."""

    prior: float = 5.0
    n_user_: FloatArray = field(init=False, repr=False)
    n_item_: FloatArray = field(init=False, repr=False)
    user_shares_: NDArray[np.float32] = field(init=False, repr=False)
    item_shares_: NDArray[np.float32] = field(init=False, repr=False)
    user_spread_: FloatArray = field(init=False, repr=False)
    item_spread_: FloatArray = field(init=False, repr=False)
    levels_: FloatArray = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Count the ratings of `dataset`."""
        self.levels_ = dataset.scale.values
        self.n_user_ = np.append(dataset.user_counts, 0).astype(float)
        self.n_item_ = np.append(dataset.item_counts, 0).astype(float)
        level = dataset.scale.index(dataset.rating)
        counts = np.bincount(level, minlength=len(self.levels_)).astype(float) + 0.5
        overall = counts / counts.sum()
        self.user_shares_ = self._shares(dataset.user, level, dataset.n_users + 1, overall)
        self.item_shares_ = self._shares(dataset.item, level, dataset.n_items + 1, overall)
        self.user_spread_ = _spread(self.user_shares_, self.levels_)
        self.item_spread_ = _spread(self.item_shares_, self.levels_)
        return self

    def _shares(self, row: IntArray, level: IntArray, n_rows: int, overall: FloatArray) -> NDArray[np.float32]:
        n_levels = len(overall)
        counts = np.bincount(row * n_levels + level, minlength=n_rows * n_levels).reshape(n_rows, n_levels)
        total = counts.sum(axis=1, keepdims=True)
        return np.asarray((counts + self.prior * overall) / (total + self.prior), dtype=np.float32)

    def of(self, pairs: Pairs) -> Support:
        """The support of each pair."""
        user, item = pairs.user, pairs.item
        return Support(
            self.n_user_[user],
            self.n_item_[item],
            self.user_spread_[user],
            self.item_spread_[item],
            self.user_shares_[user],
            self.item_shares_[item],
        )


def _spread(shares: NDArray[np.float32], levels: FloatArray) -> FloatArray:
    mean = dot_rows(shares, levels)
    return np.sqrt(np.maximum(dot_rows(shares, levels**2) - mean**2, 1e-6))
