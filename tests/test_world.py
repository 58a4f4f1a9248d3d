"""The synthetic world: seeded, quick, labelled, and true to the law that it states."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hybrid_sim.core.types import FloatArray, Pairs
from hybrid_sim.data import item_texts
from hybrid_sim.data.world import World, make_world
from hybrid_sim.evaluation import splits


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def rmse(prediction: FloatArray | float, truth: FloatArray) -> float:
    return float(np.sqrt(np.mean((prediction - truth) ** 2)))


def shrunk_biases(world: World, split: splits.Split) -> tuple[FloatArray, FloatArray]:
    """User and item biases fitted by turns; predictions for training and test rows."""
    data = world.dataset
    rows = split.train_rows
    user, item, rating = data.user[rows], data.item[rows], data.rating[rows]
    mean, by_user, by_item = rating.mean(), np.zeros(data.n_users), np.zeros(data.n_items)
    for _ in range(10):
        rest = rating - mean - by_user[user]
        by_item = np.bincount(item, rest, data.n_items) / (np.bincount(item, minlength=data.n_items) + 5)
        rest = rating - mean - by_item[item]
        by_user = np.bincount(user, rest, data.n_users) / (np.bincount(user, minlength=data.n_users) + 5)
    both = mean + by_user[data.user] + by_item[data.item]
    return both[rows], both[split.test_rows]


def oracle_rmse(world: World) -> float:
    """The RMSE of the true mean of every rating: nothing does better on average."""
    return float(np.sqrt(np.mean(world.truth.std() ** 2)))


def test_it_is_seeded_and_quick() -> None:
    started = time.perf_counter()
    one = make_world(seed=5)
    assert time.perf_counter() - started < 5
    assert one.dataset.digest == make_world(seed=5).dataset.digest
    assert one.dataset.digest != make_world(seed=6).dataset.digest
    assert one.dataset.synthetic
    assert one.dataset.take(np.arange(3)).synthetic


def test_it_looks_like_real_data(world: World) -> None:
    data = world.dataset
    assert len(data) == pytest.approx(300 * 60, rel=0.15)
    assert data.n_items == len(set(data.items["title"]))
    pairs = data.user * data.n_items + data.item
    assert len(np.unique(pairs)) == len(pairs)
    popular = np.sort(data.item_counts)[::-1]
    assert popular[: data.n_items // 5].sum() > 0.45 * len(data), "the long tail"
    assert data.timestamp is not None
    assert (np.diff(data.timestamp) >= 0).all()
    shares = np.bincount(data.rating.astype(int), minlength=6)[1:] / len(data)
    assert (shares > 0.02).all()
    assert 3.2 < data.rating.mean() < 3.9


def test_ratings_follow_the_stated_law(world: World) -> None:
    """Standardised residuals have mean 0 and variance 1; the whole histogram is that of the law."""
    data, truth = world.dataset, world.truth
    np.testing.assert_allclose(truth.probs.sum(axis=1), 1.0)
    residuals = (data.rating - truth.mean()) / truth.std()
    assert abs(residuals.mean()) < 4 / np.sqrt(len(data))
    assert abs(residuals.var() - 1) < 0.05
    expected = truth.probs.sum(axis=0)
    found = np.bincount(data.rating.astype(int), minlength=6)[1:]
    spread = np.sqrt((truth.probs * (1 - truth.probs)).sum(axis=0))
    assert (np.abs(found - expected) < 4 * spread).all()
    assert rmse(truth.mean(), data.rating) == pytest.approx(oracle_rmse(world), abs=0.02)


def test_tastes_drift(world: World) -> None:
    pairs = world.dataset.pairs.take(np.arange(500))
    first, last = (world.distribution(pairs, np.full(500, at)).mean() for at in (1_577_836_800, 1_672_000_000))
    assert 0.05 < np.abs(first - last).mean() < 1.5


def test_selection_favours_what_users_like(world: World) -> None:
    data = world.dataset
    rng = np.random.default_rng(0)
    random = Pairs(rng.integers(0, data.n_users, 5000), rng.integers(0, data.n_items, 5000))
    assert data.timestamp is not None
    typical = world.distribution(random, np.full(5000, int(np.median(data.timestamp)))).mean().mean()
    assert data.rating.mean() > typical + 0.2


def test_each_kind_of_model_beats_the_simpler_one(world: World) -> None:
    data = world.dataset
    split = splits.kfold(data, 5)[0]
    train, test = shrunk_biases(world, split)
    truth = data.rating[split.test_rows]
    plain = rmse(data.rating[split.train_rows].mean(), truth)
    residual = np.zeros((data.n_users, data.n_items))
    residual[data.user[split.train_rows], data.item[split.train_rows]] = data.rating[split.train_rows] - train
    left, size, right = np.linalg.svd(residual, full_matrices=False)
    shrunk = (left[:, :6] * np.maximum(size[:6] - 12, 0)) @ right[:6]
    factors = test + 1.5 * shrunk[data.user[split.test_rows], data.item[split.test_rows]]
    errors = [plain, rmse(test, truth), rmse(factors, truth), oracle_rmse(world)]
    assert (np.diff(errors) < -0.01).all(), errors


def test_text_tells_of_cold_items(world: World) -> None:
    """Ridge on words times user: the traits are regressed on the words of other items."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge

    words = CountVectorizer(binary=True).fit_transform(item_texts(world.dataset)).toarray()
    fitted = Ridge(alpha=5.0).fit(words[:300], world.traits[:300])
    told = fitted.predict(words[300:])
    explained = 1 - ((told - world.traits[300:]) ** 2).sum() / (world.traits[300:] ** 2).sum()
    assert explained > 0.3


def test_small_worlds_work() -> None:
    tiny = make_world(n_users=2, n_items=4, ratings_per_user=2)
    assert len(tiny.dataset) >= 1
    many = make_world(n_users=3, n_items=1200, ratings_per_user=5)
    assert len(set(many.dataset.items["title"])) == 1200
