"""Foreign files (CSV, Parquet, JSON lines) as columns, exactly as they stand, or refused with the row."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
from numpy.typing import NDArray

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.data.decoding import UTF8, text_file
from hybrid_sim.data.delimited import (
    AS_ROWS,
    WIDE,
    Layout,
    described,
    detect_layout,
    no_header,
    read_delimited,
    row_of_record,
    shown,
    values_among,
)
from hybrid_sim.data.records import holds_records, read_records, record_columns

MISSING = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "\\N", "<NA>", "N/A", "#N/A")
"""How programs write a missing value as text."""

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
ARROW_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".arrow": "feather", ".orc": "orc"}
COMPRESSED_SUFFIXES = (".gz", ".zip", ".bz2", ".zst", ".xz")

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class Ids:
    """One id per row: `names[codes]`, where `names` are the distinct ids in order of first appearance."""

    codes: IntArray
    names: NDArray[np.object_]


@dataclass(frozen=True)
class Table:
    """Columns read from one file, and the way back from a record to its row in that file.

    `names` are all columns of the file, `columns` those that were asked for. Columns of text files hold the
    text verbatim, numbers in JSON included; only Parquet has columns of other types. `row` gives the row of the file
    (from 1, the header included; a line of a text file) on which a record (from 0) starts. `header_option` names the
    columns where the file has no header.
    """

    path: Path
    names: tuple[str, ...]
    columns: dict[str, pa.ChunkedArray]
    row: Callable[[int], int]
    header_option: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def require(self, column: str, option: str) -> None:
        """Check that the file has `column`; `option` is what a caller passes to name another one.

        Raises:
            DataError: it has not.
        """
        values = values_among(self.names)
        if values and (column in values or column not in self.names):
            raise no_header(self.path, self.names, self.header_option)
        if column not in self.names:
            cure = f"name the right one with {option}"
            if len(self.names) == 1:
                cure += ", or what stands between fields with --delimiter"
            if len(self.names) > WIDE:
                cure = AS_ROWS
            names = ", ".join(shown([*map(repr, self.names)]))
            raise DataError(f"{self.path.name}: column {column!r} is missing; the file has {names}; {cure}")

    def where(self, record: int, column: str) -> str:
        """The place of a value in words, for messages; rows are counted from 1, the header included."""
        return f"{self.path.name} row {self.row(record)}, column {column!r}"

    def take(self, records: IntArray) -> Table:
        """The table with only these records, in this order."""
        columns = {name: values.take(pa.array(records)) for name, values in self.columns.items()}
        return replace(self, columns=columns, row=lambda record: self.row(int(records[record])))

    def value(self, record: int, column: str) -> Any:
        """One value as it stands in the file."""
        return self.columns[column][record].as_py()

    def missing(self, column: str) -> NDArray[np.bool_]:
        """Where the column has no value, or blank text."""
        values = self.columns[column]
        if _is_text(values):
            values = _as_null(values, "")
        return np.asarray(pc.is_null(values).to_numpy(), dtype=bool)

    def without_value(self, column: str) -> NDArray[np.bool_]:
        """Where the column has no value, or exactly one of the texts `MISSING`."""
        values = self.columns[column]
        missing = pc.is_null(values)
        if _is_text(values):
            missing = pc.or_(missing, pc.is_in(pc.cast(values, pa.string()), pa.array(MISSING)))
        return np.asarray(missing.to_numpy(), dtype=bool)

    def ids(self, column: str) -> Ids:
        """The column as ids: text verbatim, whole numbers of Parquet in decimal digits.

        Raises:
            DataError: an id is missing, empty, holds a NUL character, or the column holds fractions.
        """
        values = self.columns[column]
        is_whole = pa.types.is_integer(values.type) or (pa.types.is_decimal(values.type) and values.type.scale == 0)
        if not (_is_text(values) or is_whole):
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
        """The column as numbers, NaN where it is empty: also `true` and `false`, or with commas for decimal points.

        Raises:
            DataError: a value is not a number.
        """
        values = self.columns[column]
        if pa.types.is_floating(values.type) and values.type != pa.float64():
            values = pc.cast(values, pa.string())  # the shortest text of a float32 is the number that was meant: 3.9
        if _is_text(values):
            values = _as_null(values, *MISSING)
            if pc.any(pc.starts_with(values, "+")).as_py():
                values = pc.replace_substring_regex(values, r"^\+([0-9.])", r"\1")
            if pc.all(pc.match_substring_regex(values, r"^(?i:true|false)$")).as_py():
                values = pc.cast(pc.utf8_lower(values), pa.bool_())
            elif pc.all(pc.match_substring_regex(values, r"^-?\d+(,\d\d?)?$")).as_py():
                values = pc.replace_substring(values, ",", ".")
        try:
            numbers = pc.cast(values, pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if not _is_text(values):
                raise DataError(
                    f"{self.path.name}, column {column!r}: expected numbers, not {values.type}; convert the column"
                ) from error
            record = _first_unparsable(values)
            raise DataError(
                f"{self.where(record, column)}: {values[record].as_py()[:60]!r} is not a number; fix or remove the row"
            ) from error
        return np.asarray(numbers.fill_null(np.nan).to_numpy(), dtype=float)

    def texts(self, column: str) -> list[str]:
        """The column as text, "" where it is missing."""
        return [value or "" for value in pc.cast(self.columns[column], pa.string()).to_pylist()]


@runtime_checkable
class Frame(Protocol):
    """A table in memory of any library: pandas, polars, pyarrow, DuckDB and others (the Arrow PyCapsule interface)."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns, as Arrow hands them over."""


def read_table(
    path: Path | str | Frame,
    *,
    wanted: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str = UTF8,
    quoted: bool = True,
    header_option: str = "",
) -> Table:
    """Read a file by its suffix: Parquet (or a folder of its parts), Feather, ORC, JSON, else delimited text.

    Text may be compressed (gzip, zip, bzip2, xz, Zstandard) and in UTF-16; JSON is an object per line or one array.
    Only the `wanted` columns that exist are kept. A frame is read as if it stood in a Parquet file. Text without a
    header gets `names`; its delimiter is detected from the first lines where it is not given; where it is, no JSON is
    looked for. `header_option` is what a caller passes to give `names`, for messages.

    Raises:
        SettingsError: there is no such file, or no such encoding.
        DataError: the file is empty, damaged, or has a row of another length.
    """
    if isinstance(path, Frame):
        return _arrow_table(Path("the frame"), _columns_of(path), wanted)
    path = Path(path)
    suffix = next((part for part in reversed(path.suffixes) if part.lower() not in COMPRESSED_SUFFIXES), "").lower()
    try:
        if path.is_dir() and not any(path.rglob("*.parquet")):
            raise IsADirectoryError(0, "it is a folder without Parquet files; name one file, or join the parts")
        if path.is_dir() or suffix in ARROW_FORMATS:
            return _read_arrow(path, ARROW_FORMATS.get(suffix, "parquet"), wanted)
        if path.exists() and not path.is_file():
            raise IsADirectoryError(0, "it is a pipe or device; write it to a file first")
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty; expected a header and rows")
        file = text_file(path, encoding)
        layout: Layout | None
        row: Callable[[int], int]
        try:
            if suffix in JSON_SUFFIXES or (delimiter is None and holds_records(file)):
                records, rows = read_records(file)
                columns_read, columns = record_columns(file, records, rows, wanted)
                layout, row = None, rows.__getitem__
            else:
                layout = detect_layout(file, names, delimiter, quoted, header_option)
                columns_read, columns = layout.names, read_delimited(file, layout, wanted)
                row = partial(row_of_record, file, layout)
        except UnicodeDecodeError as error:
            raise file.bytes_refused(error) from error
        except UnicodeError as error:
            raise DataError(f"{path.name} is not {encoding} ({error}); pass the --encoding of the file") from error
    except FileNotFoundError as error:
        raise SettingsError(f"there is no file {path}") from error
    except (PermissionError, IsADirectoryError) as error:
        raise SettingsError(f"{path} cannot be read as a file: {error.strerror}") from error
    if delimiter is None and (description := described(file, layout)):
        _log.info("%s: %s", path.name, description)
    return Table(path, columns_read, columns, row, header_option)


def _read_arrow(path: Path, kind: str, wanted: Sequence[str] | None) -> Table:
    try:
        dataset = pa_dataset.dataset(path, format=kind, partitioning="hive")
        return _arrow_table(path, dataset, wanted)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path.name} is not a readable {kind.title()} file ({reason}); write it again") from error


def _columns_of(frame: Frame) -> pa.Table:
    """The columns of a frame; of pandas also the index, where it has a name.

    Raises:
        DataError: a column holds what Arrow has no type for, or values of several types.
    """
    try:
        data = pa.table(frame)
        return data.select([name for name in data.column_names if not re.fullmatch(r"__index_level_\d+__", name)])
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"the frame cannot be read ({reason}); give each column one type") from error


def _arrow_table(path: Path, source: pa.Table | pa_dataset.Dataset, wanted: Sequence[str] | None) -> Table:
    """The wanted columns; text must be UTF-8."""
    names = tuple(source.schema.names)
    kept = [name for name in names if wanted is None or name in wanted]
    data = source.select(kept) if isinstance(source, pa.Table) else source.to_table(columns=kept)
    columns = {name: _plain(data.column(name)) for name in data.column_names}
    for column in columns.values():
        column.validate(full=True)
    return Table(path, names, columns, lambda record: record + 1)


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a dictionary, and the bytes of other programs as text."""
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    return pc.cast(values, pa.string()) if pa.types.is_binary(values.type) else values


def _as_null(values: pa.ChunkedArray, *missing: str) -> pa.ChunkedArray:
    values = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    return pc.if_else(pc.is_in(values, pa.array(missing)), None, values)


def _is_text(values: pa.ChunkedArray) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(values.type) for test in tests)


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
