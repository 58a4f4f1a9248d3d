"""What a validation found: sections with tables, charts and verdicts, as plain values that any page can draw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import Provenance

KIND, FORMAT = "validity", 1
"""How the JSON of a validity report calls itself."""

Cell = str | int | float | bool | None
"""What a table holds: plain values, None where a figure is undefined or does not apply; never NaN."""

ChartKind = Literal["bars", "lines", "reliability", "histograms", "heatmap", "scatter"]
VerdictState = Literal["pass", "fail", "unknown"]
Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Column:
    """A column of a table: the name that charts use, the heading that people read."""

    name: str
    heading: str
    decimals: int | None = None


@dataclass(frozen=True)
class Table:
    """Rows of plain values; `name` is unique in the report."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """How to draw a table of the same section: which of its columns are what.

    `y` names a column per series, or `series` a column whose values part the rows into series. `low` and `high` are the
    interval of the first of `y`; `label` names points; `reference` is a value to compare with. A heatmap has a row per
    cell: `x` is its column, the first of `y` its row, the second its value.
    """

    kind: ChartKind
    title: str
    table: str
    x: str
    y: tuple[str, ...]
    low: str | None = None
    high: str | None = None
    series: str | None = None
    label: str | None = None
    reference: float | None = None
    x_label: str = ""
    y_label: str = ""


@dataclass(frozen=True)
class Verdict:
    """An answer to one question: the measured value with its interval, against a threshold and the reason for it.

    "unknown" is the state of a question that the evidence cannot answer; the sentence says why.
    """

    name: str
    question: str
    state: VerdictState
    sentence: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    sense: Sense
    reason: str


@dataclass(frozen=True)
class Section:
    """One kind of evidence; `finding` is its result in a sentence."""

    name: str
    title: str
    finding: str
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidityReport:
    """All evidence about one simulator on one fold; intervals resample `groups`."""

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
    """How many questions were answered well, and which were not."""
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    by_state = {state: [v.name for v in verdicts if v.state == state] for state in ("pass", "fail", "unknown")}
    parts = [f"{len(by_state['pass'])} of {len(verdicts)} verdicts pass"]
    parts += [f"{len(names)} fail ({', '.join(names)})" for names in [by_state["fail"]] if names]
    parts += [f"{len(names)} cannot be told ({', '.join(names)})" for names in [by_state["unknown"]] if names]
    return "; ".join(parts) + "."


def to_json(report: ValidityReport) -> dict[str, Any]:
    """The report as plain JSON values."""
    return {"kind": KIND, "format": FORMAT, **asdict(report)}


def write_validity(report: ValidityReport, path: Path) -> None:
    """Write the report as strict JSON, whole or not at all.

    Raises:
        SettingsError: `path` cannot be a file there.
        StorageError: the disk is full or not writable.
    """
    write_whole(path, json.dumps(to_json(report), indent=1, allow_nan=False).encode() + b"\n")


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
    fields = {name: value for name, value in content.items() if name not in ("kind", "format")}
    made = content["provenance"]
    return ValidityReport(
        **{
            **fields,
            "sections": tuple(_section(section) for section in content["sections"]),
            "provenance": None if made is None else Provenance(**made),
            "notes": tuple(content["notes"]),
        }
    )


def _section(content: Mapping[str, Any]) -> Section:
    return Section(
        content["name"],
        content["title"],
        content["finding"],
        tuple(_table(table) for table in content["tables"]),
        tuple(Chart(**{**chart, "y": tuple(chart["y"])}) for chart in content["charts"]),
        tuple(Verdict(**verdict) for verdict in content["verdicts"]),
        tuple(content["notes"]),
    )


def _table(content: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in content["columns"])
    return Table(content["name"], content["title"], columns, tuple(map(tuple, content["rows"])), content["note"])
