"""From columns of foreign ratings to a `Dataset`: scale, times, repeats and ids, checked and stated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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

MissingIds = Literal["refuse", "drop", "keep"]

LARGEST = 1e9
"""A number above this is no rating."""

NO_RATINGS = (-9999, -999, -99, -1, 99, 999, 9999)
"""Numbers far from the other ratings that often stand for none; 0 is one where it is far too frequent."""

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
    rounded: bool = False,
    duplicates: Duplicates = "last",
) -> Dataset:
    """The dataset of these ratings, in the order of the file; where `rounded`, each is the nearest level of `scale`.

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
        _report_rounded_ids(table, column, ids)
    ratings, scale = _on_scale(table, rating, scale, rounded)
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


def without_missing_ids(table: Table, columns: Sequence[str], policy: MissingIds) -> Table:
    """The table without the rows that lack an id; empty, `nan`, `NULL`, `None` and `\\N` are how files write none.

    Raises:
        DataError: there is such a row and `policy` is "refuse".
    """
    if policy not in ("refuse", "drop", "keep"):
        raise SettingsError(f"missing_ids={policy!r} is not known; use refuse, drop or keep")
    missing = {column: table.without_value(column) for column in columns if policy != "keep"}
    for column, rows in missing.items():
        if not rows.any():
            continue
        first, n = int(np.flatnonzero(rows)[0]), int(rows.sum())
        value = table.value(first, column)
        what = f"{table.where(first, column)}: the id is {f'{value!r}, a missing value' if value else 'missing'}"
        if policy == "refuse":
            cure = ", or take it for an id with --missing-ids keep" if value else ""
            raise DataError(f"{what} ({n} of {len(table)} rows); leave these rows out with --missing-ids drop{cure}")
        _log.warning("%s; %d of %d rows are left out", what, n, len(table))
    if not any(rows.any() for rows in missing.values()):
        return table
    return table.take(np.flatnonzero(~np.logical_or.reduce(list(missing.values()))))


def without_unrated(table: Table, column: str, unrated: Sequence[float]) -> Table:
    """The table without the rows whose rating is one of the numbers `unrated`; NaN stands for an empty cell."""
    if not unrated:
        return table
    ratings = table.numbers(column)
    dropped = np.isin(ratings, unrated) | (np.isnan(ratings) & np.isnan(unrated).any())
    numbers = ", ".join(f"{number:g}" for number in unrated)
    _log.info("%s: %d of %d rows are left out (--unrated %s)", table.path.name, dropped.sum(), len(table), numbers)
    return table.take(np.flatnonzero(~dropped))


def _report_rounded_ids(table: Table, column: str, ids: Ids) -> None:
    """Spreadsheets round long numbers, so that several ids become one."""
    rounded = [name for name in ids.names[pd.Index(ids.names).str.fullmatch(r"-?\d(\.\d+)?[eE]\+\d+")]]
    if rounded:
        n = int(np.isin(ids.names[ids.codes], rounded).sum())
        _log.warning(
            "%s, column %r: %d ids are rounded numbers such as %s (%d rows), so that different ids may have become "
            "one; write the column as text",
            table.path.name,
            column,
            len(rounded),
            rounded[0],
            n,
        )


def _on_scale(table: Table, column: str, scale: RatingScale | None, rounded: bool) -> tuple[FloatArray, RatingScale]:
    ratings = table.numbers(column)
    unusable = np.flatnonzero(~(np.abs(ratings) <= LARGEST))
    if len(unusable):
        value = ratings[unusable[0]]
        problem = "missing" if np.isnan(value) else f"{value:g}" if np.isfinite(value) else "infinite"
        raise DataError(
            f"{table.where(int(unusable[0]), column)}: the rating is {problem}; fix or remove the row"
            f"{', or leave such rows out with --unrated nan' if np.isnan(value) else ''} ({len(unusable)} such rows)"
        )
    # of numbers that were single precision once: 3.9000000953674316 is the level 3.9
    levels, place = np.unique(ratings, return_inverse=True)
    ratings = np.array([level if level.is_integer() else float(f"{level:.6g}") for level in levels.tolist()])[place]
    _ask_about_unrated(table, ratings)
    if scale is not None and rounded:
        ratings = scale.round(ratings)
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
            f"declare another --scale, leave such rows out (--unrated {ratings[off_scale[0]]:g}), take the nearest "
            f"level (--round) or fix the row ({len(off_scale)} such rows)"
        )
    if len(ratings) > 1 and (ratings == ratings[0]).all():
        _log.warning(
            "%s: all %d ratings are %g, so nothing can be learned from them or judged by them",
            table.path.name,
            len(ratings),
            ratings[0],
        )
    return scale.round(ratings), scale


def _ask_about_unrated(table: Table, ratings: FloatArray) -> None:
    levels, counts = np.unique(ratings, return_counts=True)
    steps = np.unique(np.diff(levels))
    if len(levels) < 3 or (len(levels) == 3 and len(steps) == 1):
        return
    shares = dict(zip(levels.tolist(), (counts / len(ratings)).tolist(), strict=True))
    inner = np.abs(levels[~np.isin(levels, NO_RATINGS)])
    suspects = [level for level in NO_RATINGS if level in shares and len(inner) and _stands_apart(level, levels, inner)]
    if levels[0] == 0 and counts[0] > max(0.1 * len(ratings), 2 * counts[1]):
        suspects.append(0)
    for level in suspects:
        _log.warning(
            "%s: %d of %d ratings (%.0f%%) are %d, which often means 'not rated'; if it does, leave them out with "
            "--unrated %d (else they count as opinions)",
            table.path.name,
            round(shares[level] * len(ratings)),
            len(ratings),
            100 * shares[level],
            level,
            level,
        )


def _stands_apart(level: int, levels: FloatArray, inner: FloatArray) -> bool:
    """Whether a number is no rating beside the others: the only negative one, or far beyond all."""
    return bool(levels[levels < 0].tolist() == [-1] if level == -1 else abs(level) > 3 * inner.max())


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
