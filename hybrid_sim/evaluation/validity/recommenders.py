"""Whether a simulator ranks recommenders as the real log does: the use that simulators are built for.

Recommenders learn from the training part alone and choose among each user's held-out items. The real quality of a
choice is the mean of the ratings that people gave to it, the simulated quality the mean of the simulator's ratings of
the same items. No rating is used twice: a recommender's training ratings are in neither quality. Simulator and
recommenders do learn from the same training ratings; a simulator whose probabilities are right given these is not
fooled by any choice that is made from these, and one that is fooled ranks wrongly here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Chart, Column, Section, Table, Verdict, interval_columns
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.fit_cache import fit_cache
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.seeding import derive_seed, stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import judge, table, undecided, without_interval
from hybrid_sim.models import make_rater

MIN_RECOMMENDERS = 8
"""Fewer rankings than this say little about agreement."""

N_HALVES = 50
"""Random halves of the users, to see how well real ratings agree with each other."""

SLATE = 5
"""Items that a recommender chooses for each user; fewer where users have fewer than twice as many held-out items."""


def scores(train: Dataset, pairs: Pairs, embedder: Embedder, seed: int) -> dict[str, FloatArray]:
    """What recommenders of clearly different quality think of the pairs, `(n_pairs,)` each; they learn from `train`.

    Five learn and two count; content and factorization, which can speak of new items too, are also diluted with noise
    and turned upside down; one is random. Those that cannot tell any user's items apart are left out.
    """
    number = derive_seed(seed, "recommenders") % 2**31
    raters: dict[str, Rater] = {
        "item mean": make_rater("biases"),
        "item kNN": make_rater("knn", user_based=False, similarity="msd"),
        "SVD": make_rater("svd", seed=number),
        "content": make_rater("content_gp", embedder=embedder),
        "factorization": make_rater(
            "factorization", n_factors=8, n_iterations=60, burn_in=20, n_draws=20, embedder=embedder, seed=number
        ),
    }
    made: dict[str, FloatArray] = {}
    for name, rater in raters.items():
        means = expected(fit_cache().fit(rater, train).rater, pairs)
        known = np.isfinite(means)
        made[name] = np.where(known, means, means[known].mean() if known.any() else 0.0)
    rng = stream(seed, "recommenders", "noise")
    n_rated = np.maximum(np.bincount(pairs.user, minlength=train.n_users), 1)

    def sd_within_users(score: FloatArray) -> float:
        of_users = np.bincount(pairs.user, score, minlength=train.n_users) / n_rated
        return float((score - of_users[pairs.user]).std())

    def half_noise(score: FloatArray) -> FloatArray:
        return score + rng.normal(0.0, sd_within_users(score), len(score))

    made["popularity"] = np.log1p(train.item_counts[pairs.item].astype(float))
    made["rarest first"] = -made["popularity"]
    made["random"] = rng.random(len(pairs))
    for name in ("content", "factorization"):
        made[f"{name}, half noise"] = half_noise(made[name])
        made[f"{name}, upside down"] = -made[name]
    made["content, half noise, upside down"] = -half_noise(made["content"])
    return {name: score for name, score in made.items() if sd_within_users(score) > 1e-6}


def recommenders(data: ValidationData) -> Section:
    """Real against simulated quality of the recommenders, Kendall's tau, and the pairs that clearly differ."""
    size = _slate_size(data.held_out)
    title = "Ranking recommenders"
    if size is None or len(data.recommenders) < MIN_RECOMMENDERS:
        why = "Too few users have several held-out items to choose among."
        if size is not None:
            why = f"Only {len(data.recommenders)} of {MIN_RECOMMENDERS} recommenders can tell held-out items apart."
        undecidable = (undecided(rule, why, data.scale) for rule in ("ranking", "good-against-bad"))
        return Section("recommenders", title, why, tuple(undecidable))
    slates = {name: _slate(data, score, size) for name, score in data.recommenders.items()}
    columns = {"real": data.truth, "simulated": data.simulator.expected(), "drawn": data.simulator.drawn}
    quality = {kind: _qualities(data, column, slates) for kind, column in columns.items()}
    order = sorted(range(len(slates)), key=lambda k: -float(quality["real"][0, k]))
    of_real, of_simulated = ([data.by_group.interval(q) for q in quality[k].T] for k in ("real", "simulated"))
    rows = ((list(slates)[k], of_real[k], of_simulated[k], quality["drawn"][0, k]) for k in order)
    note = (
        f"Mean rating of the {size} items that a recommender puts first among the held-out items of each user with at "
        f"least {2 * size}. Simulated: expected ratings; drawn: one drawn rating each. Intervals resample "
        f"{data.groups}."
    )
    qualities = table("recommenders", "Quality of recommenders by real and by simulated ratings", _COLUMNS, rows, note)
    chart = Chart("scatter", "Real and simulated quality", "recommenders", "real", ("simulated",), label="recommender",
                  x_label="mean real rating", y_label="mean simulated rating")  # fmt: skip
    tau, of_draws = (_tau(data, quality["real"], quality[kind]) for kind in ("simulated", "drawn"))
    halves = _between_halves(data, slates)
    n_clear, right_order = _good_against_bad(data, quality)
    taus = _tau_table(data, tau, of_draws, halves)
    verdict = judge("ranking", tau, data.scale, f"{len(slates)} recommenders")
    finding = f"Real ratings tell {n_clear} pairs of {len(slates)} recommenders apart; between one half of the users "
    finding += f"and the other Kendall's tau of real ratings is {halves:.3f}."
    blocks = (verdict, right_order, chart, qualities, taus)
    return Section("recommenders", title, finding, blocks, _NOTES)


_COLUMNS = (
    Column("recommender", "recommender"), Column("real", "real", 4), *interval_columns(4, "real_low", "real_high"),
    Column("simulated", "simulated", 4), *interval_columns(4, "simulated_low", "simulated_high"),
    Column("drawn", "drawn", 4),
)  # fmt: skip
_NOTES = (
    "Recommenders learn from training ratings alone; the ratings that judge their choices are held out from them and "
    "from the simulator.",
    "Recommenders rank items that the user did rate: how they would do on all other items no log can tell.",
)


def _slate_size(held_out: Dataset) -> int | None:
    """How many items a recommender chooses per user; None where hardly anybody has several."""
    counts = held_out.user_counts
    return next((k for k in range(SLATE, 0, -1) if (counts >= 2 * k).sum() >= 20), None)


def _slate(data: ValidationData, score: FloatArray, size: int) -> IntArray:
    """Rows of the `size` best held-out items of every user who has twice as many; equal scores settled at random."""
    user = data.held_out.user
    tie = stream(data.seed, "validity", "slates").random(len(score))
    order = np.lexsort((tie, -np.round(score, 9), user))
    starts = np.searchsorted(user[order], user[order])
    able = data.held_out.user_counts[user[order]] >= 2 * size
    return np.asarray(order[(np.arange(len(order)) - starts < size) & able])


def _qualities(data: ValidationData, ratings: FloatArray, slates: Mapping[str, IntArray]) -> FloatArray:
    """Mean rating of every recommender's slates, per resample, `(1 + n_boot, n_recommenders)`."""
    group = data.group
    sums = [
        data.by_group.sums(np.column_stack([ratings[rows], np.ones(len(rows))]), group[rows])
        for rows in slates.values()
    ]
    return np.column_stack([s[:, 0] / s[:, 1] for s in sums])


def kendall(a: FloatArray, b: FloatArray) -> FloatArray:
    """Kendall's tau-b of each row of `a` and `b`, shape `(n, n_things)`; NaN where one of them is constant.

    >>> kendall(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]])).round(3)
    array([0.333])
    """
    first, second = np.triu_indices(a.shape[1], 1)
    signs = [np.sign(np.round(x[:, first] - x[:, second], 9)) for x in (a, b)]
    untied = [np.abs(sign).sum(axis=1) for sign in signs]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((signs[0] * signs[1]).sum(axis=1) / np.sqrt(untied[0] * untied[1]))


def _tau(data: ValidationData, real: FloatArray, simulated: FloatArray) -> Interval:
    """Kendall's tau; 0 for a simulator to which all recommenders are equal."""
    return data.by_group.interval(np.nan_to_num(kendall(real, simulated)))


def _good_against_bad(data: ValidationData, quality: Mapping[str, FloatArray]) -> tuple[int, Verdict]:
    """How many pairs of recommenders real ratings tell apart, and the verdict on the simulator's order of these."""
    first, second = np.triu_indices(quality["real"].shape[1], 1)
    real = quality["real"][:, first] - quality["real"][:, second]
    intervals = [data.by_group.interval(column) for column in real.T]
    clear: NDArray[np.bool_] = np.array([one.low > 0 or one.high < 0 for one in intervals])
    n_clear = int(clear.sum())
    if not n_clear:
        why = "Real ratings tell no two recommenders apart; more are needed."
        return 0, undecided("good-against-bad", why, data.scale)
    simulated = np.round(quality["simulated"][:, first] - quality["simulated"][:, second], 9)
    right = (np.sign(simulated) == np.sign(real))[:, clear].mean(axis=1)
    detail = f"{n_clear} pairs that real ratings tell apart"
    return n_clear, judge("good-against-bad", data.by_group.interval(right), data.scale, detail)


def _between_halves(data: ValidationData, slates: Mapping[str, IntArray]) -> float:
    """Kendall's tau between real qualities in one half of the users and in the other, mean over random halves."""
    rng = stream(data.seed, "validity", "halves")
    user, n_users = data.held_out.user, data.held_out.n_users
    first = rng.integers(2, size=(N_HALVES, n_users)).astype(float)
    halves = []
    for weights in (first, 1.0 - first):
        parts = [
            (np.bincount(user[rows], data.truth[rows], minlength=n_users), np.bincount(user[rows], minlength=n_users))
            for rows in slates.values()
        ]
        halves.append(np.column_stack([(weights @ total) / np.maximum(weights @ n, 1.0) for total, n in parts]))
    return float(np.nanmean(kendall(halves[0], halves[1])))


def _tau_table(data: ValidationData, tau: Interval, of_draws: Interval, halves: float) -> Table:
    rows = (
        ("expected ratings", tau),
        ("one drawn rating each", of_draws),
        ("real ratings of other users", without_interval(halves)),
    )
    columns = (Column("by", "ranked by"), Column("tau", "Kendall's tau", 4), *interval_columns(4))
    note = (
        f"Intervals resample {data.groups}, for both rankings at once. Real ratings: one half of the users against "
        "the other."
    )
    return table("taus", "Agreement with the ranking by real ratings", columns, rows, note)
