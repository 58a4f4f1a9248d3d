"""Runs every benchmark that the README reports, and prints its tables from the results.

    python experiments/results.py run [NAME ...]    write experiments/results/NAME.json and .png
    python experiments/results.py table             print the tables in Markdown

Real data is looked for in HYBRID_SIM_DATA; benchmarks that fail, for example for want of data, are named at
the end. All of them take hours on two cores; name what you need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from hybrid_sim.core.errors import SettingsError

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
RECORDED = DATA / "lusifer" / "ml-100k"
MODELS = "global_mean,user_mean,item_mean,biases,knn,svd,svdpp,nmf,hybrid,llm,hybrid+llm,hybrid+llm_shuffled"
WITH_LLM = ["--dataset", "ml-100k", "--models", MODELS, "--llm-ratings", str(RECORDED)]

BENCHMARKS: dict[str, list[str]] = {
    "world": [],
    "ml-100k-last40": [*WITH_LLM, "--protocol", "last40"],
    "ml-100k-full": [*WITH_LLM, "--protocol", "full"],
    "ml-100k-cold-items": ["--dataset", "ml-100k", "--protocol", "cold-items"],
    "ml-100k-cold-users-0": ["--dataset", "ml-100k", "--protocol", "cold-users"],
    "ml-100k-cold-users-10": ["--dataset", "ml-100k", "--protocol", "cold-users", "--known", "10"],
    "ml-1m-user-temporal": ["--dataset", "ml-1m", "--protocol", "user-temporal"],
    "ml-latest-small-user-temporal": ["--dataset", "ml-latest-small", "--protocol", "user-temporal"],
    "ml-100k-cold-users-5": ["--dataset", "ml-100k", "--protocol", "cold-users", "--known", "5"],
    "ml-100k-cold-users-20": ["--dataset", "ml-100k", "--protocol", "cold-users", "--known", "20"],
    "ml-100k-cold-both": ["--dataset", "ml-100k", "--protocol", "cold-both"],
    "ml-1m-cold-items-tenth": ["--dataset", "ml-1m", "--protocol", "cold-items-tenth"],
    "ml-latest-small-cold-items-tenth": ["--dataset", "ml-latest-small", "--protocol", "cold-items-tenth"],
    "anime-cold-items-tenth": ["--dataset", "anime", "--protocol", "cold-items-tenth"],
    "anime-user-temporal": ["--dataset", "anime", "--protocol", "user-temporal"],
    "amazon-musical-instruments-user-temporal": [
        *["--dataset", "amazon-musical-instruments", "--protocol", "user-temporal"]
    ],
}
"""Name of a result and the options of `hybrid-sim bench` that make it."""


def run(names: list[str]) -> int:
    """Run the named benchmarks, by default all; returns 1 if one of them failed."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SettingsError(f"there is no benchmark {unknown[0]!r}; choose among {', '.join(BENCHMARKS)}")
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for name in names or BENCHMARKS:
        options = BENCHMARKS[name]
        place = ["--data", str(DATA)] if options else []
        out = ["--json", str(RESULTS / f"{name}.json"), "--figure", str(RESULTS / f"{name}.png")]
        program = [sys.executable, "-m", "hybrid_sim", "bench"]
        if subprocess.run([*program, *place, *options, *out], check=False).returncode:
            failed.append(name)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return bool(failed)


def table() -> int:
    """Print a table per result: means over folds, with the difference to the hybrid and its interval."""
    for name in BENCHMARKS:
        path = RESULTS / f"{name}.json"
        if path.is_file():
            sys.stdout.write(f"{_markdown(name, json.loads(path.read_text()))}\n\n")
    return 0


def _markdown(name: str, report: dict[str, Any]) -> str:
    rows = defaultdict(list)
    for row in report["results"]:
        rows[row["model"]].append(row)
    synthetic = " (synthetic data)" if report["provenance"]["synthetic"] else ""
    compared = {c["b"]: c for c in report["comparisons"] if c["a"] == "hybrid" and c["metric"] == "rmse"}
    lines = [
        f"**{name}**{synthetic}",
        "",
        "| model | folds | RMSE | MAE | Pearson | log loss | ECE | 90% coverage | hybrid minus it | s/fold |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, parts in rows.items():
        figures = [_mean(parts, key) for key in ("rmse", "mae", "pearson", "log_loss", "ece", "coverage")]
        other = compared.get(model)
        gap = f"{other['estimate']:+.4f} [{other['low']:+.4f}, {other['high']:+.4f}]" if other else ""
        folds = ", ".join(str(part["fold"]) for part in parts)
        lines.append(f"| {model} | {folds} | {' | '.join(figures)} | {gap} | {_mean(parts, 'seconds', 1)} |")
    return "\n".join(lines)


def _mean(rows: list[dict[str, float | None]], key: str, decimals: int = 4) -> str:
    values = [row[key] for row in rows]
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.{decimals}f}" if len(known) == len(values) else "-"


def main(words: list[str]) -> int:
    """Do what the first word says."""
    match words:
        case ["run", *names]:
            return run(names)
        case ["table"]:
            return table()
    sys.stderr.write(__doc__ or "")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
