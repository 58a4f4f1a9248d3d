"""Evidence on accuracy, calibration and cost: errors, proper scores, reliability, bias, coverage, and what it took."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.document import Cell, Chart, Column, Section, Table, Verdict, interval_columns
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.scores import SUPPORT_BUCKETS, support_buckets
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, judge, table, undecided, without_interval

HISTOGRAMS = ("global_mean", "user_mean", "item_mean")
"""The baselines that are histograms of training ratings."""

NOT_DEFINED = without_interval(np.nan)
"""The difference of the simulator to itself."""

N_NULL = 20
"""Sets of ratings drawn from the simulator itself, whose mean calibration error is due to chance alone."""


def accuracy(data: ValidationData) -> Section:
    """Errors of the expected ratings, raw and rounded, and the difference to every baseline."""
    own = data.simulator.name
    expected = {own: data.simulator.expected(), **{name: data.baseline_ratings(name) for name in data.baselines}}
    rmse = {name: data.by_group.root_mean((p - data.truth) ** 2, data.group) for name, p in expected.items()}
    rows = (
        (name, rmse[name], *_errors(data, predicted), NOT_DEFINED if name == own else _rmse_difference(data, predicted))
        for name, predicted in expected.items()
    )
    columns = (
        Column("model", "model"), Column("rmse", "RMSE", 4), *interval_columns(4), Column("mae", "MAE", 4),
        Column("pearson", "Pearson", 4), Column("rmse_rounded", "RMSE rounded", 4),
        Column("mae_rounded", "MAE rounded", 4), Column("pearson_rounded", "Pearson rounded", 4),
        Column("difference", "simulator - model", 4), *interval_columns(4, "difference_low", "difference_high"),
    )  # fmt: skip
    title = "Errors on held-out ratings, raw and rounded to the nearest level"
    note = f"Intervals resample {data.groups}; differences below zero favour the simulator."
    chart = Chart("bars", "RMSE, raw", "accuracy", "model", ("rmse",), "low", "high", y_label="RMSE")
    in_stars = _rmse_difference(data, expected["biases"], data.unit)
    verdict = judge("accuracy", in_stars, "its RMSE minus theirs, in stars, is")
    best = min(data.baselines, key=lambda name: rmse[name].estimate)
    finding = f"RMSE {rmse[own].estimate:.4f}, the best of the simple models ({best}) has {rmse[best].estimate:.4f}."
    notes = () if data.simulator.has_distributions else (
        "Only drawn ratings of the simulator are known, so they are compared with ratings drawn from the baselines.",
    )  # fmt: skip
    return Section(
        "accuracy", "Accuracy", finding, (verdict, chart, table("accuracy", title, columns, rows, note)), notes
    )


def _errors(data: ValidationData, predicted: FloatArray) -> tuple[float, ...]:
    """MAE and correlation of the raw prediction; RMSE, MAE and correlation of the rounded one."""
    truth, rounded = data.truth, data.held_out.scale.round(predicted)
    of_raw = metrics.mae(truth, predicted), metrics.pearson(truth, predicted)
    return *of_raw, metrics.rmse(truth, rounded), metrics.mae(truth, rounded), metrics.pearson(truth, rounded)


def _rmse_difference(data: ValidationData, predicted: FloatArray, unit: float = 1.0) -> Interval:
    """RMSE of the simulator minus that of a prediction, in multiples of `unit`."""
    own, other = ((ratings - data.truth) / unit for ratings in (data.simulator.expected(), predicted))
    return data.by_group.rmse_difference(own, other, data.group)


def information(data: ValidationData) -> Section:
    """Proper scores of the probabilities: log loss and ranked probability score."""
    title = "What the probabilities are worth"
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities; name a run folder to have them judged."
        return Section("information", title, why, (undecided("information", why),))
    own = data.simulator.name
    distributions = {own: data.simulator.distribution, **data.baselines}
    losses = {name: metrics.log_losses(data.truth, distribution) for name, distribution in distributions.items()}
    gains = {name: data.by_group.mean(losses[own] - loss, data.group) for name, loss in losses.items()}
    rows = (
        (name, losses[name].mean(), metrics.ranked_probability_score(data.truth, distribution),
         NOT_DEFINED if name == own else gains[name])
        for name, distribution in distributions.items()
    )  # fmt: skip
    columns = (
        Column("model", "model"), Column("log_loss", "log loss", 4), Column("rps", "RPS", 4),
        Column("difference", "simulator - model, log loss", 4), *interval_columns(4),
    )  # fmt: skip
    note = (
        f"Log loss in nats; RPS is the squared distance of cumulated probabilities. Intervals resample {data.groups}."
    )
    heading = "Proper scores of the probabilities on held-out ratings (smaller is better)"
    best = min((name for name in HISTOGRAMS if name in losses), key=lambda name: float(losses[name].mean()))
    verdict = judge("information", gains[best], f"its log loss minus that of the best histogram ({best}) is")
    finding = f"Log loss {losses[own].mean():.4f}; against the best histogram ({best}) {describe(gains[best])} nats."
    chart = Chart("bars", "Log loss", "information", "model", ("log_loss",), y_label="nats")
    return Section("information", title, finding, (verdict, chart, table("information", heading, columns, rows, note)))


def calibration(data: ValidationData) -> Section:
    """Reliability diagram, calibration error, bias of the mean, and coverage of intervals by support of the item."""
    bias, shift = _bias(data)
    coverage, holds = _coverage(data)
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities that could come true."
        finding = f"Simulated minus real mean: {describe(shift)}. {why}"
        return Section("calibration", "Calibration", finding, (undecided("calibration", why), bias, holds, *coverage))
    error, chance = _calibration_error(data)
    words = f"calibration error {error:.4f}, of which chance makes {chance:.4f}; the rest is"
    verdict = judge("calibration", without_interval(error - chance), words)
    finding = f"Calibration error {error:.4f} (chance alone: {chance:.4f}); mean off by {describe(shift)} stars."
    chart = Chart(
        "reliability", "Probability of a level and how often it was given", "reliability", "forecast", ("observed",),
        series="level", x_label="probability", y_label="share of ratings",
    )  # fmt: skip
    reliability = reliability_table(data.truth, data.simulator.distribution)
    return Section("calibration", "Calibration", finding, (verdict, bias, holds, chart, reliability, *coverage))


def _calibration_error(data: ValidationData) -> tuple[float, float]:
    """Class-wise calibration error, and its mean where the ratings are drawn from the simulator itself."""
    distribution = data.simulator.distribution
    rng = stream(data.seed, "validity", "calibration")
    null = [metrics.calibration_error(distribution.sample(rng), distribution) for _ in range(N_NULL)]
    return metrics.calibration_error(data.truth, distribution), float(np.mean(null))


def reliability_table(truth: FloatArray, distribution: RatingDistribution, by_level: bool = True) -> Table:
    """Mean forecast, observed frequency and count of every bin of probability, `by_level` or of all levels pooled."""
    bins = metrics.reliability(truth, distribution, "levels" if by_level else "pooled")
    names = [f"{level:g}" for level in distribution.scale.levels] if by_level else ["all levels"]
    rows = (
        (name, bins.forecast[k, b], bins.observed[k, b], bins.count[k, b])
        for k, name in enumerate(names)
        for b in np.flatnonzero(bins.count[k])
    )
    columns = (
        Column("level", "level"), Column("forecast", "mean probability", 4),
        Column("observed", "share of ratings", 4), Column("n", "forecasts"),
    )  # fmt: skip
    return table("reliability", "Forecast and outcome in bins of probability, level by level", columns, rows)


def _bias(data: ValidationData) -> tuple[Verdict, Interval]:
    """The verdict on the mean, and simulated minus real mean in stars."""
    shift = data.by_group.mean((data.simulator.expected() - data.truth) / data.unit, data.group)
    size = Interval(abs(shift.estimate), shift.low, shift.high, shift.level)
    if shift.estimate < 0:
        size = Interval(-shift.estimate, -shift.high, -shift.low, shift.level)
    direction = "above" if shift.estimate >= 0 else "below"
    return judge("bias", size, f"stars that their mean is {direction} the real one:"), shift


def _coverage(data: ValidationData) -> tuple[tuple[Table, ...], Verdict]:
    """Coverage and width of the intervals by support of the item, and the verdict on the whole."""
    low, high = data.simulator.low, data.simulator.high
    if low is None or high is None:
        return (), undecided("coverage", "The simulator gives no intervals.")
    inside = metrics.inside_interval(data.truth, low, high)
    bucket = support_buckets(data.train.item_counts[data.held_out.item])
    parts = {"all": bucket >= 0, **{name: bucket == k for k, name in enumerate(SUPPORT_BUCKETS)}}
    rows = (
        (name, here.sum(), data.by_group.mean(inside[here], data.group[here]), (high - low)[here].mean())
        for name, here in parts.items()
        if here.any()
    )
    columns = (
        Column("support", "training ratings"), Column("n", "ratings"), Column("coverage", "coverage", 4),
        *interval_columns(4), Column("width", "mean width", 3),
    )  # fmt: skip
    title = "Coverage of 90% intervals by the number of training ratings of the item"
    verdict = judge("coverage", data.by_group.mean(inside, data.group), "share of the ratings inside:")
    return (table("coverage", title, columns, rows),), verdict


def cost(data: ValidationData) -> Section:
    """Seconds, dollars and calls per 1,000 ratings; what is not known is left out of the finding."""
    spent, n = data.simulator.cost, len(data.held_out)
    amounts = {"seconds": spent.rate_seconds, "US dollars": spent.dollars, "calls": spent.calls}
    rows: list[tuple[str, Cell]] = [("seconds of fitting, once", spent.fit_seconds)]
    rows += [(f"{k} per 1,000 ratings", None if v is None else float(v * (1000.0 / n))) for k, v in amounts.items()]
    note = "-: not known. Seconds by the wall clock of the machine in the provenance."
    columns = (Column("what", "what"), Column("value", "value", 3))
    shown = [f"{value:.3g} {name}" for name, value in rows if value is not None]
    finding = f"{', '.join(shown)}." if shown else "What the ratings took is not known."
    return Section("cost", "Cost", finding, (table("cost", "What the answers took", columns, rows, note),))
