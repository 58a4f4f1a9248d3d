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
from itertools import islice
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
from matplotlib.ticker import MaxNLocator

from hybrid_sim.core.document import Cell, Chart, ChartKind, Table
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import printable, shortened, write_whole
from hybrid_sim.core.types import FloatArray
from hybrid_sim.report.svg import PALETTE, svg_element

SERIES = [colour for name, colour in PALETTE.items() if name.startswith("s") and name != "soft"]
SHADES = [colour for name, colour in PALETTE.items() if name.startswith("q")]
MARKERS = "osD^vPX*"
INK, SOFT, LINE = PALETTE["ink"], PALETTE["soft"], PALETTE["line"]

WIDTH, ROW = 720.0, 24.0
"""Width of a chart and height of a row, in points; a page scales the whole."""

MAX_LABEL = 34
"""Letters of a category that are drawn; the table and the tip have all of it."""

FEW_POINTS = 12
"""Up to so many points of a scatter all have their label, else those of the front."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "hybrid-sim", "text.parse_math": False, "font.size": 12,
    "text.color": INK, "axes.labelcolor": SOFT, "axes.titlecolor": SOFT, "axes.titlelocation": "left",
    "axes.titlesize": 12, "axes.edgecolor": LINE, "axes.axisbelow": True, "grid.color": LINE,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.spines.bottom": False,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "xtick.labelsize": 11, "ytick.labelsize": 12, "xtick.major.size": 0, "ytick.major.size": 0,
    "xtick.minor.size": 0, "legend.frameon": False, "legend.fontsize": 12, "axes.formatter.useoffset": False,
    "axes.unicode_minus": False,
}  # fmt: skip


def inline_svg(chart: Chart, table: Table, prefix: str) -> Markup:
    """The chart as an SVG element of a page; its ids begin with `prefix`, which is unique in the page."""
    plot = _plot(chart, table)
    return svg_element(_saved(plot.figure, "svg"), chart.title, prefix, plot.tips)


def save_chart(chart: Chart, table: Table, path: Path) -> None:
    """Write the chart as a PNG or SVG file; equal charts give equal files.

    Raises:
        SettingsError: the suffix is neither .png nor .svg, or `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise SettingsError(f"{path}: a figure is saved as .png or .svg; change the suffix")
    plot = _plot(chart, table)
    plot.figure.suptitle(printable(chart.title), x=0.01, ha="left", fontsize=12)
    plot.figure.supxlabel(printable(chart.caption), x=0.01, ha="left", fontsize=10, color=SOFT)
    plot.figure.patch.set(visible=True, facecolor="white")
    write_whole(path, _saved(plot.figure, suffix[1:]))


def _plot(chart: Chart, table: Table) -> _Plot:
    with _style():
        data = _Data(chart, table)
        plot = _DRAW[chart.kind](data)
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

    name: str
    column: str
    rows: list[int]
    y: FloatArray
    low: FloatArray
    high: FloatArray
    tips: list[str]


@dataclass(frozen=True)
class _Data:
    """A chart and its table, whose columns are read as numbers or as text."""

    chart: Chart
    table: Table

    def numbers(self, name: str | None) -> FloatArray:
        """A column, NaN where a cell is no finite number; all NaN for None."""
        cells: list[Cell] = [None] * len(self.table.rows) if name is None else self.table.column(name)
        return np.array([_number(cell) for cell in cells], dtype=float)

    def words(self, name: str | None) -> list[str]:
        """A column as text; empty for None."""
        return [""] * len(self.table.rows) if name is None else [_word(cell) for cell in self.table.column(name)]

    def heading(self, name: str) -> str:
        return next(column.heading for column in self.table.columns if column.name == name)

    def shown(self, name: str, value: float) -> str:
        """A number of a column, with its decimals."""
        decimals = next(column.decimals for column in self.table.columns if column.name == name)
        return f"{value:,g}" if decimals is None else f"{value:,.{decimals}f}"

    @property
    def x_label(self) -> str:
        return printable(self.chart.x_label or self.heading(self.chart.x))

    @property
    def y_label(self) -> str:
        return printable(self.chart.y_label or self.heading(self.chart.y[0]))

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
        chart, y = self.chart, self.chart.y
        if chart.series is None:
            rows = list(range(len(self.table.rows)))
            bounds = [(chart.low, chart.high), *[(None, None)] * (len(y) - 1)]
            parts = [(self.heading(name), rows, name, *ends) for name, ends in zip(y, bounds, strict=True)]
        else:
            by_name: dict[str, list[int]] = {}
            for row, name in enumerate(self.words(chart.series)):
                by_name.setdefault(name, []).append(row)
            parts = [(name, rows, y[0], chart.low, chart.high) for name, rows in by_name.items()]
        return [self._series_of(*part) for part in islice(parts, len(SERIES))]

    def _series_of(self, name: str, rows: list[int], column: str, low: str | None, high: str | None) -> _Series:
        y, lows, highs = (self.numbers(of)[rows] for of in (column, low, high))
        words, tips = self.words(self.chart.x), []
        for k, row in enumerate(rows):
            tip = ", ".join(part for part in (words[row], name) if part)
            if np.isfinite(y[k]):
                tip += f": {self.shown(column, y[k])}"
                if np.isfinite(lows[k]) and np.isfinite(highs[k]):
                    tip += f" [{self.shown(column, lows[k])}, {self.shown(column, highs[k])}]"
            tips.append(tip)
        return _Series(name, column, rows, y, lows, highs, tips)


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float | np.number) and np.isfinite(cell) else math.nan


def _word(cell: Cell) -> str:
    return "–" if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell)


class _Plot:
    """A figure with one pair of axes, and the texts that its marks show when they are pointed at."""

    def __init__(self, data: _Data, height: float) -> None:
        self.data = data
        n_legend_rows = self._legend_rows()
        self.figure = Figure(figsize=(WIDTH / 72, (height + 22 * n_legend_rows) / 72), dpi=72, layout="constrained")
        FigureCanvasAgg(self.figure)
        self.figure.patch.set_visible(False)
        self.axes = self.figure.add_subplot()
        self.axes.patch.set_visible(False)
        self.tips: dict[str, list[str]] = {}

    def _legend_rows(self) -> int:
        names = [shortened(printable(series.name), 40) for series in self.data.series]
        self.n_legend_columns = max(1, min(len(names), int(WIDTH / (7.5 * max(map(len, names), default=1) + 50))))
        return math.ceil(len(names) / self.n_legend_columns) if len(names) > 1 else 0

    def tipped(self, artist: Artist, *tips: str) -> None:
        """Let the marks of an artist, in their order, show these texts."""
        name = f"tip{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = list(tips)

    def points(
        self,
        x: FloatArray,
        y: FloatArray,
        number: int,
        tips: Sequence[str],
        size: float | FloatArray = 42.0,
        colours: Sequence[str] | None = None,
    ) -> None:
        """Markers of a series, `size` in square points; those that are undefined are left out."""
        there = np.flatnonzero(np.isfinite(x) & np.isfinite(y)).tolist()
        sizes = size[there] if isinstance(size, np.ndarray) else size
        colour = _colour(number) if colours is None else [colours[row] for row in there]
        marker = MARKERS[number % len(MARKERS)]
        drawn = self.axes.scatter(
            x[there], y[there], sizes, colour, marker=marker, zorder=3, linewidths=0, clip_on=False
        )
        self.tipped(drawn, *(tips[row] for row in there))

    def intervals(self, places: FloatArray, series: _Series, number: int, across: bool = False) -> None:
        """Error bars of a series, upright or `across`; those that are undefined are left out."""
        there = np.isfinite(places) & np.isfinite(series.low) & np.isfinite(series.high)
        if there.any():
            draw, width, alpha = (self.axes.hlines, 2.4, 1.0) if across else (self.axes.vlines, 1.4, 0.55)
            ends = series.low[there], series.high[there]
            draw(places[there], *ends, colors=_colour(number), linewidth=width, alpha=alpha, zorder=2)

    def legend(self) -> None:
        """Names of the series, with their markers, above the plot; nothing for one series."""
        names = [shortened(printable(series.name), 40) for series in self.data.series]
        if len(names) < 2:
            return
        marks = [
            mpl.lines.Line2D([], [], color=_colour(n), marker=MARKERS[n % len(MARKERS)], linestyle="", markersize=7)
            for n in range(len(names))
        ]
        self.figure.legend(
            marks, names, loc="outside upper left", ncols=self.n_legend_columns, handletextpad=0.1, columnspacing=1.2
        )

    def rows(self, names: Sequence[str]) -> None:
        """Categories from top to bottom, at the heights 0, 1, ..."""
        labels = [shortened(printable(name), MAX_LABEL) for name in names]
        self.axes.set_yticks(np.arange(len(names)), labels, color=INK)
        self.axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
        self.axes.set_xlabel(self.data.y_label)
        self.axes.grid(axis="x")
        self.axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))

    def columns(self, names: Sequence[str]) -> None:
        """Categories from left to right, at the places 0, 1, ...; every so many where there is no room for all."""
        labels = [shortened(printable(name), 12) for name in names]
        every = max(1, math.ceil(max(map(len, labels), default=1) * 8 * len(names) / WIDTH))
        places = np.arange(len(names))[::every]
        self.axes.set_xticks(places, labels[::every])
        self.axes.set_xlim(-0.5, max(len(names), 1) - 0.5)

    def over_x(self) -> FloatArray:
        """Label the axes of a chart over `x`, numbers or categories, and give the place of each row."""
        numbers = self.data.numbers(self.data.chart.x)
        self.axes.set_xlabel(self.data.x_label)
        self.axes.set_title(self.data.y_label)
        self.axes.grid(axis="y")
        y = np.concatenate([series.y[np.isfinite(series.y)] for series in self.data.series] or [np.zeros(0)])
        if (y == np.round(y)).all():
            self.axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        if len(numbers) and np.isfinite(numbers).all():
            whole = bool((numbers == np.round(numbers)).all())
            self.axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10], integer=whole))
            return numbers
        self.columns(self.data.categories)
        return self.data.places

    def reference(self, vertical: bool) -> None:
        """A dashed line at the value to compare with."""
        value = self.data.chart.reference
        if value is not None:
            draw = self.axes.axvline if vertical else self.axes.axhline
            draw(value, color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1.5)


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _bars(data: _Data) -> _Plot:
    """A row per category with a point and its error bar for each series."""
    names = data.categories
    there = np.zeros((len(data.series), max(len(names), 1)), dtype=bool)
    for number, series in enumerate(data.series):
        there[number, data.places[series.rows].astype(int)] = np.isfinite(series.y)
    spread = ROW + 7.0 * max(int(there.sum(axis=0).max(initial=1)) - 1, 0)
    plot = _Plot(data, spread * len(names) + 52)
    plot.reference(vertical=True)
    for number, series in enumerate(data.series):
        place = data.places[series.rows].astype(int)
        above, together = there[:number].sum(axis=0)[place], there.sum(axis=0)[place]
        heights = place + 9.0 / spread * (above - (together - 1) / 2)
        plot.intervals(heights, series, number, across=True)
        plot.points(series.y, heights, number, series.tips)
        if len(data.series) == 1:
            _at_the_right(plot, series.column, series.y, heights)
    plot.rows(names)
    plot.legend()
    return plot


def _at_the_right(plot: _Plot, column: str, values: FloatArray, heights: FloatArray) -> None:
    for value, height in zip(values.tolist(), heights.tolist(), strict=True):
        if math.isfinite(value):
            at = (1.01, height)
            plot.axes.annotate(
                plot.data.shown(column, value), at, xycoords=("axes fraction", "data"), va="center", fontsize=11
            )


def _counts(data: _Data) -> _Plot:
    """A horizontal bar from zero per category."""
    plot = _Plot(data, ROW * len(data.table.rows) + 52)
    (series,) = data.series
    values, names = np.nan_to_num(series.y), data.words(data.chart.x)
    heights = np.arange(len(values), dtype=float)
    bars = plot.axes.barh(heights, values, 0.66, color=_colour(0))
    for name, value, bar in zip(names, values, bars, strict=True):
        plot.tipped(bar, f"{name}: {data.shown(series.column, value)}")
    _at_the_right(plot, series.column, series.y, heights)
    plot.rows(names)
    return plot


def _histograms(data: _Data) -> _Plot:
    """Upright bars side by side, one group per category."""
    plot = _Plot(data, 300)
    plot.over_x()
    plot.columns(data.categories)
    width = 0.8 / max(len(data.series), 1)
    for number, series in enumerate(data.series):
        places = data.places[series.rows] - 0.4 + width * (number + 0.5)
        bars = plot.axes.bar(places, np.nan_to_num(series.y), width * 0.94, color=_colour(number))
        for tip, bar in zip(series.tips, bars, strict=True):
            plot.tipped(bar, tip)
    plot.legend()
    return plot


def _lines(data: _Data) -> _Plot:
    """A line per series over numbers or categories, with error bars."""
    plot = _Plot(data, 320)
    x = plot.over_x()
    plot.reference(vertical=False)
    for number, series in enumerate(data.series):
        _line(plot, number, series, x[series.rows])
    plot.legend()
    return plot


def _line(plot: _Plot, number: int, series: _Series, x: FloatArray, size: float | FloatArray = 32.0) -> None:
    plot.axes.plot(x, series.y, color=_colour(number), linewidth=1.8)
    plot.intervals(x, series, number)
    plot.points(x, series.y, number, series.tips, size)


def _band(data: _Data) -> _Plot:
    """The first series as a line with its interval as a band, the others as points."""
    plot = _Plot(data, 320)
    x = plot.over_x()
    nothing = np.full(len(x), np.nan)
    for number, series in enumerate(data.series):
        if number == 0:
            plot.axes.fill_between(x, series.low, series.high, color=_colour(0), alpha=0.18, linewidth=0)
            _line(plot, 0, replace(series, low=nothing, high=nothing), x)
        else:
            plot.points(x, series.y, number, series.tips)
    plot.legend()
    return plot


def _reliability(data: _Data) -> _Plot:
    """Forecast against outcome, both from 0 to 1, with the diagonal of a perfect forecaster."""
    plot = _Plot(data, 500)
    x = plot.over_x()
    plot.axes.grid(axis="x")
    plot.axes.plot([0, 1], [0, 1], color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2)
    counts = data.numbers("n" if any(column.name == "n" for column in data.table.columns) else None)
    share = np.nan_to_num(counts) / max(np.nanmax(counts, initial=1.0), 1.0)
    sizes = (5.0 + 9.0 * np.sqrt(share)) ** 2 if np.isfinite(counts).any() else None
    for number, series in enumerate(data.series):
        _line(plot, number, series, x[series.rows], 32.0 if sizes is None else sizes[series.rows])
    plot.axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", anchor="W")
    plot.legend()
    return plot


def _scatter(data: _Data) -> _Plot:
    """Points, coloured by series or by the value of a column."""
    chart, plot = data.chart, _Plot(data, 420)
    x, tips = data.numbers(chart.x), data.words(chart.tip or chart.label)
    if chart.log_x:
        x = np.maximum(x, min(x[x > 0], default=1.0))
        plot.axes.set_xscale("log")
    shade = data.numbers(chart.shade)
    colours = _shades(plot, shade) if chart.shade else None
    for number, series in enumerate(data.series):
        at = x[series.rows]
        shown = (
            f"{tips[row]}: {data.shown(chart.shade, shade[row])}"
            if chart.shade
            else f"{tips[row] or series.name}: {data.x_label} {at[k]:.4g}, {data.y_label} {series.y[k]:.4g}"
            for k, row in enumerate(series.rows)
        )
        plot.intervals(at, series, number)
        of_series = None if colours is None else [colours[row] for row in series.rows]
        plot.points(at, series.y, number, list(shown), 24.0 if chart.shade else 48.0, of_series)
    y = data.numbers(chart.y[0])
    on_front = [] if chart.front is None else [row for row, on in enumerate(data.table.column(chart.front)) if on]
    order = sorted(on_front, key=lambda row: float(x[row]))
    plot.axes.plot(x[order], y[order], color=SOFT, linestyle=(0, (2, 3)), linewidth=1, zorder=1)
    plot.axes.set(xlabel=data.x_label, title=data.y_label)
    plot.axes.grid()
    plot.legend()
    named = range(len(x)) if len(x) <= FEW_POINTS else order
    _labels(plot, [(x[row], y[row], name) for row, name in enumerate(data.words(chart.label)) if row in named and name])
    return plot


def _shades(plot: _Plot, values: FloatArray) -> list[str]:
    """The colour of each value, with a colour bar above the plot."""
    defined = values[np.isfinite(values)]
    low, high = (float(defined.min()), float(defined.max())) if len(defined) else (0.0, 1.0)
    colours = ListedColormap(SHADES)
    scale = ScalarMappable(Normalize(low, high if high > low else low + 1.0), colours)
    heading = plot.data.heading(str(plot.data.chart.shade))
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
        width, (left, bottom) = 7.2 * len(shown), place((x, y))
        for dx, dy, side in ((9, 0, "left"), (-9, 0, "right"), (0, 13, "center"), (0, -13, "center")):
            start = left + dx - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (start, bottom + dy - 7, start + width, bottom + dy + 7)
            if start >= 0 and box[2] <= WIDTH and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                text = plot.axes.annotate(
                    shown, (x, y), (dx, dy), textcoords="offset points", ha=side, va="center", fontsize=11
                )
                text.set_in_layout(False)
                break


Box = tuple[float, float, float, float]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _heatmap(data: _Data) -> _Plot:
    """Cells, the darker the larger; each shows its value where there is room."""
    row_column, value_column = data.chart.y[0], data.chart.y[-1]
    row_words, values = data.words(row_column), data.numbers(value_column)
    names = list(dict.fromkeys(row_words))
    across, down = data.places, np.array([names.index(word) for word in row_words], dtype=float)
    width = min(64.0, (WIDTH - 90) / max(len(data.categories), 1))
    height = min(40.0, max(width, 16.0))
    plot = _Plot(replace(data, chart=replace(data.chart, y=(value_column,))), height * len(names) + 70)
    shares = np.clip(values / max(np.nanmax(values, initial=0.0), 1e-300), 0.0, 1.0)
    for x, y, value, share in zip(across.tolist(), down.tolist(), values.tolist(), shares.tolist(), strict=True):
        if not math.isfinite(value):
            continue
        bar = plot.axes.bar(x, 0.96, 0.97, y - 0.48, color=_colour(0), alpha=share)[0]
        of = f"{data.heading(row_column)} {names[int(y)]}, {data.x_label} {data.categories[int(x)]}"
        plot.tipped(bar, f"{of}: {data.shown(value_column, value)}")
        if width >= 34:
            colour = "#ffffff" if share > 0.55 else INK
            plot.axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=11, color=colour)
    plot.columns(data.categories)
    plot.axes.set_yticks(np.arange(len(names)), [shortened(printable(name), 12) for name in names])
    plot.axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=data.x_label)
    plot.axes.set_title(printable(data.chart.y_label or data.heading(row_column)))
    plot.axes.set_box_aspect(height * max(len(names), 1) / (width * max(len(data.categories), 1)))
    plot.axes.set_anchor("W")
    return plot


def _waterfall(data: _Data) -> _Plot:
    """Steps, each hanging where the one before ended; what has no start is a whole."""
    chart = data.chart
    before, after, low, high = (data.numbers(name) for name in (chart.y[0], chart.y[1], chart.low, chart.high))
    names, column = data.words(chart.x), chart.y[1]
    plot = _Plot(replace(data, chart=replace(chart, y=(column,))), ROW * len(names) + 52)
    ends = np.concatenate([before, after, low, high])
    ends = ends[np.isfinite(ends)]
    left, right = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
    room = 0.06 * (right - left) or 0.5
    heights = np.arange(len(names), dtype=float)
    for k, name in enumerate(names):
        whole = not math.isfinite(before[k])
        start = left - room if whole else before[k]
        change = after[k] - start
        colour = SOFT if whole else _colour(1) if change > 0 else _colour(0)
        bar = plot.axes.barh(k, change, 0.66, start, color=colour, alpha=0.55 if whole else 1.0)[0]
        end = data.shown(column, after[k])
        shown = end if whole else f"{'+' if change > 0 else ''}{data.shown(column, change)}"
        plot.tipped(bar, f"{name}: {shown}" + ("" if whole else f", from {data.shown(column, before[k])} to {end}"))
        at = (max(v for v in (start, after[k], low[k], high[k]) if math.isfinite(v)), k)
        plot.axes.annotate(shown, at, (6, 0), textcoords="offset points", va="center", fontsize=11)
        if k:
            plot.axes.plot([after[k - 1]] * 2, [k - 1, k], color=SOFT, linestyle=(0, (2, 3)), linewidth=1, zorder=0.5)
    plot.axes.hlines(heights, low, high, colors=INK, linewidth=1.4, zorder=4)
    plot.rows(names)
    plot.axes.set_xlim(left - room, right + room)
    return plot


_DRAW: dict[ChartKind, Callable[[_Data], _Plot]] = {
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
