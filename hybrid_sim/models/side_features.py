"""Side information as numbers: columns of a catalogue frame become features, learned once and applied to any frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from hybrid_sim.core.types import FloatArray

TEXT_COLUMNS = frozenset({"title", "overview", "zip_code", "age_group"})
"""Columns that are texts, identifiers or copies of another one, and so are no categories."""

MIN_MEMBERS = 3
"""A category or set member seen less often than this says nothing that can be learned."""

MAX_CATEGORIES = 200
MAX_KNOTS = 14


@dataclass
class SideEncoder:
    """Learns features from a frame of users or items: knots of numbers, flags of categories, shares of sets.

    A number is spread over the two nearest of at most `MAX_KNOTS` quantile knots (linear interpolation), a category
    (string) has one flag, a set (tuple of strings) one flag per member, scaled so that every non-empty set has length
    one. Whatever is missing, infinite or was never seen is a row of zeros in its columns.
    """

    knots_: dict[str, list[float]] = field(init=False, repr=False, default_factory=dict)
    members_: dict[str, list[str]] = field(init=False, repr=False, default_factory=dict)

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn knots and members from the columns of `frame`."""
        self.knots_, self.members_ = {}, {}
        for name in map(str, frame.columns):
            column = frame[name]
            if pd.api.types.is_numeric_dtype(column):
                knots = _knots(_numbers(frame, name))
                if len(knots) > 1:
                    self.knots_[name] = knots
            elif name not in TEXT_COLUMNS:
                counts = pd.Series([m for cell in column for m in _members(cell)], dtype=object).value_counts()
                common = counts[counts >= MIN_MEMBERS].index[:MAX_CATEGORIES]
                if len(common) and len(counts) <= len(frame) / 2 + 20:
                    self.members_[name] = sorted(map(str, common))
        return self

    def encode(self, frame: pd.DataFrame) -> FloatArray:
        """The features of each row of `frame`, shape `(n_rows, n_features)`."""
        return np.hstack([np.zeros((len(frame), 0)), *self.encode_columns(frame).values()])

    def encode_columns(self, frame: pd.DataFrame) -> dict[str, FloatArray]:
        """The features of each row by the column that they come from, in order."""
        blocks = {name: _hats(_numbers(frame, name), np.array(knots)) for name, knots in self.knots_.items()}
        for name, members in self.members_.items():
            flags = np.zeros((len(frame), len(members)))
            place = {member: k for k, member in enumerate(members)}
            for row, cell in enumerate(frame.get(name, ())):
                found = [place[member] for member in _members(cell) if member in place]
                flags[row, found] = 1.0 / np.sqrt(max(len(found), 1))
            blocks[name] = flags
        return blocks


def _numbers(frame: pd.DataFrame, name: str) -> FloatArray:
    """The column's numbers; NaN where one is missing or infinite, or the frame has no such column."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    values = frame[name].to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _knots(values: FloatArray) -> list[float]:
    """All values where they are few, else quantiles of them."""
    distinct = np.unique(values[~np.isnan(values)])
    if len(distinct) > MAX_KNOTS:
        distinct = np.unique(np.quantile(values[~np.isnan(values)], np.linspace(0, 1, MAX_KNOTS)))
    return [float(knot) for knot in distinct]


def _hats(values: FloatArray, knots: FloatArray) -> FloatArray:
    """Weights of linear interpolation between knots, zeros for NaN; beyond the ends the end knot has it all."""
    flags = np.zeros((len(values), len(knots)))
    known = np.flatnonzero(~np.isnan(values))
    inside = values[known].clip(knots[0], knots[-1])
    left = (np.searchsorted(knots, inside, side="right") - 1).clip(0, len(knots) - 2)
    share = (inside - knots[left]) / (knots[left + 1] - knots[left])
    flags[known, left] = 1.0 - share
    flags[known, left + 1] += share
    return flags


def _members(cell: Any) -> tuple[str, ...]:
    if isinstance(cell, str):
        return (cell,) if cell else ()
    return tuple(cell) if isinstance(cell, tuple) else ()
