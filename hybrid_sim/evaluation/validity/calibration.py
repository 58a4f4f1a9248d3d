"""Whether probabilities come true, intervals hold what they promise, and the mean is right."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, Verdict
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.scores import SUPPORT_BUCKETS, support_buckets
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, finite_or_none, without_interval

N_NULL = 20
"""Sets of ratings drawn from the simulator itself, to see the calibration error that chance alone makes."""


def calibration(data: ValidationData) -> Section:
    """Reliability diagram, calibration error, mean, and coverage of intervals by support of the item."""
    bias, shift = _bias(data)
    coverage, holds = _coverage(data)
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities that could come true."
        unknown = verdicts.undecided(verdicts.CALIBRATION, why)
        finding = f"Simulated minus real mean: {describe(shift)}. {why}"
        return Section("calibration", "Calibration", finding, (unknown, bias, holds, *coverage))
    error, chance = _calibration_error(data)
    verdict = verdicts.judge(
        verdicts.CALIBRATION, without_interval(error - chance), f"calibration error {error:.4f}, of which chance makes "
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
    return Section("calibration", "Calibration", finding, (verdict, bias, holds, chart, _reliability(data), *coverage))


def _calibration_error(data: ValidationData) -> tuple[float, float]:
    """Class-wise calibration error, and its mean where the ratings are drawn from the simulator itself."""
    distribution = data.simulator.distribution
    rng = stream(data.seed, "validity", "calibration")
    null = [metrics.calibration_error(distribution.sample(rng), distribution) for _ in range(N_NULL)]
    return metrics.calibration_error(data.truth, distribution), float(np.mean(null))


def _reliability(data: ValidationData) -> Table:
    found = metrics.reliability(data.truth, data.simulator.distribution)
    rows: list[tuple[Cell, ...]] = [
        (f"{level:g}", float(found.forecast[k, b]), float(found.observed[k, b]), int(found.count[k, b]))
        for k, level in enumerate(data.held_out.scale.levels)
        for b in np.flatnonzero(found.count[k]).tolist()
    ]
    columns = (
        Column("level", "level"),
        Column("forecast", "mean probability", 4),
        Column("observed", "share of ratings", 4),
        Column("n", "forecasts"),
    )
    return Table("reliability", "Forecast and outcome in bins of probability, level by level", columns, tuple(rows))


def _bias(data: ValidationData) -> tuple[Verdict, Interval]:
    """Whether the mean is right; simulated minus real mean in stars."""
    shift = data.by_group.mean((data.simulator.expected() - data.truth) / data.unit, data.group)
    size = Interval(abs(shift.estimate), shift.low, shift.high, shift.level)
    if shift.estimate < 0:
        size = Interval(-shift.estimate, -shift.high, -shift.low, shift.level)
    direction = "above" if shift.estimate >= 0 else "below"
    words = f"stars that their mean is {direction} the real one:"
    return verdicts.judge(verdicts.BIAS, size, words), shift


def _coverage(data: ValidationData) -> tuple[tuple[Table, ...], Verdict]:
    low, high = data.simulator.low, data.simulator.high
    if low is None or high is None:
        return (), verdicts.undecided(verdicts.COVERAGE, "The simulator gives no intervals.")
    inside = ((data.truth >= low - 1e-9) & (data.truth <= high + 1e-9)).astype(float)
    bucket = support_buckets(data.train.item_counts[data.held_out.item])
    everywhere = np.ones(len(inside), dtype=bool)
    parts = [("all", everywhere), *((name, bucket == k) for k, name in enumerate(SUPPORT_BUCKETS))]
    rows = tuple(_covered(data, name, inside, high - low, rows) for name, rows in parts if rows.any())
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
    whole = data.by_group.mean(inside, data.group)
    return (table,), verdicts.judge(verdicts.COVERAGE, whole, "share of the ratings inside:")


def _covered(
    data: ValidationData, name: str, inside: FloatArray, width: FloatArray, rows: FloatArray
) -> tuple[Cell, ...]:
    share = data.by_group.mean(inside[rows], data.group[rows])
    ends = finite_or_none(share.low), finite_or_none(share.high)
    return (name, int(rows.sum()), share.estimate, *ends, float(width[rows].mean()))
