"""Whether drawn ratings look like people's: their histogram, one user's use of the scale, how users differ."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, Verdict
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval, Resampler
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, finite_or_none, interval_cells

MIN_RATINGS = 5
"""Held-out ratings that a user (or item) needs to have a histogram or a mean of its own."""

PER_USER = (
    Column("quantity", "quantity"),
    Column("real", "real", 4),
    Column("simulated", "simulated", 4),
    Column("ratio", "simulated / real", 3),
    Column("low", "from", 3),
    Column("high", "to", 3),
)


def histogram(data: ValidationData) -> Section:
    """The histogram of the drawn ratings beside the real one, and how the two go together."""
    truth, drawn, scale = data.truth, data.simulator.drawn, data.held_out.scale
    n_levels, levels = scale.n_levels, scale.index(truth)
    counts = np.bincount(levels * n_levels + scale.index(drawn), minlength=n_levels**2).reshape(n_levels, n_levels)
    real, simulated = counts.sum(axis=1), counts.sum(axis=0)
    names = [f"{level:g}" for level in scale.levels]
    shares: list[tuple[Cell, ...]] = [
        (name, int(r), int(s), float(r / len(truth)), float(s / len(truth)))
        for name, r, s in zip(names, real, simulated, strict=True)
    ]
    cells: list[tuple[Cell, ...]] = [
        (names[a], names[b], int(counts[a, b]), float(counts[a, b] / real[a]))
        for a in range(n_levels)
        for b in range(n_levels)
        if real[a]
    ]
    tables = (
        Table("histogram", "Real ratings, and one drawn by the simulator for each", _HISTOGRAM, tuple(shares)),
        Table("confusion", "What is drawn where a level was given", _CONFUSION, tuple(cells), _CONFUSION_NOTE),
    )
    charts = (
        Chart("histograms", "Shares of the levels", "histogram", "level", ("real", "simulated"), x_label="rating"),
        Chart("heatmap", "Real and drawn rating", "confusion", "simulated", ("real", "share"), x_label="drawn rating"),
    )
    distance = _wasserstein(data)
    verdict = verdicts.judge(verdicts.HISTOGRAM, distance, "the distance of the histograms, in stars, is")
    divergence = metrics.kl_divergence(drawn, truth, scale)
    finding = f"The histograms are {describe(distance)} stars apart (Kullback-Leibler {divergence:.4f} nats)."
    return Section("histogram", "The histogram of ratings", finding, (verdict, *charts, *tables))


_HISTOGRAM = (
    Column("level", "rating"),
    Column("n_real", "real"),
    Column("n_simulated", "drawn"),
    Column("real", "share of real", 4),
    Column("simulated", "share of drawn", 4),
)
_CONFUSION = (
    Column("real", "real rating"),
    Column("simulated", "drawn rating"),
    Column("n", "ratings"),
    Column("share", "share of the real rating's", 4),
)
_CONFUSION_NOTE = "Two draws of one person's rating differ too: even a perfect simulator has no clean diagonal."


def _wasserstein(data: ValidationData) -> Interval:
    """Wasserstein distance of the histograms of all ratings, in stars."""
    scale = data.held_out.scale
    gap = scale.index(data.simulator.drawn)[:, None] <= np.arange(scale.n_levels - 1)
    gap = gap.astype(float) - (scale.index(data.truth)[:, None] <= np.arange(scale.n_levels - 1))
    steps = np.diff(scale.values) / data.unit
    columns = np.column_stack([gap, np.ones(len(gap))])
    return data.by_group.of(columns, data.group, lambda s: np.abs(s[:, :-1] / s[:, -1:]) @ steps)


def realism(data: ValidationData) -> Section:
    """How one user's simulated ratings spread, and how far they are from the same user's real ones."""
    spread = _spread(data)
    tables = [Table("within-users", "Ratings of one user", PER_USER, (spread[0],), _RESAMPLED)]
    distances, nearer = _user_distances(data)
    tables.append(distances)
    finding = f"Standard deviation within users: simulated {spread[0][2]:.3f}, real {spread[0][1]:.3f}."
    return Section("realism", "One user at a time", finding, (spread[1], nearer, *tables))


_RESAMPLED = "Intervals resample users."


def _spread(data: ValidationData) -> tuple[tuple[Cell, ...], Verdict]:
    """The mean over users of the standard deviation within them."""
    user, n_users = data.held_out.user, data.held_out.n_users
    several = np.bincount(user, minlength=n_users) >= 2
    real, simulated = (_sd_by(column, user, n_users) for column in (data.truth, data.simulator.drawn))
    if not several.any():
        return _unknown(verdicts.SPREAD, "standard deviation within users", "No user has two held-out ratings.")
    users = np.flatnonzero(several)
    columns = np.column_stack([simulated[users], real[users], np.ones(len(users))])
    ratio = data.by_user.of(columns, users, lambda s: s[:, 0] / s[:, 1])
    means = columns.mean(axis=0)
    return _compared(verdicts.SPREAD, "standard deviation within users", float(means[1]), float(means[0]), ratio)


def _user_distances(data: ValidationData) -> tuple[Table, Verdict]:
    """Wasserstein distance of each user's drawn ratings to the real ones, beside draws from simple histograms."""
    user, n_users = data.held_out.user, data.held_out.n_users
    users = np.flatnonzero(np.bincount(user, minlength=n_users) >= MIN_RATINGS)
    drawn = {data.simulator.name: data.simulator.drawn}
    drawn |= {name: data.drawn_from(data.baselines[name]) for name in ("global_mean", "user_mean", "biases")}
    distance = {name: _wasserstein_by_user(data, column)[users] for name, column in drawn.items()}
    rows: list[tuple[Cell, ...]] = []
    for name, of_users in distance.items():
        mean = data.by_user.mean(of_users, users) if len(users) else verdicts.without_interval(np.nan)
        rows.append((name, *interval_cells(mean)))
    table = Table(
        "user-distances",
        f"Distance of a user's drawn ratings from the same user's real ones, in stars ({len(users)} users)",
        (Column("model", "drawn by"), Column("distance", "mean", 4), Column("low", "from", 4), Column("high", "to", 4)),
        tuple(rows),
        f"Users with at least {MIN_RATINGS} held-out ratings. {_RESAMPLED} Two honest draws differ too: compare rows.",
    )
    if not len(users):
        why = f"No user has {MIN_RATINGS} held-out ratings."
        return table, verdicts.undecided(verdicts.USERS, why)
    difference = data.by_user.mean(distance[data.simulator.name] - distance["global_mean"], users)
    return table, verdicts.judge(verdicts.USERS, difference, "its mean distance minus theirs, in stars, is")


def _wasserstein_by_user(data: ValidationData, drawn: FloatArray) -> FloatArray:
    """Wasserstein distance between drawn and real ratings of each user, in stars, shape `(n_users,)`."""
    scale, user, n_users = data.held_out.scale, data.held_out.user, data.held_out.n_users
    n = scale.n_levels
    counts = [
        np.bincount(user * n + scale.index(column), minlength=n_users * n).reshape(n_users, n)
        for column in (drawn, data.truth)
    ]
    n_ratings = np.maximum(counts[1].sum(axis=1), 1)
    below = np.abs(np.cumsum(counts[0] - counts[1], axis=1)[:, :-1]) / n_ratings[:, None]
    return np.asarray(below @ np.diff(scale.values) / data.unit)


def diversity(data: ValidationData) -> Section:
    """How users differ from each other, how items do, and how varied ratings are."""
    held_out, drawn = data.held_out, data.simulator.drawn
    between = _between(data, held_out.user, held_out.n_users, data.by_user)
    rows = []
    if between is None:
        row, verdict = _unknown(
            verdicts.HETEROGENEITY, "standard deviation of users' means", "Fewer than two users have enough ratings."
        )
    else:
        row, verdict = _compared(verdicts.HETEROGENEITY, "standard deviation of users' means", *between)
    rows.append(row)
    by_item = Resampler(held_out.item, held_out.n_items, data.seed)
    items = _between(data, held_out.item, held_out.n_items, by_item)
    if items is not None:
        rows.append(_row("standard deviation of items' means", *items))
    for name, group in (("entropy of all ratings (nats)", None), ("mean entropy within users (nats)", held_out.user)):
        real, simulated = (_entropy(data, column, group) for column in (data.truth, drawn))
        rows.append(_row(name, real, simulated, verdicts.without_interval(simulated / real if real else np.nan)))
    table = Table("diversity", "How varied ratings, users and items are", PER_USER, tuple(rows), _DIVERSITY_NOTE)
    ratios = ", ".join(f"{row[0]} {row[3]:.2f}" for row in rows if row[3] is not None)
    finding = f"Ratios of simulated to real: {ratios or 'none'}."
    return Section("diversity", "How users differ", finding, (verdict, table))


_DIVERSITY_NOTE = f"Means of users (items) with at least {MIN_RATINGS} held-out ratings, which are resampled."


def _between(
    data: ValidationData, group: IntArray, n: int, resampler: Resampler
) -> tuple[float, float, Interval] | None:
    """Standard deviation between groups of the mean rating, real and simulated, and the ratio; None with too few."""
    count = np.bincount(group, minlength=n)
    chosen = np.flatnonzero(count >= MIN_RATINGS)
    if len(chosen) < 2:
        return None
    real, simulated = (
        (np.bincount(group, column, minlength=n) / np.maximum(count, 1))[chosen]
        for column in (data.truth, data.simulator.drawn)
    )
    columns = np.column_stack([real, real**2, simulated, simulated**2, np.ones(len(chosen))])

    def sds(sums: FloatArray) -> FloatArray:
        means = sums / sums[:, -1:]
        return np.sqrt(np.maximum(means[:, [1, 3]] - means[:, [0, 2]] ** 2, 0.0))

    ratio = resampler.of(columns, chosen, lambda s: sds(s)[:, 1] / sds(s)[:, 0])
    both = sds(columns.sum(axis=0)[None])[0]
    return float(both[0]), float(both[1]), ratio


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


def _sd_by(column: FloatArray, group: IntArray, n: int) -> FloatArray:
    """Sample standard deviation of each group, shape `(n,)`; 0 for groups of one."""
    count = np.bincount(group, minlength=n)
    mean = np.bincount(group, column, minlength=n) / np.maximum(count, 1)
    squares = np.bincount(group, (column - mean[group]) ** 2, minlength=n)
    return np.asarray(np.sqrt(squares / np.maximum(count - 1, 1)))


def _row(name: str, real: float, simulated: float, ratio: Interval) -> tuple[Cell, ...]:
    return (
        name,
        finite_or_none(real),
        finite_or_none(simulated),
        *interval_cells(ratio),
    )


def _compared(
    rule: verdicts.Rule, name: str, real: float, simulated: float, ratio: Interval
) -> tuple[tuple[Cell, ...], Verdict]:
    """The row of a quantity and the verdict about its relative difference."""
    off = verdicts.without_interval(abs(ratio.estimate - 1.0))
    words = f"{name} is {simulated:.3f}, really {real:.3f}; the relative difference is"
    return _row(name, real, simulated, ratio), verdicts.judge(rule, off, words)


def _unknown(rule: verdicts.Rule, name: str, why: str) -> tuple[tuple[Cell, ...], Verdict]:
    return (name, None, None, None, None, None), verdicts.undecided(rule, why)
