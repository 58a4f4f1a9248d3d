"""Times of ratings in the forms that files hold them, as seconds UTC."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.data.columns import Table
from hybrid_sim.data.delimited import NUMBER

FORMATS = (
    "ISO8601",
    "%a %b %d %H:%M:%S %z %Y",  # Goodreads, Twitter
    "%a, %d %b %Y %H:%M:%S %z",  # e-mail
    "%b %d, %Y",
    "%m %d, %Y",  # Amazon
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
)
"""Forms of dates in text, the first that fits most rows is taken."""

EARLY = 100_000_000
"""March 1973, in seconds: ratings are later, so that smaller numbers are no seconds, or an order alone."""

_EPOCH = pd.Timestamp(0, unit="s", tz="UTC").as_unit("s")
_SECOND = pd.Timedelta(seconds=1).as_unit("s")  # in nanoseconds, which are the default, times would end in 2262

_log = logging.getLogger("hybrid_sim")


def read_times(table: Table, column: str) -> IntArray:
    """A column of times as seconds UTC: numbers since 1970 (seconds, milli-, micro- or nanoseconds), dates as
    `20170828`, or text in one of `FORMATS`.

    The unit follows from the median: seconds stay below 1e11 until the year 5138.

    Raises:
        DataError: a time is missing or not understood.
    """
    values = table.columns[column]
    if pa.types.is_temporal(values.type):
        seconds = pc.cast(pc.cast(values, pa.timestamp("s"), safe=False), pa.int64()).to_numpy()
        numbers = np.asarray(seconds, dtype=float)
    elif _holds_dates(table, column):
        numbers = _dates(table, column)
    else:
        numbers = _in_seconds(table, table.numbers(column))
    refused = np.flatnonzero(~(np.abs(numbers) < 2.0**53))
    if len(refused):
        value = table.value(int(refused[0]), column)
        problem = "is missing" if value is None or not str(value).strip() else f"{value!r} is not a time"
        raise DataError(
            f"{table.where(int(refused[0]), column)}: the timestamp {problem} ({len(refused)} such rows); "
            "fix it, or read without times: --timestamp-col '' (ColumnMap(timestamp=None))"
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
    texts = texts.str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True).str.replace(
        r"^(\d{4})/(\d\d?)/", r"\1-\2-", regex=True
    )
    tried = {form: pd.to_datetime(texts, utc=True, format=form, errors="coerce") for form in FORMATS[:1]}
    if tried[FORMATS[0]].isna().mean() > 0.5:
        tried |= {form: pd.to_datetime(texts, utc=True, format=form, errors="coerce") for form in FORMATS[1:]}
    best = max(tried, key=lambda form: int(tried[form].notna().sum()))
    other = best.replace("%m/%d", "%d/%m")
    if (
        other != best
        and tried[other].notna().sum() == tried[best].notna().sum()
        and not tried[other].equals(tried[best])
    ):
        raise DataError(
            f"{table.where(0, column)}: {texts[0]!r} may begin with the day or with the month; write times as in "
            "2017-08-28, or read without times: --timestamp-col '' (ColumnMap(timestamp=None))"
        )
    return np.asarray((tried[best] - _EPOCH) / _SECOND, dtype=float)


def _in_seconds(table: Table, numbers: FloatArray) -> FloatArray:
    present = numbers[np.isfinite(numbers)]
    if len(present) and (present >= 19000101).all() and (present <= 21001231).all():
        days = pd.to_datetime(
            pd.Series(present).astype(np.int64).astype(str), format="%Y%m%d", errors="coerce", utc=True
        )
        if days.notna().all():
            _log.info("%s: timestamps are dates (%d is %s)", table.path.name, present[0], days[0].date())
            seconds = np.full(len(numbers), np.nan)
            seconds[np.isfinite(numbers)] = (days - _EPOCH) / _SECOND
            return seconds
    median = float(np.median(np.abs(present))) if len(present) else 0.0
    for unit, per_second, above in (("nano", 1e9, 1e17), ("micro", 1e6, 1e14), ("milli", 1e3, 1e11)):
        if median > above:
            _log.info("%s: timestamps are in %sseconds (median %.0f)", table.path.name, unit, median)
            return numbers / per_second
    return numbers


def _warn_of_odd_times(table: Table, column: str, times: IntArray) -> None:
    """A rating cannot be later than the file that holds it (a day is granted for time zones and clocks), and 0 stands
    for unknown beside times of this century."""
    written = table.path.stat().st_mtime
    late = np.flatnonzero(times > written + 86_400)
    if len(late):
        _log.warning(
            "%s: %d timestamps are later than the file itself (%s), the first is %d",
            table.where(int(late[0]), column),
            len(late),
            datetime.fromtimestamp(written, UTC).date(),
            times[late[0]],
        )
    zero, others = np.flatnonzero(times == 0), times[times > EARLY]
    if len(zero) and len(others):
        first, last = (datetime.fromtimestamp(int(time), UTC).year for time in (others.min(), others.max()))
        _log.warning(
            "%s: %d of %d timestamps are 0 (1970) beside times of %d to %d; if they are unknown, they decide what is "
            "held out: leave times out with --timestamp-col ''",
            table.where(int(zero[0]), column),
            len(zero),
            len(times),
            first,
            last,
        )
