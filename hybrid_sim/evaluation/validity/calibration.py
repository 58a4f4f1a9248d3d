"""Whether probabilities come true, intervals hold what they promise, and the mean is right."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.scores import SUPPORT_BUCKETS, support_buckets
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.judged import Trial
from hybrid_sim.evaluation.validity.report import Cell, Chart, Column, Section, Table, Verdict
from hybrid_sim.evaluation.validity.verdicts import describe, plain, point

N_NULL = 20
"""Sets of ratings drawn from the simulator itself, to see the calibration error that chance alone makes."""


def calibration(trial: Trial) -> Section:
    """Reliability diagram, calibration error, mean, and coverage of intervals by support of the item."""
    bias, shift = _bias(trial)
    coverage, holds = _coverage(trial)
    if not trial.subject.has_distributions:
        why = "Only drawn ratings are known, no probabilities that could come true."
        unknown = verdicts.cannot_tell(verdicts.CALIBRATION, why)
        finding = f"Simulated minus real mean: {describe(shift)}. {why}"
        return Section("calibration", "Calibration", finding, coverage, (), (unknown, bias, holds))
    error, chance = _calibration_error(trial)
    verdict = verdicts.judge(
        verdicts.CALIBRATION, point(error - chance), f"calibration error {error:.4f}, of which chance makes "
        f"{chance:.4f}; the rest is",
    )  # fmt: skip
    finding = f"Calibration error {error:.4f} (chance alone: {chance:.4f}); mean off by {describe(shift)} stars."
    chart = Chart(
        "reliability",
        "Probability of a level and how often it was given",
        "reliability",
        "forecast",
        ("observed",),
        series="level",
        x_label="probability",
        y_label="share of ratings",
    )
    return Section(
        "calibration", "Calibration", finding, (_reliability(trial), *coverage), (chart,), (verdict, bias, holds)
    )


def _calibration_error(trial: Trial) -> tuple[float, float]:
    """Class-wise calibration error, and its mean where the ratings are drawn from the simulator itself."""
    distribution = trial.subject.distribution
    rng = stream(trial.seed, "validity", "calibration")
    null = [metrics.calibration_error(distribution.sample(rng), distribution) for _ in range(N_NULL)]
    return metrics.calibration_error(trial.truth, distribution), float(np.mean(null))


def _reliability(trial: Trial) -> Table:
    found = metrics.reliability(trial.truth, trial.subject.distribution)
    rows: list[tuple[Cell, ...]] = [
        (f"{level:g}", float(found.forecast[k, b]), float(found.observed[k, b]), int(found.count[k, b]))
        for k, level in enumerate(trial.held_out.scale.levels)
        for b in np.flatnonzero(found.count[k]).tolist()
    ]
    columns = (
        Column("level", "level"),
        Column("forecast", "mean probability", 4),
        Column("observed", "share of ratings", 4),
        Column("n", "forecasts"),
    )
    return Table("reliability", "Forecast and outcome in bins of probability, level by level", columns, tuple(rows))


def _bias(trial: Trial) -> tuple[Verdict, Interval]:
    """Whether the mean is right; simulated minus real mean in stars."""
    shift = trial.by_group.mean((trial.subject.expected() - trial.truth) / trial.unit, trial.group)
    size = Interval(abs(shift.estimate), shift.low, shift.high, shift.level)
    if shift.estimate < 0:
        size = Interval(-shift.estimate, -shift.high, -shift.low, shift.level)
    direction = "above" if shift.estimate >= 0 else "below"
    words = f"stars that their mean is {direction} the real one:"
    return verdicts.judge(verdicts.BIAS, size, words), shift


def _coverage(trial: Trial) -> tuple[tuple[Table, ...], Verdict]:
    low, high = trial.subject.low, trial.subject.high
    if low is None or high is None:
        return (), verdicts.cannot_tell(verdicts.COVERAGE, "The simulator gives no intervals.")
    inside = ((trial.truth >= low - 1e-9) & (trial.truth <= high + 1e-9)).astype(float)
    bucket = support_buckets(trial.train.item_counts[trial.held_out.item])
    everywhere = np.ones(len(inside), dtype=bool)
    parts = [("all", everywhere), *((name, bucket == k) for k, name in enumerate(SUPPORT_BUCKETS))]
    rows = tuple(_covered(trial, name, inside, high - low, rows) for name, rows in parts if rows.any())
    table = Table(
        "coverage",
        "Coverage of 90% intervals by the number of training ratings of the item",
        (
            Column("support", "training ratings"),
            Column("n", "ratings"),
            Column("coverage", "coverage", 4),
            Column("low", "from", 4),
            Column("high", "to", 4),
            Column("width", "mean width", 3),
        ),
        rows,
    )
    whole = trial.by_group.mean(inside, trial.group)
    return (table,), verdicts.judge(verdicts.COVERAGE, whole, "share of the ratings inside:")


def _covered(trial: Trial, name: str, inside: FloatArray, width: FloatArray, rows: FloatArray) -> tuple[Cell, ...]:
    share = trial.by_group.mean(inside[rows], trial.group[rows])
    ends = plain(share.low), plain(share.high)
    return (name, int(rows.sum()), share.estimate, *ends, float(width[rows].mean()))
