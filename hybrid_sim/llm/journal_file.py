"""The file of a journal: its lock, its tables, checksums of rows, SQLite's errors, and recovery from damage.

A damaged journal is detected on opening, set aside, and rescued row by row, so that no paid answer is lost. SQLite
finds a table's rows through pages that lead to them, so one damaged page can hide all. But each page of rows (a leaf)
can be read by itself, as if it were the only page of its table; its checksum shows whether a row is whole.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from hybrid_sim.core.errors import RunError, StorageError
from hybrid_sim.core.files import checked_size

if sys.platform == "win32":
    import msvcrt

    def _take(file: BinaryIO) -> None:
        file.seek(1 << 30)  # Windows locks bytes against reading too: one far behind the owner's name
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


Row = tuple[Any, ...]
Tables = dict[str, dict[int, Row]]
"""Rows with their checksums by table and number."""

COLUMNS = {
    "attempts": "id, key, prompt, size, worst, state, kind, message, prompt_tokens, completion_tokens, cost, seconds",
    "answers": "id, key, text, model, prompt_tokens, completion_tokens, cached_tokens, cost",
    "notes": "id, name, value",
}
"""Columns of each table, without the last one, `seal`, which is a checksum of all others."""

_SCHEMA = """
    CREATE TABLE attempts (id INTEGER PRIMARY KEY, key TEXT NOT NULL, prompt TEXT NOT NULL, size INTEGER NOT NULL,
        worst INTEGER, state TEXT NOT NULL, kind TEXT, message BLOB, prompt_tokens INTEGER, completion_tokens INTEGER,
        cost INTEGER, seconds REAL NOT NULL, seal BLOB NOT NULL);
    CREATE TABLE answers (id INTEGER PRIMARY KEY, key TEXT NOT NULL, text BLOB NOT NULL, model BLOB NOT NULL,
        prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER, cost INTEGER, seal BLOB NOT NULL);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, value BLOB NOT NULL, seal BLOB NOT NULL);
    CREATE UNIQUE INDEX answers_key ON answers (key);
    CREATE UNIQUE INDEX notes_name ON notes (name);
"""

_PAGE_BYTES = 4096
_HEADER = b"SQLite format 3\0" + bytes((_PAGE_BYTES >> 8, 0, 2, 2, 0, 64, 32, 32))
"""How every journal file begins: page size, WAL mode for writing and reading, no reserved bytes, payload fractions."""

_LEAF, _WAL_HEADER, _FRAME_HEADER = 0x0D, 32, 24
"""Type of a leaf page of a table; bytes of the headers of a write-ahead log and of each page in it."""

_FIRST_PAGES = 16
"""More pages than an empty journal has; SQLite insists on those that the tables begin on."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG}
_DEFINITIONS = "SELECT type, name, rootpage, sql FROM sqlite_schema ORDER BY rootpage"
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def lock(path: Path) -> BinaryIO:
    """Lock `path`; the lock lasts until the returned file is closed, or until the process is gone, however it dies.

    The file holds the owner's process number and host, for the message that a second process gets. It is never
    deleted: two processes could then hold locks on two files of one name.

    Raises:
        RunError: another process, or another lock in this one, holds it.
        StorageError: the file cannot be written.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o644), "r+b", buffering=0)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); name another folder") from error
    try:
        _take(file)
    except OSError as error:
        with file:
            owner = file.read(300).decode("utf-8", "replace").strip() or "another process"
        raise RunError(f"{path.parent} is in use by {owner}; wait for it to end, or use another folder") from error
    try:
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        file.close()
        raise StorageError(f"{path} cannot be written ({error.strerror}); free some space") from error
    return file


def sealed(row: Row) -> Row:
    """The row with a checksum of its values (16 bytes) behind it, the column `seal`."""
    return (*row, hashlib.blake2b(repr(row).encode(), digest_size=16).digest())


def is_whole(row: Row) -> bool:
    """Whether the last value is the checksum of the others."""
    return sealed(row[:-1]) == row


def insert(table: str) -> str:
    """The statement that writes a row of `sealed`; a row with the same key or name is replaced."""
    columns = COLUMNS[table]
    return f"INSERT OR REPLACE INTO {table} ({columns}, seal) VALUES ({'?, ' * columns.count(',')}?, ?)"


def select(table: str) -> str:
    """The statement that reads all rows, each with its checksum behind it."""
    return f"SELECT {COLUMNS[table]}, seal FROM {table}"


def _has_tables(connection: sqlite3.Connection) -> bool:
    """Whether there are tables and indices.

    Raises:
        sqlite3.DatabaseError: they are not those of a journal.
    """
    definitions = connection.execute(_DEFINITIONS).fetchall()
    if definitions and definitions != _blank().execute(_DEFINITIONS).fetchall():
        raise sqlite3.DatabaseError("the tables are not those of a journal")
    return bool(definitions)


def _blank_page(n_pages: int) -> bytes:
    """The first page of a journal of `n_pages` pages: it leads to the tables, which always begin on the same pages."""
    page = bytearray(_blank().serialize()[:_PAGE_BYTES])
    page[: len(_HEADER)] = _HEADER
    page[24:28] = page[92:96] = (1).to_bytes(4, "big")
    page[28:32] = n_pages.to_bytes(4, "big")
    return bytes(page)


def _blank() -> sqlite3.Connection:
    connection = _connect(":memory:")
    connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
    connection.executescript(_SCHEMA)
    return connection


def _connect(address: str | Path, *, uri: bool = False) -> sqlite3.Connection:
    """A connection without implicit transactions; text comes as it is, damage is left to the checksum of the row."""
    connection = sqlite3.connect(address, timeout=10.0, isolation_level=None, check_same_thread=False, uri=uri)
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return connection


def open_tables(file: Path) -> sqlite3.Connection:
    """Open `file` for writing; create the tables where there are none."""
    connection = _connect(file)
    for setting in (f"page_size={_PAGE_BYTES}", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {setting}")
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    return connection


def open_read_only(file: Path) -> sqlite3.Connection:
    """Open `file` without writing anything, nor beside it, unless a run is using it or died in it."""
    refuse_odd_files(file)
    log = beside(file, "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return _connect(f"{file.absolute().as_uri()}?{mode}", uri=True)


def refuse_odd_files(file: Path) -> None:
    """Check that a journal and the files beside it are plain files: a link would be followed, a pipe waited for.

    Raises:
        RunError: one is something else.
    """
    for path in file.parent.glob(f"{glob.escape(file.name)}*"):
        try:
            if path.is_symlink():
                raise OSError(errno.ELOOP, "a link")
            checked_size(path)
        except FileNotFoundError:  # the process that uses the journal has removed it
            continue
        except OSError as error:
            raise RunError(
                f"{path} is no file of a journal: {error.strerror}; remove it, or use another folder"
            ) from error


def beside(file: Path, suffix: str) -> Path:
    """The file of the same name with a suffix; with `-wal` SQLite's write-ahead log: commits not yet in `file`."""
    return file.with_name(f"{file.name}{suffix}")


def _error_code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


@contextmanager
def named_errors(file: Path) -> Iterator[None]:
    """Raise SQLite's errors as the library's own, which name the file and the cure.

    Raises:
        StorageError: the disk is full or not writable.
        RunError: another program is using the file, or it is damaged.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror or error}; free some space or name another folder") from error
    except sqlite3.DatabaseError as error:
        code = _error_code(error)
        if code in _FULL:
            raise StorageError(
                f"{file}: {error}; free some space or name another folder, then run the same command again: "
                "what was committed is kept"
            ) from error
        if code in _BUSY:
            raise RunError(f"{file}: {error}; another program is using it, wait for it to end") from error
        raise RunError(
            f"{file} is damaged: {error}; run the same command again without replay, and what can be read is rescued"
        ) from error


def rescue(file: Path) -> str | None:
    """Check a journal; set a damaged one aside, and put what can be read of it in its place.

    Rows whose checksum is wrong are not carried over: their questions are asked again. An attempt that is missing
    counts as possibly paid, at the most that any attempt could cost. Returns what happened, in a sentence; None if the
    journal is whole.
    """
    refuse_odd_files(file)
    rescued, work = beside(file, ".rescued"), beside(file, ".rescuing")
    kept = "what could be read of it is rescued"
    if not rescued.exists():
        if not file.exists() or _is_sound(file):
            return None
        aside = _set_aside(file)
        _remove(work, "", "-wal", "-shm")
        n_answers = _write_rows(_rescued_rows(aside), work)
        work.replace(rescued)
        kept = f"{n_answers} answers are rescued, the damaged file is kept as {aside.name}"
    _remove(file, "-wal", "-shm")  # SQLite would play the old file's pending commits into the new one
    rescued.replace(file)
    return f"{file} was damaged; {kept}"


def _is_sound(file: Path) -> bool:
    """Whether SQLite finds the file in order, all tables are there, all rows are whole and no commit was dropped."""
    if not file.stat().st_size:  # a new file, unless commits are pending for it
        return not _pending_pages(file)
    with file.open("rb") as opened:
        if opened.read(len(_HEADER)) != _HEADER:
            return False
    with closing(open_read_only(file)) as connection:
        try:
            if connection.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
                return False
            if not _has_tables(connection):
                return not _pending_pages(file)
            are_whole = all(is_whole(row) for table in COLUMNS for row in connection.execute(select(table)))
            return are_whole and _all_seen(connection, file)
        except sqlite3.DatabaseError as error:
            if _error_code(error) not in _DAMAGED:
                raise
            return False


def _all_seen(connection: sqlite3.Connection, file: Path) -> bool:
    """Whether SQLite has silently dropped no pending commits, as it does with those behind a damaged one."""
    pending = _rows([bytes(_PAGE_BYTES), *dict(_pending_pages(file)).values()])
    numbers = {number for (number,) in connection.execute("SELECT id FROM attempts")}
    keys = {key for (key,) in connection.execute("SELECT key FROM answers")}
    return pending["attempts"].keys() <= numbers and {row[1] for row in pending["answers"].values()} <= keys


def _set_aside(file: Path) -> Path:
    number = 1
    while (aside := beside(file, f".damaged-{number}")).exists():
        number += 1
    if beside(file, "-wal").exists():
        shutil.copy2(beside(file, "-wal"), beside(aside, "-wal"))
    shutil.copy2(file, aside)
    return aside


def _write_rows(rows: Tables, file: Path) -> int:
    """Write the rows, and lost attempts in the place of missing ones, into a new file; how many answers these are."""
    attempts, answers = rows["attempts"], rows["answers"]
    worst = max((row[4] for row in attempts.values() if row[4] is not None), default=None)
    for number in set(range(1, max([0, *attempts, *answers]) + 1)) - attempts.keys():
        answer = answers.get(number)
        end = (*answer[4:6], answer[7]) if answer else (None, None, None)
        state, key = ("answered", answer[1]) if answer else ("open", "")
        attempts[number] = sealed((number, key, "", 0, worst, state, None, None, *end, 0.0))
    with closing(open_tables(file)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, by_number in rows.items():
            connection.executemany(insert(table), [by_number[number] for number in sorted(by_number)])
        connection.execute("COMMIT")
        n_answers = int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    with file.open("rb") as finished:
        os.fsync(finished.fileno())
    return n_answers


def _remove(file: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        beside(file, suffix).unlink(missing_ok=True)


def _rescued_rows(file: Path) -> Tables:
    """All whole rows, from the file and from the commits that are pending for it."""
    content = file.read_bytes()
    pages = [content[at : at + _PAGE_BYTES].ljust(_PAGE_BYTES, b"\0") for at in range(0, len(content), _PAGE_BYTES)]
    pending = _pending_pages(file)
    for number, page in pending:
        pages.extend([bytes(_PAGE_BYTES)] * (number - len(pages)))
        pages[number - 1] = page
    return _rows(pages + [page for _, page in pending])


def _pending_pages(file: Path) -> list[tuple[int, bytes]]:
    """Page numbers and contents in the write-ahead log, oldest first, up to the last commit that is complete.

    Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log. Its checksums are not used: SQLite drops
    everything behind the first broken one, and the rows have their own. Frames with other salts are older leftovers.
    """
    if not beside(file, "-wal").exists():
        return []
    log = beside(file, "-wal").read_bytes()
    salts = {log[16:24], log[_WAL_HEADER + 8 : _WAL_HEADER + 16]}
    pages: list[tuple[int, bytes]] = []
    n_committed = 0
    most = (file.stat().st_size + len(log)) // _PAGE_BYTES + 1
    for at in range(_WAL_HEADER, len(log) - _FRAME_HEADER - _PAGE_BYTES + 1, _FRAME_HEADER + _PAGE_BYTES):
        number = int.from_bytes(log[at : at + 4], "big")
        if log[at + 8 : at + 16] in salts and 0 < number <= most:
            pages.append((number, log[at + _FRAME_HEADER : at + _FRAME_HEADER + _PAGE_BYTES]))
            n_committed = len(pages) if any(log[at + 4 : at + 8]) else n_committed
    return pages[:n_committed]


def _rows(pages: Sequence[bytes]) -> Tables:
    """The whole rows on all leaves but the first page, which is replaced by one that leads to a leaf of our choice.

    Of two versions of an attempt, on an old and a new page, the settled one counts.
    """
    pages = [*pages, *[bytes(_PAGE_BYTES)] * _FIRST_PAGES]
    first = bytearray(_blank_page(len(pages)))
    first[18:20] = b"\1\1"  # in memory there is no write-ahead log
    rows: Tables = {table: {} for table in COLUMNS}
    with closing(_connect(":memory:")) as connection:
        connection.deserialize(bytes(first) + b"".join(pages[1:]))
        for leaf in (number for number, page in enumerate(pages[1:], start=2) if page[0] == _LEAF):
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE type = 'table'", (leaf,))
            connection.execute("PRAGMA writable_schema=RESET")
            for table, by_number in rows.items():
                with suppress(sqlite3.DatabaseError):  # what stands behind the first damage of a leaf is lost
                    for row in filter(is_whole, connection.execute(select(table))):
                        if row[0] not in by_number or "open" not in row:
                            by_number[row[0]] = row
    return rows
