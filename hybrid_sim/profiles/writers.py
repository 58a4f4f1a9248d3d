"""Profiles grow version by version: what a version is made from, who writes it, and in which order versions are due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.settings import ProfileSettings
from hybrid_sim.core.user_state import History, UserProfile, UserState


@dataclass(frozen=True)
class Draft:
    """What one version is to be made from: the version before, if any, and the ratings up to now.

    `user` is the row of the dataset's users (-1: unknown), `history` oldest first; its last `n_new` ratings are those
    that no version has seen yet.
    """

    user: int
    history: History
    n_new: int
    before: UserProfile | None = None

    @property
    def batch(self) -> History:
        """The ratings that are new to this version."""
        return self.history.last(self.n_new)

    def version(
        self, dataset: Dataset, summary: str, likes: Sequence[str], dislikes: Sequence[str], change: str, writer: str
    ) -> UserProfile:
        """The version that this text makes, with the batch as its evidence."""
        batch = self.batch
        before = self.before or UserProfile("", 0, "")
        return UserProfile(
            user_id=str(dataset.users.index[self.user]) if self.user >= 0 else before.user_id,
            version=before.version + 1,
            summary=summary,
            likes=tuple(likes),
            dislikes=tuple(dislikes),
            change=change if self.before else "",
            evidence=tuple(item_ids(dataset, batch)),
            n_events=len(batch) + before.n_events,
            at=before.at if batch.timestamp is None or not len(batch) else int(batch.timestamp[-1]),
            writer=writer,
        )


class ProfileWriter(Protocol):
    """Writes the next version of each draft's profile; every draft gets one."""

    def write(self, drafts: Sequence[Draft]) -> list[UserProfile]:
        """One version per draft, in order."""


def write_profiles(writer: ProfileWriter, states: Sequence[UserState], settings: ProfileSettings) -> list[UserState]:
    """The states with profiles made from their last `settings.n_recent` ratings, `settings.batch` at a time.

    This is the first phase of Lusifer (Ebrat et al. 2024), forward in time: a first profile, then updates. All first
    versions are written before any second one. A user without ratings gets one version too; states that have a profile
    are returned as they are.
    """
    starts = [max(len(state.history) - settings.n_recent, 0) for state in states]
    plans = [
        []
        if state.profile
        else [*range(start + settings.batch, len(state.history), settings.batch), len(state.history)]
        for state, start in zip(states, starts, strict=True)
    ]
    return _write_versions(writer, states, starts, plans, settings.n_recent)


def update_profiles(
    writer: ProfileWriter, dataset: Dataset, states: Sequence[UserState], settings: ProfileSettings
) -> list[UserState]:
    """The states with a further version for every `settings.update_every` ratings that no version has seen.

    States with fewer such ratings, and states without a profile, are returned as they are.
    """
    starts = [len(state.history) - unseen(state, dataset) for state in states]
    every = settings.update_every
    plans = [
        [*range(start + every, len(state.history) + 1, every)] if state.profile else []
        for state, start in zip(states, starts, strict=True)
    ]
    return _write_versions(writer, states, starts, plans, settings.n_recent)


def unseen(state: UserState, dataset: Dataset) -> int:
    """How many of the last ratings of a state's history no version of its profile has seen.

    The evidence of the newest version is looked for in the history, from the end. Where it names none, as in a profile
    that was recorded elsewhere, the simulated ratings are those that it cannot have seen.
    """
    evidence, ids = list(state.profile.evidence) if state.profile else [], item_ids(dataset, state.history)
    for end in range(len(ids), len(evidence) - 1, -1) if evidence else ():
        if ids[end - len(evidence) : end] == evidence:
            return len(ids) - end
    return int(state.history.simulated.sum())


def item_ids(dataset: Dataset, history: History) -> list[str]:
    """The id of every item of a history; "" for one that the dataset does not know."""
    return [str(dataset.items.index[row]) if row >= 0 else "" for row in history.item]


def _write_versions(
    writer: ProfileWriter, states: Sequence[UserState], starts: Sequence[int], plans: Sequence[list[int]], n_recent: int
) -> list[UserState]:
    """All first planned versions, then all second ones, and so on.

    `plans` holds for each state the lengths of its history up to each new version, `starts` the length before them.
    """
    states, seen = list(states), list(starts)
    for place in range(max(map(len, plans), default=0)):
        rows = [row for row, ends in enumerate(plans) if place < len(ends)]
        drafts = []
        for row in rows:
            end, state = plans[row][place], states[row]
            drafts.append(Draft(state.user, state.history.first(end).last(n_recent), end - seen[row], state.profile))
            seen[row] = end
        for row, profile in zip(rows, writer.write(drafts), strict=True):
            states[row] = replace(states[row], timeline=states[row].timeline.then([profile]))
    return states
