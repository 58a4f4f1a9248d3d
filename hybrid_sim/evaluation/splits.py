"""Which ratings are learned from and which are held out, as row numbers of a dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs
from hybrid_sim.data.columns import read_table
from hybrid_sim.data.delimited import RATING_NAMES
from hybrid_sim.data.sources import data_folder, find_folder

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows to test on, both ascending and disjoint.

    `uses_test_time` says that the test rows were chosen by when they happened.
    """

    name: str
    train_rows: IntArray
    test_rows: IntArray
    uses_test_time: bool = False


def genuine_folds(
    dataset: Dataset, folder: Path | str | None = None, folds: Sequence[str] = ("u1", "u2", "u3", "u4", "u5")
) -> list[Split]:
    """The folds that MovieLens 100K comes with: `u1` to `u5`, or `ua` and `ub` (ten test ratings per user).

    `folder` is found as by `load`.

    Raises:
        SettingsError: the folder or a file of it is not there.
        DataError: a rating of a fold is not in the dataset.
    """
    place = find_folder("ml-100k", data_folder(folder))
    return [
        Split(fold, _rows_of_file(dataset, place / f"{fold}.base"), _rows_of_file(dataset, place / f"{fold}.test"))
        for fold in folds
    ]


def kfold(dataset: Dataset, k: int = 5, seed: int = 0) -> list[Split]:
    """The ratings in `k` random parts of equal size, each held out once.

    Raises:
        SettingsError: `k` is below 2 or above the number of ratings.
    """
    fold = _fold_numbers(len(dataset), k, seed, "ratings")
    return [_split(f"kfold-{part + 1}", fold == part) for part in range(k)]


def keep_last(dataset: Dataset, rows: IntArray, n: int = 40) -> IntArray:
    """Of these rows, each user's last `n` by time; ties keep the order of the dataset. Ascending.

    Raises:
        DataError: the dataset has no times.
    """
    if dataset.timestamp is None:
        raise _untimed(dataset, f"each user's last {n} ratings", "use all ratings for training instead")
    from_end = _places_from_end(dataset.user[rows], dataset.timestamp[rows].astype(float))
    return np.sort(rows[from_end < n])


def user_temporal(dataset: Dataset, fraction: float = 0.2, *, shuffle_untimed: bool = False) -> Split:
    """Hold out the last `floor(fraction * n + 0.5)` of each user's `n` ratings, by time; ties keep the
    dataset's order.

    Without times the split is refused, unless `shuffle_untimed` is set: then the order is that of
    `default_rng(0).random(n_ratings)`, which is said in the log and in the name of the split.

    Raises:
        DataError: the dataset has no times.
        SettingsError: `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise SettingsError(f"fraction={fraction} is not between 0 and 1")
    name = "user-temporal"
    if dataset.timestamp is not None:
        key = dataset.timestamp.astype(float)
    elif shuffle_untimed:
        name = "user-random"
        key = np.random.default_rng(0).random(len(dataset))
        _log.warning("%s has no times: each user's ratings are held out in a random order", dataset.name)
    else:
        raise _untimed(dataset, "a split by time", "use --protocol kfold, or in Python shuffle_untimed=True")
    held_out = np.floor(fraction * dataset.user_counts + 0.5).astype(np.int64)
    from_end = _places_from_end(dataset.user, key)
    return _split(name, from_end < held_out[dataset.user], uses_test_time=dataset.timestamp is not None)


def items_out(dataset: Dataset, n_folds: int = 5, seed: int = 0) -> list[Split]:
    """The rated items in `n_folds` random parts; each part is held out once with all its ratings.

    Raises:
        SettingsError: `n_folds` is below 2 or above the number of rated items.
    """
    fold = _folds_of_rated(dataset.item_counts, n_folds, seed, "rated items")
    return [_split(f"cold-items-{part + 1}", fold[dataset.item] == part) for part in range(n_folds)]


def items_out_once(dataset: Dataset, fraction: float = 0.1) -> Split:
    """Hold out the first `int(fraction * n)` of `default_rng(0).permutation(n)` over the `n` rated items,
    sorted by id.

    Ids that are all whole numbers are sorted as numbers, others as text.
    """
    rated = np.flatnonzero(dataset.item_counts)
    ids = pd.Series(dataset.items.index[rated].to_numpy())
    are_numbers = ids.str.fullmatch(r"\d{1,18}").all()
    order = rated[np.argsort((ids.astype("int64") if are_numbers else ids).to_numpy(), kind="stable")]
    chosen = np.random.default_rng(0).permutation(len(order))[: int(fraction * len(order))]
    held_out = np.zeros(dataset.n_items, dtype=bool)
    held_out[order[chosen]] = True
    return _split("cold-items", held_out[dataset.item])


def both_out(dataset: Dataset, n_folds: int = 5, seed: int = 0) -> list[Split]:
    """Users and items with ratings in `n_folds` random parts each; fold k tests part k of both on each other.

    Ratings of which only the user or only the item is held out are neither trained on nor tested.

    Raises:
        SettingsError: `n_folds` is below 2 or above the number of rated items or of users.
    """
    user_fold = _folds_of_rated(dataset.user_counts, n_folds, seed, "users")
    item_fold = _folds_of_rated(dataset.item_counts, n_folds, seed, "rated items")
    splits = []
    for part in range(n_folds):
        cold_user, cold_item = user_fold[dataset.user] == part, item_fold[dataset.item] == part
        train, test = np.flatnonzero(~cold_user & ~cold_item), np.flatnonzero(cold_user & cold_item)
        splits.append(Split(f"cold-both-{part + 1}", train, test))
    return splits


def users_out(dataset: Dataset, n_folds: int = 5, known: int = 0, seed: int = 0, *, reserved: int = 20) -> list[Split]:
    """The users with ratings in `n_folds` random parts; of each held-out user `known` ratings are trained on.

    The known ones are the user's earliest, or random ones where the dataset has no times. The first
    `reserved` ratings are never tested, so that 0, 5, 10 and 20 known ratings are compared on the same test
    rows.

    Raises:
        SettingsError: `n_folds` is below 2 or above the number of users, or `known` is negative.
    """
    if known < 0 or reserved < 0:
        raise SettingsError(f"known={known} and reserved={reserved} must not be negative")
    fold = _folds_of_rated(dataset.user_counts, n_folds, seed, "users")
    times = dataset.timestamp
    key = np.random.default_rng(seed).random(len(dataset)) if times is None else times.astype(float)
    place = dataset.user_counts[dataset.user] - 1 - _places_from_end(dataset.user, key)
    splits = []
    for part in range(n_folds):
        cold = fold[dataset.user] == part
        train, test = ~cold | (place < known), cold & (place >= max(known, reserved))
        splits.append(Split(f"cold-users-{known}-{part + 1}", np.flatnonzero(train), np.flatnonzero(test)))
    return splits


def _rows_of_file(dataset: Dataset, path: Path) -> IntArray:
    table = read_table(path, names=RATING_NAMES, delimiter="\t", quoted=False)
    user, item = table.ids("user_id"), table.ids("item_id")
    known_user = dataset.users.index.get_indexer(pd.Index(user.names, dtype=object))[user.codes]
    known_item = dataset.items.index.get_indexer(pd.Index(item.names, dtype=object))[item.codes]
    pairs = pd.Index(dataset.pairs.keys(dataset.n_items))
    rows = pairs.get_indexer(pd.Index(Pairs(known_user, known_item).keys(dataset.n_items)))
    if (rows < 0).any():
        place = table.row(int(np.flatnonzero(rows < 0)[0]))
        raise DataError(
            f"{path.name} row {place}: the rating is not in {dataset.name}; use the folds of the same download"
        )
    return np.sort(rows).astype(np.int64)


def _folds_of_rated(counts: IntArray, n_folds: int, seed: int, what: str) -> IntArray:
    """The fold of every user or item that has ratings, -1 for the others."""
    rated = np.flatnonzero(counts)
    fold = np.full(len(counts), -1, dtype=np.int64)
    fold[rated] = _fold_numbers(len(rated), n_folds, seed, what)
    return fold


def _fold_numbers(n: int, n_folds: int, seed: int, what: str) -> IntArray:
    if not 2 <= n_folds <= n:
        raise SettingsError(f"{n_folds} folds of {n} {what} are not possible; choose 2 to {n}")
    fold = np.empty(n, dtype=np.int64)
    fold[np.random.default_rng(seed).permutation(n)] = np.arange(n) % n_folds
    return fold


def _places_from_end(user: IntArray, key: FloatArray) -> IntArray:
    """How many ratings of the same user come after each one, by key; ties keep their order."""
    if not len(user):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((key, user))
    ends = np.append(np.flatnonzero(np.diff(user[order])), len(user) - 1)
    places = np.empty(len(user), dtype=np.int64)
    places[order] = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(user))
    return places


def _split(name: str, held_out: NDArray[np.bool_], uses_test_time: bool = False) -> Split:
    return Split(name, np.flatnonzero(~held_out), np.flatnonzero(held_out), uses_test_time)


def _untimed(dataset: Dataset, what: str, cure: str) -> DataError:
    return DataError(
        f"{dataset.name} has no timestamps, which {what} needs; name the column (--timestamp-col), or {cure}"
    )
