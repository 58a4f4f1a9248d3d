"""Stored results, read again: the JSON of benchmarks and of ablations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.evaluation.ablation.report import AblationResult
from hybrid_sim.evaluation.bench_report import BenchResult
from hybrid_sim.evaluation.scores import ResultRow

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


def _read(file: Path, kind: str, record: type[Stored]) -> Stored:
    content = read_json(file)
    command = {"bench": "bench", "ablation": "ablate"}[kind]
    if kind_of(content) != kind:
        raise DataError(f"{file}: is no {kind} result; expected what `hybrid-sim {command} --json` writes")
    try:
        content = _with_nan(content)
        if kind == "bench":
            content["results"] = [ResultRow.nested(row) for row in content["results"]]
        return TypeAdapter(record).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part != "scores")
        raise DataError(
            f"{file}, {place}: {first['msg']}; write it again with `hybrid-sim {command} --json`"
        ) from error


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
