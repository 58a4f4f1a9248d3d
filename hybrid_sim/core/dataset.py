"""Datasets: users, items and ratings, columnar and immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingScale


@dataclass(frozen=True)
class Dataset:
    """Users, items and the ratings that users gave to items.

    `users` and `items` are indexed by id (exact strings) and hold side information: columns of numbers, of categories
    (strings) or of sets (tuples of strings). Texts of items are built from `title`, `year`, `genres` and
    `overview` where they exist. Ratings are four columns of length `n_ratings`; `user` and `item` are row numbers into
    the two frames, `timestamp` is in seconds UTC, or None where the data has none. Users and items without ratings stay
    in the frames: they are the catalogue, and a split never removes them.
    """

    name: str
    scale: RatingScale
    users: pd.DataFrame
    items: pd.DataFrame
    user: IntArray
    item: IntArray
    rating: FloatArray
    timestamp: IntArray | None = None
    synthetic: bool = False

    def __post_init__(self) -> None:
        columns = [self.user, self.item, self.rating, *([] if self.timestamp is None else [self.timestamp])]
        if len({len(column) for column in columns}) != 1:
            raise ValueError("the columns of ratings differ in length")
        for column in columns:
            column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.rating)

    @property
    def n_users(self) -> int:
        """Users of the catalogue, with or without ratings."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Items of the catalogue, with or without ratings."""
        return len(self.items)

    @property
    def pairs(self) -> Pairs:
        """The (user, item) of every rating."""
        return Pairs(self.user, self.item)

    @cached_property
    def user_counts(self) -> IntArray:
        """Ratings per user, shape `(n_users,)`: the user's support."""
        return np.bincount(self.user, minlength=self.n_users).astype(np.int64)

    @cached_property
    def item_counts(self) -> IntArray:
        """Ratings per item, shape `(n_items,)`: the item's support."""
        return np.bincount(self.item, minlength=self.n_items).astype(np.int64)

    def encode(self, user_ids: Iterable[str], item_ids: Iterable[str]) -> Pairs:
        """Row numbers for ids; an id that the catalogue lacks becomes -1."""
        return encoded(self.users.index, self.items.index, user_ids, item_ids)

    def take(self, rows: NDArray[np.bool_] | IntArray) -> Dataset:
        """The same catalogue with only these ratings, in this order."""
        timestamp = None if self.timestamp is None else self.timestamp[rows]
        return replace(self, user=self.user[rows], item=self.item[rows], rating=self.rating[rows], timestamp=timestamp)

    def rating_of(self, pairs: Pairs) -> FloatArray:
        """The rating of each pair, NaN where there is none; of a repeated pair the last."""
        return np.asarray(self._by_pair.reindex(pairs.keys(self.n_items)), dtype=float)

    @cached_property
    def _by_pair(self) -> pd.Series:
        """The rating of every pair by its key."""
        ratings = pd.Series(self.rating, index=self.pairs.keys(self.n_items))
        return ratings[~ratings.index.duplicated(keep="last")]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids, side information, scale and ratings: equal content has an equal digest."""
        content = hashlib.sha256(repr(self.scale.levels).encode())
        for frame in (self.users, self.items):
            content.update(frame.to_csv().encode("utf-8", "surrogatepass"))
        for column in (self.user, self.item, self.rating, self.timestamp):
            content.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
        return content.hexdigest()


def encoded(users: pd.Index[str], items: pd.Index[str], user_ids: Iterable[str], item_ids: Iterable[str]) -> Pairs:
    """The place of each id among the users or items, -1 where it is not among them."""
    places = (index.get_indexer(pd.Index(ids, dtype=object)) for index, ids in ((users, user_ids), (items, item_ids)))
    return Pairs(*(place.astype(np.int64) for place in places))
