"""Rating histories: what a user has rated, in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class History:
    """What one user rated, oldest first, in columns of one length.

    `item` holds row numbers of the dataset's items, `timestamp` seconds UTC (None where the data has none),
    `simulated` says which ratings were drawn by a simulator instead of given by a person.
    """

    item: IntArray
    rating: FloatArray
    timestamp: IntArray | None
    simulated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: slice) -> History:
        """A contiguous part."""
        timestamp = None if self.timestamp is None else self.timestamp[rows]
        return History(self.item[rows], self.rating[rows], timestamp, self.simulated[rows])

    def last(self, n: int) -> History:
        """The `n` latest ratings."""
        return self.take(slice(max(len(self) - n, 0), None))

    def first(self, n: int) -> History:
        """The `n` earliest ratings."""
        return self.take(slice(n))

    def batches(self, size: int) -> list[History]:
        """Consecutive parts of `size` ratings, the last one perhaps shorter."""
        return [self.take(slice(start, start + size)) for start in range(0, len(self), size)]

    def then(self, item: IntArray, rating: FloatArray) -> History:
        """The history followed by simulated ratings, each a second after the one before."""
        timestamp = self.timestamp
        if timestamp is not None:
            now = timestamp[-1] if len(timestamp) else 0
            timestamp = np.append(timestamp, now + 1 + np.arange(len(item), dtype=np.int64))
        simulated = np.append(self.simulated, np.ones(len(item), dtype=bool))
        return History(np.append(self.item, item), np.append(self.rating, rating), timestamp, simulated)


class Histories:
    """The history of every user of a dataset, oldest rating first.

    Ratings without times, and ratings of the same second, keep the order of the dataset.

    >>> from hybrid_sim.testing import tiny_dataset
    >>> tiny = tiny_dataset()
    >>> histories = Histories(tiny)
    >>> len(histories.of(0)) == int(tiny.user_counts[0]), len(histories.of(-1))
    (True, 0)
    """

    def __init__(self, dataset: Dataset) -> None:
        keys = (dataset.user,) if dataset.timestamp is None else (dataset.timestamp, dataset.user)
        self._order = np.lexsort(keys)
        self._starts = np.concatenate([[0], np.cumsum(dataset.user_counts)])
        self._dataset = dataset

    def of(self, user: int) -> History:
        """The history of the user in this row of the dataset; -1, an unknown user, has none."""
        rows = self._order[self._starts[user] : self._starts[user + 1]] if user >= 0 else self._order[:0]
        data = self._dataset
        timestamp = None if data.timestamp is None else data.timestamp[rows]
        return History(data.item[rows], data.rating[rows], timestamp, np.zeros(len(rows), dtype=bool))
