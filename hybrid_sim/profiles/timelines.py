"""Timelines of profiles: in a file, one line for each version; as text; and what is new in a version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.files import MAX_LINE, first_mistake, write_whole
from hybrid_sim.core.user_state import Timeline, UserProfile

PROFILES_FILE = "profiles.jsonl"
"""Name of the file in a run folder."""


@dataclass(frozen=True)
class Difference:
    """Likes and dislikes that came and went between two versions, in the order in which the versions name them.

    >>> Difference(("drama",), (), (), ("war", "horror")).sentence
    'Now likes drama; no longer dislikes war and horror.'
    """

    likes_added: tuple[str, ...]
    likes_removed: tuple[str, ...]
    dislikes_added: tuple[str, ...]
    dislikes_removed: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The difference in one sentence."""
        parts = {
            "likes": self.likes_added,
            "dislikes": self.dislikes_added,
            "no longer likes": self.likes_removed,
            "no longer dislikes": self.dislikes_removed,
        }
        sentence = "; ".join(f"{verb} {enumerated(phrases)}" for verb, phrases in parts.items() if phrases)
        if not sentence:
            return "Likes and dislikes are as before."
        return f"{sentence[0].upper()}{sentence[1:]}." if sentence.startswith("no") else f"Now {sentence}."


def difference(before: UserProfile | None, after: UserProfile) -> Difference:
    """What `after` adds to and takes from `before`; phrases are compared without regard to case.

    >>> old, new = UserProfile("u", 1, "", ("Drama", "war")), UserProfile("u", 2, "", ("drama", "comedy"))
    >>> difference(old, new).likes_added, difference(old, new).likes_removed
    (('comedy',), ('war',))
    """
    old = before or UserProfile(after.user_id, 0, "")

    def only(phrases: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
        folded = {phrase.casefold() for phrase in others}
        return tuple(phrase for phrase in phrases if phrase.casefold() not in folded)

    likes, dislikes = (old.likes, after.likes), (old.dislikes, after.dislikes)
    return Difference(only(*likes[::-1]), only(*likes), only(*dislikes[::-1]), only(*dislikes))


def enumerated(phrases: Sequence[str]) -> str:
    """Phrases as they are enumerated in a sentence.

    >>> enumerated(["drama", "war", "love"])
    'drama, war and love'
    """
    *rest, last = phrases
    return f"{', '.join(rest)} and {last}" if rest else last


def timeline_lines(timeline: Timeline, items: Mapping[str, str]) -> list[str]:
    """A timeline as lines for people: each version, what is new in it, and the evidence it was made from.

    `items` names items by id; one that it lacks is shown by its id. The lines hold untrusted text: escape them.
    """
    lines = []
    for before, version in zip((None, *timeline.versions), timeline.versions, strict=False):
        new = difference(before, version)
        at = "" if version.at is None else f", {datetime.fromtimestamp(version.at, UTC):%Y-%m-%d}"
        after = f", after {version.n_events} ratings" if version.n_events else ""
        lines += [
            f"version {version.version}{at}{after}, by {version.writer}",
            f"  {' '.join(version.summary.split())}",
            *_facet("likes", version.likes, new.likes_added if before else (), new.likes_removed),
            *_facet("dislikes", version.dislikes, new.dislikes_added if before else (), new.dislikes_removed),
            *([f"  change: {version.change}"] if version.change else []),
            *([f"  from: {'; '.join(items.get(item, item) for item in version.evidence)}"] if version.evidence else []),
            *([f"  note: {', '.join(version.flags)}"] if version.flags else []),
        ]
    return lines


def _facet(name: str, phrases: Sequence[str], added: Sequence[str], removed: Sequence[str]) -> list[str]:
    shown = "; ".join(f"+{phrase}" if phrase in added else phrase for phrase in phrases) or "nothing that stands out"
    gone = f" (no longer {'; '.join(removed)})" if removed else ""
    return [f"  {name}: {shown}{gone}"] if phrases or removed else []


def timeline_record(timeline: Timeline, items: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same for programs: every version with all its fields and the difference to the one before."""
    return [
        asdict(version)
        | {"difference": asdict(difference(before, version))}
        | {"evidence": [{"item_id": item, "item": items.get(item, "")} for item in version.evidence]}
        for before, version in zip((None, *timeline.versions), timeline.versions, strict=False)
    ]


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
        if len(line) > MAX_LINE:
            raise DataError(f"{path.name} row {number} has more than {MAX_LINE:,} characters; remove it or run again")
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
