"""What a second command on the same ratings costs: python experiments/shared_fits.py [NAME ...]

Writes experiments/results/shared_fits.json: CPU seconds of commands, one after the other, each in a process of its own,
with one cache that is empty at first; and whether the table of `bench` is the same without a cache, from an empty one
and from a full one. Real data is looked for in HYBRID_SIM_DATA.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from hybrid_sim.core.provenance import package_versions

RESULT = Path(__file__).parent / "results" / "shared_fits.json"
FOLDS = {
    "world": ["--dataset", "world", "--protocol", "user-temporal", "--folds", "1"],
    "ml-100k": ["--dataset", "ml-100k", "--protocol", "last40", "--folds", "1"],
}
BENCH = ["bench", "--models", "hybrid", "--figure", "none", "--json"]
OF_FOLD = {
    "bench": [*BENCH, "bench.json"],
    "bench again": [*BENCH, "again.json"],
    "validate": ["validate"],
    "fit of the fold": ["fit", "-o", "fold"],
    "ablate": ["ablate"],
    "bench without a cache": [*BENCH, "plain.json", "--no-cache"],
}
"""Commands that learn from the training ratings of one fold."""

PAIRS = ["--user", "random:20", "--item", "random:20"]
OF_ALL = {
    "simulate": ["simulate", *PAIRS, "-o", "run"],
    "simulate again": ["simulate", *PAIRS, "-o", "other"],
    "fit": ["fit", "-o", "model"],
}
"""Commands that learn from all ratings of a data set."""

WHOLE = ("world",)
"""Data sets on which all commands are measured; on larger ones only `FEW`."""

FEW = ("bench", "bench again", "validate", "fit of the fold")


def cpu_seconds(words: list[str], folder: Path) -> float:
    """CPU seconds of a command, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "HYBRID_SIM_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "hybrid_sim", *words, "--quiet"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def scores(path: Path) -> list[object]:
    """The rows of a stored benchmark without seconds and memory."""
    rows = json.loads(path.read_text())["results"]
    return [{name: value for name, value in row.items() if name not in ("seconds", "peak_mb")} for row in rows]


def measured(name: str) -> dict[str, object]:
    """All commands on one data set."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if embeddings := os.environ.get("HYBRID_SIM_CACHE"):
            (folder / "cache").mkdir()
            (folder / "cache" / "embeddings").symlink_to(Path(embeddings) / "embeddings")
        parts = [("one fold", OF_FOLD, FOLDS[name]), ("all ratings", OF_ALL, FOLDS[name][:2])]
        if name not in WHOLE:
            parts = [("one fold", {what: OF_FOLD[what] for what in FEW}, FOLDS[name])]
        for title, commands, data in parts:
            seconds = {what: cpu_seconds([*words, *data], folder) for what, words in commands.items()}
            first = next(iter(seconds.values()))
            figures[title] = {
                what: {"cpu_seconds": taken, "share_of_first": taken / first} for what, taken in seconds.items()
            }
        tables = [scores(path) for path in folder.glob("*.json")]
        figures["tables are equal"] = all(table == tables[0] for table in tables)
        figures["cache_mb"] = sum(f.stat().st_size for f in (folder / "cache" / "fits").rglob("*") if f.is_file()) / 1e6
    return figures


def main(names: list[str]) -> int:
    """Measure the named data sets, by default all, and keep the figures."""
    stored = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for name in names or FOLDS:
        stored[name] = {**measured(name), "cpus": os.cpu_count(), "versions": package_versions()}
        RESULT.write_text(json.dumps(stored, indent=1) + "\n")
        sys.stdout.write(f"{name}: {json.dumps(stored[name], indent=1)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
