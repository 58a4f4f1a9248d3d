"""A real small model: SmolLM2-135M-Instruct, served by llama.cpp, asked by `hybrid-sim simulate` over HTTP.

    HYBRID_SIM_LLAMA_SERVER=.../llama-server HYBRID_SIM_LLAMA_MODEL=.../SmolLM2-135M-Instruct.Q4_1.gguf \
        HYBRID_SIM_DATA=DIR python experiments/smollm2.py WORK_FOLDER world|ml-100k N_CALIBRATION_USERS [SETTING ...]

20 users rate 10 items each whose ratings were held out: of the world by `user-temporal`, of MovieLens 100K by `last40`,
fold 1. The simulator is fitted to the training ratings; `N_CALIBRATION_USERS` are asked about up to ten of these each,
from which the weight of the model's ratings is learned. The run is compared with one without a language model on the
held-out ratings, and replayed after the server has ended. Profiles are written by statistics, so that a call asks for
ratings. Called again it resumes in WORK_FOLDER. Adds to experiments/results/smollm2.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.data.sources import load
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import paired_bootstrap
from hybrid_sim.evaluation.protocols import make_protocol
from hybrid_sim.llm.budget import Ledger
from hybrid_sim.llm.journal import Journal
from hybrid_sim.simulation.run_folder import FinishedRun, RunFolder, read_explanations, read_run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from llama_server import ALIAS, MODEL, llama_server

OUT = Path(__file__).parent / "results" / "smollm2.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
PROTOCOLS = {"world": "user-temporal", "ml-100k": "last40"}
N_USERS, N_ITEMS, SEED = 20, 10, 0
CONTEXT = 8192
N_SLOTS = 4
SETTINGS = (
    *("profile.writer=statistics", "rating.n_history=2", "rating.reason_length=30", "llm.deadline=600"),
    f"llm.concurrency={N_SLOTS}",
)
"""As many calls at a time as the server has slots; the deadline is that of a busy machine."""


def main(work: Path, name: str, n_calibration: int, *more: str) -> None:
    """Fit, simulate with and without the model, replay, compare, print and write."""
    if MODEL is None:
        sys.exit("HYBRID_SIM_LLAMA_MODEL names no GGUF file")
    dataset = load(name, DATA)
    protocol = make_protocol(PROTOCOLS[name], dataset, folds=[1], data=DATA)
    fold = next(protocol.folds())
    held_out = fold.held_out.take(chosen_rows(fold.held_out))
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    tables = write_tables(fold.train, held_out, folder)
    if not (folder / "model").is_dir():
        hybrid_sim("fit", *tables, "-o", folder / "model")
    shared = ("simulate", *tables, "--pairs", folder / "pairs.csv", "--fitted", folder / "model")
    hybrid_sim(*shared, "-o", folder / "statistics")
    run = folder / f"run-{n_calibration}"
    settings = (*SETTINGS, f"rating.learn_from={n_calibration}", *more)
    asking = (*shared, "-o", run, "--model", ALIAS, *(word for one in settings for word in ("--set", one)))
    with llama_server(MODEL, folder / "server.log", CONTEXT, N_SLOTS) as url:
        status = hybrid_sim(*asking, "--base-url", url)
    digests, ledger = digests_of(run), ledger_of(run)
    replay = hybrid_sim(*asking, "--replay")
    report = {
        "protocol": protocol.name,
        "fold": 1,
        "settings": settings,
        "exit_status": status,
        **replies_of(run),
        **accuracy(read_run(run), read_run(folder / "statistics"), held_out.rating),
        "replay": {
            "exit_status": replay,
            "calls": ledger_of(run).calls - ledger.calls,
            "same_bytes": digests_of(run) == digests,
        },
        "provenance": asdict(provenance(sys.argv, SEED, dataset)),
    }
    stored = json.loads(OUT.read_bytes()) if OUT.is_file() else {}
    stored[f"{name}, {n_calibration} calibration users"] = report
    write_whole(OUT, json.dumps(dict(sorted(stored.items())), indent=1, allow_nan=False).encode() + b"\n")
    sys.stdout.write(f"{json.dumps(report, indent=1)}\n")


def chosen_rows(held_out: Dataset) -> IntArray:
    """Held-out ratings of 20 random users, 10 random ones of each."""
    rng, counts = stream(SEED, "users and items"), np.bincount(held_out.user)
    users = np.sort(rng.permutation(np.flatnonzero(counts >= N_ITEMS))[:N_USERS])
    return np.concatenate([np.sort(rng.permutation(np.flatnonzero(held_out.user == u))[:N_ITEMS]) for u in users])


def write_tables(train: Dataset, held_out: Dataset, folder: Path) -> tuple[Path | str, ...]:
    """Write training ratings, items, users and pairs; the options that name the first three."""
    options: list[Path | str] = ["--scale", ",".join(f"{level:g}" for level in train.scale.levels)]
    for name, table in (("ratings", ratings_of(train)), ("items", train.items), ("users", train.users)):
        options += [f"--{name}", folder / f"{name}.parquet"]
        if name != "ratings":
            table = table.rename_axis(f"{name[:-1]}_id").reset_index()
        table.to_parquet(folder / f"{name}.parquet", index=False)
    ratings_of(held_out)[["user_id", "item_id"]].to_csv(folder / "pairs.csv", index=False)
    return tuple(options)


def ratings_of(dataset: Dataset) -> pd.DataFrame:
    """A row per rating: user_id, item_id, rating, timestamp."""
    ids = {"user_id": dataset.users.index[dataset.user], "item_id": dataset.items.index[dataset.item]}
    return pd.DataFrame({**ids, "rating": dataset.rating, "timestamp": dataset.timestamp})


def hybrid_sim(*words: Path | str) -> int:
    """The exit status of the command; 0 and 6 (some pairs lack a rating of the model) are results."""
    command = [sys.executable, "-m", "hybrid_sim", *map(str, words), "--jobs", "1"]
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 6):
        sys.exit(f"exit status {status}: {' '.join(command)}")
    return status


def digests_of(run: Path) -> list[str]:
    """SHA-256 of each table of a run."""
    return [hashlib.sha256(table.read_bytes()).hexdigest() for table in RunFolder(run).tables]


def ledger_of(run: Path) -> Ledger:
    """Sums over all calls of the run."""
    with Journal(RunFolder(run).journal, replay=True) as journal:
        return journal.ledger()


def replies_of(run: Path) -> dict[str, Any]:
    """Calls, replies that passed the check, pairs answered, and what the model's ratings are worth."""
    finished, about = read_run(run), json.loads(RunFolder(run).about.read_bytes())
    ledger = about["ledger"]
    levels = Counter(finished.llm_rating[~np.isnan(finished.llm_rating)].tolist())
    return {
        "calls": ledger["calls"],
        "replies_that_kept_the_schema": ledger["answered"],
        "failures": about["failures"],
        "seconds_per_call": ledger["seconds"] / max(ledger["calls"], 1),
        "prompt_tokens_per_call": ledger["prompt_tokens"] / max(ledger["calls"], 1),
        "reply_tokens_per_call": ledger["completion_tokens"] / max(ledger["calls"], 1),
        "pairs": len(finished),
        "pairs_asked_about": about["asked"],
        "pairs_answered": about["answered"],
        "ratings_of_the_model": {f"{level:g}": levels[level] for level in sorted(levels)},
        "llm_value": about["llm_value"],
        "pairs_with_a_reason_of_the_model": sum(
            one["by"] == "llm" for one in read_explanations(finished.folder.explanations)
        ),
    }


def accuracy(run: FinishedRun, statistics: FinishedRun, truth: FloatArray) -> dict[str, Any]:
    """RMSE and log loss of both runs on the same held-out ratings, and the difference with its interval over users."""
    report: dict[str, Any] = {}
    both = (run.distribution, statistics.distribution)
    squares = [(one.mean() - truth) ** 2 for one in both]
    losses = [metrics.log_losses(truth, one) for one in both]
    for metric, (hybrid, alone) in (("rmse", squares), ("log_loss", losses)):
        difference = paired_bootstrap(hybrid, alone, run.user, "rmse" if metric == "rmse" else "mean", seed=SEED)
        figures = (float(np.sqrt(one.mean()) if metric == "rmse" else one.mean()) for one in (hybrid, alone))
        report[metric] = dict(zip(("hybrid", "statistics"), figures, strict=True)) | {
            "difference": dict(zip(("estimate", "low", "high"), difference.values, strict=True))
        }
    rated = ~np.isnan(run.llm_rating)
    report["rmse_of_the_model_alone"] = metrics.rmse(truth[rated], run.llm_rating[rated]) if rated.any() else None
    report["pairs_with_the_statistical_distribution"] = int(
        (run.distribution.probs == statistics.distribution.probs).all(axis=1).sum()
    )
    return report


if __name__ == "__main__":
    folder, name, n_calibration, *more = sys.argv[1:]
    main(Path(folder), name, int(n_calibration), *more)
