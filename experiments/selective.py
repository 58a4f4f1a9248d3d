"""What recorded LLM ratings bring, and how much of it remains when the LLM is asked about a fifth of the pairs only.

    python experiments/selective.py FOLDER

Folds 1 to 3 of MovieLens 100K (found under HYBRID_SIM_DATA) by three protocols, with the LLM ratings that
the Lusifer repository recorded (`lusifer/ml-100k` beside them). Fitted simulators are kept in FOLDER and taken from
there. Rules that choose the pairs see no LLM rating; the correction of each user (of each new item) is learned from the
others. Fold 1 is where correction and rule were chosen, folds 2 and 3 confirm. Writes
experiments/results/selective.json and prints a table.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from selective_rules import VARIANTS, Case, crossed, ours, scores

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ModelFileError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.rater import expected
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution
from hybrid_sim.data import load
from hybrid_sim.data.recordings import read_recordings, shuffle_within_users
from hybrid_sim.ensemble.correction import Correction
from hybrid_sim.evaluation.metrics import log_losses
from hybrid_sim.evaluation.protocols import Fold, make_protocol
from hybrid_sim.models.recorded import Recorded, RecordedRatings
from hybrid_sim.simulation.llm_value import best_calls
from hybrid_sim.simulation.simulator import Simulator

DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
OUT = Path(__file__).parent / "results" / "selective.json"
PROTOCOLS, FOLDS, CHOSEN_ON = ("last40", "full", "cold-items"), (1, 2, 3), 1
SHARE = 0.2
ITEMS_PER_CALL = 10
N_DRAWS = 10
"""Random divisions into folds of the cross-fit, and chances of who is asked first, over which figures are averaged."""
N_BOOT = 2000
"""Resamples of users (of items where items are cold) of every interval."""


def main(folder: Path) -> None:
    """Measure all folds, print and write."""
    dataset = load("ml-100k", DATA)
    recording = read_recordings([DATA / "lusifer" / "ml-100k"], dataset)
    cases = [case for protocol in PROTOCOLS for case in gather(protocol, dataset, recording, folder)]
    confirming = tuple(fold for fold in FOLDS if fold != CHOSEN_ON)
    results = {}
    for protocol in PROTOCOLS:
        for folds in (*((fold,) for fold in FOLDS), confirming):
            part = [measure(case) for case in cases if case.protocol == protocol and case.fold in folds]
            name = f"{protocol}, fold {' and '.join(map(str, folds))}"
            results[name] = summary(part)
            show(name, results[name])
    content = {
        "what": "gains are reductions of the mean squared error of the expected rating, not rounded, real ratings; "
        f"share: the part of the gain of asking about all pairs that {SHARE:.0%} of them bring",
        "provenance": asdict(provenance(["python", "experiments/selective.py", "FITS"], 0, dataset)),
        "n_draws": N_DRAWS,
        "chosen_on_fold": CHOSEN_ON,
        "results": results,
    }
    write_whole(OUT, json.dumps(content, indent=1).encode() + b"\n")


def gather(protocol: str, dataset: Dataset, recording: RecordedRatings, folder: Path) -> Iterator[Case]:
    """The folds of a protocol: what statistics and the LLM say about the pairs that were recorded."""
    for fold in make_protocol(protocol, dataset, folds=FOLDS, data=DATA).folds():
        simulator = fitted(folder / f"{protocol}_f{fold.number}", fold)
        recorded = Recorded(recording).fit(fold.train)
        cold = protocol.startswith("cold-items")
        known = simulator.ensemble_.out_of_fold(fold.train.pairs, cold=cold)
        answers, pairs = recorded.rate(fold.train.pairs), fold.train.pairs
        learned = Correction(new_items=cold).fit(known, answers, pairs, fold.train.rating)
        llm = recorded.rate(fold.held_out.pairs)
        held, llm = fold.held_out.take(llm.answered), llm.take(llm.answered)
        here = RecordedRatings(held.users.index[held.user], held.items.index[held.item], llm.mean())
        mixed = Recorded(shuffle_within_users(here, seed=0)).fit(fold.train).rate(held.pairs)
        statistical = simulator.predict_pairs(held.pairs).distribution
        support = simulator.ensemble_.support_.of(held.pairs)
        means = np.stack([expected(m, held.pairs) for m in simulator.ensemble_.members_.values()], axis=1)
        yield Case(
            protocol,
            fold.number,
            held,
            held.item if cold else held.user,
            statistical,
            llm,
            mixed,
            learned.apply(statistical, llm, held.pairs),
            np.nanstd(means, axis=1),
            support.n_user,
            support.n_item,
        )


def fitted(folder: Path, fold: Fold) -> Simulator:
    """The simulator of the fold, fitted now unless the folder holds it."""
    try:
        simulator = Simulator.load(folder)
        simulator.require_fitted_to(fold.train)
    except ModelFileError:
        simulator = Simulator(seed=0).fit(fold.train)
        simulator.save(folder)
    return simulator


Correct = Callable[[Case, RatingDistribution, int], RatingDistribution]


def gain(case: Case, corrected: RatingDistribution) -> FloatArray:
    """By how much less each pair is wrong, squared; 0 where nothing moved."""
    truth = case.held.rating
    return np.asarray((truth - case.statistical.mean()) ** 2 - (truth - corrected.mean()) ** 2)


def mean_gain(case: Case, correct: Correct, llm: RatingDistribution) -> FloatArray:
    """The gain of each pair, averaged over draws."""
    drawn = (case.drawn(draw) for draw in range(N_DRAWS))
    return np.mean([gain(case, correct(each, llm, draw)) for draw, each in enumerate(drawn)], axis=0)


def choices(case: Case, shift: FloatArray) -> dict[str, NDArray[np.bool_]]:
    """The rows that every rule asks about: for `SHARE` of the pairs and, in whole calls, for `SHARE` of the calls."""
    found = {}
    for name, score in scores(case, shift).items():
        for unit, size in (("pairs", 1), ("calls", ITEMS_PER_CALL)):
            rows = np.zeros(len(score), dtype=bool)
            rows[best_calls(case.held.user, score, SHARE, size)] = True
            found[f"{SHARE:.0%} of {unit}, {name}"] = rows
    return found


@dataclass(frozen=True)
class Measured:
    """Per pair of a fold: squared errors, gains by name (zero where a rule does not ask), and what rules ask for."""

    group: IntArray
    squared: FloatArray
    variants: dict[str, FloatArray]
    controls: dict[str, FloatArray]
    rules: dict[str, FloatArray]
    """Learned from all answers, moved by those that the rule asks for; of a new item these count for all its pairs."""
    frugal: dict[str, FloatArray]
    """As `rules`, but the correction too is learned from the chosen pairs' answers alone."""
    log_loss: FloatArray
    foreseen: FloatArray
    """Gains where the correction was learned from training ratings alone."""
    asked: dict[str, dict[str, float]]
    """Pairs, calls and users that a rule asks about, as shares of all."""


def measure(case: Case) -> Measured:
    """All variants and rules on one fold."""
    truth, before = case.held.rating, case.statistical.mean()
    rules: dict[str, list[FloatArray]] = defaultdict(list)
    frugal: dict[str, list[FloatArray]] = defaultdict(list)
    asked: dict[str, list[dict[str, float]]] = defaultdict(list)
    log_loss = []
    for draw in range(N_DRAWS):
        each = case.drawn(draw)
        whole = ours(each, case.llm, draw)
        log_loss.append(log_losses(truth, case.statistical) - log_losses(truth, whole))
        for name, rows in choices(each, whole.mean() - before).items():
            some = hush(case.llm, rows)
            rules[name].append(gain(case, partly(each, some, draw)))
            frugal[name].append(gain(case, ours(each, some, draw)))
            asked[name].append(effort(case, rows))
    return Measured(
        case.group,
        (truth - before) ** 2,
        {name: mean_gain(case, make, case.llm) for name, make in VARIANTS.items()},
        {name: mean_gain(case, make, case.shuffled) for name, make in VARIANTS.items()},
        {name: np.mean(gains, axis=0) for name, gains in rules.items()},
        {name: np.mean(gains, axis=0) for name, gains in frugal.items()},
        np.mean(log_loss, axis=0),
        gain(case, case.foreseen),
        {
            name: {unit: float(np.mean([effort[unit] for effort in efforts])) for unit in efforts[0]}
            for name, efforts in asked.items()
        },
    )


def partly(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """The package's correction, learned from all answers, that hears some."""
    return crossed(case, Correction(case.new_items), case.llm, llm, seed)


def hush(llm: RatingDistribution, rows: NDArray[np.bool_]) -> RatingDistribution:
    """The LLM's ratings of these rows alone."""
    return RatingDistribution(llm.scale, np.where(rows[:, None], llm.probs, np.nan))


def effort(case: Case, rows: NDArray[np.bool_]) -> dict[str, float]:
    """What the rows take of what all would take; a call is about `ITEMS_PER_CALL` items of one user."""
    asked, every = (np.bincount(user, minlength=case.held.n_users) for user in (case.held.user[rows], case.held.user))
    return {
        "pairs": float(asked.sum() / every.sum()),
        "calls": float(np.ceil(asked / ITEMS_PER_CALL).sum() / np.ceil(every / ITEMS_PER_CALL).sum()),
        "users": float((asked > 0).sum() / (every > 0).sum()),
    }


def summary(parts: list[Measured]) -> dict[str, Any]:
    """Means over pairs of all folds, with intervals that resample users or items; shares as ratios of sums."""
    joined = np.concatenate([part.group for part in parts])
    draws = resamples(joined)

    def all_of(pick: Callable[[Measured], FloatArray]) -> FloatArray:
        return np.concatenate([pick(part) for part in parts])

    squared, whole = all_of(lambda p: p.squared), all_of(lambda p: p.variants["ours"])
    return {
        "n": len(joined),
        "rmse": float(np.sqrt(squared.mean())),
        "rmse_with_llm": float(np.sqrt((squared - whole).mean())),
        "log_loss_gain": interval(draws, all_of(lambda p: p.log_loss)),
        "gain": {name: interval(draws, all_of(lambda p, n=name: p.variants[n])) for name in VARIANTS},
        "gain_shuffled_within_users": {
            name: interval(draws, all_of(lambda p, n=name: p.controls[n])) for name in VARIANTS
        },
        "gain_learned_from_training_ratings": interval(draws, all_of(lambda p: p.foreseen)),
        "ours_minus_pair_by_pair": interval(draws, whole - all_of(lambda p: p.variants["pair by pair"])),
        "rules": {
            name: {
                "gain": interval(draws, all_of(lambda p, n=name: p.rules[n])),
                "share": ratio(draws, all_of(lambda p, n=name: p.rules[n]), whole),
                "share_if_learned_from_chosen_pairs_alone": ratio(draws, all_of(lambda p, n=name: p.frugal[n]), whole),
                "asked": {
                    unit: float(np.mean([part.asked[name][unit] for part in parts])) for unit in parts[0].asked[name]
                },
            }
            for name in parts[0].rules
        },
    }


@dataclass(frozen=True)
class Resamples:
    """How often each group is drawn, shape `(n_boot, n_groups)`; `group` numbers the rows' groups."""

    group: IntArray
    weights: FloatArray

    def means(self, values: FloatArray) -> FloatArray:
        """The mean of each resample's rows."""
        sums = np.bincount(self.group, values)
        return np.asarray(self.weights @ sums / (self.weights @ np.bincount(self.group)))


def resamples(labels: IntArray) -> Resamples:
    """The same resamples for everything that is compared."""
    names, group = np.unique(labels, return_inverse=True)
    drawn = stream(0, "bootstrap").multinomial(len(names), np.full(len(names), 1.0 / len(names)), N_BOOT)
    return Resamples(group, drawn.astype(float))


def interval(draws: Resamples, values: FloatArray) -> list[float]:
    """Mean and 95% interval."""
    return [float(values.mean()), *map(float, np.quantile(draws.means(values), [0.025, 0.975]))]


def ratio(draws: Resamples, part: FloatArray, whole: FloatArray) -> list[float] | None:
    """The share of the gain with its interval; None where the whole gain's own interval holds zero."""
    wholes = draws.means(whole)
    if np.quantile(wholes, 0.025) <= 0.0:
        return None
    shares = draws.means(part) / wholes
    return [float(part.mean() / whole.mean()), *map(float, np.quantile(shares, [0.025, 0.975]))]


def show(name: str, found: dict[str, Any]) -> None:
    """A block of the table."""
    out = [
        f"\n{name}: {found['n']} recorded pairs, RMSE {found['rmse']:.4f}, with the LLM {found['rmse_with_llm']:.4f}"
    ]
    for variant, (mean, low, high) in found["gain"].items():
        control = found["gain_shuffled_within_users"][variant][0]
        out.append(f"  {variant:<24} gain {mean:+.5f} [{low:+.5f}, {high:+.5f}]   shuffled {control:+.5f}")
    for label in ("gain_learned_from_training_ratings", "ours_minus_pair_by_pair", "log_loss_gain"):
        mean, low, high = found[label]
        out.append(f"  {label.replace('_', ' '):<34} {mean:+.5f} [{low:+.5f}, {high:+.5f}]")
    for rule, row in found["rules"].items():
        (mean, low, high), alone = row["gain"], row["share_if_learned_from_chosen_pairs_alone"]
        out.append(
            f"    {rule:<45} gain {mean:+.5f} [{low:+.5f}, {high:+.5f}]  share {percent(row['share'])}, learned from "
            f"these alone {percent(alone)}; asks {', '.join(f'{v:.0%} of {k}' for k, v in row['asked'].items())}"
        )
    sys.stdout.write("\n".join(out) + "\n")


def percent(share: list[float] | None) -> str:
    """A share with its interval."""
    return "undefined" if share is None else f"{share[0]:.0%} [{share[1]:.0%}, {share[2]:.0%}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
