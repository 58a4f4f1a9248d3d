"""Whether some groups of users or items are served worse, and whether the answers stay right as time passes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from hybrid_sim.core.document import Chart, Column, Section, interval_columns
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.evaluation.bootstrap import MIN_GROUPS, Interval
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import RULES, judge, table, undecided

MIN_RATINGS = 200
"""Held-out ratings that a group needs to be judged, of at least `MIN_GROUPS` users (or items)."""

MOST_GROUPS = 25
"""Groups of one feature that are shown, the largest ones."""

AGES = (18, 25, 35, 45, 55)
N_PARTS = 5
"""Fifths of time and of a user's held-out ratings."""

Membership = tuple[str, str, NDArray[np.bool_]]
"""Feature, group, and which held-out rows belong to it."""

COLUMNS = (
    Column("feature", "feature"), Column("group", "group"), Column("n", "ratings"), Column("rmse", "RMSE", 3),
    *interval_columns(3, "rmse_low", "rmse_high"), Column("real", "real mean", 3),
    Column("simulated", "simulated mean", 3), Column("bias", "bias, rating units", 3, sign=True),
    *interval_columns(3, sign=True),
)  # fmt: skip


def groups(data: ValidationData) -> Section:
    """Bias and RMSE by age, gender, occupation, activity, popularity and genre, as far as these are known."""
    everybody = [(feature, f"{feature}: {name}", rows) for feature, name, rows in _memberships(data) if rows.any()]
    large = [member for member in everybody if _is_large(data, member[2])]
    if not large:
        why = f"No group has {MIN_RATINGS} held-out ratings of {MIN_GROUPS} {data.groups}."
        return Section("groups", "Groups", why, (undecided("groups", why, data.scale),))
    rows = {member[1]: _row(data, *member, n_intervals=len(large)) for member in large}
    left_out = len(everybody) - len(large)
    note = (
        f"Bias: expected minus real rating. Intervals resample {data.groups}; those of the bias are widened so that "
        f"all {len(large)} hold together with 95% (Bonferroni), as the worst of many groups is looked for. {left_out} "
        f"groups of fewer than {MIN_RATINGS} ratings or {MIN_GROUPS} {data.groups} are left out."
    )
    shown = table("groups", "Real and simulated ratings of groups of users and items", COLUMNS, rows.values(), note)
    chart = Chart("bars", "Bias by group", "groups", "group", ("bias",), "low", "high", series="feature",
                  reference=0.0, y_label="simulated minus real mean, rating units",
                  caption="With simultaneous 95% intervals.")  # fmt: skip
    limit = RULES["groups"].limit(data.scale)

    def distance(group: str) -> tuple[float, float]:
        """Distances from zero of the interval's nearer end, beyond the limit, and of its farther end."""
        bias: Interval = rows[group][-1]
        return max(bias.low, -bias.high, limit), max(-bias.low, bias.high)

    worst = max(rows, key=distance)
    verdict = judge("groups", rows[worst][-1], data.scale, f"of {len(large)} groups {worst} is worst off")
    finding = f"{len(large)} groups are judged; {left_out} others are too small."
    return Section("groups", "Groups of users and items", finding, (verdict, chart, shown))


def _is_large(data: ValidationData, rows: NDArray[np.bool_]) -> bool:
    return bool(rows.sum() >= MIN_RATINGS and len(np.unique(data.group[rows])) >= MIN_GROUPS)


def drift(data: ValidationData) -> Section:
    """Bias and RMSE by the time of the held-out rating and by its place among the user's held-out ratings."""
    title, times = "Drift over time", data.held_out.timestamp
    if times is None:
        why = "No times of the held-out ratings are known."
        return Section("drift", title, why, (undecided("drift", why, data.scale),))
    by_time = _fifths(times.astype(float), np.zeros(len(times), dtype=np.int64))
    by_place = _fifths(times.astype(float), data.held_out.user)
    members: list[Membership] = [
        (feature, f"{k + 1} of {N_PARTS}", part == k)
        for feature, part in (("time", by_time), ("user's held-out ratings in order", by_place))
        for k in range(N_PARTS)
        if (part == k).any()
    ]
    rows, note = (_row(data, *member, n_intervals=1) for member in members), f"Intervals resample {data.groups}."
    shown = table("drift", "Real and simulated ratings by fifths of time", COLUMNS, rows, note)
    chart = Chart("lines", "Bias over time", "drift", "group", ("bias",), "low", "high", series="feature",
                  reference=0.0, y_label="simulated minus real mean, rating units")  # fmt: skip
    if min((by_time == 0).sum(), (by_time == N_PARTS - 1).sum()) < MIN_RATINGS:
        why = f"Fewer than {MIN_RATINGS} held-out ratings in a fifth of the time."
        return Section("drift", title, why, (undecided("drift", why, data.scale), shown))
    verdict = judge("drift", _change(data, by_time), data.scale)
    error = data.simulator.expected() - data.truth
    first, last = (float(error[by_time == k].mean()) for k in (0, N_PARTS - 1))
    finding = f"The bias is {first:+.3f} in the first fifth of the time and {last:+.3f} rating units in the last."
    return Section("drift", title, finding, (verdict, chart, shown))


def _change(data: ValidationData, part: IntArray) -> Interval:
    """Bias in the last part minus that in the first, in rating units."""
    error = data.simulator.expected() - data.truth
    late, early = (part == N_PARTS - 1).astype(float), (part == 0).astype(float)
    columns = np.column_stack([error * late, late, error * early, early])
    return data.by_group.of(columns, data.group, lambda s: s[:, 0] / s[:, 1] - s[:, 2] / s[:, 3])


def _fifths(key: FloatArray, group: IntArray) -> IntArray:
    """Which fifth of its group's rows each row is in, ordered by key."""
    order = np.lexsort((key, group))
    starts = np.searchsorted(group[order], group[order])
    sizes = np.bincount(group)[group[order]]
    part = np.empty(len(key), dtype=np.int64)
    part[order] = (np.arange(len(key)) - starts) * N_PARTS // np.maximum(sizes, 1)
    return part


def _widened(bias: Interval, n: int) -> Interval:
    """The interval that all of `n` such intervals hold together with the same certainty (Bonferroni)."""
    alpha = 1.0 - bias.level
    factor = float(ndtri(1.0 - alpha / (2 * n)) / ndtri(1.0 - alpha / 2))
    low = bias.estimate - factor * (bias.estimate - bias.low)
    return Interval(bias.estimate, low, bias.estimate + factor * (bias.high - bias.estimate), bias.level)


def _row(data: ValidationData, feature: str, group: str, rows: NDArray[np.bool_], n_intervals: int) -> tuple[Any, ...]:
    """The cells of a group, the last its bias with an interval that is one of `n_intervals`."""
    expected, truth = data.simulator.expected()[rows], data.truth[rows]
    error = data.by_group.root_mean((expected - truth) ** 2, data.group[rows])
    bias = _widened(data.by_group.mean(expected - truth, data.group[rows]), n_intervals)
    return feature, group, rows.sum(), error, truth.mean(), expected.mean(), bias


def _memberships(data: ValidationData) -> Iterator[Membership]:
    """All groups, feature by feature."""
    users, items = data.held_out.users, data.held_out.items
    of_user, of_item = data.held_out.user, data.held_out.item
    yield from _by_count("ratings by the user", data.train.user_counts[of_user])
    yield from _by_count("ratings of the item", data.train.item_counts[of_item])
    if "age" in users and pd.api.types.is_numeric_dtype(users["age"]):
        yield from _by_age(users["age"].to_numpy(dtype=float)[of_user])
    for name in ("age_group", "gender", "occupation"):
        if name in users:
            yield from _by_category(name, users[name].astype(str).to_numpy(dtype=object)[of_user])
    if "genres" in items:
        yield from _by_genre(items["genres"].tolist(), of_item)


def _by_count(feature: str, count: IntArray) -> Iterator[Membership]:
    """None, and thirds of the others."""
    yield feature, "none", count == 0
    some = np.sort(count[count > 0])
    if len(some):
        cuts = np.unique(np.quantile(some, [1 / 3, 2 / 3], method="lower"))
        ends = [0, *cuts.tolist(), int(some[-1])]
        for low, high in pairwise(ends):
            yield feature, f"{low + 1:g} to {high:g}", (count > low) & (count <= high)


def _by_age(age: FloatArray) -> Iterator[Membership]:
    band = np.searchsorted(AGES, age, side="right")
    names = [f"under {AGES[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(AGES))]
    for k, name in enumerate([*names, f"{AGES[-1]} and over"]):
        yield "age", name, (band == k) & np.isfinite(age)


def _by_category(feature: str, value: NDArray[np.object_]) -> Iterator[Membership]:
    codes, names = pd.factorize(value)
    sizes = np.bincount(codes, minlength=len(names))
    for k in np.argsort(-sizes, kind="stable")[:MOST_GROUPS].tolist():
        if names[k] not in ("", "nan", "None"):
            yield feature, str(names[k]), codes == k


def _by_genre(genres: list[tuple[str, ...]], item: IntArray) -> Iterator[Membership]:
    """Items with several genres belong to all of them."""
    owner = np.repeat(np.arange(len(genres)), [len(of_item) for of_item in genres])
    codes, names = pd.factorize(np.array([genre for of_item in genres for genre in of_item], dtype=object))
    member = np.zeros((len(names), len(genres)), dtype=bool)
    member[codes, owner] = True
    n_items = np.bincount(item, minlength=len(genres))
    for k in np.argsort(-(member @ n_items), kind="stable")[:MOST_GROUPS].tolist():
        yield "genre", str(names[k]), member[k][item]
