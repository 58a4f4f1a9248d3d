"""Delimited text as columns of verbatim text; every refusal names the row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from hybrid_sim.core.errors import DataError
from hybrid_sim.data.decoding import MAX_LINE, UTF8, TextFile, buffered

_UNIT_SEPARATOR = "\x1f"
"""Stands in for delimiters that Arrow does not know: several characters, or runs of blanks."""

BLANKS = " "
"""The delimiter of text whose fields have any number of blanks between them."""

SAMPLE = 1 << 20
"""Bytes from which the layout is detected."""

MARKS = ("::", "\t", ",", ";", "|", "\x01")
"""Delimiters that are detected."""

WIDE = 30
"""Columns above which a table is taken for one of users by items, and not all are named in messages."""

AS_ROWS = "a table of users by items must become a row per rating first (pandas: melt)"

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


def detect_layout(
    file: TextFile, names: Sequence[str] | None, delimiter: str | None, quoted: bool, header_option: str = ""
) -> Layout:
    """The layout of a file, from its first lines.

    `names` stand in for a missing header; empty, they are `user_id`, `item_id`, `rating`, `timestamp`. Columns without
    a name are called `column_5`, and so on.

    Raises:
        DataError: a column name occurs twice, there are more `names` than columns, or the header cannot be read.
    """
    with file.open() as stream:
        sample = stream.read(SAMPLE)
    lines = re.split(r"\r\n|\r|\n", sample.decode(UTF8, "replace"))
    if len(sample) == SAMPLE and len(lines) > 1:
        del lines[-1]  # it may be cut
    skipped = next((place for place, line in enumerate(lines) if line.strip()), 0)
    if match := re.fullmatch(r'"?sep=(.|\\t)"?', lines[skipped], re.IGNORECASE):  # written by Excel
        delimiter, skipped = delimiter or match[1].replace("\\t", "\t"), skipped + 1
    first = lines[skipped] if len(lines) > skipped else ""
    layout = Layout((), delimiter or _detect_delimiter(lines[skipped:]), quoted, names is None, skipped)
    fields = _fields(file, first, layout)
    given = fields if names is None else (names or RATING_NAMES[: len(fields)])
    if len(given) > len(fields):
        raise DataError(
            f"{file.path.name} row {1 + skipped}: {len(fields)} fields instead of {len(given)}; name fewer columns, or "
            "what stands between fields with --delimiter"
        )
    padded = [*given, *[""] * (len(fields) - len(given))]
    layout = replace(layout, names=tuple(name.strip() or f"column_{n}" for n, name in enumerate(padded, start=1)))
    if re.fullmatch(r"\d+:", first.strip()):
        raise DataError(
            f"{file.path.name} row {1 + skipped}: {first.strip()!r} begins the ratings of one item, as in files of the "
            "Netflix prize; write a row per rating with the item in it"
        )
    if len(set(layout.names)) < len(layout.names):
        if values_among(layout.names):
            raise no_header(file.path, layout.names, header_option)
        raise DataError(
            f"{file.path.name} row {1 + skipped}: a column name occurs twice in {', '.join(shown(layout.names))}; "
            "rename one"
        )
    rows = [_fields(file, line, layout) for line in lines[skipped + layout.headed :][:20] if line.count('"') % 2 == 0]
    tails = [len(row) == len(layout.names) + 1 and row[-1] == "" for row in rows if row]
    return replace(layout, has_tail=bool(tails) and all(tails))


def values_among(names: Sequence[str]) -> list[str]:
    """The names that are numbers or dates, so that they are values; 0, 1, 2, ... are names that pandas gave."""
    if list(names) == [str(place) for place in range(len(names))]:
        return []
    return [name for name in names if NUMBER.fullmatch(name) or re.match(r"\d{4}-\d\d-\d\d", name)]


def no_header(path: Path, names: Sequence[str], option: str = "") -> DataError:
    """The refusal of a first row that holds values; `option` is the one that names the columns."""
    cures = {
        "": "write the names of the columns above it",
        "--columns": f"name the columns with --columns {','.join(RATING_NAMES)} (--no-header means these four)",
    }
    cure = AS_ROWS if len(names) > WIDE else cures.get(option, f"name the columns with {option} NAME,...")
    return DataError(f"{path.name} row 1 is no header, it holds values: {', '.join(shown(names))}; {cure}")


def shown(names: Sequence[str]) -> list[str]:
    """The names as a message shows them: the beginning of long ones, the first of very many."""
    return [*(name[:40] for name in names[:WIDE]), *(["..."] if len(names) > WIDE else [])]


def _detect_delimiter(lines: Sequence[str]) -> str:
    """The mark that occurs as often in every one of the first lines, else the most frequent of the header line."""
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines[:20] if line.strip()]
    if not bare:
        return ","

    def evidence(mark: str) -> tuple[bool, int]:
        return all(line.count(mark) == bare[0].count(mark) > 0 for line in bare), bare[0].count(mark)

    best = max(MARKS, key=evidence)
    return best if best in bare[0] else BLANKS if BLANKS in bare[0].strip() else ","


def _fields(file: TextFile, line: str, layout: Layout) -> list[str]:
    try:
        return next(_csv_rows([line.encode()], layout), [])
    except csv.Error as error:
        raise DataError(f"{file.path.name} row {1 + layout.skipped} is no header: {error}") from error


def _csv_rows(lines: Iterable[bytes], layout: Layout) -> Any:
    """A reader of the rows that tells the line reached."""
    csv.field_size_limit(MAX_LINE)  # of csv itself, 128 KB
    return csv.reader(
        (_single_character(line, layout).decode(UTF8) for line in lines),
        delimiter=_arrow_delimiter(layout),
        quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
    )


def _arrow_delimiter(layout: Layout) -> str:
    return layout.delimiter if len(layout.delimiter) == 1 and layout.delimiter != BLANKS else _UNIT_SEPARATOR


def _single_character(line: bytes, layout: Layout) -> bytes:
    """The line with a delimiter of one character."""
    if layout.delimiter == BLANKS:
        return _UNIT_SEPARATOR.encode().join(line.split()) + b"\n"
    return line if len(layout.delimiter) == 1 else line.replace(layout.delimiter.encode(), _UNIT_SEPARATOR.encode())


def _single_characters(file: TextFile, layout: Layout) -> Iterator[bytes]:
    """All lines with a delimiter of one character, in chunks."""
    lines = file.lines()
    while chunk := b"".join(_single_character(line, layout) for line in islice(lines, 1000)):
        yield chunk


def read_delimited(file: TextFile, layout: Layout, wanted: Sequence[str] | None) -> dict[str, pa.ChunkedArray]:
    """The wanted columns as verbatim text.

    Raises:
        DataError: a row has another number of fields, a quote is never closed, or a byte is not of the encoding.
    """
    names = [*layout.names, *([_UNIT_SEPARATOR] if layout.has_tail else [])]
    kept = [name for name in names if wanted is None or name in wanted or name == names[-1]]
    is_simple = _arrow_delimiter(layout) == layout.delimiter
    with file.open() if is_simple else buffered(_single_characters(file, layout)) as stream:
        try:
            data = pa_csv.read_csv(
                stream,
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
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, include_columns=kept
                ),
            )
        except pa.ArrowInvalid as error:
            raise _reading_error(file, layout, len(names), str(error)) from error
    if layout.has_tail:
        _refuse_text_in_tail(file, layout, data.column(_UNIT_SEPARATOR))
    _refuse_open_quote(file, layout, data)
    return {name: _without_padding(data.column(name)) for name in layout.names if wanted is None or name in wanted}


def _without_padding(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without its first blanks, where every value has one: they belong to the delimiter, as in `a, b`."""
    return pc.utf8_ltrim_whitespace(column) if pc.all(pc.starts_with(column, " ")).as_py() else column


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
    if _has_open_quote(file):
        raise _open_quote(file, row_of_record(file, layout, data.num_rows - 1))


def _has_open_quote(file: TextFile) -> bool:
    return sum(line.count(b'"') for line in file.lines()) % 2 == 1


def _open_quote(file: TextFile, row: int) -> DataError:
    return DataError(f'{file.path.name} row {row}: a quote " is never closed; is the file cut short?')


def row_of_record(file: TextFile, layout: Layout, record: int) -> int:
    """The line (from 1) on which a record (from 0, without header) starts; blank lines hold no record."""
    left, quotes, number = record + layout.headed, 0, 0
    for number, line in enumerate(file.lines(), start=1):
        if number <= layout.skipped:
            continue
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
    name, rows, last_line = file.path.name, _csv_rows(file.lines(), layout), 0
    try:
        for number, row in enumerate(rows):
            if row and len(row) != n_fields and number >= layout.skipped:
                if "\n" in row[-1] and _has_open_quote(file):
                    return _open_quote(file, last_line + 1)
                shown = layout.delimiter.join(row)[:80]
                return DataError(
                    f"{name} row {last_line + 1}: {len(row)} fields instead of {n_fields}: {shown!r}; "
                    f"quote fields that hold {layout.delimiter!r} or fix the row"
                )
            last_line = rows.line_num
    except UnicodeDecodeError as error:
        return file.bytes_refused(error)
    except csv.Error as error:
        reason = f"row {last_line + 1}: {error}"
    return DataError(f"{name} cannot be read as a table: {reason}")


def described(file: TextFile, layout: Layout | None) -> str:
    """What was detected and is not the usual (UTF-8, commas or tabs, a header), in words; "" for the usual. JSON has no
    layout."""
    parts = [file.compression, "" if file.encoding == UTF8 else file.encoding.upper()]
    if layout is None:
        return ", ".join(part for part in [*parts, "JSON"] if part)
    if layout.skipped:
        parts.append(f"the header in row {layout.skipped + 1}")
    if layout.has_tail:
        parts.append("a delimiter at the end of every row")
    if layout.delimiter not in ",\t":
        parts.append(f"{_NAMES.get(layout.delimiter, repr(layout.delimiter))} between fields")
    if not layout.headed:
        parts.append(f"no header: columns 1 to {len(layout.names)} taken as {', '.join(layout.names)}")
    return ", ".join(part for part in parts if part)
