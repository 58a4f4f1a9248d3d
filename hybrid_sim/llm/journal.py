"""The journal of a run: every request that was sent and every answer that came, in one SQLite file.

It is a cache (an answer is found by the idempotency key of its question), a checkpoint (a killed run continues), a
ledger (what was spent, and what may have been) and a recording (a run whose questions all have answers is replayed
without a call).

A commit survives the death of the process at any moment (kill -9). After a loss of *power* the newest commits may be
missing, never half there: SQLite in WAL mode with synchronous=NORMAL hands them to the system at once but does not wait
for the disk. Such answers are asked, and paid, again.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, Self

from hybrid_sim.core.errors import ReplyError, RunError, StorageError
from hybrid_sim.core.files import shortened
from hybrid_sim.llm.budget import Ledger, PromptUsage
from hybrid_sim.llm.journal_file import (
    Row,
    beside,
    insert,
    is_whole,
    lock,
    named_errors,
    open_read_only,
    open_tables,
    rescue,
    sealed,
    select,
)
from hybrid_sim.llm.question import Answer, Failure, Question, Usage

_BALLAST_BYTES = 8 << 20
_KEYS_PER_QUERY = 500
_SETTINGS = "settings"
_DIGEST = re.compile('"[0-9a-f]{64}"')
_log = logging.getLogger(__name__)


class Journal:
    """The journal in `file`, whose folder is made where it does not exist. Close it, or use it in a `with` block.

    One process owns a journal at a time, and uses it from one thread at a time. With `replay` it is only read: nothing
    is written or locked, and several processes may do so (beside a journal that is in use, or whose owner died, SQLite
    keeps an index of its own). `settings`, in plain JSON, are stored when the journal is first opened; once something
    was sent, other settings are refused. `damage` says in a sentence what was damaged and rescued on opening, or None.

    Raises:
        RunError: the journal is in use, is of other settings, or is missing or damaged and to be replayed.
        StorageError: the disk is full or not writable.
    """

    def __init__(self, file: Path, *, settings: Mapping[str, Any] | None = None, replay: bool = False) -> None:
        self.file, self.replay = file, replay
        self.damage: str | None = None
        self._full = False
        self._ballast = beside(file, ".ballast")
        self._open_resources = ExitStack()
        if not replay:
            with named_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            self._open_resources.enter_context(lock(beside(file, ".lock")))
        self._last, self._before, self._opened = 0, 0.0, time.monotonic()
        self._attempts: dict[int, Row] = {}
        try:
            with named_errors(file):
                self._open()
            self._identify(settings)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Merge the newest commits into the file and release the lock; a second call does nothing."""
        self._open_resources.close()

    def answers(self, questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer]]:
        """Key and answer of the questions (by key) whose stored answer passes the question's check as it is now."""
        for key, stored in self.find(list(questions)).items():
            question = questions[key]
            try:
                yield key, replace(stored, value=question.check(stored.text))
            except ReplyError as error:
                _log.warning("a stored answer to the prompt %s is not used: %s", question.prompt, error)

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The stored answers to these keys, unchecked (their value is None); a damaged one counts as not stored."""
        answers = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            chunk = keys[start : start + _KEYS_PER_QUERY]
            marks = ", ".join("?" * len(chunk))
            for row in self._read(f"{select('answers')} WHERE key IN ({marks})", chunk):
                if is_whole(row):
                    answers[row[1]] = Answer(_text(row[2]), None, Usage(*row[4:7]), _text(row[3]))
                else:
                    _log.warning("%s: the answer of attempt %s is damaged and not used", self.file, row[0])
        return answers

    def start(self, key: str, prompt: str, worst: int | None, *, size: int = 0) -> int:
        """Commit that a request is about to be sent; the number of this attempt.

        `prompt` names the prompt, `size` is how many bytes are sent (for forecasts), `worst` is the most that the
        attempt can cost, in nano-dollars.

        Raises:
            StorageError: the disk is full: do not send.
        """
        if self._full:
            raise StorageError(f"{self.file}: the disk is full; free some space, then run the same command again")
        attempt = self._last + 1
        sent = (attempt, key, prompt, size, worst)
        row = sealed((*sent, "open", None, None, None, None, None, self.seconds))
        self._commit((insert("attempts"), row))
        self._last, self._attempts[attempt] = attempt, sent
        return attempt

    def resume(self, key: str) -> tuple[int, int | None] | None:
        """Number and worst-case cost of the newest attempt of this key that an earlier process left open, if any.

        For example one in a batch. It has to be finished or failed like one of this process.
        """
        newest = f"{select('attempts')} WHERE key = ? AND state = 'open' ORDER BY id DESC LIMIT 1"
        for row in self._read(newest, (key,)):
            if is_whole(row) and row[0] not in self._attempts:
                self._attempts[row[0]] = row[:5]
                return row[0], row[4]
        return None

    def finish(self, attempt: int, answer: Answer, cost: int | None) -> None:
        """Commit an answer that passed its check, together with the end of its attempt; it replaces an earlier one.

        `cost` is in nano-dollars; None where the server did not say what it counted, or the price is not known.

        Raises:
            StorageError: the disk is full, and the space reserved for this is used up too.
        """
        key, tokens = self._attempts[attempt][1], astuple(answer.usage)
        row = (attempt, key, _blob(answer.text), _blob(answer.model), *tokens, cost)
        self._settle(attempt, ("answered", None, None, *tokens[:2], cost), (insert("answers"), sealed(row)))

    def fail(self, attempt: int, failure: Failure, cost: int | None, *, possibly_paid: bool) -> None:
        """Commit that an attempt brought no answer. `possibly_paid`: the server may have charged for it."""
        state = "doubtful" if possibly_paid else "failed"
        tokens = astuple(failure.usage)[:2]
        self._settle(attempt, (state, failure.kind, _blob(failure.message), *tokens, cost))

    def ledger(self) -> Ledger:
        """Sums over all attempts, those of earlier processes included."""
        query = """
            SELECT count(*), total(state = 'answered'), total(state IN ('failed', 'doubtful')),
                total(state IN ('open', 'doubtful')), total(prompt_tokens), total(completion_tokens), total(cost),
                total(iif(cost IS NULL AND state != 'failed', worst, 0)), total(cost IS NULL AND state != 'failed'),
                total(cost IS NULL AND state != 'failed' AND worst IS NULL)
            FROM attempts"""
        return replace(Ledger(*map(int, self._read(query)[0])), seconds=self.seconds)

    def failures(self) -> dict[str, int]:
        """Number of failed attempts, by kind."""
        failed = "SELECT kind, count(*) FROM attempts WHERE state IN ('failed', 'doubtful') GROUP BY kind ORDER BY kind"
        return dict(self._read(failed))

    def usage_by_prompt(self) -> list[PromptUsage]:
        """Sums over the attempts with each prompt, by its name: forecasts are calibrated on this."""
        query = """
            SELECT prompt, count(*), total(state = 'answered'), total(counted), total(size * counted),
                total(prompt_tokens * counted), total(completion_tokens * counted), total(cost * counted)
            FROM (SELECT *, coalesce(prompt_tokens > 0 AND size > 0, 0) AS counted FROM attempts)
            WHERE prompt != '' GROUP BY prompt ORDER BY prompt"""
        return [PromptUsage(prompt, *map(int, sums)) for prompt, *sums in self._read(query)]

    def note(self, name: str) -> str | None:
        """The text kept under this name, or None."""
        for row in self._read(f"{select('notes')} WHERE name = ?", (name,)):
            if is_whole(row):
                return _text(row[2])
        return None

    def write_note(self, name: str, value: str) -> None:
        """Commit a text under a name, for example the id of an open batch; it replaces an earlier one."""
        numbers = dict(self._read("SELECT name, id FROM notes"))
        number = numbers.get(name, max(numbers.values(), default=0) + 1)
        self._commit((insert("notes"), sealed((number, name, _blob(value)))))

    @property
    def seconds(self) -> float:
        """Working time of the run: up to the last attempt of each earlier process, and since this opening."""
        return self._before + time.monotonic() - self._opened

    def _settle(self, attempt: int, end: Row, *more: tuple[str, Row]) -> None:
        row = (*self._attempts[attempt], *end, self.seconds)
        self._commit(*more, (insert("attempts"), sealed(row)), use_ballast=True)
        del self._attempts[attempt]

    def _commit(self, *writes: tuple[str, Row], use_ballast: bool = False) -> None:
        """Commit all writes or none; what is already paid may use the disk space that was reserved for it."""
        if self.replay:
            raise RunError(f"{self.file} is being replayed: nothing is written to it")
        try:
            with named_errors(self.file):
                self._write(writes)
        except StorageError:
            self._full = True
            if not (use_ballast and self._ballast.exists()):
                raise
            with named_errors(self.file):
                self._ballast.unlink()
                self._write(writes)

    def _write(self, writes: Sequence[tuple[str, Row]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, row in writes:
                self._connection.execute(statement, row)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _read(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        with named_errors(self.file):
            return self._connection.execute(query, values).fetchall()

    def _open(self) -> None:
        if self.replay:
            if not self.file.is_file():
                raise RunError(f"{self.file} is not there, so there is nothing to replay; run without replay first")
            self._connection = open_read_only(self.file)
        else:
            self.damage = rescue(self.file)
            if self.damage:
                _log.warning(self.damage)
            self._keep_ballast()
            self._connection = open_tables(self.file)
        self._open_resources.callback(self._connection.close)
        last, seconds = self._connection.execute("SELECT max(id), max(seconds) FROM attempts").fetchone()
        self._last, self._before = last or 0, seconds or 0.0

    def _keep_ballast(self) -> None:
        """Reserve disk space for the answers that are in flight when the disk fills up."""
        self._open_resources.callback(self._ballast.unlink, missing_ok=True)
        with self._ballast.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
            except (AttributeError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                file.write(os.urandom(_BALLAST_BYTES))  # space cannot be allocated; zeros may take none

    def _identify(self, settings: Mapping[str, Any] | None) -> None:
        stored = self.note(_SETTINGS)
        if settings is None:
            return
        if stored is not None:
            differences = describe_differences(json.loads(stored), settings)
            if differences and self._read("SELECT 1 FROM attempts LIMIT 1"):
                raise RunError(
                    f"{self.file.parent} holds a run of other settings: {'; '.join(differences)}; "
                    "use the settings of the run, or another folder"
                )
        if not self.replay:
            self.write_note(_SETTINGS, json.dumps(dict(settings), sort_keys=True))


def _blob(text: str) -> bytes:
    """UTF-8 that keeps what is no valid Unicode (a lone surrogate in a reply), so that a text comes back as it was."""
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for each setting that differs, in order of names.

    >>> describe_differences({"llm": {"model": "a", "seed": 1}}, {"llm": {"model": "b", "seed": 1}, "data": "x"})
    ["data: not set in the run, 'x' now", "llm.model: 'a' in the run, 'b' now"]
    """
    sides = [dict(_leaves("", settings)) for settings in (before, now)]
    phrases = []
    for name in sorted(sides[0].keys() | sides[1].keys()):
        texts = [json.dumps(side[name], default=str) if name in side else "" for side in sides]
        shown = [shortened(repr(side[name]), 80) if name in side else "not set" for side in sides]
        if all(map(_DIGEST.fullmatch, texts)) and texts[0] != texts[1]:
            phrases.append(f"{name}: not those of the run")
        elif texts[0] != texts[1]:
            phrases.append(f"{name}: {shown[0]} in the run, {shown[1]} now")
    return phrases


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), part)
    elif name:
        yield name, value
