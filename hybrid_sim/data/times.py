"""Times of ratings in the forms that files hold them, as seconds UTC."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.data.columns import Table
from hybrid_sim.data.delimited import NUMBER

DATES = (
    "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%Y", "%m %d, %Y", "%b %d, %Y",
    "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y",
)  # fmt: skip
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")

FORMATS = (
    "ISO8601",
    "%a %b %d %H:%M:%S %z %Y",  # Goodreads, Twitter
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %z",  # e-mail
    *(date + time for date in DATES for time in TIMES),
)
"""Forms of dates in text; the one that fits most rows is taken, of several the first."""

EARLY = 100_000_000
"""March 1973, in seconds: ratings are later, so that smaller numbers are no seconds, or an order alone."""

LATEST = 253_402_300_800
"""The year 10000, in seconds."""

UNITS = ("", "milli", "micro", "nano")
"""Prefixes of seconds; a number of a larger unit begins at 1e11 (the year 5138), 1e14 and 1e17."""

EXCEL = (25_569, 73_050)
"""1970 to 2099 as Excel counts days, from 1899-12-30."""

NO_TIMES = "read without times: --timestamp-col '' (ColumnMap(timestamp=None))"

_ZONES = {
    "Z": 0, "UT": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8,
    "PDT": -7, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3,
}  # fmt: skip
"""Hours ahead of UTC: the names of RFC 5322 (as North America uses them) and of the European Union."""

_ZONE = re.compile(rf"(?<=[\dM]) ?\b({'|'.join(_ZONES)})\b(?=$| \d{{4}}$)")

_EPOCH = pd.Timestamp(0, unit="s", tz="UTC").as_unit("s")
_SECOND = pd.Timedelta(seconds=1).as_unit("s")  # in nanoseconds, which are the default, times would end in 2262

_log = logging.getLogger("hybrid_sim")


def read_times(table: Table, column: str) -> IntArray:
    """A column of times as seconds UTC: numbers since 1970 (seconds, milli-, micro- or nanoseconds), dates as
    `20170828` or `20170828145929`, days as Excel counts them, or text in one of `FORMATS`.

    Raises:
        DataError: a time is missing or not understood, or units or orders of day and month are mixed.
    """
    values = table.columns[column]
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        seconds = pc.cast(pc.cast(values, pa.timestamp("s"), safe=False), pa.int64()).to_numpy()
        numbers = np.asarray(seconds, dtype=float)
    elif _holds_dates(table, column):
        numbers = _dates(table, column)
    else:
        numbers = _in_seconds(table, column)
    refused = np.flatnonzero(~(np.abs(numbers) < LATEST))
    if len(refused):
        value = table.value(int(refused[0]), column)
        problem = "is missing" if value is None or not str(value).strip() else f"{str(value)[:60]!r} is not a time"
        raise DataError(
            f"{table.where(int(refused[0]), column)}: the timestamp {problem} ({len(refused)} such rows); "
            f"fix it, or {NO_TIMES}"
        )
    times: IntArray = np.floor(numbers).astype(np.int64)
    _warn_of_odd_times(table, column, times)
    return times


def _holds_dates(table: Table, column: str) -> bool:
    """Whether the first value that is there is text, and no number."""
    present = np.flatnonzero(~table.missing(column))
    first = table.value(int(present[0]), column) if len(present) else None
    return isinstance(first, str) and NUMBER.fullmatch(first.strip()) is None


def _dates(table: Table, column: str) -> FloatArray:
    """Text as seconds, NaN where it has another form than most rows."""
    texts = pd.Series(table.texts(column)).str.strip()
    texts = texts.str.replace(r"\[[\w/]+\]$", "", regex=True)
    texts = texts.str.replace(_ZONE, lambda match: f" {_ZONES[match[1]]:+03d}00", regex=True)
    texts = texts.str.replace(r"^(\d{4})/(\d\d?)/", r"\1-\2-", regex=True)
    sample = texts[texts != ""].drop_duplicates().head(200)
    best = max(FORMATS, key=lambda form: int(_parsed(sample, form).notna().sum()))
    times = _parsed(texts, best)
    if (other := _day_and_month_swapped(best)) != best:
        swapped = _parsed(texts, other)
        if swapped.notna().sum() > times.notna().sum():
            return _seconds(swapped)
        if swapped.notna().sum() == times.notna().sum() and not swapped.equals(times):
            raise DataError(
                f"{table.where(0, column)}: {texts[0]!r} may begin with the day or with the month; write times as in "
                f"2017-08-28, or {NO_TIMES}"
            )
    return _seconds(times)


def _parsed(texts: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(texts, utc=True, format=form, errors="coerce")


def _day_and_month_swapped(form: str) -> str:
    return re.sub("%([md])([/-])%([md])", r"%\3\2%\1", form)


def _seconds(times: pd.Series) -> FloatArray:
    return np.asarray((times - _EPOCH) / _SECOND, dtype=float)


def _in_seconds(table: Table, column: str) -> FloatArray:
    numbers = table.numbers(column).copy()
    present = numbers[np.isfinite(numbers)]
    if not len(present):
        return numbers
    for form, first, last in (("%Y%m%d", 19000101, 21001231), ("%Y%m%d%H%M%S", 19000101000000, 21001231235959)):
        if (present >= first).all() and (present <= last).all():
            days = _parsed(pd.Series(present).astype(np.int64).astype(str), form)
            if days.notna().all():
                _log.info("%s: timestamps are dates (%d is %s)", table.path.name, present[0], days[0].date())
                numbers[np.isfinite(numbers)] = _seconds(days)
                return numbers
    if (present >= EXCEL[0]).all() and (present <= EXCEL[1]).all():
        numbers = (numbers - EXCEL[0]) * 86_400
        day = datetime.fromtimestamp(np.nanmin(numbers), UTC).date()
        _log.warning("%s: timestamps are taken as Excel's days (%g is %s)", table.path.name, present.min(), day)
        return np.round(numbers)
    unit = np.digitize(np.abs(numbers), (1e11, 1e14, 1e17))
    late = np.flatnonzero(np.isfinite(numbers) & (np.abs(numbers) > EARLY))
    units = np.bincount(unit[late], minlength=4)
    if (units > 0).sum() > 1:
        usual = int(units.argmax())
        odd = int(late[unit[late] != usual][0])
        raise DataError(
            f"{table.where(odd, column)}: {numbers[odd]:.0f} is in {UNITS[unit[odd]]}seconds, most timestamps are in "
            f"{UNITS[usual]}seconds ({len(late) - units[usual]} such rows); write all in one unit, or {NO_TIMES}"
        )
    if units[1:].any():
        usual = int(units.argmax())
        _log.info("%s: timestamps are in %sseconds (%.0f)", table.path.name, UNITS[usual], numbers[late[0]])
        return numbers / 1000.0**usual
    return numbers


def _warn_of_odd_times(table: Table, column: str, times: IntArray) -> None:
    """A rating cannot be later than the file that holds it (a day is granted for time zones and clocks), 0 stands for
    unknown beside times of this century, equal or small numbers are no times."""
    file, written = table.path.name, table.path.stat().st_mtime if table.path.exists() else np.inf
    late = np.flatnonzero(times > written + 86_400)
    if len(late):
        _log.warning(
            "%s: %d timestamps are later than the file itself (%s), the first is %d",
            table.where(int(late[0]), column),
            len(late),
            datetime.fromtimestamp(written, UTC).date(),
            times[late[0]],
        )
    zero, others = np.flatnonzero((times == 0) | (times == -1)), times[times > EARLY]
    if len(zero) and len(others):
        first, last = (datetime.fromtimestamp(int(time), UTC).year for time in (others.min(), others.max()))
        _log.warning(
            "%s: %d of %d timestamps are %d (1970) beside times of %d to %d; if they are unknown, they decide what is "
            "held out: leave times out with --timestamp-col ''",
            table.where(int(zero[0]), column),
            len(zero),
            len(times),
            times[zero[0]],
            first,
            last,
        )
    if len(times) > 1 and (times == times[0]).all():
        _log.warning(
            "%s, column %r: all %d timestamps are equal (%d), which is no order; leave times out with "
            "--timestamp-col ''",
            file,
            column,
            len(times),
            times[0],
        )
    elif not len(others) and len(times):
        _log.warning(
            "%s, column %r: timestamps from %d to %d are no seconds since 1970; only their order counts",
            file,
            column,
            times.min(),
            times.max(),
        )
