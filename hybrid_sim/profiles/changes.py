"""What is new in a profile against the version before, and whole timelines as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from hybrid_sim.core.user_state import Timeline, UserProfile


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
        parts = (
            ("likes", self.likes_added),
            ("dislikes", self.dislikes_added),
            ("no longer likes", self.likes_removed),
            ("no longer dislikes", self.dislikes_removed),
        )
        clauses = [f"{verb} {listed(phrases)}" for verb, phrases in parts if phrases]
        if not clauses:
            return "Likes and dislikes are as before."
        sentence = "; ".join(clauses)
        return f"{sentence[0].upper()}{sentence[1:]}." if sentence.startswith("no") else f"Now {sentence}."


def difference(before: UserProfile | None, after: UserProfile) -> Difference:
    """What `after` adds to and takes from `before`; phrases are compared without regard to case.

    >>> old, new = UserProfile("u", 1, "", ("Drama", "war")), UserProfile("u", 2, "", ("drama", "comedy"))
    >>> difference(old, new).likes_added, difference(old, new).likes_removed
    (('comedy',), ('war',))
    """
    old = before or UserProfile(after.user_id, 0, "")
    return Difference(
        _without(after.likes, old.likes),
        _without(old.likes, after.likes),
        _without(after.dislikes, old.dislikes),
        _without(old.dislikes, after.dislikes),
    )


def listed(phrases: Sequence[str]) -> str:
    """Phrases as they are enumerated in a sentence.

    >>> listed(["drama", "war", "love"])
    'drama, war and love'
    """
    *rest, last = phrases
    return f"{', '.join(rest)} and {last}" if rest else last


def timeline_lines(timeline: Timeline, items: Mapping[str, str]) -> list[str]:
    """A timeline as lines for people: each version, what is new in it, and the evidence it was made from.

    `items` names items by id; one that it lacks is shown by its id. The lines hold foreign text as it is: escape them.
    """
    lines = []
    for before, version in zip((None, *timeline.versions), timeline.versions, strict=False):
        new = difference(before, version)
        lines += [
            _heading(version),
            f"  {' '.join(version.summary.split())}",
            *_facet("likes", version.likes, new.likes_added if before else (), new.likes_removed),
            *_facet("dislikes", version.dislikes, new.dislikes_added if before else (), new.dislikes_removed),
            *([f"  change: {version.change}"] if version.change else []),
            *([f"  from: {'; '.join(items.get(item, item) for item in version.evidence)}"] if version.evidence else []),
            *([f"  note: {', '.join(version.flags)}"] if version.flags else []),
        ]
    return lines


def timeline_record(timeline: Timeline, items: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same for programs: every version with all its fields and the difference to the one before."""
    return [
        asdict(version)
        | {"difference": asdict(difference(before, version))}
        | {"evidence": [{"item_id": item, "item": items.get(item, "")} for item in version.evidence]}
        for before, version in zip((None, *timeline.versions), timeline.versions, strict=False)
    ]


def _heading(version: UserProfile) -> str:
    """For example `version 2, 1997-11-03, after 20 ratings, by statistics`."""
    at = "" if version.at is None else f", {datetime.fromtimestamp(version.at, UTC):%Y-%m-%d}"
    after = f", after {version.n_events} ratings" if version.n_events else ""
    return f"version {version.version}{at}{after}, by {version.writer}"


def _facet(name: str, phrases: Sequence[str], added: Sequence[str], removed: Sequence[str]) -> list[str]:
    shown = "; ".join(f"+{phrase}" if phrase in added else phrase for phrase in phrases) or "nothing that stands out"
    gone = f" (no longer {'; '.join(removed)})" if removed else ""
    return [f"  {name}: {shown}{gone}"] if phrases or removed else []


def _without(phrases: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    known = {phrase.casefold() for phrase in others}
    return tuple(phrase for phrase in phrases if phrase.casefold() not in known)
