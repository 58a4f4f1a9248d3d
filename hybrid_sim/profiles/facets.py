"""Profiles as vectors: what a user likes and what a user dislikes, apart, beside the texts of the items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.core.user_state import UserProfile
from hybrid_sim.retrieval.index import Neighbours, VectorIndex


class ProfileIndex:
    """Two vectors for each profile, and searches among profiles and items.

    `likes` and `dislikes` have shape `(n_profiles, dim)`: the direction of the mean of the phrases' vectors, zero where
    there is no phrase that says something. One text for both has no sign: its similarity to an item hardly tells the
    rating. A row without vectors is never found, and has no score.

    >>> from hybrid_sim.retrieval.embedder import TfidfSVD
    >>> from hybrid_sim.testing import tiny_dataset
    >>> profiles = [UserProfile("a", 1, "", ("drama",), ("war",)), None]
    >>> index = ProfileIndex(profiles, tiny_dataset(), TfidfSVD(8))
    >>> index.score(np.array([0, 1]), np.array([0, 0])).shape, index.nearest_items(np.array([1]), 2).found.any()
    ((2,), np.False_)
    """

    def __init__(self, profiles: Sequence[UserProfile | None], dataset: Dataset, embedder: Embedder) -> None:
        texts = item_texts(dataset)
        embedder = embedder.fit(texts)
        self.items = embedder.embed(texts)
        self.likes = _directions([profile.likes if profile else () for profile in profiles], embedder)
        self.dislikes = _directions([profile.dislikes if profile else () for profile in profiles], embedder)
        self._of_items = VectorIndex(self.items)
        self._of_profiles = VectorIndex(self._both(np.arange(len(profiles))))

    def score(self, profiles: IntArray, items: IntArray) -> FloatArray:
        """cos(likes, item) - cos(dislikes, item) of each pair of rows, between -2 and 2.

        NaN where the profile has neither likes nor dislikes, the item no text, or a row is -1, which is unknown.
        """
        known = (profiles >= 0) & (items >= 0)
        mine, theirs = np.where(known, profiles, 0), np.where(known, items, 0)
        signed, vectors = self.likes[mine] - self.dislikes[mine], self.items[theirs]
        known &= (self.likes[mine].any(axis=1) | self.dislikes[mine].any(axis=1)) & vectors.any(axis=1)
        return np.where(known, np.einsum("pd,pd->p", signed, vectors), np.nan).astype(np.float64)

    def nearest_items(self, profiles: IntArray, k: int) -> Neighbours:
        """The k items whose texts are nearest to each profile's likes; mask with `found`."""
        return self._of_items.search(_rows(self.likes, profiles), k)

    def nearest_profiles(self, profiles: IntArray, k: int) -> Neighbours:
        """The k other profiles that like and dislike the most alike: the mean of both cosines; mask with `found`."""
        found = self._of_profiles.search(_rows(self._both(np.arange(len(self.likes))), profiles), k + 1)
        is_self = found.rows == profiles[:, None]
        is_self[~is_self.any(axis=1), -1] = True  # who is not among its own neighbours gives up the farthest one
        return Neighbours(found.rows[~is_self].reshape(-1, k), found.similarities[~is_self].reshape(-1, k))

    def _both(self, profiles: IntArray) -> NDArray[np.float32]:
        """Likes and dislikes side by side, scaled so that an inner product is the mean of both cosines."""
        joined = np.concatenate([self.likes[profiles], self.dislikes[profiles]], axis=1)
        return np.asarray(joined * np.float32(np.sqrt(0.5)), dtype=np.float32)


def _rows(vectors: NDArray[np.float32], rows: IntArray) -> NDArray[np.float32]:
    """The vectors of these rows, zero for -1."""
    return np.where((rows >= 0)[:, None], vectors[np.maximum(rows, 0)], np.float32(0))


def _directions(phrases: Sequence[Sequence[str]], embedder: Embedder) -> NDArray[np.float32]:
    """The direction of the mean of each group's vectors, zero for an empty group."""
    distinct = sorted({phrase for group in phrases for phrase in group})
    vectors = embedder.embed([*distinct, ""])
    place = {phrase: row for row, phrase in enumerate(distinct)}
    owner = np.repeat(np.arange(len(phrases)), [len(group) for group in phrases])
    sums = np.zeros((len(phrases), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, owner, vectors[np.array([place[phrase] for group in phrases for phrase in group], dtype=np.int64)])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 1e-6), dtype=np.float32)
