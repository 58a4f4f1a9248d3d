"""What each part of the ensemble adds to an expected rating, in parts that sum to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.models.registry import OTHERS, TASTE, RaterEntry, registered_members

BEFORE = ("base", "user mean", "item mean")
AFTER = ("support", "calibration")

LEVEL, QUALITY, TEXT, LLM, REST = "user's level", "item quality", "text", "language model", "adjustment"
"""Groups of contributions beside those that the registrations of members name."""

GROUP_OF = {"base": "base", "user mean": LEVEL, "item mean": QUALITY, "support": REST, "calibration": REST, "llm": LLM}

SENTENCES = {
    TASTE: "this user's ratings of similar items",
    OTHERS: "users with similar ratings",
    TEXT: "what is known of the item",
    LLM: "the language model",
}
"""What raises or lowers an expected rating, in a sentence; a group of another package is named as it is."""


@dataclass(frozen=True)
class Contributions:
    """Named columns in rating units, shape `(n_pairs, n_names)`, that sum to the expected rating of each pair.

    - `base`: the mean of all training ratings.
    - `user mean`, `item mean`: how far the mean of the user's and of the item's ratings (both shrunk) is from it, times
      the sum of the members' weights. Nearly all members follow these means, so that they are counted once.
    - one column per member: what it expects beyond these means, times its weight.
    - `support`: adjustments for how much is known: numbers of ratings, how widely they spread, how much members differ.
    - `calibration`: what moving the expectation into the rating scale has changed.
    - `llm`, where there is one: the correction by a language model's rating.

    A row is NaN where the ensemble abstains.
    """

    names: tuple[str, ...]
    amounts: FloatArray

    def __len__(self) -> int:
        return len(self.amounts)

    def total(self) -> FloatArray:
        """The expected ratings, shape `(n_pairs,)`."""
        return np.asarray(self.amounts.sum(axis=1))

    def take(self, rows: NDArray[np.bool_] | IntArray | slice) -> Contributions:
        """The contributions of these rows, in this order."""
        return replace(self, amounts=self.amounts[rows])

    def with_column(self, name: str, amounts: FloatArray) -> Contributions:
        """The same with a further column at the end."""
        return Contributions((*self.names, name), np.column_stack([self.amounts, amounts]))

    def grouped(self, user_rated: NDArray[np.bool_], item: IntArray) -> Contributions:
        """The same in groups: members that know alike things often cancel each other.

        `item` is 2 where the item has ratings, 1 where it has a text alone, 0 where nothing is known of it; see
        `group_of`.
        """
        entries = {member.name: entry for entry, member in registered_members()}
        names = list(dict.fromkeys(["base", LEVEL, QUALITY, TASTE, TEXT, OTHERS, REST, LLM]))
        names += sorted({entry.group for entry in entries.values()} - {"", *names})
        amounts = np.zeros((len(self), len(names)))
        for rated in (False, True):
            for state in range(3):
                rows = np.flatnonzero((user_rated == rated) & (item == state))
                for name, column in zip(self.names, self.amounts[rows].T, strict=True):
                    group = GROUP_OF.get(name) or group_of(entries.get(name), rated, state)
                    amounts[rows, names.index(group)] += column
        return Contributions(tuple(names), amounts)

    def of_row(self, row: int) -> dict[str, float]:
        """One pair's contributions by name."""
        return dict(zip(self.names, self.amounts[row].tolist(), strict=True))


def group_of(entry: RaterEntry | None, user_rated: bool, item: int) -> str:
    """The group of a member's contribution: the one that it is registered with, where user and item have ratings.

    Without ratings of the item nobody else's ratings speak of it: a member that reads texts goes by the text (unless
    by the user's taste), any other by the user's level. Without ratings by the user it goes by the item's quality.
    """
    if entry is None or (user_rated and item == 2):
        return REST if entry is None else entry.group or REST
    if user_rated and item and entry.group == TASTE:
        return TASTE
    if item == 1 and "embedder" in entry.setting_names:
        return TEXT
    return LEVEL if user_rated else QUALITY if item == 2 else REST


@dataclass(frozen=True)
class Common:
    """What nearly all members follow: the mean of all ratings, and how far user's and item's means are from it."""

    base: float
    user: FloatArray
    item: FloatArray

    @property
    def level(self) -> FloatArray:
        """All three together, shape `(n_pairs,)`; members are credited with what they expect beyond it."""
        return self.base + self.user + self.item


def column_names(members: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns that `columns` gives."""
    return (*BEFORE, *members, *AFTER)


def columns(common: Common, members: FloatArray, support: FloatArray, mean: FloatArray) -> FloatArray:
    """All columns; the last is what the others lack to the expected ratings `mean`.

    `members` has shape `(n_pairs, n_members)`, all else `(n_pairs,)`.
    """
    given = np.column_stack([np.full(len(mean), common.base), common.user, common.item, members, support])
    return np.column_stack([given, mean - given.sum(axis=1)])


def spread_over_gaps(weights: FloatArray, columns: IntArray, answered: NDArray[np.bool_]) -> FloatArray:
    """Weights of the members in `columns`, shape `(n_pairs, n_columns)`, as weights of all, `(n_pairs, n_members)`.

    The weight of a member that has not `answered` goes in equal parts to those that its gap was filled with: to the
    other members in `columns`, or to all others where none of these answered.
    """
    own = answered[:, columns]
    spread = np.zeros(answered.shape)
    spread[:, columns] = np.where(own, weights, 0.0)
    rows = np.flatnonzero(~own.all(axis=1))
    if len(rows):
        in_use = np.isin(np.arange(answered.shape[1]), columns)
        fillers = answered[rows] & in_use
        fillers = np.where(fillers.any(axis=1, keepdims=True), fillers, answered[rows])
        lost = np.where(own[rows], 0.0, weights[rows]).sum(axis=1)
        spread[rows] += (lost / fillers.sum(axis=1))[:, None] * fillers
    return spread
