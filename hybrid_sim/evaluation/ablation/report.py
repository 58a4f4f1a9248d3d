"""The records of an ablation, as aligned tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import pandas as pd

from hybrid_sim.core.document import aligned
from hybrid_sim.core.files import printable, write_json_file
from hybrid_sim.core.provenance import Provenance, dataset_label
from hybrid_sim.evaluation.scores import METRICS, Groups

UNITS = {"rmse": "RMSE (raw, rating units)", "log_loss": "log loss (nats)"}
"""Headings of the gains; those of other metrics are their titles."""


@dataclass(frozen=True)
class ComponentRow:
    """A component; if it is not `present` it is in all subsets or in none, and `reason` says why."""

    name: str
    title: str
    members: tuple[str, ...]
    present: bool
    reason: str | None = None


@dataclass(frozen=True)
class FoldRow:
    """How the ensemble with just these components did on one fold; `ece` is the class-wise calibration error.

    With `control` the LLM's ratings were shuffled within each user.
    """

    components: tuple[str, ...]
    control: bool
    fold: int
    n: int
    rmse: float
    log_loss: float
    ece: float


@dataclass(frozen=True)
class SubsetRow:
    """The mean of `FoldRow` over folds (`n` is their sum), with bootstrap intervals."""

    components: tuple[str, ...]
    control: bool
    n: int
    rmse: float
    rmse_low: float
    rmse_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float
    ece: float


@dataclass(frozen=True)
class EffectRow:
    """The loss without a component less the loss with it: above zero it helps. `kind` as in `summary.gain_weights`."""

    component: str
    metric: str
    kind: str
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class WaterfallStep:
    """The Shapley gain of a component on the way down from `before` to `after`; `share` is of the way as a whole."""

    component: str
    gain: float
    low: float
    high: float
    share: float
    before: float
    after: float


@dataclass(frozen=True)
class Waterfall:
    """From the loss of the base to that of the whole, the largest gain first."""

    metric: str
    start: float
    end: float
    steps: tuple[WaterfallStep, ...]

    @property
    def finding(self) -> str:
        """What all components gain together, and which gains most."""
        title = UNITS.get(self.metric) or METRICS[self.metric].title
        finding = f"{title} is {self.start:.4f} with nothing but the base and {self.end:.4f} with all components."
        if not self.steps:
            return finding
        best = max(self.steps, key=lambda step: step.gain)
        return f"{finding} Most is gained by {best.component}: {best.gain:+.4f} [{best.low:+.4f}, {best.high:+.4f}]."


@dataclass(frozen=True)
class CostRow:
    """CPU seconds of one step for one fold: of learning, and of answering `n_rated` held-out pairs.

    `llm_answers` counts the recorded answers that were used; what they cost when they were recorded is not known.
    """

    component: str
    step: str
    seconds_fit: float
    seconds_rate: float
    n_rated: float
    llm_answers: float


@dataclass(frozen=True, repr=False)
class AblationResult:
    """All records of one ablation; subsets first without any component, last with all. A notebook shows the gains."""

    provenance: Provenance
    protocol: str
    folds: str
    groups: Groups
    n_groups: int
    level: float
    n_boot: int
    components: Sequence[ComponentRow]
    subsets: Sequence[SubsetRow]
    fold_results: Sequence[FoldRow]
    effects: Sequence[EffectRow]
    waterfalls: Sequence[Waterfall]
    costs: Sequence[CostRow]
    notes: Sequence[str]
    kind: str = "ablation"

    def to_frame(self) -> pd.DataFrame:
        """A row per component, metric and kind of gain, with its interval."""
        return pd.DataFrame([asdict(row) for row in self.effects])

    def __repr__(self) -> str:
        falls = ", ".join(f"{fall.metric} {fall.start:.4f} to {fall.end:.4f}" for fall in self.waterfalls)
        names = ", ".join(row.name for row in self.components if row.present)
        return f"<AblationResult: {dataset_label(self.provenance)}, protocol {self.protocol}, {names}: {falls}>"

    def _repr_html_(self) -> str:
        shapley = self.to_frame().query("kind == 'shapley'").drop(columns="kind")
        return shapley.to_html(index=False, float_format="{:+.4f}".format, na_rep="-")

    @property
    def absent(self) -> list[str]:
        """Why components are in all subsets or in none."""
        return [f"{row.name}: {row.reason}" for row in self.components if not row.present and row.reason]

    def subset(self, components: Sequence[str], control: bool = False) -> SubsetRow:
        """The row of the subset with just these components."""
        wanted = set(components)
        return next(row for row in self.subsets if set(row.components) == wanted and row.control == control)

    def effect(self, component: str, metric: str, kind: str) -> EffectRow:
        """The row of this component, metric and kind."""
        return next(e for e in self.effects if (e.component, e.metric, e.kind) == (component, metric, kind))


def write_ablation(report: AblationResult, path: Path) -> None:
    """Write the report as strict JSON, whole or not at all; what is not finite becomes null.

    Raises:
        SettingsError: `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    write_json_file(path, asdict(report))


def ablation_text(report: AblationResult) -> str:
    """The report for a screen: the findings, then tables of gains, the subsets that a reader looks for first and costs,
    then notes.
    """
    source = report.provenance
    title = (
        f"{dataset_label(source)}, protocol {report.protocol}, mean over folds {report.folds}, seed {source.seed}; "
        f"{report.level:.0%} intervals by {report.n_boot} resamples of {report.n_groups} {report.groups}"
    )
    parts = [printable(title), "\n".join(printable(fall.finding) for fall in report.waterfalls)]
    for fall in report.waterfalls:
        heading = UNITS.get(fall.metric) or METRICS[fall.metric].title
        shares = {step.component: step.share for step in fall.steps}
        parts += [f"Gains in {heading}, above zero a component helps:", _gains(report, fall.metric, shares)]
    parts += ["Subsets (all of them are in the JSON):", _subset_table(report), "CPU seconds per fold:", _costs(report)]
    return "\n\n".join([*parts, *(printable(f"Note: {note}") for note in [*report.notes, *report.absent])])


def _gains(report: AblationResult, metric: str, shares: dict[str, float]) -> str:
    names = dict.fromkeys(row.component for row in report.effects)
    lines = []
    for name in names:
        share = f"{shares[name]:.0%}" if name in shares and isfinite(shares[name]) else "-"
        effects = [report.effect(name, metric, kind) for kind in ("shapley", "leave_one_out", "add_one_in")]
        lines.append([name, share, *(f"{e.gain:+.4f} [{e.low:+.4f}, {e.high:+.4f}]" for e in effects)])
    return aligned(["component", "share", "Shapley", "lost if left out", "gained if added alone"], lines)


def _subset_table(report: AblationResult) -> str:
    names = [row.name for row in report.components if row.present]
    whole = report.subset(names)
    best = min((row for row in report.subsets if not row.control), key=lambda row: row.rmse)
    shown: list[tuple[str, SubsetRow]] = [("base alone", report.subset([])), ("all", whole)]
    shown += [(f"all without {name}", report.subset([n for n in names if n != name])) for name in names]
    shown += [("all, LLM shuffled", row) for row in report.subsets if row.control and set(row.components) == set(names)]
    shown.append((f"best: {', '.join(best.components) or 'base alone'}", best))
    lines = [
        [
            label,
            str(row.n),
            f"{row.rmse:.4f} [{row.rmse_low:.4f}, {row.rmse_high:.4f}]",
            f"{row.log_loss:.4f} [{row.log_loss_low:.4f}, {row.log_loss_high:.4f}]",
            f"{row.ece:.4f}",
        ]
        for label, row in shown
    ]
    return aligned(["components", "ratings", "RMSE (raw)", "log loss", "ECE"], lines)


def _costs(report: AblationResult) -> str:
    lines = [
        [row.component, row.step, f"{row.seconds_fit:.2f}", f"{row.seconds_rate:.2f}", f"{row.llm_answers:.0f}"]
        for row in report.costs
    ]
    return aligned(["component", "step", "learning", "answering", "LLM answers"], lines)
