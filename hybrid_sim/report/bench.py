"""The page of a benchmark: RMSE with intervals, comparisons, every figure, support and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid_sim.core.provenance import dataset_label
from hybrid_sim.evaluation.bench_report import ACCURACY, DISTRIBUTION, EFFORT, Report
from hybrid_sim.evaluation.scores import SUPPORT_BUCKETS, Comparison, ResultRow, RmseInterval, SupportRow
from hybrid_sim.report.bars import Amounts, points_chart
from hybrid_sim.report.cost_quality import Candidate, frontier
from hybrid_sim.report.origin import provenance_facts
from hybrid_sim.report.page import Block, Cell, Chart, Column, Page, Section, Table, slug
from hybrid_sim.report.plots import Line, lines_chart

MAX_LINES = 8
"""Models whose course over the folds is drawn; more cannot be told apart."""


def bench_page(report: Report) -> Page:
    """What stands on the page of a benchmark."""
    protocols = list(dict.fromkeys(row.protocol for row in report.results))
    sections = [section for protocol in protocols for section in _of_protocol(report, protocol, len(protocols) > 1)]
    folds = ", ".join(dict.fromkeys(str(row.fold) for row in report.results))
    source = report.provenance
    return Page(
        title=f"Benchmark on {source.dataset}: {', '.join(protocols)}",
        context=f"{dataset_label(source)}, protocol {', '.join(protocols)}, folds {folds}, seed {source.seed}",
        sections=tuple(sections),
        synthetic=source.synthetic,
        notes=tuple(report.notes),
        provenance=provenance_facts(source),
    )


def _of_protocol(report: Report, protocol: str, many: bool) -> list[Section]:
    by_model: dict[str, list[ResultRow]] = {}
    for row in report.results:
        if row.protocol == protocol:
            by_model.setdefault(row.model, []).append(row)
    intervals = [row for row in report.intervals if row.protocol == protocol]
    compared = [row for row in report.comparisons if row.protocol == protocol]
    support = [row for row in report.support if row.protocol == protocol]
    prefix, suffix = (slug(protocol) + "-", f" ({protocol})") if many else ("", "")
    made = [
        _rmse(intervals, by_model, prefix, suffix) if intervals else None,
        _differences(compared, prefix, suffix) if compared else None,
        _measures(by_model, prefix, suffix),
        _support(support, prefix, suffix) if support else None,
        _cost(by_model, intervals, prefix, suffix),
    ]
    return [section for section in made if section is not None]


def _rmse(
    intervals: Sequence[RmseInterval], by_model: Mapping[str, Sequence[ResultRow]], prefix: str, suffix: str
) -> Section:
    rows = sorted(intervals, key=lambda row: row.estimate)
    folds = _all_folds(rows)
    best = next(row for row in rows if row.fold == folds)
    title = "RMSE of the expected rating, raw"
    table = Table(
        f"{prefix}table-rmse",
        title,
        (Column("model"), Column("folds"), *(Column(name, 4) for name in ("RMSE", "low", "high"))),
        tuple((row.model, row.fold, row.estimate, row.low, row.high) for row in rows),
        f"Mean over folds; {best.level:.0%} intervals by bootstrap over {best.n_groups:,} {best.groups}.",
    )
    amounts = Amounts(title, [r.estimate for r in rows], [r.low for r in rows], [r.high for r in rows])
    names = [row.model if row.fold == folds else f"{row.model} (folds {row.fold})" for row in rows]
    drawing = points_chart(title, names, [amounts], "RMSE, raw", reference=best.estimate)
    caption = (
        f"Lower is better; the dashed line is {best.model}, the best on all folds. Lines are {best.level:.0%} "
        "intervals; folds differ in difficulty, so models on other folds are not comparable here."
    )
    blocks: list[Block] = [Chart(title, drawing, table, caption)]
    if any(len(found) > 1 for found in by_model.values()):
        blocks.append(_by_fold(by_model, [row.model for row in rows[:MAX_LINES]], prefix))
    finding = f"{best.model} has the lowest RMSE on all folds, {best.estimate:.4f} [{best.low:.4f}, {best.high:.4f}]."
    return Section(f"{prefix}rmse", f"Error{suffix}", finding, tuple(blocks))


def _all_folds(rows: Sequence[RmseInterval]) -> str:
    """The folds of the row that has most."""
    return max((row.fold for row in rows), key=lambda fold: fold.count(","))


def _by_fold(by_model: Mapping[str, Sequence[ResultRow]], models: Sequence[str], prefix: str) -> Chart:
    folds = list(dict.fromkeys(str(row.fold) for rows in by_model.values() for row in rows))
    title = "RMSE by fold, raw"
    found = {model: {str(row.fold): row.rmse for row in by_model[model]} for model in by_model}
    places = [float(place) for place in range(len(folds))]
    lines = [Line(model, places, [found[model].get(fold) for fold in folds]) for model in models]
    drawing = lines_chart(title, lines, "fold", "RMSE, raw", categories=folds)
    columns = (Column("model"), *(Column(f"fold {fold}", 4) for fold in folds))
    rows: list[tuple[Cell, ...]] = [(model, *(of.get(fold) for fold in folds)) for model, of in found.items()]
    caption = f"The {len(models)} best models; the table has all." if len(models) < len(found) else ""
    return Chart(title, drawing, Table(f"{prefix}table-folds", title, columns, tuple(rows)), caption)


def _differences(compared: Sequence[Comparison], prefix: str, suffix: str) -> Section:
    first = compared[0]
    numbers = (Column(name, 4, True) for name in ("difference", "low", "high"))
    columns = (Column("models"), Column("folds"), Column("measure"), *numbers)
    table = Table(
        f"{prefix}table-differences",
        "First minus second model",
        columns,
        tuple((f"{r.a} − {r.b}", r.fold, r.metric, r.estimate, r.low, r.high) for r in compared),
        f"Below zero the first is better; {first.level:.0%} intervals by paired bootstrap over {first.groups}. "
        "rmse and mae are of the raw expected rating.",
    )
    blocks: list[Block] = []
    for metric in dict.fromkeys(row.metric for row in compared):
        rows = [row for row in compared if row.metric == metric]
        title = f"Difference in {metric}"
        amounts = Amounts(title, [r.estimate for r in rows], [r.low for r in rows], [r.high for r in rows])
        names = [f"{row.a} − {row.b}" for row in rows]
        drawing = points_chart(title, names, [amounts], f"difference in {metric}", reference=0.0)
        behind = Table(f"{prefix}table-difference-{slug(metric)}", title, columns,
                       tuple(row for row in table.rows if row[2] == metric), table.note)  # fmt: skip
        blocks.append(Chart(title, drawing, behind, "Left of the dashed line the first model is better."))
    clear = sum(row.high < 0 or row.low > 0 for row in compared)
    finding = f"{clear} of {len(compared)} differences have an interval that excludes zero."
    return Section(f"{prefix}differences", f"Differences{suffix}", finding, tuple(blocks))


def _measures(by_model: Mapping[str, Sequence[ResultRow]], prefix: str, suffix: str) -> Section:
    """The three tables that `bench` prints: counts summed and figures averaged over folds."""
    notes = (
        ("accuracy", ACCURACY, "Accuracy of the expected rating, raw and rounded", "* Rounded to the nearest level."),
        (
            "distribution",
            DISTRIBUTION,
            "Distributions, and what is sampled from them",
            "ECE is class-wise. KL (nats), W1 and SD within users are of one rating sampled per row.",
        ),
        (
            "effort",
            EFFORT,
            "Silence and cost",
            "Abstained: left out of all figures. Fallback: another rater answered. Counts and seconds: see the "
            "headings; seconds are means over folds.",
        ),
    )
    tables = []
    for name, columns, title, note in notes:
        rows: list[tuple[Cell, ...]] = []
        for model, found in by_model.items():
            values = [[getattr(row, field) for row in found] for field, _, _ in columns]
            cells = [_over_folds(column, field) for column, (field, _, _) in zip(values, columns, strict=True)]
            rows.append((model, ", ".join(str(row.fold) for row in found), *cells))
        headings = (Column("model"), Column("folds"), *(Column(heading, decimals) for _, heading, decimals in columns))
        tables.append(Table(f"{prefix}table-{name}", title, headings, tuple(rows), note))
    finding = "Every figure of every model; counts are summed and figures averaged over folds."
    return Section(f"{prefix}measures", f"All figures{suffix}", finding, tuple(tables))


def _over_folds(values: Sequence[float | None], field: str) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    total = sum(known)
    return total if field.startswith("n") else total / len(known)


def _support(support: Sequence[SupportRow], prefix: str, suffix: str) -> Section:
    cells: dict[tuple[str, str], list[SupportRow]] = {}
    for row in support:
        cells.setdefault((row.model, row.support), []).append(row)
    buckets = [bucket for bucket in SUPPORT_BUCKETS if any(bucket == found for _, found in cells)]
    models = list(dict.fromkeys(model for model, _ in cells))
    pooled = {key: _pooled(rows) for key, rows in cells.items()}
    rows = tuple((m, b, *pooled[m, b]) for m in models for b in buckets if (m, b) in pooled)
    blocks: list[Block] = []
    columns = (
        Column("model"), Column("training ratings of the item"), Column("ratings"),
        Column("RMSE, raw", 4), Column("coverage", 4), Column("width", 3),
    )  # fmt: skip
    for place, what, title in ((1, "rmse", "RMSE by support, raw"), (2, "coverage", "Interval coverage by support")):
        series = [Amounts(m, [pooled[m, b][place] if (m, b) in pooled else None for b in buckets]) for m in models]
        drawing = points_chart(title, buckets, series[:MAX_LINES], columns[place + 2].heading)
        table = Table(f"{prefix}table-support-{what}", title, columns, rows, "Pooled over folds.")
        blocks.append(Chart(title, drawing, table, "By the number of training ratings of the item."))
    finding = "How the error and the intervals depend on how often an item was rated before."
    return Section(f"{prefix}support", f"Support{suffix}", finding, tuple(blocks))


def _pooled(rows: Sequence[SupportRow]) -> tuple[int, float, float, float]:
    n = sum(row.n for row in rows)
    squared, covered = sum(row.rmse**2 * row.n for row in rows), sum(row.coverage * row.n for row in rows)
    return n, float((squared / n) ** 0.5), covered / n, sum(row.width * row.n for row in rows) / n


def _cost(
    by_model: Mapping[str, Sequence[ResultRow]], intervals: Sequence[RmseInterval], prefix: str, suffix: str
) -> Section | None:
    known = {row.model: row for row in intervals}
    candidates = []
    for model, rows in by_model.items():
        seconds = _over_folds([row.seconds for row in rows], "seconds")
        if seconds is not None and model in known and known[model].fold == _all_folds(intervals):
            row = known[model]
            candidates.append(Candidate(model, seconds, row.estimate, row.low, row.high))
    if not candidates:
        return None
    title = "Error against time"
    caption = "Fitting and predicting one fold, mean over folds; answers of a language model were recorded before."
    chart = frontier(f"{prefix}table-cost", title, caption, candidates, "seconds per fold", "RMSE, raw")
    return Section(f"{prefix}cost", f"What quality costs{suffix}", "The dotted line joins the best buys.", (chart,))
