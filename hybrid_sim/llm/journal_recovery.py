"""Recovery of damaged journals: detected on opening, set aside, and rescued row by row. Paid answers are never lost.

SQLite finds a table's rows through pages that lead to them, so one damaged page can hide all. But each page of rows
(a leaf) can be read by itself, as if it were the only page of its table; its checksum shows whether a row is whole.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from hybrid_sim.llm.journal_tables import (
    COLUMNS,
    DAMAGED,
    HEADER,
    PAGE_BYTES,
    Row,
    blank_page,
    error_code,
    insert,
    is_whole,
    lenient,
    open_read_only,
    open_tables,
    pending_file,
    schema_of,
    sealed,
    select,
)

_LEAF = 0x0D
_FIRST_PAGES = 16
"""More pages than an empty journal has; SQLite insists on those that the tables begin on."""
_WAL_HEADER, _FRAME_HEADER = 32, 24


def rescue(file: Path) -> str | None:
    """Check a journal; set a damaged one aside, and put what can be read of it in its place.

    Rows whose checksum is wrong are not carried over: their questions are asked again. An attempt that is missing
    counts as possibly paid, at the most that any attempt could cost. Returns what happened, in a sentence; None if the
    journal is whole.
    """
    rescued = _beside(file, ".rescued")
    if rescued.exists():  # an earlier rescue was killed between its last two steps
        _put_in_place(rescued, file)
        return f"{file} was damaged; what could be read of it is rescued"
    if not file.exists() or _is_sound(file):
        return None
    aside = _set_aside(file)
    work = _beside(file, ".rescuing")
    n_answers = _copy_rows(aside, work)
    work.replace(rescued)
    _put_in_place(rescued, file)
    return f"{file} was damaged; {n_answers} answers are rescued, the damaged file is kept as {aside.name}"


def _is_sound(file: Path) -> bool:
    """Whether SQLite finds the file in order, all tables are there, all rows are whole and no commit was dropped."""
    if not file.stat().st_size:  # a new file, unless commits are pending for it
        return not _pending_pages(file)
    with file.open("rb") as opened:
        if opened.read(len(HEADER)) != HEADER:
            return False
    connection = open_read_only(file)
    try:
        if connection.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
            return False
        if not schema_of(connection):
            return not _pending_pages(file)
        return _all_whole(connection) and _all_seen(connection, file)
    except sqlite3.DatabaseError as error:
        if error_code(error) not in DAMAGED:
            raise
        return False
    finally:
        connection.close()


def _all_whole(connection: sqlite3.Connection) -> bool:
    return all(is_whole(row) for table in COLUMNS for row in connection.execute(select(table)))


def _all_seen(connection: sqlite3.Connection, file: Path) -> bool:
    """Whether SQLite has silently dropped no pending commits, as it does with those behind a damaged one."""
    pending = _pending_rows(file)
    numbers = {number for (number,) in connection.execute("SELECT id FROM attempts")}
    keys = {key for (key,) in connection.execute("SELECT key FROM answers")}
    return pending["attempts"].keys() <= numbers and {row[1] for row in pending["answers"].values()} <= keys


def _set_aside(file: Path) -> Path:
    number = 1
    while _beside(file, f".damaged-{number}").exists():
        number += 1
    aside = _beside(file, f".damaged-{number}")
    if pending_file(file).exists():
        shutil.copy2(pending_file(file), pending_file(aside))
    shutil.copy2(file, aside)
    return aside


def _copy_rows(aside: Path, work: Path) -> int:
    """Write all rows that can be read from `aside` into the new file `work`; returns how many answers these are."""
    rows = _rescued_rows(aside)
    attempts, answers = rows["attempts"], rows["answers"]
    worst = max((row[4] for row in attempts.values() if row[4] is not None), default=None)
    for number in set(range(1, max([0, *attempts, *answers]) + 1)) - attempts.keys():
        attempts[number] = _lost_attempt(number, answers.get(number), worst)
    _remove(work)
    connection = open_tables(work)
    connection.execute("BEGIN IMMEDIATE")
    for table, by_number in rows.items():
        connection.executemany(insert(table), [by_number[number] for number in sorted(by_number)])
    connection.execute("COMMIT")
    n_answers = int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    connection.close()
    with work.open("rb") as finished:
        os.fsync(finished.fileno())
    return n_answers


def _lost_attempt(number: int, answer: Row | None, worst: int | None) -> Row:
    if answer is None:
        return sealed((number, "", "", 0, worst, "open", None, None, None, None, None, 0.0))
    _, key, _, _, prompt_tokens, completion_tokens, _, cost, _ = answer
    return sealed((number, key, "", 0, worst, "answered", None, None, prompt_tokens, completion_tokens, cost, 0.0))


def _put_in_place(rescued: Path, file: Path) -> None:
    """The old file's pending commits must go first: SQLite would play them into the new one."""
    for suffix in ("-wal", "-shm"):
        _beside(file, suffix).unlink(missing_ok=True)
    rescued.replace(file)


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        _beside(file, suffix).unlink(missing_ok=True)


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")


def _rescued_rows(file: Path) -> dict[str, dict[int, Row]]:
    """All whole rows of each table, by number, from the file and from the commits that are pending for it."""
    content = file.read_bytes()
    pages = [content[at : at + PAGE_BYTES].ljust(PAGE_BYTES, b"\0") for at in range(0, len(content), PAGE_BYTES)]
    pending = _pending_pages(file)
    for number, page in pending:
        pages.extend([bytes(PAGE_BYTES)] * (number - len(pages)))
        pages[number - 1] = page
    return _rows(pages + [page for _, page in pending])


def _pending_rows(file: Path) -> dict[str, dict[int, Row]]:
    """The whole rows in the commits that SQLite has not yet folded into the file."""
    newest = dict(_pending_pages(file))
    return _rows([bytes(PAGE_BYTES), *newest.values()])


def _pending_pages(file: Path) -> list[tuple[int, bytes]]:
    """Page numbers and contents in the write-ahead log, oldest first, up to the last commit that is complete.

    Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log. Its checksums are not used: SQLite drops
    everything behind the first broken one, and the rows have their own. Frames with other salts are older leftovers.
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
            for table, by_number in rows.items():
                _merge(by_number, _readable(connection, select(table)))
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


def _merge(by_number: dict[int, Row], rows: Iterable[Row]) -> None:
    """Of two versions of an attempt, on an old and a new page, the settled one counts."""
    for row in rows:
        if row[0] not in by_number or "open" not in row:
            by_number[row[0]] = row
