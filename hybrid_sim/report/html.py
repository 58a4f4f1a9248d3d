"""The HTML of a page: one self-contained file that asks for nothing from outside, needs no script and opens from disk.

All text is foreign: it is escaped here and in `charts`, control characters and right-to-left marks included.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hybrid_sim.core.document import Cell, Chart, Column, Link, Page, Section, Table, slug
from hybrid_sim.core.files import printable, write_whole
from hybrid_sim.report.charts import inline_svgs
from hybrid_sim.report.svg import PALETTE

STATES = {"fail": "✗ fails", "unknown": "? cannot tell", "pass": "✓ passes"}
"""Verdicts in words."""

MAX_ROWS = 1000
"""A longer table is cut: a page must stay quick to open."""


def render(page: Page) -> str:
    """The HTML of a page.

    Raises:
        ValueError: two sections, or two tables of a section, have the same name.
    """
    names = [
        name for section in page.sections for name in (section.name, *(anchor(section, t) for t in section.tables))
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"anchors of a page are unique, these are not: {', '.join(twice)}")
    parts = [(section, _lists(section)) for section in page.sections]
    return _environment().get_template("page.html").render(page=page, parts=parts, palette=PALETTE, states=STATES)


def write_page(page: Page, path: Path) -> None:
    """Write the HTML of a page, whole or not at all.

    Raises:
        SettingsError: `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    write_whole(path, render(page).encode())


def anchor(section: Section, table: Table) -> str:
    """The anchor of a table."""
    return slug("table", section.name, table.name)


def _lists(section: Section) -> list[tuple[str, list[dict[str, Any]]]]:
    """The blocks of a section with what the template needs: blocks of a type that follow each other as one list.

    A table stands with the first chart that draws it; later charts have a link to it.
    """
    tables = {table.name: table for table in section.tables}
    drawn: set[str] = set()
    entries: list[tuple[str, dict[str, Any]]] = []
    charted = {chart.table for chart in section.charts}
    for block in section.blocks:
        entry: dict[str, Any] = {"block": block}
        if isinstance(block, Chart):
            table = tables[block.table]
            entry["svgs"] = inline_svgs(block, table, slug("chart", section.name, str(len(entries))))
            entry |= {"table": table, "anchor": anchor(section, table), "first": block.table not in drawn}
            drawn.add(block.table)
        elif isinstance(block, Table):
            if block.name in charted:
                continue
            entry |= {"table": block, "anchor": anchor(section, block)}
        entries.append((type(block).__name__, entry))
    return [(kind, [entry for _, entry in group]) for kind, group in groupby(entries, key=lambda pair: pair[0])]


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
    environment.filters["rows"] = lambda table: table.rows[:MAX_ROWS]
    environment.filters["note"] = _note
    environment.tests["number"] = _is_number
    environment.tests["link"] = lambda value: isinstance(value, Link)
    return environment


def _safe(value: object) -> object:
    """Text without control characters; Jinja escapes it afterwards."""
    return value if isinstance(value, Markup) else printable(str(value))


def _note(table: Table) -> str:
    n = len(table.rows)
    return f"The first {MAX_ROWS:,} of {n:,} rows. {table.note}".strip() if n > MAX_ROWS else table.note


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
    return column.shown(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | np.number) and not isinstance(value, bool))
