"""What FAISS does: python experiments/faiss_index.py [large] [neighbours] [evidence] [worth] (default all).

`large`: the index of 200,000 vectors, mixtures of two item texts of MovieLens 1M each plus noise, against the exact
answer: recall@10, build time, memory, queries a second. `neighbours` and `evidence`: time and memory on MovieLens 1M
(users 1-2999) against products with the whole history, which is how both were made before. `worth`: the component
`profile` of `hybrid-sim ablate` on MovieLens 100K. Writes experiments/results/faiss_index.json; needs
HYBRID_SIM_DATA. Memory is what Python and numpy allocate at the peak (tracemalloc) beyond what was there before.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import hybrid_sim as hs
from hybrid_sim.cli import main as program
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.types import FloatArray, Pairs
from hybrid_sim.core.user_state import Histories
from hybrid_sim.retrieval.content_gp import N_PLAIN, ContentGP
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.retrieval.evidence import LEAST_EFFECT, EvidenceFinder
from hybrid_sim.retrieval.index import VectorIndex, item_index
from hybrid_sim.retrieval.text_raters import HistoryNeighbours

OUT = Path(__file__).parent / "results" / "faiss_index.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
N_LARGE = 200_000
MEMBERS = "biases,neighbours,facets,content_gp,profile_neighbours"
PROTOCOLS = {"last40": ["last40"], "cold-users-10": ["cold-users", "--known", "10"]}


def main(sections: list[str], seed: int = 0) -> None:
    """Measure what is asked for; results of other sections in the file are kept."""
    report: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    dataset = hs.load_dataset("ml-1m", DATA / "ml-1m-users1-2999")
    for section in sections or ["large", "neighbours", "evidence", "worth"]:
        report[section] = {"large": large, "neighbours": neighbours, "evidence": evidence, "worth": worth}[section](
            dataset, np.random.default_rng(seed)
        )
        sys.stdout.write(f"{section} {json.dumps(report[section], indent=1)}\n")
        about = provenance(sys.argv, seed, dataset, embedder_for(dataset).name)
        write_whole(OUT, json.dumps({**report, "provenance": asdict(about)}, indent=1).encode() + b"\n")


def large(dataset: Dataset, rng: np.random.Generator) -> dict[str, Any]:
    """The graph against all products, each query a vector of the set plus noise."""
    texts = item_index(dataset, embedder_for(dataset)).vectors_
    first, second = rng.integers(len(texts), size=(2, N_LARGE))
    share = rng.uniform(0.2, 0.8, (N_LARGE, 1))
    vectors = _noisy(share * texts[first] + (1 - share) * texts[second], rng)
    queries = _noisy(vectors[rng.integers(N_LARGE, size=1000)], rng)
    graph, build_seconds = _timed(lambda: VectorIndex().fit(vectors))
    near, near_seconds = _timed(lambda: graph.search(queries, 10))
    exact, exact_seconds = _timed(lambda: VectorIndex(exact_below=N_LARGE).fit(vectors).search(queries, 10))
    hits = [len(set(a) & set(b)) for a, b in zip(near.rows.tolist(), exact.rows.tolist(), strict=True)]
    more = _noisy(vectors[:1000], rng)
    grown = np.concatenate([vectors, more])
    _, update_seconds = _timed(lambda: graph.updated(grown, np.arange(N_LARGE)))
    return {
        "n_vectors": N_LARGE,
        "dim": vectors.shape[1],
        "recall_at_10": float(np.mean(hits)) / 10,
        "build_seconds": build_seconds,
        "seconds_to_add_1000": update_seconds,
        "vectors_mb": vectors.nbytes / 1e6,
        "graph_mb": graph.graph_.nbytes / 1e6,
        "queries_per_second": len(queries) / near_seconds,
        "exact_queries_per_second": len(queries) / exact_seconds,
    }


def neighbours(dataset: Dataset, rng: np.random.Generator) -> dict[str, Any]:
    """A fifth of the ratings predicted by the user's most similar items."""
    held_out = rng.random(len(dataset)) < 0.2
    train, pairs = dataset.take(~held_out), dataset.pairs.take(held_out)
    rater = HistoryNeighbours(embedder_for(train)).fit(train)
    some = pairs.take(np.flatnonzero(pairs.user < 600))
    return {"n_pairs": len(pairs), "n_ratings": len(train)} | _compared(
        rater.residual, lambda pairs: _residual_by_products(rater, pairs), pairs, some
    )


def evidence(dataset: Dataset, rng: np.random.Generator) -> dict[str, Any]:
    """Every twentieth user's evidence for all items of the catalogue: which ratings are cited, and their effects."""
    process, histories = ContentGP(embedder_for(dataset)).fit(dataset), Histories(dataset)
    finder, items = EvidenceFinder(process, dataset), np.arange(dataset.n_items)

    def effects(cited: Callable[[Any], Any], pairs: Pairs) -> FloatArray:
        sums = np.zeros(len(pairs))
        for place, user in enumerate(pairs.user.tolist()):
            history = histories.of(user)
            sums[place] = np.abs(cited(process.influences(history.item, history.rating))[2]).sum()
        return sums

    users = np.arange(0, dataset.n_users, 20)
    pairs = Pairs(users, np.zeros_like(users))
    least = LEAST_EFFECT * (dataset.scale.high - dataset.scale.low)
    return {"n_users": len(users), "n_items": len(items)} | _compared(
        lambda pairs: effects(lambda found: finder._cited(found, items), pairs),
        lambda pairs: effects(lambda found: _cited_by_products(process.features_, found, least), pairs),
        pairs,
        pairs.take(np.arange(20)),
    )


def worth(dataset: Dataset, rng: np.random.Generator) -> dict[str, Any]:
    """What `ablate` says of the component, with 95% intervals over users; a gain is a fall of the error."""
    found: dict[str, Any] = {}
    for name, words in PROTOCOLS.items():
        command = ["ablate", "--dataset", "ml-100k", "--protocol", *words, "--folds", "1", "--members", MEMBERS]
        command += ["--components", "profile"]
        with tempfile.TemporaryDirectory() as folder:
            program([*command, "--json", f"{folder}/ablation.json"])
            result = json.loads(Path(folder, "ablation.json").read_text())
        found[name] = {"command": " ".join(["hybrid-sim", *command]), "effects": result["effects"]}
    return found


def _compared(
    now: Callable[[Pairs], FloatArray], before: Callable[[Pairs], FloatArray], pairs: Pairs, some: Pairs
) -> dict[str, float]:
    """Both ways on all pairs for time and difference, and on some for memory, which costs time to measure."""
    now(some.take(np.arange(1)))
    (new, seconds), (old, seconds_before) = _timed(lambda: now(pairs)), _timed(lambda: before(pairs))
    peak, peak_before = _peak_mb(lambda: now(some)), _peak_mb(lambda: before(some))
    return {
        "largest_difference": float(np.nanmax(np.abs(new - old))),
        "seconds": seconds,
        "seconds_before": seconds_before,
        "time_ratio": seconds / seconds_before,
        "peak_mb": peak,
        "peak_mb_before": peak_before,
        "memory_ratio": peak / peak_before,
    }


def _residual_by_products(rater: HistoryNeighbours, pairs: Pairs) -> FloatArray:
    """The residual by cosines of all pairs of a user's items, as it was computed before."""
    residual = np.full(len(pairs), np.nan)
    has_text = (pairs.item >= 0) & rater.vectors_[pairs.item].any(axis=1)
    order = np.flatnonzero(has_text)[np.argsort(pairs.user[has_text], kind="stable")]
    users, starts = np.unique(pairs.user[order], return_index=True)
    for user, rows in zip(users.tolist(), np.split(order, starts[1:]), strict=False):
        own = slice(rater.history_start_[user], rater.history_start_[user + 1])
        cosines = rater.vectors_[pairs.item[rows]] @ rater.vectors_[rater.history_item_[own]].T
        cosines[pairs.item[rows, None] == rater.history_item_[own]] = 0.0
        cosines = np.maximum(cosines, 0.0)
        if cosines.shape[1] > rater.k:
            least = np.partition(cosines, -rater.k, axis=1)[:, [-rater.k]]
            cosines = np.where(cosines >= least - 1e-12, cosines, 0.0)
        weights = cosines**2
        residual[rows] = weights @ rater.history_residual_[own] / (rater.shrink + weights.sum(axis=1))
    return residual


def _cited_by_products(features: FloatArray, influences: Any, least: float, n_cited: int = 3) -> Any:
    """Row, place and effect of the cited ratings by the effects of all ratings on all items, as before."""
    effect = features @ influences.weights.T
    by_content = features[:, N_PLAIN:] @ influences.weights[:, N_PLAIN:].T
    cited = []
    for sign in (1.0, -1.0):
        telling = (sign * effect >= least) & (sign * influences.surprise > 0)
        strength = np.where(telling, sign * by_content, 0.0)
        n = min(n_cited, strength.shape[1])
        best = np.argpartition(-strength, n - 1, axis=1)[:, :n]
        rows, ranks = np.nonzero(np.take_along_axis(strength, best, axis=1) > 0)
        cited.append((rows, best[rows, ranks]))
    rows, places = (np.concatenate(part) for part in zip(*cited, strict=True))
    return rows, places, effect[rows, places]


def _noisy(vectors: Any, rng: np.random.Generator) -> Any:
    """Unit vectors near the given ones."""
    moved = vectors + 0.02 * rng.normal(size=vectors.shape)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and its CPU seconds on all cores."""
    start = time.process_time()
    return work(), time.process_time() - start


def _peak_mb(work: Callable[[], Any]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
