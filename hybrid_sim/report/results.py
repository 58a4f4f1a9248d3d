"""Results as HTML pages: a run, a benchmark, an ablation, a validation or a comparison, in memory or stored."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Block, Column, Link, Page, Prose, Section, Table, interval_columns, slug
from hybrid_sim.core.errors import DataError, ModelFileError, SettingsError
from hybrid_sim.evaluation.ablation.report import AblationResult
from hybrid_sim.evaluation.bench_report import BenchResult
from hybrid_sim.evaluation.compare import ResultComparison
from hybrid_sim.evaluation.scores import ResultRow
from hybrid_sim.evaluation.validity.report import FORMAT, ValidityReport
from hybrid_sim.new_items.forecast import Forecasts
from hybrid_sim.report.ablation import ablation_page
from hybrid_sim.report.bench import bench_page
from hybrid_sim.report.html import STATES, write_page
from hybrid_sim.report.new_items import new_items_page
from hybrid_sim.report.run_page import run_page
from hybrid_sim.simulation.run_folder import FinishedRun, RunFolder, read_run, read_truth
from hybrid_sim.simulation.session import Run
from hybrid_sim.simulation.simulator import Simulator

NULLABLE = ("commit", "embedder", "reason", "coverage", "width", "seconds", "peak_mb")
"""Where null means that there is none; elsewhere it stands for a number that is undefined."""

DIFFERENCE_COLUMNS = (
    Column("measure", "measure"), Column("a", "A", 3), Column("b", "B", 3),
    Column("difference", "A − B", 3, sign=True), *interval_columns(3, sign=True), Column("basis", "interval"),
    Column("n", "ratings"),
)  # fmt: skip
DISTANCE_COLUMNS = (
    Column("measure", "measure"), Column("difference", "distance", 3), *interval_columns(3), Column("n", "ratings"),
)  # fmt: skip

DISTANCE_NOTE = "A distance cannot be negative: that its interval excludes zero says only that A and B are not equal."

VERDICT_COLUMNS = (
    Column("state", "verdict"), Column("question", "question"), Column("value", "value", 3), *interval_columns(3),
    Column("limit", "required"), Column("unit", "unit"), Column("measure", "what is measured"),
)  # fmt: skip

Stored = FinishedRun | BenchResult | AblationResult | ValidityReport
Record = TypeVar("Record")

_log = logging.getLogger("hybrid_sim")


def write_report(
    result: Run | Stored | ResultComparison | Forecasts | Path | str,
    path: Path | str,
    *,
    truth: Path | str | None = None,
    dataset: Dataset | None = None,
    user: str | None = None,
    fitted: Path | str | None = None,
) -> None:
    """Write a result as one self-contained HTML file, as `hybrid-sim report` does.

    `result` is a run, what `hs.bench`, `hs.ablate`, `hs.validate` or `hs.forecast_new_items` returned, or names the
    folder of a run or the JSON file of a result. Of a run: `truth` is a table of real ratings (user_id, item_id,
    rating[, timestamp]) to compare with, `dataset` has the items' titles, `user` is whose profile and ratings are shown
    (None: who has most), `fitted` the folder of a saved simulator for the map of items (None: the one that the run has
    kept).

        hs.write_report("run", "run.html", truth="held_out.csv")
        hs.write_report(hs.bench(data), "bench.html")

    Raises:
        SettingsError: there is no such result, no such user, or `path` cannot be a file there.
        DataError: a file of the result is damaged.
    """
    target = Path(path)
    if isinstance(result, Run):
        result = result.results
    elif isinstance(result, (Path, str)):
        result = read_result(Path(result))
    if isinstance(result, FinishedRun):
        simulator = _kept_simulator(result.folder) if fitted is None else Simulator.load(fitted)
        truths = None if truth is None else read_truth(Path(truth), result)
        beside = target.absolute().parent.resolve() == result.folder.path.resolve()
        write_page(run_page(result, truths, dataset, simulator, user, beside), target)
        return
    for option, value in (("truth", truth), ("user", user), ("fitted", fitted)):
        if value is not None:
            raise SettingsError(f"--{option} belongs to the folder of a run; this is another result")
    write_page(_page(result), target)


def _kept_simulator(folder: RunFolder) -> Simulator | None:
    """What the run was fitted with; a damaged one costs only the map."""
    if not folder.simulator.is_dir():
        return None
    try:
        return Simulator.load(folder.simulator)
    except ModelFileError as error:
        _log.warning("the map of items is drawn from the table of ratings: %s", error)
        return None


def _page(result: BenchResult | AblationResult | ValidityReport | ResultComparison | Forecasts) -> Page:
    match result:
        case Forecasts():
            return new_items_page(result)
        case BenchResult():
            return bench_page(result)
        case AblationResult():
            return ablation_page(result)
        case ValidityReport():
            return _validity_page(result)
    return _comparison_page(result)


def _validity_page(report: ValidityReport) -> Page:
    """The page of a validity report: verdicts first, then every kind of evidence with its charts and tables."""
    context = (
        f"{report.subject}; protocol {report.protocol}, folds {report.folds}, seed {report.seed}; "
        f"{report.n_ratings:,} held-out ratings, learned from {report.n_train:,}; intervals resample "
        f"{report.groups or 'users'}"
    )
    evidence = [replace(section, name=slug("evidence", section.name)) for section in report.sections]
    return Page(
        title=report.title,
        context=context,
        sections=(_overview(report, evidence), *evidence),
        synthetic=report.synthetic,
        notes=report.notes,
        provenance={} if report.provenance is None else report.provenance.facts(),
    )


def _overview(report: ValidityReport, evidence: list[Section]) -> Section:
    """A table of the verdicts, failures first, each with a link to its evidence."""
    place = {verdict.name: f"#{section.name}" for section in evidence for verdict in section.verdicts}
    rows = (
        (STATES[v.state], Link(v.question, place[v.name]), v.value, v.low, v.high, v.limit, v.unit, v.measure)
        for v in report.failures_first
    )
    note = (
        "A verdict passes where the whole 95% interval keeps to what is required, and fails where all of it is beyond."
    )
    table = Table("verdicts", "Verdicts, failures first", VERDICT_COLUMNS, tuple(rows), note)
    return Section("verdicts", "Verdicts", report.summary, (table,))


def _comparison_page(comparison: ResultComparison) -> Page:
    """The page of a comparison: differences with their intervals, and the settings that differ."""
    signed = [row for row in comparison.differences if row.a is not None]
    apart = [row for row in comparison.differences if row.a is None]
    how = f"{comparison.how[0].upper()}{comparison.how[1:]}."
    blocks: list[Block] = []
    if signed:
        blocks += Table.of("differences", "A minus B", DIFFERENCE_COLUMNS, signed).charted(
            "bars", "measure", "difference", low="low", high="high", reference=0.0, caption=how
        )
    if apart:
        blocks.append(Table.of("distances", "Distances between A and B", DISTANCE_COLUMNS, apart, DISTANCE_NOTE))
    columns = Column("name", ""), Column("a", "A"), Column("b", "B")
    tables = (
        Table("settings", "Settings and provenance that differ", columns, comparison.settings),
        Table("counts", "Counts that differ", columns, comparison.counts),
    )
    differing = tuple(table for table in tables if table.rows)
    nothing = (Prose("Nothing that is stored about the two differs."),)
    return Page(
        title="Two results compared",
        context=f"A: {comparison.a}; B: {comparison.b}. {comparison.about}",
        sections=(
            Section("differences", "Differences", comparison.conclusion, tuple(blocks)),
            Section("settings", "Settings", f"{len(comparison.settings)} settings differ.", differing or nothing),
        ),
        synthetic=comparison.synthetic,
        notes=comparison.notes,
    )


def read_result(path: Path) -> Stored:
    """The run in a folder, or the benchmark, ablation or validation in a JSON file.

    Raises:
        SettingsError: there is no such file, or no run in the folder.
        DataError: a file is damaged, or holds no result.
    """
    if path.is_dir():
        return read_run(path)
    match _kind_of(_read_json(path)):
        case "bench":
            return read_bench(path)
        case "ablation":
            return read_ablation(path)
        case "validity":
            return read_validity(path)
    raise DataError(
        f"{path}: is no result that can be drawn; expected what --json of `hybrid-sim bench`, `ablate` or "
        "`validate` writes"
    )


def _kind_of(content: Mapping[str, Any]) -> str:
    """What a stored result is: "bench", "ablation", "validity", or "" for anything else."""
    if content.get("kind") in ("ablation", "validity"):
        return str(content["kind"])
    return "bench" if {"provenance", "results", "comparisons"} <= content.keys() else ""


def read_bench(file: Path) -> BenchResult:
    """The benchmark in a JSON file.

    Raises:
        SettingsError: there is no such file.
        DataError: it is damaged, or no benchmark.
    """
    return _read(file, "bench", BenchResult)


def read_ablation(file: Path) -> AblationResult:
    """The ablation in a JSON file.

    Raises:
        SettingsError: there is no such file.
        DataError: it is damaged, or no ablation.
    """
    return _read(file, "ablation", AblationResult)


def read_validity(file: Path) -> ValidityReport:
    """The validation in a JSON file.

    Raises:
        SettingsError: there is no such file.
        DataError: it is damaged, or no validation of this format.
    """
    return _read(file, "validity", ValidityReport)


def _read(file: Path, kind: str, record: type[Record]) -> Record:
    content = _read_json(file)
    command = {"bench": "bench", "ablation": "ablate", "validity": "validate"}[kind]
    if _kind_of(content) != kind or (kind == "validity" and content.get("format") != FORMAT):
        raise DataError(f"{file}: is no {kind} result; expected what `hybrid-sim {command} --json` writes")
    if kind == "validity":
        content = _each(content, "sections", _with_blocks)
    else:
        content = _each(_with_nan(content), "results", ResultRow.nested)
    try:
        return TypeAdapter(record).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part != "scores")
        raise DataError(
            f"{file}, {place}: {first['msg']}; write it again with `hybrid-sim {command} --json`"
        ) from error


def _each(content: dict[str, Any], field: str, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The content with `change` made to every table of a list; pydantic finds what is no such list."""
    rows = content.get(field)
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return {**content, field: [change(row) for row in rows]}
    return content


def _with_blocks(section: dict[str, Any]) -> dict[str, Any]:
    """A section of the document model: verdicts, charts and tables are stored apart."""
    kinds = [section.get(name) for name in ("verdicts", "charts", "tables")]
    return {**section, "blocks": [block for blocks in kinds if isinstance(blocks, list) for block in blocks]}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a run folder or a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}); write it again with --json") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no result; expected what --json of bench, ablate or validate writes")
    return content


def _with_nan(value: Any) -> Any:
    """Numbers that strict JSON had to write as null are NaN again."""
    if isinstance(value, list):
        return [_with_nan(part) for part in value]
    if not isinstance(value, dict):
        return value
    absent = {name: None if name in NULLABLE else math.nan for name, part in value.items() if part is None}
    return {name: absent[name] if name in absent else _with_nan(part) for name, part in value.items()}
