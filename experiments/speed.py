"""How many ratings per second a fitted simulator gives: python experiments/speed.py [DATASET] [N_PAIRS].

Fits on the data set (the synthetic world by default), then asks about random pairs in one batch, three times;
the best time counts.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import hybrid_sim as hs


def main(name: str = "world", n_pairs: int = 100_000) -> None:
    """Fit, ask and print the rate."""
    dataset = hs.load_dataset(name)
    start = time.perf_counter()
    simulator = hs.Simulator(seed=0).fit(dataset)
    fitted = time.perf_counter() - start
    rng = np.random.default_rng(0)
    pairs = hs.Pairs(rng.integers(dataset.n_users, size=n_pairs), rng.integers(dataset.n_items, size=n_pairs))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        simulator.predict_pairs(pairs)
        seconds.append(time.perf_counter() - start)
    sys.stdout.write(
        f"{dataset.name}: fitted in {fitted:.1f} s; {n_pairs / min(seconds):,.0f} ratings per second "
        f"in a batch of {n_pairs:,} pairs\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
