"""Rows of a damaged journal, read from the pages that are left of it.

SQLite finds a table's rows through pages that lead to them, so one damaged page can hide all. But each page of rows
(a leaf) can be read by itself, by taking it for the only page of its table; whether a row is whole, its seal tells.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from hybrid_sim.llm.journal_tables import COLUMNS, PAGE_BYTES, Row, blank_page, is_whole, lenient, pending_file, select

_LEAF = 0x0D
_FIRST_PAGES = 16
"""More pages than an empty journal has; SQLite insists on those that the tables begin on."""
_WAL_HEADER, _FRAME_HEADER = 32, 24


def rescued_rows(file: Path) -> dict[str, dict[int, Row]]:
    """All whole rows of each table, by number, from the file and from the commits that are pending for it."""
    content = file.read_bytes()
    pages = [content[at : at + PAGE_BYTES].ljust(PAGE_BYTES, b"\0") for at in range(0, len(content), PAGE_BYTES)]
    pending = pending_pages(file)
    for number, page in pending:
        pages.extend([bytes(PAGE_BYTES)] * (number - len(pages)))
        pages[number - 1] = page
    return _rows(pages + [page for _, page in pending])


def pending_rows(file: Path) -> dict[str, dict[int, Row]]:
    """The whole rows in the commits that SQLite has not yet folded into the file."""
    newest = dict(pending_pages(file))
    return _rows([bytes(PAGE_BYTES), *newest.values()])


def pending_pages(file: Path) -> list[tuple[int, bytes]]:
    """Page numbers and contents in the write-ahead log, oldest first, up to the last commit that is complete.

    Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log. Checksums are left to the seals of the rows,
    since SQLite drops everything behind the first broken one. Frames with other salts are left over from before.
    """
    if not pending_file(file).exists():
        return []
    log = pending_file(file).read_bytes()
    salts = {log[16:24], log[_WAL_HEADER + 8 : _WAL_HEADER + 16]}
    pages: list[tuple[int, bytes]] = []
    n_committed = 0
    most = (file.stat().st_size + len(log)) // PAGE_BYTES + 1
    for at in range(_WAL_HEADER, len(log) - _FRAME_HEADER - PAGE_BYTES + 1, _FRAME_HEADER + PAGE_BYTES):
        number = int.from_bytes(log[at : at + 4], "big")
        if log[at + 8 : at + 16] in salts and 0 < number <= most:
            pages.append((number, log[at + _FRAME_HEADER : at + _FRAME_HEADER + PAGE_BYTES]))
            n_committed = len(pages) if any(log[at + 4 : at + 8]) else n_committed
    return pages[:n_committed]


def _rows(pages: Sequence[bytes]) -> dict[str, dict[int, Row]]:
    """The whole rows on all leaves but the first page, which is replaced by one that leads to a leaf of our choice."""
    pages = [*pages, *[bytes(PAGE_BYTES)] * _FIRST_PAGES]
    first = bytearray(blank_page(len(pages)))
    first[18:20] = b"\1\1"  # in memory there is no write-ahead log
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.text_factory = lenient
    connection.deserialize(bytes(first) + b"".join(pages[1:]))
    rows: dict[str, dict[int, Row]] = {table: {} for table in COLUMNS}
    for number, page in enumerate(pages[1:], start=2):
        if page[0] == _LEAF:
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE type = 'table'", (number,))
            connection.execute("PRAGMA writable_schema=RESET")
            for table, known in rows.items():
                _keep(known, _readable(connection, select(table)))
    connection.close()
    return rows


def _readable(connection: sqlite3.Connection, query: str) -> Iterable[Row]:
    """The whole rows before the first damage that SQLite stumbles over."""
    try:
        for row in connection.execute(query):
            if is_whole(row):
                yield row
    except sqlite3.DatabaseError:
        return


def _keep(known: dict[int, Row], rows: Iterable[Row]) -> None:
    """Of two versions of an attempt, an old and a new page, the settled one counts."""
    for row in rows:
        if row[0] not in known or "open" not in row:
            known[row[0]] = row
