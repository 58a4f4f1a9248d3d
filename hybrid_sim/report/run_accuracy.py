"""How near a run came to the real ratings: errors with intervals, by source, calibration, confusion."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Statistic, paired_bootstrap
from hybrid_sim.report.bars import Amounts, points_chart
from hybrid_sim.report.page import Block, Cell, Chart, Column, Section, Table
from hybrid_sim.report.plots import Line, heatmap_chart, reliability_chart
from hybrid_sim.simulation.run_results import FinishedRun, Truth

N_BOOT = 1000
"""Resamples of users behind an interval: enough for two digits of its ends, quick for tens of thousands of users."""

MAX_LEVELS_DRAWN = 24
"""Levels up to which a table of real against drawn ratings can be read; and curves of each level up to a third."""

Loss = tuple[str, Statistic, FloatArray]
"""A measure's name, what is made of its losses, and the loss of each pair."""

INTERVAL_NOTE = "95% intervals by bootstrap over users."


def accuracy_section(run: FinishedRun, truth: Truth, seed: int = 0) -> Section:
    """The section on accuracy; all of it is about the pairs whose real rating is known."""
    known = truth.known
    real, user = truth.rating[known], run.user[known]
    distribution = run.distribution.take(known)
    measures = _measures(run, real, known, seed)
    blocks: list[Block] = [measures, *_by_source(run, real, known, seed), _reliability(real, distribution)]
    if run.scale.n_levels <= MAX_LEVELS_DRAWN:
        blocks.append(_confusion(run, real, run.rating[known]))
    value, low, high = measures.rows[0][1:4]
    inside = metrics.interval_coverage(real, run.low[known], run.high[known])
    finding = (
        f"RMSE {value:.4f} [{low:.4f}, {high:.4f}] (raw expected rating) on {len(real):,} pairs of "
        f"{len(np.unique(user)):,} users; {inside:.1%} of the real ratings are inside their intervals."
    )
    notes = (f"The real ratings are those of {truth.name}: {len(real):,} of {len(run):,} pairs have one.",)
    return Section("accuracy", "Against the real ratings", finding, tuple(blocks), notes)


def _measures(run: FinishedRun, real: FloatArray, known: NDArray[np.bool_], seed: int) -> Table:
    """Every measure with its interval, beside the best that knows neither user nor item."""
    shares = np.bincount(run.scale.index(real), minlength=run.scale.n_levels) / len(real)
    constant = RatingDistribution(run.scale, np.tile(shares, (len(real), 1)))
    rows: list[tuple[Cell, ...]] = []
    constants = {name: loss for name, _, loss in _losses(real, constant)}
    drawn: Loss = ("RMSE of the drawn rating", "rmse", (run.rating[known] - real) ** 2)
    for name, kind, loss in chain(_losses(real, run.distribution.take(known)), [drawn]):
        beside = constants.get(name)
        zero = np.zeros_like(loss)
        got = paired_bootstrap(loss, zero, run.user[known], kind, n_boot=N_BOOT, seed=seed)
        cells: list[Cell] = [name, got.estimate, got.low, got.high, None, None, None, None]
        if beside is not None:
            gap = paired_bootstrap(loss, beside, run.user[known], kind, n_boot=N_BOOT, seed=seed)
            cells[4:] = [got.estimate - gap.estimate, gap.estimate, gap.low, gap.high]
        rows.append(tuple(cells))
    headings = ("run", "low", "high", "constant", "run − constant", "low", "high")
    columns = (Column("measure"), *(Column(name, 4, sign=place >= 4) for place, name in enumerate(headings)))
    note = f"The constant answers every pair with the shares of the real ratings, which it sees. {INTERVAL_NOTE}"
    return Table("table-accuracy", "Errors and proper scores (lower is better)", columns, tuple(rows), note)


def _losses(real: FloatArray, distribution: RatingDistribution) -> Iterator[Loss]:
    expected = distribution.mean()
    rounded = distribution.scale.round(expected)
    yield "RMSE of the expected rating, raw", "rmse", (expected - real) ** 2
    yield "RMSE of the expected rating, rounded", "rmse", (rounded - real) ** 2
    yield "MAE of the expected rating, raw", "mean", np.abs(expected - real)
    yield "log loss, nats", "mean", metrics.log_losses(real, distribution)
    yield "ranked probability score", "mean", metrics.ranked_probability_scores(real, distribution)


def _by_source(run: FinishedRun, real: FloatArray, known: NDArray[np.bool_], seed: int) -> list[Block]:
    source, error = run.source[known], (run.distribution.take(known).mean() - real) ** 2
    low, high = run.low[known], run.high[known]
    rows: list[tuple[Cell, ...]] = []
    for name in sorted(set(source.tolist())):
        here = source == name
        zero = np.zeros(int(here.sum()))
        got = paired_bootstrap(error[here], zero, run.user[known][here], n_boot=N_BOOT, seed=seed)
        inside = metrics.interval_coverage(real[here], low[here], high[here])
        rows.append((name, len(zero), got.estimate, got.low, got.high, inside))
    title = "RMSE by source of the answer, raw"
    columns = (
        Column("source"), Column("pairs"), Column("RMSE, raw", 4), Column("low", 4), Column("high", 4),
        Column("inside the interval", 4),
    )  # fmt: skip
    table = Table("table-by-source", title, columns, tuple(rows), INTERVAL_NOTE)
    if len(rows) < 2:
        return [table]
    parts = [[row[place] for row in rows] for place in (2, 3, 4)]
    numbers = [[float(value) if isinstance(value, float) else None for value in part] for part in parts]
    drawing = points_chart(title, [str(row[0]) for row in rows], [Amounts(title, *numbers)], "RMSE, raw")
    return [Chart(title, drawing, table, "What the answer rests on, see the sources above.")]


def _reliability(real: FloatArray, distribution: RatingDistribution) -> Chart:
    by_level = distribution.scale.n_levels <= MAX_LEVELS_DRAWN // 3
    found = metrics.reliability(real, distribution, "levels" if by_level else "pooled")
    names = [f"{level:g}" for level in distribution.scale.levels] if by_level else ["all levels"]
    lines, rows = [], []
    most = max(int(found.count.max()), 1)
    for place, name in enumerate(names):
        here = np.flatnonzero(found.count[place] > 0)
        forecast, observed, count = (
            part[place][here].tolist() for part in (found.forecast, found.observed, found.count)
        )
        lines.append(Line(name, forecast, observed, sizes=[n / most for n in count]))
        rows += [(name, *cells) for cells in zip(forecast, observed, count, strict=True)]
    title = "Reliability: what was forecast, and what came true"
    columns = (Column("level"), Column("mean forecast", 4), Column("share that came true", 4), Column("forecasts"))
    ece = metrics.calibration_error(real, distribution, "levels")
    table = Table("table-reliability", title, columns, tuple(rows), f"Class-wise calibration error (ECE): {ece:.4f}.")
    drawing = reliability_chart(title, lines, "forecast probability", "share that came true")
    return Chart(title, drawing, table, "On the diagonal forecasts are right; larger points stand for more forecasts.")


def _confusion(run: FinishedRun, real: FloatArray, drawn: FloatArray) -> Chart:
    """Of the pairs with each real rating, the share that was drawn each rating."""
    n = run.scale.n_levels
    counts = np.bincount(run.scale.index(real) * n + run.scale.index(drawn), minlength=n * n).reshape(n, n)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    levels = [f"{level:g}" for level in run.scale.levels]
    title = "Real against drawn ratings"
    columns = (Column("real rating"), *(Column(f"drawn {level}", 3) for level in levels), Column("pairs"))
    rows = tuple((level, *shares[r].tolist(), int(counts[r].sum())) for r, level in enumerate(levels))
    drawing = heatmap_chart(title, levels, levels, shares.tolist(), "real rating", "drawn rating")
    caption = "Each line sums to 1. A drawn rating is one of many that the user might give: not even a perfect "
    return Chart(
        title, drawing, Table("table-confusion", title, columns, rows), caption + "simulator stays on the diagonal."
    )
