"""SVG by small pieces: elements whose text is escaped, axes with round ticks, markers that differ in colour and shape.

Colours are named by classes (`s1` to `s8` for series, `q0` to `q6` from low to high) that the style sheet of the page
defines for light and dark; nothing here knows a colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from hybrid_sim.core.files import printable, shortened

WIDTH = 720.0
"""Width of every drawing in its own units; the page scales it."""

N_SERIES = 8
"""Series that differ in colour; later ones repeat the colours."""

N_SHADES = 7
"""Steps of the scale from low to high."""

LETTER = 7.2
"""Mean width of a letter, in the units of a drawing."""

ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def element(name: str, *content: str, **attributes: str | float | None) -> Markup:
    """One element; text and attributes are escaped, `Markup` inside stays. `class_` and `text_anchor` lose or change _.

    >>> element("text", "a<b", x=1.5, text_anchor="end")
    Markup('<text x="1.5" text-anchor="end">a&lt;b</text>')
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(map(_escaped, content))
    return Markup(f"<{name}{told}>{inside}</{name}>" if inside else f"<{name}{told}/>")


def _escaped(text: str) -> str:
    return str(text if isinstance(text, Markup) else escape(printable(text)))


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def drawing(label: str, height: float, marks: Iterable[Markup]) -> Markup:
    """The whole picture; `label` is what a screen reader says instead of it."""
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    return element("svg", *marks, role="img", aria_label=label, viewBox=box, width=WIDTH, height=height)


def text(x: float, y: float, content: str, anchor: str = "start", class_: str = "t") -> Markup:
    """A word at a place; `anchor` is start, middle or end."""
    return element("text", content, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str, tip: str = "") -> Markup:
    """A filled rectangle that tells `tip` where it is pointed at."""
    return element("rect", *_tip(tip), x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)


def marker(kind: int, x: float, y: float, size: float, class_: str, tip: str = "") -> Markup:
    """A point; `kind` is the number of its series, which says the shape: circle, square, diamond, triangle."""
    shape = kind % 4
    if shape == 0:
        return element("circle", *_tip(tip), cx=x, cy=y, r=size, class_=class_)
    if shape == 1:
        return rectangle(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8, class_, tip)
    corners = [(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)] if shape == 2 else [(0, -1.3), (1.2, 1), (-1.2, 1)]
    points = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in corners)
    return element("polygon", *_tip(tip), points=points, class_=class_)


def _tip(tip: str) -> list[Markup]:
    return [element("title", tip)] if tip else []


def series_class(number: int) -> str:
    """The class of the series with this number, from 0."""
    return f"s{number % N_SERIES + 1}"


def shade_class(value: float, low: float, high: float) -> str:
    """The class of a value between `low` and `high`."""
    share = (value - low) / (high - low) if high > low else 0.5
    return f"q{min(max(int(share * N_SHADES), 0), N_SHADES - 1)}"


def legend(names: Sequence[str], x: float, y: float, end: float) -> tuple[list[Markup], float]:
    """Markers with names, in as many lines as are needed, and where the space below begins; nothing for one name."""
    if len(names) < 2:
        return [], y
    marks, at = [], x
    for number, name in enumerate(names):
        shown = shortened(name, 40)
        width = 24 + LETTER * len(shown)
        if at > x and at + width > end:
            at, y = x, y + 18
        marks.append(marker(number, at + 6, y, 4.5, series_class(number)))
        marks.append(text(at + 16, y + 4, shown))
        at += width
    return marks, y + 20


@dataclass(frozen=True)
class Axis:
    """From values between `low` and `high` to places between `start` and `end`, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(
        cls, values: Iterable[float | None], start: float, end: float, *, zero: bool = False, room: float = 0.06
    ) -> Axis:
        """An axis that holds all finite values with some room beside them; with `zero` it begins or ends there."""
        known = [float(value) for value in values if value is not None and math.isfinite(value)]
        if zero:
            known.append(0.0)
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            low, high = (low - 0.5, high + 0.5) if not zero else (min(low, 0.0), max(high, 1.0))
        margin = (high - low) * room
        floor = low if zero and low == 0.0 else low - margin
        return cls(floor, high if zero and high == 0.0 else high + margin, start, end)

    def at(self, value: float) -> float:
        """The place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def step(self) -> float:
        """A round distance of ticks: about one every 90 units across, every 55 upwards."""
        apart = 90.0 if self.end > self.start else 55.0
        wanted = (self.high - self.low) / max(abs(self.end - self.start) / apart, 2.0)
        power = 10.0 ** math.floor(math.log10(wanted))
        return next(step * power for step in ROUND_STEPS if step * power >= wanted * (1 - 1e-9))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis, and how they are written."""
        step = self.step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        decimals += round(step * 10**decimals, 6) % 1 != 0
        return [(n * step, f"{n * step + 0.0:,.{decimals}f}") for n in range(first, last + 1)]


def horizontal_axis(axis: Axis, top: float, bottom: float, title: str) -> list[Markup]:
    """Vertical grid lines, their values below, and what they mean."""
    marks = [line(axis.at(value), top, axis.at(value), bottom, "grid") for value, _ in axis.ticks]
    marks += [text(axis.at(value), bottom + 16, label, "middle", "t tick") for value, label in axis.ticks]
    return [*marks, text((axis.start + axis.end) / 2, bottom + 36, title, "middle", "t title")]


def vertical_axis(axis: Axis, left: float, right: float, title: str) -> list[Markup]:
    """Horizontal grid lines, their values beside them, and what they mean above them."""
    marks = [line(left, axis.at(value), right, axis.at(value), "grid") for value, _ in axis.ticks]
    marks += [text(left - 8, axis.at(value) + 4, label, "end", "t tick") for value, label in axis.ticks]
    return [*marks, text(8, min(axis.start, axis.end) - 10, title, "start", "t title")]


def category_axis(names: Sequence[str], axis: Axis, bottom: float, title: str) -> list[Markup]:
    """Names below the places 0, 1, ... of an axis; every second or third where there is no room for all."""
    space = abs(axis.at(1) - axis.at(0)) if len(names) > 1 else WIDTH
    letters = max((len(shortened(name, 12)) for name in names), default=1)
    every = max(1, math.ceil(letters * LETTER / max(space, 1.0)))
    marks = [
        text(axis.at(place), bottom + 16, shortened(name, 12), "middle", "t tick")
        for place, name in enumerate(names)
        if place % every == 0
    ]
    return [*marks, text((axis.start + axis.end) / 2, bottom + 36, title, "middle", "t title")]
