"""How near predictions come to ratings, and what the probabilities are worth, beside simple models."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table
from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, finite_or_none

HISTOGRAMS = ("global_mean", "user_mean", "item_mean")
"""The baselines that are histograms of training ratings."""

RATING_COLUMNS = (
    Column("model", "model"),
    Column("rmse", "RMSE", 4),
    Column("low", "from", 4),
    Column("high", "to", 4),
    Column("mae", "MAE", 4),
    Column("pearson", "Pearson", 4),
    Column("rmse_rounded", "RMSE rounded", 4),
    Column("mae_rounded", "MAE rounded", 4),
    Column("pearson_rounded", "Pearson rounded", 4),
    Column("difference", "simulator - model", 4),
    Column("difference_low", "from", 4),
    Column("difference_high", "to", 4),
)


def accuracy(data: ValidationData) -> Section:
    """Errors of the expected ratings, raw and rounded, and the difference to every baseline."""
    expected = {data.simulator.name: data.simulator.expected()}
    expected |= {name: data.baseline_ratings(name) for name in data.baselines}
    rows = tuple(_errors(data, name, predicted) for name, predicted in expected.items())
    table = Table(
        "accuracy",
        "Errors on held-out ratings, raw and rounded to the nearest level",
        RATING_COLUMNS,
        rows,
        f"Intervals resample {data.groups}; differences below zero favour the simulator.",
    )
    chart = Chart("bars", "RMSE, raw", "accuracy", "model", ("rmse",), "low", "high", y_label="RMSE")
    against = _difference(data, expected["biases"])
    verdict = verdicts.judge(verdicts.ACCURACY, against, "its RMSE minus theirs, in stars, is")
    best = min((row for row in rows[1:]), key=lambda row: _number(row[1]))
    finding = f"RMSE {rows[0][1]:.4f}, the best of the simple models ({best[0]}) has {best[1]:.4f}."
    notes = () if data.simulator.has_distributions else (
        "Only drawn ratings of the simulator are known, so they are compared with ratings drawn from the baselines.",
    )  # fmt: skip
    return Section("accuracy", "Accuracy", finding, (verdict, chart, table), notes)


def _errors(data: ValidationData, name: str, predicted: FloatArray) -> tuple[Cell, ...]:
    truth, rounded = data.truth, data.held_out.scale.round(predicted)
    interval = data.by_group.root_mean((predicted - truth) ** 2, data.group)
    is_subject = name == data.simulator.name
    difference = None if is_subject else _difference(data, predicted, 1.0)
    return (
        name,
        interval.estimate,
        finite_or_none(interval.low),
        finite_or_none(interval.high),
        metrics.mae(truth, predicted),
        finite_or_none(metrics.pearson(truth, predicted)),
        metrics.rmse(truth, rounded),
        metrics.mae(truth, rounded),
        finite_or_none(metrics.pearson(truth, rounded)),
        *(
            (None,) * 3
            if difference is None
            else map(finite_or_none, (difference.estimate, difference.low, difference.high))
        ),
    )


def _difference(data: ValidationData, predicted: FloatArray, unit: float | None = None) -> Interval:
    """RMSE of the simulator minus that of a prediction, in stars (or in `unit`)."""
    scale = data.unit if unit is None else unit
    own, other = ((column - data.truth) / scale for column in (data.simulator.expected(), predicted))
    return data.by_group.rmse_difference(own, other, data.group)


def information(data: ValidationData) -> Section:
    """Proper scores of the probabilities: log loss and ranked probability score."""
    title = "What the probabilities are worth"
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities; name a run folder to have them judged."
        return Section("information", title, why, (verdicts.undecided(verdicts.INFORMATION, why),))
    opinions = {data.simulator.name: data.simulator.distribution, **data.baselines}
    own = metrics.log_losses(data.truth, data.simulator.distribution)
    rows, differences = [], {}
    for name, distribution in opinions.items():
        losses = metrics.log_losses(data.truth, distribution)
        difference = data.by_group.mean(own - losses, data.group)
        differences[name] = difference
        ranked = metrics.ranked_probability_score(data.truth, distribution)
        shown = (difference.estimate, difference.low, difference.high)
        cells = (None,) * 3 if name == data.simulator.name else tuple(map(finite_or_none, shown))
        rows.append((name, float(losses.mean()), ranked, *cells))
    table = Table(
        "information",
        "Proper scores of the probabilities on held-out ratings (smaller is better)",
        (
            Column("model", "model"),
            Column("log_loss", "log loss", 4),
            Column("rps", "RPS", 4),
            Column("difference", "simulator - model, log loss", 4),
            Column("low", "from", 4),
            Column("high", "to", 4),
        ),
        tuple(rows),
        f"Log loss in nats; RPS is the squared distance of cumulated probabilities. Intervals resample {data.groups}.",
    )
    best = min((name for name in HISTOGRAMS if name in data.baselines), key=lambda n: _log_loss(data, opinions[n]))
    verdict = verdicts.judge(
        verdicts.INFORMATION, differences[best], f"its log loss minus that of the best histogram ({best}) is"
    )
    finding = f"Log loss {own.mean():.4f}; against the best histogram ({best}) {describe(differences[best])} nats."
    chart = Chart("bars", "Log loss", "information", "model", ("log_loss",), y_label="nats")
    return Section("information", title, finding, (verdict, chart, table))


def _log_loss(data: ValidationData, distribution: RatingDistribution) -> float:
    return metrics.log_loss(data.truth, distribution)


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else np.inf
