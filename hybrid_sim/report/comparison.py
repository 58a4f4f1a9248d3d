"""The page of a comparison: differences with their intervals, and the settings that differ."""

from __future__ import annotations

from hybrid_sim.core.document import Chart, Column, Page, Prose, Section, Table, interval_columns
from hybrid_sim.evaluation.compare import ResultComparison


def comparison_page(comparison: ResultComparison) -> Page:
    """The page of a comparison of two runs or two benchmarks."""
    rows = comparison.differences
    columns = (
        Column("measure", "measure"), Column("a", "A", 4), Column("b", "B", 4),
        Column("difference", "A − B", 4, sign=True), *interval_columns(4, sign=True), Column("basis", "interval"),
        Column("n", "ratings"),
    )  # fmt: skip
    how = f"{comparison.how[0].upper()}{comparison.how[1:]}."
    chart = Chart(
        "bars", "A minus B", "differences", "measure", ("difference",), "low", "high", reference=0.0, caption=how
    )
    with_interval = [
        (row.low, row.high) for row in rows if row.low is not None and row.high is not None and row.basis != "folds"
    ]
    clear = sum(low > 0 or high < 0 for low, high in with_interval)
    finding = f"{clear} of {len(with_interval)} differences have an interval that excludes zero."
    tables = tuple(
        Table(name, heading, (Column("name", ""), Column("a", "A"), Column("b", "B")), differing)
        for name, heading, differing in (
            ("settings", "Settings and provenance that differ", comparison.settings),
            ("counts", "Counts that differ", comparison.counts),
        )
        if differing
    )
    return Page(
        title="Two results compared",
        context=f"A: {comparison.a}; B: {comparison.b}. {comparison.about}",
        sections=(
            Section(
                "differences",
                "Differences",
                finding if with_interval else "No figure differs.",
                (chart, Table.of("differences", "A minus B", columns, rows)),
            ),
            Section(
                "settings",
                "Settings",
                f"{len(comparison.settings)} settings differ.",
                tables or (Prose("Nothing that is stored about the two differs."),),
            ),
        ),
        synthetic=comparison.synthetic,
        notes=comparison.notes,
    )
