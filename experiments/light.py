"""What the light set of members costs in accuracy, and saves in CPU time, against all members.

    python experiments/light.py [--folds 1,2,3] [--kept DIR] [PROTOCOL ...]    write experiments/results/light.json

Protocols (default last40 and cold-items-tenth) on MovieLens 100K, in one process. Predictions are kept in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.types import RatingDistribution
from hybrid_sim.data.sources import load
from hybrid_sim.ensemble.components import LIGHT
from hybrid_sim.evaluation.protocols import Fold, make_protocol, parse_folds
from hybrid_sim.evaluation.scores import Losses, Predictions, compare, rmse_interval, row_losses
from hybrid_sim.simulation.simulator import Simulator

RESULT = Path(__file__).parent / "results" / "light.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
SEED = 0
MEMBERS: dict[str, str | None] = {"all": None, LIGHT: LIGHT}


def predicted(name: str, protocol: str, fold: Fold, kept: Path) -> tuple[Losses, float]:
    """The losses of the held-out ratings, and the CPU seconds of the fit."""
    path = kept / f"light-{protocol}-{fold.number}-{name}.npz"
    if not path.is_file():
        start = time.process_time()
        simulator = Simulator(SEED, MEMBERS[name], n_jobs=1).fit(fold.train)
        seconds = time.process_time() - start
        kept.mkdir(parents=True, exist_ok=True)
        np.savez(path, probs=simulator.predict_pairs(fold.held_out.pairs).distribution.probs, seconds=seconds)
    with np.load(path) as stored:
        distribution = RatingDistribution(fold.train.scale, stored["probs"])
        seconds = float(stored["seconds"])
    row = Predictions(name, fold.held_out, distribution, protocol=protocol, fold=fold.number)
    return row_losses(row), seconds


def figures(protocol: str, folds: list[int] | None, kept: Path) -> dict[str, Any]:
    """Error and time of both, and their difference; intervals resample users or items, as the protocol has it."""
    made = make_protocol(protocol, load("ml-100k", DATA), folds=folds, data=DATA)
    parts = [{name: predicted(name, made.name, fold, kept) for name in MEMBERS} for fold in made.folds()]
    losses = {name: [part[name][0] for part in parts] for name in MEMBERS}
    seconds = {name: float(np.mean([part[name][1] for part in parts])) for name in MEMBERS}
    return {
        "folds": [number for number, _ in made.splits],
        "rmse": [asdict(rmse_interval(one, made.groups)) for one in losses.values()],
        "differences": [
            asdict(compare(losses[LIGHT], losses["all"], metric, made.groups)) for metric in ("rmse", "log_loss")
        ],
        "cpu_seconds_of_fit": seconds,
        "cpu_ratio": seconds[LIGHT] / seconds["all"],
    }


def main(words: list[str]) -> int:
    """Measure, and write the figures of each protocol beside those of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL", default=["last40", "cold-items-tenth"])
    parser.add_argument("--folds", default="1,2,3")
    parser.add_argument("--kept", type=Path, default=Path("fits"), metavar="DIR")
    options = parser.parse_args(words)
    for protocol in options.protocols:
        folds = None if protocol == "cold-items-tenth" else parse_folds(options.folds)
        command = ["python", "experiments/light.py", "--folds", options.folds, protocol]
        result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        result[protocol] = figures(protocol, folds, options.kept)
        result[protocol]["provenance"] = asdict(provenance(command, SEED, load("ml-100k", DATA)))
        write_whole(RESULT, json.dumps(result, indent=1, allow_nan=False).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
