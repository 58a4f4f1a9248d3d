"""The page of a validity report: verdicts first, then every kind of evidence with its charts and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hybrid_sim.core.errors import InputError
from hybrid_sim.evaluation.validity.report import Cell, Chart, Table, ValidityReport, Verdict
from hybrid_sim.evaluation.validity.report import Section as Evidence
from hybrid_sim.report import page as pages
from hybrid_sim.report.bars import Amounts, histograms_chart, points_chart
from hybrid_sim.report.origin import provenance_facts
from hybrid_sim.report.page import Block, Figure, Figures, Link, Page, Section, Verdicts, limited, render, slug
from hybrid_sim.report.plots import Line, Point, heatmap_chart, lines_chart, reliability_chart, scatter_chart


def validity_page(report: ValidityReport) -> str:
    """The report as one self-contained HTML file.

    Raises:
        InputError: a chart names a table or a column that its section does not have.
    """
    return render(page_of(report))


def page_of(report: ValidityReport) -> Page:
    """What stands on the page of a validity report."""
    groups = report.groups or "users"
    context = (
        f"{report.subject}; protocol {report.protocol}, folds {report.folds}, seed {report.seed}; "
        f"{report.n_ratings:,} held-out ratings, learned from {report.n_train:,}; intervals resample {groups}"
    )
    return Page(
        title=report.title,
        context=context,
        sections=(_overview(report), *map(_section, report.sections)),
        synthetic=report.synthetic,
        notes=report.notes,
        provenance={} if report.provenance is None else provenance_facts(report.provenance),
    )


def _overview(report: ValidityReport) -> Section:
    states = [verdict.state for verdict in report.verdicts]
    counts = (("pass", "verdicts pass"), ("fail", "verdicts fail"), ("unknown", "cannot be told"))
    figures = Figures(tuple(Figure(name, str(states.count(state))) for state, name in counts if state in states))
    verdicts = Verdicts(
        tuple(_verdict(verdict, False, f"#{_anchor(part)}") for part in report.sections for verdict in part.verdicts)
    )
    return Section("verdicts", "Verdicts", report.summary, (figures, verdicts))


def _verdict(verdict: Verdict, reason: bool = True, to: str = "") -> pages.Verdict:
    return pages.Verdict(verdict.question, verdict.state, verdict.sentence, verdict.reason if reason else "", to)


def _anchor(evidence: Evidence) -> str:
    return slug("evidence", evidence.name)


def _section(evidence: Evidence) -> Section:
    """Verdicts, then charts with their tables behind them, then the tables that no chart draws."""
    tables = {table.name: table for table in evidence.tables}
    drawn: set[str] = set()
    blocks: list[Block] = [Verdicts(tuple(map(_verdict, evidence.verdicts)))] if evidence.verdicts else []
    for chart in evidence.charts:
        if chart.table not in tables:
            raise InputError(
                f"chart {chart.title!r} is of table {chart.table!r}, which section {evidence.name!r} lacks"
            )
        table = tables[chart.table]
        behind = _table(evidence, table)
        shown = Link(f"The numbers: {table.title}", f"#{behind.name}") if table.name in drawn else behind
        blocks.append(pages.Chart(chart.title, draw(chart, table), shown))
        drawn.add(table.name)
    blocks += [_table(evidence, table) for table in evidence.tables if table.name not in drawn]
    return Section(_anchor(evidence), evidence.title, evidence.finding, tuple(blocks), evidence.notes)


def _table(evidence: Evidence, table: Table) -> pages.Table:
    columns = tuple(pages.Column(column.heading, column.decimals) for column in table.columns)
    name = slug("table", evidence.name, table.name)
    return limited(pages.Table(name, table.title, columns, table.rows, table.note))


def draw(chart: Chart, table: Table) -> Markup:
    """The drawing of a chart.

    Raises:
        InputError: it names a column that the table does not have.
    """
    columns = _Columns(chart, table)
    match chart.kind:
        case "bars":
            names, series = columns.amounts()
            return points_chart(
                chart.title, names, series, columns.title(chart.y[0], chart.x_label or chart.y_label),
                reference=chart.reference, decimals=columns.decimals(chart.y[0]),
            )  # fmt: skip
        case "histograms":
            names, series = columns.amounts()
            return histograms_chart(
                chart.title, names, series, chart.y_label or "share", columns.title(chart.x, chart.x_label)
            )
        case "lines":
            lines, categories = columns.lines()
            titles = columns.title(chart.x, chart.x_label), columns.title(chart.y[0], chart.y_label)
            return lines_chart(chart.title, lines, *titles, categories=categories, reference=chart.reference)
        case "reliability":
            titles = columns.title(chart.x, chart.x_label), columns.title(chart.y[0], chart.y_label)
            return reliability_chart(chart.title, columns.lines()[0], *titles)
        case "heatmap":
            return columns.heatmap()
        case "scatter":
            return columns.scatter()


class _Columns:
    """A table's columns as a chart asks for them."""

    def __init__(self, chart: Chart, table: Table) -> None:
        self.chart, self.table = chart, table
        self.place = {column.name: number for number, column in enumerate(table.columns)}
        named = (chart.x, *chart.y, chart.low, chart.high, chart.series, chart.label)
        for name in filter(None, named):
            if name not in self.place:
                known = ", ".join(self.place)
                raise InputError(f"chart {chart.title!r} names column {name!r}; table {table.name!r} has {known}")

    def values(self, name: str) -> list[Cell]:
        return [row[self.place[name]] for row in self.table.rows]

    def numbers(self, name: str) -> list[float | None]:
        return [_number(value) for value in self.values(name)]

    def words(self, name: str) -> list[str]:
        return ["–" if value is None else _word(value) for value in self.values(name)]

    def title(self, name: str, given: str) -> str:
        return given or self.table.columns[self.place[name]].heading

    def decimals(self, name: str) -> int:
        decimals = self.table.columns[self.place[name]].decimals
        return 4 if decimals is None else decimals

    def series(self) -> Mapping[tuple[str, str], list[int]]:
        """Rows of each series, by its name and the column that it takes its values from."""
        chart, everything = self.chart, list(range(len(self.table.rows)))
        if chart.series is None:
            return {(self.table.columns[self.place[name]].heading, name): everything for name in chart.y}
        rows: dict[tuple[str, str], list[int]] = {}
        for row, name in enumerate(self.words(chart.series)):
            rows.setdefault((name, chart.y[0]), []).append(row)
        return rows

    def amounts(self) -> tuple[list[str], list[Amounts]]:
        """The categories in order of appearance, and one amount of each series for each of them."""
        chart, words = self.chart, self.words(self.chart.x)
        names = list(dict.fromkeys(words))
        found = []
        for (name, column), rows in self.series().items():
            row_of = {words[row]: row for row in rows}

            def of(source: str | None, row_of: dict[str, int] = row_of) -> Sequence[float | None]:
                values = [] if source is None else self.numbers(source)
                return [values[row_of[n]] if n in row_of else None for n in names] if values else ()

            has_interval = column == chart.y[0]
            low, high = (of(bound) if has_interval else () for bound in (chart.low, chart.high))
            found.append(Amounts(name, of(column), low, high))
        return names, found

    def lines(self) -> tuple[list[Line], list[str]]:
        """The series as lines; the categories, where x is not a number in every row."""
        chart, x = self.chart, self.numbers(self.chart.x)
        words = self.words(chart.x)
        categories = [] if all(value is not None for value in x) else list(dict.fromkeys(words))
        at: Sequence[float | None] = [categories.index(word) for word in words] if categories else x
        weights = self.numbers("n") if chart.kind == "reliability" and "n" in self.place else []
        most = max((weight or 0.0 for weight in weights), default=0.0) or 1.0
        lines = []
        for (name, column), rows in self.series().items():
            bounds = (chart.low, chart.high) if column == chart.y[0] else (None, None)
            low, high = ([self.numbers(bound)[row] for row in rows] if bound else () for bound in bounds)
            y, sizes = self.numbers(column), [(weights[row] or 0.0) / most for row in rows] if weights else ()
            lines.append(Line(name, [at[row] for row in rows], [y[row] for row in rows], low, high, sizes=sizes))
        return lines, categories

    def heatmap(self) -> Markup:
        chart = self.chart
        row_column, value_column = chart.y[0], chart.y[-1]
        across, down, values = self.words(chart.x), self.words(row_column), self.numbers(value_column)
        columns, rows = list(dict.fromkeys(across)), list(dict.fromkeys(down))
        cells = {(r, c): value for r, c, value in zip(down, across, values, strict=True)}
        matrix = [[cells.get((r, c)) for c in columns] for r in rows]
        titles = self.title(row_column, chart.y_label), self.title(chart.x, chart.x_label)
        return heatmap_chart(chart.title, rows, columns, matrix, *titles)

    def scatter(self) -> Markup:
        chart = self.chart
        names = self.words(chart.label) if chart.label else [""] * len(self.table.rows)
        x, bounds = self.numbers(chart.x), [self.numbers(b) if b else [] for b in (chart.low, chart.high)]
        points = []
        for number, ((series, column), rows) in enumerate(self.series().items()):
            y = self.numbers(column)
            for row in rows:
                a, b = x[row], y[row]
                if a is None or b is None:
                    continue
                low, high = (bound[row] if bound and column == chart.y[0] else None for bound in bounds)
                tip = f"{names[row] or series}: {a:.4g}, {b:.4g}"
                points.append(Point(a, b, tip, names[row], series=number, low=low, high=high))
        titles = self.title(chart.x, chart.x_label), self.title(chart.y[0], chart.y_label)
        return scatter_chart(chart.title, points, *titles, series=[name for name, _ in self.series()])


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _word(value: Cell) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
