"""Charts of amounts by category: points with intervals, bars, histograms side by side, waterfalls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hybrid_sim.core.files import shortened
from hybrid_sim.report.svg import (
    LETTER,
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
    text,
    vertical_axis,
)

ROW = 24.0
"""Height of a row."""

MAX_LABEL = 34
"""Letters of a category's name that are drawn; the tip has all of it."""

Values = Sequence[float | None]


@dataclass(frozen=True)
class Amounts:
    """One series: an amount per category (None: not known), with intervals where there are any."""

    name: str
    values: Values
    low: Values = ()
    high: Values = ()

    def interval(self, place: int) -> tuple[float, float] | None:
        """The interval of one amount."""
        if not (self.low and self.high):
            return None
        low, high = self.low[place], self.high[place]
        return None if low is None or high is None else (low, high)

    @property
    def all(self) -> list[float | None]:
        """All numbers, for an axis."""
        return [*self.values, *self.low, *self.high]


def points_chart(
    label: str,
    names: Sequence[str],
    series: Sequence[Amounts],
    title: str,
    *,
    reference: float | None = None,
    decimals: int = 4,
) -> Markup:
    """A row per category with a point for each series and a line for its interval; the axis need not begin at zero."""
    left = _label_room(names)
    right = WIDTH - 70 if len(series) == 1 else WIDTH - 16
    marks, top = legend([one.name for one in series], left, 14, WIDTH)
    there = [[n for n, one in enumerate(series) if one.values[place] is not None] for place in range(len(names))]
    spread = ROW + 6.0 * (max(map(len, there), default=1) - 1)
    bottom = top + spread * len(names) + 4
    axis = Axis.around([value for one in series for value in [*one.all, reference]], left, right)
    marks += horizontal_axis(axis, top, bottom, title)
    if reference is not None:
        marks.append(line(axis.at(reference), top, axis.at(reference), bottom, "reference"))
    for place, name in enumerate(names):
        middle = top + spread * (place + 0.5)
        marks.append(_name(name, left, middle))
        for position, number in enumerate(there[place]):
            height = middle + 7.0 * (position - (len(there[place]) - 1) / 2)
            marks += _point(axis, height, series[number], place, number, name, decimals)
        value = series[0].values[place] if len(series) == 1 else None
        if value is not None and math.isfinite(value):
            marks.append(text(WIDTH - 4, middle + 4, f"{value:.{decimals}f}", "end", "t number"))
    return drawing(label, bottom + 46, marks)


def _point(
    axis: Axis, height: float, series: Amounts, place: int, number: int, name: str, decimals: int
) -> list[Markup]:
    value = series.values[place]
    if value is None or not math.isfinite(value):
        return []
    colour, marks, tip = series_class(number), [], f"{name}, {series.name}: {value:.{decimals}f}"
    interval = series.interval(place)
    if interval is not None:
        marks.append(line(axis.at(interval[0]), height, axis.at(interval[1]), height, f"whisker {colour}"))
        tip += f" [{interval[0]:.{decimals}f}, {interval[1]:.{decimals}f}]"
    return [*marks, marker(number, axis.at(value), height, 4.5, colour, tip)]


def bars_chart(label: str, names: Sequence[str], values: Values, title: str, *, decimals: int = 0) -> Markup:
    """A horizontal bar from zero per category."""
    left, top = _label_room(names), 8.0
    bottom = top + ROW * len(names) + 4
    axis = Axis.around(values, left, WIDTH - 80, zero=True, room=0.02)
    marks = horizontal_axis(axis, top, bottom, title)
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        middle = top + ROW * (place + 0.5)
        marks.append(_name(name, left, middle))
        if value is None or not math.isfinite(value):
            continue
        shown = f"{value:,.{decimals}f}"
        start, end = sorted((axis.at(0.0), axis.at(value)))
        marks.append(rectangle(start, middle - 8, end - start, 16, "s1", f"{name}: {shown}"))
        marks.append(text(end + 6, middle + 4, shown, "start", "t number"))
    return drawing(label, bottom + 46, marks)


def histograms_chart(
    label: str, levels: Sequence[str], series: Sequence[Amounts], title: str, x_title: str, *, decimals: int = 3
) -> Markup:
    """Upright bars side by side, one group per level."""
    left, right = 56.0, WIDTH - 12
    marks, top = legend([one.name for one in series], left, 14, right)
    top, bottom = top + 18, top + 248
    axis = Axis.around([value for one in series for value in one.all], bottom, top, zero=True)
    marks += vertical_axis(axis, left, right, title)
    places = Axis(-0.5, max(len(levels), 1) - 0.5, left, right)
    marks += category_axis(levels, places, bottom, x_title)
    room = (right - left) / max(len(levels), 1) * 0.78
    for number, one in enumerate(series):
        width = room / len(series)
        for place, value in enumerate(one.values):
            if value is None or not math.isfinite(value):
                continue
            start = places.at(place) - room / 2 + number * width
            tip = f"{levels[place]}, {one.name}: {value:.{decimals}f}"
            height = axis.at(0.0) - axis.at(value)
            marks.append(
                rectangle(start + 0.5, axis.at(max(value, 0.0)), width - 1, abs(height), series_class(number), tip)
            )
            if (interval := one.interval(place)) is not None:
                x = start + width / 2
                marks.append(line(x, axis.at(interval[0]), x, axis.at(interval[1]), "error"))
    return drawing(label, bottom + 46, marks)


@dataclass(frozen=True)
class Step:
    """One step of a waterfall: from where the step before ended, by `amount`, perhaps with its interval."""

    name: str
    amount: float
    low: float | None = None
    high: float | None = None


def waterfall_chart(
    label: str, start: tuple[str, float], steps: Sequence[Step], end: str, title: str, *, decimals: int = 4
) -> Markup:
    """From a start over steps to an end, each step hanging where the one before ended; intervals are of the step."""
    names = [start[0], *(step.name for step in steps), end]
    left, top = _label_room(names), 8.0
    bottom = top + ROW * len(names) + 4
    running = [start[1]]
    for step in steps:
        running.append(running[-1] + step.amount)
    ends = [
        running[place] + part for place, step in enumerate(steps) for part in (step.low, step.high) if part is not None
    ]
    axis = Axis.around([*running, *ends], left, WIDTH - 84)
    marks = horizontal_axis(axis, top, bottom, title)
    marks += _whole(axis, top + ROW * 0.5, left, start[0], start[1], decimals)
    for place, step in enumerate(steps):
        middle = top + ROW * (place + 1.5)
        before, after = running[place], running[place + 1]
        low, high = sorted((axis.at(before), axis.at(after)))
        colour = "up" if step.amount > 0 else "down"
        shown = f"{step.amount:+.{decimals}f}"
        tip = f"{step.name}: {shown}, from {before:.{decimals}f} to {after:.{decimals}f}"
        marks += [_name(step.name, left, middle), line(axis.at(before), middle - ROW, axis.at(before), middle, "link")]
        marks.append(rectangle(low, middle - 8, max(high - low, 1.0), 16, colour, tip))
        reach = high
        if step.low is not None and step.high is not None:
            ends_at = [axis.at(before + step.low), axis.at(before + step.high)]
            marks.append(line(ends_at[0], middle, ends_at[1], middle, "error"))
            reach = max(high, *ends_at)
        marks.append(text(reach + 6, middle + 4, shown, "start", "t number"))
    marks += _whole(axis, bottom - 4 - ROW * 0.5, left, end, running[-1], decimals)
    return drawing(label, bottom + 46, marks)


def _whole(axis: Axis, middle: float, left: float, name: str, value: float, decimals: int) -> list[Markup]:
    shown = f"{value:.{decimals}f}"
    bar = rectangle(left, middle - 8, axis.at(value) - left, 16, "whole", f"{name}: {shown}")
    return [_name(name, left, middle), bar, text(axis.at(value) + 6, middle + 4, shown, "start", "t number")]


def _label_room(names: Sequence[str]) -> float:
    """Where the plot begins: right of the longest name that is drawn."""
    return 20 + LETTER * max((len(shortened(name, MAX_LABEL)) for name in names), default=1)


def _name(name: str, left: float, middle: float) -> Markup:
    shown = shortened(name, MAX_LABEL)
    whole = element("title", name) if shown.endswith("…") else Markup("")
    return element("text", whole, shown, x=left - 10, y=middle + 4, text_anchor="end", class_="t")
