"""The vector index: exact where it says so, nearly so above, and never a row that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_sim.core import model_files
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import InputError, ModelFileError
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.world import make_world
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.retrieval.index import VectorIndex
from hybrid_sim.retrieval.products import nearest
from hybrid_sim.simulation.refit import refitted
from hybrid_sim.simulation.simulator import Simulator
from hybrid_sim.testing import tiny_dataset


@dataclass
class Indexed:
    """A rater that knows nothing and keeps an index, as a simulator does."""

    exact_below: int
    vectors: NDArray[np.float32]
    index_: VectorIndex = field(init=False)

    def fit(self, dataset: Dataset) -> Indexed:
        self.index_ = VectorIndex(self.exact_below).fit(self.vectors)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        return RatingDistribution(RatingScale((1, 2)), np.full((len(pairs), 2), np.nan))


def clustered(n: int, dim: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors scattered about 50 centres, as embedded items are."""
    vectors = rng.normal(size=(50, dim))[rng.integers(50, size=n)] + 0.5 * rng.normal(size=(n, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("k", [1, 7, 300])
def test_a_small_index_equals_a_matrix_product(k: int) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = clustered(200, 16, rng), clustered(40, 16, rng)
    answer = VectorIndex().fit(vectors).search(queries, k)
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
    graph = VectorIndex(1_000).fit(vectors)
    assert not graph.exact
    exact = VectorIndex().fit(vectors).search(queries, 10)
    near = graph.search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.rows.tolist(), near.rows.tolist(), strict=True)])
    assert recall >= 0.98
    np.testing.assert_array_equal(VectorIndex(1_000).fit(vectors).search(queries, 10).rows, near.rows)


@pytest.mark.parametrize("exact_below", [500, 5_000])
def test_a_saved_index_answers_as_before_and_a_flipped_byte_is_refused(exact_below: int, tmp_path: Path) -> None:
    """Row 31: FAISS itself loads a file with a flipped byte and says nothing."""
    rng = np.random.default_rng(0)
    rater = Indexed(exact_below, clustered(2_000, 16, rng)).fit(tiny_dataset())
    queries = clustered(50, 16, rng)
    model_files.save(rater, tmp_path / "model", trust=[__name__])
    loaded = model_files.load(tmp_path / "model", trust=[__name__])
    assert isinstance(loaded, Indexed)
    assert loaded.index_.exact == (exact_below == 5_000)
    before, after = rater.index_.search(queries, 5), loaded.index_.search(queries, 5)
    np.testing.assert_array_equal(after.rows, before.rows)
    np.testing.assert_array_equal(after.similarities, before.similarities)
    file = tmp_path / "model" / "arrays.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"arrays.npz is damaged"):
        model_files.load(tmp_path / "model", trust=[__name__])


@pytest.mark.parametrize("exact_below", [100, 5_000])
def test_an_updated_index_finds_the_old_rows_at_their_new_places_and_the_new_ones(exact_below: int) -> None:
    rng = np.random.default_rng(0)
    vectors = clustered(1_000, 16, rng)
    places = np.sort(rng.permutation(1_000)[:800])
    grown = VectorIndex(exact_below).fit(vectors[places]).updated(vectors, places)
    assert grown.exact == (exact_below == 5_000)
    np.testing.assert_array_equal(grown.search(vectors, 1).rows[:, 0], np.arange(1_000))
    changed = clustered(1_000, 16, rng)
    again = VectorIndex(exact_below).fit(vectors[places]).updated(changed, places)
    np.testing.assert_array_equal(again.search(changed, 1).rows[:, 0], np.arange(1_000))


def test_a_graph_keeps_the_rows_that_it_has() -> None:
    """Adding ten vectors to a graph adds ten, it does not index a thousand again."""
    rng = np.random.default_rng(0)
    vectors = clustered(1_010, 16, rng)
    index = VectorIndex(100).fit(vectors[:1_000])
    grown = index.updated(vectors, np.arange(1_000))
    anew = VectorIndex(100).fit(np.concatenate([vectors[1_000:], vectors[:1_000]]))
    assert grown.rows_.tolist() == list(range(1_010))
    assert len(grown.graph_) > len(index.graph_)
    assert len(anew.graph_) == pytest.approx(len(grown.graph_), rel=0.01)


def test_what_single_precision_cannot_tell_apart_is_compared_in_double() -> None:
    """The FAISS proposals are rows in order, of which the last one is the nearest."""
    vectors = np.outer(1 + np.arange(100) * 1e-10, [0.6, 0.8])
    rows, _ = nearest(np.array([[0.6, 0.8]]), vectors, 3)
    assert rows.tolist() == [[99, 98, 97]]


@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_nearest_are_exact_and_alike_in_any_batch(k: int) -> None:
    """Vectors that single precision cannot tell apart: its candidates are not enough."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(clustered(40, 24, rng).astype(float), 10, axis=0) + 1e-9 * rng.normal(size=(400, 24))
    queries = clustered(60, 24, rng).astype(float)
    rows, products = nearest(queries, vectors, k)
    longer = (queries.astype(np.longdouble) @ vectors.T.astype(np.longdouble)).astype(float)
    np.testing.assert_allclose(products, -np.sort(-longer, axis=1)[:, :k], atol=1e-14)
    np.testing.assert_allclose(np.take_along_axis(longer, rows, axis=1), products, atol=1e-14)
    for row in range(0, 60, 7):
        alone = nearest(queries[row : row + 1], vectors, k)
        np.testing.assert_array_equal(alone[0][0], rows[row])
        np.testing.assert_array_equal(alone[1][0], products[row])


@pytest.mark.parametrize("exact_below", [0, 100])
def test_zero_vectors_are_never_found(exact_below: int) -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[[0, 2]] = 0.0
    index = VectorIndex(exact_below).fit(vectors)
    answer = index.search(np.array([[1.0, 1.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]]), k=4)
    assert len(index) == 2
    assert answer.rows.tolist() == [[1, 3, -1, -1], [-1, -1, -1, -1]]
    assert answer.found.tolist() == [[True, True, False, False], [False] * 4]


@pytest.mark.parametrize("exact_below", [-1, 100])
def test_an_empty_index_finds_nothing(exact_below: int) -> None:
    answer = VectorIndex(exact_below).fit(np.zeros((0, 3))).search(np.ones((2, 3)), k=2)
    assert answer.rows.tolist() == [[-1, -1], [-1, -1]]
    assert not answer.found.any()
    assert VectorIndex().fit(np.eye(3)).search(np.zeros((0, 3)), k=2).rows.shape == (0, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    vectors = np.eye(3)
    vectors[1, 2] = bad
    with pytest.raises(InputError, match="vectors to index: row 1 is not finite"):
        VectorIndex().fit(vectors)
    with pytest.raises(InputError, match="queries: row 1 is not finite"):
        VectorIndex().fit(np.eye(3)).search(vectors, k=1)


def test_queries_of_another_shape_are_refused() -> None:
    index = VectorIndex().fit(np.eye(3))
    with pytest.raises(InputError, match=r"expected \(n_queries, 3\)"):
        index.search(np.eye(4), k=1)
    with pytest.raises(InputError, match="k of at least 1"):
        index.search(np.eye(3), k=0)
    with pytest.raises(InputError, match=r"queries have shape \(3,\)"):
        index.search(np.ones(3), k=1)


def test_equal_similarities_come_in_row_order() -> None:
    assert VectorIndex().fit(np.ones((5, 2))).search(np.ones((1, 2)), k=5).rows.tolist() == [[0, 1, 2, 3, 4]]


def test_a_simulator_finds_items_and_users_also_loaded_and_refitted(tmp_path: Path) -> None:
    world = make_world(seed=1, n_users=40, n_items=50, ratings_per_user=12).dataset
    old = world.item >= 10
    fewer = replace(
        world,
        items=world.items.iloc[10:],
        user=world.user[old],
        item=world.item[old] - 10,
        rating=world.rating[old],
        timestamp=None if world.timestamp is None else world.timestamp[old],
    )
    simulator = Simulator(members=("biases", "facets")).fit(fewer)
    simulator.save(tmp_path / "model")
    loaded = Simulator.load(tmp_path / "model")
    updated = refitted(loaded, world)
    whole = embedder_for(world)
    vectors = whole.embed(item_texts(world))
    stored = []
    for fitted, dataset in ((simulator, fewer), (loaded, fewer), (updated, world)):
        items, profiles = fitted.indexes(dataset)
        stored.append(items.vectors_)
        assert items.search(items.vectors_, 1).rows[:, 0].tolist() == list(range(dataset.n_items))
        assert profiles.audience(items.vectors_, 3).found.all()
    np.testing.assert_array_equal(stored[0], stored[1])
    np.testing.assert_array_equal(stored[2], vectors)


@dataclass(frozen=True)
class NoWeights:
    """An embedder that is never to embed."""

    name: str = "none"
    fingerprint: str = "none"

    def fit(self, texts: Sequence[str]) -> NoWeights:
        return self

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError("texts were embedded")


def test_texts_are_embedded_only_where_they_are_read(tmp_path: Path) -> None:
    """`--members biases,svd` loads no language model; the indexes are made when they are asked for."""
    world = make_world(seed=1, n_users=40, n_items=50, ratings_per_user=12).dataset
    simulator = Simulator(members=("biases", "svd"), embedder=NoWeights()).fit(world)
    simulator = refitted(simulator, world)
    with pytest.raises(AssertionError, match="texts were embedded"):
        simulator.indexes(world)
    plain = Simulator(members=("biases",)).fit(world)
    plain.save(tmp_path / "model")
    items, profiles = Simulator.load(tmp_path / "model").indexes(world)
    np.testing.assert_array_equal(items.vectors_, embedder_for(world).embed(item_texts(world)))
    assert profiles.audience(items.vectors_, 3).found.all()
