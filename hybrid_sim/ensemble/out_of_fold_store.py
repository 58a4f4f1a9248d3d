"""What the ensemble said about its training ratings while they were kept from it: a correction is learned on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.types import IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.support import REGIMES

WARM = (REGIMES.index("warm"), REGIMES.index("new user"))
COLD_ITEM = (REGIMES.index("cold item"),)


@dataclass(frozen=True)
class HeldTable:
    """Distributions by pair: `keys` ascend, `probs` has shape `(n_keys, n_levels)`."""

    keys: IntArray
    probs: NDArray[np.float32]


@dataclass(frozen=True)
class HeldOpinions:
    """Out-of-fold distributions of training ratings, kept as float32: 4 bytes per level and 8 per pair.

    `warm` holds one opinion per pair whose user and item had other ratings left, `cold` one per pair that was also
    asked about as if its item had no ratings at all while its user was known. Where a pair was held out several times
    in one way, the first counts.
    """

    scale: RatingScale
    n_items: int
    warm: HeldTable
    cold: HeldTable

    @classmethod
    def gather(cls, held: RatingDistribution, pairs: Pairs, regime: IntArray, n_items: int) -> Self:
        """Keep `held` distributions of `pairs`; `regime` is an index into `hybrid_sim.models.support.REGIMES`."""
        keys = pairs.keys(n_items)
        tables = [
            _table(held, keys, np.flatnonzero(held.answered & np.isin(regime, kinds))) for kinds in (WARM, COLD_ITEM)
        ]
        return cls(held.scale, n_items, *tables)

    def of(self, pairs: Pairs, cold: bool = False) -> RatingDistribution:
        """The opinion of each pair; it abstains about pairs that were not rated, or not held out in this way."""
        table = self.cold if cold else self.warm
        probs = np.full((len(pairs), self.scale.n_levels), np.nan)
        if len(table.keys):
            keys = pairs.keys(self.n_items)
            place = np.minimum(np.searchsorted(table.keys, keys), len(table.keys) - 1)
            found = table.keys[place] == keys
            probs[found] = table.probs[place[found]]
            probs /= probs.sum(axis=1, keepdims=True)
        return RatingDistribution(self.scale, probs)


def _table(held: RatingDistribution, keys: IntArray, rows: IntArray) -> HeldTable:
    """The first of `rows` for every key."""
    unique, first = np.unique(keys[rows], return_index=True)
    return HeldTable(unique, held.probs[rows[first]].astype(np.float32))
