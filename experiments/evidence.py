"""Does cited evidence matter: python experiments/evidence.py [FOLD ...] (default 1 3), on ml-100k, protocol full.

For one held-out pair of every user, the rating that is cited first is taken out of the training data; in another copy
all that is cited on the side that weighs more, for or against; in a third a random rating of the same user that is not
cited. Each time everything is fitted again, for all users at once: what is compared is what the models really do, not
what the explanation says they do. A row counts where taking out what is cited moves the expected rating more. Writes
experiments/results/evidence.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import hybrid_sim as hs
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.rater import expected
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, Pairs
from hybrid_sim.core.user_state import Histories
from hybrid_sim.evaluation.protocols import make_protocol
from hybrid_sim.models import make_rater
from hybrid_sim.retrieval.content_gp import ContentGP
from hybrid_sim.retrieval.embedder import default_embedder
from hybrid_sim.retrieval.evidence import EvidenceFinder

OUT = Path(__file__).parent / "results" / "evidence.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
STEADY = ("biases", "knn", "neighbours", "facets", "content_gp", "kernel_gp")
"""Members without random numbers: a refit of the others moves all ratings a little, whatever is taken out."""

Fit = Callable[[Dataset, Pairs], FloatArray]


def main(folds: tuple[int, ...] = (1, 3), seed: int = 0) -> None:
    """Measure, print and write."""
    dataset = hs.load_dataset("ml-100k", DATA)
    protocol = make_protocol("full", dataset, folds=folds, data=DATA)
    rows: dict[str, list[np.ndarray[Any, Any]]] = {}
    for fold in protocol.folds():
        for model, moves in measure(fold.train, fold.held_out.pairs, seed).items():
            rows.setdefault(model, []).append(moves)
    report = {
        "folds": list(folds),
        "note": "one held-out pair per user; what is cited against one random other rating of the user; refitted",
        "models": {model: summary(np.concatenate(parts), seed) for model, parts in rows.items()},
        "provenance": asdict(provenance(sys.argv, seed, dataset, default_embedder().name)),
    }
    write_whole(OUT, json.dumps(report, indent=1).encode() + b"\n")
    for model, found in report["models"].items():  # type: ignore[attr-defined] # a dict of dicts
        sys.stdout.write(f"{model}: {found}\n")


def measure(train: Dataset, asked: Pairs, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """By model: how far each row moves without first, side and random rating, shape `(n_rows, 3)`."""
    embedder = default_embedder().fit(item_texts(train))
    finder, histories = EvidenceFinder(ContentGP(embedder).fit(train), train), Histories(train)
    rng = stream(seed, "evidence")
    chosen, first, side, other = [], [], [], []
    for user in np.unique(asked.user).tolist():
        item = int(rng.choice(asked.item[asked.user == user]))
        history = histories.of(user)
        grounds = finder.about(history, np.array([item]))[0]
        cited = {evidence.item: evidence.contribution for evidence in grounds.evidence}
        rest = [h for h in history.item.tolist() if h not in cited]
        if cited and rest:
            chosen.append((user, item))
            first.append((user, grounds.evidence[0].item))
            sign = np.sign(sum(cited.values()))
            side += [(user, h) for h, effect in cited.items() if effect * sign > 0]
            other.append((user, int(rng.choice(rest))))
    users, items = np.array(chosen).T
    pairs = Pairs(users, items)
    fits: dict[str, Fit] = {
        name: lambda data, pairs, name=name: expected(make_rater(name, embedder=embedder).fit(data), pairs)  # type: ignore[misc] # a default binds the name
        for name in ("content_gp", "neighbours", "kernel_gp")
    }
    fits["ensemble of the steady members"] = lambda data, pairs: (
        hs.Simulator(seed, STEADY, embedder).fit(data).predict_pairs(pairs).distribution.mean()
    )
    return {name: moves(fit, train, pairs, (first, side, other)) for name, fit in fits.items()}


def moves(
    fit: Fit, train: Dataset, pairs: Pairs, taken_out: Sequence[Sequence[tuple[int, int]]]
) -> np.ndarray[Any, Any]:
    """How far the expected ratings move when each of these sets of ratings is taken out."""
    before = fit(train, pairs)
    return np.column_stack([np.abs(fit(without(train, taken), pairs) - before) for taken in taken_out])


def without(train: Dataset, taken: Sequence[tuple[int, int]]) -> Dataset:
    """The dataset without the ratings of these (user, item)."""
    keys = [user * train.n_items + item for user, item in taken]
    return train.take(~np.isin(train.user * train.n_items + train.item, keys))


def summary(moved: np.ndarray[Any, Any], seed: int) -> dict[str, Any]:
    """Shares of rows that what is cited moves more, their 95% intervals over users, and the median moves in stars."""
    found: dict[str, Any] = {"n": len(moved)}
    for column, name in enumerate(("first", "side")):
        more = (moved[:, column] > moved[:, -1]).astype(float)
        resampled = stream(seed, "bootstrap").choice(more, (2000, len(more))).mean(axis=1)
        low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
        found[name] = {"share": float(more.mean()), "low": low, "high": high}
    found["median_moves"] = dict(zip(("first", "side", "random"), np.median(moved, axis=0).tolist(), strict=True))
    return found


if __name__ == "__main__":
    main(*([tuple(map(int, sys.argv[1:]))] if sys.argv[1:] else []))
