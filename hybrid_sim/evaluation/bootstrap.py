"""Percentile intervals by the cluster bootstrap: whole users (or items) are drawn with replacement.

Ratings of one user are alike (those of one item too, which matters for items nobody has rated), so a group that is
drawn brings all of its rows (Davison and Hinkley 1997, section 3.8). Every statistic here is a function of sums over
rows, so a resample is a row of weights, one per group, and its sums are a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.evaluation.metrics import finite_columns

LEVEL = 0.95
MIN_GROUPS = 30
"""Groups (users or items) below which a percentile interval is too narrow to be believed."""

MAX_WEIGHTS = 2_000_000
"""Weights of resamples held in memory at once: 16 MB."""

Statistic = Literal["rmse", "mean"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval; `low` and `high` are NaN with fewer than two groups."""

    estimate: float
    low: float
    high: float
    level: float

    @property
    def values(self) -> tuple[float, float, float]:
        """Estimate, low end, high end."""
        return self.estimate, self.low, self.high

    @classmethod
    def percentile(cls, estimate: float, resampled: FloatArray, level: float = LEVEL) -> Interval:
        """The interval between the percentiles of a statistic's resamples; undefined ones are left out."""
        defined = resampled[np.isfinite(resampled)]
        if not len(defined) or not np.isfinite(estimate):
            return cls(estimate, float("nan"), float("nan"), level)
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        return cls(estimate, float(low), float(high), level)


def resample_weights(n_groups: int, n_boot: int, seed: int) -> Iterator[FloatArray]:
    """How often each group is drawn, in blocks of resamples, shape `(n, n_groups)`; nothing with fewer than two groups.

    The draws depend on the three arguments alone, so statistics made in different places are paired.
    """
    rng = np.random.default_rng(seed)
    step = max(1, MAX_WEIGHTS // max(n_groups, 1))
    for start in range(0, n_boot if n_groups > 1 else 0, step):
        n = min(step, n_boot - start)
        drawn = rng.integers(n_groups, size=(n, n_groups)) + n_groups * np.arange(n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=n * n_groups).reshape(n, n_groups).astype(float)


def bootstrap_rmse(
    truth: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike,
    *,
    folds: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """RMSE of one model with an interval that resamples whole groups, see `paired_bootstrap`."""
    truth, predicted = finite_columns(truth=truth, predicted=predicted)
    return _bootstrap([(predicted - truth) ** 2], groups, folds, True, n_boot, seed, level)


def paired_bootstrap(
    loss_a: ArrayLike,
    loss_b: ArrayLike,
    groups: ArrayLike,
    statistic: Statistic = "rmse",
    *,
    folds: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Model a minus model b on the same rows, with an interval that resamples whole groups.

    The losses are squared errors with `"rmse"`, which compares roots of means; any loss per row with `"mean"`. With
    `folds` (one label per row) the statistic is the mean over folds, and a group that is drawn comes with its rows of
    all folds.

    Raises:
        InputError: there are no rows, or a loss is not a finite number.
    """
    if statistic not in get_args(Statistic):
        raise ValueError(f"statistic {statistic!r} must be one of {', '.join(get_args(Statistic))}")
    losses = finite_columns(loss_a=loss_a, loss_b=loss_b)
    return _bootstrap(losses, groups, folds, statistic == "rmse", n_boot, seed, level)


def _bootstrap(
    losses: list[FloatArray],
    groups: ArrayLike,
    folds: ArrayLike | None,
    root: bool,
    n_boot: int,
    seed: int,
    level: float,
) -> Interval:
    sums = _sums_by_group([*losses, np.ones_like(losses[0])], groups, folds)
    flat = sums.reshape(len(sums), -1)

    def statistic(totals: FloatArray) -> FloatArray:
        by_fold = np.moveaxis(totals.reshape(-1, *sums.shape[1:]), 2, 0)
        return _mean_over_folds(by_fold, root, difference=len(losses) > 1)[:, 0]

    resampled = [statistic(weights @ flat) for weights in resample_weights(len(sums), n_boot, seed)]
    estimate = float(statistic(sums.sum(axis=0)[None])[0])
    return Interval.percentile(estimate, np.concatenate([np.empty(0), *resampled]), level)


def _sums_by_group(columns: list[FloatArray], groups: ArrayLike, folds: ArrayLike | None) -> FloatArray:
    """Sums over the rows of each group and fold, shape `(n_groups, n_columns, n_folds)`."""
    groups = np.asarray(groups)
    folds = np.zeros(len(groups)) if folds is None else np.asarray(folds)
    if not groups.shape == folds.shape == columns[0].shape:
        raise ValueError(f"{columns[0].shape} losses, {groups.shape} groups and {folds.shape} folds differ in shape")
    group_labels, group = np.unique(groups, return_inverse=True)
    fold_labels, fold = np.unique(folds, return_inverse=True)
    shape = (len(group_labels), len(fold_labels))
    cell = group * shape[1] + fold
    sums = [np.bincount(cell, column, minlength=shape[0] * shape[1]).reshape(shape) for column in columns]
    return np.stack(sums, axis=1)


def _mean_over_folds(totals: FloatArray, root: bool, difference: bool = False) -> FloatArray:
    """Mean over folds of each column's loss, from sums `(n_folds, n, n_columns + 1)`, last the number of rows.

    With `root` a loss is the root of its mean; with `difference` it is the first of two columns minus the second.
    """
    count = totals[:, :, -1:]
    seen = count > 0  # a resample of few groups may leave a fold empty
    losses = np.where(seen, totals[:, :, :-1] / np.where(seen, count, 1.0), 0.0)
    losses = np.sqrt(losses) if root else losses
    losses = losses[:, :, :1] - losses[:, :, 1:] if difference else losses
    return np.asarray(losses.sum(axis=0) / seen.sum(axis=0))


@dataclass(frozen=True)
class ResampledLosses:
    """Mean losses of several models on the data, `(n_models,)`, and on every resample of it, `(n_boot, n_models)`."""

    losses: FloatArray
    resampled: FloatArray

    @classmethod
    def of_sums(cls, sums: FloatArray, root: bool, n_boot: int, seed: int) -> ResampledLosses:
        """Means over folds from sums of losses over the rows of each group, `(n_folds, n_groups, n_models + 1)`.

        The last column is the number of rows; groups without rows are left out. With `root` a loss is the root of its
        mean.
        """
        sums = sums[:, sums[:, :, -1].any(axis=0)]
        losses = _mean_over_folds(sums.sum(axis=1)[:, None], root)
        resamples = resample_weights(sums.shape[1], n_boot, seed)
        resampled = [_mean_over_folds(weights @ sums, root) for weights in resamples]
        return cls(losses[0], np.concatenate([losses[:0], *resampled]))

    def interval(self, weights: FloatArray, level: float = LEVEL) -> Interval:
        """The sum of the losses times `weights`, `(n_models,)`."""
        return Interval.percentile(float(self.losses @ weights), self.resampled @ weights, level)


@dataclass(frozen=True)
class Resampler:
    """Resamples the groups that occur in `present`, codes below `n_groups`; all its statistics share the draws."""

    present: IntArray
    n_groups: int
    seed: int = 0
    n_boot: int = 1000

    @cached_property
    def weights(self) -> FloatArray:
        """How often each group counts, shape `(1 + n_boot, n_groups)`; the first row is the data as it is."""
        groups = np.unique(self.present)
        weights = np.zeros((1 + self.n_boot, self.n_groups))
        weights[0, groups] = 1.0
        first = 1
        for block in resample_weights(len(groups), self.n_boot, self.seed):
            weights[first : first + len(block), groups] = block
            first += len(block)
        return weights[:first]

    def sums(self, columns: FloatArray, groups: IntArray) -> FloatArray:
        """Sums of each column `(n_rows, n_columns)` over the rows, shape `(1 + n_boot, n_columns)`, data first."""
        by_group = [np.bincount(groups, column, minlength=self.n_groups) for column in columns.T]
        return np.asarray(self.weights @ np.column_stack(by_group))

    def interval(self, values: FloatArray) -> Interval:
        """The interval of a statistic of `sums`, `(1 + n_boot,)`, the estimate first."""
        return Interval.percentile(float(values[0]), values[1:])

    def of(self, columns: FloatArray, groups: IntArray, statistic: Callable[[FloatArray], FloatArray]) -> Interval:
        """A statistic of the sums of columns `(n_rows, n_columns)`; it gets these as `(1 + n_boot, n_columns)`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.interval(statistic(self.sums(columns, groups)))

    def mean(self, column: FloatArray, groups: IntArray) -> Interval:
        """The mean over rows."""
        return self.of(np.column_stack([column, np.ones(len(column))]), groups, lambda s: s[:, 0] / s[:, 1])

    def root_mean(self, column: FloatArray, groups: IntArray) -> Interval:
        """The root of the mean over rows: of squared errors the RMSE."""
        return self.of(np.column_stack([column, np.ones(len(column))]), groups, lambda s: np.sqrt(s[:, 0] / s[:, 1]))

    def rmse_difference(self, a: FloatArray, b: FloatArray, groups: IntArray) -> Interval:
        """RMSE of errors `a` minus that of errors `b` on the same rows."""
        columns = np.column_stack([a**2, b**2, np.ones(len(a))])
        return self.of(columns, groups, lambda s: np.sqrt(s[:, 0] / s[:, 2]) - np.sqrt(s[:, 1] / s[:, 2]))
