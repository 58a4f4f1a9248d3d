"""What the ensemble said about its training ratings while they were kept from it: a correction is learned on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.types import IntArray, Pairs, RatingDistribution, RatingScale


@dataclass(frozen=True)
class HeldTable:
    """Distributions by pair: `keys` ascend, `probs` has shape `(n_keys, n_levels)`."""

    keys: IntArray
    probs: NDArray[np.float32]


@dataclass(frozen=True)
class HeldOpinions:
    """Out-of-fold distributions of training ratings, kept as float32: 4 bytes per level and 8 per pair.

    `anyhow` holds one opinion per rated pair, `cold` one per pair that was also asked about as if its item or its user
    had no ratings at all. Where a pair was rated or held out several times, the first counts.
    """

    scale: RatingScale
    n_items: int
    anyhow: HeldTable
    cold: HeldTable

    @classmethod
    def gather(cls, held: RatingDistribution, pairs: Pairs, regime: IntArray, n_items: int) -> Self:
        """Keep `held` distributions of `pairs`; `regime` is 0 where both user and item had ratings left."""
        keys = pairs.user * n_items + pairs.item
        answered = held.answered
        tables = [_table(held, keys, np.flatnonzero(rows)) for rows in (answered, answered & (regime > 0))]
        return cls(held.scale, n_items, *tables)

    def of(self, pairs: Pairs, cold: bool = False) -> RatingDistribution:
        """The opinion of each pair; it abstains about pairs that were not rated, or not held out in this way."""
        table = self.cold if cold else self.anyhow
        probs = np.full((len(pairs), self.scale.n_levels), np.nan)
        if len(table.keys):
            keys = np.where((pairs.user >= 0) & (pairs.item >= 0), pairs.user * self.n_items + pairs.item, -1)
            place = np.minimum(np.searchsorted(table.keys, keys), len(table.keys) - 1)
            found = table.keys[place] == keys
            probs[found] = table.probs[place[found]]
            probs /= probs.sum(axis=1, keepdims=True)
        return RatingDistribution(self.scale, probs)


def _table(held: RatingDistribution, keys: IntArray, rows: IntArray) -> HeldTable:
    """The first of `rows` for every key."""
    unique, first = np.unique(keys[rows], return_index=True)
    return HeldTable(unique, held.probs[rows[first]].astype(np.float32))
