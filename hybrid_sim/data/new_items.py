"""New items: a table of items without ratings, to be added to the items of a dataset."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.data.columns import Frame, Table, read_table
from hybrid_sim.data.ratings import report_collisions
from hybrid_sim.data.tables import YEARS, empty_column, frame_by_id, read_sets

TEXTS = ("title", "genres", "overview")
"""An item without any of these says nothing of what it is about."""

_log = logging.getLogger("hybrid_sim")


def read_new_items(
    path: Path | str | Frame, dataset: Dataset, item_column: str = "item_id", encoding: str = "utf-8"
) -> pd.DataFrame:
    """The items of a file (CSV, Parquet, JSON lines) or frame, with the columns that the items of `dataset` have.

    Columns are found by the names of `dataset.items`; one that the file lacks is empty, one that the dataset lacks is
    left out, and both are logged. Genres and other sets are split as in `split_genres`.

    Raises:
        SettingsError: the file is missing.
        DataError: a row cannot be used: an id that is empty, occurs twice or is in the dataset already, a number or
            year that is none, or an item without title, genres and overview.
    """
    table = read_table(path, wanted=[item_column, *dataset.items.columns], encoding=encoding)
    table.require(item_column, "--new-item-col")
    if not set(TEXTS) & set(dataset.items.columns):
        raise DataError(
            f"{dataset.name} knows no {', '.join(TEXTS)} of its items, so nothing of theirs can be learned that would "
            "tell about new ones; name its table of items (--items FILE)"
        )
    if not len(table):
        raise DataError(f"{table.path.name} holds no items; expected a row per item below the header")
    _report_columns(table, dataset, item_column)
    data = {column: _read(table, dataset, column) for column in dataset.items.columns}
    frame = frame_by_id(table, item_column, data)
    _refuse_known(table, frame, dataset, item_column)
    _refuse_textless(table, frame)
    return frame


def add_items(dataset: Dataset, items: pd.DataFrame) -> Dataset:
    """The dataset with `items` at the end of its catalogue; nobody has rated them."""
    whole = pd.concat([dataset.items, items[dataset.items.columns]])
    whole.index.name = dataset.items.index.name
    return replace(dataset, items=whole)


def _read(table: Table, dataset: Dataset, column: str) -> Any:
    """A column of the file as the kind of column that the dataset has: numbers, sets or texts."""
    is_numeric = pd.api.types.is_numeric_dtype(dataset.items[column])
    is_set = any(isinstance(cell, tuple) for cell in dataset.items[column])
    if column not in table.columns:
        return empty_column(np.nan if is_numeric else () if is_set else "", len(table))
    if is_numeric:
        return _numbers(table, column)
    return read_sets(table, column) if is_set else table.texts(column)


def _numbers(table: Table, column: str) -> Any:
    numbers = table.numbers(column)
    allowed = np.isfinite(numbers)
    if column == "year":
        allowed &= (numbers >= YEARS[0]) & (numbers <= YEARS[1])
    refused = np.flatnonzero(~allowed & ~np.isnan(numbers))
    if len(refused):
        expected = f"a year from {YEARS[0]} to {YEARS[1]}" if column == "year" else "a finite number"
        raise DataError(
            f"{table.where(int(refused[0]), column)}: {numbers[refused[0]]:g} is not {expected}; fix it or leave it "
            f"empty ({len(refused)} such rows)"
        )
    return numbers


def _report_columns(table: Table, dataset: Dataset, item_column: str) -> None:
    known = list(dataset.items.columns)
    ignored = [name for name in table.names if name not in (*known, item_column)]
    if ignored:
        _log.warning(
            "%s: columns that the items of %s do not have are left out: %s; its columns are %s (rename yours)",
            table.path.name,
            dataset.name,
            ", ".join(map(repr, ignored)),
            ", ".join(known),
        )
    missing = [name for name in known if name not in table.columns]
    if missing:
        _log.info("%s: nothing is known of the new items' %s", table.path.name, ", ".join(missing))


def _refuse_known(table: Table, frame: pd.DataFrame, dataset: Dataset, item_column: str) -> None:
    known = np.flatnonzero(dataset.items.index.get_indexer(frame.index) >= 0)
    if len(known):
        raise DataError(
            f"{table.where(int(known[0]), item_column)}: item {frame.index[known[0]]!r} is in {dataset.name} already; "
            f"give a new item an id of its own, or ask `hybrid-sim predict` about known ones ({len(known)} such rows)"
        )
    report_collisions(dataset.items.index.append(frame.index), f"{table.path.name}: item")


def _refuse_textless(table: Table, frame: pd.DataFrame) -> None:
    texts = [frame[column].map(_has_text) for column in TEXTS if column in frame]
    textless = np.flatnonzero(~np.logical_or.reduce(texts)) if texts else np.arange(len(frame))
    if len(textless):
        first = int(textless[0])
        raise DataError(
            f"{table.path.name} row {table.row(first)}: item {frame.index[first]!r} has no title, genres or overview, "
            f"so there is nothing to go by; fill one in or leave the item out ({len(textless)} such rows)"
        )


def _has_text(cell: str | tuple[str, ...]) -> bool:
    """Whether a text, or a member of a set, has a letter or digit in it."""
    return any(character.isalnum() for text in ((cell,) if isinstance(cell, str) else cell) for character in text)
