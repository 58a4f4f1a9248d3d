"""Charts in two directions: lines, reliability diagrams, scatters, heat maps and timelines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hybrid_sim.core.files import shortened
from hybrid_sim.report.svg import (
    LETTER,
    N_SHADES,
    WIDTH,
    Axis,
    category_axis,
    drawing,
    element,
    horizontal_axis,
    legend,
    line,
    marker,
    rectangle,
    series_class,
    shade_class,
    text,
    vertical_axis,
)

LEFT, RIGHT = 56.0, WIDTH - 14
SQUARE = 420.0
"""Side of a plot whose axes have one unit."""

Values = Sequence[float | None]


@dataclass(frozen=True)
class Line:
    """One series of points in order, with intervals where there are any; not `joined`: points alone.

    `sizes`, one per point, from 0 to 1, say how large the points are drawn.
    """

    name: str
    x: Values
    y: Values
    low: Values = ()
    high: Values = ()
    joined: bool = True
    sizes: Sequence[float] = ()


def lines_chart(
    label: str,
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    categories: Sequence[str] = (),
    reference: float | None = None,
) -> Markup:
    """Lines over numbers, or over `categories`, whose places 0, 1, ... are then the values of x."""
    marks, top = legend([one.name for one in lines], LEFT, 14, RIGHT)
    top, bottom = top + 18, top + 278
    ys = [value for one in lines for value in [*one.y, *one.low, *one.high]]
    y_axis = Axis.around([*ys, reference], bottom, top)
    if categories:
        x_axis = Axis(-0.5, len(categories) - 0.5, LEFT, RIGHT)
        marks += category_axis(categories, x_axis, bottom, x_title)
    else:
        x_axis = Axis.around([value for one in lines for value in one.x], LEFT, RIGHT, room=0.03)
        marks += horizontal_axis(x_axis, top, bottom, x_title)
    marks += vertical_axis(y_axis, LEFT, RIGHT, y_title)
    if reference is not None:
        marks.append(line(LEFT, y_axis.at(reference), RIGHT, y_axis.at(reference), "reference"))
    for number, one in enumerate(lines):
        marks += _drawn(one, number, x_axis, y_axis, categories)
    return drawing(label, bottom + 46, marks)


def reliability_chart(label: str, lines: Sequence[Line], x_title: str, y_title: str) -> Markup:
    """Forecast against outcome, both from 0 to 1, with the diagonal of a perfect forecaster."""
    marks, top = legend([one.name for one in lines], LEFT, 14, RIGHT)
    top = top + 18
    bottom = top + SQUARE
    x_axis, y_axis = Axis(0.0, 1.0, LEFT, LEFT + SQUARE), Axis(0.0, 1.0, bottom, top)
    marks += horizontal_axis(x_axis, top, bottom, x_title) + vertical_axis(y_axis, LEFT, LEFT + SQUARE, y_title)
    marks.append(line(x_axis.at(0), y_axis.at(0), x_axis.at(1), y_axis.at(1), "reference"))
    for number, one in enumerate(lines):
        marks += _drawn(one, number, x_axis, y_axis, ())
    return drawing(label, bottom + 46, marks)


def _drawn(one: Line, number: int, x_axis: Axis, y_axis: Axis, categories: Sequence[str]) -> list[Markup]:
    colour = series_class(number)
    found = [place for place in range(len(one.x)) if _known(one.x[place]) and _known(one.y[place])]
    at = {p: (x_axis.at(float(one.x[p] or 0.0)), y_axis.at(float(one.y[p] or 0.0))) for p in found}
    marks = []
    if one.joined and len(at) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at.values())
        marks.append(element("polyline", points=path, class_=f"path {colour}"))
    for place, (x, y) in at.items():
        low, high = (part[place] if part else None for part in (one.low, one.high))
        where = categories[place] if categories else f"{one.x[place]:g}"
        tip = f"{one.name}, {where}: {one.y[place]:.4g}" if one.name else f"{where}: {one.y[place]:.4g}"
        if low is not None and high is not None and _known(low) and _known(high):
            marks.append(line(x, y_axis.at(low), x, y_axis.at(high), f"whisker thin {colour}"))
            tip += f" [{low:.4g}, {high:.4g}]"
        size = 2.5 + 4.5 * math.sqrt(one.sizes[place]) if one.sizes else 3.6
        marks.append(marker(number, x, y, size, colour, tip))
    return marks


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


@dataclass(frozen=True)
class Point:
    """A point of a scatter: `tip` is told where it is pointed at, `name` drawn beside it, `shade` is a value.

    `low` and `high` are the interval of `y`, where there is one.
    """

    x: float
    y: float
    tip: str
    name: str = ""
    shade: float | None = None
    series: int = 0
    low: float | None = None
    high: float | None = None


def scatter_chart(
    label: str,
    points: Sequence[Point],
    x_title: str,
    y_title: str,
    *,
    shades: tuple[float, float, str] | None = None,
    path: Sequence[tuple[float, float]] = (),
    series: Sequence[str] = (),
) -> Markup:
    """Points, coloured by series or, with `shades` (low, high, meaning), by value; `path` is a line to draw behind."""
    marks, top = _shade_legend(*shades) if shades else legend(series, LEFT, 14, RIGHT)
    top = top + 18
    bottom = top + 380
    x_axis = Axis.around([point.x for point in points], LEFT, RIGHT)
    y_axis = Axis.around([value for point in points for value in (point.y, point.low, point.high)], bottom, top)
    marks += horizontal_axis(x_axis, top, bottom, x_title) + vertical_axis(y_axis, LEFT, RIGHT, y_title)
    if path:
        corners = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in path)
        marks.append(element("polyline", points=corners, class_="link"))
    for point in points:
        x, y = x_axis.at(point.x), y_axis.at(point.y)
        colour = series_class(point.series)
        if shades and point.shade is not None:
            colour = f"dot {shade_class(point.shade, shades[0], shades[1])}"
        if point.low is not None and point.high is not None:
            marks.append(line(x, y_axis.at(point.low), x, y_axis.at(point.high), f"whisker thin {colour}"))
        marks.append(marker(point.series, x, y, 3.6 if shades else 5.0, colour, point.tip))
    marks += _names([(x_axis.at(point.x), y_axis.at(point.y), point.name) for point in points])
    return drawing(label, bottom + 46, marks)


def _names(spots: Sequence[tuple[float, float, str]]) -> list[Markup]:
    """Names beside, above or below their points where they touch nothing; where there is no room the tips have them."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in spots]
    marks = []
    for own, (x, y, name) in enumerate(spots):
        if not name:
            continue
        shown = shortened(name, 28)
        width = LETTER * len(shown)
        for start, base, anchor, at in (
            (x + 9, y + 4, "start", x + 9), (x - 9 - width, y + 4, "end", x - 9),
            (x - width / 2, y - 10, "middle", x), (x - width / 2, y + 19, "middle", x),
        ):  # fmt: skip
            box = (start, base - 10, start + width, base + 3)
            others = (other for place, other in enumerate(taken) if place != own)
            if start >= LEFT and box[2] <= WIDTH - 4 and not any(_overlap(box, other) for other in others):
                taken.append(box)
                marks.append(text(at, base, shown, anchor))
                break
    return marks


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shade_legend(low: float, high: float, meaning: str) -> tuple[list[Markup], float]:
    width, first = 26.0, LEFT + 44
    marks = [rectangle(first + width * step, 8, width, 12, f"q{step}") for step in range(N_SHADES)]
    end = first + width * N_SHADES
    return [
        *marks,
        text(first - 6, 18, f"{low:.3g}", "end"),
        text(end + 6, 18, f"{high:.3g}"),
        text(end + 48, 18, meaning),
    ], 34.0


def heatmap_chart(
    label: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Values],
    row_title: str,
    column_title: str,
    *,
    decimals: int = 2,
) -> Markup:
    """A table of cells, the darker the larger; each cell shows its value where there is room."""
    left, top = 84.0, 26.0
    width = min(64.0, (WIDTH - left - 20) / max(len(columns), 1))
    height = min(40.0, max(width, 16.0))
    most = max((value for row in values for value in row if value is not None and math.isfinite(value)), default=1.0)
    marks = [text(8, 14, row_title, "start", "t title")]
    for r, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = top + r * height
        marks.append(text(left - 8, y + height / 2 + 4, shortened(name, 11), "end", "t tick"))
        for c, value in enumerate(row):
            if value is None or not math.isfinite(value):
                continue
            x, share = left + c * width, value / most if most > 0 else 0.0
            cell = element(
                "rect",
                element("title", f"{row_title} {name}, {column_title} {columns[c]}: {value:.{decimals + 1}f}"),
                x=x, y=y, width=width - 1, height=height - 1, class_="cell", fill_opacity=max(share, 0.0),
            )  # fmt: skip
            marks.append(cell)
            if width >= 34 and len(rows) <= 24:
                ink = "t number strong" if share > 0.55 else "t number"
                marks.append(text(x + width / 2, y + height / 2 + 4, f"{value:.{decimals}f}", "middle", ink))
    bottom = top + len(rows) * height
    places = Axis(-0.5, max(len(columns), 1) - 0.5, left, left + width * max(len(columns), 1))
    return drawing(label, bottom + 46, [*marks, *category_axis(columns, places, bottom, column_title)])


@dataclass(frozen=True)
class Moment:
    """A point of a timeline: where, what is written above and below it, and what it tells."""

    at: float
    above: str
    below: str
    tip: str


def timeline_chart(label: str, moments: Sequence[Moment]) -> Markup:
    """Moments along a line; labels are left out where they would touch the one before, the tips stay."""
    axis = Axis.around([moment.at for moment in moments], 60.0, WIDTH - 60)
    marks, last = [line(axis.start, 44, axis.end, 44, "path s1")], -math.inf
    for moment in moments:
        x = axis.at(moment.at)
        marks.append(marker(0, x, 44, 6.5, "s1", moment.tip))
        if x - last >= 96:
            last = x
            marks += [text(x, 26, shortened(moment.above, 15), "middle"),
                      text(x, 68, shortened(moment.below, 15), "middle", "t tick")]  # fmt: skip
    return drawing(label, 84, marks)
