"""The figure of a benchmark: RMSE of every model with its bootstrap interval."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hybrid_sim.core.errors import InputError, SettingsError
from hybrid_sim.core.files import printable, write_whole
from hybrid_sim.core.provenance import dataset_label
from hybrid_sim.evaluation.bench_report import Report
from hybrid_sim.evaluation.scores import RmseInterval

BLUE, ORANGE, INK, GRID = "#0072B2", "#D55E00", "#222222", "#D9D9D9"
"""Two colours that colour-blind people tell apart (Okabe and Ito 2008), one for text and one for the grid."""


def save_rmse_figure(report: Report, path: Path, protocol: str | None = None) -> None:
    """Draw the RMSE intervals of one protocol (by default the first), best model on top, as PNG or SVG.

    The best model has a colour and a marker of its own, and a line that shows how far the others are from it.

    Raises:
        SettingsError: the suffix is neither .png nor .svg, or `path` cannot be a file there.
        StorageError: the disk is full or not writable.
        InputError: the report has no interval of that protocol.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise SettingsError(f"{path}: a figure is saved as .png or .svg; change the suffix")
    protocol = protocol or next((row.protocol for row in report.intervals), "")
    rows = sorted((row for row in report.intervals if row.protocol == protocol), key=lambda row: row.estimate)
    if not rows:
        raise InputError(f"the report has no RMSE intervals of protocol {protocol!r}; add them with rmse_interval")
    with mpl.rc_context({"svg.hashsalt": "hybrid-sim", "font.size": 10, "text.color": INK, "text.parse_math": False}):
        figure = Figure(figsize=(7.2, 1.7 + 0.34 * len(rows)), dpi=150, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure.add_subplot(), rows)
        figure.suptitle(_title(report, rows), fontsize=10.5, x=0.01, ha="left")
        content = io.BytesIO()
        metadata = {"Date": None} if suffix == ".svg" else None  # equal reports give equal files
        figure.savefig(content, format=suffix[1:], metadata=metadata)
    write_whole(path, content.getvalue())


def _draw(axes: Axes, rows: list[RmseInterval]) -> None:
    heights = np.arange(len(rows))[::-1]
    axes.axvline(rows[0].estimate, color=ORANGE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for height, row in zip(heights, rows, strict=True):
        best = row is rows[0]
        colour = ORANGE if best else BLUE
        axes.plot(
            [row.low, row.high],
            [height, height],
            color=colour,
            linewidth=2.2,
            solid_capstyle="butt",
            zorder=2,
        )
        axes.plot(row.estimate, height, "D" if best else "o", color=colour, markersize=6, zorder=3)
        axes.annotate(f"{row.estimate:.4f}", (1.01, height), xycoords=("axes fraction", "data"), va="center", color=INK)
    folds = _all_folds(rows)
    labels = [row.model if row.fold == folds else f"{row.model} (folds {row.fold})" for row in rows]
    axes.set_yticks(heights, [printable(label) for label in labels])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("RMSE in rating units (lower is better)")
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _title(report: Report, rows: list[RmseInterval]) -> str:
    first = rows[0]
    return printable(f"{dataset_label(report.provenance)}, protocol {first.protocol}, folds {_all_folds(rows)}") + (
        f"\nmean over folds, with {first.level:.0%} intervals by bootstrap over {first.groups}"
    )


def _all_folds(rows: list[RmseInterval]) -> str:
    """The folds of the row that has most."""
    return max((row.fold for row in rows), key=lambda fold: fold.count(","))
