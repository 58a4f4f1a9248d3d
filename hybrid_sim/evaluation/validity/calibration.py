"""Evidence on calibration: reliability of the probabilities, bias of the mean, coverage of the intervals."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, Verdict, interval_columns
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.scores import SUPPORT_BUCKETS, support_buckets
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, interval_cells, without_interval

N_NULL = 20
"""Sets of ratings drawn from the simulator itself, whose mean calibration error is due to chance alone."""


def calibration(data: ValidationData) -> Section:
    """Reliability diagram, calibration error, bias of the mean, and coverage of intervals by support of the item."""
    bias, shift = _bias(data)
    coverage, holds = _coverage(data)
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities that could come true."
        unknown = verdicts.undecided(verdicts.CALIBRATION, why)
        finding = f"Simulated minus real mean: {describe(shift)}. {why}"
        return Section("calibration", "Calibration", finding, (unknown, bias, holds, *coverage))
    error, chance = _calibration_error(data)
    words = f"calibration error {error:.4f}, of which chance makes {chance:.4f}; the rest is"
    verdict = verdicts.judge(verdicts.CALIBRATION, without_interval(error - chance), words)
    finding = f"Calibration error {error:.4f} (chance alone: {chance:.4f}); mean off by {describe(shift)} stars."
    chart = Chart(
        "reliability", "Probability of a level and how often it was given", "reliability", "forecast", ("observed",),
        series="level", x_label="probability", y_label="share of ratings",
    )  # fmt: skip
    table = reliability_table(data.truth, data.simulator.distribution)
    return Section("calibration", "Calibration", finding, (verdict, bias, holds, chart, table, *coverage))


def _calibration_error(data: ValidationData) -> tuple[float, float]:
    """Class-wise calibration error, and its mean where the ratings are drawn from the simulator itself."""
    distribution = data.simulator.distribution
    rng = stream(data.seed, "validity", "calibration")
    null = [metrics.calibration_error(distribution.sample(rng), distribution) for _ in range(N_NULL)]
    return metrics.calibration_error(data.truth, distribution), float(np.mean(null))


def reliability_table(truth: FloatArray, distribution: RatingDistribution, by_level: bool = True) -> Table:
    """Mean forecast, observed frequency and count of every bin of probability, `by_level` or of all levels pooled."""
    bins = metrics.reliability(truth, distribution, "levels" if by_level else "pooled")
    names = [f"{level:g}" for level in distribution.scale.levels] if by_level else ["all levels"]
    rows: list[tuple[Cell, ...]] = [
        (name, float(bins.forecast[k, b]), float(bins.observed[k, b]), int(bins.count[k, b]))
        for k, name in enumerate(names)
        for b in np.flatnonzero(bins.count[k]).tolist()
    ]
    columns = (
        Column("level", "level"), Column("forecast", "mean probability", 4),
        Column("observed", "share of ratings", 4), Column("n", "forecasts"),
    )  # fmt: skip
    return Table("reliability", "Forecast and outcome in bins of probability, level by level", columns, tuple(rows))


def _bias(data: ValidationData) -> tuple[Verdict, Interval]:
    """The verdict on the mean, and simulated minus real mean in stars."""
    shift = data.by_group.mean((data.simulator.expected() - data.truth) / data.unit, data.group)
    size = Interval(abs(shift.estimate), shift.low, shift.high, shift.level)
    if shift.estimate < 0:
        size = Interval(-shift.estimate, -shift.high, -shift.low, shift.level)
    direction = "above" if shift.estimate >= 0 else "below"
    words = f"stars that their mean is {direction} the real one:"
    return verdicts.judge(verdicts.BIAS, size, words), shift


def _coverage(data: ValidationData) -> tuple[tuple[Table, ...], Verdict]:
    """Coverage and width of the intervals by support of the item, and the verdict on the whole."""
    low, high = data.simulator.low, data.simulator.high
    if low is None or high is None:
        return (), verdicts.undecided(verdicts.COVERAGE, "The simulator gives no intervals.")
    inside = metrics.inside_interval(data.truth, low, high)
    bucket = support_buckets(data.train.item_counts[data.held_out.item])
    everywhere = np.ones(len(inside), dtype=bool)
    rows: list[tuple[Cell, ...]] = []
    for name, members in [("all", everywhere), *((name, bucket == k) for k, name in enumerate(SUPPORT_BUCKETS))]:
        if members.any():
            share = data.by_group.mean(inside[members], data.group[members])
            width = float((high - low)[members].mean())
            rows.append((name, int(members.sum()), *interval_cells(share), width))
    columns = (
        Column("support", "training ratings"), Column("n", "ratings"), Column("coverage", "coverage", 4),
        *interval_columns(4), Column("width", "mean width", 3),
    )  # fmt: skip
    title = "Coverage of 90% intervals by the number of training ratings of the item"
    whole = data.by_group.mean(inside, data.group)
    verdict = verdicts.judge(verdicts.COVERAGE, whole, "share of the ratings inside:")
    return (Table("coverage", title, columns, tuple(rows)),), verdict
