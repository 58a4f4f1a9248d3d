"""Nearest neighbours among embedded items or profiles: exact for small catalogues, a graph for large ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.errors import InputError
from hybrid_sim.core.types import IntArray


@dataclass(frozen=True)
class Neighbours:
    """What a search found, best first.

    `rows` (row numbers of the indexed vectors) and `similarities` (inner products) have shape `(n_queries,
    k)`. Where fewer than k neighbours exist, or the query was a zero vector, `found` is False, the row is -1
    and the similarity NaN: mask with `found` before using a row as an id.
    """

    rows: IntArray
    similarities: NDArray[np.float32]

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which places hold a neighbour, shape `(n_queries, k)`."""
        return self.rows >= 0


class VectorIndex:
    """Searches vectors by inner product, which is the cosine where rows have unit length.

    Up to `exact_below` vectors every query is compared with all of them; above, a graph (HNSW, Malkov and
    Yashunin 2018) answers in logarithmic time with a recall@10 of at least .98 on clustered vectors. Rows of
    zeros say nothing and are never found. The index is not saved: it is built again from its vectors, which
    carry a checksum.

    >>> index = VectorIndex(np.eye(3, dtype=np.float32))
    >>> index.search(np.array([[0.9, 0.1, 0.0]]), k=2).rows
    array([[0, 1]])
    """

    def __init__(self, vectors: NDArray[np.floating], exact_below: int = 100_000) -> None:
        vectors = _checked(vectors, "vectors to index")
        self._rows = np.flatnonzero(vectors.any(axis=1)).astype(np.int64)
        self.dim = vectors.shape[1]
        self.exact = len(self._rows) <= exact_below
        self._faiss = _build(vectors[self._rows], self.exact)

    def __len__(self) -> int:
        """How many vectors can be found: all but the zero ones."""
        return len(self._rows)

    def search(self, queries: NDArray[np.floating], k: int) -> Neighbours:
        """The k nearest vectors of each query, `queries` of shape `(n_queries, dim)`.

        Raises:
            InputError: queries are not finite or of another dimension, or k is below one.
        """
        queries = _checked(queries, "queries")
        if queries.shape[1] != self.dim or k < 1:
            raise InputError(
                f"queries {queries.shape} with k={k}: expected (n_queries, {self.dim}) and k of at least 1"
            )
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        similarities = np.full((len(queries), k), np.nan, dtype=np.float32)
        asked = np.flatnonzero(queries.any(axis=1))
        width = min(k, len(self))
        if width and len(asked):
            products, places = self._faiss.search(queries[asked], width)
            products, places = _ordered(products, places)
            rows[asked, :width] = np.where(places >= 0, self._rows[places], -1)
            similarities[asked, :width] = np.where(places >= 0, products, np.nan)
        return Neighbours(rows, similarities)


def _build(vectors: NDArray[np.float32], exact: bool) -> Any:
    import faiss

    if exact:
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        return flat
    graph = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 100
    graph.hnsw.efSearch = 256
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # several threads would build another graph each time
    try:
        graph.add(vectors)
    finally:
        faiss.omp_set_num_threads(n_threads)
    return graph


def _ordered(products: NDArray[np.float32], places: IntArray) -> tuple[NDArray[np.float32], IntArray]:
    """Best first, equal products by row number, so that the answer does not depend on FAISS's heap."""
    order = np.lexsort((places, -products), axis=1)
    return np.take_along_axis(products, order, axis=1), np.take_along_axis(places, order, axis=1)


def _checked(vectors: NDArray[np.floating], what: str) -> NDArray[np.float32]:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise InputError(f"{what} have shape {vectors.shape}, expected rows of one vector each, (n, dim)")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(f"{what}: row {bad[0]} is not finite; embed the text again or leave the row out")
    return vectors
