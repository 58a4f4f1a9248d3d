"""How near predictions come to ratings, and what the probabilities are worth, beside simple models."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.judged import Trial
from hybrid_sim.evaluation.validity.report import Cell, Chart, Column, Section, Table
from hybrid_sim.evaluation.validity.verdicts import describe, plain

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


def accuracy(trial: Trial) -> Section:
    """Errors of the expected ratings, raw and rounded, and the difference to every baseline."""
    expected = {trial.subject.name: trial.subject.expected()}
    expected |= {name: trial.expected_of(name) for name in trial.references}
    rows = tuple(_errors(trial, name, predicted) for name, predicted in expected.items())
    table = Table(
        "accuracy",
        "Errors on held-out ratings, raw and rounded to the nearest level",
        RATING_COLUMNS,
        rows,
        f"Intervals resample {trial.groups}; differences below zero favour the simulator.",
    )
    chart = Chart("bars", "RMSE, raw", "accuracy", "model", ("rmse",), "low", "high", y_label="RMSE")
    against = _difference(trial, expected["biases"])
    verdict = verdicts.judge(verdicts.ACCURACY, against, "its RMSE minus theirs, in stars, is")
    best = min((row for row in rows[1:]), key=lambda row: _number(row[1]))
    finding = f"RMSE {rows[0][1]:.4f}, the best of the simple models ({best[0]}) has {best[1]:.4f}."
    notes = () if trial.subject.has_distributions else (
        "Only drawn ratings of the simulator are known, so they are compared with ratings drawn from the baselines.",
    )  # fmt: skip
    return Section("accuracy", "Accuracy", finding, (table,), (chart,), (verdict,), notes)


def _errors(trial: Trial, name: str, predicted: FloatArray) -> tuple[Cell, ...]:
    truth, rounded = trial.truth, trial.held_out.scale.round(predicted)
    interval = trial.by_group.root_mean((predicted - truth) ** 2, trial.group)
    is_subject = name == trial.subject.name
    difference = None if is_subject else _difference(trial, predicted, 1.0)
    return (
        name,
        interval.estimate,
        plain(interval.low),
        plain(interval.high),
        metrics.mae(truth, predicted),
        plain(metrics.pearson(truth, predicted)),
        metrics.rmse(truth, rounded),
        metrics.mae(truth, rounded),
        plain(metrics.pearson(truth, rounded)),
        *((None,) * 3 if difference is None else map(plain, (difference.estimate, difference.low, difference.high))),
    )


def _difference(trial: Trial, predicted: FloatArray, unit: float | None = None) -> Interval:
    """RMSE of the simulator minus that of a prediction, in stars (or in `unit`)."""
    scale = trial.unit if unit is None else unit
    own, other = ((column - trial.truth) / scale for column in (trial.subject.expected(), predicted))
    return trial.by_group.rmse_difference(own, other, trial.group)


def information(trial: Trial) -> Section:
    """Proper scores of the probabilities: log loss and ranked probability score."""
    title = "What the probabilities are worth"
    if not trial.subject.has_distributions:
        why = "Only drawn ratings are known, no probabilities; name a run folder to have them judged."
        return Section("information", title, why, verdicts=(verdicts.cannot_tell(verdicts.INFORMATION, why),))
    opinions = {trial.subject.name: trial.subject.distribution, **trial.references}
    own = metrics.log_losses(trial.truth, trial.subject.distribution)
    rows, differences = [], {}
    for name, distribution in opinions.items():
        losses = metrics.log_losses(trial.truth, distribution)
        difference = trial.by_group.mean(own - losses, trial.group)
        differences[name] = difference
        ranked = metrics.ranked_probability_score(trial.truth, distribution)
        shown = (difference.estimate, difference.low, difference.high)
        cells = (None,) * 3 if name == trial.subject.name else tuple(map(plain, shown))
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
        f"Log loss in nats; RPS is the squared distance of cumulated probabilities. Intervals resample {trial.groups}.",
    )
    best = min((name for name in HISTOGRAMS if name in trial.references), key=lambda n: _log_loss(trial, opinions[n]))
    verdict = verdicts.judge(
        verdicts.INFORMATION, differences[best], f"its log loss minus that of the best histogram ({best}) is"
    )
    finding = f"Log loss {own.mean():.4f}; against the best histogram ({best}) {describe(differences[best])} nats."
    chart = Chart("bars", "Log loss", "information", "model", ("log_loss",), y_label="nats")
    return Section("information", title, finding, (table,), (chart,), (verdict,))


def _log_loss(trial: Trial, distribution: RatingDistribution) -> float:
    return metrics.log_loss(trial.truth, distribution)


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else np.inf
