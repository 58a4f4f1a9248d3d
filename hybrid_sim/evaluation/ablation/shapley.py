"""What each component is worth: Shapley shares, leaving one out, adding one in, with intervals over users or items.

Every figure here is a weighted sum of the losses of variants, so that one bootstrap of these losses serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import Literal, get_args

import numpy as np

from hybrid_sim.core.types import FloatArray

Kind = Literal["shapley", "leave_one_out", "add_one_in"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_WEIGHTS = 2_000_000
"""Weights of a bootstrap held in memory at once: 16 MB."""


def gain_weights(component: str, components: Sequence[str], kind: Kind) -> dict[frozenset[str], float]:
    """What to multiply the losses of the variants with, so that they sum to the gain of a component.

    A gain is the loss without the component less the loss with it: to all others (`leave_one_out`), to none
    (`add_one_in`), or averaged over all orders in which the components can be added one after the other (`shapley`,
    Shapley 1953): then the gains of all components sum to that of all together.

    >>> [(sorted(chosen), weight) for chosen, weight in gain_weights("a", ["a", "b"], "leave_one_out").items()]
    [(['b'], 1.0), (['a', 'b'], -1.0)]
    """
    others = [name for name in components if name != component]
    n = len(components)
    weights: dict[frozenset[str], float] = {}
    for mask in range(2 ** len(others)):
        before = frozenset(name for k, name in enumerate(others) if mask >> k & 1)
        size = len(before)
        weight = {
            "shapley": factorial(size) * factorial(n - size - 1) / factorial(n),
            "leave_one_out": float(size == n - 1),
            "add_one_in": float(size == 0),
        }[kind]
        if weight:
            weights[before], weights[before | {component}] = weight, -weight
    return weights


@dataclass(frozen=True)
class Resampled:
    """Losses of variants, mean over folds, as they are and for every resample of the groups.

    `losses` has shape `(n_variants,)`, `drawn` `(n_boot, n_variants)`; with fewer than two groups nothing was drawn.
    """

    losses: FloatArray
    drawn: FloatArray

    def of(self, weights: FloatArray, level: float) -> tuple[float, float, float]:
        """A weighted sum of the losses with its percentile interval; the ends are NaN where nothing was drawn."""
        estimate = float(self.losses @ weights)
        if not len(self.drawn):
            return estimate, float("nan"), float("nan")
        low, high = np.quantile(self.drawn @ weights, [(1 - level) / 2, (1 + level) / 2])
        return estimate, float(low), float(high)


def resample(sums: FloatArray, root: bool, n_boot: int, seed: int) -> Resampled:
    """Draw groups with replacement, each with its rows of all folds and of all variants.

    `sums` has shape `(n_folds, n_groups, n_variants + 1)`: sums of losses over the rows of a group, and
    last the number of its rows; groups without rows are left out. With
    `root` the losses are roots of means. The draws are those of `hybrid_sim.evaluation.metrics.paired_bootstrap`.
    """
    sums = sums[:, sums[:, :, -1].any(axis=0)]
    n_groups = sums.shape[1]
    whole = _over_folds(sums.sum(axis=1)[:, None], root)[0]
    if n_groups < 2:
        return Resampled(whole, np.empty((0, len(whole))))
    rng = np.random.default_rng(seed)
    drawn = np.empty((n_boot, len(whole)))
    step = max(1, MAX_WEIGHTS // n_groups)
    for start in range(0, n_boot, step):
        n = min(step, n_boot - start)
        chosen = rng.integers(n_groups, size=(n, n_groups)) + n_groups * np.arange(n)[:, None]
        weights = np.bincount(chosen.ravel(), minlength=n * n_groups).reshape(n, n_groups).astype(float)
        drawn[start : start + n] = _over_folds(weights @ sums, root)
    return Resampled(whole, drawn)


def _over_folds(totals: FloatArray, root: bool) -> FloatArray:
    """Mean over folds of each variant's loss, from `(n_folds, n, n_variants + 1)` to `(n, n_variants)`."""
    count = totals[:, :, -1:]
    seen = count > 0  # a resample of few groups may leave a fold empty
    means = np.where(seen, totals[:, :, :-1] / np.where(seen, count, 1.0), 0.0)
    return np.asarray((np.sqrt(means) if root else means).sum(axis=0) / seen.sum(axis=0))
