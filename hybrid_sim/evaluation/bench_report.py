"""All records of one benchmark with their provenance, as aligned tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from hybrid_sim.core.document import Column, aligned
from hybrid_sim.core.files import printable, write_json_file
from hybrid_sim.core.provenance import Provenance, dataset_label
from hybrid_sim.evaluation.scores import METRICS, SUPPORT_BUCKETS, Comparison, ResultRow, RmseInterval, SupportRow


@dataclass(frozen=True, repr=False)
class BenchResult:
    """All records of one benchmark; a notebook shows the mean of each metric over folds."""

    provenance: Provenance
    results: Sequence[ResultRow]
    intervals: Sequence[RmseInterval] = ()
    comparisons: Sequence[Comparison] = ()
    support: Sequence[SupportRow] = ()
    notes: Sequence[str] = ()
    """What a reader must know beside the figures, in sentences: how folds were made, what saw test rows."""

    def to_frame(self) -> pd.DataFrame:
        """A row per model and fold: counts, every metric, seconds and memory."""
        return pd.DataFrame([row.flat() for row in self.results])

    def means(self) -> pd.DataFrame:
        """A row per protocol and model, in the order of the results: every metric, mean over folds."""
        frame = self.to_frame()
        return frame.groupby(["protocol", "model"], sort=False)[list(METRICS)].mean()

    def by_model(self, protocol: str) -> dict[str, list[ResultRow]]:
        """The results of one protocol by model, in order of appearance."""
        grouped: dict[str, list[ResultRow]] = {}
        for row in self.results:
            if row.protocol == protocol:
                grouped.setdefault(row.model, []).append(row)
        return grouped

    def __repr__(self) -> str:
        best = min(self.intervals, key=lambda row: row.estimate, default=None)
        lowest = f", lowest RMSE {best.estimate:.4f} by {best.model}" if best else ""
        source, models = dataset_label(self.provenance), {row.model for row in self.results}
        protocols = ", ".join(dict.fromkeys(row.protocol for row in self.results))
        return f"<BenchResult: {source}, protocol {protocols}, {len(models)} models{lowest}>"

    def _repr_html_(self) -> str:
        titles = {name: metric.title for name, metric in METRICS.items()}
        return self.means().rename(columns=titles).to_html(float_format="{:.4f}".format, na_rep="-")


def write_json(report: BenchResult, path: Path) -> None:
    """Write the report as strict JSON, whole or not at all; NaN becomes null.

    Raises:
        SettingsError: `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    write_json_file(path, {**asdict(report), "results": [row.flat() for row in report.results]})


EFFORT = (
    Column("n_abstained", "abstained", 0),
    Column("n_fallback", "fallback", 0),
    Column("seconds", "seconds", 1),
    Column("peak_mb", "peak MB", 0),
)
"""The third table: abstentions and cost."""

TABLES = {
    "accuracy": "* Rounded to the nearest level.",
    "distribution": "ECE is class-wise. KL (nats), W1 and SD within users are of one rating sampled per row.",
    "effort": "Abstained: left out of all figures. Fallback: another rater answered.",
}
"""The tables of measures with their notes."""


def metric_columns(table: str) -> tuple[Column, ...]:
    """The fields of `ResultRow.flat` in one of the `TABLES` (see `hybrid_sim.evaluation.scores.Metric`)."""
    if table == "effort":
        return EFFORT
    of_metrics = [Column(name, m.title, m.decimals) for name, m in METRICS.items() if m.table == table]
    return (*((Column("n", "ratings", 0),) if table == "accuracy" else ()), *of_metrics)


def over_folds(rows: Sequence[ResultRow], field: str) -> float | None:
    """The sum of a count, or the mean of another field, of one model over its folds; None where it does not apply."""
    flat = [row.flat() for row in rows]
    if not flat or any(row.get(field) is None for row in flat):  # an earlier version had fewer metrics
        return None
    total = float(sum(row[field] for row in flat))
    return total if field == "n" or field.startswith("n_") else total / len(flat)


def pooled_support(rows: Sequence[SupportRow]) -> list[SupportRow]:
    """A row per model, in order of appearance, and bucket: all ratings of all folds together."""
    cells: dict[tuple[str, str], list[SupportRow]] = {}
    for row in rows:
        cells.setdefault((row.model, row.support), []).append(row)
    order = [(m, b) for m in dict.fromkeys(m for m, _ in cells) for b in SUPPORT_BUCKETS if (m, b) in cells]
    return [_pooled(cells[key]) for key in order]


def _pooled(rows: Sequence[SupportRow]) -> SupportRow:
    n = sum(row.n for row in rows)
    mean_square, coverage, width = (
        sum(value * row.n for value, row in zip(values, rows, strict=True)) / n
        for values in ([row.rmse**2 for row in rows], [row.coverage for row in rows], [row.width for row in rows])
    )
    return replace(rows[0], fold=_folds(rows), n=n, rmse=mean_square**0.5, coverage=coverage, width=width)


def _folds(rows: Sequence[ResultRow | SupportRow]) -> str:
    return ",".join(str(row.fold) for row in rows)


def table_text(report: BenchResult) -> str:
    """The report as aligned tables: one row per model, counts summed and figures averaged over folds."""
    protocols = dict.fromkeys(row.protocol for row in report.results)
    notes = [printable(f"Note: {note}") for note in report.notes]
    return "\n\n".join([*(_protocol_text(report, protocol) for protocol in protocols), *notes])


def _protocol_text(report: BenchResult, protocol: str) -> str:
    by_model = report.by_model(protocol)
    folds = ", ".join(dict.fromkeys(str(row.fold) for rows in by_model.values() for row in rows))
    source = report.provenance
    parts = [printable(f"{dataset_label(source)}, protocol {protocol}, mean over folds {folds}, seed {source.seed}")]
    for table, note in TABLES.items():
        columns = metric_columns(table)
        lines = [
            [model, _folds(rows), *(_shown(over_folds(rows, c.name), c.decimals) for c in columns)]
            for model, rows in by_model.items()
        ]
        parts += [aligned(["model", "folds", *(column.heading for column in columns)], lines), note]
    if support := pooled_support([row for row in report.support if row.protocol == protocol]):
        lines = [
            [row.model, row.support, str(row.n), _shown(row.coverage, 4), _shown(row.width, 3)]
            for row in sorted(support, key=lambda row: row.model)
        ]
        parts += ["Interval coverage by number of training ratings of the item:"]
        parts += [aligned(["model", "training ratings", "ratings", "coverage", "width"], lines)]
    if comparisons := [row for row in report.comparisons if row.protocol == protocol]:
        parts += [line] if (line := headline(comparisons)) else []
        parts += ["First minus second model, below zero the first is better:", _comparison_text(comparisons)]
    return "\n\n".join(parts)


def headline(comparisons: Sequence[Comparison]) -> str:
    """The hybrid against the best baseline and against KNN, in a sentence; "" where it was compared with no baseline.

    The best baseline is chosen by the same ratings, which favours it.
    """
    against = [row for row in comparisons if row.a == "hybrid" and row.metric == "rmse" and row.b != "llm"]
    if not against:
        return ""
    best = max(against, key=lambda row: row.estimate)
    parts = [
        f"{row.b}{' (the best baseline)' if row is best else ''} {row.estimate:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
        for row in against
        if row is best or row.b == "knn"
    ]
    return f"RMSE of the hybrid less that of {', of '.join(sorted(parts, key=lambda part: 'best' not in part))}."


def _comparison_text(comparisons: Sequence[Comparison]) -> str:
    lines = []
    for row in comparisons:
        interval = f"[{_shown(row.low, 4, sign=True)}, {_shown(row.high, 4, sign=True)}]"
        estimate, groups = _shown(row.estimate, 4, sign=True), f"{row.n_groups} {row.groups}"
        lines.append([f"{row.a} - {row.b}", row.fold, row.metric, estimate, f"{row.level:.0%}", interval, groups])
    return aligned(["models", "folds", "metric", "difference", "level", "interval", "resampled"], lines)


def _shown(value: float | None, decimals: int | None, sign: bool = False) -> str:
    if value is None:
        return "-"
    return "undefined" if np.isnan(value) else f"{value:{'+' if sign else ''}.{decimals}f}"
