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
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import (
    describe,
    judge,
    lower_bound_of_abs,
    table,
    undecided,
    without_interval,
)

MIN_RATINGS, MIN_UNITS = 200, 20
"""Held-out ratings, and users (or items) that are resampled, that a group needs to be judged."""

MOST_GROUPS = 25
"""Groups of one feature that are shown, the largest ones."""

AGES = (18, 25, 35, 45, 55)
N_PARTS = 5
"""Fifths of time and of a user's held-out ratings."""

Membership = tuple[str, str, NDArray[np.bool_]]
"""Feature, group, and which held-out rows belong to it."""

COLUMNS = (
    Column("feature", "feature"), Column("group", "group"), Column("n", "ratings"), Column("rmse", "RMSE", 4),
    *interval_columns(4, "rmse_low", "rmse_high"), Column("real", "real mean", 3),
    Column("simulated", "simulated mean", 3), Column("bias", "bias", 3), *interval_columns(3),
)  # fmt: skip


def groups(data: ValidationData) -> Section:
    """Bias and RMSE by age, gender, occupation, activity, popularity and genre, as far as these are known."""
    members = [(feature, group, rows) for feature, group, rows in _memberships(data) if rows.any()]
    biases = {(f, g): _bias(data, rows) for f, g, rows in members}
    shown = table(
        "groups",
        "Real and simulated ratings of groups of users and items",
        COLUMNS,
        (_row(data, *member) for member in members),
        f"Bias: expected minus real rating. Groups of fewer than {MIN_RATINGS} ratings or {MIN_UNITS} {data.groups} "
        f"are shown but not judged. Intervals resample {data.groups}; for the verdict they are widened, as the worst "
        "of many groups is looked for (Bonferroni).",
    )
    chart = Chart("bars", "Bias by group", "groups", "group", ("bias",), "low", "high", series="feature",
                  reference=0.0, y_label="simulated - real mean")  # fmt: skip
    large_enough = [
        (f, g) for f, g, rows in members if rows.sum() >= MIN_RATINGS and len(np.unique(data.group[rows])) >= MIN_UNITS
    ]
    judged = {key: _widened(biases[key], len(large_enough)) for key in large_enough}
    if not judged:
        why = f"No group has {MIN_RATINGS} held-out ratings of {MIN_UNITS} {data.groups}."
        return Section("groups", "Groups", why, (undecided("groups", why), shown))
    worst = max(judged, key=lambda key: (lower_bound_of_abs(judged[key]), abs(judged[key].estimate)))
    name = f"{worst[0]} {worst[1]}"
    verdict = judge(
        "groups",
        without_interval(lower_bound_of_abs(judged[worst])),
        f"the worst of {len(judged)} groups is {name}, bias {describe(judged[worst])} stars, beyond doubt",
    )
    finding = f"The most biased of {len(judged)} groups is {name}: {describe(judged[worst])} stars."
    return Section("groups", "Groups of users and items", finding, (verdict, chart, shown))


def drift(data: ValidationData) -> Section:
    """Bias and RMSE by the time of the held-out rating and by its place among the user's held-out ratings."""
    title, times = "Drift over time", data.held_out.timestamp
    if times is None:
        why = "No times of the held-out ratings are known."
        return Section("drift", title, why, (undecided("drift", why),))
    by_time = _fifths(times.astype(float), np.zeros(len(times), dtype=np.int64))
    by_place = _fifths(times.astype(float), data.held_out.user)
    members: list[Membership] = [
        (feature, f"{k + 1} of {N_PARTS}", part == k)
        for feature, part in (("time", by_time), ("user's held-out ratings in order", by_place))
        for k in range(N_PARTS)
        if (part == k).any()
    ]
    rows, note = (_row(data, *member) for member in members), f"Intervals resample {data.groups}."
    shown = table("drift", "Real and simulated ratings by fifths of time", COLUMNS, rows, note)
    chart = Chart("lines", "Bias over time", "drift", "group", ("bias",), "low", "high", series="feature",
                  reference=0.0, y_label="simulated - real mean")  # fmt: skip
    if min((by_time == 0).sum(), (by_time == N_PARTS - 1).sum()) < MIN_RATINGS:
        why = f"Fewer than {MIN_RATINGS} held-out ratings in a fifth of the time."
        return Section("drift", title, why, (undecided("drift", why), shown))
    change = _change(data, by_time)
    verdict = judge(
        "drift",
        without_interval(lower_bound_of_abs(change)),
        f"from the first to the last fifth the bias changes by {describe(change)} stars, beyond doubt by",
    )
    finding = f"From the first to the last fifth of the time the bias changes by {describe(change)} stars."
    return Section("drift", title, finding, (verdict, chart, shown))


def _change(data: ValidationData, part: IntArray) -> Interval:
    """Bias in the last part minus that in the first, in stars."""
    error = (data.simulator.expected() - data.truth) / data.unit
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


def _bias(data: ValidationData, rows: NDArray[np.bool_]) -> Interval:
    """Expected minus real rating, in stars."""
    error = (data.simulator.expected() - data.truth)[rows] / data.unit
    return data.by_group.mean(error, data.group[rows])


def _widened(bias: Interval, n: int) -> Interval:
    """The interval that all of `n` such intervals hold together with the same certainty."""
    alpha = 1.0 - bias.level
    factor = float(ndtri(1.0 - alpha / (2 * n)) / ndtri(1.0 - alpha / 2))
    low = bias.estimate - factor * (bias.estimate - bias.low)
    return Interval(bias.estimate, low, bias.estimate + factor * (bias.high - bias.estimate), bias.level)


def _row(data: ValidationData, feature: str, group: str, rows: NDArray[np.bool_]) -> tuple[Any, ...]:
    expected, truth = data.simulator.expected()[rows], data.truth[rows]
    error = data.by_group.root_mean((expected - truth) ** 2, data.group[rows])
    bias = data.by_group.mean(expected - truth, data.group[rows])
    return feature, group, rows.sum(), error, truth.mean(), expected.mean(), bias


def _memberships(data: ValidationData) -> Iterator[Membership]:
    """All groups, feature by feature."""
    users, items = data.held_out.users, data.held_out.items
    of_user, of_item = data.held_out.user, data.held_out.item
    yield from _by_count("past ratings of the user", data.train.user_counts[of_user])
    yield from _by_count("past ratings of the item", data.train.item_counts[of_item])
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
