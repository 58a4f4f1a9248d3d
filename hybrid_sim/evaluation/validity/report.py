"""The result of a validation: sections of evidence and their verdicts, as JSON and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill

from hybrid_sim.core.document import Section, Verdict, aligned
from hybrid_sim.core.files import printable, write_json_file
from hybrid_sim.core.provenance import Provenance

KIND, FORMAT = "validity", 2
"""The marks of the JSON of a validity report."""

MARKS = {"fail": "FAIL", "unknown": "  ? ", "pass": "pass"}
"""How states are shown, in the order of tables: failures first."""


@dataclass(frozen=True)
class ValidityReport:
    """All evidence about one simulator on one fold; intervals resample `groups`.

    Sections hold verdicts, charts and tables, in this order.
    """

    title: str
    subject: str
    protocol: str
    folds: str
    groups: str
    n_ratings: int
    n_train: int
    seed: int
    synthetic: bool
    summary: str
    sections: tuple[Section, ...]
    provenance: Provenance | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of all sections, in order."""
        return tuple(verdict for section in self.sections for verdict in section.verdicts)

    @property
    def failures_first(self) -> list[Verdict]:
        """The verdicts that fail, those that cannot be told, and those that pass."""
        return sorted(self.verdicts, key=lambda verdict: [*MARKS].index(verdict.state))


def summarise(sections: tuple[Section, ...]) -> str:
    """How many verdicts pass, and which do not."""
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    by_state = {state: [v.name for v in verdicts if v.state == state] for state in ("pass", "fail", "unknown")}
    parts = [f"{len(by_state['pass'])} of {len(verdicts)} verdicts pass"]
    for state, words in (("fail", "fail"), ("unknown", "cannot be told")):
        parts += [f"{len(names)} {words} ({', '.join(names)})" for names in [by_state[state]] if names]
    return "; ".join(parts) + "."


def validity_text(report: ValidityReport, width: int = 118) -> str:
    """A table of the verdicts, then what was found in each section, wrapped to a screen of so many columns."""
    data = " (synthetic data)" if report.synthetic else ""
    head = (
        f"{report.title}{data}: {report.subject}; protocol {report.protocol}, fold {report.folds}, seed {report.seed}, "
        f"{report.n_train:,} training and {report.n_ratings:,} held-out ratings; intervals are 95%, over "
        f"{report.groups} unless the section says otherwise."
    )
    cells = [[v.name, MARKS[v.state], _shown(v.value), _interval(v), v.limit, v.unit] for v in report.failures_first]
    lines = [_wrapped(head, width), "", aligned(["verdict", "", "value", "95% interval", "required", "unit"], cells)]
    lines += ["", _wrapped(report.summary, width), *(_wrapped(f"Note: {note}", width) for note in report.notes)]
    for section in report.sections:
        lines += ["", section.title]
        lines += [_wrapped(f"{v.name}: {v.sentence}", width, "  ") for v in section.verdicts]
        if section.finding not in [v.sentence for v in section.verdicts]:
            lines.append(_wrapped(section.finding, width, "  "))
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(verdict: Verdict) -> str:
    return "-" if verdict.low is None else f"[{_shown(verdict.low)}, {_shown(verdict.high)}]"


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return fill(printable(text), width, initial_indent=indent, subsequent_indent=2 * indent)


def write_validity(report: ValidityReport, path: Path) -> None:
    """Write the report as strict JSON, whole or not at all.

    Raises:
        SettingsError: `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    sections = [
        {
            "name": section.name,
            "title": section.title,
            "finding": section.finding,
            "tables": [asdict(table) for table in section.tables],
            "charts": [asdict(chart) for chart in section.charts],
            "verdicts": [asdict(verdict) for verdict in section.verdicts],
            "notes": section.notes,
        }
        for section in report.sections
    ]
    write_json_file(path, {"kind": KIND, "format": FORMAT, **asdict(report), "sections": sections})
