"""What folding new users into a fitted factorization costs in accuracy and saves in time, against fitting again.

    python experiments/fold_in.py        writes experiments/results/fold_in.json; needs HYBRID_SIM_DATA for ml-100k

Of 15% of the users nothing is known at the first fit. Then their first 5 or 20 ratings come, and the rest of theirs is
predicted by a factorization that was fitted again to everything, by one into which they were folded, and by one into
which they were folded without their ratings ("prior"). Three draws of new users are folds; intervals are of the cluster
bootstrap over users.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import hybrid_sim as hs
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.rater import expected
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation.bootstrap import paired_bootstrap
from hybrid_sim.models.factorization import BayesianFactorization
from hybrid_sim.models.fold_in import fold_in
from hybrid_sim.retrieval.embedder import TfidfSVD

RESULT = Path(__file__).parent / "results" / "fold_in.json"
SHARE_NEW = 0.15
N_FIRST = (5, 20)
N_DRAWS = 3
WAYS = ("fitted again", "folded in", "prior")


def compare(data: hs.Dataset, response: Any) -> list[dict[str, Any]]:
    """One record per number of first ratings: RMSE and log loss on the rest, their differences, and CPU seconds."""
    draws = [one_draw(data, response, seed) for seed in range(N_DRAWS)]
    return [record(data, n_first, [draw[n_first] for draw in draws]) for n_first in N_FIRST]


def one_draw(data: hs.Dataset, response: Any, seed: int) -> dict[int, dict[str, Any]]:
    """Squared errors and log losses of the new users' later ratings, and CPU seconds, by number of first ratings."""
    rng = np.random.default_rng(seed)
    new = rng.permutation(data.n_users) < SHARE_NEW * data.n_users
    order = np.arange(len(data)) if data.timestamp is None else data.timestamp
    place, of_new = place_in_group(data.user, order, rng.random(len(data))), new[data.user]
    rater = BayesianFactorization(response, seed=seed, embedder=TfidfSVD().fit(item_texts(data)))
    before, _ = timed(lambda: rater.fit(data.take(~of_new)))
    results = {}
    for n_first in N_FIRST:
        first = place < n_first
        rest, grown = data.take(of_new & ~first), data.take(~of_new | first)
        again = BayesianFactorization(response, seed=seed, embedder=rater.embedder)
        models = {
            "fitted again": timed(lambda: again.fit(grown)),  # noqa: B023  called at once
            "folded in": timed(lambda: fold_in(before, grown)),  # noqa: B023  called at once
            "prior": timed(lambda: fold_in(before, grown.take(np.zeros(0, dtype=np.int64)))),  # noqa: B023  called at once
        }
        losses = {way: losses_of(model, rest) for way, (model, _) in models.items()}
        seconds = {way: spent for way, (_, spent) in models.items()}
        results[n_first] = {"user": rest.user, "losses": losses, "seconds": seconds}
    return results


def losses_of(model: BayesianFactorization, rest: hs.Dataset) -> FloatArray:
    """Squared error and log loss of each rating, shape `(2, n_ratings)`."""
    error = rest.scale.clip(expected(model, rest.pairs)) - rest.rating
    return np.stack([error**2, -np.log(np.maximum(model.rate(rest.pairs).prob_of(rest.rating), 1e-6))])


def record(data: hs.Dataset, n_first: int, draws: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all draws of new users together."""
    users = np.concatenate([draw["user"] for draw in draws])
    folds = np.repeat(np.arange(len(draws)), [len(draw["user"]) for draw in draws])
    losses = {way: np.concatenate([draw["losses"][way] for draw in draws], axis=1) for way in WAYS}
    figures: dict[str, Any] = {"first ratings": n_first, "n": len(users)}
    for way in WAYS:
        rmse = float(np.mean([np.sqrt(losses[way][0, folds == k].mean()) for k in range(len(draws))]))
        seconds = float(np.mean([draw["seconds"][way] for draw in draws]))
        figures[way] = {"rmse": rmse, "log loss": float(losses[way][1].mean()), "CPU seconds": seconds}
    for way in WAYS[1:]:
        pairs = zip(("rmse", "log loss"), ("rmse", "mean"), losses[way], losses[WAYS[0]], strict=True)
        figures[f"{way} minus {WAYS[0]}"] = {
            name: paired_bootstrap(own, again, users, statistic, folds=folds).values
            for name, statistic, own, again in pairs
        }
    return figures


def timed(work: Callable[[], BayesianFactorization]) -> tuple[BayesianFactorization, float]:
    """What the work gives, and the CPU seconds that it took."""
    started = time.process_time()
    return work(), time.process_time() - started


if __name__ == "__main__":
    results: dict[str, Any] = {}
    for name in sys.argv[1:] or ("world", "ml-100k"):
        data = hs.load_dataset(name)
        source = asdict(provenance(["python", "experiments/fold_in.py", *sys.argv[1:]], 0, data, TfidfSVD().name))
        results[name] = {"provenance": source}
        for response in ("gaussian", "ordinal"):
            results[name][response] = compare(data, response)
            RESULT.write_text(json.dumps(results, indent=1) + "\n")
