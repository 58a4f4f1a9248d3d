"""How near a run came to the real ratings: errors with intervals, by source, calibration, confusion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, interval_columns
from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval, Statistic, paired_bootstrap
from hybrid_sim.evaluation.validity.accuracy import reliability_table
from hybrid_sim.evaluation.validity.realism import confusion_table
from hybrid_sim.simulation.run_folder import FinishedRun, Truth

N_BOOT = 1000
"""Resamples of users behind an interval: enough for two digits of its ends, quick for tens of thousands of users."""

MAX_LEVELS_DRAWN = 24
"""Levels up to which a table of real against drawn ratings can be read; and curves of each level up to a third."""

INTERVAL_NOTE = "95% intervals by bootstrap over users."

Loss = tuple[str, Statistic, FloatArray]
"""A measure's name, the statistic of its losses, and the loss of each pair."""


@dataclass(frozen=True)
class Measure:
    """A measure of the run with its interval, and what it is for the constant forecast, if that has one."""

    name: str
    run: Interval
    constant: float | None
    difference: Interval | None


def accuracy_section(run: FinishedRun, truth: Truth, seed: int = 0) -> Section:
    """The section on accuracy, about the pairs whose real rating is known."""
    known = truth.known
    real, user = truth.rating[known], run.user[known]
    distribution = run.distribution.take(known)
    measures = list(_measures(run, real, known, seed))
    blocks: list[Chart | Table] = [
        _measure_table(measures), *_by_source(run, real, known, seed), *_reliability(real, distribution)
    ]  # fmt: skip
    if run.scale.n_levels <= MAX_LEVELS_DRAWN:
        blocks += _confusion(run, real, run.rating[known])
    rmse = measures[0].run
    inside = metrics.interval_coverage(real, run.low[known], run.high[known])
    finding = (
        f"RMSE {rmse.estimate:.4f} [{rmse.low:.4f}, {rmse.high:.4f}] (raw expected rating) on {len(real):,} pairs of "
        f"{len(np.unique(user)):,} users; {inside:.1%} of the real ratings are inside their intervals."
    )
    notes = (f"The real ratings are those of {truth.name}: {len(real):,} of {len(run):,} pairs have one.",)
    return Section("accuracy", "Against the real ratings", finding, tuple(blocks), notes)


def _measures(run: FinishedRun, real: FloatArray, known: NDArray[np.bool_], seed: int) -> Iterator[Measure]:
    """Every measure of the run beside that of the best forecast that knows neither user nor item."""
    shares = np.bincount(run.scale.index(real), minlength=run.scale.n_levels) / len(real)
    constant = RatingDistribution(run.scale, np.tile(shares, (len(real), 1)))
    constants = {name: loss for name, _, loss in _losses(real, constant)}
    drawn: Loss = ("RMSE of the drawn rating", "rmse", (run.rating[known] - real) ** 2)
    for name, kind, loss in chain(_losses(real, run.distribution.take(known)), [drawn]):
        users = run.user[known]
        own = paired_bootstrap(loss, np.zeros_like(loss), users, kind, n_boot=N_BOOT, seed=seed)
        if name in constants:
            gap = paired_bootstrap(loss, constants[name], users, kind, n_boot=N_BOOT, seed=seed)
            yield Measure(name, own, own.estimate - gap.estimate, gap)
        else:
            yield Measure(name, own, None, None)


def _losses(real: FloatArray, distribution: RatingDistribution) -> Iterator[Loss]:
    expected = distribution.mean()
    rounded = distribution.scale.round(expected)
    yield "RMSE of the expected rating, raw", "rmse", (expected - real) ** 2
    yield "RMSE of the expected rating, rounded", "rmse", (rounded - real) ** 2
    yield "MAE of the expected rating, raw", "mean", np.abs(expected - real)
    yield "log loss, nats", "mean", metrics.log_losses(real, distribution)
    yield "ranked probability score", "mean", metrics.ranked_probability_scores(real, distribution)


def _measure_table(measures: list[Measure]) -> Table:
    columns = (
        Column("measure", "measure"), Column("run", "run", 4), *interval_columns(4), Column("constant", "constant", 4),
        Column("difference", "run − constant", 4, sign=True),
        *interval_columns(4, "difference_low", "difference_high", sign=True),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for m in measures:
        gap = (
            (None, None, None) if m.difference is None else (m.difference.estimate, m.difference.low, m.difference.high)
        )
        rows.append((m.name, m.run.estimate, m.run.low, m.run.high, m.constant, *gap))
    note = f"The constant answers every pair with the shares of the real ratings, which it sees. {INTERVAL_NOTE}"
    return Table("measures", "Errors and proper scores (lower is better)", columns, tuple(rows), note)


def _by_source(run: FinishedRun, real: FloatArray, known: NDArray[np.bool_], seed: int) -> list[Chart | Table]:
    source, error = run.source[known], (run.distribution.take(known).mean() - real) ** 2
    low, high = run.low[known], run.high[known]
    rows: list[tuple[Cell, ...]] = []
    for name in sorted(set(source.tolist())):
        here = source == name
        zero = np.zeros(int(here.sum()))
        rmse = paired_bootstrap(error[here], zero, run.user[known][here], n_boot=N_BOOT, seed=seed)
        inside = metrics.interval_coverage(real[here], low[here], high[here])
        rows.append((name, len(zero), rmse.estimate, rmse.low, rmse.high, inside))
    title = "RMSE by source of the answer, raw"
    columns = (
        Column("source", "source"), Column("n", "pairs"), Column("rmse", "RMSE, raw", 4), *interval_columns(4),
        Column("inside", "inside the interval", 4),
    )  # fmt: skip
    caption = "What the answer rests on, see the sources above."
    chart = Chart("bars", title, "sources", "source", ("rmse",), "low", "high", caption=caption)
    table = Table("sources", title, columns, tuple(rows), INTERVAL_NOTE)
    return [chart, table] if len(rows) > 1 else [table]


def _reliability(real: FloatArray, distribution: RatingDistribution) -> tuple[Chart, Table]:
    """Forecast against observed frequency, level by level where the scale has few."""
    by_level = distribution.scale.n_levels <= MAX_LEVELS_DRAWN // 3
    ece = metrics.calibration_error(real, distribution, "levels")
    table = replace(
        reliability_table(real, distribution, by_level), note=f"Class-wise calibration error (ECE): {ece:.4f}."
    )
    chart = Chart(
        "reliability", "Forecast probability and observed frequency", table.name, "forecast", ("observed",),
        series="level", x_label="forecast probability", y_label="observed frequency",
        caption="On the diagonal forecasts are right; larger points stand for more forecasts.",
    )  # fmt: skip
    return chart, table


def _confusion(run: FinishedRun, real: FloatArray, drawn: FloatArray) -> tuple[Chart, Table]:
    """Of the pairs with each real rating, the share that was drawn each rating."""
    table = confusion_table(real, drawn, run.scale)
    caption = "Each line sums to 1."
    chart = Chart("heatmap", "Real against drawn ratings", table.name, "simulated", ("real", "share"), caption=caption)
    return chart, table
