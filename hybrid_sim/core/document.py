"""The document model: sections of tables, charts, verdicts and text as plain values.

Evaluations return such values, `hybrid_sim/report` renders them as HTML. A chart says which columns of a table it
draws, so that the numbers behind it are always there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

from hybrid_sim.core.errors import InputError
from hybrid_sim.core.files import printable

ChartKind = Literal["bars", "counts", "histograms", "lines", "band", "reliability", "scatter", "heatmap", "waterfall"]
VerdictState = Literal["pass", "fail", "unknown"]
Sense = Literal["at least", "at most", "within"]


@dataclass(frozen=True)
class Link:
    """Text that leads to an anchor of its page (`#name`) or to a file beside it.

    Raises:
        InputError: `to` is anything else.
    """

    text: str
    to: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"#[\w-]+|[\w-][\w.-]*", self.to, re.ASCII):
            raise InputError(f"a link leads to a place of the page or a file beside it, not to {self.to!r}")


Cell = str | int | float | bool | Link | None
"""A value in a table; None and NaN are undefined and shown as a dash."""


@dataclass(frozen=True)
class Column:
    """A column: the name that charts use and the heading that people read.

    Numbers have so many `decimals` (None: as they are); with `sign` positive ones have a plus; with `seconds` they are
    durations.
    """

    name: str
    heading: str
    decimals: int | None = None
    sign: bool = False
    seconds: bool = False

    def shown(self, value: float) -> str:
        """A finite number as a reader sees it.

        >>> Column("t", "time", seconds=True).shown(300.0), Column("d", "gap", 2, sign=True).shown(0.5)
        ('5 min', '+0.50')
        """
        if self.seconds:
            return duration(value)
        sign = "+" if self.sign else ""
        if self.decimals is not None:
            return f"{value:{sign},.{self.decimals}f}"
        return f"{value:{sign},}" if isinstance(value, Integral) else f"{value:{sign},g}"


def duration(seconds: float) -> str:
    """A time in the unit that people would use."""
    size, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    amount = seconds / size
    return f"{amount:.2g} {unit}" if amount < 10 else f"{amount:,.0f} {unit}"


def interval_columns(decimals: int, low: str = "low", high: str = "high", *, sign: bool = False) -> tuple[Column, ...]:
    """The columns of both ends of an interval."""
    return Column(low, "from", decimals, sign), Column(high, "to", decimals, sign)


@dataclass(frozen=True)
class Table:
    """Rows with one cell per column; `name` is unique in its section, `note` is a sentence below the table."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @classmethod
    def of(cls, name: str, title: str, columns: Sequence[Column], records: Sequence[Any], note: str = "") -> Table:
        """A row per record, whose attributes have the names of the columns."""
        rows = tuple(tuple(getattr(record, column.name) for column in columns) for record in records)
        return cls(name, title, tuple(columns), rows, note)

    def charted(self, kind: ChartKind, x: str, *y: str, title: str = "", **how: Any) -> tuple[Chart, Table]:
        """A chart of this table, and the table; `how` are further fields of `Chart`, the title is the table's."""
        return Chart(kind, title or self.title, self.name, x, y, **how), self

    def column(self, name: str) -> list[Cell]:
        """The cells of one column."""
        place = [column.name for column in self.columns].index(name)
        return [row[place] for row in self.rows]


@dataclass(frozen=True)
class Chart:
    """How to draw a table of the same section: which of its columns are what.

    `y` names a column per series, or `series` a column whose values group the rows into series. `low` and `high` are
    the interval of the first of `y`; `label` is written beside points; `reference` is a value to compare with;
    `highlight` is the category or series that stands out. Kinds:

    - bars: a row per category `x`, a point with its error bar per series; the axis need not begin at zero.
    - counts: a row per category `x`, a horizontal bar from zero.
    - histograms: upright bars from zero, one group per category `x`.
    - lines: a line per series over `x`, numbers or categories.
    - band: the first of `y` as a line with its interval as a band, the others as points.
    - reliability: forecast against observed frequency; the column `n`, if there is one, is the size of a point, and
      points of few forecasts are hollow.
    - scatter: points; the yes/no column `front` marks those that are joined, `shade` is a column shown as colour, `tip`
      one that is shown when a point is pointed at; with `log_x` the axis of `x` is logarithmic.
    - heatmap: a row of the table per cell: `x` is its column, the first of `y` its row, the second its value.
    - waterfall: a row per step `x`, a bar from the first of `y` (undefined: from the edge) to the second.
    """

    kind: ChartKind
    title: str
    table: str
    x: str
    y: tuple[str, ...]
    low: str | None = None
    high: str | None = None
    series: str | None = None
    label: str | None = None
    reference: float | None = None
    x_label: str = ""
    y_label: str = ""
    caption: str = ""
    shade: str | None = None
    tip: str | None = None
    front: str | None = None
    log_x: bool = False
    highlight: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns that are drawn."""
        named = (self.x, *self.y, self.low, self.high, self.series, self.label, self.shade, self.tip, self.front)
        return tuple(name for name in named if name is not None)


@dataclass(frozen=True)
class Verdict:
    """An answer to one question: the measured value with its interval, against a threshold and the reason for it.

    "unknown" is the state of a question that the evidence cannot answer; the sentence says why. `measure` says what the
    value is, in `unit`s; "within" a threshold is from minus to plus it.
    """

    name: str
    question: str
    state: VerdictState
    sentence: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    sense: Sense
    reason: str
    measure: str = ""
    unit: str = ""

    @property
    def limit(self) -> str:
        """The threshold in words; empty where there is none."""
        if self.threshold is None:
            return ""
        return f"{self.sense} {'±' if self.sense == 'within' else ''}{self.threshold:g}"


@dataclass(frozen=True)
class KeyFigure:
    """One number in large print, what it means, and a link to its rows."""

    name: str
    value: str
    detail: str = ""
    to: str = ""


@dataclass(frozen=True)
class Phrase:
    """A few words of a card, marked where they were added or removed since the card before."""

    text: str
    change: Literal["", "added", "removed"] = ""


@dataclass(frozen=True)
class Card:
    """A heading with named facts below it, one entry of a chronological list."""

    heading: str
    facts: tuple[tuple[str, tuple[Phrase, ...]], ...]


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


Block = Table | Chart | Verdict | KeyFigure | Card | Prose


@dataclass(frozen=True)
class Section:
    """A part of a document: its main finding in a sentence, blocks in order, notes at the end.

    `name` is unique in the document. A table that a chart draws is shown with the first such chart. What follows each
    other of the same type (verdicts, key figures, cards) is shown as one list.

    Raises:
        InputError: a chart names a table or a column that the section does not have.
    """

    name: str
    title: str
    finding: str
    blocks: tuple[Block, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tables = {table.name: table for table in self.tables}
        for chart in self.charts:
            if chart.table not in tables:
                raise InputError(
                    f"chart {chart.title!r} is of table {chart.table!r}, which section {self.name!r} lacks"
                )
            names = [column.name for column in tables[chart.table].columns]
            for name in chart.columns:
                if name not in names:
                    has = f"table {chart.table!r} has {', '.join(names)}"
                    raise InputError(f"chart {chart.title!r} names column {name!r}; {has}")

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its tables, in order."""
        return tuple(block for block in self.blocks if isinstance(block, Table))

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Its charts, in order."""
        return tuple(block for block in self.blocks if isinstance(block, Chart))

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Its verdicts, in order."""
        return tuple(block for block in self.blocks if isinstance(block, Verdict))

    def table(self, name: str) -> Table:
        """Its table of that name."""
        return next(table for table in self.tables if table.name == name)


@dataclass(frozen=True)
class Page:
    """A whole document; `context` says in a line which data, protocol, folds and seed it is about."""

    title: str
    context: str
    sections: tuple[Section, ...]
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


def slug(*words: str) -> str:
    """An anchor made of these words.

    >>> slug("hybrid <b>", "last40")
    'hybrid-b-last40'
    """
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") or "part"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: columns as wide as their widest cell, the first flush left, control characters escaped.

    >>> print(aligned(["model", "RMSE"], [["svd", "0.9512"], ["biases", "0.98"]]))
    model     RMSE
    svd     0.9512
    biases    0.98
    """
    lines = [[printable(cell) for cell in line] for line in [headings, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
