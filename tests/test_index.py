"""The vector index: exact where it says so, nearly so above, and never a row that is not there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_sim.core.errors import InputError
from hybrid_sim.retrieval.index import VectorIndex


def clustered(n: int, dim: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors scattered about 50 centres, as embedded items are."""
    vectors = rng.normal(size=(50, dim))[rng.integers(50, size=n)] + 0.5 * rng.normal(size=(n, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("k", [1, 7, 300])
def test_a_small_index_equals_a_matrix_product(k: int) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = clustered(200, 16, rng), clustered(40, 16, rng)
    answer = VectorIndex(vectors).search(queries, k)
    products = queries @ vectors.T
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    width = min(k, 200)
    np.testing.assert_array_equal(answer.rows[:, :width], order)
    np.testing.assert_allclose(answer.similarities[:, :width], np.take_along_axis(products, order, axis=1), atol=1e-6)
    assert not answer.found[:, width:].any()
    assert np.isnan(answer.similarities[:, width:]).all()


def test_a_large_index_finds_nearly_the_same() -> None:
    rng = np.random.default_rng(0)
    vectors = clustered(8_000, 32, rng)
    queries = vectors[rng.integers(8_000, size=300)] + 0.05 * rng.normal(size=(300, 32)).astype(np.float32)
    graph = VectorIndex(vectors, exact_below=1_000)
    assert not graph.exact
    exact = VectorIndex(vectors).search(queries, 10)
    near = graph.search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.rows.tolist(), near.rows.tolist(), strict=True)])
    assert recall >= 0.98
    np.testing.assert_array_equal(VectorIndex(vectors, exact_below=1_000).search(queries, 10).rows, near.rows)


@pytest.mark.parametrize("exact_below", [0, 100])
def test_zero_vectors_are_never_found(exact_below: int) -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[[0, 2]] = 0.0
    index = VectorIndex(vectors, exact_below=exact_below)
    answer = index.search(np.array([[1.0, 1.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]]), k=4)
    assert len(index) == 2
    assert answer.rows.tolist() == [[1, 3, -1, -1], [-1, -1, -1, -1]]
    assert answer.found.tolist() == [[True, True, False, False], [False] * 4]


@pytest.mark.parametrize("exact_below", [-1, 100])
def test_an_empty_index_finds_nothing(exact_below: int) -> None:
    answer = VectorIndex(np.zeros((0, 3)), exact_below=exact_below).search(np.ones((2, 3)), k=2)
    assert answer.rows.tolist() == [[-1, -1], [-1, -1]]
    assert not answer.found.any()
    assert VectorIndex(np.eye(3)).search(np.zeros((0, 3)), k=2).rows.shape == (0, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    vectors = np.eye(3)
    vectors[1, 2] = bad
    with pytest.raises(InputError, match="vectors to index: row 1 is not finite"):
        VectorIndex(vectors)
    with pytest.raises(InputError, match="queries: row 1 is not finite"):
        VectorIndex(np.eye(3)).search(vectors, k=1)


def test_queries_of_another_shape_are_refused() -> None:
    index = VectorIndex(np.eye(3))
    with pytest.raises(InputError, match=r"expected \(n_queries, 3\)"):
        index.search(np.eye(4), k=1)
    with pytest.raises(InputError, match="k of at least 1"):
        index.search(np.eye(3), k=0)
    with pytest.raises(InputError, match=r"queries have shape \(3,\)"):
        index.search(np.ones(3), k=1)


def test_equal_similarities_come_in_row_order() -> None:
    assert VectorIndex(np.ones((5, 2))).search(np.ones((1, 2)), k=5).rows.tolist() == [[0, 1, 2, 3, 4]]
