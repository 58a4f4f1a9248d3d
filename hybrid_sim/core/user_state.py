"""The state of a user: rating history in the order of time, and profile with all its earlier versions."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class UserProfile:
    """One version of a user's profile: a summary of the user's taste in words, as of one moment.

    `likes` and `dislikes` are short phrases, kept apart because one text for both has no sign. `change` says in one
    sentence what is new against the version before ("" for the first). `evidence` holds the ids of the items whose
    ratings this version was made from, `n_events` the ratings behind all versions so far. `at` is the time of the last
    of them, seconds UTC, None where the data has no times. `writer` is "statistics", "recorded" or the name of a model;
    `flags` names what is wrong with the text: it quotes ratings, or an update failed, so that it has seen its evidence
    but has the words of the version before.
    """

    user_id: str
    version: int
    summary: str
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()
    change: str = ""
    evidence: tuple[str, ...] = ()
    n_events: int = 0
    at: int | None = None
    writer: str = "statistics"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """All versions of one user's profile, oldest first; versions are only ever added."""

    versions: tuple[UserProfile, ...] = ()

    @property
    def latest(self) -> UserProfile | None:
        """The newest version, None where there is none yet."""
        return self.versions[-1] if self.versions else None

    def before(self, at: float) -> Timeline:
        """Only the versions whose ratings are all before `at` (seconds UTC)."""
        return Timeline(tuple(version for version in self.versions if version.at is not None and version.at < at))

    def then(self, profiles: Sequence[UserProfile]) -> Timeline:
        """The timeline with newer versions behind."""
        return Timeline((*self.versions, *profiles))


@dataclass(frozen=True)
class UserState:
    """Rating history and profile of a user at one moment; immutable, `advance` makes the next state.

    `user` is the row of the dataset's users, -1 for one that it does not know.
    """

    user: int
    history: History
    timeline: Timeline = Timeline()

    @property
    def profile(self) -> UserProfile | None:
        """The newest version of the profile."""
        return self.timeline.latest
