"""Delimited text and JSON lines as columns of verbatim text; every refusal names the row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from hybrid_sim.core.errors import DataError

_UNIT_SEPARATOR = "\x1f"
"""Stands in for delimiters of several characters, which Arrow does not know."""

Columns = dict[str, pa.ChunkedArray]


def read_delimited(
    path: Path,
    wanted: Sequence[str] | None,
    names: Sequence[str] | None,
    delimiter: str | None,
    encoding: str,
    quoted: bool,
) -> tuple[tuple[str, ...], Columns]:
    """All column names and the wanted columns of delimited text; `names` stand in for a missing header."""
    with path.open(encoding=_skipping_mark(encoding)) as file:
        first_line = file.readline().rstrip("\n")
    delimiter = delimiter or max("\t,;|", key=first_line.count)
    try:
        header = list(names) if names else next(csv.reader([first_line], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{path.name} row 1 is no header: {error}") from error
    if len(set(header)) < len(header):
        raise DataError(f"{path.name} row 1: a column name occurs twice in {', '.join(header)}; rename one")
    data = _parse(path, header, delimiter, encoding, headed=names is None, quoted=quoted)
    kept = [name for name in header if wanted is None or name in wanted]
    return tuple(header), {name: data.column(name) for name in kept}


def _parse(path: Path, header: list[str], delimiter: str, encoding: str, *, headed: bool, quoted: bool) -> pa.Table:
    source: Any = path
    if len(delimiter) > 1:
        source = pa.BufferReader(path.read_bytes().replace(delimiter.encode(), _UNIT_SEPARATOR.encode()))
    try:
        data = pa_csv.read_csv(
            source,
            read_options=pa_csv.ReadOptions(
                column_names=header,
                skip_rows=int(headed),
                use_threads=False,
                block_size=1 << 24,
                encoding=encoding,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter if len(delimiter) == 1 else _UNIT_SEPARATOR,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _reading_error(path, len(header), delimiter, encoding, quoted, str(error)) from error
    _refuse_open_quote(path, data)
    return data


def _refuse_open_quote(path: Path, data: pa.Table) -> None:
    """A quote that is never closed makes one value of the rest of the file, as in a file cut short."""
    if not data.num_rows:
        return
    last = [data.column(name)[-1].as_py() for name in data.column_names]
    if any("\n" in value for value in last) and path.read_bytes().count(b'"') % 2:
        row = line_of_record(path, data.num_rows, quoted=True)
        raise DataError(f'{path.name} row {row}: a quote " is never closed; is the file cut short?')


def read_json_lines(path: Path, wanted: Sequence[str] | None, encoding: str) -> tuple[tuple[str, ...], Columns]:
    """All names and the wanted columns of one JSON object per line; numbers stay as they are written."""
    records: list[dict[str, Any]] = []
    with path.open(encoding=_skipping_mark(encoding), newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip("\r\n"):
                continue
            try:
                record = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"{path.name} row {number}: not JSON ({error}); fix or remove the line") from error
            if not isinstance(record, dict):
                raise DataError(f"{path.name} row {number}: expected a JSON object per line, got {line[:40]!r}")
            records.append(record)
    names = tuple(dict.fromkeys(name for record in records for name in record))
    kept = [name for name in names if wanted is None or name in wanted]
    return names, {name: _json_column(path, name, records) for name in kept}


def _json_column(path: Path, name: str, records: list[dict[str, Any]]) -> pa.ChunkedArray:
    values = [record.get(name) for record in records]
    kind = pa.list_(pa.string()) if any(isinstance(value, list) for value in values) else pa.string()
    try:
        return pa.chunked_array([pa.array(values, kind)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        refused = next(record for record, value in enumerate(values) if not _fits(value, kind))
        raise DataError(
            f"{path.name} row {line_of_record(path, refused, quoted=False)}, column {name!r}: "
            f"{values[refused]!a:.60} is not "
            f"{'text or a number' if kind == pa.string() else 'a list of texts'} "
            "(half a surrogate pair is no text either); "
            "fix or remove the line"
        ) from error


def _fits(value: object, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return False
    return True


def line_of_record(path: Path, record: int, quoted: bool) -> int:
    """The line (from 1) on which a record (from 0, header included) starts; blank lines hold no record."""
    seen, quotes, start = -1, 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if quotes % 2 == 0:
                if not line.strip(b"\r\n"):
                    continue
                seen, start, quotes = seen + 1, number, 0
                if seen == record:
                    return start
            if quoted:
                quotes += line.count(b'"')
    return start


def _reading_error(path: Path, n_fields: int, delimiter: str, encoding: str, quoted: bool, reason: str) -> DataError:
    """Why a file is no table: the first byte of another encoding, or the first row of another length."""
    try:
        text = path.read_bytes().decode(_skipping_mark(encoding))
    except UnicodeDecodeError as error:
        return encoding_error(path, error)
    single = delimiter if len(delimiter) == 1 else _UNIT_SEPARATOR
    rows = csv.reader(
        io.StringIO(text.replace(delimiter, single), newline=""),
        delimiter=single,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    last_line = 0
    try:
        for row in rows:
            if row and len(row) != n_fields:
                return DataError(
                    f"{path.name} row {last_line + 1}: {len(row)} fields instead of {n_fields}: "
                    f"{delimiter.join(row)[:80]!r}; quote fields that hold {delimiter!r} or fix the row"
                )
            last_line = rows.line_num
    except csv.Error as error:
        reason = f"row {last_line + 1}: {error}"
    return DataError(f"{path.name} cannot be read as a table: {reason}")


def encoding_error(path: Path, error: UnicodeDecodeError) -> DataError:
    """The row and byte at which a file is not of its encoding."""
    content = path.read_bytes()
    try:
        content.decode(error.encoding)
    except UnicodeDecodeError as first:
        error = first
    row = content.count(b"\n", 0, error.start) + 1
    return DataError(
        f"{path.name} row {row}: byte 0x{content[error.start]:02X} is not {error.encoding}; "
        "pass --encoding latin-1 (or the encoding of the file), or save it as UTF-8"
    )


def _skipping_mark(encoding: str) -> str:
    """UTF-8 with or without a byte order mark."""
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
