"""Reading recorded ratings from CSV or Parquet, row by row accountable."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, RatingScale
from hybrid_sim.models.recorded import RecordedRatings

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"


def read_recorded(
    path: str | Path,
    scale: RatingScale,
    *,
    user: str = "user_id",
    item: str = "item_id",
    rating: str = "rating",
    model: str | None = None,
) -> RecordedRatings:
    """Read a table of recorded ratings; `user`, `item` and `rating` are the names of its columns.

    Ids are exact strings: text of a CSV file as it stands, whole numbers of a Parquet file as their digits.
    An empty rating is a missing answer, counted and left out; everything else must be a number on the scale.
    With `model`, only that value of the column `model` is kept; without it, all models' ratings of a pair are
    pooled.

    Raises:
        DataError: the file cannot be read, lacks a column, or a row holds no id or no number on the scale.
            Rows are numbered from 1; in a CSV file the header is row 1.
    """
    path = Path(path)
    frame = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    _require_columns(frame, [user, item, rating, *([] if model is None else ["model"])], path)
    if model is not None:
        frame = frame[_ids(frame["model"], path) == model]
        if frame.empty:
            raise DataError(f"{path} has no row of model {model!r}; choose a value of its column 'model'")
    missing = frame[rating].isna() | (frame[rating] == "")
    answered = frame[~missing]
    return RecordedRatings(
        user_ids=_ids(answered[user], path),
        item_ids=_ids(answered[item], path),
        ratings=_ratings(answered[rating], scale, path),
        n_missing=int(missing.sum()),
    )


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} byte {error.start} is not UTF-8; convert the file to UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}; check its quotes") from error
    if not rows:
        raise DataError(f"{path} is empty; it needs a header and one row per recorded rating")
    n_fields = np.fromiter(map(len, rows), dtype=np.int64)
    uneven = np.flatnonzero((n_fields != n_fields[0]) & (n_fields > 0))
    if len(uneven):
        raise DataError(f"{path} row {uneven[0] + 1} has {n_fields[uneven[0]]} fields, not {n_fields[0]}; fix the row")
    filled = [row + 1 for row in np.flatnonzero(n_fields).tolist()]
    return pd.DataFrame([rows[row - 1] for row in filled[1:]], columns=rows[0], index=filled[1:], dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; check the path") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}; write it again") from error
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1))


def _require_columns(frame: pd.DataFrame, names: list[str], path: Path) -> None:
    for name in names:
        found = list(frame.columns).count(name)
        if found != 1:
            raise DataError(
                f"{path} has {found or 'no'} column{'s' * (found > 1)} {name!r}; its columns are "
                f"{', '.join(map(repr, frame.columns))}. Name the columns of users, items and ratings"
            )


def _ids(column: pd.Series, path: Path) -> NDArray[np.object_]:
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.astype(str).to_numpy(dtype=object)
    ids = column.to_numpy(dtype=object)
    wrong = np.flatnonzero([type(entry) is not str or entry == "" for entry in ids])
    if len(wrong):
        raise DataError(
            f"{path} row {column.index[wrong[0]]}, column {column.name!r}: {ids[wrong[0]]!r} is not an id; "
            "ids are text or whole numbers"
        )
    return ids


def _ratings(column: pd.Series, scale: RatingScale, path: Path) -> FloatArray:
    """The column as numbers; a cell counts if it is a number on the scale, or that number as text."""
    cells = column.map(lambda cell: cell.strip() if type(cell) is str else repr(cell)).astype(str)
    number = cells.str.fullmatch(_NUMBER).to_numpy(dtype=bool)
    ratings = np.full(len(cells), np.nan)
    ratings[number] = cells[number].astype(float)
    wrong = np.flatnonzero(~scale.contains(ratings))
    if len(wrong):
        raise DataError(
            f"{path} row {column.index[wrong[0]]}, column {column.name!r}: {column.tolist()[wrong[0]]!r} is "
            f"not a number on the scale {scale}; fix the row, or leave the cell empty where none was recorded"
        )
    return ratings
