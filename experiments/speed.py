"""How many ratings per second a fitted simulator gives: python experiments/speed.py [DATASET ...]

Fits on each data set (ml-100k under HYBRID_SIM_DATA and the synthetic world by default), then asks about random pairs
in one batch, three times; the best time counts. Writes experiments/results/speed.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import hybrid_sim as hs
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance

RESULT = Path(__file__).parent / "results" / "speed.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
N_PAIRS = 100_000


def main(names: list[str]) -> None:
    """Measure every data set and write."""
    found = {name: measure(name) for name in names or ["ml-100k", "world"]}
    write_whole(RESULT, json.dumps(found, indent=1).encode() + b"\n")


def measure(name: str) -> dict[str, Any]:
    """Fit, ask and show the rate."""
    dataset = hs.load_dataset(name, None if name == "world" else DATA)
    start = time.perf_counter()
    simulator = hs.Simulator(seed=0).fit(dataset)
    fitted = time.perf_counter() - start
    rng = np.random.default_rng(0)
    pairs = hs.Pairs(rng.integers(dataset.n_users, size=N_PAIRS), rng.integers(dataset.n_items, size=N_PAIRS))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        simulator.predict_pairs(pairs)
        seconds.append(time.perf_counter() - start)
    rate = round(N_PAIRS / min(seconds))
    sys.stdout.write(f"{name}: fitted in {fitted:.1f} s; {rate:,} ratings per second in a batch of {N_PAIRS:,} pairs\n")
    made = asdict(provenance(["python", "experiments/speed.py", *sys.argv[1:]], 0, dataset))
    return {"ratings_per_second": rate, "seconds_to_fit": fitted, "n_pairs": N_PAIRS, "provenance": made}


if __name__ == "__main__":
    main(sys.argv[1:])
