"""What one prediction costs, and whether a row's answer depends on the rows that are asked with it.

    python experiments/one_pair.py             writes experiments/results/one_pair.json

CPU milliseconds of `Simulator.predict` for one pair of the synthetic world, all members fitted, median of ten rounds;
and of 6,000 pairs how many have other bits when they are asked in 7 files, and of 500 when each is asked alone.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

import hybrid_sim as hs
from hybrid_sim.core.provenance import provenance

RESULT = Path(__file__).parent / "results" / "one_pair.json"
N_PAIRS, N_FILES, N_ALONE = 6000, 7, 500


def main() -> None:
    """Measure and write."""
    dataset = hs.load_dataset("world")
    simulator = hs.Simulator().fit(dataset)
    measured = {"CPU ms per pair": cpu_per_pair(simulator), **differing(simulator)}
    about = asdict(provenance(sys.argv, simulator.seed, dataset))
    RESULT.write_text(json.dumps({**measured, "provenance": about}, indent=1) + "\n")


def cpu_per_pair(simulator: hs.Simulator, n: int = 100) -> float:
    """Median over rounds of `n` calls."""
    user, item = list(simulator.user_ids_[:1]), list(simulator.item_ids_[:1])
    rounds = []
    for _ in range(11):
        started = time.process_time()
        for _ in range(n):
            simulator.predict(user, item)
        rounds.append((time.process_time() - started) / n * 1e3)
    return round(float(np.median(rounds[1:])), 3)


def differing(simulator: hs.Simulator) -> dict[str, int]:
    """Pairs whose distribution has other bits when they are asked in other company."""
    rng = np.random.default_rng(0)
    n_users, n_items = len(simulator.user_ids_), len(simulator.item_ids_)
    pairs = hs.Pairs(rng.integers(-1, n_users, N_PAIRS), rng.integers(-1, n_items, N_PAIRS))
    whole = simulator.rate(pairs).probs
    cuts = np.sort(rng.choice(N_PAIRS, N_FILES - 1, replace=False))
    files = np.concatenate([simulator.rate(pairs.take(rows)).probs for rows in np.split(np.arange(N_PAIRS), cuts)])
    alone = np.concatenate([simulator.rate(pairs.take(slice(row, row + 1))).probs for row in range(N_ALONE)])
    return {
        f"of {N_PAIRS} in {N_FILES} files": int((files != whole).any(axis=1).sum()),
        f"of {N_ALONE} alone": int((alone != whole[:N_ALONE]).any(axis=1).sum()),
    }


if __name__ == "__main__":
    main()
