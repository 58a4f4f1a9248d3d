"""From columns of foreign ratings to a `Dataset`: scale, times, repeats and ids, checked and stated."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, ScaleError, SettingsError
from hybrid_sim.core.types import FloatArray, IntArray, RatingScale
from hybrid_sim.data.columns import Ids, Table
from hybrid_sim.data.scales import detect_scale
from hybrid_sim.data.times import read_times

Duplicates = Literal["last", "mean", "error"]

MISSING_IDS = frozenset(("nan", "NaN", "NAN", "null", "NULL", "None", "\\N", "<NA>", "N/A", "#N/A"))
"""How programs write a missing value as text."""

_log = logging.getLogger("hybrid_sim")


def assemble(
    table: Table,
    *,
    name: str,
    user: str = "user_id",
    item: str = "item_id",
    rating: str = "rating",
    timestamp: str | None = "timestamp",
    users: pd.DataFrame | None = None,
    items: pd.DataFrame | None = None,
    scale: RatingScale | None = None,
    duplicates: Duplicates = "last",
) -> Dataset:
    """The dataset of these ratings, in the order of the file.

    The catalogue is `users` and `items` in their order, followed by ids that only occur in ratings, in order
    of first appearance. Repeated pairs keep the place and time of their last row.

    Raises:
        DataError: a row cannot be used, or there are no ratings.
        ScaleError: a rating is not on the scale, or the scale cannot be told.
    """
    if duplicates not in ("last", "mean", "error"):
        raise SettingsError(f"duplicates={duplicates!r} is not known; use last, mean or error")
    if not len(table):
        raise DataError(f"{table.path.name} holds no ratings; expected a row per rating below the header")
    user_ids, item_ids = table.ids(user), table.ids(item)
    for column, ids in ((user, user_ids), (item, item_ids)):
        _report_missing_ids(table, column, ids)
    ratings, scale = _on_scale(table, rating, scale)
    times = None if timestamp is None else read_times(table, timestamp)
    user_frame, user_codes = _catalogue(users, user_ids, f"{table.path.name}: user")
    item_frame, item_codes = _catalogue(items, item_ids, f"{table.path.name}: item")
    rows, ratings = _resolve_repeats(table, (user, item), user_codes, item_codes, ratings, scale, duplicates)
    return Dataset(
        name=name,
        scale=scale,
        users=user_frame,
        items=item_frame,
        user=user_codes[rows],
        item=item_codes[rows],
        rating=ratings,
        timestamp=None if times is None else times[rows],
    )


def _report_missing_ids(table: Table, column: str, ids: Ids) -> None:
    for code, name in enumerate(ids.names):
        if name in MISSING_IDS:
            count = int((ids.codes == code).sum())
            _log.warning(
                "%s, column %r: the id %r occurs %d times and looks like a missing value; if it is, remove these rows",
                table.path.name,
                column,
                name,
                count,
            )


def _on_scale(table: Table, column: str, scale: RatingScale | None) -> tuple[FloatArray, RatingScale]:
    ratings = table.numbers(column)
    unusable = np.flatnonzero(~np.isfinite(ratings))
    if len(unusable):
        value = ratings[unusable[0]]
        raise DataError(
            f"{table.where(int(unusable[0]), column)}: the rating is {'missing' if np.isnan(value) else 'infinite'}; "
            f"fix or remove the row ({len(unusable)} such rows)"
        )
    if scale is None:
        scale, is_known = detect_scale(ratings)
        if is_known:
            _log.info("%s: rating scale %s (detected)", table.path.name, scale)
        else:
            _log.warning(
                "%s: rating scale %s taken from the distinct ratings; declare --scale if other ratings are possible",
                table.path.name,
                scale,
            )
    off_scale = np.flatnonzero(~scale.contains(ratings))
    if len(off_scale):
        raise ScaleError(
            f"{table.where(int(off_scale[0]), column)}: rating {ratings[off_scale[0]]:g} is not on the scale {scale}; "
            f"declare another --scale or fix the row ({len(off_scale)} such rows)"
        )
    return scale.round(ratings), scale


def _catalogue(listed: pd.DataFrame | None, rated: Ids, what: str) -> tuple[pd.DataFrame, IntArray]:
    """The frame of all ids, and the frame's row number of every rating."""
    names = pd.Index(rated.names, dtype=object)
    frame = pd.DataFrame(index=names) if listed is None else listed
    unlisted = names[frame.index.get_indexer(names) < 0]
    if len(unlisted):
        _log.warning("%ss without a row of their own: %d, for example %r", what, len(unlisted), unlisted[0])
        frame = _fill_missing(frame.reindex(frame.index.append(unlisted)))
    report_collisions(frame.index, what)
    return frame, frame.index.get_indexer(names).astype(np.int64)[rated.codes]


def _fill_missing(frame: pd.DataFrame) -> pd.DataFrame:
    """Ids without side information get empty text and empty sets; missing numbers stay NaN."""
    for column in frame.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]]:
        is_set = frame[column].map(lambda value: isinstance(value, tuple)).any()
        empty = () if is_set else ""
        values = [value if isinstance(value, str | tuple) else empty for value in frame[column]]
        frame[column] = pd.Series(values, frame.index, dtype=object)
    return frame


def report_collisions(ids: pd.Index[str], what: str) -> None:
    """Warn once of ids that are one number written in several ways (1, 01, 1.0); they are kept apart."""
    numbers = ids.to_series().str.extract(r"^\s*\+?0*(\d+?)(?:\.0*)?\s*$")[0].dropna()
    collided = numbers[numbers.duplicated(keep=False)].sort_values(kind="stable")
    if len(collided):
        example = ", ".join(repr(name) for name in collided.index[collided == collided.iloc[0]])
        _log.warning(
            "%s ids are exact texts and kept apart, but %d of them are numbers written in several ways: %s",
            what,
            len(collided),
            example,
        )


def _resolve_repeats(
    table: Table,
    columns: tuple[str, str],
    user: IntArray,
    item: IntArray,
    ratings: FloatArray,
    scale: RatingScale,
    policy: Duplicates,
) -> tuple[IntArray, FloatArray]:
    """The rows that stay, in file order, and their ratings."""
    pair = pd.Series(user * (int(item.max()) + 1) + item)
    repeated = pair.duplicated(keep="last").to_numpy()
    rows = np.flatnonzero(~repeated).astype(np.int64)
    if not repeated.any():
        return rows, ratings
    if policy == "error":
        later = int(np.flatnonzero(pair.duplicated(keep="first"))[0])
        first = int(np.flatnonzero(pair == pair[later])[0])
        raise DataError(
            f"{table.path.name} row {table.row(later)}, columns {columns[0]!r} and {columns[1]!r}: the same pair as in "
            f"row {table.row(first)}; remove one, or choose duplicates last or mean ({int(repeated.sum())} such rows)"
        )
    kept = "the last rating counts" if policy == "last" else "the mean counts, rounded to the scale"
    _log.warning("%s: %d rows repeat a (user, item) pair; %s", table.path.name, int(repeated.sum()), kept)
    if policy == "last":
        return rows, ratings[rows]
    means = pd.Series(ratings).groupby(pair.to_numpy()).transform("mean").to_numpy()
    return rows, scale.round(means)[rows]
