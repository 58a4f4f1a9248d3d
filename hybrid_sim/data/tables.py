"""Any table of ratings (CSV, Parquet, JSON lines), with tables of items and users, through a column map."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, RatingScale
from hybrid_sim.data.columns import Frame, Table, read_table
from hybrid_sim.data.ratings import Duplicates, MissingIds, assemble, without_missing_ids, without_unrated


@dataclass(frozen=True)
class ColumnMap:
    """What the columns of the files are called.

    `user`, `item` and `rating` must exist. The others may be missing as long as they keep their default name;
    a name that the caller chose must exist. `timestamp=None` reads no times. `items_id` and `users_id` are the ids in
    the tables of items and users, where they are not called as in the ratings. `genres_delimiter` stands between
    genres, where they are no lists; else it is detected (see `split_genres`). `item_features` and `user_features` are
    columns of numbers or categories that are taken as they are; only name what is known before a rating is given, never
    an average of ratings.
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
    genres_delimiter: str | None = None
    item_features: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ("age", "gender", "occupation")


YEARS = (1000, 2999)
"""What is taken for a year: a typing error (20011) would stretch the scale of years over all others."""

MAX_MEMBERS = 1000
"""Genres of one item at most; more are no genres."""

_log = logging.getLogger("hybrid_sim")

_HINTS = {
    "user": " (that of --users with --users-id-col)",
    "item": " (that of --items with --items-id-col)",
    "rating": "; events without ratings (plays, clicks) need those that were offered and not taken, as rating 0",
}

_OPTIONS = {
    name: f"--{name}-col" for name in ("user", "item", "rating", "timestamp", "title", "year", "genres", "overview")
}


def read_dataset(
    ratings: Path | str | Frame,
    items: Path | str | Frame | None = None,
    users: Path | str | Frame | None = None,
    columns: ColumnMap | None = None,
    scale: RatingScale | None = None,
    duplicates: Duplicates = "last",
    name: str | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    header: Sequence[str] | None = None,
    items_header: Sequence[str] | None = None,
    users_header: Sequence[str] | None = None,
    unrated: Sequence[float] = (),
    rounded: bool = False,
    missing_ids: MissingIds = "refuse",
) -> Dataset:
    """Read ratings, and items and users where given, from files or frames; see `read_table` for the formats.

        hs.read_dataset("ratings.csv", items="items.csv")
        hs.read_dataset(ratings_frame, columns=hs.ColumnMap(user="customer"))     # pandas, polars, pyarrow, ...

    Ids are exact texts by one rule: the characters that stand in a text file (leading zeros stay), the
    decimal digits of whole numbers in Parquet. The rating scale is `scale`, or detected from the ratings and
    logged; where `rounded`, ratings between its levels are the nearest one. Of repeated pairs the last counts, or their
    mean rounded to the scale, or they are an error. The dataset is called `name`, else as the file. `delimiter` is that
    of text files, else it is detected; `header`, `items_header` and `users_header` name the columns of files without a
    header (an empty `header` stands for user_id, item_id, rating, timestamp). Rows whose rating is one of the numbers
    `unrated` are left out (NaN: empty cells); `missing_ids` says whether rows with an id such as `nan` are refused,
    dropped, or kept under that id.

    Raises:
        SettingsError: a file is missing.
        DataError: a row cannot be used; the message names file, row, column, value and cure.
        ScaleError: a rating is not on the scale, or the scale cannot be told.
    """
    columns = columns or ColumnMap()
    read = partial(read_table, delimiter=delimiter, encoding=encoding)
    wanted = [columns.user, columns.item, columns.rating, *([columns.timestamp] if columns.timestamp else [])]
    table = read(ratings, wanted=wanted, names=header, header_option="--columns")
    for field in ("user", "item", "rating"):
        table.require(getattr(columns, field), _OPTIONS[field] + _HINTS.get(field, ""))
    timestamp = _optional(table, columns, "timestamp")
    table = without_unrated(table, columns.rating, unrated)
    table = without_missing_ids(table, [columns.user, columns.item], missing_ids)
    listed: dict[str, pd.DataFrame | None] = {"users": None, "items": None}
    if users is not None:
        side = read(users, wanted=_wanted_of_users(columns), names=users_header, header_option="--users-columns")
        listed["users"] = _user_frame(side, columns, missing_ids)
    if items is not None:
        side = read(items, wanted=_wanted_of_items(columns), names=items_header, header_option="--items-columns")
        listed["items"] = _item_frame(side, columns, missing_ids)
    return assemble(
        table,
        name=name or table.path.stem,
        user=columns.user,
        item=columns.item,
        rating=columns.rating,
        timestamp=timestamp,
        **listed,
        scale=scale,
        rounded=rounded,
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
            level = logging.WARNING if len(frame) > len(dropped) else logging.INFO  # a row per rating, not per item
            _log.log(level, "%s: %d rows repeat another exactly and count once", place, len(dropped))
        repeated = repeated & ~exact
    if repeated.any():
        record = int(np.flatnonzero(repeated)[0])
        raise DataError(
            f"{table.where(record, column)}: the id {index[record]!r} has a row already; remove one of them"
        )
    return frame


def split_genres(texts: list[str], delimiter: str | None = None) -> list[tuple[str, ...]]:
    """Texts of several genres each, split at `delimiter`, else at `|` where any of them holds one, else at `;`, else at
    commas.

    >>> split_genres(["Drama|War, Western", "(no genres listed)"])
    [('Drama', 'War, Western'), ()]
    """
    mark = delimiter or next((mark for mark in "|;" if any(mark in text for text in texts)), ",")
    return [() if text == "(no genres listed)" else _distinct(text.split(mark)) for text in texts]


def read_sets(
    table: Table, column: str, split: Callable[[list[str]], list[tuple[str, ...]]] = split_genres
) -> list[tuple[str, ...]]:
    """A column of sets of names: lists, lists written as JSON or as literals of Python or numpy (of names, or of
    objects with a `name`), else texts that `split` divides. A text that begins as a list and is none counts as empty,
    with a warning.

    Raises:
        DataError: a set has more than `MAX_MEMBERS` names.
    """
    sets = _read_sets(table, column, split)
    if (most := max(map(len, sets), default=0)) > MAX_MEMBERS:
        record = next(record for record, members in enumerate(sets) if len(members) == most)
        raise DataError(
            f"{table.where(record, column)}: a list of {most} names, at most {MAX_MEMBERS} are possible; shorten it, "
            "or name another column"
        )
    return sets


def _read_sets(table: Table, column: str, split: Callable[[list[str]], list[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    values = table.columns[column]
    if not hasattr(values.type, "value_type"):
        texts = table.texts(column)
        is_list = [re.match(r"\s*([\[{]|\(['\"])", text) is not None for text in texts]
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
    """The names in a list in JSON or as a Python literal, or the keys of an object; None where it is none of these.
    Nothing is run. Between strings numpy writes no commas.
    """
    text = re.sub(r"""(?<=['"])\s+(?=['"])""", ", ", text.strip())
    for parse in (json.loads, ast.literal_eval):
        try:
            members = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return _names(list(members)) if isinstance(members, list | tuple | set | dict) else None
    return None


def _names(members: list[Any]) -> tuple[str, ...]:
    names = [member.get("name") if isinstance(member, dict) else member for member in members]
    return _distinct(name for name in names if isinstance(name, str))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def _wanted_of_items(columns: ColumnMap) -> list[str]:
    item_id = columns.items_id or columns.item
    return [item_id, columns.title, columns.year, columns.genres, columns.overview, *columns.item_features]


def _wanted_of_users(columns: ColumnMap) -> list[str]:
    return [columns.users_id or columns.user, *columns.user_features]


def _item_frame(table: Table, columns: ColumnMap, missing_ids: MissingIds) -> pd.DataFrame:
    item_id = columns.items_id or columns.item
    table.require(item_id, "--items-id-col")
    table = without_missing_ids(table, [item_id], missing_ids)
    data: dict[str, Any] = {}
    for field, (read, empty) in _ITEM_FIELDS.items():
        column = _optional(table, columns, field)
        if column is None:
            data[field] = empty_column(empty, len(table))
        elif field == "genres" and columns.genres_delimiter:
            data[field] = read_sets(table, column, partial(split_genres, delimiter=columns.genres_delimiter))
        else:
            data[field] = read(table, column)
    for feature in columns.item_features:
        table.require(feature, "--item-feature")
        data[feature] = _feature(table, feature)
    return frame_by_id(table, item_id, data, may_repeat=True)


def _user_frame(table: Table, columns: ColumnMap, missing_ids: MissingIds) -> pd.DataFrame:
    user_id = columns.users_id or columns.user
    table.require(user_id, "--users-id-col")
    table = without_missing_ids(table, [user_id], missing_ids)
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
    """Years, of dates their year; NaN where there can be none: milliseconds, a typing error."""
    texts = pd.Series(table.texts(column), dtype=object).str.strip()
    found = texts.str.extract(r"(?<![\d.,])(\d{4})(?!\d)")[0]
    years = np.asarray(found.astype(float), dtype=float)
    refused = np.flatnonzero(~((years >= YEARS[0]) & (years <= YEARS[1])) & ~table.without_value(column))
    if len(refused):
        _log.warning(
            "%s: %.60s is no year from %d to %d and counts as missing (%d such rows)",
            table.where(int(refused[0]), column),
            texts[refused[0]],
            *YEARS,
            len(refused),
        )
    return np.where((years >= YEARS[0]) & (years <= YEARS[1]), years, np.nan)


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
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return table.numbers(column)
    texts, missing = table.texts(column), table.without_value(column)
    number = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d+)?")
    is_number = np.array([bool(number.fullmatch(text.strip())) for text in texts], dtype=bool)
    others = np.flatnonzero(~is_number & ~missing)
    if not len(others) and is_number.any():
        return table.numbers(column)
    if len(others) and is_number.sum() >= len(others):
        _log.warning(
            "%s: %.60r is no number, so that all of %r are categories (%d such rows); empty the cell or fix it",
            table.where(int(others[0]), column),
            texts[others[0]],
            column,
            len(others),
        )
    return texts
