"""Objects in JSON (lines or one array) or as Python literals, as columns of verbatim text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from hybrid_sim.core.errors import DataError
from hybrid_sim.data.decoding import UTF8, TextFile


def holds_records(file: TextFile) -> bool:
    """Whether the file begins as an object, or an array of objects, does."""
    with file.open() as stream:
        return re.match(rb"\s*(\[\s*)?\{\s*[\"'}]", stream.read(1 << 12)) is not None


def read_records(file: TextFile) -> tuple[list[dict[str, Any]], list[int]]:
    """The objects of a file, and the row of each: its line, or its place in a JSON array.

    A line may be a Python literal, which is parsed and never run. Numbers in JSON stay text as they are written. A file
    of one object may hold the array, or the columns as `DataFrame.to_json` writes them.

    Raises:
        DataError: a row is no object, or has a key twice.
    """
    records, rows = [], []
    for row, value in _values(file):
        if not isinstance(value, dict):
            raise DataError(f"{file.path.name} row {row}: expected a JSON object per line, got {str(value)[:40]!r}")
        records.append(value)
        rows.append(row)
    if len(records) == 1 and (inner := _inner_records(records[0])):
        return inner, list(range(1, len(inner) + 1))
    return records, rows


def _inner_records(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows in an object that is a whole table; none where it is a row itself."""
    arrays = [value for value in record.values() if isinstance(value, list) and value]
    if len(arrays) == 1 and all(isinstance(member, dict) for member in arrays[0]):
        return arrays[0]
    if not record or not all(isinstance(column, dict) and column.keys() for column in record.values()):
        return []
    keys = dict.fromkeys(key for column in record.values() for key in column)
    return [{name: column.get(key) for name, column in record.items()} for key in keys]


def _values(file: TextFile) -> Iterator[tuple[int, Any]]:
    with file.open() as stream:
        start = stream.peek(1 << 12)
        if re.match(rb"\s*(\[\s*[{\]]|\{\s*\n)", start):
            whole = _parse(file, 1, stream.read())
            yield from enumerate(whole if isinstance(whole, list) else [whole], start=1)
            return
    for row, line in enumerate(file.lines(), start=1):
        if line.strip():
            yield row, _parse(file, row, line)


def _parse(file: TextFile, row: int, content: bytes) -> Any:
    text = content.decode(UTF8)
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and text.lstrip().startswith("{"):
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                return ast.literal_eval(text.strip())
        raise DataError(f"{file.path.name} row {row}: not JSON ({error}); fix or remove the line") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return result


def record_columns(
    file: TextFile, records: list[dict[str, Any]], rows: list[int], wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, pa.ChunkedArray]]:
    """All names, and the wanted columns: text, or lists of texts.

    Raises:
        DataError: a value is neither, or half a surrogate pair.
    """
    names = tuple(dict.fromkeys(name for record in records for name in record))
    columns = {}
    for name in names:
        if wanted is not None and name not in wanted:
            continue
        values = [_verbatim(record.get(name)) for record in records]
        kind = pa.list_(pa.string()) if any(isinstance(value, list) for value in values) else pa.string()
        if (refused := _first_misfit(values, kind)) is not None:
            raise DataError(
                f"{file.path.name} row {rows[refused]}, column {name!r}: {values[refused]!a:.60} is not "
                f"{'text or a number' if kind == pa.string() else 'a list of texts'} "
                "(half a surrogate pair is no text either); fix or remove the line"
            )
        columns[name] = pa.chunked_array([pa.array(values, kind)])
    return names, columns


def _verbatim(value: Any) -> Any:
    """Numbers, and true and false, as text; everything else as it is."""
    return repr(value) if isinstance(value, int | float) else value


def _first_misfit(values: list[Any], kind: pa.DataType) -> int | None:
    try:
        pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        for place, value in enumerate(values):
            try:
                pa.array([value], kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
                return place
    return None
