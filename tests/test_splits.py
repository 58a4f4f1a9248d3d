"""Splits: what each promises on made-up rows, and the published sizes on real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import RatingScale
from hybrid_sim.data import load
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation import splits
from hybrid_sim.evaluation.splits import Split


def rated(user: list[int], item: list[int], timestamp: list[int] | None = None) -> Dataset:
    users = pd.DataFrame(index=pd.Index([f"u{n}" for n in range(max(user) + 1)], dtype=object))
    items = pd.DataFrame(index=pd.Index([f"i{n}" for n in range(max(item) + 1)], dtype=object))
    times = None if timestamp is None else np.array(timestamp)
    ratings = np.ones(len(user))
    return Dataset("made-up", RatingScale((1, 2)), users, items, np.array(user), np.array(item), ratings, times)


def check_partition(dataset: Dataset, split: Split) -> None:
    rows = np.concatenate([split.train_rows, split.test_rows])
    assert len(np.unique(rows)) == len(rows)
    assert set(rows) <= set(range(len(dataset)))
    assert (np.diff(split.train_rows) > 0).all()
    assert (np.diff(split.test_rows) > 0).all()


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=3, n_users=40, n_items=60, ratings_per_user=25).dataset


def test_kfold_holds_each_rating_out_once(world: Dataset) -> None:
    folds = splits.kfold(world, 4, seed=1)
    for fold in folds:
        check_partition(world, fold)
        assert len(fold.train_rows) + len(fold.test_rows) == len(world)
    held_out = np.concatenate([fold.test_rows for fold in folds])
    assert np.array_equal(np.sort(held_out), np.arange(len(world)))
    again = splits.kfold(world, 4, seed=1)
    assert all(np.array_equal(a.test_rows, b.test_rows) for a, b in zip(folds, again, strict=True))
    other = splits.kfold(world, 4, seed=2)
    assert not np.array_equal(folds[0].test_rows, other[0].test_rows)


@pytest.mark.parametrize("k", [0, 1, 10**6])
def test_impossible_numbers_of_folds_are_refused(world: Dataset, k: int) -> None:
    with pytest.raises(SettingsError, match=f"{k} folds of"):
        splits.kfold(world, k)
    with pytest.raises(SettingsError, match="rated items are not possible"):
        splits.items_out(world, k)
    with pytest.raises(SettingsError, match="users are not possible"):
        splits.users_out(world, k)


def test_keep_last_takes_the_latest_and_ties_keep_their_order() -> None:
    dataset = rated([0, 1, 0, 0, 1, 0], [0, 0, 1, 2, 1, 3], [5, 9, 5, 5, 1, 2])
    rows = np.arange(6)
    assert splits.keep_last(dataset, rows, 1).tolist() == [1, 3]
    assert splits.keep_last(dataset, rows, 2).tolist() == [1, 2, 3, 4]
    assert splits.keep_last(dataset, np.array([0, 4, 5]), 1).tolist() == [0, 4]
    assert splits.keep_last(dataset, np.array([], dtype=int), 1).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60), st.integers(1, 5))
def test_keep_last_equals_a_stable_sort(rows: list[tuple[int, int]], n: int) -> None:
    dataset = rated([user for user, _ in rows], list(range(len(rows))), [time for _, time in rows])
    frame = pd.DataFrame(rows, columns=["user", "time"])
    expected = frame.sort_values("time", kind="stable").groupby("user").tail(n).index
    assert splits.keep_last(dataset, np.arange(len(rows)), n).tolist() == sorted(expected)


def test_user_temporal_holds_out_the_latest_fifth(world: Dataset) -> None:
    split = splits.user_temporal(world)
    check_partition(world, split)
    assert split.uses_test_time
    assert world.timestamp is not None
    held_out = np.bincount(world.user[split.test_rows], minlength=world.n_users)
    assert np.array_equal(held_out, np.floor(0.2 * world.user_counts + 0.5))
    latest = pd.Series(world.timestamp[split.train_rows]).groupby(world.user[split.train_rows]).max()
    earliest = pd.Series(world.timestamp[split.test_rows]).groupby(world.user[split.test_rows]).min()
    assert (latest[earliest.index] <= earliest).all()


def test_without_times_orders_by_time_are_refused_not_faked() -> None:
    dataset = rated([0] * 10, list(range(10)))
    with pytest.raises(DataError, match=r"made-up has no timestamps, .*--timestamp-col.*shuffle_untimed"):
        splits.user_temporal(dataset)
    with pytest.raises(DataError, match="last 40 ratings needs; name the column"):
        splits.keep_last(dataset, np.arange(10))
    split = splits.user_temporal(dataset, shuffle_untimed=True)
    assert split.name == "user-random"
    assert not split.uses_test_time
    expected = np.sort(np.argsort(np.random.default_rng(0).random(10))[-2:])
    assert np.array_equal(split.test_rows, expected)


def test_items_out_holds_out_whole_items(world: Dataset) -> None:
    folds = splits.items_out(world, 5, seed=1)
    for fold in folds:
        check_partition(world, fold)
        assert not set(world.item[fold.train_rows]) & set(world.item[fold.test_rows])
    assert sum(len(fold.test_rows) for fold in folds) == len(world)


def test_items_out_once_follows_the_permutation_of_sorted_ids() -> None:
    dataset = rated([0] * 21, list(range(20, -1, -1)))
    numbered = pd.DataFrame(index=pd.Index([str(n) for n in range(21)], dtype=object))
    dataset = Dataset("n", dataset.scale, dataset.users, numbered, dataset.user, dataset.item, dataset.rating)
    split = splits.items_out_once(dataset)
    chosen = np.random.default_rng(0).permutation(21)[:2]
    assert set(dataset.item[split.test_rows]) == set(chosen)


def test_users_out_knows_the_earliest_ratings(world: Dataset) -> None:
    assert world.timestamp is not None
    tests = []
    for known in (0, 2, 5):
        folds = splits.users_out(world, 4, known, seed=1, reserved=5)
        for fold in folds:
            check_partition(world, fold)
            cold = np.unique(world.user[fold.test_rows])
            trained = np.bincount(world.user[fold.train_rows], minlength=world.n_users)
            assert (trained[cold] == known).all()
            for user in cold[:3]:
                mine = fold.train_rows[world.user[fold.train_rows] == user]
                later = fold.test_rows[world.user[fold.test_rows] == user]
                assert not known or world.timestamp[mine].max() <= world.timestamp[later].min()
        tests.append(np.concatenate([fold.test_rows for fold in folds]))
    assert np.array_equal(tests[0], tests[1])
    assert np.array_equal(tests[0], tests[2]), "the test rows do not depend on how many are known"
    with pytest.raises(SettingsError, match="must not be negative"):
        splits.users_out(world, 4, -1)


def test_real_genuine_folds(real_data: Callable[[str], Path]) -> None:
    root = real_data("ml-100k").parent
    dataset = load("ml-100k", root)
    folds = splits.genuine_folds(dataset, root)
    unseen = []
    for fold in folds:
        check_partition(dataset, fold)
        assert (len(fold.train_rows), len(fold.test_rows)) == (80_000, 20_000)
        unseen.append(len(set(dataset.item[fold.test_rows]) - set(dataset.item[fold.train_rows])))
    assert unseen == [32, 34, 32, 22, 32]
    assert [len(np.unique(dataset.user[fold.test_rows])) for fold in folds] == [459, 653, 869, 923, 927]
    assert len(np.unique(np.concatenate([fold.test_rows for fold in folds]))) == 100_000
    by_user = splits.genuine_folds(dataset, root, ("ua", "ub"))
    assert [len(fold.test_rows) for fold in by_user] == [9430, 9430]
    kept = splits.keep_last(dataset, folds[0].train_rows)
    assert np.bincount(dataset.user[kept]).max() == 40
    with pytest.raises(DataError, match=r"u1\.base row \d+: the rating is not in ml-100k"):
        splits.genuine_folds(dataset.take(np.arange(50_000)), root)


@pytest.mark.parametrize(
    ("name", "folder", "sizes", "last_40", "rmse", "cold_rmse"),
    [
        ("ml-1m", "ml-1m-users1-2999", (390_119, 97_531), 107_384, (1.144, 1.078), 1.042),
        ("ml-latest-small", "ml-latest-small", (80_672, 20_164), 21_022, (1.069, 0.967), 0.932),
        ("anime", "anime", (336_009, 83_934), None, (1.589, 1.362), 1.357),
        ("amazon-musical-instruments", "amazon", (8_284, 1_977), None, (0.972, 0.975), None),
        ("amazon-digital-music", "amazon", (5_850, 1_058), None, (0.784, 0.768), None),
    ],
)
def test_real_sizes_and_simple_errors_equal_the_references(
    name: str,
    folder: str,
    sizes: tuple[int, int],
    last_40: int | None,
    rmse: tuple[float, float],
    cold_rmse: float | None,
    real_data: Callable[[str], Path],
) -> None:
    dataset = load(name, real_data(folder).parent)
    split = splits.user_temporal(dataset, shuffle_untimed=True)
    assert (len(split.train_rows), len(split.test_rows)) == sizes
    assert simple_errors(dataset, split) == pytest.approx(rmse, abs=6e-4)
    if last_40 is not None:
        assert len(splits.keep_last(dataset, split.train_rows)) == last_40
    if cold_rmse is not None:
        assert simple_errors(dataset, splits.items_out_once(dataset))[1] == pytest.approx(cold_rmse, abs=6e-4)


def simple_errors(dataset: Dataset, split: Split) -> tuple[float, float]:
    """RMSE of the global mean and of the user mean."""
    user, rating = dataset.user[split.train_rows], dataset.rating[split.train_rows]
    counts = np.bincount(user, minlength=dataset.n_users)
    sums = np.bincount(user, rating, minlength=dataset.n_users)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), rating.mean())
    truth = dataset.rating[split.test_rows]
    predictions = (rating.mean(), means[dataset.user[split.test_rows]])
    first, second = (float(np.sqrt(np.mean((p - truth) ** 2))) for p in predictions)
    return first, second
