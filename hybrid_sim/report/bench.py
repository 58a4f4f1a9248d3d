"""The page and the figure of a benchmark: RMSE with intervals, comparisons, every measure, support and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybrid_sim.core.document import Block, Chart, Column, Page, Section, Table, interval_columns, slug
from hybrid_sim.core.errors import InputError
from hybrid_sim.core.provenance import dataset_label
from hybrid_sim.evaluation.bench_report import TABLES, BenchResult, metric_columns, over_folds, pooled_support
from hybrid_sim.evaluation.scores import Comparison, ResultRow, RmseInterval, SupportRow
from hybrid_sim.report.charts import SERIES, save_chart

TABLE_TITLES = {
    "accuracy": "Accuracy of the expected rating, raw and rounded",
    "distribution": "Distributions, and what is sampled from them",
    "effort": "Abstentions and cost",
}
HYBRID = "hybrid"
"""The model that stands out in charts."""

UNITS = {"rmse": ", rating units", "mae": ", rating units", "log_loss": ", nats"}

MIN_SUPPORTED = 30
"""Ratings below which error and coverage are not shown by support: they would be chance."""

RMSE_COLUMNS = (Column("model", "model"), Column("fold", "folds"), Column("rmse", "RMSE", 4), *interval_columns(4))
DIFFERENCE_COLUMNS = (
    Column("models", "models"), Column("fold", "folds"), Column("metric", "measure"),
    Column("estimate", "difference", 4, sign=True), *interval_columns(4, sign=True),
)  # fmt: skip
SUPPORT_COLUMNS = (
    Column("model", "model"), Column("support", "training ratings of the item"), Column("n", "ratings"),
    Column("rmse", "RMSE, raw", 4), Column("coverage", "coverage", 4), Column("width", "width", 3),
)  # fmt: skip


def bench_page(report: BenchResult) -> Page:
    """The page of a benchmark, one group of sections per protocol."""
    protocols = list(dict.fromkeys(row.protocol for row in report.results))
    sections = [section for protocol in protocols for section in _protocol_sections(report, protocol, len(protocols))]
    folds = ", ".join(dict.fromkeys(str(row.fold) for row in report.results))
    source = report.provenance
    return Page(
        title=f"Benchmark on {source.dataset}: {', '.join(protocols)}",
        context=f"{dataset_label(source)}, protocol {', '.join(protocols)}, folds {folds}, seed {source.seed}",
        sections=tuple(sections),
        synthetic=source.synthetic,
        notes=tuple(report.notes),
        provenance=source.facts(),
    )


def save_rmse_figure(report: BenchResult, path: Path, protocol: str | None = None) -> None:
    """Draw the RMSE intervals of one protocol (by default the first), best model on top, as PNG or SVG.

    Raises:
        SettingsError: the suffix is neither .png nor .svg, or `path` cannot be a file there.
        StorageError: the disk is full or not writable.
        InputError: the report has no interval of that protocol.
    """
    protocol = protocol or next((row.protocol for row in report.intervals), "")
    rows = [row for row in report.intervals if row.protocol == protocol]
    if not rows:
        raise InputError(f"the report has no RMSE intervals of protocol {protocol!r}; add them with rmse_interval")
    title = f"{dataset_label(report.provenance)}, protocol {protocol}, folds {_all_folds(rows)}"
    level, groups = f"{rows[0].level:.0%}", rows[0].groups
    caption = f"Mean over folds, with {level} intervals by bootstrap over {groups}. Lower is better."
    save_chart(*_rmse_chart(rows, title, caption), path)


def _protocol_sections(report: BenchResult, protocol: str, n_protocols: int) -> list[Section]:
    by_model = report.by_model(protocol)
    intervals = [row for row in report.intervals if row.protocol == protocol]
    compared = [row for row in report.comparisons if row.protocol == protocol]
    support = [row for row in report.support if row.protocol == protocol]
    sections = [
        _rmse(intervals, by_model) if intervals else None,
        _differences(compared) if compared else None,
        _measures(by_model),
        _support(support) if support else None,
        _cost(by_model, intervals),
    ]
    prefix, suffix = (f"{slug(protocol)}-", f" ({protocol})") if n_protocols > 1 else ("", "")
    named = (part for part in sections if part is not None)
    return [replace(part, name=f"{prefix}{part.name}", title=f"{part.title}{suffix}") for part in named]


def _rmse(intervals: Sequence[RmseInterval], by_model: Mapping[str, Sequence[ResultRow]]) -> Section:
    intervals = sorted(intervals, key=lambda row: row.estimate)
    best = _best(intervals)
    caption = (
        f"Lower is better; the dashed line is {best.model}, the best on all folds. Lines are {best.level:.0%} "
        "intervals; folds differ in difficulty, so models on other folds are not comparable here."
    )
    blocks: tuple[Block, ...] = _rmse_chart(intervals, "RMSE of the expected rating, raw", caption)
    if any(len(of_model) > 1 for of_model in by_model.values()):
        blocks = (*blocks, *_by_fold(by_model, [row.model for row in intervals]))
    finding = f"{best.model} has the lowest RMSE on all folds, {best.estimate:.4f} [{best.low:.4f}, {best.high:.4f}]."
    return Section("rmse", "Error", finding, blocks)


def _best(rows: Sequence[RmseInterval]) -> RmseInterval:
    """The lowest RMSE of those on all folds."""
    folds = _all_folds(rows)
    return min((row for row in rows if row.fold == folds), key=lambda row: row.estimate)


def _all_folds(rows: Sequence[RmseInterval]) -> str:
    """The folds of the row that has most."""
    return max((row.fold for row in rows), key=lambda fold: fold.count(","))


def _rmse_chart(intervals: Sequence[RmseInterval], title: str, caption: str) -> tuple[Chart, Table]:
    intervals = sorted(intervals, key=lambda row: row.estimate)
    best = _best(intervals)

    def name(row: RmseInterval) -> str:
        return row.model if row.fold == best.fold else f"{row.model} (folds {row.fold})"

    rows = tuple((name(row), row.fold, row.estimate, row.low, row.high) for row in intervals)
    note = f"Mean over folds; {best.level:.0%} intervals by bootstrap over {best.n_groups:,} {best.groups}."
    return Table("rmse", title, RMSE_COLUMNS, rows, note).charted(
        "bars", "model", "rmse", low="low", high="high", reference=best.estimate, y_label="RMSE in rating units, raw",
        caption=caption, highlight=HYBRID,
    )  # fmt: skip


def _by_fold(by_model: Mapping[str, Sequence[ResultRow]], models: Sequence[str]) -> tuple[Chart, Table]:
    """RMSE of every model on every fold, the best models first; the first ones are drawn."""
    folds = list(dict.fromkeys(str(row.fold) for rows in by_model.values() for row in rows))
    rmse = {(model, str(row.fold)): row.scores["rmse"] for model, rows in by_model.items() for row in rows}
    order = [*models, *(model for model in by_model if model not in models)]
    columns = (Column("fold", "fold"), *(Column(f"rmse of {model}", model, 4) for model in order))
    rows = tuple((fold, *(rmse.get((model, fold)) for model in order)) for fold in folds)
    caption = f"The {len(SERIES)} best models; the table has all." if len(models) > len(SERIES) else ""
    drawn = (f"rmse of {model}" for model in models)
    return Table("folds", "RMSE by fold, raw", columns, rows).charted(
        "lines", "fold", *drawn, x_label="fold", y_label="RMSE in rating units, raw", caption=caption, highlight=HYBRID
    )


def _differences(compared: Sequence[Comparison]) -> Section:
    note = (
        f"Below zero the first is better; {compared[0].level:.0%} intervals by paired bootstrap over "
        f"{compared[0].groups}. rmse and mae are of the raw expected rating."
    )
    caption = "Left of the dashed line the first model is better."
    blocks: list[Block] = []
    for metric in dict.fromkeys(row.metric for row in compared):
        rows = tuple(
            (f"{row.a} − {row.b}", row.fold, metric, row.estimate, row.low, row.high)
            for row in compared
            if row.metric == metric
        )
        title = f"Difference in {metric}, first minus second model"
        blocks += Table(slug(metric), title, DIFFERENCE_COLUMNS, rows, note).charted(
            "bars", "models", "estimate", low="low", high="high", reference=0.0, caption=caption,
            y_label=f"difference{UNITS.get(metric, '')}",
        )  # fmt: skip
    clear = sum(row.high < 0 or row.low > 0 for row in compared)
    finding = f"{clear} of {len(compared)} differences have an interval that excludes zero."
    return Section("differences", "Differences", finding, tuple(blocks))


def _measures(by_model: Mapping[str, Sequence[ResultRow]]) -> Section:
    """The three tables that `bench` prints: counts summed and figures averaged over folds."""
    tables = []
    for name, note in TABLES.items():
        fields = metric_columns(name)
        rows = tuple(
            (model, ", ".join(str(row.fold) for row in rows), *(over_folds(rows, field.name) for field in fields))
            for model, rows in by_model.items()
        )
        columns = (Column("model", "model"), Column("folds", "folds"), *fields)
        tables.append(Table(name, TABLE_TITLES[name], columns, rows, note))
    finding = "Every figure of every model; counts are summed and figures averaged over folds."
    return Section("measures", "All figures", finding, tuple(tables))


def _support(support: Sequence[SupportRow]) -> Section:
    rows = [row for row in pooled_support(support) if row.n >= MIN_SUPPORTED]
    note = f"Pooled over folds; fewer than {MIN_SUPPORTED} ratings are left out."
    table = Table.of("support", "Error and intervals by support", SUPPORT_COLUMNS, rows, note)
    caption = "By the number of training ratings of the item."
    how: dict[str, Any] = {"series": "model", "highlight": HYBRID}
    rmse, _ = table.charted("bars", "support", "rmse", title="RMSE by support, raw", caption=caption,
                            y_label="RMSE in rating units, raw", **how)  # fmt: skip
    coverage, _ = table.charted("bars", "support", "coverage", title="Interval coverage by support", reference=0.9,
                                y_label="share of the ratings inside",
                                caption=f"{caption} The dashed line is the 90% that intervals promise.",
                                **how)  # fmt: skip
    finding = "How the error and the intervals depend on the number of training ratings of the item."
    return Section("support", "Support", finding, (rmse, coverage, table))


def _cost(by_model: Mapping[str, Sequence[ResultRow]], intervals: Sequence[RmseInterval]) -> Section | None:
    candidates = []
    for row in intervals:
        seconds = over_folds(by_model.get(row.model, ()), "seconds")
        if seconds is not None and row.fold == _all_folds(intervals):
            candidates.append(Candidate(row.model, seconds, row.estimate, row.low, row.high))
    if not candidates:
        return None
    caption = "Fitting and predicting one fold, mean over folds; answers of a language model were recorded before."
    blocks = pareto_chart("Error against time", caption, candidates, "time per fold", "RMSE in rating units, raw")
    return Section("cost", "Cost and quality", "The dotted line joins the Pareto front.", blocks)


@dataclass(frozen=True)
class Candidate:
    """A model: what it costs, and its loss with an interval."""

    model: str
    cost: float
    loss: float
    low: float
    high: float


def pareto_chart(
    title: str, caption: str, candidates: Sequence[Candidate], cost: str, loss: str
) -> tuple[Chart, Table]:
    """Cost in seconds (logarithmic) against loss, with the Pareto front joined: those that no other beats in both."""
    front: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (one.cost, one.loss)):
        if not front or one.loss < front[-1].loss:
            front.append(one)
    columns = (
        Column("model", ""), Column("cost", cost, seconds=True), Column("loss", loss, 4), *interval_columns(4),
        Column("front", "on the Pareto front"),
    )  # fmt: skip
    order = sorted(candidates, key=lambda one: one.cost)
    rows = tuple((one.model, one.cost, one.loss, one.low, one.high, one in front) for one in order)
    return Table("cost", title, columns, rows).charted(
        "scatter", "cost", "loss", label="model", front="front", log_x=True, caption=caption, highlight=HYBRID
    )
