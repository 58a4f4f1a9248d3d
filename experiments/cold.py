"""New items on MovieLens 100K: what recorded LLM ratings add, every bucket of support, refits, leaks.

    python experiments/cold.py [--fits DIR] [--folds 1,2,3] [PART ...]    write experiments/results/cold.json

Parts (default all): llm, support, refit, "refit users", leaks. Simulators are fitted once and kept in DIR,
one to five minutes each; a part that is run again replaces its figures. Real data is looked for in HYBRID_SIM_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.data.recordings import read_recordings, shuffle_within_users
from hybrid_sim.data.sources import load
from hybrid_sim.ensemble.correction import cross_fitted_correction
from hybrid_sim.evaluation.protocols import Fold, make_protocol, parse_folds
from hybrid_sim.evaluation.resources import measured
from hybrid_sim.evaluation.scores import (
    SUPPORT_BUCKETS,
    Groups,
    Losses,
    Predictions,
    compare,
    rmse_interval,
    row_losses,
    support_buckets,
)
from hybrid_sim.models.recorded import Recorded, RecordedRatings
from hybrid_sim.new_items.leakage import LeakCheck, exposure_leak
from hybrid_sim.simulation.refit import refitted
from hybrid_sim.simulation.simulator import Simulator

RESULT = Path(__file__).parent / "results" / "cold.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
SEED = 0
N_KNOWN = 10
"""Ratings that are known of a new user."""


@dataclass(frozen=True)
class Bench:
    """The data, its folds and where fitted simulators are kept."""

    dataset: Dataset
    fits: Path
    folds: list[int]

    def of(self, protocol: str) -> Iterator[tuple[Fold, Simulator]]:
        """Every fold with a simulator fitted to its training ratings."""
        for fold in make_protocol(protocol, self.dataset, folds=self.folds, data=DATA).folds():
            yield fold, self.fitted(f"{protocol}_f{fold.number}", fold.train)

    def fitted(self, name: str, train: Dataset) -> Simulator:
        """The simulator of this name, fitted now if it is not there."""
        folder = self.fits / name
        if folder.is_dir():
            simulator = Simulator.load(folder)
            simulator.require_fitted_to(train)
            return simulator
        simulator = Simulator(SEED).fit(train)
        simulator.save(folder)
        return simulator

    def losses(self, model: str, protocol: str, fold: Fold, distribution: RatingDistribution) -> Losses:
        """What each held-out rating of a fold costs a model."""
        return row_losses(Predictions(model, fold.held_out, distribution, protocol=protocol, fold=fold.number))


def recorded_llm(bench: Bench) -> dict[str, Any]:
    """Cold items with the recorded LLM rating of the pair, cross-fitted by item, against the same ratings shuffled."""
    recording = read_recordings([DATA / "lusifer" / "ml-100k"], bench.dataset)
    told: dict[str, list[Losses]] = {}
    n_recorded = 0
    for fold, simulator in bench.of("cold-items"):
        statistical = simulator.predict_pairs(fold.held_out.pairs).distribution
        llm = Recorded(recording).fit(fold.train).rate(fold.held_out.pairs)
        mixed = shuffle_within_users(_of_fold(recording, fold), SEED)
        shuffled = Recorded(mixed).fit(fold.train).rate(fold.held_out.pairs)
        n_recorded += int(llm.answered.sum())
        for model, said in (("hybrid", None), ("hybrid+llm", llm), ("hybrid+llm_shuffled", shuffled)):
            corrected = statistical
            if said is not None:
                corrected = cross_fitted_correction(statistical, said, fold.held_out, SEED, new_items=True)
            for rows, suffix in ((np.ones(len(fold.held_out), dtype=bool), ""), (llm.answered, " (recorded rows)")):
                part = Fold(fold.number, fold.train, fold.held_out.take(rows))
                losses = bench.losses(model + suffix, "cold-items", part, corrected.take(rows))
                told.setdefault(model + suffix, []).append(losses)
    pairs = [(f"{a}{s}", f"{b}{s}") for s in ("", " (recorded rows)") for a, b in _LLM_COMPARISONS]
    return {
        "note": "raw RMSE, mean over folds; the correction of an item's pairs is learned on other items of the test "
        "fold; intervals resample items",
        "n_recorded": n_recorded,
        "rmse": [asdict(rmse_interval(losses, "items")) for losses in told.values()],
        "differences": [
            asdict(compare(told[a], told[b], metric, "items")) for a, b in pairs for metric in ("rmse", "log_loss")
        ],
    }


_LLM_COMPARISONS = (
    ("hybrid+llm", "hybrid"),
    ("hybrid+llm_shuffled", "hybrid"),
    ("hybrid+llm", "hybrid+llm_shuffled"),
)


def _of_fold(recording: RecordedRatings, fold: Fold) -> RecordedRatings:
    """The recorded rows about held-out pairs of this fold."""
    pairs = fold.held_out.encode(recording.user_ids, recording.item_ids)
    n_items = fold.held_out.n_items
    asked = fold.held_out.user * n_items + fold.held_out.item
    here = (pairs.user >= 0) & (pairs.item >= 0) & np.isin(pairs.user * n_items + pairs.item, asked)
    return RecordedRatings(recording.user_ids[here], recording.item_ids[here], recording.ratings[here])


def every_bucket(bench: Bench) -> dict[str, Any]:
    """In every bucket of support: the ensemble against each of its members, and against the best one there."""
    return {
        "note": "raw RMSE, mean over folds; members where they abstain answer with the mean of all ratings; the best "
        "member is chosen on the very ratings that it is scored on; worse: the whole 95% interval is above zero",
        "buckets": [row for protocol in ("last40", "full", "cold-items") for row in _buckets_of(bench, protocol)],
    }


def _buckets_of(bench: Bench, protocol: str) -> Iterator[dict[str, Any]]:
    groups: Groups = "items" if protocol == "cold-items" else "users"
    told: dict[str, list[Losses]] = {}
    bucket_of: list[IntArray] = []
    for fold, simulator in bench.of(protocol):
        bucket_of.append(support_buckets(fold.train.item_counts[fold.held_out.item]))
        for model, distribution in _voices(simulator, fold):
            told.setdefault(model, []).append(bench.losses(model, protocol, fold, distribution))
    for position, bucket in enumerate(SUPPORT_BUCKETS):
        here = {
            model: [
                losses.take(of == position)
                for losses, of in zip(parts, bucket_of, strict=True)
                if (of == position).any()
            ]
            for model, parts in told.items()
        }
        if not here["hybrid"]:
            continue
        figures = {model: rmse_interval(parts, groups) for model, parts in here.items()}
        best = min((model for model in figures if model != "hybrid"), key=lambda model: figures[model].estimate)
        gap = compare(here["hybrid"], here[best], "rmse", groups)
        yield {
            "protocol": protocol,
            "support": bucket,
            "n": sum(len(part.user) for part in here["hybrid"]),
            "hybrid": figures["hybrid"].estimate,
            "best_member": best,
            "best_member_rmse": figures[best].estimate,
            "difference": asdict(gap),
            "worse": gap.low > 0,
            "members": {model: figure.estimate for model, figure in figures.items() if model != "hybrid"},
        }


def _voices(simulator: Simulator, fold: Fold) -> Iterator[tuple[str, RatingDistribution]]:
    """The ensemble's and each member's answers, all of them answered."""
    pairs = fold.held_out.pairs
    yield "hybrid", simulator.predict_pairs(pairs).distribution
    fallback = simulator.fallback_.rate(pairs).probs
    for name, member in simulator.ensemble_.members_.items():
        said = member.rate(pairs)
        yield name, RatingDistribution(said.scale, np.where(said.answered[:, None], said.probs, fallback))


def new_items_refitted(bench: Bench) -> dict[str, Any]:
    """A simulator that was fitted without the items at all and then refitted with them, against a whole fit."""
    told: dict[str, list[Losses]] = {}
    apart = []
    for fold, whole in bench.of("cold-items"):
        train, order = _new_last(fold)
        known = replace(train, items=train.items.iloc[: train.n_items - order.n_new])
        before = bench.fitted(f"cold-items_known_f{fold.number}", known)
        quickly = refitted(before, train)
        pairs = Pairs(fold.held_out.user, order.place[fold.held_out.item])
        quick, slow = quickly.predict_pairs(pairs).distribution, whole.predict_pairs(fold.held_out.pairs).distribution
        apart.append(float(np.abs(quick.mean() - slow.mean()).mean()))
        for model, distribution in (("refit", quick), ("fitted", slow)):
            told.setdefault(model, []).append(bench.losses(model, "cold-items", fold, distribution))
        break  # one fold: the fit without the items takes minutes
    return {
        "note": "fold 1; raw RMSE; intervals resample items; apart: mean distance of the expected ratings",
        "rmse": [asdict(rmse_interval(losses, "items")) for losses in told.values()],
        "difference": asdict(compare(told["refit"], told["fitted"], "rmse", "items")),
        "apart": apart,
    }


def new_users_refitted(bench: Bench) -> dict[str, Any]:
    """A simulator fitted without a fifth of the users and refitted with `N_KNOWN` ratings of each, against a fit."""
    fold = next(make_protocol("cold-users", bench.dataset, folds=[1], known=N_KNOWN).folds())
    train, new = fold.train, np.zeros(fold.train.n_users, dtype=bool)
    new[fold.held_out.user] = True
    others, place = train.take(~new[train.user]), np.cumsum(~new) - 1
    before = bench.fitted("cold-users_known_f1", replace(others, users=train.users[~new], user=place[others.user]))
    losses, seconds = {}, {}
    for model, make in (("refit", partial(refitted, before, train)), ("fitted", partial(Simulator(SEED).fit, train))):
        with measured() as effort:
            simulator = make()
        seconds[model] = effort.seconds
        distribution = simulator.predict_pairs(fold.held_out.pairs).distribution
        losses[model] = bench.losses(model, "cold-users", fold, distribution)
    losses["no refit"] = bench.losses("no refit", "cold-users", fold, before.predict(*_ids(fold.held_out)).distribution)
    return {
        "note": f"cold-users fold 1, {N_KNOWN} ratings of each new user are known; raw RMSE; intervals resample users",
        "rmse": [asdict(rmse_interval([one], "users")) for one in losses.values()],
        "difference": asdict(compare([losses["refit"]], [losses["fitted"]], "rmse", "users")),
        "seconds": seconds,
    }


def _ids(held_out: Dataset) -> tuple[list[str], list[str]]:
    """The ids of the pairs."""
    return held_out.users.index[held_out.user].tolist(), held_out.items.index[held_out.item].tolist()


@dataclass(frozen=True)
class _Order:
    """Where each item of the catalogue went, and how many are new."""

    place: IntArray
    n_new: int


def _new_last(fold: Fold) -> tuple[Dataset, _Order]:
    """The training data with the held-out items at the end of the catalogue."""
    train, new = fold.train, np.zeros(fold.train.n_items, dtype=bool)
    new[fold.held_out.item] = True
    order = np.argsort(new, kind="stable")
    place = np.empty(train.n_items, dtype=np.int64)
    place[order] = np.arange(train.n_items)
    moved = replace(train, items=train.items.iloc[order], item=place[train.item])
    return moved, _Order(place, int(new.sum()))


def leaks(bench: Bench) -> dict[str, Any]:
    """The check of item columns on planted leaks and on honest columns."""
    data = bench.dataset
    recording = read_recordings([DATA / "lusifer" / "ml-100k"], data)
    pairs = data.encode(recording.user_ids, recording.item_ids)
    planted = {
        "mean LLM rating over actual raters": _item_means(data, pairs.item, recording.ratings),
        "mean rating": _item_means(data, data.item, data.rating),
        "mean rating, shrunk by 5": (data.item_counts * np.nan_to_num(_item_means(data, data.item, data.rating)) + 17.5)
        / (data.item_counts + 5),
        "log number of ratings": np.log1p(data.item_counts),
    }
    plants = replace(data, items=data.items.assign(**planted))
    return {
        "planted": [_told(exposure_leak(plants, name)) for name in planted],
        "honest": [
            _told(exposure_leak(data, name)) for name in data.items.columns if name not in ("title", "overview")
        ],
    }


def _item_means(data: Dataset, item: IntArray, ratings: FloatArray) -> FloatArray:
    counts = np.bincount(item, minlength=data.n_items)
    total = np.bincount(item, weights=ratings, minlength=data.n_items)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _told(check: LeakCheck) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in asdict(check).items()} | {"found": check.found}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "llm": recorded_llm,
    "support": every_bucket,
    "refit": new_items_refitted,
    "refit users": new_users_refitted,
    "leaks": leaks,
}


def main(words: list[str]) -> int:
    """Run the parts and write their figures beside those of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=", ".join(PARTS))
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="where fitted simulators are kept")
    parser.add_argument("--folds", default="1,2,3")
    options = parser.parse_args(words)
    dataset = load("ml-100k", DATA)
    bench = Bench(dataset, options.fits, parse_folds(options.folds))
    for part in options.parts or PARTS:
        command = ["python", "experiments/cold.py", "--folds", options.folds, part]
        figures = PARTS[part](bench)
        result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        result[part] = {"folds": bench.folds, **figures, "provenance": asdict(provenance(command, SEED, dataset))}
        RESULT.parent.mkdir(exist_ok=True)
        write_whole(RESULT, json.dumps(result, indent=1, allow_nan=False).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
