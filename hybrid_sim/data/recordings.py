"""Recorded LLM ratings of a benchmark: one table, several, or a folder of them, as one recording."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.groups import permute_within_groups
from hybrid_sim.core.types import RatingScale
from hybrid_sim.data.columns import read_table
from hybrid_sim.models.recorded import Recorded, RecordedRatings

USUAL_NAMES = {
    "user": ("user_id", "userId", "user"),
    "item": ("item_id", "movie_id", "itemId", "movieId", "item"),
    "rating": ("llm_rating", "simulated_ratings", "simulated_rating", "rating"),
}
"""Names of columns that are looked for, in this order, where the caller names none. Lusifer's recordings hold the true
rating as `rating` and the LLM's as `simulated_ratings`."""

SUSPICIOUS = 0.95
"""Share of recorded ratings equal to the true ones above which a column must be the truth itself: people who
rate the same film twice agree with themselves in far fewer cases."""

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class RecordingColumns:
    """Names of the columns, None to look for the usual ones; `model` keeps only that value of `model`."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    model: str | None = None


def read_recordings(
    paths: Sequence[Path], dataset: Dataset, columns: RecordingColumns | None = None
) -> RecordedRatings:
    """All tables as one recording; of a folder those named `ratings_u<k>`, or all where none is called so.

    Raises:
        SettingsError: a path does not exist, or a folder holds no table.
        DataError: a row is refused, a column is not found, or a column repeats the true ratings.
        ScaleError: a rating is not on the scale of the dataset.
    """
    tables = [_read(path, dataset, columns or RecordingColumns()) for given in paths for path in _tables_of(given)]
    return RecordedRatings(
        np.concatenate([table.user_ids for table in tables]),
        np.concatenate([table.item_ids for table in tables]),
        np.concatenate([table.ratings for table in tables]),
        sum(table.n_missing for table in tables),
    )


def shuffle_within_users(recording: RecordedRatings, seed: int) -> RecordedRatings:
    """The same ratings, permuted among the pairs of each user.

    They hold users' levels but not their tastes: the control for the gain by an LLM's ratings.
    """
    return replace(recording, ratings=recording.ratings[permute_within_groups(recording.user_ids, seed)])


def _tables_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SettingsError(f"there is no file or folder {path} of LLM ratings; check --llm-ratings")
    files = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in (".csv", ".parquet"))
    by_fold = [entry for entry in files if re.fullmatch(r"ratings_u\d+", entry.stem)]
    if not files:
        raise SettingsError(f"{path} holds no .csv or .parquet file of LLM ratings; check --llm-ratings")
    return by_fold or files


def _read(path: Path, dataset: Dataset, columns: RecordingColumns) -> RecordedRatings:
    names = read_table(path, wanted=()).names
    named = {field: getattr(columns, field) or _usual_name(field, names, path) for field in USUAL_NAMES}
    recording = read_recorded(path, dataset.scale, model=columns.model, **named)
    _log.info("%s: %d LLM ratings from column %r", path.name, len(recording), named["rating"])
    _refuse_truth(recording, dataset, path, named["rating"])
    return recording


def read_recorded(
    path: str | Path,
    scale: RatingScale,
    *,
    user: str = "user_id",
    item: str = "item_id",
    rating: str = "rating",
    model: str | None = None,
    option: str = "--llm-{}-col",
) -> RecordedRatings:
    """The recorded ratings of one table; `user`, `item` and `rating` are the names of its columns.

    `option` is how the option is called that names a column, for messages.

    An empty rating is a missing answer, counted and left out; everything else must be a number on the scale.
    With `model`, only that value of the column `model` is kept; without it, all models' ratings of a pair are
    pooled.

    Raises:
        SettingsError: there is no such file.
        DataError: the file cannot be read, lacks a column, or a row holds no id or no number on the scale.
    """
    table = read_table(path, wanted=[user, item, rating, "model"])
    for column, role in ((user, "user"), (item, "item"), (rating, "rating")):
        table.require(column, option.format(role))
    if model is not None:
        table.require("model", "the column 'model'")
        table = table.take(np.flatnonzero(np.array(table.texts("model"), dtype=object) == model))
        if not len(table):
            raise DataError(f"{path} has no row of model {model!r}; choose a value of its column 'model'")
    missing = table.missing(rating)
    table = table.take(np.flatnonzero(~missing))
    ratings, users, items = table.numbers(rating), table.ids(user), table.ids(item)
    refused = np.flatnonzero(~scale.contains(ratings))
    if len(refused):
        record = int(refused[0])
        raise DataError(
            f"{table.where(record, rating)}: {table.value(record, rating)!r} is not a number on the scale {scale}; "
            "fix the row, or leave the cell empty where none was recorded"
        )
    return RecordedRatings(users.names[users.codes], items.names[items.codes], ratings, int(missing.sum()))


def _usual_name(field: str, names: Sequence[str], path: Path) -> str:
    for name in USUAL_NAMES[field]:
        if name in names:
            return name
    raise DataError(
        f"{path.name} has none of the columns {', '.join(USUAL_NAMES[field])}; it has {', '.join(map(repr, names))}; "
        f"name the right one with --llm-{field}-col"
    )


def _refuse_truth(recording: RecordedRatings, dataset: Dataset, path: Path, column: str) -> None:
    """A recording that equals the data's own ratings would let the benchmark see what it must predict."""
    replayed = Recorded(recording).fit(dataset).rate(dataset.pairs)
    known = replayed.answered
    agreed = replayed.take(known).prob_of(dataset.rating[known])
    if known.sum() >= 20 and agreed.mean() >= SUSPICIOUS:
        raise DataError(
            f"{path.name}, column {column!r}: {agreed.mean():.0%} of its ratings equal the true ones, so it "
            "holds the truth and not an LLM's ratings; name the LLM's column with --llm-rating-col"
        )
