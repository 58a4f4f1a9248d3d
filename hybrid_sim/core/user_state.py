"""The state of a user: rating history and profile, with all earlier versions of the profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_sim.core.history import History


@dataclass(frozen=True)
class UserProfile:
    """One version of a user's profile: a summary of the user's taste in words, as of one moment.

    `likes` and `dislikes` are short phrases, kept apart because one text for both has no sign. `change` says in one
    sentence what is new against the version before ("" for the first). `evidence` holds the ids of the items whose
    ratings this version was made from, `n_events` the ratings behind all versions so far. `at` is the time of the last
    of them, seconds UTC, None where the data has no times. `writer` is "statistics", "recorded" or the name of a model;
    `flags` names what is wrong with the text: it quotes ratings, or an update failed, so that it has seen its evidence
    but has the words of the version before.
    """

    user_id: str
    version: int
    summary: str
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()
    change: str = ""
    evidence: tuple[str, ...] = ()
    n_events: int = 0
    at: int | None = None
    writer: str = "statistics"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """All versions of one user's profile, oldest first; versions are only ever added."""

    versions: tuple[UserProfile, ...] = ()

    @property
    def latest(self) -> UserProfile | None:
        """The newest version, None where there is none yet."""
        return self.versions[-1] if self.versions else None

    def before(self, at: float) -> Timeline:
        """Only the versions whose ratings are all before `at` (seconds UTC)."""
        return Timeline(tuple(version for version in self.versions if version.at is not None and version.at < at))

    def then(self, profiles: Sequence[UserProfile]) -> Timeline:
        """The timeline with newer versions behind."""
        return Timeline((*self.versions, *profiles))


@dataclass(frozen=True)
class UserState:
    """Rating history and profile of a user at one moment; immutable, `advance` makes the next state.

    `user` is the row of the dataset's users, -1 for one that it does not know.
    """

    user: int
    history: History
    timeline: Timeline = Timeline()

    @property
    def profile(self) -> UserProfile | None:
        """The newest version of the profile."""
        return self.timeline.latest
