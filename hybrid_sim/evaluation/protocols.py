"""The protocols of the benchmark: which ratings are learned from and which are held out, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
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

PROTOCOLS = (
    *("last40", "full", "kfold", "user-temporal"),
    *("cold-items", "cold-items-tenth", "cold-users", "cold-both"),
)
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

    `full` trains on all ratings outside the fold, `last40` on each user's latest 40 of them: with the genuine
    folds u1 to u5 of MovieLens 100K (found under `data`), with five random ones elsewhere, which a note says.
    `kfold` is `full` with random folds everywhere. `user-temporal` is one fold, each user's last fifth, by
    time; data without times is refused unless `shuffle_untimed` is set. `cold-items` holds out a fifth of the
    items, `cold-items-tenth` (one fold, the same for everybody) a tenth of them, `cold-users` a fifth of the users
    with `known` ratings left for training, and `cold-both` the ratings of a fifth of the users for a fifth of the
    items, with all other ratings of both left out of training.

    Raises:
        SettingsError: the name or a fold is not known.
        DataError: the data has no times and the protocol needs them.
    """
    if name not in PROTOCOLS:
        raise SettingsError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    label, notes = name, []
    groups: Groups = "items" if name.startswith("cold-items") else "users"
    if name in ("last40", "full") and is_ml_100k(dataset):
        numbers = _chosen(folds, N_FOLDS, name)
        splits = genuine_folds(dataset, data, [f"u{number}" for number in numbers])
    elif name == "user-temporal":
        numbers = _chosen(folds, 1, name)
        splits = [user_temporal(dataset, shuffle_untimed=shuffle_untimed)]
        notes.append(
            "test rows are each user's last fifth by time; their timestamps reach no model."
            if splits[0].uses_test_time
            else "the data has no times: a random fifth of each user's ratings is held out."
        )
    elif name == "cold-items":
        numbers = _chosen(folds, N_FOLDS, name)
        splits = _pick(items_out(dataset, N_FOLDS, seed), numbers)
    elif name == "cold-items-tenth":
        numbers = _chosen(folds, 1, name)
        splits = [items_out_once(dataset)]
        notes.append("held out is the first tenth of the rated items, sorted by id and shuffled by default_rng(0).")
    elif name == "cold-both":
        numbers = _chosen(folds, N_FOLDS, name)
        splits = _pick(both_out(dataset, N_FOLDS, seed), numbers)
        notes.append("neither the user nor the item of a held-out rating has any rating to learn from.")
    elif name == "cold-users":
        numbers, label = _chosen(folds, N_FOLDS, name), f"cold-users-{known}"
        splits = _pick(users_out(dataset, N_FOLDS, known, seed), numbers)
        notes.append(f"{known} ratings of every held-out user are known; the user's first 20 are never tested.")
    else:
        numbers = _chosen(folds, N_FOLDS, name)
        splits = _pick(kfold(dataset, N_FOLDS, seed), numbers)
        notes.append(f"the folds are {N_FOLDS} random parts of the ratings (seed {seed}).")
    if name == "last40":
        splits = [_last(dataset, split) for split in splits]
    return Protocol(label, dataset, tuple(zip(numbers, splits, strict=True)), groups, tuple(notes))


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


def _chosen(folds: Sequence[int] | None, n_folds: int, protocol: str) -> list[int]:
    wanted = list(range(1, n_folds + 1)) if folds is None else list(folds)
    unknown = [number for number in wanted if not 1 <= number <= n_folds]
    if unknown or not wanted:
        has = "only fold 1" if n_folds == 1 else f"folds 1 to {n_folds}"
        raise SettingsError(f"there is no fold {unknown[0] if unknown else ''}; protocol {protocol} has {has}")
    return wanted


def _pick(splits: Sequence[Split], numbers: Sequence[int]) -> list[Split]:
    return [splits[number - 1] for number in numbers]


def _last(dataset: Dataset, split: Split) -> Split:
    return Split(f"{split.name}-last{HISTORY}", keep_last(dataset, split.train_rows, HISTORY), split.test_rows)
