"""Evidence on accuracy: errors of the expected ratings and proper scores of the probabilities, beside baselines."""

from __future__ import annotations

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, interval_columns
from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, finite_or_none, interval_cells

HISTOGRAMS = ("global_mean", "user_mean", "item_mean")
"""The baselines that are histograms of training ratings."""

NOT_DEFINED = (None, None, None)
"""The difference of the simulator to itself, with its interval."""


def accuracy(data: ValidationData) -> Section:
    """Errors of the expected ratings, raw and rounded, and the difference to every baseline."""
    own = data.simulator.name
    expected = {own: data.simulator.expected(), **{name: data.baseline_ratings(name) for name in data.baselines}}
    rmse = {name: data.by_group.root_mean((p - data.truth) ** 2, data.group) for name, p in expected.items()}
    rows: list[tuple[Cell, ...]] = []
    for name, predicted in expected.items():
        difference = NOT_DEFINED if name == own else interval_cells(_rmse_difference(data, predicted))
        ends = interval_cells(rmse[name])[1:]
        rows.append((name, rmse[name].estimate, *ends, *_errors(data, predicted), *difference))
    columns = (
        Column("model", "model"), Column("rmse", "RMSE", 4), *interval_columns(4), Column("mae", "MAE", 4),
        Column("pearson", "Pearson", 4), Column("rmse_rounded", "RMSE rounded", 4),
        Column("mae_rounded", "MAE rounded", 4), Column("pearson_rounded", "Pearson rounded", 4),
        Column("difference", "simulator - model", 4), *interval_columns(4, "difference_low", "difference_high"),
    )  # fmt: skip
    title = "Errors on held-out ratings, raw and rounded to the nearest level"
    note = f"Intervals resample {data.groups}; differences below zero favour the simulator."
    table = Table("accuracy", title, columns, tuple(rows), note)
    chart = Chart("bars", "RMSE, raw", "accuracy", "model", ("rmse",), "low", "high", y_label="RMSE")
    in_stars = _rmse_difference(data, expected["biases"], data.unit)
    verdict = verdicts.judge(verdicts.ACCURACY, in_stars, "its RMSE minus theirs, in stars, is")
    best = min(data.baselines, key=lambda name: rmse[name].estimate)
    finding = f"RMSE {rmse[own].estimate:.4f}, the best of the simple models ({best}) has {rmse[best].estimate:.4f}."
    notes = () if data.simulator.has_distributions else (
        "Only drawn ratings of the simulator are known, so they are compared with ratings drawn from the baselines.",
    )  # fmt: skip
    return Section("accuracy", "Accuracy", finding, (verdict, chart, table), notes)


def _errors(data: ValidationData, predicted: FloatArray) -> tuple[Cell, ...]:
    """MAE and correlation of the raw prediction; RMSE, MAE and correlation of the rounded one."""
    truth, rounded = data.truth, data.held_out.scale.round(predicted)
    return (
        metrics.mae(truth, predicted),
        finite_or_none(metrics.pearson(truth, predicted)),
        metrics.rmse(truth, rounded),
        metrics.mae(truth, rounded),
        finite_or_none(metrics.pearson(truth, rounded)),
    )


def _rmse_difference(data: ValidationData, predicted: FloatArray, unit: float = 1.0) -> Interval:
    """RMSE of the simulator minus that of a prediction, in multiples of `unit`."""
    own, other = ((ratings - data.truth) / unit for ratings in (data.simulator.expected(), predicted))
    return data.by_group.rmse_difference(own, other, data.group)


def information(data: ValidationData) -> Section:
    """Proper scores of the probabilities: log loss and ranked probability score."""
    title = "What the probabilities are worth"
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities; name a run folder to have them judged."
        return Section("information", title, why, (verdicts.undecided(verdicts.INFORMATION, why),))
    own = data.simulator.name
    distributions = {own: data.simulator.distribution, **data.baselines}
    losses = {name: metrics.log_losses(data.truth, distribution) for name, distribution in distributions.items()}
    gains = {name: data.by_group.mean(losses[own] - loss, data.group) for name, loss in losses.items()}
    rows = tuple(
        (
            name,
            float(losses[name].mean()),
            metrics.ranked_probability_score(data.truth, distribution),
            *(NOT_DEFINED if name == own else interval_cells(gains[name])),
        )
        for name, distribution in distributions.items()
    )
    columns = (
        Column("model", "model"), Column("log_loss", "log loss", 4), Column("rps", "RPS", 4),
        Column("difference", "simulator - model, log loss", 4), *interval_columns(4),
    )  # fmt: skip
    note = (
        f"Log loss in nats; RPS is the squared distance of cumulated probabilities. Intervals resample {data.groups}."
    )
    heading = "Proper scores of the probabilities on held-out ratings (smaller is better)"
    table = Table("information", heading, columns, rows, note)
    best = min((name for name in HISTOGRAMS if name in losses), key=lambda name: float(losses[name].mean()))
    words = f"its log loss minus that of the best histogram ({best}) is"
    verdict = verdicts.judge(verdicts.INFORMATION, gains[best], words)
    finding = f"Log loss {losses[own].mean():.4f}; against the best histogram ({best}) {describe(gains[best])} nats."
    chart = Chart("bars", "Log loss", "information", "model", ("log_loss",), y_label="nats")
    return Section("information", title, finding, (verdict, chart, table))
