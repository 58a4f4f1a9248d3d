"""Any table of ratings (CSV, Parquet, JSON lines), with tables of items and users, through a column map."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, RatingScale
from hybrid_sim.data.columns import Table, read_table
from hybrid_sim.data.ratings import Duplicates, assemble


@dataclass(frozen=True)
class ColumnMap:
    """What the columns of the files are called.

    `user`, `item` and `rating` must exist. The others may be missing as long as they keep their default name;
    a name that the caller chose must exist. `timestamp=None` reads no times. `items_id` and `users_id` are the ids in
    the tables of items and users, where they are not called as in the ratings. `item_features` and
    `user_features` are columns of numbers or categories that are taken as they are; only name what is known
    before a rating is given, never an average of ratings.
    """

    user: str = "user_id"
    item: str = "item_id"
    rating: str = "rating"
    timestamp: str | None = "timestamp"
    title: str = "title"
    year: str = "year"
    genres: str = "genres"
    overview: str = "overview"
    items_id: str | None = None
    users_id: str | None = None
    item_features: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ("age", "gender", "occupation")


YEARS = (1000, 2999)
"""What is taken for a year: a typing error (20011) would stretch the scale of years over all others."""

_log = logging.getLogger("hybrid_sim")

_OPTIONS = {
    name: f"--{name}-col" for name in ("user", "item", "rating", "timestamp", "title", "year", "genres", "overview")
}


def read_dataset(
    ratings: Path | str,
    items: Path | str | None = None,
    users: Path | str | None = None,
    columns: ColumnMap | None = None,
    scale: RatingScale | None = None,
    duplicates: Duplicates = "last",
    name: str | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    header: Sequence[str] | None = None,
) -> Dataset:
    """Read ratings, and items and users where given; see `read_table` for the formats.

    Ids are exact texts by one rule: the characters that stand in a text file (leading zeros stay), the
    decimal digits of whole numbers in Parquet. The rating scale is `scale`, or detected from the ratings and
    logged. Of repeated pairs the last counts, or their mean rounded to the scale, or they are an error. The
    dataset is called `name`, else as the file. `delimiter` is that of text files, else it is detected; `header` names
    the columns of ratings where the file has no header (empty for user_id, item_id, rating, timestamp).

    Raises:
        SettingsError: a file is missing.
        DataError: a row cannot be used; the message names file, row, column, value and cure.
        ScaleError: a rating is not on the scale, or the scale cannot be told.
    """
    columns = columns or ColumnMap()
    wanted = [columns.user, columns.item, columns.rating, *([columns.timestamp] if columns.timestamp else [])]
    table = read_table(ratings, wanted=wanted, names=header, delimiter=delimiter, encoding=encoding)
    for field in ("user", "item", "rating"):
        table.require(getattr(columns, field), _OPTIONS[field])
    timestamp = _optional(table, columns, "timestamp")
    return assemble(
        table,
        name=name or table.path.stem,
        user=columns.user,
        item=columns.item,
        rating=columns.rating,
        timestamp=timestamp,
        users=None if users is None else _read_users(users, columns, delimiter, encoding),
        items=None if items is None else _read_items(items, columns, delimiter, encoding),
        scale=scale,
        duplicates=duplicates,
    )


def frame_by_id(table: Table, column: str, data: dict[str, Any], *, may_repeat: bool = False) -> pd.DataFrame:
    """Side information with one row per id of `column`; `data` holds sequences, arrays of numbers stay
    numbers. With `may_repeat`, a row that repeats another exactly is left out.

    Raises:
        DataError: an id occurs twice.
    """
    ids = table.ids(column)
    index = pd.Index(ids.names[ids.codes], dtype=object)
    numeric = {name: isinstance(values, np.ndarray) for name, values in data.items()}
    series = {name: pd.Series(values, index, dtype=float if numeric[name] else object) for name, values in data.items()}
    frame = pd.DataFrame(series, index=index)
    repeated = index.duplicated()
    if may_repeat and repeated.any():
        exact = frame.assign(**{"\0id": index}).duplicated().to_numpy()
        frame, dropped = frame[~exact], np.flatnonzero(exact)
        if len(dropped):
            place = table.where(int(dropped[0]), column)
            _log.warning("%s: %d rows repeat another exactly and count once", place, len(dropped))
        repeated = repeated & ~exact
    if repeated.any():
        record = int(np.flatnonzero(repeated)[0])
        raise DataError(
            f"{table.where(record, column)}: the id {index[record]!r} has a row already; remove one of them"
        )
    return frame


def split_genres(texts: list[str]) -> list[tuple[str, ...]]:
    """Texts of several genres each, split at `|` where any of them holds one, else at `;`, else at commas.

    >>> split_genres(["Drama|War, Western", "(no genres listed)"])
    [('Drama', 'War, Western'), ()]
    """
    separator = next((mark for mark in "|;" if any(mark in text for text in texts)), ",")
    return [
        tuple(dict.fromkeys(part.strip() for part in text.split(separator) if part.strip()))
        if text != "(no genres listed)"
        else ()
        for text in texts
    ]


def read_sets(
    table: Table, column: str, split: Callable[[list[str]], list[tuple[str, ...]]] = split_genres
) -> list[tuple[str, ...]]:
    """A column of sets of names: lists, lists written as JSON or as Python literals (of names, or of objects with a
    `name`), else texts that `split` divides. A text that begins as a list and is none counts as empty, with a warning.
    """
    values = table.columns[column]
    if not hasattr(values.type, "value_type") or pa.types.is_dictionary(values.type):
        texts = table.texts(column)
        is_list = [text.lstrip().startswith("[") for text in texts]
        names = iter(split([text for text, listed in zip(texts, is_list, strict=True) if not listed]))
        sets = [_parse_list(text) if listed else next(names) for text, listed in zip(texts, is_list, strict=True)]
        unread = [record for record, members in enumerate(sets) if members is None]
        if unread:
            _log.warning(
                "%s: %r cannot be read as a list and counts as empty (%d such rows)",
                table.where(unread[0], column),
                texts[unread[0]],
                len(unread),
            )
        return [members or () for members in sets]
    return [_names(members or []) for members in values.to_pylist()]


def _parse_list(text: str) -> tuple[str, ...] | None:
    """The names in a list in JSON or as a Python literal, None where it is neither; nothing is run."""
    for parse in (json.loads, ast.literal_eval):
        try:
            members = parse(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return _names(members) if isinstance(members, list) else None
    return None


def _names(members: list[Any]) -> tuple[str, ...]:
    names = [member.get("name") if isinstance(member, dict) else member for member in members]
    return tuple(dict.fromkeys(name.strip() for name in names if isinstance(name, str) and name.strip()))


def _read_items(path: Path | str, columns: ColumnMap, delimiter: str | None, encoding: str) -> pd.DataFrame:
    item_id = columns.items_id or columns.item
    wanted = [item_id, columns.title, columns.year, columns.genres, columns.overview, *columns.item_features]
    table = read_table(path, wanted=wanted, delimiter=delimiter, encoding=encoding)
    table.require(item_id, "--items-id-col")
    data: dict[str, Any] = {}
    for field, (read, empty) in _ITEM_FIELDS.items():
        column = _optional(table, columns, field)
        data[field] = empty_column(empty, len(table)) if column is None else read(table, column)
    for feature in columns.item_features:
        table.require(feature, "--item-feature")
        data[feature] = _feature(table, feature)
    return frame_by_id(table, item_id, data, may_repeat=True)


def _read_users(path: Path | str, columns: ColumnMap, delimiter: str | None, encoding: str) -> pd.DataFrame:
    user_id = columns.users_id or columns.user
    wanted = [user_id, *columns.user_features]
    table = read_table(path, wanted=wanted, delimiter=delimiter, encoding=encoding)
    table.require(user_id, "--users-id-col")
    is_default = columns.user_features == ColumnMap.user_features
    data: dict[str, Any] = {}
    for feature in columns.user_features:
        if not is_default:
            table.require(feature, "user_features")
        if feature in table.columns:
            data[feature] = _feature(table, feature)
    return frame_by_id(table, user_id, data, may_repeat=True)


def _optional(table: Table, columns: ColumnMap, field: str) -> str | None:
    """The column of a field, or None where it keeps its default name and the file lacks it."""
    column: str | None = getattr(columns, field)
    default = next(entry.default for entry in fields(ColumnMap) if entry.name == field)
    if column and column != default:
        table.require(column, _OPTIONS[field])
    return column if column and column in table.columns else None


def _years(table: Table, column: str) -> FloatArray:
    """Years, NaN where the number can be none: a whole date, milliseconds, a typing error."""
    years = table.numbers(column)
    refused = np.flatnonzero((years < YEARS[0]) | (years > YEARS[1]))
    if len(refused):
        _log.warning(
            "%s: %.15g is no year from %d to %d and counts as missing (%d such rows)",
            table.where(int(refused[0]), column),
            years[refused[0]],
            *YEARS,
            len(refused),
        )
    return np.where((years < YEARS[0]) | (years > YEARS[1]), np.nan, years)


_ITEM_FIELDS: dict[str, tuple[Callable[[Table, str], Any], Any]] = {
    "title": (Table.texts, ""),
    "year": (_years, np.nan),
    "genres": (read_sets, ()),
    "overview": (Table.texts, ""),
}
"""How each field of an item is read, and its value where the table lacks the column."""


def empty_column(value: Any, n: int) -> Any:
    """A column of `n` missing values, NaN, "" or (), for `frame_by_id`."""
    return np.full(n, value) if isinstance(value, float) else [value] * n


def _feature(table: Table, column: str) -> Any:
    """Numbers where every value is one, else text: a leading zero, as in a zip code, makes text."""
    values = table.columns[column]
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            return table.numbers(column)
        return table.texts(column)
    texts = table.texts(column)
    number = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d+)?")
    if all(not text or number.fullmatch(text) for text in texts) and any(texts):
        return table.numbers(column)
    return texts
