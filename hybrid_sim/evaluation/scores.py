"""From predictions to records: the metrics of a model on a fold, comparisons with intervals over all folds.

The flow of a benchmark: `score` every model on every fold and keep its `row_losses`; `compare` models and
give each its `rmse_interval` over all folds; the `BenchResult` of all that (see `hybrid_sim.evaluation.bench_report`)
goes to the screen, a file and a figure.

A metric is a function of `Predictions` with one registration in `METRICS`. Another package adds its own in a module
that it names as an entry point of the group `hybrid_sim.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import InputError
from hybrid_sim.core.registry import Registry
from hybrid_sim.core.seeding import pair_uniforms
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Statistic, bootstrap_rmse, paired_bootstrap

Groups = Literal["users", "items"]

SUPPORT_BUCKETS = ("0", "1-5", "6-20", "> 20")
"""Names of the buckets of support, see `support_buckets`."""


@dataclass(frozen=True)
class Predictions:
    """What one model predicts for the ratings `held_out` of one fold, a row each of `distribution`, and what that took.

    `low` and `high` are the prediction interval of each row, None where the model has none. `n_fallback` rows were
    answered by a simpler rater, `n_abstained` further ones by nobody. `peak_mb` is the growth of memory (see
    `hybrid_sim.evaluation.resources`), `embedder` the name of the text embedder. Predictions that are not `compared`
    (those of another model, for want of LLM ratings) are scored but stay out of comparisons.
    """

    model: str
    held_out: Dataset
    distribution: RatingDistribution
    low: FloatArray | None = None
    high: FloatArray | None = None
    protocol: str = ""
    fold: int | str = 1
    seed: int = 0
    seconds: float | None = None
    peak_mb: float | None = None
    n_fallback: int = 0
    n_abstained: int = 0
    embedder: str | None = None
    compared: bool = True

    def answered(self) -> Predictions:
        """The rows that do not abstain; the others are counted in `n_abstained`."""
        rows = self.distribution.answered
        low, high = (None if end is None else end[rows] for end in (self.low, self.high))
        return replace(
            self,
            held_out=self.held_out.take(rows),
            distribution=self.distribution.take(rows),
            low=low,
            high=high,
            n_abstained=self.n_abstained + int((~rows).sum()),
        )

    @property
    def truth(self) -> FloatArray:
        """The real ratings."""
        return self.held_out.rating

    @cached_property
    def expected(self) -> FloatArray:
        """Expected ratings."""
        return self.distribution.mean()

    @cached_property
    def ranking(self) -> metrics.Ranking:
        """How well the expected ratings rank each user's held-out items."""
        return metrics.Ranking.of(self.truth, self.expected, self.held_out.user, self.held_out.scale)

    @property
    def rounded(self) -> FloatArray:
        """Expected ratings, rounded to the nearest level."""
        return self.distribution.scale.round(self.expected)

    @cached_property
    def sampled(self) -> FloatArray:
        """One rating drawn per row by `pair_uniforms(seed, ...)`: the same random numbers for all models."""
        return draw(self.distribution, self.held_out, self.held_out.pairs, self.seed)


def draw(distribution: RatingDistribution, dataset: Dataset, pairs: Pairs, seed: int) -> FloatArray:
    """One rating per pair; it depends on the seed and the pair's ids alone."""
    user_ids = np.append(dataset.users.index.to_numpy(dtype=object), "")[pairs.user]
    item_ids = np.append(dataset.items.index.to_numpy(dtype=object), "")[pairs.item]
    return distribution.quantile(pair_uniforms(seed, user_ids, item_ids))


@dataclass(frozen=True)
class Metric:
    """A figure of a model on a fold; `of` computes it: NaN where it is undefined, None where it does not apply.

    `title` heads its column, with so many `decimals`, in the table on expected ratings ("accuracy") or the one on
    distributions and ratings sampled from them ("distribution"). `losses`, one per row, are given where the metric is
    their mean, or with `root` the root of it: then it can be resampled. `compare` shows the metrics that are
    `compared`; `ablate` measures gains in those that are `ablated`, which need `losses`.
    """

    title: str
    of: Callable[[Predictions], float | None]
    decimals: int = 4
    table: Literal["accuracy", "distribution"] = "accuracy"
    losses: Callable[[Predictions], FloatArray] | None = None
    root: bool = False
    compared: bool = True
    ablated: bool = False


METRICS: Registry[Metric] = Registry("metric", "metrics")


def _add(table: Literal["accuracy", "distribution"], **entries: Metric) -> None:
    for name, entry in entries.items():
        METRICS.add(name, replace(entry, table=table))


def _mean(title: str, losses: Callable[[Predictions], FloatArray], root: bool = False, **settings: Any) -> Metric:
    """A metric that is the mean of losses over the rows, or with `root` the root of it."""

    def of(p: Predictions) -> float:
        mean = np.mean(losses(p))
        return float(np.sqrt(mean) if root else mean)

    return Metric(title, of, losses=losses, root=root, **settings)


def _of_interval(title: str, of: Callable[[FloatArray, FloatArray, FloatArray], float], decimals: int = 4) -> Metric:
    """A metric of the real ratings and the ends of intervals; it does not apply to a model without intervals."""
    return Metric(title, lambda p: None if p.low is None or p.high is None else of(p.truth, p.low, p.high), decimals)


_add(
    "accuracy",
    rmse=_mean("RMSE", lambda p: (p.expected - p.truth) ** 2, root=True, compared=False, ablated=True),
    mae=_mean("MAE", lambda p: np.abs(p.expected - p.truth)),
    pearson=Metric("Pearson", lambda p: metrics.pearson(p.truth, p.expected), compared=False),
    rmse_rounded=Metric("RMSE*", lambda p: metrics.rmse(p.truth, p.rounded)),
    mae_rounded=Metric("MAE*", lambda p: metrics.mae(p.truth, p.rounded), compared=False),
    pearson_rounded=Metric("Pearson*", lambda p: metrics.pearson(p.truth, p.rounded), compared=False),
    ndcg=Metric("NDCG@10", lambda p: p.ranking.ndcg, compared=False),
    recall=Metric("recall@10", lambda p: p.ranking.recall, compared=False),
)
_add(
    "distribution",
    log_loss=_mean("log loss", lambda p: metrics.log_losses(p.truth, p.distribution), ablated=True),
    rps=_mean("RPS", lambda p: metrics.ranked_probability_scores(p.truth, p.distribution)),
    ece=Metric("ECE", lambda p: metrics.calibration_error(p.truth, p.distribution)),
    ece_top=Metric("ECE top", lambda p: metrics.calibration_error(p.truth, p.distribution, "top"), compared=False),
    coverage=_of_interval("cover", metrics.interval_coverage),
    width=_of_interval("width", lambda truth, low, high: metrics.interval_width(low, high), 3),
    kl=Metric("KL", lambda p: metrics.kl_divergence(p.sampled, p.truth, p.held_out.scale), 5),
    wasserstein=Metric("W1", lambda p: metrics.wasserstein(p.sampled, p.truth, p.held_out.scale), compared=False),
    within_user_sd=Metric("user SD", lambda p: metrics.within_user_sd(p.sampled, p.held_out.user), 3),
    within_user_sd_real=Metric("real SD", lambda p: metrics.within_user_sd(p.truth, p.held_out.user), 3,
                               compared=False),
)  # fmt: skip


def row_metrics(ablated: bool = False) -> dict[str, Callable[[Predictions], FloatArray]]:
    """The losses of the metrics that are means over rows, by name; with `ablated` those that `ablate` measures."""
    chosen = ((name, m.losses) for name, m in METRICS.items() if m.ablated or not ablated)
    return {name: losses for name, losses in chosen if losses is not None}


@dataclass(frozen=True)
class ResultRow:
    """How one model did on one fold. `scores` holds every metric: NaN is undefined, None does not apply.

    `n` ratings were scored; `n_abstained` were left out because nobody answered; for `n_fallback` of the scored ones
    the model abstained and another rater answered.
    """

    model: str
    protocol: str
    fold: int | str
    n: int
    n_abstained: int
    n_fallback: int
    scores: Mapping[str, float | None]
    seconds: float | None
    peak_mb: float | None

    def flat(self) -> dict[str, Any]:
        """All fields, with each metric as a field of its own."""
        flat: dict[str, Any] = {}
        for name, value in vars(self).items():
            flat |= value if name == "scores" else {name: value}
        return flat

    @classmethod
    def nested(cls, flat: Mapping[str, Any]) -> dict[str, Any]:
        """The fields again, from what `flat` returned; what is no field is a metric."""
        fields = {name: value for name, value in flat.items() if name in cls.__dataclass_fields__}
        return {**fields, "scores": {name: value for name, value in flat.items() if name not in fields}}


def score(p: Predictions) -> ResultRow:
    """Every metric of one model on one fold.

    Raises:
        InputError: a row abstains (see `Predictions.answered`), or there are no rows.
    """
    if (p.low is None) != (p.high is None):
        raise ValueError("an interval needs both low and high")
    metrics.require_answers(p.truth, p.distribution)
    scores = {name: metric.of(p) for name, metric in METRICS.items()}
    counts = len(p.held_out), p.n_abstained, p.n_fallback
    return ResultRow(p.model, p.protocol, p.fold, *counts, scores, p.seconds, p.peak_mb)


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


def score_by_support(p: Predictions, support: IntArray) -> list[SupportRow]:
    """Error and interval coverage per bucket; `support` is the number of training ratings of each row's item.

    Buckets without held-out ratings have no row, nor has a model without intervals.
    """
    if p.low is None or p.high is None:
        return []
    bucket, rows = support_buckets(support), []
    for position in np.unique(bucket):
        here = bucket == position
        truth, low, high = p.truth[here], p.low[here], p.high[here]
        coverage, width = metrics.interval_coverage(truth, low, high), metrics.interval_width(low, high)
        figures = len(truth), metrics.rmse(truth, p.expected[here]), coverage, width
        rows.append(SupportRow(p.model, p.protocol, p.fold, SUPPORT_BUCKETS[position], *figures))
    return rows


@dataclass(frozen=True)
class Losses:
    """What each held-out rating of one fold cost one model: a column of length `n_rows` per metric of `row_metrics`."""

    model: str
    protocol: str
    fold: int | str
    user: IntArray
    item: IntArray
    columns: Mapping[str, FloatArray]

    def take(self, rows: NDArray[np.bool_]) -> Losses:
        """The losses of these rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, user=self.user[rows], item=self.item[rows], columns=columns)


def row_losses(p: Predictions) -> Losses:
    """The losses of each row.

    Raises:
        InputError: a row abstains.
    """
    metrics.require_answers(p.truth, p.distribution)
    columns = {name: losses(p) for name, losses in row_metrics().items()}
    return Losses(p.model, p.protocol, p.fold, p.held_out.user, p.held_out.item, columns)


def shared_rows(a: Sequence[Losses], b: Sequence[Losses]) -> tuple[list[Losses], list[Losses]]:
    """The losses of both models on the folds and held-out pairs that both were scored on."""
    of_b = {losses.fold: losses for losses in b}
    pairs = [(x, of_b[x.fold]) for x in a if x.fold in of_b]
    return (
        [x.take(np.isin(_pair_keys(x), _pair_keys(y))) for x, y in pairs],
        [y.take(np.isin(_pair_keys(y), _pair_keys(x))) for x, y in pairs],
    )


def _pair_keys(losses: Losses) -> IntArray:
    return losses.user << 32 | losses.item


@dataclass(frozen=True)
class Comparison:
    """Model `a` minus model `b`, mean over folds, with a bootstrap interval: below zero `a` is better."""

    a: str
    b: str
    protocol: str
    fold: str
    metric: str
    estimate: float
    low: float
    high: float
    level: float
    groups: Groups
    n_groups: int


def compare(
    a: Sequence[Losses],
    b: Sequence[Losses],
    metric: str = "rmse",
    groups: Groups = "users",
    *,
    n_boot: int = 2000,
    seed: int = 0,
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
    loss_a, loss_b = (np.concatenate([part.columns[metric] for part in model]) for model in (a, b))
    statistic: Statistic = "rmse" if METRICS[metric].root else "mean"
    got = paired_bootstrap(loss_a, loss_b, group, statistic, folds=fold, n_boot=n_boot, seed=seed)
    shared = (a[0].protocol, _folds(a), metric, *got.values, got.level, groups)
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


def rmse_interval(losses: Sequence[Losses], groups: Groups = "users", *, seed: int = 0) -> RmseInterval:
    """RMSE of one model over its folds, one `Losses` per fold; whole users (or items) are resampled."""
    group, fold = _groups(losses, groups)
    error = np.sqrt(np.concatenate([part.columns["rmse"] for part in losses]))
    got = bootstrap_rmse(np.zeros_like(error), error, group, folds=fold, seed=seed)
    labels = (losses[0].model, losses[0].protocol, _folds(losses))
    return RmseInterval(*labels, *got.values, got.level, groups, len(np.unique(group)))


def _same_rows(a: Sequence[Losses], b: Sequence[Losses]) -> bool:
    return [part.fold for part in a] == [part.fold for part in b] and all(
        np.array_equal(x.user, y.user) and np.array_equal(x.item, y.item) for x, y in zip(a, b, strict=True)
    )


def _groups(losses: Sequence[Losses], groups: Groups) -> tuple[IntArray, IntArray]:
    fold = np.repeat(np.arange(len(losses)), [len(part.user) for part in losses])
    return np.concatenate([part.user if groups == "users" else part.item for part in losses]), fold


def _folds(losses: Sequence[Losses]) -> str:
    return ", ".join(str(part.fold) for part in losses)
