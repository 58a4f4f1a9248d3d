"""What folding new users into a fitted factorization costs in accuracy and saves in time, against fitting again.

    python experiments/fold_in.py        writes experiments/results/fold_in.json; needs HYBRID_SIM_DATA for ml-100k

Of 15% of the users nothing is known at the first fit. Then their first 5 or 20 ratings come, and the rest of theirs is
predicted by a factorization that was fitted again to everything, and by one into which they were folded.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import hybrid_sim as hs
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.rater import expected
from hybrid_sim.core.texts import item_texts
from hybrid_sim.evaluation.metrics import rmse
from hybrid_sim.models.factorization import BayesianFactorization
from hybrid_sim.models.fold_in import fold_in
from hybrid_sim.retrieval.embedder import TfidfSVD

RESULT = Path(__file__).parent / "results" / "fold_in.json"
SHARE_NEW = 0.15


def compare(name: str, response: Any) -> Iterator[dict[str, Any]]:
    """One record per number of first ratings: RMSE and log loss on the rest, and CPU seconds, both ways."""
    data = hs.load_dataset(name)
    rng = np.random.default_rng(0)
    new = rng.permutation(data.n_users) < SHARE_NEW * data.n_users
    order = np.arange(len(data)) if data.timestamp is None else data.timestamp
    place, of_new = place_in_group(data.user, order, rng.random(len(data))), new[data.user]
    embedder = TfidfSVD().fit(item_texts(data))
    before, _ = timed(lambda: BayesianFactorization(response, embedder=embedder).fit(data.take(~of_new)))
    for n_first in (5, 20):
        first = place < n_first
        rest = data.take(of_new & ~first)
        grown = data.take(~of_new | first)
        again, seconds_again = timed(lambda: BayesianFactorization(response, embedder=embedder).fit(grown))  # noqa: B023  called at once
        folded, seconds_folded = timed(lambda: fold_in(before, grown))  # noqa: B023  called at once
        record: dict[str, Any] = {
            "data": name,
            "response": response,
            "first ratings": n_first,
            "n": len(rest),
        }
        for way, model, seconds in (("fit again", again, seconds_again), ("folded in", folded, seconds_folded)):
            log_loss = -np.log(np.maximum(model.rate(rest.pairs).prob_of(rest.rating), 1e-6)).mean()
            error = rmse(rest.rating, data.scale.clip(expected(model, rest.pairs)))
            record[way] = {"rmse": float(error), "log loss": float(log_loss), "CPU seconds": seconds}
        yield record


def timed(work: Callable[[], BayesianFactorization]) -> tuple[BayesianFactorization, float]:
    """What the work gives, and the CPU seconds that it took."""
    started = time.process_time()
    return work(), time.process_time() - started


if __name__ == "__main__":
    records: list[dict[str, Any]] = []
    for name in sys.argv[1:] or ("world", "ml-100k"):
        for response in ("gaussian", "ordinal"):
            for record in compare(name, response):
                records.append(record)
                RESULT.write_text(json.dumps(records, indent=1) + "\n")
