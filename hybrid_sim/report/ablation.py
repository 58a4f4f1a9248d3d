"""The page of an ablation: waterfalls of gains, effects, all subsets, and their cost."""

from __future__ import annotations

from collections import defaultdict

from hybrid_sim.core.document import Block, Column, Page, Prose, Section, Table, interval_columns, slug
from hybrid_sim.core.provenance import dataset_label
from hybrid_sim.evaluation.ablation.report import AblationResult, SubsetRow, Waterfall
from hybrid_sim.report.bench import Candidate, pareto_chart

METRIC_TITLES = {"rmse": "RMSE, raw, in rating units", "log_loss": "log loss, in nats"}
KIND_TITLES = {
    "shapley": "Shapley: mean gain over all orders",
    "leave_one_out": "lost if left out",
    "add_one_in": "gained if added alone",
}
STEP_COLUMNS = (
    Column("component", "component"), Column("title", "what it is"), Column("gain", "gain", 4, sign=True),
    *interval_columns(4, sign=True), Column("share", "share of the whole gain", 3),
    Column("before", "gain before", 4), Column("after", "gain after", 4),
    *interval_columns(4, "after_low", "after_high"),
)  # fmt: skip
EFFECT_COLUMNS = (
    Column("component", "component"), Column("kind", "kind"), Column("gain", "gain", 4, sign=True),
    *interval_columns(4, sign=True),
)  # fmt: skip
SUBSET_COLUMNS = (
    Column("components", "components"), Column("n", "ratings"), Column("rmse", "RMSE, raw", 4),
    *interval_columns(4, "rmse_low", "rmse_high"), Column("log_loss", "log loss", 4),
    *interval_columns(4, "log_loss_low", "log_loss_high"), Column("ece", "ECE", 4),
)  # fmt: skip
COST_COLUMNS = (
    Column("component", "component"), Column("step", "step"), Column("seconds_fit", "fitting", seconds=True),
    Column("seconds_rate", "predicting", seconds=True), Column("llm_answers", "LLM answers", 0),
)  # fmt: skip


def ablation_page(report: AblationResult) -> Page:
    """The page of an ablation."""
    source = report.provenance
    context = (
        f"{dataset_label(source)}, protocol {report.protocol}, mean over folds {report.folds}, seed {source.seed}; "
        f"{report.level:.0%} intervals by {report.n_boot:,} resamples of {report.n_groups:,} {report.groups}"
    )
    notes = tuple(Prose(note) for note in [*report.notes, *report.absent])
    sections = [
        *(_waterfall(report, one) for one in report.waterfalls),
        _effects(report),
        _subsets(report),
        _cost(report),
        Section("notes", "Notes", "", notes) if notes else None,
    ]
    return Page(
        title=f"Ablation on {source.dataset}: {report.protocol}",
        context=context,
        sections=tuple(section for section in sections if section is not None),
        synthetic=source.synthetic,
        provenance=source.facts(),
    )


def _metric(name: str) -> str:
    return METRIC_TITLES.get(name, name)


def _waterfall(report: AblationResult, fall: Waterfall) -> Section:
    described = {row.name: row.title for row in report.components}
    start = fall.start
    steps = (
        (s.component, described.get(s.component, ""), s.gain, s.low, s.high, s.share, start - s.before, start - s.after,
         start - s.before + s.low, start - s.before + s.high)
        for s in fall.steps
    )  # fmt: skip
    rows = (*steps, ("all components", "", None, None, None, None, 0.0, start - fall.end, None, None))
    note = "Gain: Shapley's mean over all orders of adding components, so that the steps sum to the whole."
    title = f"Gains over the base: {_metric(fall.metric)}"
    blocks = Table("waterfall", title, STEP_COLUMNS, rows, note).charted(
        "waterfall", "component", "before", "after", low="after_low", high="after_high",
        y_label=f"gain in {_metric(fall.metric)}", caption="Above zero a component helps; lines are its 95% interval.",
    )  # fmt: skip
    return Section(f"gains-{slug(fall.metric)}", f"Gains in {_metric(fall.metric)}", fall.finding, blocks)


def _effects(report: AblationResult) -> Section | None:
    blocks: list[Block] = []
    for metric in dict.fromkeys(row.metric for row in report.effects):
        rows = tuple(
            (row.component, KIND_TITLES.get(row.kind, row.kind), row.gain, row.low, row.high)
            for row in report.effects
            if row.metric == metric
        )
        blocks += Table(slug(metric), f"Gain in {_metric(metric)} by component", EFFECT_COLUMNS, rows).charted(
            "bars", "component", "gain", low="low", high="high", series="kind", reference=0.0,
            y_label="gain: above zero the component helps",
        )  # fmt: skip
    finding = "The gain of each component: by its share of the whole, when left out, and when it is the only one."
    return Section("effects", "Each component", finding, tuple(blocks)) if blocks else None


def _subsets(report: AblationResult) -> Section:
    order = sorted(report.subsets, key=lambda row: row.rmse)
    rows = tuple((_name(row), *(getattr(row, column.name) for column in SUBSET_COLUMNS[1:])) for row in order)
    note = "Shuffled: the language model's ratings were permuted within each user, as a control."
    table = Table("subsets", "All subsets, best RMSE first", SUBSET_COLUMNS, rows, note)
    plain = [row for row in order if not row.control]
    finding = f"{len(plain)} subsets; the best is {_name(plain[0])} with RMSE {plain[0].rmse:.4f}." if plain else ""
    return Section("subsets", "Subsets", finding, (table,))


def _name(row: SubsetRow) -> str:
    name = " + ".join(row.components) or "base alone"
    return f"{name} (shuffled)" if row.control else name


def _cost(report: AblationResult) -> Section | None:
    if not report.costs:
        return None
    seconds: dict[str, float] = defaultdict(float)
    for step in report.costs:
        seconds[step.component] += step.seconds_fit + step.seconds_rate

    def cost(row: SubsetRow) -> float:
        return sum(seconds[name] for name in ("base", *row.components))

    candidates = [
        Candidate(_name(row), cost(row), row.rmse, row.rmse_low, row.rmse_high)
        for row in report.subsets
        if not row.control
    ]
    caption = "CPU time to fit and rate one fold; what recorded answers cost when they were made is not known."
    title = "Error of every subset against its time"
    blocks = pareto_chart(title, caption, candidates, "CPU time per fold", "RMSE in rating units, raw")
    table = Table.of("steps", "CPU time per fold, by step", COST_COLUMNS, report.costs)
    finding = "The dotted line joins the Pareto front: subsets that no other beats in both time and error."
    return Section("cost", "Cost and quality", finding, (*blocks, table))
