"""The page of an ablation: waterfalls of gains, effects, all subsets, and what quality costs."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_sim.core.provenance import dataset_label
from hybrid_sim.evaluation.ablation.report import AblationReport, SubsetRow, Waterfall
from hybrid_sim.report.bars import Amounts, Step, points_chart, waterfall_chart
from hybrid_sim.report.cost_quality import Candidate, frontier
from hybrid_sim.report.origin import provenance_facts
from hybrid_sim.report.page import Block, Chart, Column, Page, Section, Table, limited, slug

METRIC_TITLES = {"rmse": "RMSE, raw", "log_loss": "log loss, nats"}
KIND_TITLES = {
    "shapley": "Shapley: mean gain over all orders",
    "leave_one_out": "lost if left out",
    "add_one_in": "gained if added alone",
}


def ablation_page(report: AblationReport) -> Page:
    """What stands on the page of an ablation."""
    source = report.provenance
    context = (
        f"{dataset_label(source)}, protocol {report.protocol}, mean over folds {report.folds}, seed {source.seed}; "
        f"{report.level:.0%} intervals by {report.n_boot:,} resamples of {report.n_groups:,} {report.groups}"
    )
    absent = [f"{row.name}: {row.reason}" for row in report.components if not row.present and row.reason]
    made = [*(_fall(report, fall) for fall in report.waterfalls), _effects(report), _subsets(report), _cost(report)]
    return Page(
        title=f"Ablation on {source.dataset}: {report.protocol}",
        context=context,
        sections=tuple(section for section in made if section is not None),
        synthetic=source.synthetic,
        notes=(*report.notes, *absent),
        provenance=provenance_facts(source),
    )


def _metric(name: str) -> str:
    return METRIC_TITLES.get(name, name)


def _fall(report: AblationReport, fall: Waterfall) -> Section:
    title = f"From the base to the whole: {_metric(fall.metric)}"
    named = {row.name: row.title for row in report.components}
    steps = [Step(s.component, -s.gain, -s.high, -s.low) for s in fall.steps]
    columns = (
        Column("component"), Column("what it is"), *(Column(name, 4, True) for name in ("gain", "low", "high")),
        Column("share of the whole gain", 3), Column("before", 4), Column("after", 4),
    )  # fmt: skip
    rows = tuple(
        (s.component, named.get(s.component, ""), s.gain, s.low, s.high, s.share, s.before, s.after) for s in fall.steps
    )
    table = Table(
        f"table-fall-{slug(fall.metric)}",
        title,
        columns,
        rows,
        "Gain: Shapley's mean over all orders of adding components, so that the steps sum to the whole.",
    )
    drawing = waterfall_chart(title, ("base", fall.start), steps, "all components", _metric(fall.metric))
    caption = "Lower is better; lines are intervals of each step. The axis does not begin at zero."
    chart = Chart(title, drawing, table, caption)
    best = max(fall.steps, key=lambda step: step.gain, default=None)
    finding = f"{fall.start:.4f} with nothing but the base, {fall.end:.4f} with all."
    if best is not None:
        finding += f" Most comes from {best.component}: {best.gain:+.4f} [{best.low:+.4f}, {best.high:+.4f}]."
    return Section(f"fall-{slug(fall.metric)}", f"Gains in {_metric(fall.metric)}", finding, (chart,))


def _effects(report: AblationReport) -> Section | None:
    if not report.effects:
        return None
    blocks: list[Block] = []
    columns = (Column("component"), Column("kind"), *(Column(name, 4, True) for name in ("gain", "low", "high")))
    for metric in dict.fromkeys(row.metric for row in report.effects):
        rows = [row for row in report.effects if row.metric == metric]
        names = list(dict.fromkeys(row.component for row in rows))
        found = {(row.component, row.kind): row for row in rows}
        series = []
        for kind in dict.fromkeys(row.kind for row in rows):
            of = [found.get((name, kind)) for name in names]
            series.append(
                Amounts(
                    KIND_TITLES.get(kind, kind),
                    [None if row is None else row.gain for row in of],
                    [None if row is None else row.low for row in of],
                    [None if row is None else row.high for row in of],
                )
            )
        title = f"Gain in {_metric(metric)} by component"
        cells = tuple((row.component, KIND_TITLES.get(row.kind, row.kind), row.gain, row.low, row.high) for row in rows)
        table = Table(f"table-effects-{slug(metric)}", title, columns, cells)
        drawing = points_chart(title, names, series, "gain: above zero the component helps", reference=0.0)
        blocks.append(Chart(title, drawing, table))
    finding = "The gain of each component: by its share of the whole, when left out, and when it is the only one."
    return Section("effects", "Each component", finding, tuple(blocks))


def _subsets(report: AblationReport) -> Section:
    headings = ("RMSE, raw", "low", "high", "log loss", "low", "high", "ECE")
    columns = (Column("components"), Column("ratings"), *(Column(heading, 4) for heading in headings))
    order = sorted(report.subsets, key=lambda row: row.rmse)
    table = Table(
        "table-subsets",
        "All subsets, best RMSE first",
        columns,
        tuple(
            (_name(r), r.n, r.rmse, r.rmse_low, r.rmse_high, r.log_loss, r.log_loss_low, r.log_loss_high, r.ece)
            for r in order
        ),
        "Shuffled: the language model's ratings were dealt out at random within each user, as a control.",
    )
    plain = [row for row in order if not row.control]
    finding = f"{len(plain)} subsets; the best is {_name(plain[0])} with RMSE {plain[0].rmse:.4f}." if plain else ""
    return Section("subsets", "Subsets", finding, (limited(table),))


def _name(row: SubsetRow) -> str:
    name = " + ".join(row.components) or "base alone"
    return f"{name} (shuffled)" if row.control else name


def _cost(report: AblationReport) -> Section | None:
    if not report.costs:
        return None
    seconds: dict[str, float] = {}
    for row in report.costs:
        seconds[row.component] = seconds.get(row.component, 0.0) + row.seconds_fit + row.seconds_rate
    candidates = [
        Candidate(_name(row), _total(seconds, row.components), row.rmse, row.rmse_low, row.rmse_high)
        for row in report.subsets
        if not row.control
    ]
    title = "Error of every subset against its time"
    caption = "CPU seconds to fit and rate one fold; what recorded answers cost when they were made is not known."
    chart = frontier("table-frontier", title, caption, candidates, "CPU seconds per fold", "RMSE, raw")
    table = Table(
        "table-costs",
        "CPU seconds per fold, by step",
        (Column("component"), Column("step"), Column("learning", 2), Column("answering", 2), Column("LLM answers", 0)),
        tuple((r.component, r.step, r.seconds_fit, r.seconds_rate, r.llm_answers) for r in report.costs),
    )
    finding = "The dotted line joins the subsets that no other beats in both time and error."
    return Section("cost", "What quality costs", finding, (chart, table))


def _total(seconds: dict[str, float], components: Sequence[str]) -> float:
    return sum(seconds.get(name, 0.0) for name in ("base", *components))
