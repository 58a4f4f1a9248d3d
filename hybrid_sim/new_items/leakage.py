"""Leakage check: does a column of item features hold information that only ratings of the items can give?

A feature of an item that nobody has rated yet may use only what is known before its first rating. A column that was
made from ratings, or gathered after them, makes a benchmark of new items look better than anything that could be had.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.features import SideEncoder
from hybrid_sim.retrieval.content import genre_block, text_block, year_block
from hybrid_sim.retrieval.tfidf import TfidfSVD

MIN_ITEMS = 100
"""Fewer rated items with a value give no figures."""

COUNT_LIMIT = 0.65
"""Partial correlation with the number of ratings given content. On MovieLens 100K: runtime .34, budget
.50; TMDB's count of votes .73, the number of ratings itself .98."""

SCATTER_LIMIT = -0.20
"""Rank correlation of the number of ratings with the absolute residual of the value given content. An average of few
ratings is scattered widely, one of many is not: MovieLens 100K has -.27 for averages of LLM ratings over an item's
raters and -.30 for those of true ratings; year and runtime have -.05 and -.03, TMDB's average vote -.18."""

RATER_LIMIT, RATER_SIGMAS = 0.14, 3.5
"""Correlation with the item's raters' leniency on other items, and its distance from chance in standard deviations.
MovieLens 100K: year .03, runtime .12; averages of LLM ratings .26, of true ratings .45, even shrunk ones .26."""

WEAK = 0.6
"""Both signs of an average at this part of their limits count as much as one of them at its limit."""

RATER_SUPPORT = 20.0
"""Weight r / (r + n) of an item with n ratings in that correlation: the averages of many raters are all alike."""

N_SHUFFLES = 100
TEXT_DIRECTIONS, RIDGE, N_FOLDS = 24, 5.0, 5

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class LeakCheck:
    """Signs of leakage in one column; a figure is NaN where it cannot be estimated.

    `count`, `scatter` and `raters` are the correlations that `COUNT_LIMIT`, `SCATTER_LIMIT` and `RATER_LIMIT` are
    about, `rater_sigmas` says how far `raters` is from what shuffled raters give.
    """

    column: str
    n_items: int
    count: float = math.nan
    scatter: float = math.nan
    raters: float = math.nan
    rater_sigmas: float = math.nan

    @property
    def signs(self) -> tuple[str, ...]:
        """The signs above their limits, a clause each."""
        signs = []
        if abs(self.count) >= COUNT_LIMIT:
            signs.append(f"it follows the number of ratings (correlation {self.count:+.2f} beyond content)")
        if self._is_average:
            signs.append(
                f"it behaves like an average over an item's raters (steadier with more ratings: {self.scatter:+.2f}; "
                f"follows their leniency: {self.raters:+.2f}, {self.rater_sigmas:+.1f} sigma)"
            )
        return tuple(signs)

    @property
    def _is_average(self) -> bool:
        scatter, raters = self.scatter / SCATTER_LIMIT, self.raters / RATER_LIMIT
        raters = min(raters, self.rater_sigmas / RATER_SIGMAS)
        return scatter >= 1.0 or raters >= 1.0 or (scatter >= WEAK and raters >= WEAK)

    @property
    def found(self) -> bool:
        """Whether the column looks as if it was made from ratings, or gathered after them."""
        return bool(self.signs)

    def __str__(self) -> str:
        if not self.found:
            return f"item column {self.column!r} shows no sign of knowing ratings ({self.n_items} items)"
        return (
            f"item column {self.column!r} seems to know its items' ratings: {'; '.join(self.signs)}. A new item has "
            "none: leave the column out, or make it from what is known before the first rating"
        )


def exposure_leak(dataset: Dataset, column: str, seed: int = 0) -> LeakCheck:
    """Check a column of `dataset.items` against all ratings of `dataset`, those of held-out items too.

    Three signs that no property of an item itself should show are estimated given the item's text, genres and year (by
    a cross-fitted ridge regression without the column): the column follows the number of ratings; it is scattered like
    an average of them; it follows its raters' leniency on *other* items (against shuffled raters, every item with its
    number of ratings). For categories and sets only the first is estimated, for each value; the largest counts. Weak
    leaks can be missed, and a column that rightly predicts popularity (an advertising budget) can be accused: it is a
    warning and no proof.

    Raises:
        SettingsError: there is no such column.
    """
    if column not in dataset.items:
        raise SettingsError(f"there is no item column {column!r}; columns are {', '.join(dataset.items.columns)}")
    content = _content(dataset, column)
    if pd.api.types.is_numeric_dtype(dataset.items[column]):
        values = dataset.items[column].to_numpy(dtype=float, na_value=np.nan)
        return _check(column, values, dataset, content, seed, is_number=True)
    flags = SideEncoder().fit(dataset.items[[column]]).encode(dataset.items[[column]]) > 0
    checks = [_check(column, flag.astype(float), dataset, content, seed, is_number=False) for flag in flags.T]
    return max(checks, key=lambda check: abs(check.count), default=LeakCheck(column, 0))


def warn_of_leaks(dataset: Dataset, columns: Iterable[str], seed: int = 0) -> list[LeakCheck]:
    """Check these columns and say in the log which ones look like a leak; returns all checks."""
    checks = [exposure_leak(dataset, column, seed) for column in columns]
    for check in checks:
        if check.found:
            _log.warning("%s", check)
    return checks


@dataclass(frozen=True)
class _Exposure:
    """Who rated the items.

    `leniency`, per rating, is its user's shrunken mean residual on other items; `circumstances`, shape `(n_items, 4)`,
    are the log number of ratings and their users' mean log activity, standardised, and both squared.
    """

    leniency: FloatArray
    circumstances: FloatArray

    @classmethod
    def of(cls, dataset: Dataset) -> _Exposure:
        biases = Biases().fit(dataset)
        residual = dataset.rating - biases.global_mean_ - biases.item_bias_[dataset.item]
        total = np.bincount(dataset.user, weights=residual, minlength=dataset.n_users)
        n_others = dataset.user_counts - 1.0
        elsewhere = (total[dataset.user] - residual) / (n_others[dataset.user] + biases.reg_user)
        log_count = np.log(np.maximum(dataset.item_counts, 1))
        activity = _item_means(dataset, np.log(dataset.user_counts[dataset.user]))
        columns = [_standard(column, dataset.item_counts > 0) for column in (log_count, activity)]
        return cls(elsewhere, np.column_stack([*columns, *(column**2 for column in columns)]))


def _check(
    column: str, values: FloatArray, dataset: Dataset, content: FloatArray, seed: int, *, is_number: bool
) -> LeakCheck:
    rows = np.flatnonzero(np.isfinite(values) & (dataset.item_counts > 0))
    if len(rows) < MIN_ITEMS or not np.ptp(values[rows]):
        return LeakCheck(column, int(np.isfinite(values).sum()))
    rng = stream(seed, "leak", column)
    fold, counts = rng.permutation(len(rows)) % N_FOLDS, dataset.item_counts[rows]
    score, popularity = _normal_scores(values[rows]), _normal_scores(counts.astype(float))
    count = _correlation(_residual(content[rows], score, fold), _residual(content[rows], popularity, fold))
    if not is_number:
        return LeakCheck(column, len(rows), count)
    exposure = _Exposure.of(dataset)
    explained = np.hstack([content, exposure.circumstances])[rows]
    rest = _residual(explained, score, fold)
    leniency = _residual(explained, _item_means(dataset, exposure.leniency)[rows], fold)
    weights: FloatArray = RATER_SUPPORT / (RATER_SUPPORT + counts.astype(float))
    raters = _correlation(rest, leniency, weights)
    chance = [
        _correlation(rest, _item_means(dataset, rng.permutation(exposure.leniency))[rows], weights)
        for _ in range(N_SHUFFLES)
    ]
    scatter = _correlation(rankdata(np.abs(rest)), rankdata(counts))
    return LeakCheck(column, len(rows), count, scatter, raters, raters / max(float(np.std(chance)), 1e-9))


def _content(dataset: Dataset, column: str) -> FloatArray:
    """Text, genres and year without the column itself, shape `(n_items, n_features)`."""
    items = dataset.items.drop(columns=[column])
    texts = item_texts(replace(dataset, items=items))
    vectors = TfidfSVD().fit(texts).embed(texts).astype(float)
    return np.hstack([text_block(vectors, TEXT_DIRECTIONS), genre_block(items), year_block(items)])


def _item_means(dataset: Dataset, of_ratings: FloatArray) -> FloatArray:
    total = np.bincount(dataset.item, weights=of_ratings, minlength=dataset.n_items)
    return np.asarray(total / np.maximum(dataset.item_counts, 1))


def _residual(features: FloatArray, target: FloatArray, fold: IntArray) -> FloatArray:
    """The cross-fitted residual of the target: each fold predicted by a ridge regression on the others."""
    design = np.column_stack([np.ones(len(target)), features])
    penalty = RIDGE * np.diag([0.0, *np.ones(features.shape[1])])
    rest = np.empty(len(target))
    for k in range(N_FOLDS):
        train, test = fold != k, fold == k
        system = design[train].T @ design[train] + penalty
        rest[test] = target[test] - design[test] @ np.linalg.solve(system, design[train].T @ target[train])
    return rest


def _normal_scores(values: FloatArray) -> FloatArray:
    """Each value replaced by the normal quantile of its rank; ties share their mean rank."""
    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)))


def _standard(column: FloatArray, rows: NDArray[np.bool_]) -> FloatArray:
    return np.asarray((column - column[rows].mean()) / max(float(column[rows].std()), 1e-9))


def _correlation(a: FloatArray, b: FloatArray, weights: FloatArray | None = None) -> float:
    share = np.full(len(a), 1.0 / len(a)) if weights is None else weights / weights.sum()
    a, b = a - share @ a, b - share @ b
    return float((share * a) @ b / max(float(np.sqrt((share @ a**2) * (share @ b**2))), 1e-12))
