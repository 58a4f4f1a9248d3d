"""Differences between two runs or two benchmarks, with intervals; equal measures are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any, Literal

import numpy as np
import pandas as pd

from hybrid_sim.core.document import aligned, duration
from hybrid_sim.core.errors import InputError
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bench_report import BenchResult
from hybrid_sim.evaluation.bootstrap import MIN_GROUPS, Statistic, paired_bootstrap
from hybrid_sim.evaluation.scores import METRICS, ResultRow, RmseInterval
from hybrid_sim.llm.budget import dollars
from hybrid_sim.simulation.run_folder import FinishedRun, Truth, flat

ERROR, DISTANCE = "RMSE, raw", "distance of the expected ratings"
"""The measures that a conclusion rests on."""

NO_DIFFERENCE = "The two are equal in every figure."

ROUNDING = 1e-12
"""A difference or interval end up to this size is a rounding error."""


@dataclass(frozen=True)
class Difference:
    """A measure of both, and A minus B with its interval; of a distance between the two, which cannot be negative, `a`
    and `b` are None and `difference` is the distance.

    `basis` says what the interval is: "paired" bootstrap, made from the "stored" ones of each, or from the smallest to
    the largest difference over "folds", which is no interval of confidence.
    """

    measure: str
    a: float | None
    b: float | None
    difference: float
    low: float | None
    high: float | None
    n: int
    basis: Literal["paired", "stored", "folds"]

    @property
    def is_clear(self) -> bool:
        """Whether its interval of confidence excludes zero; never for a distance."""
        if self.a is None or self.basis == "folds" or self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0

    @property
    def interval(self) -> str:
        """Its interval in words, "-" without one."""
        if self.low is None or self.high is None or not np.isfinite([self.low, self.high]).all():
            return "-"
        return f"[{self.low:+.3f}, {self.high:+.3f}]"

    @property
    def shown(self) -> str:
        """The difference with its interval in words."""
        return f"{self.difference:+.3f} {self.interval}"


@dataclass(frozen=True)
class ResultComparison:
    """What differs between `a` and `b`, and what follows from it in a sentence.

    `how` says where intervals come from; `settings` and `counts` hold a name, A's value and B's.
    """

    a: str
    b: str
    about: str
    how: str
    conclusion: str
    synthetic: bool
    differences: tuple[Difference, ...]
    settings: tuple[tuple[str, str, str], ...]
    counts: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()


def compare_runs(
    a: FinishedRun,
    b: FinishedRun,
    names: tuple[str, str],
    truths: tuple[Truth, Truth] | None = None,
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> ResultComparison:
    """Two runs on the pairs that both have; whole users are resampled, the same for both runs.

    `truths` are the real ratings of the pairs of A and of B, read from one file.

    Raises:
        InputError: the scales differ, or no pair is in both.
    """
    if a.scale != b.scale:
        raise InputError(f"the runs have different rating scales, {a.scale} and {b.scale}; they cannot be compared")
    rows = _shared(a, b)
    if not len(rows[0]):
        raise InputError(f"{names[0]} and {names[1]} have no pair in common; compare runs about the same pairs")
    differences = [
        _difference(name, kind, pair, a.user[rows[0]][keep], n_boot, seed)
        for name, kind, pair, keep in _losses(a, b, rows, truths)
    ]
    equal = [
        row.measure
        for row in differences
        if not np.any(np.abs([row.difference, row.low or 0, row.high or 0]) > ROUNDING)
    ]
    same = int(np.isclose(a.distribution.probs[rows[0]], b.distribution.probs[rows[1]], atol=1e-12).all(axis=1).sum())
    differences = [row for row in differences if row.measure not in equal]
    n_users = len(np.unique(a.user[rows[0]]))
    notes = [] if n_users >= MIN_GROUPS else [
        f"Intervals over {n_users} users are too narrow to be believed; at least {MIN_GROUPS} users are needed."
    ]  # fmt: skip
    notes += [f"{same:,} of {len(rows[0]):,} pairs have the same distribution in both."]
    if equal:
        notes.append(f"Equal in both: {', '.join(equal)}.")
    left = [f"{len(run) - len(rows[0]):,} of {name}" for run, name in ((a, names[0]), (b, names[1]))]
    if len(a) > len(rows[0]) or len(b) > len(rows[1]):
        notes.append(f"Pairs that only one of them has (or has twice) are left out: {', '.join(left)}.")
    return ResultComparison(
        *names,
        about=f"{a.dataset}, {len(rows[0]):,} pairs of {n_users:,} users in both runs, seeds {a.seed} and {b.seed}",
        how=f"95% intervals by paired bootstrap over {n_users:,} users, {n_boot:,} resamples, seed {seed}",
        conclusion=_conclusion(differences, n_users),
        synthetic=a.synthetic or b.synthetic,
        differences=tuple(differences),
        settings=_differing(_settings(a.about), _settings(b.about)),
        counts=_counts(a, b, rows),
        notes=tuple(notes),
    )


def _conclusion(differences: Sequence[Difference], n_users: int) -> str:
    """What two runs come to: by the error against real ratings if these are known, else by how far they are apart."""
    by_name = {row.measure: row for row in differences}
    if not differences:
        return NO_DIFFERENCE
    if ERROR in by_name:
        error = by_name[ERROR]
        if n_users < MIN_GROUPS:
            return f"{n_users} users are too few to say which is better; A's RMSE minus B's is {error.shown}."
        if not error.is_clear:
            return f"Real ratings do not tell the two apart: A's RMSE minus B's is {error.shown} rating units."
        better = "A" if error.difference < 0 else "B"
        return f"{better} predicts the real ratings better: A's RMSE minus B's is {error.shown} rating units."
    if DISTANCE not in by_name:
        return "The expected ratings are equal."
    apart = f"On average the expected ratings are {by_name[DISTANCE].difference:.3f} rating units apart"
    return f"{apart}; which run is better only real ratings can tell (--truth)."


def _shared(a: FinishedRun, b: FinishedRun) -> tuple[IntArray, IntArray]:
    """Rows of the pairs that are in both, in the order of A; of a pair that is there twice, the first."""
    frames = [
        pd.DataFrame({"user": run.user_ids[run.user], "item": run.item_ids[run.item], "row": np.arange(len(run))})
        for run in (a, b)
    ]
    both = (
        frames[0]
        .drop_duplicates(["user", "item"])
        .merge(frames[1].drop_duplicates(["user", "item"]), on=["user", "item"])
    )
    return both["row_x"].to_numpy(dtype=np.int64), both["row_y"].to_numpy(dtype=np.int64)


PairLosses = tuple[str, Statistic, tuple[FloatArray, FloatArray | None], IntArray]
"""A measure's name, its statistic, a loss or value per pair of A and of B (None: A holds the difference), the rows."""


def _losses(
    a: FinishedRun, b: FinishedRun, rows: tuple[IntArray, IntArray], truths: tuple[Truth, Truth] | None
) -> Iterator[PairLosses]:
    everything = np.arange(len(rows[0]))
    first, second = a.distribution.take(rows[0]), b.distribution.take(rows[1])
    expected, drawn = (first.mean(), second.mean()), (a.rating[rows[0]], b.rating[rows[1]])
    yield "mean expected rating", "mean", expected, everything
    yield "mean drawn rating", "mean", drawn, everything
    yield "SD of the distributions", "mean", (first.std(), second.std()), everything
    yield (
        "width of the intervals",
        "mean",
        (a.high[rows[0]] - a.low[rows[0]], b.high[rows[1]] - b.low[rows[1]]),
        everything,
    )
    yield DISTANCE, "mean", (np.abs(expected[0] - expected[1]), None), everything
    yield "share of pairs drawn differently", "mean", ((drawn[0] != drawn[1]).astype(float), None), everything
    if truths is None:
        return
    real = truths[0].rating[rows[0]]
    keep = np.flatnonzero(~np.isnan(real))
    if not len(keep):
        raise InputError(f"{truths[0].name}: no row is about a pair that both runs have; name the ratings held out")
    real, first, second = real[keep], first.take(keep), second.take(keep)
    means, sampled = (expected[0][keep], expected[1][keep]), (drawn[0][keep], drawn[1][keep])
    rounded = (a.scale.round(means[0]), a.scale.round(means[1]))
    for name, answers in ((ERROR, means), ("RMSE, rounded", rounded), ("RMSE of the drawn rating", sampled)):
        yield name, "rmse", ((answers[0] - real) ** 2, (answers[1] - real) ** 2), keep
    yield "MAE, raw", "mean", (np.abs(means[0] - real), np.abs(means[1] - real)), keep
    yield "log loss, nats", "mean", (metrics.log_losses(real, first), metrics.log_losses(real, second)), keep
    scores = metrics.ranked_probability_scores
    yield "ranked probability score", "mean", (scores(real, first), scores(real, second)), keep
    inside = [
        metrics.inside_interval(real, run.low[at][keep], run.high[at][keep]) for run, at in ((a, rows[0]), (b, rows[1]))
    ]
    yield "share inside the interval", "mean", (inside[0], inside[1]), keep


def _difference(
    name: str,
    kind: Statistic,
    pair: tuple[FloatArray, FloatArray | None],
    users: IntArray,
    n_boot: int,
    seed: int,
) -> Difference:
    first, second = pair
    beside = np.zeros_like(first) if second is None else second
    got = paired_bootstrap(first, beside, users, kind, n_boot=n_boot, seed=seed)
    values = [float(np.sqrt(part.mean()) if kind == "rmse" else part.mean()) for part in (first, beside)]
    a, b = (None, None) if second is None else values
    return Difference(name, a, b, got.estimate, got.low, got.high, len(first), "paired")


def _settings(about: Mapping[str, Any]) -> dict[str, str]:
    return flat({name: about.get(name, {}) for name in ("settings", "provenance")})


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    names = dict.fromkeys([*a, *b])
    return tuple((name, a.get(name, "–"), b.get(name, "–")) for name in names if a.get(name) != b.get(name))


def _counts(a: FinishedRun, b: FinishedRun, rows: tuple[IntArray, IntArray]) -> tuple[tuple[str, str, str], ...]:
    """Sources of the shared answers, and what the runs took; those that differ."""
    sources = [Counter(run.source[at].tolist()) for run, at in ((a, rows[0]), (b, rows[1]))]
    counts = [{f"answers from {name}": f"{count:,}" for name, count in of.items()} for of in sources]
    for one, run in zip(counts, (a, b), strict=True):
        ledger = run.about.get("ledger") or {}
        one |= {f"language model: {name.replace('_', ' ')}": _amount(name, value) for name, value in ledger.items()}
    return _differing(counts[0], counts[1])


def _amount(name: str, value: Any) -> str:
    """A count of a ledger, its money in dollars and its times as durations."""
    if not isinstance(value, int | float):
        return str(value)
    return (
        dollars(int(value)) if name in ("money", "at_worst") else duration(value) if name == "seconds" else f"{value:,}"
    )


def compare_benches(a: BenchResult, b: BenchResult, names: tuple[str, str]) -> ResultComparison:
    """Two results of benchmarks, for every protocol and model that both have on the same folds.

    The rows are not stored, so the runs cannot be paired: the interval of a difference in RMSE is made from the two
    stored ones as if they were independent (Zou and Donner 2008), which is too wide where they share their users.

    Raises:
        InputError: nothing is in both.
    """
    differences: list[Difference] = []
    notes: list[str] = []
    shared: list[tuple[str, str]] = []
    intervals = [{(row.protocol, row.model): row for row in report.intervals} for report in (a, b)]
    for key in [key for key in intervals[0] if key in intervals[1]]:
        first, second = intervals[0][key], intervals[1][key]
        label = f"{key[1]} ({key[0]})"
        if first.fold != second.fold:
            notes.append(f"{label} is left out: folds {first.fold} against {second.fold}.")
            continue
        shared.append(key)
        if first != second:
            differences.append(_stored_difference(f"{ERROR}: {label}", first, second, _n(a.results, key)))
        differences += _by_fold(label, *(_rows(report.results, key) for report in (a, b)))
    if not shared:
        raise InputError(f"{names[0]} and {names[1]} have no protocol and model on the same folds in common")
    only = [sorted({key[1] for key in one} - {key[1] for key in other}) for one, other in (intervals, intervals[::-1])]
    notes += [f"Only in {name}: {', '.join(models)}." for name, models in zip(names, only, strict=True) if models]
    if a.provenance.data_hash != b.provenance.data_hash:
        notes.append("The data differ (see the data hash): these are figures of different ratings.")
    return ResultComparison(
        *names,
        about=f"{a.provenance.dataset}, protocol {', '.join(dict.fromkeys(protocol for protocol, _ in shared))}, "
        f"{len(shared)} models in both, seeds {a.provenance.seed} and {b.provenance.seed}",
        how="RMSE: intervals from the stored ones as if independent (not paired: the rows are not stored); other "
        "measures: the smallest and largest difference on a fold",
        conclusion=_bench_conclusion(differences, len(shared)),
        synthetic=a.provenance.synthetic or b.provenance.synthetic,
        differences=tuple(differences),
        settings=_differing(flat(asdict(a.provenance)), flat(asdict(b.provenance))),
        notes=tuple(notes),
    )


def _bench_conclusion(differences: Sequence[Difference], n_models: int) -> str:
    clear = [f"{row.measure.removeprefix(f'{ERROR}: ')} {row.shown}" for row in differences if row.is_clear]
    if not differences:
        return NO_DIFFERENCE
    if not clear:
        return f"No RMSE of the {n_models} models in both differs by more than chance."
    return f"{len(clear)} of {n_models} models differ in RMSE by more than chance, A minus B: {'; '.join(clear)}."


def _stored_difference(name: str, a: RmseInterval, b: RmseInterval, n: int) -> Difference:
    gap = a.estimate - b.estimate
    low = gap - hypot(a.estimate - a.low, b.high - b.estimate)
    high = gap + hypot(a.high - a.estimate, b.estimate - b.low)
    return Difference(name, a.estimate, b.estimate, gap, low, high, n, "stored")


def _rows(results: Sequence[ResultRow], key: tuple[str, str]) -> dict[str, ResultRow]:
    return {str(row.fold): row for row in results if (row.protocol, row.model) == key}


def _n(results: Sequence[ResultRow], key: tuple[str, str]) -> int:
    return sum(row.n for row in _rows(results, key).values())


def _by_fold(label: str, a: Mapping[str, ResultRow], b: Mapping[str, ResultRow]) -> Iterator[Difference]:
    """Mean differences over folds with the smallest and the largest; measures that do not differ are left out."""
    folds = [fold for fold in a if fold in b]
    for measure in (name for name, metric in METRICS.items() if metric.compared):
        both = [(a[fold].scores.get(measure), b[fold].scores.get(measure)) for fold in folds]
        pairs = [(first, second) for first, second in both if first is not None and second is not None]
        if not pairs or len(pairs) < len(folds) or not np.isfinite(pairs).all():
            continue
        gaps = [first - second for first, second in pairs]
        if any(gaps):
            means = np.mean(pairs, axis=0)
            n, mean = sum(a[fold].n for fold in folds), float(np.mean(gaps))
            first, second = map(float, means)
            yield Difference(f"{measure}: {label}", first, second, mean, min(gaps), max(gaps), n, "folds")


def comparison_text(comparison: ResultComparison) -> str:
    """The comparison as tables for the screen; foreign text in it is not yet escaped."""
    lines = [
        f"A: {comparison.a}",
        f"B: {comparison.b}",
        f"{comparison.about}{' (synthetic data)' if comparison.synthetic else ''}",
        "",
        comparison.conclusion,
        "",
    ]
    cells = [
        [row.measure, _shown(row.a), _shown(row.b), f"{row.difference:+.3f}", row.interval,
         "over folds" if row.basis == "folds" else ""]
        for row in comparison.differences
    ]  # fmt: skip
    lines += [f"A minus B; {comparison.how}", aligned(["", "A", "B", "A - B", "interval", ""], cells)] if cells else []
    for heading, rows in (("Counts that differ", comparison.counts), ("Settings that differ", comparison.settings)):
        if rows:
            lines += ["", heading, *(f"  {name}: {first} | {second}" for name, first, second in rows)]
    if not comparison.settings:
        lines += ["", "No setting differs."]
    return "\n".join([*lines, *([""] if comparison.notes else []), *comparison.notes])


def _shown(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.3f}"
