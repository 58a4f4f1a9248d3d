"""Personal signal: what a prediction says about a rating beyond the means of its user and its item."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, Verdict, interval_columns
from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, interval_cells
from hybrid_sim.models.biases import Biases


def signal(data: ValidationData) -> Section:
    """Partial correlations with the rating, given the training means of user and item, of the whole and its parts."""
    parts = {data.simulator.name: data.simulator.expected(), **data.simulator.members}
    sums = _moments(data, list(parts.values()))
    values = {name: _partial(sums, k) for k, name in enumerate(parts)}
    intervals = {name: data.by_group.interval(value) for name, value in values.items()}
    rows: tuple[tuple[Cell, ...], ...] = tuple((name, *interval_cells(found)) for name, found in intervals.items())
    table = Table(
        "signal",
        "Partial correlation of prediction and rating, given the means of user and item",
        (Column("model", "prediction"), Column("correlation", "partial correlation", 4), *interval_columns(4)),
        rows,
        "Means are those of training ratings, shrunk, users' and items' freed from each other (biases); both sides are "
        "residuals of a linear regression on them. A prediction that is nothing but these means has no correlation. "
        f"Intervals resample {data.groups}.",
    )
    chart = Chart("bars", "Personal signal", "signal", "model", ("correlation",), "low", "high",
                  reference=verdicts.SIGNAL.threshold, y_label="partial correlation")  # fmt: skip
    whole = intervals[data.simulator.name]
    verdict = verdicts.judge(verdicts.SIGNAL, whole, "the partial correlation with the rating is")
    finding = f"Beyond the means of user and item, prediction and rating correlate by {describe(whole)}."
    above = _above_members(data, values)
    return Section("signal", "Personal signal", finding, (verdict, above, chart, table))


def _above_members(data: ValidationData, values: dict[str, FloatArray]) -> Verdict:
    """Whether the whole has more signal than its best member."""
    whole, *members = values
    known = [name for name in members if np.isfinite(values[name][0])]
    if not known:
        return verdicts.undecided(verdicts.MEMBERS, "The parts of the simulator are not known.")
    best = max(known, key=lambda name: float(values[name][0]))
    difference = data.by_group.interval(values[whole] - values[best])
    return verdicts.judge(verdicts.MEMBERS, difference, f"its partial correlation minus that of {best} is")


def _moments(data: ValidationData, predictions: list[FloatArray]) -> FloatArray:
    """Sums of products of 1, user mean, item mean, rating and the predictions, `(1 + n_boot, n, n)`."""
    means, held_out = Biases().fit(data.train), data.held_out
    centre = means.global_mean_
    user, item = means.user_bias_[held_out.user], means.item_bias_[held_out.item]
    rows = [np.ones(len(user)), user, item, data.truth - centre]
    rows += [np.where(np.isfinite(p), p - centre, user + item) for p in predictions]  # silence adds nothing
    columns = np.column_stack(rows)
    n = columns.shape[1]
    first, second = np.triu_indices(n)
    sums = data.by_group.sums(columns[:, first] * columns[:, second], data.group)
    moments = np.zeros((len(sums), n, n))
    moments[:, first, second] = moments[:, second, first] = sums
    return moments


def _partial(moments: FloatArray, k: int) -> FloatArray:
    """Partial correlation of the rating and prediction `k`, per resample; NaN where the prediction has no residual."""
    given, both = np.arange(3), np.array([3, 4 + k])
    explained = moments[:, given[:, None], both]
    inverse = np.linalg.pinv(moments[:, :3, :3], rcond=1e-10, hermitian=True)
    total = moments[:, both[:, None], both]
    left = total - np.swapaxes(explained, 1, 2) @ inverse @ explained
    variance = left[:, [0, 1], [0, 1]]
    nothing = variance <= 1e-8 * np.maximum(total[:, [0, 1], [0, 1]], 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = left[:, 0, 1] / np.sqrt(variance[:, 0] * variance[:, 1])
    return np.asarray(np.where(nothing.any(axis=1), np.nan, correlation))
