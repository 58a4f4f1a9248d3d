"""How near a run came to the real ratings: errors with intervals, by source, calibration, confusion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.document import Block, Cell, Chart, Column, Section, Table, interval_columns
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Statistic, paired_bootstrap
from hybrid_sim.evaluation.validity.accuracy import reliability_table
from hybrid_sim.evaluation.validity.realism import confusion_table
from hybrid_sim.simulation.run_folder import FinishedRun, Truth
from hybrid_sim.simulation.simulator import Prediction

N_BOOT = 1000
"""Resamples of users behind an interval: enough for two digits of its ends, quick for tens of thousands of users."""

MAX_LEVELS_DRAWN = 24
"""Levels up to which a table of real against drawn ratings can be read; and curves of each level up to a third."""

INTERVAL_NOTE = "95% intervals by bootstrap over users."
MEASURE_COLUMNS = (
    Column("measure", "measure"), Column("run", "run", 4), *interval_columns(4), Column("constant", "constant", 4),
    Column("difference", "run − constant", 4, sign=True),
    *interval_columns(4, "difference_low", "difference_high", sign=True),
)  # fmt: skip
SOURCE_COLUMNS = (
    Column("source", "source"), Column("n", "pairs"), Column("rmse", "RMSE, raw", 4), *interval_columns(4),
    Column("inside", "inside the interval", 4),
)  # fmt: skip

Loss = tuple[str, Statistic, FloatArray]
"""A measure's name, the statistic of its losses, and the loss of each pair."""


@dataclass(frozen=True)
class _Judged:
    """The pairs of a run whose real rating is known, row by row."""

    real: FloatArray
    drawn: FloatArray
    user: IntArray
    prediction: Prediction

    def inside(self, rows: NDArray[np.bool_] | slice = slice(None)) -> float:
        """The share of the real ratings that are inside their intervals."""
        return metrics.interval_coverage(self.real[rows], self.prediction.low[rows], self.prediction.high[rows])


def accuracy_section(run: FinishedRun, truth: Truth, seed: int = 0) -> Section:
    """The section on accuracy, about the pairs whose real rating is known."""
    rows = np.flatnonzero(truth.known)
    judged = _Judged(truth.rating[rows], run.rating[rows], run.user[rows], run.prediction.take(rows))
    measures = _measures(judged, seed)
    blocks: list[Block] = [measures, *_by_source(judged, seed), *_reliability(judged)]
    if run.scale.n_levels <= MAX_LEVELS_DRAWN:
        confusion = confusion_table(judged.real, judged.drawn, run.scale)
        blocks += confusion.charted(
            "heatmap", "simulated", "real", "share", title="Real against drawn ratings", caption="Each line sums to 1."
        )
    _, rmse, low, high, *_ = measures.rows[0]
    n = f"{len(judged.real):,}"
    finding = (
        f"RMSE {rmse:.4f} [{low:.4f}, {high:.4f}] (raw expected rating) on {n} pairs of "
        f"{len(np.unique(judged.user)):,} users; {judged.inside():.1%} of the real ratings are inside their intervals."
    )
    notes = (f"The real ratings are those of {truth.name}: {n} of {len(run):,} pairs have one.",)
    return Section("accuracy", "Against the real ratings", finding, tuple(blocks), notes)


def _measures(judged: _Judged, seed: int) -> Table:
    """Every measure of the run beside that of the best forecast that knows neither user nor item."""
    real, distribution = judged.real, judged.prediction.distribution
    scale = distribution.scale
    shares = np.bincount(scale.index(real), minlength=scale.n_levels) / len(real)
    constant = RatingDistribution(scale, np.tile(shares, (len(real), 1)))
    constants = {name: loss for name, _, loss in _losses(real, constant)}
    drawn: Loss = ("RMSE of the drawn rating", "rmse", (judged.drawn - real) ** 2)
    bootstrap = partial(paired_bootstrap, n_boot=N_BOOT, seed=seed)
    rows: list[tuple[Cell, ...]] = []
    for name, kind, loss in chain(_losses(real, distribution), [drawn]):
        own = bootstrap(loss, np.zeros_like(loss), judged.user, kind)
        compared: tuple[Cell, ...] = (None, None, None, None)
        if name in constants:
            gap = bootstrap(loss, constants[name], judged.user, kind)
            compared = (own.estimate - gap.estimate, gap.estimate, gap.low, gap.high)
        rows.append((name, own.estimate, own.low, own.high, *compared))
    note = f"The constant answers every pair with the shares of the real ratings, which it sees. {INTERVAL_NOTE}"
    return Table("measures", "Errors and proper scores (lower is better)", MEASURE_COLUMNS, tuple(rows), note)


def _losses(real: FloatArray, distribution: RatingDistribution) -> Iterator[Loss]:
    expected = distribution.mean()
    rounded = distribution.scale.round(expected)
    yield "RMSE of the expected rating, raw", "rmse", (expected - real) ** 2
    yield "RMSE of the expected rating, rounded", "rmse", (rounded - real) ** 2
    yield "MAE of the expected rating, raw", "mean", np.abs(expected - real)
    yield "log loss, nats", "mean", metrics.log_losses(real, distribution)
    yield "ranked probability score", "mean", metrics.ranked_probability_scores(real, distribution)


def _by_source(judged: _Judged, seed: int) -> tuple[Block, ...]:
    prediction = judged.prediction
    error = (prediction.distribution.mean() - judged.real) ** 2
    rows: list[tuple[Cell, ...]] = []
    for name in sorted(set(prediction.source.tolist())):
        here = prediction.source == name
        zero = np.zeros(int(here.sum()))
        rmse = paired_bootstrap(error[here], zero, judged.user[here], n_boot=N_BOOT, seed=seed)
        rows.append((name, len(zero), rmse.estimate, rmse.low, rmse.high, judged.inside(here)))
    table = Table("sources", "RMSE by source of the answer, raw", SOURCE_COLUMNS, tuple(rows), INTERVAL_NOTE)
    caption = "What the answer rests on, see the sources above."
    charted = table.charted("bars", "source", "rmse", low="low", high="high", caption=caption)
    return charted if len(rows) > 1 else (table,)


def _reliability(judged: _Judged) -> tuple[Chart, Table]:
    """Forecast against observed frequency, level by level where the scale has few."""
    real, distribution = judged.real, judged.prediction.distribution
    by_level = distribution.scale.n_levels <= MAX_LEVELS_DRAWN // 3
    ece = metrics.calibration_error(real, distribution, "levels")
    table = reliability_table(real, distribution, by_level)
    return replace(table, note=f"Class-wise calibration error (ECE): {ece:.4f}.").charted(
        "reliability", "forecast", "observed", title="Forecast probability and observed frequency", series="level",
        x_label="forecast probability", y_label="observed frequency",
        caption="On the diagonal forecasts are right; larger points: more forecasts, hollow ones: fewer than 30.",
    )  # fmt: skip
