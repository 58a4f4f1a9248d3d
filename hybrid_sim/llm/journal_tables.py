"""The tables of a journal file: how they are created and opened, checksums of rows, and what SQLite's errors mean."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid_sim.core.errors import HybridSimError, RunError, StorageError

Row = tuple[Any, ...]

ANSWER = "id, key, text, model, prompt_tokens, completion_tokens, cached_tokens, cost"
ATTEMPT = "id, key, prompt, size, worst, state, kind, message, prompt_tokens, completion_tokens, cost, seconds"
NOTE = "id, name, value"
COLUMNS = {"attempts": ATTEMPT, "answers": ANSWER, "notes": NOTE}
"""Columns of each table, without the last one, `seal`, which is a checksum of all others."""

SCHEMA = """
    CREATE TABLE attempts (id INTEGER PRIMARY KEY, key TEXT NOT NULL, prompt TEXT NOT NULL, size INTEGER NOT NULL,
        worst INTEGER, state TEXT NOT NULL, kind TEXT, message BLOB, prompt_tokens INTEGER, completion_tokens INTEGER,
        cost INTEGER, seconds REAL NOT NULL, seal BLOB NOT NULL);
    CREATE TABLE answers (id INTEGER PRIMARY KEY, key TEXT NOT NULL, text BLOB NOT NULL, model BLOB NOT NULL,
        prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER, cost INTEGER, seal BLOB NOT NULL);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, value BLOB NOT NULL, seal BLOB NOT NULL);
    CREATE UNIQUE INDEX answers_key ON answers (key);
    CREATE UNIQUE INDEX notes_name ON notes (name);
"""

PAGE_BYTES = 4096
HEADER = b"SQLite format 3\0" + bytes((PAGE_BYTES >> 8, 0, 2, 2, 0, 64, 32, 32))
"""How every journal file begins: page size, WAL mode for writing and reading, no reserved bytes, payload fractions."""

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG}
_DEFINITIONS = "SELECT type, name, rootpage, sql FROM sqlite_schema ORDER BY rootpage"
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


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


def schema_of(connection: sqlite3.Connection) -> list[Row]:
    """The names and definitions of all tables and indices.

    Raises:
        sqlite3.DatabaseError: they are not those of a journal.
    """
    definitions = connection.execute(_DEFINITIONS).fetchall()
    if definitions and definitions != _blank().execute(_DEFINITIONS).fetchall():
        raise sqlite3.DatabaseError("the tables are not those of a journal")
    return definitions


def blank_page(n_pages: int) -> bytes:
    """The first page of a journal of `n_pages` pages: it leads to the tables, which always begin on the same pages."""
    page = bytearray(_blank().serialize()[:PAGE_BYTES])
    page[: len(HEADER)] = HEADER
    page[24:28] = page[92:96] = (1).to_bytes(4, "big")
    page[28:32] = n_pages.to_bytes(4, "big")
    return bytes(page)


def _blank() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    connection.executescript(SCHEMA)
    return connection


def open_tables(file: Path) -> sqlite3.Connection:
    """Open `file` for writing; create the tables where there are none."""
    connection = sqlite3.connect(file, timeout=10.0, isolation_level=None, check_same_thread=False)
    connection.text_factory = lenient
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    return connection


def open_read_only(file: Path) -> sqlite3.Connection:
    """Open `file` without writing anything, nor beside it, unless a run is using it or died in it."""
    pending = pending_file(file)
    mode = "mode=ro" if pending.exists() and pending.stat().st_size else "immutable=1"
    address = f"{file.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(address, timeout=10.0, isolation_level=None, check_same_thread=False, uri=True)
    connection.text_factory = lenient
    return connection


def pending_file(file: Path) -> Path:
    """Where SQLite keeps commits that are not yet folded into `file`: its write-ahead log."""
    return file.with_name(f"{file.name}-wal")


def lenient(text: bytes) -> str:
    """Text as it is, valid or not: damage is left to the checksum of the row."""
    return text.decode("utf-8", "surrogateescape")


@contextmanager
def named_errors(file: Path) -> Iterator[None]:
    """Raise SQLite's errors as the library's own, which name the file and the cure.

    Raises:
        StorageError: the disk is full or not writable.
        RunError: another program is using the file, or it is damaged.
    """
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        raise _named(file, error) from error


def error_code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _named(file: Path, error: sqlite3.DatabaseError | OSError) -> HybridSimError:
    if isinstance(error, OSError):
        return StorageError(f"{file}: {error.strerror or error}; free some space or name another folder")
    code = error_code(error)
    if code in _FULL:
        return StorageError(
            f"{file}: {error}; free some space or name another folder, then run the same command again: "
            "what was committed is kept"
        )
    if code in _BUSY:
        return RunError(f"{file}: {error}; another program is using it, wait for it to end")
    return RunError(
        f"{file} is damaged: {error}; run the same command again without replay, and what can be read is rescued"
    )
