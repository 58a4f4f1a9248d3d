"""Ratings that were recorded before, for example of an LLM, replayed as predictions of the same pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ScaleError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.registry import rater


@dataclass(frozen=True, eq=False)
class RecordedRatings:
    """Who rated what in a recording: three columns of one length, the ids exact strings.

    A pair may occur several times: several models were asked, or one of them several times. `n_missing` rows
    of the file had no rating and are not among the columns.
    """

    user_ids: NDArray[np.object_]
    item_ids: NDArray[np.object_]
    ratings: FloatArray
    n_missing: int = 0

    def __post_init__(self) -> None:
        if not len(self.user_ids) == len(self.item_ids) == len(self.ratings):
            raise ValueError("the columns of recorded ratings differ in length")

    def __len__(self) -> int:
        return len(self.ratings)


@dataclass(frozen=True)
class PairTable:
    """Distributions by pair: `keys` (`Pairs.keys` with this `n_items`) ascend, `probs` has a row for each."""

    n_items: int
    keys: IntArray
    probs: NDArray[np.floating]

    def of(self, pairs: Pairs) -> FloatArray:
        """The row of each pair, shape `(n_pairs, n_levels)`; NaN where there is none."""
        probs = np.full((len(pairs), self.probs.shape[1]), np.nan)
        keys = pairs.keys(self.n_items)
        rows = np.searchsorted(self.keys, keys)
        stored = np.append(self.keys, -2)[rows] == keys
        probs[stored] = self.probs[rows[stored]]
        return probs

    def moved(self, users: IntArray, items: IntArray, n_items: int) -> PairTable:
        """The same for a catalogue in which user u has become user `users[u]` and item i item `items[i]`."""
        keys = Pairs(users[self.keys // self.n_items], items[self.keys % self.n_items]).keys(n_items)
        order = np.argsort(keys)
        return PairTable(n_items, keys[order], self.probs[order])


@rater("recorded", order=90)
@dataclass
class Recorded:
    """Answers with the recorded ratings of exactly this user and item, and abstains from all other pairs.

    Where a pair was recorded several times, the answer holds the levels' frequencies. `fit` learns nothing
    from ratings; it looks the ids up. `n_unknown_` counts recorded rows whose user or item the data set does
    not have. Read the table with `hybrid_sim.data.recordings.read_recorded`.
    """

    table: RecordedRatings = field(repr=False)
    scale_: RatingScale = field(init=False, repr=False)
    n_unknown_: int = field(init=False, repr=False)
    recorded_: PairTable = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Find the recorded pairs.

        Raises:
            ScaleError: a recorded rating is not on the scale of the data set.
        """
        self._require_scale(dataset.scale)
        encoded = dataset.encode(self.table.user_ids, self.table.item_ids)
        known = encoded.known
        self.scale_ = dataset.scale
        self.n_unknown_ = int((~known).sum())
        keys, rows = np.unique(encoded.take(known).keys(dataset.n_items), return_inverse=True)
        counts = np.zeros((len(keys), dataset.scale.n_levels))
        np.add.at(counts, (rows, dataset.scale.index(self.table.ratings[known])), 1.0)
        self.recorded_ = PairTable(dataset.n_items, keys, counts / counts.sum(axis=1, keepdims=True))
        return self

    def _require_scale(self, scale: RatingScale) -> None:
        wrong = np.flatnonzero(~scale.contains(self.table.ratings))
        if len(wrong):
            row = wrong[0]
            raise ScaleError(
                f"recorded rating {self.table.ratings[row]:g} of user {self.table.user_ids[row]!r} and item "
                f"{self.table.item_ids[row]!r} is not on the scale {scale}; name a recording of this data set"
            )

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The recorded frequencies of each pair, NaN where nothing was recorded."""
        return RatingDistribution(self.scale_, self.recorded_.of(pairs))
