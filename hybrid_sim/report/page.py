"""A page: what stands on it, and the one self-contained HTML file that it becomes.

The file asks for nothing from outside, needs no script and opens from disk. Every chart has its table behind it. All
text is foreign: it is escaped here and nowhere else, control characters and right-to-left marks included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hybrid_sim.core.errors import InputError
from hybrid_sim.core.files import printable, write_whole

VerdictState = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class Link:
    """Text that leads to a place of this page (`#name`) or to a file beside it."""

    text: str
    to: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"#[\w-]+|[\w-][\w.-]*", self.to, re.ASCII):
            raise InputError(f"a link leads to a place of the page or a file beside it, not to {self.to!r}")


Cell = str | int | float | bool | Link | None
"""What a table holds; None and NaN are shown as a dash."""


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers get so many `decimals` (None: as they are), with `sign` also a plus."""

    heading: str
    decimals: int | None = None
    sign: bool = False


@dataclass(frozen=True)
class Table:
    """Rows with one cell per column; `name` is its anchor, unique in the page, `note` a sentence below it."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Chart:
    """A drawing with what it shows in a sentence, and its table behind it (or the name of one elsewhere)."""

    title: str
    drawing: Markup
    table: Table | Link
    caption: str = ""
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Figure:
    """One number worth a large print, what it means, and where its rows are."""

    name: str
    value: str
    detail: str = ""
    to: str = ""


@dataclass(frozen=True)
class Figures:
    """Some numbers side by side."""

    figures: tuple[Figure, ...]
    kind: Literal["figures"] = "figures"


@dataclass(frozen=True)
class Verdict:
    """A question, whether the evidence passes, and why."""

    question: str
    state: VerdictState
    sentence: str
    reason: str = ""
    to: str = ""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts one below the other."""

    verdicts: tuple[Verdict, ...]
    kind: Literal["verdicts"] = "verdicts"


@dataclass(frozen=True)
class Card:
    """A heading with named facts below it; `tone` "new" marks additions and "gone" removals."""

    heading: str
    facts: tuple[tuple[str, tuple[Word, ...]], ...]


@dataclass(frozen=True)
class Word:
    """A few words in a card."""

    text: str
    tone: Literal["", "new", "gone"] = ""


@dataclass(frozen=True)
class Cards:
    """Cards in order."""

    cards: tuple[Card, ...]
    kind: Literal["cards"] = "cards"


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str
    kind: Literal["prose"] = "prose"


Block = Table | Chart | Figures | Verdicts | Cards | Prose


@dataclass(frozen=True)
class Section:
    """A part of the page with its main point in a sentence; `name` is its anchor."""

    name: str
    title: str
    finding: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The page. `context` says in a line what data, protocol, folds and seed all of it is about."""

    title: str
    context: str
    sections: tuple[Section, ...]
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


def render(page: Page) -> str:
    """The HTML of a page.

    Raises:
        ValueError: two parts of the page have the same anchor.
    """
    anchors = _anchors(page)
    twice = sorted({name for name in anchors if anchors.count(name) > 1})
    if twice:
        raise ValueError(f"anchors of a page are unique, these are not: {', '.join(twice)}")
    return _environment().get_template("page.html").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Write the HTML of a page, whole or not at all.

    Raises:
        SettingsError: `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    write_whole(path, render(page).encode())


def slug(*words: str) -> str:
    """An anchor made of these words.

    >>> slug("hybrid <b>", "last40")
    'hybrid-b-last40'
    """
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") or "part"


MAX_ROWS = 1000
"""A longer table is cut: a page must stay quick to open."""


def limited(table: Table) -> Table:
    """The table, cut and said so where it is too long."""
    n = len(table.rows)
    if n <= MAX_ROWS:
        return table
    return replace(
        table, rows=table.rows[:MAX_ROWS], note=f"The first {MAX_ROWS:,} of {n:,} rows. {table.note}".strip()
    )


def _anchors(page: Page) -> list[str]:
    found = []
    for section in page.sections:
        found.append(section.name)
        for block in section.blocks:
            table = block.table if isinstance(block, Chart) else block
            if isinstance(table, Table):
                found.append(table.name)
    return found


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hybrid_sim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _shown
    environment.tests["number"] = _is_number
    environment.tests["link"] = lambda value: isinstance(value, Link)
    return environment


def _safe(value: object) -> object:
    """Text without control characters; Jinja escapes it afterwards."""
    return value if isinstance(value, Markup) else printable(str(value))


def _shown(value: Cell, column: Column) -> str:
    if value is None:
        return "–"
    if isinstance(value, Link):
        return value.text
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not np.isfinite(value):
        return "–" if np.isnan(value) else ("∞" if value > 0 else "-∞")
    if not isinstance(value, int | float | np.number):  # a file of results may hold anything
        return str(value)
    sign = "+" if column.sign else ""
    if column.decimals is not None:
        return f"{value:{sign},.{column.decimals}f}"
    return f"{value:{sign},}" if isinstance(value, int | np.integer) else f"{value:{sign}g}"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | np.number) and not isinstance(value, bool))
