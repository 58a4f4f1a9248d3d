"""Evidence on realism of the drawn ratings: their histogram, one user's use of the scale, how users differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, Verdict, interval_columns
from hybrid_sim.core.types import FloatArray, IntArray, RatingScale
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval, Resampler
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import judge, table, undecided, without_interval

MIN_RATINGS = 5
"""Held-out ratings that a user (or item) needs to have a histogram or a mean of its own."""

PER_USER = (
    Column("quantity", "quantity"), Column("real", "real", 4), Column("simulated", "simulated", 4),
    Column("ratio", "simulated / real", 3), *interval_columns(3),
)  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """A real and a simulated quantity and the ratio simulated / real; all NaN where it is undefined."""

    name: str
    real: float
    simulated: float
    ratio: Interval

    @property
    def row(self) -> tuple[Cell | Interval, ...]:
        """The row of a table with columns `PER_USER`."""
        return self.name, self.real, self.simulated, self.ratio

    def verdict(self, rule: str, why_undefined: str, scale: RatingScale) -> Verdict:
        """Whether the relative difference is small."""
        if np.isnan(self.real):
            return undecided(rule, why_undefined, scale)
        low, ratio, high = self.ratio.low, self.ratio.estimate, self.ratio.high
        return judge(rule, Interval(ratio - 1.0, low - 1.0, high - 1.0, self.ratio.level), scale)


def _undefined(name: str) -> Quantity:
    return Quantity(name, np.nan, np.nan, without_interval(np.nan))


def histogram(data: ValidationData) -> Section:
    """The histogram of the drawn ratings beside the real one, and the confusion of real and drawn ratings."""
    truth, drawn, scale = data.truth, data.simulator.drawn, data.held_out.scale
    real, simulated = (np.bincount(scale.index(ratings), minlength=scale.n_levels) for ratings in (truth, drawn))
    shares = (
        (f"{level:g}", r, s, r / len(truth), s / len(truth))
        for level, r, s in zip(scale.levels, real, simulated, strict=True)
    )
    columns = (
        Column("level", "rating"), Column("n_real", "real"), Column("n_simulated", "drawn"),
        Column("real", "share of real", 4), Column("simulated", "share of drawn", 4),
    )  # fmt: skip
    tables = (
        table("histogram", "Real ratings, and one drawn by the simulator for each", columns, shares),
        confusion_table(truth, drawn, scale),
    )
    charts = (
        Chart("histograms", "Shares of the levels", "histogram", "level", ("real", "simulated"), x_label="rating"),
        Chart("heatmap", "Real and drawn rating", "confusion", "simulated", ("real", "share"), x_label="drawn rating"),
    )
    distance = _wasserstein(data)
    verdict = judge("histogram", distance, scale)
    finding = (
        f"The Kullback-Leibler divergence of the histograms is {metrics.kl_divergence(drawn, truth, scale):.4f} nats."
    )
    return Section("histogram", "The histogram of ratings", finding, (verdict, *charts, *tables))


def confusion_table(truth: FloatArray, drawn: FloatArray, scale: RatingScale) -> Table:
    """Of the pairs with each real rating the number and share with each drawn rating, a row per cell."""
    n, names = scale.n_levels, [f"{level:g}" for level in scale.levels]
    counts = np.bincount(scale.index(truth) * n + scale.index(drawn), minlength=n * n).reshape(n, n)
    rows = (
        (names[a], names[b], counts[a, b], counts[a, b] / counts[a].sum())
        for a in np.flatnonzero(counts.any(axis=1))
        for b in range(n)
    )
    columns = (
        Column("real", "real rating"), Column("simulated", "drawn rating"), Column("n", "ratings"),
        Column("share", "share of the real rating's", 4),
    )  # fmt: skip
    note = "Two draws of one person's rating differ too: even a perfect simulator has no clean diagonal."
    return table("confusion", "What is drawn where a level was given", columns, rows, note)


def _wasserstein(data: ValidationData) -> Interval:
    """Wasserstein distance of the histograms of all ratings, in rating units."""
    scale = data.scale
    gap = scale.index(data.simulator.drawn)[:, None] <= np.arange(scale.n_levels - 1)
    gap = gap.astype(float) - (scale.index(data.truth)[:, None] <= np.arange(scale.n_levels - 1))
    columns = np.column_stack([gap, np.ones(len(gap))])
    return data.by_group.of(columns, data.group, lambda s: np.abs(s[:, :-1] / s[:, -1:]) @ np.diff(scale.values))


def realism(data: ValidationData) -> Section:
    """Spread of one user's simulated ratings, and their distance to the same user's real ones."""
    spread = _spread(data)
    verdict = spread.verdict("spread", "No user has two held-out ratings.", data.scale)
    finding = f"Standard deviation within users: simulated {spread.simulated:.3f}, real {spread.real:.3f} rating units."
    if np.isnan(spread.real):
        finding = "The standard deviation within users is undefined."
    distances, nearer = _user_distances(data)
    within = table("within-users", "Ratings of one user", PER_USER, [spread.row], _RESAMPLED)
    return Section("realism", "One user at a time", finding, (verdict, nearer, within, distances))


_RESAMPLED = "Intervals resample users."


def _spread(data: ValidationData) -> Quantity:
    """The mean over users of the standard deviation within them; undefined if nobody has two ratings."""
    name, user, n_users = "standard deviation within users", data.held_out.user, data.held_out.n_users
    users = np.flatnonzero(np.bincount(user, minlength=n_users) >= 2)
    if not len(users):
        return _undefined(name)
    real, simulated = (
        metrics.sd_by_group(ratings, user, n_users)[users] for ratings in (data.truth, data.simulator.drawn)
    )
    columns = np.column_stack([simulated, real, np.ones(len(users))])
    ratio = data.by_user.of(columns, users, lambda s: s[:, 0] / s[:, 1])
    means = columns.mean(axis=0)
    return Quantity(name, float(means[1]), float(means[0]), ratio)


def _user_distances(data: ValidationData) -> tuple[Table, Verdict]:
    """Wasserstein distance of each user's drawn ratings to the real ones, beside draws from simple histograms."""
    user, n_users = data.held_out.user, data.held_out.n_users
    users = np.flatnonzero(np.bincount(user, minlength=n_users) >= MIN_RATINGS)
    drawn = {data.simulator.name: data.simulator.drawn}
    drawn |= {name: data.drawn_from(data.baselines[name]) for name in ("global_mean", "user_mean", "biases")}
    distance = {name: _wasserstein_by_user(data, column)[users] for name, column in drawn.items()}
    means = (data.by_user.mean(one, users) if len(users) else without_interval(np.nan) for one in distance.values())
    distances = table(
        "user-distances",
        f"Distance of a user's drawn ratings from the same user's real ones, in rating units ({len(users)} users)",
        (Column("model", "drawn by"), Column("distance", "mean", 4), *interval_columns(4)),
        zip(distance, means, strict=True),
        f"Users with at least {MIN_RATINGS} held-out ratings. {_RESAMPLED} Two honest draws differ too: compare rows.",
    )
    if not len(users):
        return distances, undecided("user-histograms", f"No user has {MIN_RATINGS} held-out ratings.", data.scale)
    difference = data.by_user.mean(distance[data.simulator.name] - distance["global_mean"], users)
    return distances, judge("user-histograms", difference, data.scale)


def _wasserstein_by_user(data: ValidationData, drawn: FloatArray) -> FloatArray:
    """Wasserstein distance between drawn and real ratings of each user, in rating units, shape `(n_users,)`."""
    scale, user, n_users = data.held_out.scale, data.held_out.user, data.held_out.n_users
    n = scale.n_levels
    counts = [
        np.bincount(user * n + scale.index(column), minlength=n_users * n).reshape(n_users, n)
        for column in (drawn, data.truth)
    ]
    n_ratings = np.maximum(counts[1].sum(axis=1), 1)
    below = np.abs(np.cumsum(counts[0] - counts[1], axis=1)[:, :-1]) / n_ratings[:, None]
    return np.asarray(below @ np.diff(scale.values))


def diversity(data: ValidationData) -> Section:
    """Spread of the means of users and of items, and entropy of the ratings."""
    held_out, drawn = data.held_out, data.simulator.drawn
    users = _between("standard deviation of users' means", data, held_out.user, held_out.n_users)
    items = _between("standard deviation of items' means", data, held_out.item, held_out.n_items)
    quantities = [users, *([] if np.isnan(items.real) else [items])]
    for name, group in (("entropy of all ratings (nats)", None), ("mean entropy within users (nats)", held_out.user)):
        real, simulated = (_entropy(data, ratings, group) for ratings in (data.truth, drawn))
        ratio = without_interval(simulated / real if real else np.nan)
        quantities.append(Quantity(name, real, simulated, ratio))
    verdict = users.verdict("heterogeneity", "Fewer than two users have enough ratings.", data.scale)
    note = f"Means of users (items) with at least {MIN_RATINGS} held-out ratings, which are resampled."
    rows = (quantity.row for quantity in quantities)
    varied = table("diversity", "How varied ratings, users and items are", PER_USER, rows, note)
    ratios = ", ".join(f"{q.name} {q.ratio.estimate:.2f}" for q in quantities if np.isfinite(q.ratio.estimate))
    finding = f"Ratios of simulated to real: {ratios or 'none'}."
    return Section("diversity", "How users differ", finding, (verdict, varied))


def _between(name: str, data: ValidationData, group: IntArray, n: int) -> Quantity:
    """Standard deviation between groups of their mean rating; undefined if fewer than two have enough ratings."""
    count = np.bincount(group, minlength=n)
    rated = np.flatnonzero(count >= MIN_RATINGS)
    if len(rated) < 2:
        return _undefined(name)
    real, simulated = (
        (np.bincount(group, ratings, minlength=n) / np.maximum(count, 1))[rated]
        for ratings in (data.truth, data.simulator.drawn)
    )
    columns = np.column_stack([real, real**2, simulated, simulated**2, np.ones(len(rated))])

    def sds(sums: FloatArray) -> FloatArray:
        means = sums / sums[:, -1:]
        return np.sqrt(np.maximum(means[:, [1, 3]] - means[:, [0, 2]] ** 2, 0.0))

    ratio = Resampler(group, n, data.seed).of(columns, rated, lambda s: sds(s)[:, 1] / sds(s)[:, 0])
    both = sds(columns.sum(axis=0)[None])[0]
    return Quantity(name, float(both[0]), float(both[1]), ratio)


def _entropy(data: ValidationData, ratings: FloatArray, group: IntArray | None) -> float:
    """Entropy of the histogram of all ratings, or the mean over groups with enough of them."""
    scale = data.held_out.scale
    group = np.zeros(len(ratings), dtype=np.int64) if group is None else np.unique(group, return_inverse=True)[1]
    cells = group * scale.n_levels + scale.index(ratings)
    counts = np.bincount(cells, minlength=(int(group.max()) + 1) * scale.n_levels).reshape(-1, scale.n_levels)
    counts = counts[counts.sum(axis=1) >= min(MIN_RATINGS, len(ratings))]
    if not len(counts):
        return float("nan")
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(-(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1).mean())
