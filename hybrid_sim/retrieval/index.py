"""Nearest neighbours among embedded items or profiles, by FAISS: exact for small catalogues, a graph for large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import InputError
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.core.user_state import UserProfile
from hybrid_sim.retrieval.products import best, nearest, pair_products

DEGREE, BUILD_WIDTH, SEARCH_WIDTH = 24, 64, 256
"""Links of a vector in the graph, and candidates kept while it is built and searched (M, efConstruction, efSearch)."""


@dataclass(frozen=True)
class Neighbours:
    """The result of a search, best first.

    `rows` (row numbers of the indexed vectors) and `similarities` (inner products) have shape `(n_queries,
    k)`. Where fewer than k neighbours exist, or the query was a zero vector, `found` is False, the row is -1
    and the similarity NaN: mask with `found` before using a row as an id.
    """

    rows: IntArray
    similarities: FloatArray

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which places hold a neighbour, shape `(n_queries, k)`."""
        return self.rows >= 0


@dataclass
class VectorIndex:
    """Searches vectors by inner product, which is the cosine where rows have unit length.

    Up to `exact_below` vectors every query is compared with all of them; above, a graph over vectors of 8 bits a number
    (HNSW, Malkov and Yashunin 2018) proposes candidates that the vectors themselves put in order, with a recall@10 of
    at least .98. Rows of zeros are never found. A saved index holds `vectors_` and `graph_`, the bytes
    of the graph, which FAISS reads only after their checksum was compared (see `hybrid_sim.core.model_files`).

    >>> index = VectorIndex().fit(np.eye(3, dtype=np.float32))
    >>> index.search(np.array([[0.9, 0.1, 0.0]]), k=2).rows
    array([[0, 1]])
    """

    exact_below: int = 50_000
    vectors_: NDArray[np.float32] = field(init=False, repr=False)
    rows_: IntArray = field(init=False, repr=False)
    graph_: NDArray[np.uint8] = field(init=False, repr=False)
    _opened: Any = field(init=False, repr=False, compare=False, default=None)

    def fit(self, vectors: NDArray[np.floating]) -> Self:
        """Index `vectors`, shape `(n, dim)`; `rows_` are the rows that can be found, in the order of the graph.

        Raises:
            InputError: the vectors are not finite, or not rows of one vector each.
        """
        self.vectors_ = _checked(vectors, "vectors to index")
        self.rows_ = np.flatnonzero(self.vectors_.any(axis=1)).astype(np.int64)
        self._build(None, self.rows_)
        return self

    def updated(self, vectors: NDArray[np.floating], places: IntArray) -> VectorIndex:
        """The index of `vectors`, in which row r of this index has become row `places[r]`, or is left out (-1).

        A graph grows by the rows that are new, if no vector has changed; everything else is indexed anew.
        """
        index = VectorIndex(self.exact_below)
        vectors = _checked(vectors, "vectors to index")
        known = places[self.rows_]
        if self.exact or (known < 0).any() or not np.array_equal(vectors[known], self.vectors_[self.rows_]):
            return index.fit(vectors)
        new = np.setdiff1d(np.flatnonzero(vectors.any(axis=1)), known)
        index.vectors_, index.rows_ = vectors, np.concatenate([known, new])
        index._build(_read(self.graph_), new)
        return index

    def __len__(self) -> int:
        """How many vectors can be found: all but the zero ones."""
        return len(self.rows_)

    @property
    def exact(self) -> bool:
        """Whether every query is compared with all vectors."""
        return len(self.graph_) == 0

    def search(self, queries: NDArray[np.floating], k: int) -> Neighbours:
        """The k nearest vectors of each query, `queries` of shape `(n_queries, dim)`; equal ones in order of rows.

        Raises:
            InputError: queries are not finite or of another dimension, or k is below one.
        """
        queries = _checked(queries, "queries")
        dim = self.vectors_.shape[1]
        if queries.shape[1] != dim or k < 1:
            raise InputError(f"queries {queries.shape} with k={k}: expected (n_queries, {dim}) and k of at least 1")
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        similarities = np.full((len(queries), k), np.nan)
        asked, width = np.flatnonzero(queries.any(axis=1)), min(k, len(self))
        if width and len(asked):
            places, similarities[asked, :width] = self._nearest(queries[asked], width)
            rows[asked, :width] = places
        return Neighbours(rows, similarities)

    def _nearest(self, queries: NDArray[np.float32], width: int) -> tuple[IntArray, FloatArray]:
        if self._opened is None:
            all_found = len(self) == len(self.vectors_)
            exact = self.vectors_ if all_found else self.vectors_[self.rows_]
            self._opened = exact if self.exact else _read(self.graph_)
        if self.exact:
            places, products = nearest(queries, self._opened, width)
            return self.rows_[places], products
        candidates = self._opened.search(queries, min(4 * width, len(self)))[1]
        return best(queries, self.vectors_, np.where(candidates >= 0, self.rows_[candidates], -1), width)

    def _build(self, graph: Any, new: IntArray) -> None:
        """Keep a graph if there are many vectors: the one given, or an empty one, with these rows added."""
        self.graph_ = np.zeros(0, dtype=np.uint8)
        if len(self) <= max(self.exact_below, 0):
            return
        import faiss

        if graph is None:
            bits, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
            dim = self.vectors_.shape[1]
            graph = faiss.IndexHNSWSQ(dim, bits, DEGREE, metric)  # type: ignore[arg-type]  # FAISS's stub names a class
            graph.hnsw.efConstruction, graph.hnsw.efSearch = BUILD_WIDTH, SEARCH_WIDTH
            graph.train(self.vectors_[new])
        n_threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # several threads would build another graph each time
        try:
            graph.add(self.vectors_[new])
        finally:
            faiss.omp_set_num_threads(n_threads)
        self.graph_ = faiss.serialize_index(graph)


def item_index(dataset: Dataset, embedder: Embedder) -> VectorIndex:
    """The index of the items' texts, in the order of the dataset; the embedder was fitted to them."""
    return VectorIndex().fit(embedder.embed(item_texts(dataset)))


@dataclass
class ProfileIndex:
    """Profiles as vectors: what a user likes and what a user dislikes, apart, in the space of the items' texts.

    `likes_` and `dislikes_` have shape `(n_profiles, dim)`: the direction of the mean of the phrases' vectors, zero
    where there is no phrase with a vector. One vector for both would have no sign. A profile without vectors is never
    found, and has no score.

    >>> from hybrid_sim.retrieval.tfidf import TfidfSVD
    >>> words = TfidfSVD(8).fit(["a quiet drama", "a loud war"])
    >>> index = ProfileIndex().fit([UserProfile("a", 1, "", ("drama",), ("war",)), None], words)
    >>> index.audience(words.embed(["quiet drama"]), k=2).rows
    array([[ 0, -1]])
    """

    likes_: NDArray[np.float32] = field(init=False, repr=False)
    dislikes_: NDArray[np.float32] = field(init=False, repr=False)
    index_: VectorIndex = field(init=False, repr=False)

    def fit(self, profiles: Sequence[UserProfile | None], embedder: Embedder) -> Self:
        """Embed the phrases of the profiles; the embedder was fitted to the texts of the items."""
        self._embed(profiles, embedder)
        self.index_ = VectorIndex().fit(self._signed())
        return self

    def updated(self, profiles: Sequence[UserProfile | None], embedder: Embedder, places: IntArray) -> ProfileIndex:
        """The index of these profiles, in which profile r of this index has become profile `places[r]`."""
        index = ProfileIndex()
        index._embed(profiles, embedder)
        index.index_ = self.index_.updated(index._signed(), places)
        return index

    def score(self, profiles: IntArray, items: NDArray[np.floating]) -> FloatArray:
        """cos(likes, item) - cos(dislikes, item) of each profile and the item vector beside it, between -2 and 2.

        NaN where the profile has neither likes nor dislikes, the item no text, or the profile is -1, which is unknown.
        """
        rows, place = np.maximum(profiles, 0), np.arange(len(profiles))
        scores = pair_products(rows, place, self.likes_, items) - pair_products(rows, place, self.dislikes_, items)
        has_profile = (profiles >= 0) & (self.likes_[rows].any(axis=1) | self.dislikes_[rows].any(axis=1))
        return np.where(has_profile & items.any(axis=1), scores, np.nan)

    def audience(self, items: NDArray[np.floating], k: int) -> Neighbours:
        """The k profiles that each item, a row of text vectors, fits best; similarities are `score`."""
        nearest = self.index_.search(np.concatenate([items, items], axis=1), k)
        return Neighbours(nearest.rows, nearest.similarities / np.sqrt(0.5))

    def similar(self, profiles: IntArray, k: int) -> Neighbours:
        """The k other profiles with the most similar likes and dislikes: the mean of both cosines."""
        own = np.where((profiles >= 0)[:, None], self._signed()[np.maximum(profiles, 0)], np.float32(0))
        nearest = self.index_.search(own, k + 1)
        is_self = nearest.rows == profiles[:, None]
        is_self[~is_self.any(axis=1), -1] = True  # who is not among its own neighbours gives up the farthest one
        return Neighbours(nearest.rows[~is_self].reshape(-1, k), nearest.similarities[~is_self].reshape(-1, k))

    def _embed(self, profiles: Sequence[UserProfile | None], embedder: Embedder) -> None:
        self.likes_ = _directions([profile.likes if profile else () for profile in profiles], embedder)
        self.dislikes_ = _directions([profile.dislikes if profile else () for profile in profiles], embedder)

    def _signed(self) -> NDArray[np.float32]:
        """Likes beside negated dislikes, scaled so that an inner product of two is the mean of both cosines."""
        return np.asarray(np.concatenate([self.likes_, -self.dislikes_], axis=1) * np.float32(np.sqrt(0.5)))


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


def _read(graph: NDArray[np.uint8]) -> Any:
    import faiss

    return faiss.deserialize_index(graph)


def _checked(vectors: NDArray[np.floating], what: str) -> NDArray[np.float32]:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise InputError(f"{what} have shape {vectors.shape}, expected rows of one vector each, (n, dim)")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(f"{what}: row {bad[0]} is not finite; embed the text again or leave the row out")
    return vectors
