"""The result of a validation: sections of evidence and their verdicts, as JSON and as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from hybrid_sim.core.document import Block, Chart, Column, Section, Table, Verdict
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import printable, write_whole
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
    parts += [f"{len(names)} fail ({', '.join(names)})" for names in [by_state["fail"]] if names]
    parts += [f"{len(names)} cannot be told ({', '.join(names)})" for names in [by_state["unknown"]] if names]
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
    content = {"kind": KIND, "format": FORMAT, **asdict(report)}
    content["sections"] = [
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
    write_whole(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


def _fields(record: Table | Chart | Verdict) -> dict[str, Any]:
    def known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in fields if value or name not in ADDED_FIELDS}

    return asdict(record, dict_factory=known)


def read_validity(path: Path) -> ValidityReport:
    """The report that `write_validity` wrote.

    Raises:
        SettingsError: the file cannot be read, or is no validity report of this format.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is not JSON; write it again with hybrid-sim validate --json") from error
    if not isinstance(content, dict) or (content.get("kind"), content.get("format")) != (KIND, FORMAT):
        raise SettingsError(f"{path}: is no validity report of format {FORMAT}; hybrid-sim validate --json writes one")
    try:
        return _report(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: a part of the report is missing or odd ({error}); write it again") from error


def _report(content: Mapping[str, Any]) -> ValidityReport:
    source = content["provenance"]
    return ValidityReport(
        **{
            **{name: value for name, value in content.items() if name not in ("kind", "format")},
            "sections": tuple(_section(section) for section in content["sections"]),
            "provenance": None if source is None else Provenance(**source),
            "notes": tuple(content["notes"]),
        }
    )


def _section(content: Mapping[str, Any]) -> Section:
    blocks: tuple[Block, ...] = (
        *(Verdict(**verdict) for verdict in content["verdicts"]),
        *(Chart(**{**chart, "y": tuple(chart["y"])}) for chart in content["charts"]),
        *(_table(table) for table in content["tables"]),
    )
    return Section(content["name"], content["title"], content["finding"], blocks, tuple(content["notes"]))


def _table(content: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in content["columns"])
    return Table(content["name"], content["title"], columns, tuple(map(tuple, content["rows"])), content["note"])
