"""Foreign files (CSV, Parquet, JSON lines) as columns, exactly as they stand, or refused with the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.data.text_files import encoding_error, line_of_record, read_delimited, read_json_lines

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class Ids:
    """One id per row: `names[codes]`, where `names` are the distinct ids in order of first appearance."""

    codes: IntArray
    names: NDArray[np.object_]


@dataclass(frozen=True)
class Table:
    """Columns read from one file, and the way back from a record to its row in that file.

    `names` are all columns of the file, `columns` those that were asked for. Columns of text files hold the
    text verbatim, numbers in JSON included; only Parquet has columns of other types.
    """

    path: Path
    names: tuple[str, ...]
    columns: dict[str, pa.ChunkedArray]
    headed: bool = True
    quoted: bool = True

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def require(self, column: str, option: str) -> None:
        """Check that the file has `column`; `option` is what a caller passes to name another one.

        Raises:
            DataError: it has not.
        """
        if column not in self.names:
            known = ", ".join(map(repr, self.names))
            raise DataError(
                f"{self.path.name}: column {column!r} is missing; the file has {known}; "
                f"name the right one with {option}"
            )

    def where(self, record: int, column: str) -> str:
        """The place of a value in words, for messages; rows are counted from 1, the header included."""
        return f"{self.path.name} row {self.row(record)}, column {column!r}"

    def row(self, record: int) -> int:
        """The row of the file on which a record (counted from 0) starts: a line of a text file."""
        if self.path.suffix.lower() in PARQUET_SUFFIXES:
            return record + 1
        return line_of_record(self.path, record + 1 if self.headed else record, self.quoted)

    def ids(self, column: str) -> Ids:
        """The column as ids: text verbatim, whole numbers of Parquet in decimal digits.

        Raises:
            DataError: an id is missing, empty, holds a NUL character, or the column holds fractions.
        """
        values = self.columns[column]
        if not (_is_text(values) or pa.types.is_integer(values.type)):
            raise DataError(
                f"{self.path.name}, column {column!r}: ids are text or whole numbers, not {values.type}; "
                "write the column as text or integers"
            )
        coded = pc.dictionary_encode(pc.cast(values, pa.string())).combine_chunks()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.chunk(0) if coded.num_chunks else pa.array([], pa.string()).dictionary_encode()
        codes = np.asarray(coded.indices.fill_null(-1)).astype(np.int64)
        names = np.array(coded.dictionary.to_pylist(), dtype=object)
        unusable = np.array([name == "" or "\0" in name for name in names], dtype=bool)
        refused = np.flatnonzero((codes < 0) | (unusable[codes] if len(names) else False))
        if len(refused):
            record = int(refused[0])
            value = "missing" if codes[record] < 0 else f"{names[codes[record]]!r}"
            raise DataError(
                f"{self.where(record, column)}: the id is {value}; expected text without NUL characters; "
                "fix or remove the row"
            )
        return Ids(codes, names)

    def numbers(self, column: str) -> FloatArray:
        """The column as numbers, NaN where it is empty.

        Raises:
            DataError: a value is not a number.
        """
        values = self.columns[column]
        if _is_text(values):
            values = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
            values = pc.if_else(pc.equal(values, ""), None, values)
        try:
            numbers = pc.cast(values, pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if not _is_text(values):
                raise DataError(
                    f"{self.path.name}, column {column!r}: expected numbers, not {values.type}; convert the column"
                ) from error
            record = _first_unparsable(values)
            raise DataError(
                f"{self.where(record, column)}: {values[record].as_py()!r} is not a number; fix or remove the row"
            ) from error
        return np.asarray(numbers.fill_null(np.nan).to_numpy(), dtype=float)

    def texts(self, column: str) -> list[str]:
        """The column as text, "" where it is missing."""
        return [value or "" for value in pc.cast(self.columns[column], pa.string()).to_pylist()]


def read_table(
    path: Path | str,
    *,
    wanted: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    quoted: bool = True,
) -> Table:
    """Read a file by its suffix: Parquet, JSON lines, else delimited text.

    Only the `wanted` columns that exist are kept. Text without a header gets `names`; its delimiter is told
    by the header line where it is not given. A byte order mark is skipped.

    Raises:
        SettingsError: there is no such file, or no such encoding.
        DataError: the file is empty, damaged, or has a row of another length.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty; expected a header and rows")
        if suffix in PARQUET_SUFFIXES:
            return _read_parquet(path, wanted)
        if suffix in JSON_SUFFIXES:
            columns = read_json_lines(path, wanted, encoding)
            return Table(path, *columns, headed=False, quoted=False)
        columns = read_delimited(path, wanted, names, delimiter, encoding, quoted)
        return Table(path, *columns, headed=names is None, quoted=quoted)
    except FileNotFoundError as error:
        raise SettingsError(f"there is no file {path}") from error
    except (PermissionError, IsADirectoryError) as error:
        raise SettingsError(f"{path} cannot be read as a file: {error.strerror}") from error
    except LookupError as error:
        raise SettingsError(
            f"unknown encoding {encoding!r}; use utf-8, latin-1 or another name Python knows"
        ) from error
    except UnicodeDecodeError as error:
        raise encoding_error(path, error) from error


def _read_parquet(path: Path, wanted: Sequence[str] | None) -> Table:
    try:
        names = tuple(pa_parquet.read_schema(path).names)
        data = pa_parquet.read_table(path, columns=None if wanted is None else [n for n in names if n in wanted])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name} is not a readable Parquet file ({error}); write it again") from error
    return Table(path, names, {name: data.column(name) for name in data.column_names})


def _is_text(values: pa.ChunkedArray) -> bool:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _first_unparsable(values: pa.ChunkedArray) -> int:
    """Halving: the first record whose text is not a number."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pc.cast(values.slice(low, middle - low), pa.float64())
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
