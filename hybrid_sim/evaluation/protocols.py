"""The protocols of the benchmark by name: which ratings are learned from and which are held out.

A protocol is a function with one registration. Another package adds its own in a module that it names as an entry point
of the group `hybrid_sim.protocols`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.registry import Registry
from hybrid_sim.evaluation.scores import Groups
from hybrid_sim.evaluation.splits import (
    Split,
    both_out,
    genuine_folds,
    items_out,
    items_out_once,
    keep_last,
    kfold,
    user_temporal,
    users_out,
)

_log = logging.getLogger("hybrid_sim")

N_FOLDS = 5
HISTORY = 40
"""Training ratings per user in `last40`: the latest ones, as many as Lusifer's paper gives its models."""


@dataclass(frozen=True)
class Fold:
    """What one fold learns from and what it is scored on; both share one catalogue.

    `groups` says what was held out together, and so what may not be on both sides when something is learned from one
    part of the held-out ratings for another.
    """

    number: int
    train: Dataset
    held_out: Dataset
    groups: Groups = "users"


@dataclass(frozen=True)
class Protocol:
    """The folds of one protocol on one dataset.

    `name` is what the results are labelled with, `groups` what intervals must resample, and `notes` say in
    sentences how the folds came about where the name does not.
    """

    name: str
    dataset: Dataset
    splits: tuple[tuple[int, Split], ...]
    groups: Groups = "users"
    notes: tuple[str, ...] = ()

    def folds(self) -> Iterator[Fold]:
        """Training and held-out ratings, fold by fold.

        Raises:
            SettingsError: a fold holds nothing out, or leaves nothing to learn from.
        """
        for number, split in self.splits:
            for what, rows in (("held-out", split.test_rows), ("training", split.train_rows)):
                if not len(rows):
                    raise SettingsError(
                        f"{self.dataset.name}, protocol {self.name}: fold {number} has no {what} ratings; "
                        "choose another protocol or more data"
                    )
            yield Fold(number, self.dataset.take(split.train_rows), self.dataset.take(split.test_rows), self.groups)


@dataclass(frozen=True)
class Options:
    """What the folds may depend on beside the dataset.

    `data` is the folder in which data sets are found, `known` the number of training ratings of a held-out user.
    `shuffle_untimed` allows a random order of ratings where the dataset has no times.
    """

    data: Path | str | None = None
    known: int = 0
    seed: int = 0
    shuffle_untimed: bool = False


@dataclass(frozen=True)
class Folds:
    """All folds of a protocol, with notes on how they were made.

    `suffix` follows the protocol's name in the label of the results.
    """

    splits: Sequence[Split]
    notes: tuple[str, ...] = ()
    suffix: str = ""


MakeFolds = Callable[[Dataset, Options], Folds]


@dataclass(frozen=True)
class ProtocolEntry:
    """A protocol before it is applied to a dataset; see `protocol` for the fields."""

    make: MakeFolds
    help: str
    groups: Groups
    needs_times: bool
    options: tuple[str, ...]


PROTOCOLS: Registry[ProtocolEntry] = Registry("protocol", "protocols")


def protocol(
    name: str, help: str, *, groups: Groups = "users", needs_times: bool = False, options: tuple[str, ...] = ()
) -> Callable[[MakeFolds], MakeFolds]:
    """Register the function below, which makes the folds, as the protocol `name`.

    `help` is its line in the help of commands, `groups` what intervals of its results resample. With `needs_times` a
    dataset without times is refused. `options` are the command line's options that it takes ("known"); with another
    protocol these are refused.
    """

    def register(make: MakeFolds) -> MakeFolds:
        PROTOCOLS.add(name, ProtocolEntry(make, help, groups, needs_times, options))
        return make

    return register


def make_protocol(
    name: str,
    dataset: Dataset,
    *,
    folds: Sequence[int] | None = None,
    data: Path | str | None = None,
    known: int = 0,
    seed: int = 0,
    shuffle_untimed: bool = False,
) -> Protocol:
    """The protocol called `name`, one of `PROTOCOLS`, on a dataset; `folds` are the numbers wanted, from 1.

    The other arguments are those of `Options`.

    Raises:
        SettingsError: the name or a fold is not known.
        DataError: the data has no times and the protocol needs them.
    """
    entry = PROTOCOLS[name]
    if entry.needs_times and dataset.timestamp is None:
        raise DataError(
            f"{dataset.name} has no timestamps, which protocol {name} needs; name the column (--timestamp-col), or "
            "choose another protocol"
        )
    made = entry.make(dataset, Options(data, known, seed, shuffle_untimed))
    n_folds = len(made.splits)
    numbers = list(range(1, n_folds + 1)) if folds is None else list(folds)
    unknown = [number for number in numbers if not 1 <= number <= n_folds]
    if unknown or not numbers:
        has = "only fold 1" if n_folds == 1 else f"folds 1 to {n_folds}"
        raise SettingsError(f"there is no fold {unknown[0] if unknown else ''}; protocol {name} has {has}")
    splits = tuple((number, made.splits[number - 1]) for number in numbers)
    notes = (*made.notes, *_doubts(dataset, [split for _, split in splits]))
    return Protocol(name + made.suffix, dataset, splits, entry.groups, notes)


COPIES = 0.5
"""Share of held-out ratings that repeat a training rating above which accuracy says nothing."""


def _doubts(dataset: Dataset, splits: Sequence[Split]) -> list[str]:
    """Why results on these splits say little, in sentences, which are logged: one review is often filed under several
    ids of a product, and times that are all equal are no order."""
    times = dataset.timestamp
    if times is None or not len(times):
        return []
    notes = []
    frame = pd.DataFrame({"user": dataset.user, "time": times, "rating": dataset.rating})
    reviews = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    copied = np.concatenate([np.isin(reviews[split.test_rows], reviews[split.train_rows]) for split in splits])
    if copied.sum() > COPIES * len(copied) and len(np.unique(times)) > 1:
        notes.append(
            f"{copied.sum()} of {len(copied)} held-out ratings repeat a training rating of the same user at the same "
            "time (one review under several ids, or times too coarse): accuracy on them says nothing of prediction."
        )
    if len(times) > 1 and (times == times[0]).all() and any(split.uses_test_time for split in splits):
        notes.append("all times are equal: what is held out as latest is the end of the file, not of time.")
    for note in notes:
        _log.warning("%s: %s", dataset.name, note)
    return notes


@protocol("last40", f"as full, but learn from each user's latest {HISTORY} training ratings", needs_times=True)
def _last40(dataset: Dataset, options: Options) -> Folds:
    folds = _full(dataset, options)
    splits = [
        Split(f"{split.name}-last{HISTORY}", keep_last(dataset, split.train_rows, HISTORY), split.test_rows)
        for split in folds.splits
    ]
    return replace(folds, splits=splits)


@protocol("full", "the genuine folds u1 to u5 of ml-100k, elsewhere five random ones")
def _full(dataset: Dataset, options: Options) -> Folds:
    return Folds(genuine_folds(dataset, options.data)) if is_ml_100k(dataset) else _kfold(dataset, options)


@protocol("kfold", "five random folds, whatever the data")
def _kfold(dataset: Dataset, options: Options) -> Folds:
    notes = (f"the folds are {N_FOLDS} random parts of the ratings (seed {options.seed}).",)
    return Folds(kfold(dataset, N_FOLDS, options.seed), notes)


@protocol("user-temporal", "hold out each user's last fifth, by time")
def _user_temporal(dataset: Dataset, options: Options) -> Folds:
    split = user_temporal(dataset, shuffle_untimed=options.shuffle_untimed)
    note = (
        "test rows are each user's last fifth by time; their timestamps reach no model."
        if split.uses_test_time
        else "the data has no times: a random fifth of each user's ratings is held out."
    )
    return Folds([split], (note,))


@protocol("cold-items", "hold out whole items, a fifth per fold", groups="items")
def _cold_items(dataset: Dataset, options: Options) -> Folds:
    return Folds(items_out(dataset, N_FOLDS, options.seed))


@protocol("cold-items-tenth", "hold out one tenth of the items, the same for everybody", groups="items")
def _cold_items_tenth(dataset: Dataset, options: Options) -> Folds:
    note = "held out is the first tenth of the rated items, sorted by id and shuffled by default_rng(0)."
    return Folds([items_out_once(dataset)], (note,))


@protocol("cold-users", "hold out whole users, a fifth per fold, all but --known ratings", options=("known",))
def _cold_users(dataset: Dataset, options: Options) -> Folds:
    note = f"{options.known} ratings of every held-out user are known; the user's first 20 are never tested."
    splits = users_out(dataset, N_FOLDS, options.known, options.seed)
    return Folds(splits, (note,), f"-{options.known}")


@protocol("cold-both", "ratings of a fifth of the users for a fifth of the items, neither seen")
def _cold_both(dataset: Dataset, options: Options) -> Folds:
    note = "neither the user nor the item of a held-out rating has any rating to learn from."
    return Folds(both_out(dataset, N_FOLDS, options.seed), (note,))


def parse_folds(text: str) -> list[int]:
    """Fold numbers from `1,2`, `1-3` or `u1,u2`.

    >>> parse_folds("u1,3-5")
    [1, 3, 4, 5]

    Raises:
        SettingsError: the text has another form.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*u?(\d{1,3})(?:-u?(\d{1,3}))?\s*", part)
        if match is None:
            raise SettingsError(f"folds {text!r} are not understood; write numbers as in 1,2 or 1-3")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return sorted(set(numbers))


def is_ml_100k(dataset: Dataset) -> bool:
    """Whether the dataset is MovieLens 100K, which comes with folds of its own."""
    return dataset.name == "ml-100k" or dataset.name.startswith("ml-100k-")
