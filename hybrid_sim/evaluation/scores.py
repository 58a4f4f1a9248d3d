"""From predictions to records: the scores of a model on a fold, comparisons with intervals over all folds.

The flow of a benchmark: `score` every model on every fold and keep its `row_losses`; `compare` models and
give each its `rmse_interval` over all folds; the `Report` of all that (see `hybrid_sim.evaluation.bench_report`)
goes to the screen, a file and a figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import InputError
from hybrid_sim.core.seeding import pair_uniforms
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import bootstrap_rmse, paired_bootstrap

Metric = Literal["rmse", "mae", "log_loss", "rps"]
Groups = Literal["users", "items"]

SUPPORT_BUCKETS = ("0", "1-5", "6-20", "> 20")
"""Names of the buckets of support, see `support_buckets`."""


@dataclass(frozen=True)
class ResultRow:
    """How one model did on one fold. NaN is an undefined figure, None one that was not asked for.

    Errors and Pearson's correlation are those of the expected rating, raw and rounded to the nearest level;
    `ece` is the class-wise calibration error, `ece_top` that of the most probable level; `kl`,
    `wasserstein` and `within_user_sd` are those of one rating sampled per row.
    """

    model: str
    protocol: str
    fold: int | str
    n: int
    """Ratings that were scored."""
    n_abstained: int
    """Ratings left out because nobody answered."""
    n_fallback: int
    """Scored ratings where the model abstained and another rater answered."""
    rmse: float
    mae: float
    pearson: float
    rmse_rounded: float
    mae_rounded: float
    pearson_rounded: float
    log_loss: float
    rps: float
    ece: float
    ece_top: float
    coverage: float | None
    width: float | None
    kl: float
    wasserstein: float
    within_user_sd: float
    within_user_sd_real: float
    seconds: float | None
    peak_mb: float | None


def score(
    model: str,
    held_out: Dataset,
    distribution: RatingDistribution,
    *,
    protocol: str,
    fold: int | str,
    seed: int = 0,
    low: FloatArray | None = None,
    high: FloatArray | None = None,
    n_fallback: int = 0,
    skip_abstained: bool = False,
    seconds: float | None = None,
    peak_mb: float | None = None,
) -> ResultRow:
    """Every figure of one model on one fold.

    `held_out` holds the true ratings, one per row of `distribution`, `low` and `high` the interval of each
    row. Sampled ratings are those that `pair_uniforms(seed, ...)` draws, so all models are sampled with the
    same numbers.

    Raises:
        InputError: a row abstains and `skip_abstained` is not set, or nothing is left to score.
    """
    if (low is None) != (high is None):
        raise ValueError("an interval needs both low and high")
    keep = distribution.answered if skip_abstained else np.ones(len(distribution), dtype=np.bool_)
    held_out, distribution = held_out.take(keep), distribution.take(keep)
    truth, expected = held_out.rating, distribution.mean()
    rps = metrics.ranked_probability_score(truth, distribution)  # first: refuses rows that abstain
    sampled, rounded = _sampled(held_out, distribution, seed), distribution.scale.round(expected)
    coverage = width = None
    if low is not None and high is not None:
        coverage = metrics.interval_coverage(truth, low[keep], high[keep])
        width = metrics.interval_width(low[keep], high[keep])
    return ResultRow(
        model=model,
        protocol=protocol,
        fold=fold,
        n=len(held_out),
        n_abstained=int((~keep).sum()),
        n_fallback=n_fallback,
        rmse=metrics.rmse(truth, expected),
        mae=metrics.mae(truth, expected),
        pearson=metrics.pearson(truth, expected),
        rmse_rounded=metrics.rmse(truth, rounded),
        mae_rounded=metrics.mae(truth, rounded),
        pearson_rounded=metrics.pearson(truth, rounded),
        log_loss=metrics.log_loss(truth, distribution),
        rps=rps,
        ece=metrics.calibration_error(truth, distribution, "levels"),
        ece_top=metrics.calibration_error(truth, distribution, "top"),
        coverage=coverage,
        width=width,
        kl=metrics.kl_divergence(sampled, truth, held_out.scale),
        wasserstein=metrics.wasserstein(sampled, truth, held_out.scale),
        within_user_sd=metrics.within_user_sd(sampled, held_out.user),
        within_user_sd_real=metrics.within_user_sd(truth, held_out.user),
        seconds=seconds,
        peak_mb=peak_mb,
    )


def _sampled(held_out: Dataset, distribution: RatingDistribution, seed: int) -> FloatArray:
    user_ids = held_out.users.index.to_numpy(dtype=object)[held_out.user]
    item_ids = held_out.items.index.to_numpy(dtype=object)[held_out.item]
    return distribution.quantile(pair_uniforms(seed, user_ids, item_ids))


@dataclass(frozen=True)
class SupportRow:
    """How one model did on the held-out ratings of one bucket of support."""

    model: str
    protocol: str
    fold: int | str
    support: str
    n: int
    rmse: float
    coverage: float
    width: float


def support_buckets(counts: IntArray) -> IntArray:
    """The position in `SUPPORT_BUCKETS` of each number of training ratings.

    >>> support_buckets(np.array([0, 1, 5, 6, 20, 21]))
    array([0, 1, 1, 2, 2, 3])
    """
    return np.searchsorted([1, 6, 21], counts, side="right").astype(np.int64)


def score_by_support(
    model: str,
    held_out: Dataset,
    distribution: RatingDistribution,
    support: IntArray,
    *,
    protocol: str,
    fold: int | str,
    low: FloatArray,
    high: FloatArray,
) -> list[SupportRow]:
    """Error and interval coverage per bucket; `support` is the number of training ratings of each row's item.

    Buckets without held-out ratings have no row.
    """
    expected, bucket = distribution.mean(), support_buckets(support)
    rows = []
    for position in np.unique(bucket):
        here = bucket == position
        truth = held_out.rating[here]
        rows.append(
            SupportRow(
                model=model,
                protocol=protocol,
                fold=fold,
                support=SUPPORT_BUCKETS[position],
                n=len(truth),
                rmse=metrics.rmse(truth, expected[here]),
                coverage=metrics.interval_coverage(truth, low[here], high[here]),
                width=metrics.interval_width(low[here], high[here]),
            )
        )
    return rows


@dataclass(frozen=True)
class Losses:
    """What each held-out rating of one fold cost one model, in columns of length `n_rows`."""

    model: str
    protocol: str
    fold: int | str
    user: IntArray
    item: IntArray
    squared_error: FloatArray
    absolute_error: FloatArray
    log_loss: FloatArray
    rps: FloatArray

    def of(self, metric: Metric) -> FloatArray:
        """The losses whose mean (for RMSE: the root of the mean) is `metric`."""
        columns = {"rmse": "squared_error", "mae": "absolute_error", "log_loss": "log_loss", "rps": "rps"}
        column: FloatArray = getattr(self, columns[metric])
        return column


def row_losses(
    model: str, held_out: Dataset, distribution: RatingDistribution, *, protocol: str, fold: int | str
) -> Losses:
    """The losses of `distribution` on the true ratings `held_out`.

    Raises:
        InputError: a row abstains.
    """
    log_loss = metrics.log_losses(held_out.rating, distribution)
    error = distribution.mean() - held_out.rating
    rps = metrics.ranked_probability_scores(held_out.rating, distribution)
    return Losses(model, protocol, fold, held_out.user, held_out.item, error**2, np.abs(error), log_loss, rps)


@dataclass(frozen=True)
class Comparison:
    """Model `a` minus model `b`, mean over folds, with a bootstrap interval: below zero `a` is better."""

    a: str
    b: str
    protocol: str
    fold: str
    metric: Metric
    estimate: float
    low: float
    high: float
    level: float
    groups: Groups
    n_groups: int


def compare(
    a: Sequence[Losses],
    b: Sequence[Losses],
    metric: Metric = "rmse",
    groups: Groups = "users",
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """The difference of two models, one `Losses` per fold for each; whole users (or items) are resampled.

    Take `"items"` where items were held out: ratings of one item share its error, users' intervals are too
    narrow.

    Raises:
        InputError: the two were not scored on the same rows.
    """
    if not _same_rows(a, b):
        raise InputError(f"{a[0].model} and {b[0].model} were not scored on the same rows; compare them on common rows")
    group, fold = _groups(a, groups)
    interval = paired_bootstrap(
        np.concatenate([losses.of(metric) for losses in a]),
        np.concatenate([losses.of(metric) for losses in b]),
        group,
        "rmse" if metric == "rmse" else "mean",
        folds=fold,
        n_boot=n_boot,
        seed=seed,
        level=level,
    )
    shared = (a[0].protocol, _folds(a), metric, interval.estimate, interval.low, interval.high, level, groups)
    return Comparison(a[0].model, b[0].model, *shared, len(np.unique(group)))


@dataclass(frozen=True)
class RmseInterval:
    """RMSE of one model, mean over folds, with a bootstrap interval over users or items."""

    model: str
    protocol: str
    fold: str
    estimate: float
    low: float
    high: float
    level: float
    groups: Groups
    n_groups: int


def rmse_interval(
    losses: Sequence[Losses],
    groups: Groups = "users",
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> RmseInterval:
    """RMSE of one model over its folds, one `Losses` per fold; whole users (or items) are resampled."""
    group, fold = _groups(losses, groups)
    error = np.sqrt(np.concatenate([part.squared_error for part in losses]))
    zero = np.zeros_like(error)
    got = bootstrap_rmse(zero, error, group, folds=fold, n_boot=n_boot, seed=seed, level=level)
    first, n_groups = losses[0], len(np.unique(group))
    return RmseInterval(
        first.model, first.protocol, _folds(losses), got.estimate, got.low, got.high, level, groups, n_groups
    )


def _same_rows(a: Sequence[Losses], b: Sequence[Losses]) -> bool:
    return [part.fold for part in a] == [part.fold for part in b] and all(
        np.array_equal(x.user, y.user) and np.array_equal(x.item, y.item) for x, y in zip(a, b, strict=True)
    )


def _groups(losses: Sequence[Losses], groups: Groups) -> tuple[IntArray, IntArray]:
    fold = np.repeat(np.arange(len(losses)), [len(part.user) for part in losses])
    return np.concatenate([part.user if groups == "users" else part.item for part in losses]), fold


def _folds(losses: Sequence[Losses]) -> str:
    return ", ".join(str(part.fold) for part in losses)
