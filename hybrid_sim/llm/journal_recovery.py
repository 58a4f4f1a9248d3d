"""Damaged journals: found on opening, set aside, and rescued row by row. Paid answers are never thrown away."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from hybrid_sim.llm.journal_tables import (
    COLUMNS,
    DAMAGED,
    HEADER,
    Row,
    error_code,
    insert,
    is_whole,
    open_read_only,
    open_tables,
    pending_file,
    schema_of,
    sealed,
    select,
)
from hybrid_sim.llm.sqlite_pages import pending_pages, pending_rows, rescued_rows


def rescue(file: Path) -> str | None:
    """See whether the journal is whole; if it is not, set it aside and put what can be read of it in its place.

    Rows whose seal is broken are not carried over: their questions are asked again. An attempt that is missing counts
    as possibly paid, at the most that any attempt could cost. Returns what happened, in a sentence; None if all is
    well.
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
        return not pending_pages(file)
    with file.open("rb") as opened:
        if opened.read(len(HEADER)) != HEADER:
            return False
    connection = open_read_only(file)
    try:
        if connection.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
            return False
        if not schema_of(connection):
            return not pending_pages(file)
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
    """SQLite forgets, without a word, the pending commits behind a damaged one."""
    pending = pending_rows(file)
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
    rows = rescued_rows(aside)
    attempts, answers = rows["attempts"], rows["answers"]
    worst = max((row[4] for row in attempts.values() if row[4] is not None), default=None)
    for number in set(range(1, max([0, *attempts, *answers]) + 1)) - attempts.keys():
        attempts[number] = _lost_attempt(number, answers.get(number), worst)
    _remove(work)
    connection = open_tables(work)
    connection.execute("BEGIN IMMEDIATE")
    for table, found in rows.items():
        connection.executemany(insert(table), [found[number] for number in sorted(found)])
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
