"""Do the 90% intervals of new items' mean ratings hold, overall and for the widest and narrowest fifth?

    python experiments/item_intervals.py [--folds N] [--kept DIR] [DATASET ...]

Items are held out a tenth at a time: the tenth of protocol cold-items-tenth (fold 0), then N of ten random tenths
(items_out, seed 0). Warm inner hold-outs are left out of the fits: the forecasts of cold items do not depend on them.
What each fold gives is kept in DIR; experiments/results/item_intervals.json is written from it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.types import FloatArray, Pairs
from hybrid_sim.data.sources import load
from hybrid_sim.ensemble.cold_items import MIN_RATINGS
from hybrid_sim.ensemble.components import default_members, shapes_among
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.evaluation.bootstrap import Interval, resample_weights
from hybrid_sim.evaluation.splits import Split, items_out, items_out_once
from hybrid_sim.new_items.uncertainty import ItemMeanInterval
from hybrid_sim.retrieval.embedder import embedder_for

RESULT = Path(__file__).parent / "results" / "item_intervals.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
SEED = 0
LEVELS = (0.5, 0.8, 0.9)
N_BOOT = 2000


def forecasts(dataset: Dataset, split: Split) -> FloatArray:
    """A row per held-out item that has enough ratings: their number and mean, the mean that was expected, and both ends
    of the interval at each of `LEVELS`, then of one at the last level that has the same width for all items."""
    train, held_out = dataset.take(split.train_rows), dataset.take(split.test_rows)
    embedder = embedder_for(train, None)
    members = default_members(train.scale, embedder, SEED)
    ensemble = Ensemble(members, shapes_among(members), n_warm=0, n_new=0, seed=SEED, n_jobs=1).fit(train)
    items, users = np.flatnonzero(held_out.item_counts >= MIN_RATINGS), np.flatnonzero(train.user_counts)
    observed = np.bincount(held_out.item, held_out.rating, dataset.n_items)[items] / held_out.item_counts[items]
    asked = (Pairs(users, np.full(len(users), item)) for item in items)
    expected = np.array([ensemble.rate(pairs).mean().mean() for pairs in asked])
    learned = ItemMeanInterval.learn(ensemble.cold_items_, train.scale)
    assert learned is not None, "MovieLens has items enough"
    features = ensemble.item_features(items)
    ends = [learned.interval(expected, features, train.scale, level) for level in LEVELS]
    gaps = np.sort(ensemble.cold_items_.mean_ratings - ensemble.cold_items_.features[:, 0])
    low = int((1 - LEVELS[-1]) / 2 * (len(gaps) + 1)) - 1
    constant = train.scale.clip(expected[:, None] + gaps[[low, -1 - low]])
    return np.column_stack([held_out.item_counts[items], observed, expected, *ends, constant])


def of_fold(dataset: Dataset, fold: int, kept: Path) -> FloatArray:
    """The forecasts of a fold: kept ones, or made now."""
    path = kept / f"item-intervals-{dataset.name}-{fold}.npy"
    if not path.is_file():
        split = items_out_once(dataset) if fold == 0 else items_out(dataset, 10, SEED)[fold - 1]
        kept.mkdir(parents=True, exist_ok=True)
        np.save(path, forecasts(dataset, split))
    return np.asarray(np.load(path))


def figures(rows: FloatArray) -> dict[str, Any]:
    """Coverage and width, intervals resample items; a fifth is a fifth of the items by width."""
    observed, ends = rows[:, 1], rows[:, 3:].reshape(len(rows), len(LEVELS) + 1, 2)
    inside = (ends[:, :, 0] <= observed[:, None]) & (observed[:, None] <= ends[:, :, 1])
    width = np.diff(ends[:, len(LEVELS) - 1])[:, 0]
    order, fifth = np.argsort(width, kind="stable"), len(rows) // 5
    parts = {"all": order, "narrowest fifth": order[:fifth], "widest fifth": order[-fifth:]}
    return {
        "n_items": len(rows),
        "coverage": {f"{level:g}": _share(inside[:, k]) for k, level in enumerate(LEVELS)},
        f"coverage_{LEVELS[-1]:g}": {
            name: {**_share(inside[part, -2]), "width": float(width[part].mean())} for name, part in parts.items()
        },
        "constant_width": {
            "width": float(np.diff(ends[:, -1]).mean()),
            **{name: _share(inside[part, -1]) for name, part in parts.items()},
        },
    }


def _share(inside: NDArray[np.bool_]) -> dict[str, float]:
    resampled = [weights @ inside / len(inside) for weights in resample_weights(len(inside), N_BOOT, SEED)]
    interval = Interval.percentile(float(inside.mean()), np.concatenate(resampled))
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def main(words: list[str]) -> int:
    """Make what is missing and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", default=["ml-100k", "ml-latest-small"])
    parser.add_argument("--folds", type=int, default=10, metavar="N", help="how many of the ten random tenths")
    parser.add_argument("--kept", type=Path, default=Path("fits"), metavar="DIR")
    options = parser.parse_args(words)
    for name in options.datasets:
        dataset = load(name, DATA)
        once, *others = [of_fold(dataset, fold, options.kept) for fold in range(options.folds + 1)]
        result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        command = ["python", "experiments/item_intervals.py", "--folds", str(options.folds), name]
        result[name] = {
            "note": f"items with at least {MIN_RATINGS} held-out ratings; observed is the mean of these ratings, the "
            "interval is around what is expected of all users",
            "cold-items-tenth": figures(once),
            f"{len(others)} random tenths": figures(np.concatenate(others)),
            "provenance": asdict(provenance(command, SEED, dataset)),
        }
        write_whole(RESULT, json.dumps(result, indent=1, allow_nan=False).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
