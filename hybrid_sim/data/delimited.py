"""Delimited text as columns of verbatim text; every refusal names the row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from hybrid_sim.core.errors import DataError
from hybrid_sim.data.decoding import UTF8, TextFile

_UNIT_SEPARATOR = "\x1f"
"""Stands in for delimiters that Arrow does not know: several characters, or runs of blanks."""

BLANKS = " "
"""The delimiter of text whose fields have any number of spaces or tabs between them."""

SAMPLE = 1 << 20
"""Bytes from which the layout is detected."""

RATING_NAMES = ("user_id", "item_id", "rating", "timestamp")

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_NAMES = {",": "','", "\t": "tab", BLANKS: "blanks"}


@dataclass(frozen=True)
class Layout:
    """How delimited text is laid out: `skipped` lines, a header unless `headed` is false, then rows of `names`.

    `has_tail`: every row ends with a delimiter that the header lacks.
    """

    names: tuple[str, ...]
    delimiter: str
    quoted: bool = True
    headed: bool = True
    skipped: int = 0
    has_tail: bool = False


def detect_layout(file: TextFile, names: Sequence[str] | None, delimiter: str | None, quoted: bool) -> Layout:
    """The layout of a file, from its first lines.

    `names` stand in for a missing header; empty, they are `user_id`, `item_id`, `rating`, `timestamp`, `column_5`, and
    so on.

    Raises:
        DataError: a column name occurs twice, or the header cannot be read.
    """
    with file.open() as stream:
        sample = stream.read(SAMPLE)
    lines = re.split(r"\r\n|\r|\n", sample.decode(UTF8, "replace"))
    if len(sample) == SAMPLE:
        del lines[-1]  # it may be cut
    skipped = 0
    if match := re.fullmatch(r'"?sep=(.|\\t)"?', lines[0], re.IGNORECASE):  # written by Excel
        delimiter, skipped = delimiter or match[1].replace("\\t", "\t"), 1
    first = lines[skipped] if len(lines) > skipped else ""
    layout = Layout(tuple(names or ()), delimiter or _detect_delimiter(first), quoted, names is None, skipped)
    if not names:
        fields = _fields(file, first, layout)
        unnamed = [*RATING_NAMES, *(f"column_{place + 1}" for place in range(len(RATING_NAMES), len(fields)))]
        layout = replace(layout, names=tuple(fields if names is None else unnamed[: len(fields)]))
    if len(set(layout.names)) < len(layout.names):
        if values_among(layout.names):
            raise no_header(file.path, layout.names)
        raise DataError(
            f"{file.path.name} row {1 + skipped}: a column name occurs twice in {', '.join(layout.names)}; rename one"
        )
    rows = [_fields(file, line, layout) for line in lines[skipped + layout.headed :][:20] if line.count('"') % 2 == 0]
    tails = [len(row) == len(layout.names) + 1 and row[-1] == "" for row in rows if row]
    return replace(layout, has_tail=bool(tails) and all(tails))


def values_among(names: Sequence[str]) -> list[str]:
    """The names that are numbers, so that they are values and no names; 0, 1, 2, ... are names that pandas gave."""
    if list(names) == [str(place) for place in range(len(names))]:
        return []
    return [name for name in names if NUMBER.fullmatch(name)]


def no_header(path: Path, names: Sequence[str]) -> DataError:
    """The refusal of a first row that holds values."""
    return DataError(
        f"{path.name} row 1 is no header, it holds values: {', '.join(names)}; name the columns of ratings with "
        f"--columns {','.join(RATING_NAMES)} (or --no-header, which means these four)"
    )


def _detect_delimiter(line: str) -> str:
    """The delimiter that occurs most often in a header line."""
    best = max("\t,;|", key=line.count)
    if line.count("::") and not line.count(best) > line.count("::"):
        return "::"
    return best if best in line or BLANKS not in line.strip() else BLANKS


def _fields(file: TextFile, line: str, layout: Layout) -> list[str]:
    try:
        return next(_csv_rows(line, layout), [])
    except csv.Error as error:
        raise DataError(f"{file.path.name} row {1 + layout.skipped} is no header: {error}") from error


def _csv_rows(text: str, layout: Layout) -> Any:
    """A reader of the rows that tells the line reached."""
    return csv.reader(
        io.StringIO(_single_character(text, layout), newline=""),
        delimiter=_arrow_delimiter(layout),
        quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
    )


def _arrow_delimiter(layout: Layout) -> str:
    return layout.delimiter if len(layout.delimiter) == 1 and layout.delimiter != BLANKS else _UNIT_SEPARATOR


def _single_character(text: str, layout: Layout) -> str:
    """The text with a delimiter of one character."""
    if layout.delimiter == BLANKS:
        text = re.sub(r"^[ \t]+|[ \t]+(?=\r?$)", "", text, flags=re.MULTILINE)
        return re.sub(r"[ \t]+", _UNIT_SEPARATOR, text)
    return text if len(layout.delimiter) == 1 else text.replace(layout.delimiter, _UNIT_SEPARATOR)


def read_delimited(file: TextFile, layout: Layout, wanted: Sequence[str] | None) -> dict[str, pa.ChunkedArray]:
    """The wanted columns as verbatim text.

    Raises:
        DataError: a row has another number of fields, a quote is never closed, or a byte is not of the encoding.
    """
    names = [*layout.names, *([_UNIT_SEPARATOR] if layout.has_tail else [])]
    with file.open() as stream:
        source: Any = stream
        if _arrow_delimiter(layout) != layout.delimiter:
            source = io.BytesIO(_single_character(stream.read().decode(UTF8), layout).encode())
        try:
            data = pa_csv.read_csv(
                source,
                read_options=pa_csv.ReadOptions(
                    column_names=names,
                    skip_rows=layout.skipped + layout.headed,
                    use_threads=False,
                    block_size=1 << 24,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=_arrow_delimiter(layout),
                    quote_char='"' if layout.quoted else False,
                    newlines_in_values=layout.quoted,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid as error:
            raise _reading_error(file, layout, len(names), str(error)) from error
    if layout.has_tail:
        _refuse_text_in_tail(file, layout, data.column(_UNIT_SEPARATOR))
    _refuse_open_quote(file, layout, data)
    return {name: data.column(name) for name in layout.names if wanted is None or name in wanted}


def _refuse_text_in_tail(file: TextFile, layout: Layout, tail: pa.ChunkedArray) -> None:
    record = pc.index(pc.not_equal(tail, ""), True).as_py()
    if record >= 0:
        row, n_fields = row_of_record(file, layout, record), len(layout.names)
        raise DataError(
            f"{file.path.name} row {row}: {n_fields + 1} fields instead of {n_fields}; "
            f"quote fields that hold {layout.delimiter!r} or fix the row"
        )


def _refuse_open_quote(file: TextFile, layout: Layout, data: pa.Table) -> None:
    """A quote that is never closed makes one value of the rest of the file, as in a file cut short."""
    if not data.num_rows or not any("\n" in data.column(name)[-1].as_py() for name in data.column_names):
        return
    with file.open() as stream:
        if sum(line.count(b'"') for line in stream) % 2 == 0:
            return
    raise _open_quote(file, row_of_record(file, layout, data.num_rows - 1))


def _open_quote(file: TextFile, row: int) -> DataError:
    return DataError(f'{file.path.name} row {row}: a quote " is never closed; is the file cut short?')


def row_of_record(file: TextFile, layout: Layout, record: int) -> int:
    """The line (from 1) on which a record (from 0, without header) starts; blank lines hold no record."""
    left, quotes, number = record + layout.headed + layout.skipped, 0, 0
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            if quotes % 2 == 0:
                quotes = 0
                if line.strip(b"\r\n"):
                    if left == 0:
                        return number
                    left -= 1
            if layout.quoted:
                quotes += line.count(b'"')
    return number


def _reading_error(file: TextFile, layout: Layout, n_fields: int, reason: str) -> DataError:
    """Why a file is no table: the first byte of another encoding, or the first row of another length."""
    name = file.path.name
    with file.open() as stream:
        content = stream.read()
    try:
        text = content.decode(UTF8)
    except UnicodeDecodeError as error:
        return file.bytes_refused(error)
    rows, last_line = _csv_rows(text, layout), 0
    try:
        for number, row in enumerate(rows):
            if row and len(row) != n_fields and number >= layout.skipped:
                if "\n" in row[-1] and text.count('"') % 2:
                    return _open_quote(file, last_line + 1)
                shown = layout.delimiter.join(row)[:80]
                return DataError(
                    f"{name} row {last_line + 1}: {len(row)} fields instead of {n_fields}: {shown!r}; "
                    f"quote fields that hold {layout.delimiter!r} or fix the row"
                )
            last_line = rows.line_num
    except csv.Error as error:
        reason = f"row {last_line + 1}: {error}"
    return DataError(f"{name} cannot be read as a table: {reason}")


def described(file: TextFile, layout: Layout) -> str:
    """What was detected and is not the usual (UTF-8, commas or tabs, a header), in words; "" for the usual."""
    parts = [file.compression, "" if file.encoding == UTF8 else file.encoding.upper()]
    if layout.delimiter not in ",\t":
        parts.append(f"{_NAMES.get(layout.delimiter, repr(layout.delimiter))} between fields")
    if not layout.headed:
        parts.append(f"no header: columns 1 to {len(layout.names)} taken as {', '.join(layout.names)}")
    return ", ".join(part for part in parts if part)
