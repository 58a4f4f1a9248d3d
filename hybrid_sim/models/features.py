"""Features of users and items: side information, activity, exposure (who rated what), and their principal axes.

Exposure is side information too, whatever the ratings (Koren 2008, SVD++).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, svds

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray

TEXT_COLUMNS = frozenset({"title", "overview", "zip_code", "age_group"})
"""Columns that are texts, identifiers or copies of another one, and so are no categories."""

MIN_MEMBERS = 3
"""Categories and set members that fewer rows have are left out."""

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
                columns = [place[member] for member in _members(cell) if member in place]
                flags[row, columns] = 1.0 / np.sqrt(max(len(columns), 1))
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


Features: TypeAlias = FloatArray | sp.csr_array


def leading_axes(features: Features, rank: int, centre: FloatArray | None = None) -> FloatArray:
    """Orthonormal directions of the largest singular values, strongest first, shape `(n_features, <= rank)`.

    `features` has shape `(n_rows, n_features)`; `centre` is taken from every row first. Directions in which the rows do
    not differ are left out. Exact for arrays and small sparse matrices, by Lanczos steps for large ones.
    """
    middle = np.zeros(features.shape[1]) if centre is None else centre
    if isinstance(features, np.ndarray):
        strengths, axes = np.linalg.eigh((features - middle).T @ (features - middle))
    elif min(features.shape) <= max(2 * rank, 64):
        _, singular, right = np.linalg.svd(features.toarray() - middle, full_matrices=False)
        strengths, axes = singular[::-1] ** 2, right[::-1].T
    else:
        _, singular, right = svds(_centred(features, middle), k=rank, v0=_start(min(features.shape)), tol=1e-4)
        strengths, axes = singular**2, right.T
    strengths, axes = strengths[::-1][:rank], axes[:, ::-1][:, :rank]
    return np.ascontiguousarray(axes[:, strengths > 1e-10 * max(strengths.max(initial=0.0), 1e-12)])


def _start(size: int) -> FloatArray:
    """A first Lanczos vector that is the same in every run."""
    return np.asarray(1.0 + np.arange(size) % 7, dtype=float)


def _centred(features: sp.csr_array, middle: FloatArray) -> LinearOperator:
    transposed = features.T.tocsr()
    return LinearOperator(
        features.shape,
        matvec=lambda v: features @ v.ravel() - middle @ v.ravel(),
        rmatvec=lambda w: transposed @ w.ravel() - middle * w.sum(),
        matmat=lambda v: features @ v - middle @ v,
        rmatmat=lambda w: transposed @ w - np.outer(middle, w.sum(axis=0)),
        dtype=np.float64,
    )


MAX_RANK = 100
"""Principal axes that are kept of each block of features."""


@dataclass(frozen=True)
class FeatureBlock:
    """Features along their principal axes.

    `centre` has shape `(n_features,)`, `axes` `(n_features, rank)`, `scores` = (X - centre) axes has shape
    `(n_rows, rank)` with orthogonal columns of squared lengths `energies`.
    """

    centre: FloatArray
    axes: FloatArray
    scores: FloatArray
    energies: FloatArray

    @classmethod
    def of(cls, features: Features, max_rank: int) -> FeatureBlock:
        """The block of at most `max_rank` principal axes of `features`, shape `(n_rows, n_features)`."""
        centre = np.asarray(features.mean(axis=0)).ravel()
        axes = leading_axes(features, max_rank, centre)
        scores = np.asarray(features @ axes) - centre @ axes
        return cls(centre, axes, scores, (scores**2).sum(axis=0))


@dataclass(frozen=True)
class UserFeatures:
    """Side information and rated items of users, in terms learned from the users of a fit.

    `typical_count` is how many ratings a user of the fit has, as a geometric mean. `centres` and `axes`
    belong to the three `FeatureBlock`s: side information, activity and rated items.
    """

    encoder: SideEncoder
    typical_count: float
    centres: list[FloatArray]
    axes: list[FloatArray]

    @classmethod
    def learn(cls, dataset: Dataset) -> tuple[UserFeatures, list[FeatureBlock]]:
        """The terms, and the blocks of the users of `dataset` itself."""
        encoder = SideEncoder().fit(dataset.users)
        rated = dataset.user_counts > 0
        items = exposure(dataset.user, dataset.item, dataset.n_users, dataset.n_items)[np.flatnonzero(rated)]
        blocks = [
            FeatureBlock.of(encoder.encode(dataset.users), MAX_RANK),
            spread_out(FeatureBlock.of(_activity(dataset), MAX_RANK), rated),
            spread_out(FeatureBlock.of(items, MAX_RANK), rated),
        ]
        typical_count = float(np.expm1(np.log1p(dataset.user_counts[rated]).mean()))
        features = cls(encoder, typical_count, [b.centre for b in blocks], [b.axes for b in blocks])
        return features, blocks

    def scores(self, dataset: Dataset) -> list[FloatArray]:
        """Scores of new users with the same items as the fit, one array `(n_users, rank)` per block.

        A new user's ratings are the beginning of a history, those of the fit's users the whole of one. So
        their number and times say nothing yet, activity is taken for average, and a history shorter than the
        typical one is completed by items as the average user rates them.
        """
        counts = dataset.user_counts
        whole = np.maximum(counts, self.typical_count)
        exposed = exposure(dataset.user, dataset.item, dataset.n_users, dataset.n_items)
        side, activity, items = self.axes
        average = self.centres[2] @ items
        known = np.sqrt(counts / whole)[:, None] * (exposed @ items)
        completed = ((whole - counts) / np.sqrt(whole))[:, None] * (average / self.centres[2].sum())
        return [
            self.encoder.encode(dataset.users) @ side - self.centres[0] @ side,
            np.zeros((dataset.n_users, activity.shape[1])),
            np.where((counts > 0)[:, None], known + completed - average, 0.0),
        ]


def _activity(dataset: Dataset) -> FloatArray:
    """Log count, mean time and its squared distance to the mean of users with ratings, standardised."""
    rated = dataset.user_counts > 0
    columns = [np.log1p(dataset.user_counts)]
    if dataset.timestamp is not None:
        sums = np.bincount(dataset.user, weights=dataset.timestamp, minlength=dataset.n_users)
        when = sums / np.maximum(dataset.user_counts, 1)
        columns += [when, (when - when[rated].mean()) ** 2]
    activity = np.column_stack(columns)[rated]
    return np.asarray((activity - activity.mean(axis=0)) / np.maximum(activity.std(axis=0), 1e-9))


def exposure(own: IntArray, other: IntArray, n_own: int, n_other: int) -> sp.csr_array:
    """Who rated what (or was rated by whom), shape `(n_own, n_other)`; a row of n ratings has entries 1/sqrt(n)."""
    counts = np.bincount(own, minlength=n_own)
    return sp.csr_array((1.0 / np.sqrt(counts[own]), (own, other)), shape=(n_own, n_other))


def spread_out(block: FeatureBlock, rated: NDArray[np.bool_]) -> FeatureBlock:
    """The block of the rated rows, with zero scores for all others: they are at the mean."""
    scores = np.zeros((len(rated), block.scores.shape[1]))
    scores[rated] = block.scores
    return replace(block, scores=scores)
