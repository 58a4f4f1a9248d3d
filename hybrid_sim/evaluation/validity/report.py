"""The result of a validation: sections of evidence and their verdicts, as JSON and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from hybrid_sim.core.document import Chart, Section, Table, Verdict
from hybrid_sim.core.files import printable, write_json_file
from hybrid_sim.core.provenance import Provenance

KIND, FORMAT = "validity", 1
"""The marks of the JSON of a validity report."""

ADDED_FIELDS = ("sign", "caption", "shade", "tip", "front", "log_x", "to")
"""Fields of the document model that format 1 does not have; they are left out while they have no value."""

WIDTH = 118
MARKS = {"pass": "pass", "fail": "FAIL", "unknown": "  ? "}


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


def summarise(sections: tuple[Section, ...]) -> str:
    """How many verdicts pass, and which do not."""
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    by_state = {state: [v.name for v in verdicts if v.state == state] for state in ("pass", "fail", "unknown")}
    parts = [f"{len(by_state['pass'])} of {len(verdicts)} verdicts pass"]
    for state, words in (("fail", "fail"), ("unknown", "cannot be told")):
        parts += [f"{len(names)} {words} ({', '.join(names)})" for names in [by_state[state]] if names]
    return "; ".join(parts) + "."


def validity_text(report: ValidityReport) -> str:
    """The verdicts with their thresholds, then the finding of each section, wrapped for a screen."""
    data = " (synthetic data)" if report.synthetic else ""
    head = (
        f"{report.title}{data}: {report.subject}; protocol {report.protocol}, fold {report.folds}, seed {report.seed}, "
        f"{report.n_train:,} training and {report.n_ratings:,} held-out ratings; intervals are 95%, over "
        f"{report.groups} unless the section says otherwise."
    )
    lines = [_wrapped("", head), ""]
    lines += [_wrapped(f"{MARKS[v.state]}  {v.name:<16}  ", v.sentence) for v in report.verdicts]
    lines += ["", "Findings", ""]
    lines += [_wrapped(f"{section.name:<16}  ", section.finding) for section in report.sections]
    lines += ["", _wrapped("", report.summary), *(_wrapped("Note: ", note) for note in report.notes)]
    return "\n".join(lines)


def _wrapped(start: str, text: str) -> str:
    """The text behind its start, further lines indented to where it begins."""
    return fill(printable(text), WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


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
            "tables": [_fields(table) for table in section.tables],
            "charts": [_fields(chart) for chart in section.charts],
            "verdicts": [_fields(verdict) for verdict in section.verdicts],
            "notes": section.notes,
        }
        for section in report.sections
    ]
    write_json_file(path, {"kind": KIND, "format": FORMAT, **asdict(report), "sections": sections})


def _fields(record: Table | Chart | Verdict) -> dict[str, Any]:
    def known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in fields if value or name not in ADDED_FIELDS}

    return asdict(record, dict_factory=known)
