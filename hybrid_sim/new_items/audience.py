"""Groups of users by what is known of them, and which of them would like an item more than the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray
from hybrid_sim.models.features import TEXT_COLUMNS

AGES = (0, 18, 25, 35, 45, 55, np.inf)
"""Bounds of the age groups, as MovieLens draws them."""

MAX_GROUPS = 40
"""A column with more different values holds names, not groups."""

MIN_USERS = 10
"""A smaller group is left out."""

N_BOOT, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class Segment:
    """One group of users: its mean expected rating of an item and mean probability of a like.

    `difference` is the mean of (expected rating - the user's own mean) in the group less that of the other users, with
    a bootstrap interval over users, which measures variation between users, not uncertainty of the predictions. All
    intervals of an item cover at once with probability 95%: an item has many groups.
    """

    column: str
    group: str
    n_users: int
    mean: float
    likes: float
    difference: float
    low: float
    high: float


class Segments:
    """The groups of a set of users, drawn once and used for many items.

    >>> users = pd.DataFrame({"gender": ["F", "M"] * 20}, index=[f"u{k}" for k in range(40)])
    >>> means, likes, above = (np.tile(pair, 20) for pair in ([4.0, 3.0], [0.9, 0.5], [0.5, -0.5]))
    >>> segments = Segments(users, seed=0).of(means, likes, above)
    >>> [(segment.group, segment.difference) for segment in segments]
    [('F', 1.0), ('M', -1.0)]
    """

    def __init__(self, users: pd.DataFrame, seed: int) -> None:
        """`users` are rows of `Dataset.users`, in the order of the arrays that `of` gets."""
        groups = {name: _groups(users[name]) for name in map(str, users.columns) if name not in TEXT_COLUMNS}
        self._names: list[tuple[str, str]] = []
        members: list[NDArray[np.bool_]] = []
        for column, labels in groups.items():
            for label in sorted(set(labels) - {""}, key=_order):
                inside = labels == label
                if MIN_USERS <= inside.sum() < len(users):
                    self._names.append((column, label))
                    members.append(inside)
        self._members = np.array(members, dtype=float).reshape(len(members), len(users))
        drawn = stream(seed, "segments").multinomial(len(users), np.full(len(users), 1 / max(len(users), 1)), N_BOOT)
        self._weights = drawn.astype(float)

    def of(self, means: FloatArray, likes: FloatArray, above: FloatArray) -> tuple[Segment, ...]:
        """The segments of one item whose intervals exclude zero, the largest difference first.

        `means` are the users' expected ratings, `likes` their probabilities of a like, `above` their expected ratings
        less their own means; each has shape `(n_users,)`.
        """
        if not len(self._members):
            return ()
        count, total = self._members.sum(axis=1), self._members @ above
        difference = total / count - (above.sum() - total) / (len(above) - count)
        error = self._resampled_differences(above) - difference
        spread = np.maximum(np.nanstd(error, axis=0), 1e-12)
        # The largest of all studentised errors is resampled (Westfall and Young 1993), so that no group is a find of
        # chance among many.
        reach = np.quantile(np.nanmax(np.abs(error) / spread, axis=1), CONFIDENCE) * spread
        figures = np.column_stack(
            [
                *(self._members @ each / count for each in (means, likes)),
                *(difference, difference - reach, difference + reach),
            ]
        )
        segments = [
            Segment(column, group, int(n), *row)
            for (column, group), n, row in zip(self._names, count, figures.tolist(), strict=True)
        ]
        return tuple(sorted((one for one in segments if one.low * one.high > 0), key=lambda one: -one.difference))

    def _resampled_differences(self, above: FloatArray) -> FloatArray:
        """Shape `(N_BOOT, n_segments)`; NaN where a resample has nobody inside or outside."""
        inside = self._weights @ self._members.T
        total_inside = (self._weights * above) @ self._members.T
        outside = self._weights.sum(axis=1, keepdims=True) - inside
        total_outside = (self._weights @ above)[:, None] - total_inside
        mean_inside = total_inside / np.where(inside > 0, inside, np.nan)
        return np.asarray(mean_inside - total_outside / np.where(outside > 0, outside, np.nan))


def _groups(column: pd.Series[float] | pd.Series[str]) -> NDArray[np.object_]:
    """The label of each user's group, "" for none: bands of ages, else the values of few-valued columns."""
    if pd.api.types.is_numeric_dtype(column):
        if column.name != "age":
            return np.full(len(column), "", dtype=object)
        ages = column.to_numpy(dtype=float, na_value=np.nan)
        band = np.digitize(np.nan_to_num(ages, nan=-1.0), AGES)
        labels = ["", "under 18", "18-24", "25-34", "35-44", "45-54", "55 and over", ""]
        return np.array(labels, dtype=object)[band]
    values = np.array([cell if isinstance(cell, str) else "" for cell in column], dtype=object)
    return values if len(set(values.tolist())) <= MAX_GROUPS else np.full(len(values), "", dtype=object)


def _order(label: str) -> tuple[bool, str]:
    """Groups by name, the youngest first."""
    return not label.startswith("under"), label
