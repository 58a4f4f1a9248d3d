"""Drawing: a chart of a table as a matplotlib figure, inside a page or as a file of its own.

To add a kind of chart, describe it in `hybrid_sim.core.document.Chart` and add a function below that draws it on a
`_Plot`, with its line in `_DRAW`.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from hybrid_sim.core.document import Cell, Chart, ChartKind, Table
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import printable, shortened, write_whole
from hybrid_sim.core.types import FloatArray
from hybrid_sim.report.svg import PALETTE, svg_element

SERIES = [colour for name, colour in PALETTE.items() if name.startswith("s") and name != "soft"]
SHADES = [colour for name, colour in PALETTE.items() if name.startswith("q")]
MARKERS = "osD^vPX*"
INK, SOFT, LINE = PALETTE["ink"], PALETTE["soft"], PALETTE["line"]

LAYOUTS = {"wide": 888.0, "narrow": 356.0}
"""Widths of the two drawings of a chart, in points: those of the cards of a page on a desk and on a telephone."""

FILE_WIDTH, ROW, SMALLEST = 720.0, 24.0, 12.0
"""Width of a chart in a file, height of a row, and size of the smallest letters, in points."""

FEW_FORECASTS = 30
"""Points of a reliability diagram that stand for fewer forecasts are hollow."""

MAX_LABEL = 34
"""Letters of a category that are drawn; the table and the tip have all of it."""

TIMES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36000.0)
"""Ticks of a logarithmic axis of time, in seconds."""

FEW_POINTS = 12
"""Up to so many points of a scatter all have their label, else those of the front."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "hybrid-sim", "text.parse_math": False, "font.size": 12,
    "text.color": INK, "axes.labelcolor": SOFT, "axes.titlecolor": SOFT, "axes.titlelocation": "left",
    "axes.titlesize": 12, "axes.edgecolor": LINE, "axes.axisbelow": True, "grid.color": LINE,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.spines.bottom": False,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "xtick.labelsize": SMALLEST, "ytick.labelsize": SMALLEST, "xtick.major.size": 0, "ytick.major.size": 0,
    "xtick.minor.size": 0, "legend.frameon": False, "legend.fontsize": 12, "axes.formatter.useoffset": False,
    "axes.unicode_minus": False,
}  # fmt: skip


def inline_svgs(chart: Chart, table: Table, prefix: str) -> dict[str, Markup]:
    """The chart as an SVG element of a page in each layout; ids begin with `prefix`, which is unique in the page."""
    plots = {layout: _drawn(chart, table, width) for layout, width in LAYOUTS.items()}
    return {
        layout: svg_element(_saved(plot.figure, "svg"), chart.title, f"{prefix}-{layout}", plot.tips)
        for layout, plot in plots.items()
    }


def save_chart(chart: Chart, table: Table, path: Path) -> None:
    """Write the chart as a PNG or SVG file; equal charts give equal files.

    Raises:
        SettingsError: the suffix is neither .png nor .svg, or `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise SettingsError(f"{path}: a figure is saved as .png or .svg; change the suffix")
    figure = _drawn(chart, table, FILE_WIDTH).figure
    figure.suptitle(printable(chart.title), x=0.01, ha="left", fontsize=12)
    figure.supxlabel(printable(chart.caption), x=0.01, ha="left", fontsize=10, color=SOFT)
    figure.patch.set(visible=True, facecolor="white")
    write_whole(path, _saved(figure, suffix[1:]))


def _drawn(chart: Chart, table: Table, width: float) -> _Plot:
    with _style():
        plot = _Plot(chart, table, width)
        _DRAW[chart.kind](plot)
    return plot


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's fonts draw the text, not ours
        yield


def _saved(figure: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    with _style():
        figure.savefig(content, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


@dataclass(frozen=True)
class _Series:
    """One series: its name, the column of its values, rows of the table, and per row value, interval ends and tip.

    What is undefined is NaN. A tip names category, series, value and interval.
    """

    number: int
    name: str
    column: str
    rows: list[int]
    y: FloatArray
    low: FloatArray
    high: FloatArray
    tips: list[str]

    @property
    def colour(self) -> str:
        return SERIES[self.number]


class _Plot:
    """A chart with the columns of its table as numbers or text, and the figure that it is drawn on.

    `tips` are the texts that marks show when they are pointed at, by the id of their group in the SVG. Where the width
    is `narrow`, names of rows stand above them.
    """

    def __init__(self, chart: Chart, table: Table, width: float) -> None:
        self.chart, self.table, self.width = chart, table, width
        self.narrow = width < FILE_WIDTH
        self.y = chart.y[-1:] if chart.kind in ("heatmap", "waterfall") else chart.y
        self.tips: dict[str, list[str]] = {}

    def numbers(self, name: str | None) -> FloatArray:
        """A column, NaN where a cell is no finite number; all NaN for None."""
        cells: list[Cell] = [None] * len(self.table.rows) if name is None else self.table.column(name)
        finite = (isinstance(cell, int | float | np.number) and np.isfinite(cell) for cell in cells)
        return np.array([cell if good else math.nan for cell, good in zip(cells, finite, strict=True)], dtype=float)

    def words(self, name: str | None) -> list[str]:
        """A column as text; empty for None."""
        if name is None:
            return [""] * len(self.table.rows)
        cells = self.table.column(name)
        return ["–" if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells]

    def heading(self, name: str) -> str:
        return next(column.heading for column in self.table.columns if column.name == name)

    def shown(self, name: str, value: float) -> str:
        """A number of a column, with its decimals."""
        return next(column for column in self.table.columns if column.name == name).shown(value)

    @property
    def x_label(self) -> str:
        return printable(self.chart.x_label or self.heading(self.chart.x))

    @property
    def y_label(self) -> str:
        return printable(self.chart.y_label or self.heading(self.y[0]))

    @cached_property
    def categories(self) -> list[str]:
        """The distinct values of x, in order of appearance."""
        return list(dict.fromkeys(self.words(self.chart.x)))

    @cached_property
    def places(self) -> FloatArray:
        """Of each row the place of its category."""
        place = {name: number for number, name in enumerate(self.categories)}
        return np.array([place[word] for word in self.words(self.chart.x)], dtype=float)

    @cached_property
    def series(self) -> list[_Series]:
        """A series per column of `y`, or per value of the column `series`; those that have a colour of their own."""
        chart, rows = self.chart, range(len(self.table.rows))
        if chart.series is None:
            bounds = [(chart.low, chart.high), *[(None, None)] * (len(self.y) - 1)]
            parts = [(self.heading(name), [*rows], name, *ends) for name, ends in zip(self.y, bounds, strict=True)]
        else:
            names = self.words(chart.series)
            parts = [
                (name, [row for row in rows if names[row] == name], self.y[0], chart.low, chart.high)
                for name in dict.fromkeys(names)
            ]
        return [self._series(number, *part) for number, part in enumerate(parts[: len(SERIES)])]

    def _series(
        self, number: int, name: str, rows: list[int], column: str, low: str | None, high: str | None
    ) -> _Series:
        y, lows, highs = (self.numbers(of)[rows] for of in (column, low, high))
        words, tips = self.words(self.chart.x), []
        for k, row in enumerate(rows):
            tip = ", ".join(part for part in (words[row], name) if part)
            if np.isfinite(y[k]):
                tip += f": {self.shown(column, y[k])}"
                if np.isfinite(lows[k]) and np.isfinite(highs[k]):
                    tip += f" [{self.shown(column, lows[k])}, {self.shown(column, highs[k])}]"
            tips.append(tip)
        return _Series(number, name, column, rows, y, lows, highs, tips)

    def begin(self, height: float) -> None:
        """Make the figure; above it the names of the series with their markers, if there are several."""
        names = [shortened(printable(series.name), 40) for series in self.series]
        n_columns = max(1, min(len(names), int(self.width / (7.5 * max(map(len, names), default=1) + 50))))
        n_rows = math.ceil(len(names) / n_columns) if len(names) > 1 else 0
        self.figure = Figure(figsize=(self.width / 72, (height + 22 * n_rows) / 72), dpi=72, layout="constrained")
        FigureCanvasAgg(self.figure)
        self.figure.patch.set_visible(False)
        self.axes = self.figure.add_subplot()
        self.axes.patch.set_visible(False)
        if n_rows:
            marks = [
                mpl.lines.Line2D([], [], color=s.colour, marker=MARKERS[s.number], linestyle="", markersize=7)
                for s in self.series
            ]
            legend = self.figure.legend(
                marks, names, loc="outside upper left", ncols=n_columns, handletextpad=0.1, columnspacing=1.2
            )
            for text, series in zip(legend.get_texts(), self.series, strict=True):
                text.set_fontweight(self.weight(series.name))

    def begin_rows(self, n: int, marks: int = 1) -> None:
        """Make the figure for `n` categories from top to bottom, with room for so many marks in each.

        `row` is the height of a category in points, `drop` the part of it that marks are below its middle.
        """
        self.row = ROW + 7.0 * (marks - 1) + (16.0 if self.narrow else 0.0)
        self.drop = (5.0 if self.narrow else 0.0) / self.row
        self.begin(self.row * max(n, 1) + 52)

    def weight(self, name: str) -> str:
        """The weight of the letters of a category or series."""
        return "bold" if name and name == self.chart.highlight else "normal"

    def tipped(self, artist: Artist, *tips: str) -> None:
        """Let the marks of an artist, in their order, show these texts."""
        name = f"tip{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = list(tips)

    def points(
        self,
        x: FloatArray,
        y: FloatArray,
        series: _Series,
        size: float | FloatArray = 42.0,
        colours: Sequence[str] | None = None,
        tips: Sequence[str] | None = None,
        hollow: bool = False,
    ) -> None:
        """Markers of a series, `size` in square points; those that are undefined are left out."""
        there = np.flatnonzero(np.isfinite(x) & np.isfinite(y)).tolist()
        sizes = size[there] if isinstance(size, np.ndarray) else size
        colour = series.colour if colours is None else [colours[row] for row in there]
        marker, texts = MARKERS[series.number], series.tips if tips is None else tips
        drawn = self.axes.scatter(x[there], y[there], sizes, colour, marker=marker, zorder=3, clip_on=False)
        drawn.set(linewidths=1.4 if hollow else 0)
        if hollow:
            drawn.set(edgecolors=colour, facecolors="none")
        self.tipped(drawn, *(texts[row] for row in there))

    def intervals(
        self, places: FloatArray, series: _Series, across: bool = False, colours: Sequence[str] | None = None
    ) -> None:
        """Error bars of a series, upright or `across`; those that are undefined are left out."""
        there = np.flatnonzero(np.isfinite(places) & np.isfinite(series.low) & np.isfinite(series.high))
        if len(there):
            draw, width, alpha = (self.axes.hlines, 2.4, 1.0) if across else (self.axes.vlines, 1.4, 0.55)
            ends = series.low[there], series.high[there]
            colour = series.colour if colours is None else [colours[k] for k in there.tolist()]
            draw(places[there], *ends, colors=colour, linewidth=width, alpha=alpha, zorder=2)

    def line(self, x: FloatArray, series: _Series, size: float | FloatArray = 32.0, intervals: bool = True) -> None:
        """A line of a series with its markers and error bars."""
        width = 3.6 if self.weight(series.name) == "bold" else 1.8
        self.axes.plot(x, series.y, color=series.colour, linewidth=width)
        if intervals:
            self.intervals(x, series)
        self.points(x, series.y, series, size)

    def at_the_right(self, series: _Series) -> None:
        """The values of a series as text at the right edge."""
        for value, place in zip(series.y.tolist(), self.places[series.rows].tolist(), strict=True):
            if math.isfinite(value):
                text, where = self.shown(series.column, value), ("axes fraction", "data")
                if self.narrow:
                    self.axes.annotate(text, (1.0, place - 0.5), xycoords=where, va="top", ha="right")
                else:
                    self.axes.annotate(text, (1.01, place), xycoords=where, va="center")

    def rows(self, names: Sequence[str]) -> None:
        """Categories from top to bottom, at the heights 0, 1, ..."""
        labels = [shortened(printable(name), MAX_LABEL) for name in names]
        self.axes.set_yticks(np.arange(len(names)), [""] * len(names) if self.narrow else labels, color=INK)
        for place, (name, label) in enumerate(zip(names, labels, strict=True)):
            self.axes.get_yticklabels()[place].set_fontweight(self.weight(name))
            if self.narrow:
                at, weight = (0.0, place - 0.5), self.weight(name)
                self.axes.annotate(label, at, xycoords=("axes fraction", "data"), va="top", fontweight=weight)
        self.axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
        self.axes.set_xlabel(self.y_label)
        self.axes.grid(axis="x")
        self.axes.xaxis.set_major_locator(self.round_ticks())

    def round_ticks(self, integer: bool = False) -> MaxNLocator:
        """Round numbers, as many as there is room for."""
        return MaxNLocator(4 if self.narrow else 8, steps=[1, 2, 2.5, 5, 10], integer=integer)

    def columns(self) -> None:
        """Categories from left to right, at the places 0, 1, ...; every so many where there is no room for all."""
        labels = [shortened(printable(name), 12) for name in self.categories]
        every = max(1, math.ceil(max(map(len, labels), default=1) * 8 * len(labels) / (0.9 * self.width)))
        self.axes.set_xticks(np.arange(len(labels))[::every], labels[::every])
        self.axes.set_xlim(-0.5, max(len(labels), 1) - 0.5)

    def over_x(self) -> FloatArray:
        """Label the axes of a chart over `x`, numbers or categories, and give the place of each row."""
        numbers = self.numbers(self.chart.x)
        self.axes.set_xlabel(self.x_label)
        self.axes.set_title(self.y_label)
        self.axes.grid(axis="y")
        y = np.concatenate([series.y[np.isfinite(series.y)] for series in self.series] or [np.zeros(0)])
        self.axes.yaxis.set_major_locator(self.round_ticks(integer=bool((y == np.round(y)).all())))
        if len(numbers) and np.isfinite(numbers).all():
            self.axes.xaxis.set_major_locator(self.round_ticks(integer=bool((numbers == np.round(numbers)).all())))
            return numbers
        self.columns()
        return self.places

    def log_axis(self, x: FloatArray) -> None:
        """A logarithmic axis with round numbers, or durations, as ticks."""
        column = next(column for column in self.table.columns if column.name == self.chart.x)
        every = TIMES if column.seconds else [10.0**power for power in range(-6, 10)]
        defined = x[np.isfinite(x)]
        low, high = (float(defined.min()), float(defined.max())) if len(defined) else (1.0, 1.0)
        ticks = [tick for tick in every if low / 2 <= tick <= 2 * high]
        self.axes.set_xscale("log")
        self.axes.set_xlim(low / 2, 2 * high)
        self.axes.xaxis.set_minor_locator(NullLocator())
        self.axes.set_xticks(ticks, [column.shown(tick) if column.seconds else f"{tick:g}" for tick in ticks])

    def reference(self, draw: Callable[..., Any]) -> None:
        """A dashed line, drawn by `axhline` or `axvline`, at the value to compare with."""
        if self.chart.reference is not None:
            draw(self.chart.reference, color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1.5)


def _bars(plot: _Plot) -> None:
    """A row per category with a point and its error bar for each series."""
    names = plot.categories
    there = np.zeros((len(plot.series), max(len(names), 1)), dtype=bool)
    for series in plot.series:
        there[series.number, plot.places[series.rows].astype(int)] = np.isfinite(series.y)
    plot.begin_rows(len(names), max(int(there.sum(axis=0).max(initial=1)), 1))
    plot.reference(plot.axes.axvline)
    for series in plot.series:
        place = plot.places[series.rows].astype(int)
        above, together = there[: series.number].sum(axis=0)[place], there.sum(axis=0)[place]
        heights = place + plot.drop + 9.0 / plot.row * (above - (together - 1) / 2)
        stands_out = [plot.weight(names[k]) == "bold" for k in place.tolist()]
        colours = [SERIES[1] if out else series.colour for out in stands_out] if any(stands_out) else None
        plot.intervals(heights, series, across=True, colours=colours)
        plot.points(series.y, heights, series, 110.0 if plot.weight(series.name) == "bold" else 42.0, colours)
        if len(plot.series) == 1:
            plot.at_the_right(series)
    plot.rows(names)


def _counts(plot: _Plot) -> None:
    """A horizontal bar from zero per category."""
    plot.begin_rows(len(plot.categories))
    (series,) = plot.series
    values = np.nan_to_num(series.y)
    bars = plot.axes.barh(plot.places + plot.drop, values, 16.0 / plot.row, color=series.colour)
    for name, value, bar in zip(plot.words(plot.chart.x), values, bars, strict=True):
        plot.tipped(bar, f"{name}: {plot.shown(series.column, value)}")
    plot.at_the_right(series)
    plot.rows(plot.categories)


def _histograms(plot: _Plot) -> None:
    """Upright bars side by side, one group per category."""
    plot.begin(240 if plot.narrow else 300)
    plot.over_x()
    plot.columns()
    width = 0.8 / max(len(plot.series), 1)
    for series in plot.series:
        places = plot.places[series.rows] - 0.4 + width * (series.number + 0.5)
        bars = plot.axes.bar(places, np.nan_to_num(series.y), width * 0.94, color=series.colour)
        for tip, bar in zip(series.tips, bars, strict=True):
            plot.tipped(bar, tip)


def _lines(plot: _Plot) -> None:
    """A line per series over numbers or categories, with error bars."""
    plot.begin(260 if plot.narrow else 320)
    x = plot.over_x()
    plot.reference(plot.axes.axhline)
    for series in plot.series:
        plot.line(x[series.rows], series)


def _band(plot: _Plot) -> None:
    """The first series as a line with its interval as a band, the others as points."""
    plot.begin(260 if plot.narrow else 320)
    x = plot.over_x()
    for series in plot.series:
        if series.number == 0:
            plot.axes.fill_between(x, series.low, series.high, color=series.colour, alpha=0.18, linewidth=0)
            plot.line(x, series, intervals=False)
        else:
            plot.points(x, series.y, series)


def _reliability(plot: _Plot) -> None:
    """Forecast against outcome, both from 0 to 1, with the diagonal of a perfect forecaster."""
    plot.begin(380 if plot.narrow else 480)
    x = plot.over_x()
    plot.axes.grid(axis="x")
    plot.axes.plot([0, 1], [0, 1], color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2)
    counts = plot.numbers("n" if any(column.name == "n" for column in plot.table.columns) else None)
    share = np.nan_to_num(counts) / max(np.nanmax(counts, initial=1.0), 1.0)
    sizes = (5.0 + 9.0 * np.sqrt(share)) ** 2 if np.isfinite(counts).any() else None
    for series in plot.series:
        few = counts[series.rows] < FEW_FORECASTS
        many = replace(series, y=np.where(few, np.nan, series.y))
        plot.line(x[series.rows], many, 32.0 if sizes is None else sizes[series.rows])
        hollow = replace(series, y=np.where(few, series.y, np.nan))
        plot.points(x[series.rows], hollow.y, hollow, 32.0, hollow=True)
    plot.axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _scatter(plot: _Plot) -> None:
    """Points, coloured by series or by the value of a column."""
    chart = plot.chart
    plot.begin(320 if plot.narrow else 420)
    x, tips = plot.numbers(chart.x), plot.words(chart.tip or chart.label)
    plot.axes.yaxis.set_major_locator(plot.round_ticks())
    if chart.log_x:
        x = np.maximum(x, min(x[x > 0], default=1.0))
        plot.log_axis(x)
    else:
        plot.axes.xaxis.set_major_locator(plot.round_ticks())
    shade = plot.numbers(chart.shade)
    colours = _shades(plot, shade) if chart.shade else None
    for series in plot.series:
        at = x[series.rows]
        shown = [
            f"{tips[row]}: {plot.shown(chart.shade, shade[row])}"
            if chart.shade
            else f"{tips[row] or series.name}: {plot.x_label} {plot.shown(chart.x, at[k])}, "
            f"{plot.y_label} {plot.shown(series.column, series.y[k])}"
            for k, row in enumerate(series.rows)
        ]
        plot.intervals(at, series)
        of_series = None if colours is None else [colours[row] for row in series.rows]
        plot.points(at, series.y, series, 24.0 if chart.shade else 48.0, of_series, shown)
    y = plot.numbers(chart.y[0])
    on_front = [] if chart.front is None else [row for row, on in enumerate(plot.table.column(chart.front)) if on]
    order = sorted(on_front, key=lambda row: float(x[row]))
    plot.axes.plot(x[order], y[order], color=SOFT, linestyle=(0, (2, 3)), linewidth=1, zorder=1)
    plot.axes.set(xlabel=plot.x_label, title=plot.y_label)
    plot.axes.grid()
    named = range(len(x)) if len(x) <= FEW_POINTS else order
    _labels(plot, [(x[row], y[row], name) for row, name in enumerate(plot.words(chart.label)) if row in named and name])


def _shades(plot: _Plot, values: FloatArray) -> list[str]:
    """The colour of each value, with a colour bar above the plot."""
    defined = values[np.isfinite(values)]
    low, high = (float(defined.min()), float(defined.max())) if len(defined) else (0.0, 1.0)
    colours = ListedColormap(SHADES)
    scale = ScalarMappable(Normalize(low, high if high > low else low + 1.0), colours)
    heading = plot.heading(str(plot.chart.shade))
    bar = plot.figure.colorbar(scale, ax=plot.axes, location="top", shrink=0.4, aspect=24, anchor=(0.0, 0.0), pad=0.01)
    bar.outline.set_visible(False)
    bar.set_label(printable(heading), loc="left")
    return [to_hex(colour) for colour in scale.to_rgba(values)]


def _labels(plot: _Plot, spots: Sequence[tuple[float, float, str]]) -> None:
    """Names beside, above or below their points where they touch nothing; where there is no room the tips have them."""
    plot.figure.draw_without_rendering()
    place = plot.axes.transData.transform
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in (place((x, y)) for x, y, _ in spots if math.isfinite(y))]
    for x, y, name in spots:
        if not math.isfinite(x) or not math.isfinite(y):
            continue
        shown = shortened(printable(name), 28)
        width, (left, bottom) = 7.6 * len(shown), place((x, y))
        for dx, dy, side in ((9, 0, "left"), (-9, 0, "right"), (0, 13, "center"), (0, -13, "center")):
            start = left + dx - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (start, bottom + dy - 7, start + width, bottom + dy + 7)
            apart = (box[0] >= o[2] or o[0] >= box[2] or box[1] >= o[3] or o[1] >= box[3] for o in taken)
            inside = start >= 0 and box[2] <= plot.width and box[3] <= plot.axes.bbox.y1 + 4
            if inside and all(apart):
                taken.append(box)
                text = plot.axes.annotate(
                    shown, (x, y), (dx, dy), textcoords="offset points", ha=side, va="center",
                    fontweight=plot.weight(name),
                )  # fmt: skip
                text.set_in_layout(False)
                break


def _heatmap(plot: _Plot) -> None:
    """Cells, the darker the larger; each shows its value where there is room."""
    row_column, value_column = plot.chart.y[0], plot.chart.y[-1]
    row_words, values = plot.words(row_column), plot.numbers(value_column)
    names = list(dict.fromkeys(row_words))
    down = [names.index(word) for word in row_words]
    width = (plot.width - 90) / max(len(plot.categories), 1)
    height = min(40.0, max(width, 16.0))
    plot.begin(height * len(names) + 70)
    shares = np.clip(values / max(np.nanmax(values, initial=0.0), 1e-300), 0.0, 1.0)
    for x, y, value, share in zip(plot.places.tolist(), down, values.tolist(), shares.tolist(), strict=True):
        if not math.isfinite(value):
            continue
        bar = plot.axes.bar(x, 0.96, 0.97, y - 0.48, color=SERIES[0], alpha=share)[0]
        of = f"{plot.heading(row_column)} {names[y]}, {plot.x_label} {plot.categories[int(x)]}"
        plot.tipped(bar, f"{of}: {plot.shown(value_column, value)}")
        if width >= 34:
            colour = "#ffffff" if share > 0.55 else INK
            plot.axes.text(x, y, f"{value:.2f}", ha="center", va="center", color=colour)
    plot.columns()
    plot.axes.set_yticks(np.arange(len(names)), [shortened(printable(name), 12) for name in names])
    plot.axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=plot.x_label)
    plot.axes.set_title(printable(plot.chart.y_label or plot.heading(row_column)))


def _waterfall(plot: _Plot) -> None:
    """Steps, each hanging where the one before ended; what has no start is a whole."""
    chart = plot.chart
    before, after, low, high = (plot.numbers(name) for name in (chart.y[0], chart.y[1], chart.low, chart.high))
    names, column = plot.words(chart.x), chart.y[1]
    plot.begin_rows(len(names))
    ends = np.concatenate([before, after, low, high])
    ends = ends[np.isfinite(ends)]
    left, right = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
    room = 0.06 * (right - left) or 0.5
    for k, name in enumerate(names):
        whole = not math.isfinite(before[k])
        start = left - room if whole else before[k]
        change = after[k] - start
        colour = SOFT if whole else SERIES[0 if change > 0 else 1]
        at = k + plot.drop
        bar = plot.axes.barh(at, change, 16.0 / plot.row, start, color=colour, alpha=0.55 if whole else 1.0)[0]
        end = plot.shown(column, after[k])
        shown = end if whole else f"{'+' if change > 0 else ''}{plot.shown(column, change)}"
        plot.tipped(bar, f"{name}: {shown}" + ("" if whole else f", from {plot.shown(column, before[k])} to {end}"))
        if plot.narrow:
            plot.axes.annotate(shown, (1.0, k - 0.5), xycoords=("axes fraction", "data"), va="top", ha="right")
        else:
            end_of_bar = max(v for v in (start, after[k], low[k], high[k]) if math.isfinite(v))
            plot.axes.annotate(shown, (end_of_bar, k), (6, 0), textcoords="offset points", va="center")
        if k:
            join = [at - 1, at]
            plot.axes.plot([after[k - 1]] * 2, join, color=SOFT, linestyle=(0, (2, 3)), linewidth=1, zorder=0.5)
    plot.axes.hlines(np.arange(len(names)) + plot.drop, low, high, colors=INK, linewidth=1.4, zorder=4)
    plot.rows(names)
    plot.axes.set_xlim(left - room, right + room)


_DRAW: dict[ChartKind, Callable[[_Plot], None]] = {
    "bars": _bars,
    "counts": _counts,
    "histograms": _histograms,
    "lines": _lines,
    "band": _band,
    "reliability": _reliability,
    "scatter": _scatter,
    "heatmap": _heatmap,
    "waterfall": _waterfall,
}
