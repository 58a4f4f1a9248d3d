"""The page of a comparison: differences with their intervals, and the settings that differ."""

from __future__ import annotations

from hybrid_sim.evaluation.compare import Comparison
from hybrid_sim.report.bars import Amounts, points_chart
from hybrid_sim.report.page import Block, Chart, Column, Page, Prose, Section, Table


def comparison_page(comparison: Comparison) -> Page:
    """What stands on the page of a comparison."""
    rows = comparison.differences
    title = "A minus B"
    numbers = [Column("A", 4), Column("B", 4), *(Column(name, 4, True) for name in ("A − B", "low", "high"))]
    table = Table(
        "table-differences",
        title,
        (Column("measure"), *numbers, Column("interval"), Column("ratings")),
        tuple((r.measure, r.a, r.b, r.difference, r.low, r.high, r.basis, r.n) for r in rows),
        f"{comparison.how[0].upper()}{comparison.how[1:]}.",
    )
    amounts = Amounts(title, [r.difference for r in rows], [r.low for r in rows], [r.high for r in rows])
    drawing = points_chart(title, [row.measure for row in rows], [amounts], "A minus B", reference=0.0)
    known = [row for row in rows if row.low is not None and row.high is not None and row.basis != "folds"]
    clear = sum(row.low > 0 or row.high < 0 for row in known if row.low is not None and row.high is not None)
    finding = (
        f"{clear} of {len(known)} differences have an interval that excludes zero." if known else "No figure differs."
    )
    parts: list[Block] = [
        Table(name, heading, (Column(""), Column("A"), Column("B")), found)
        for name, heading, found in (
            ("table-settings", "Settings and provenance that differ", comparison.settings),
            ("table-counts", "Counts that differ", comparison.counts),
        )
        if found
    ] or [Prose("Nothing that is stored about the two differs.")]
    return Page(
        title="Two results compared",
        context=f"A: {comparison.a}; B: {comparison.b}. {comparison.about}",
        sections=(
            Section("differences", "Differences", finding, (Chart(title, drawing, table, comparison.how),)),
            Section("settings", "Settings", f"{len(comparison.settings)} settings differ.", tuple(parts)),
        ),
        synthetic=comparison.synthetic,
        notes=comparison.notes,
    )
