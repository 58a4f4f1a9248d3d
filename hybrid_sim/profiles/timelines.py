"""Timelines in a run folder: `profiles.jsonl`, one line for each version of each user's profile."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.files import first_mistake, write_whole
from hybrid_sim.core.user_state import Timeline, UserProfile

PROFILES_FILE = "profiles.jsonl"


def write_timelines(path: Path, timelines: Iterable[Timeline]) -> None:
    """Write every version, one JSON object per line, the users in the order given and oldest versions first.

    A lone surrogate, which no file can hold as text, becomes a question mark.

    Raises:
        SettingsError: the folder does not exist.
        StorageError: the disk is full or not writable.
    """
    lines = [json.dumps(asdict(version), ensure_ascii=False) for timeline in timelines for version in timeline.versions]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def read_timelines(path: Path) -> dict[str, Timeline]:
    """The timelines in a file that `write_timelines` wrote, by user id.

    Raises:
        SettingsError: there is no such file.
        DataError: a line is damaged, or the versions of a user are not numbered upwards.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a folder with {PROFILES_FILE}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: byte {error.start} is not UTF-8; the file is damaged, write it again") from error
    adapter = TypeAdapter(UserProfile)
    timelines: dict[str, Timeline] = {}
    for number, line in enumerate(filter(None, lines), start=1):
        try:
            version = adapter.validate_json(line, strict=True, extra="forbid")
        except ValidationError as error:
            mistake = first_mistake(error, "the line")
            raise DataError(f"{path.name} row {number}, {mistake}; remove the row or run again") from error
        timeline = timelines.get(version.user_id, Timeline())
        if timeline.latest is not None and timeline.latest.version >= version.version:
            raise DataError(
                f"{path.name} row {number}: version {version.version} of user {version.user_id!r} stands behind "
                f"version {timeline.latest.version}; versions are only ever added, run again"
            )
        timelines[version.user_id] = timeline.then([version])
    return timelines
