"""Bootstrap intervals of any statistic that can be had from sums over rows, by resampling whole users or items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.evaluation.metrics import Interval

N_BOOT = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Resampler:
    """Draws `n_groups` groups with replacement, `n_boot` times; all statistics share the same draws.

    Only groups that occur in `present` are drawn (cluster bootstrap, Davison and Hinkley 1997, section 3.8). Sharing
    the draws makes all differences paired.
    """

    present: IntArray
    n_groups: int
    seed: int = 0
    n_boot: int = N_BOOT

    @cached_property
    def weights(self) -> FloatArray:
        """How often each group counts, shape `(1 + n_boot, n_groups)`; the first row is the data as it is."""
        groups = np.unique(self.present)
        rng = np.random.default_rng(self.seed)
        weights = np.zeros((1 + self.n_boot, self.n_groups))
        weights[0, groups] = 1.0
        drawn = rng.integers(len(groups), size=(self.n_boot, len(groups)))
        for row, chosen in enumerate(drawn, start=1):
            weights[row, groups] = np.bincount(chosen, minlength=len(groups))
        return weights

    def sums(self, columns: FloatArray, groups: IntArray) -> FloatArray:
        """Sums of each column `(n_rows, n_columns)` over the rows, shape `(1 + n_boot, n_columns)`, data first."""
        by_group = [np.bincount(groups, column, minlength=self.n_groups) for column in columns.T]
        return np.asarray(self.weights @ np.column_stack(by_group))

    def interval(self, values: FloatArray) -> Interval:
        """The first value with the percentiles of the others; undefined resamples are left out."""
        known = values[1:][np.isfinite(values[1:])]
        estimate = float(values[0])
        if len(np.unique(self.present)) < 2 or not len(known) or not np.isfinite(estimate):
            return Interval(estimate, float("nan"), float("nan"), LEVEL)
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(estimate, float(low), float(high), LEVEL)

    def of(self, columns: FloatArray, groups: IntArray, statistic: Callable[[FloatArray], FloatArray]) -> Interval:
        """`statistic` of the sums, which it gets as `(1 + n_boot, n_columns)`."""
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
