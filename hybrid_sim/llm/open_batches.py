"""Which batches of a run are open, kept as notes in its journal."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

_log = logging.getLogger(__name__)


class Notes(Protocol):
    """Where the numbers of batches are kept; a `Journal` is one."""

    def note(self, name: str) -> str | None:
        """The text under this name, or None."""

    def write_note(self, name: str, value: str) -> None:
        """Commit a text under this name."""


def under_way(notes: Notes) -> set[str]:
    """The keys of all requests that were submitted, or may have been, and whose results have not been delivered."""
    return {key for open_ in Book(notes).open() for key in open_.keys}


@dataclass(frozen=True)
class OpenBatch:
    """A batch whose results have not all been delivered; without `id` it may or may not have been submitted."""

    tag: str
    id: str | None
    keys: Sequence[str]


class Book:
    """The batches that are open, as notes: `batches` lists their tags, `batch:<tag>` says what each is."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def open(self) -> list[OpenBatch]:
        """All open batches, in the order in which they were begun."""
        notes = {tag: self._notes.note(f"batch:{tag}") for tag in self._tags()}
        lost = [tag for tag, note in notes.items() if note is None]
        if lost:
            _log.warning("what was noted of %d open batches is damaged; their questions are asked again", len(lost))
        return [OpenBatch(tag, **json.loads(note)) for tag, note in notes.items() if note is not None]

    def begin(self, keys: Collection[str]) -> OpenBatch:
        """Note that a batch is about to be submitted, under a new tag, which it will carry."""
        return self._write(OpenBatch(secrets.token_hex(16), None, list(keys)))

    def number(self, open_: OpenBatch, batch_id: str) -> OpenBatch:
        """Note the number that the endpoint has given to a batch."""
        return self._write(replace(open_, id=batch_id))

    def forget(self, open_: OpenBatch, delivered: Collection[str]) -> None:
        """Keep a batch only as long as there are results in it that nobody has wanted yet."""
        gone = set(delivered)
        left = [key for key in open_.keys if key not in gone]
        if left:
            self._write(replace(open_, keys=left))
        else:
            self._notes.write_note("batches", json.dumps([tag for tag in self._tags() if tag != open_.tag]))
            self._notes.write_note(f"batch:{open_.tag}", "")

    def _tags(self) -> list[str]:
        tags: list[str] = json.loads(self._notes.note("batches") or "[]")
        return tags

    def _write(self, open_: OpenBatch) -> OpenBatch:
        self._notes.write_note(f"batch:{open_.tag}", json.dumps({"id": open_.id, "keys": list(open_.keys)}))
        if open_.tag not in self._tags():
            self._notes.write_note("batches", json.dumps([*self._tags(), open_.tag]))
        return open_
