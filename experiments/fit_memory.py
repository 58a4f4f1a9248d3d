"""Does `fit` foresee its memory? python experiments/fit_memory.py [DATASET ...]

Each member of the ensemble is fitted once, alone and in a process of its own, with one thread, to MovieLens 100K (under
HYBRID_SIM_DATA) and to a synthetic world of 1,000,000 ratings; texts are embedded by TF-IDF. Compared are what
`hybrid_sim.core.rater.fit_cost` estimates and what was measured: the CPU time, and the growth of the resident memory at
its peak, after a fit to a tiny world that loads the libraries and compiles. Little is measured where freed memory is
used again. The last rows are whole simulators. Writes experiments/results/fit_memory.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

import hybrid_sim as hs
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.rater import fit_cost
from hybrid_sim.core.texts import item_texts
from hybrid_sim.ensemble.components import default_members
from hybrid_sim.ensemble.cost import ensemble_cost
from hybrid_sim.evaluation.resources import measured
from hybrid_sim.models.registry import registered_members
from hybrid_sim.retrieval.tfidf import TfidfSVD

OUT = Path(__file__).parent / "results" / "fit_memory.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
DATASETS: dict[str, Callable[[], hs.Dataset]] = {
    "ml-100k": lambda: hs.load_dataset("ml-100k", DATA),
    "world, 1,000,000 ratings": lambda: hs.make_world(0, n_users=6_000, n_items=4_000, ratings_per_user=172).dataset,
}
WHOLE = (("biases",), ("biases", "knn"), ("biases", "svd", "kernel_gp"))
"""Members of the simulators that are fitted whole, out-of-fold predictions and combiner included, by one job."""


def main(names: list[str]) -> None:
    """Measure, print and write row after row."""
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in names or list(DATASETS):
        rows: dict[str, Any] = {}
        command = ["python", "experiments/fit_memory.py", *names]
        made = asdict(provenance(command, 0, DATASETS[name]()))
        members = [member.name for _, member in registered_members()]
        for subject in [*[(member,) for member in members], *(("simulator", *whole) for whole in WHOLE)]:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = rows[" ".join(subject)] = pool.apply(measure, (name, *subject))
            sys.stdout.write(f"{name} {' '.join(subject)}: {row}\n")
            sys.stdout.flush()
            large = [row for row in rows.values() if max(row["estimated_mb"], row["measured_mb"]) > 100]
            ratios = [row["estimated_mb"] / max(row["measured_mb"], 1) for row in large] or [1.0]
            span = [round(min(ratios), 2), round(max(ratios), 2)]
            results[name] = {"rows": rows, "estimate_to_measured_above_100_mb": span, "provenance": made}
            write_whole(OUT, json.dumps(results, indent=1).encode() + b"\n")


def measure(name: str, *subject: str) -> dict[str, Any]:
    """Estimated and measured megabytes and CPU seconds of one member, or of a simulator of some."""
    dataset, tiny = DATASETS[name](), hs.make_world(1, n_users=60, n_items=80, ratings_per_user=20).dataset
    member, *whole = subject
    wanted = whole or [member]
    with threadpool_limits(1):
        for data in (tiny, dataset):
            embedder = TfidfSVD().fit(item_texts(data))
            members = default_members(data.scale, embedder, 0, wanted)
            started = time.process_time()
            with measured() as effort:
                (hs.Simulator(0, whole, embedder, n_jobs=1) if whole else members[member]).fit(data)
            seconds = time.process_time() - started
    members = {one: members[one] for one in wanted}
    cost = ensemble_cost(members, dataset, 1).total if whole else fit_cost(members[member], dataset)
    return {
        "estimated_mb": round(cost.memory / 1e6, 1),
        "measured_mb": round(effort.peak_mb * 2**20 / 1e6, 1),
        "estimated_cpu_seconds": round(cost.seconds, 1),
        "measured_cpu_seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
