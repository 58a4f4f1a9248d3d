"""Inner products whose bits depend on the two vectors alone: summed in double precision and in one order.

A matrix product sums in an order that depends on the number of rows and threads; its last digits differ from batch to
batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.compiled import compiled
from hybrid_sim.core.types import FloatArray, IntArray

SPARE = 8
"""Candidates beyond the k wanted that single precision must propose before double precision decides."""

# Sums may be split over the lanes of the processor, always in the same way; NaN must stay NaN.
fixed_order = compiled(fastmath={"reassoc", "contract", "nsz"})


def nearest(queries: NDArray[np.floating], vectors: NDArray[np.floating], k: int) -> tuple[IntArray, FloatArray]:
    """Rows of the k `vectors` with the largest inner products with each query, and these products, best first.

    Both have shape `(n_queries, min(k, n_vectors))`. The answer is exact, equal products come in order of rows, and a
    query has the same answer in any batch: FAISS only proposes candidates in single precision, and where rounding could
    have hidden one of the k, all vectors are compared.
    """
    width = min(k, len(vectors))
    queries, vectors = np.ascontiguousarray(queries), np.ascontiguousarray(vectors)
    if len(vectors) <= k + SPARE or not len(queries):
        return best(queries, vectors, np.zeros((len(queries), 0), dtype=np.int64), width)
    import faiss

    single = np.asarray(queries, dtype=np.float32), np.asarray(vectors, dtype=np.float32)
    proposed, candidates = faiss.knn(*single, width + SPARE, metric=faiss.METRIC_INNER_PRODUCT)
    rows, products = best(queries, vectors, candidates, width)
    lengths = [np.sqrt(np.einsum("nd,nd->n", matrix, matrix)) for matrix in single]
    rounding = (queries.shape[1] + 2) * 2.0**-24 * lengths[0] * lengths[1].max()
    unsure = np.flatnonzero(~(products[:, -1] > proposed[:, -1] + rounding))
    if len(unsure):
        none = np.zeros((len(unsure), 0), dtype=np.int64)
        rows[unsure], products[unsure] = best(queries[unsure], vectors, none, width)
    return rows, products


@fixed_order
def pair_products(
    left_rows: IntArray, right_rows: IntArray, left: NDArray[np.floating], right: NDArray[np.floating]
) -> FloatArray:
    """The inner product of row `left_rows[p]` of `left` with row `right_rows[p]` of `right`, shape `(n_pairs,)`."""
    out = np.empty(len(left_rows))
    for p in range(len(left_rows)):
        product = 0.0
        for d in range(left.shape[1]):
            product += np.float64(left[left_rows[p], d]) * np.float64(right[right_rows[p], d])
        out[p] = product
    return out


@fixed_order
def best(
    queries: NDArray[np.floating], vectors: NDArray[np.floating], candidates: IntArray, width: int
) -> tuple[IntArray, FloatArray]:
    """The `width` best of each query's `candidates`, rows of `vectors`; without candidates, of all vectors.

    A candidate below 0, FAISS's sign for none, is passed over. Places that stay empty hold row -1 and NaN.
    """
    rows, products = np.full((len(queries), width), -1), np.full((len(queries), width), np.nan)
    listed = candidates.shape[1] > 0
    for q in range(len(queries)):
        kept = 0
        for c in range(candidates.shape[1] if listed else len(vectors)):
            row = candidates[q, c] if listed else c
            if row < 0:
                continue
            product = 0.0
            for d in range(queries.shape[1]):
                product += np.float64(queries[q, d]) * np.float64(vectors[row, d])
            place = min(kept, width)
            while place > 0 and (
                products[q, place - 1] < product or (products[q, place - 1] == product and rows[q, place - 1] > row)
            ):
                if place < width:
                    rows[q, place], products[q, place] = rows[q, place - 1], products[q, place - 1]
                place -= 1
            if place < width:
                rows[q, place], products[q, place] = row, product
                kept = min(kept + 1, width)
    return rows, products


@fixed_order
def precision_factor(features: FloatArray, noise: FloatArray) -> FloatArray:
    """The lower Cholesky factor of I + Σ_h f_h f_hᵀ / noise_h, shape `(n_features, n_features)`."""
    n = features.shape[1]
    factor = np.eye(n)
    for h in range(len(features)):
        for i in range(n):
            weight = features[h, i] / noise[h]
            for j in range(i + 1):
                factor[i, j] += weight * features[h, j]
    for i in range(n):
        for j in range(i + 1):
            rest = factor[i, j]
            for d in range(j):
                rest -= factor[i, d] * factor[j, d]
            factor[i, j] = np.sqrt(rest) if i == j else rest / factor[j, j]
    return factor


@fixed_order
def whitened(factor: FloatArray, vectors: FloatArray) -> FloatArray:
    """L⁻¹ v for the lower triangular `factor` L and each row v of `vectors`; their squared lengths are vᵀ(LLᵀ)⁻¹v."""
    out = vectors.copy()
    for p in range(len(out)):
        for i in range(out.shape[1]):
            rest = out[p, i]
            for d in range(i):
                rest -= factor[i, d] * out[p, d]
            out[p, i] = rest / factor[i, i]
    return out


@fixed_order
def solved(factor: FloatArray, vectors: FloatArray) -> FloatArray:
    """(LLᵀ)⁻¹ v for the lower triangular `factor` L and each row v of `vectors`."""
    out = whitened(factor, vectors)
    for p in range(len(out)):
        for i in range(out.shape[1] - 1, -1, -1):
            out[p, i] /= factor[i, i]
            for d in range(i):
                out[p, d] -= out[p, i] * factor[i, d]
    return out
