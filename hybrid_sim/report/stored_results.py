"""Stored results, read again: the JSON of benchmarks, ablations and validations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.evaluation.ablation.report import AblationResult
from hybrid_sim.evaluation.bench_report import BenchResult
from hybrid_sim.evaluation.scores import ResultRow
from hybrid_sim.evaluation.validity.report import FORMAT, ValidityReport

NULLABLE = ("commit", "embedder", "reason", "coverage", "width", "seconds", "peak_mb")
"""Where null means that there is none; elsewhere it stands for a number that is undefined."""

Stored = TypeVar("Stored")


def read_json(file: Path) -> dict[str, Any]:
    """The table in a JSON file.

    Raises:
        SettingsError: there is no such file.
        DataError: it is not JSON, or holds something else than a table.
    """
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror}); name a run folder or a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is not JSON ({error}); write it again with --json") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: holds no result; expected what --json of bench, ablate or validate writes")
    return content


def kind_of(content: Mapping[str, Any]) -> str:
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


def _read(file: Path, kind: str, record: type[Stored]) -> Stored:
    content = read_json(file)
    command = {"bench": "bench", "ablation": "ablate", "validity": "validate"}[kind]
    if kind_of(content) != kind or (kind == "validity" and content.get("format") != FORMAT):
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


def _with_nan(value: Any) -> Any:
    """Numbers that strict JSON had to write as null are NaN again."""
    match value:
        case dict():
            return {
                key: math.nan if item is None and key not in NULLABLE else _with_nan(item)
                for key, item in value.items()
            }
        case list():
            return [_with_nan(item) for item in value]
    return value
