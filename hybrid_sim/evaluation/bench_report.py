"""All records of one benchmark with their provenance, as aligned tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hybrid_sim.core.document import aligned
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


Column = tuple[str, str, int]
"""Field of a result (`ResultRow.flat`), heading, decimals."""

EFFORT: tuple[Column, ...] = (
    ("n_abstained", "abstained", 0),
    ("n_fallback", "fallback", 0),
    ("seconds", "seconds", 1),
    ("peak_mb", "peak MB", 0),
)
"""The third table: abstentions and cost."""


def metric_columns(table: str) -> tuple[Column, ...]:
    """The columns of a table: "accuracy", "distribution" (see `hybrid_sim.evaluation.scores.Metric`) or "effort"."""
    if table == "effort":
        return EFFORT
    of_metrics = [(name, metric.title, metric.decimals) for name, metric in METRICS.items() if metric.table == table]
    return (*((("n", "ratings", 0),) if table == "accuracy" else ()), *of_metrics)


def table_text(report: BenchResult) -> str:
    """The report as aligned tables: one row per model, counts summed and figures averaged over folds."""
    protocols = dict.fromkeys(row.protocol for row in report.results)
    notes = [printable(f"Note: {note}") for note in report.notes]
    return "\n\n".join([*(_protocol_text(report, protocol) for protocol in protocols), *notes])


def _protocol_text(report: BenchResult, protocol: str) -> str:
    by_model: dict[str, list[ResultRow]] = {}
    for row in report.results:
        if row.protocol == protocol:
            by_model.setdefault(row.model, []).append(row)
    folds = ", ".join(dict.fromkeys(str(row.fold) for rows in by_model.values() for row in rows))
    source = report.provenance
    parts = [
        printable(f"{dataset_label(source)}, protocol {protocol}, mean over folds {folds}, seed {source.seed}"),
        _model_table(by_model, metric_columns("accuracy")),
        "* Rounded to the nearest level.",
        _model_table(by_model, metric_columns("distribution")),
        "ECE is class-wise. KL (nats), W1 and SD within users are of one rating sampled per row.",
        _model_table(by_model, metric_columns("effort")),
        "Abstained: left out of all figures. Fallback: another rater answered.",
    ]
    if support := [row for row in report.support if row.protocol == protocol]:
        parts += ["Interval coverage by number of training ratings of the item:", _support_text(support)]
    if comparisons := [row for row in report.comparisons if row.protocol == protocol]:
        parts += ["First minus second model, below zero the first is better:", _comparison_text(comparisons)]
    return "\n\n".join(parts)


def _model_table(by_model: Mapping[str, list[ResultRow]], columns: Sequence[Column]) -> str:
    lines = []
    for model, rows in by_model.items():
        cells = [model, ",".join(str(row.fold) for row in rows)]
        for name, _, decimals in columns:
            values = [row.flat()[name] for row in rows]
            total = None if None in values else sum(values)
            mean = total if total is None or name.startswith("n") else total / len(values)
            cells.append(_shown(mean, decimals))
        lines.append(cells)
    return aligned(["model", "folds", *(heading for _, heading, _ in columns)], lines)


def _support_text(support: Sequence[SupportRow]) -> str:
    rows: dict[tuple[str, str], list[SupportRow]] = {}
    for row in sorted(support, key=lambda row: SUPPORT_BUCKETS.index(row.support)):
        rows.setdefault((row.model, row.support), []).append(row)
    lines = []
    for (model, bucket), parts in sorted(rows.items(), key=lambda entry: entry[0][0]):
        n = sum(part.n for part in parts)
        coverage = sum(part.coverage * part.n for part in parts) / n
        width = sum(part.width * part.n for part in parts) / n
        lines.append([model, bucket, str(n), _shown(coverage, 4), _shown(width, 3)])
    return aligned(["model", "training ratings", "ratings", "coverage", "width"], lines)


def _comparison_text(comparisons: Sequence[Comparison]) -> str:
    lines = []
    for row in comparisons:
        interval = f"[{_shown(row.low, 4, sign=True)}, {_shown(row.high, 4, sign=True)}]"
        estimate, groups = _shown(row.estimate, 4, sign=True), f"{row.n_groups} {row.groups}"
        lines.append([f"{row.a} - {row.b}", row.fold, row.metric, estimate, f"{row.level:.0%}", interval, groups])
    return aligned(["models", "folds", "metric", "difference", "level", "interval", "resampled"], lines)


def _shown(value: float | None, decimals: int, sign: bool = False) -> str:
    if value is None:
        return "-"
    return "undefined" if np.isnan(value) else f"{value:{'+' if sign else ''}.{decimals}f}"
