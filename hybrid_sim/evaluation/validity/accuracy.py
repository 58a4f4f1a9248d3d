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
from hybrid_sim.evaluation.validity.verdicts import judge, table, undecided, without_interval

HISTOGRAMS = ("global_mean", "user_mean", "item_mean")
"""The baselines that are histograms of training ratings."""

NOT_DEFINED = without_interval(np.nan)
"""The difference of the simulator to itself."""

N_NULL = 20
"""Sets of ratings drawn from the simulator itself, whose mean calibration error is due to chance alone."""

MIN_RATINGS = 30
"""Ratings below which coverage is not shown by support: it would be chance."""

N_BINS = 10
"""Bins of probability, of equal width."""


def accuracy(data: ValidationData) -> Section:
    """Errors of the expected ratings, raw and rounded, and the difference to every baseline."""
    own = data.simulator.name
    expected = {own: data.simulator.expected(), **{name: data.baseline_ratings(name) for name in data.baselines}}
    rmse = {name: data.by_group.root_mean((p - data.truth) ** 2, data.group) for name, p in expected.items()}
    against = {
        name: data.by_group.rmse_difference(expected[own] - data.truth, predicted - data.truth, data.group)
        for name, predicted in expected.items()
    }
    rows = (
        (name, rmse[name], *_errors(data, predicted), NOT_DEFINED if name == own else against[name])
        for name, predicted in expected.items()
    )
    columns = (
        Column("model", "model"), Column("rmse", "RMSE", 4), *interval_columns(4), Column("mae", "MAE", 4),
        Column("pearson", "Pearson", 4), Column("rmse_rounded", "RMSE rounded", 4),
        Column("mae_rounded", "MAE rounded", 4), Column("pearson_rounded", "Pearson rounded", 4),
        Column("difference", "simulator - model", 4), *interval_columns(4, "difference_low", "difference_high"),
    )  # fmt: skip
    title = "Errors on held-out ratings, raw and rounded to the nearest level"
    note = f"In rating units. Intervals resample {data.groups}; differences below zero favour the simulator."
    chart = Chart("bars", "RMSE, raw", "accuracy", "model", ("rmse",), "low", "high", y_label="RMSE, rating units",
                  highlight=own)  # fmt: skip
    verdict = judge("accuracy", against["biases"], data.scale)
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


def information(data: ValidationData) -> Section:
    """Proper scores of the probabilities: log loss and ranked probability score."""
    title = "What the probabilities are worth"
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities; name a run folder to have them judged."
        return Section("information", title, why, (undecided("information", why, data.scale),))
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
    verdict = judge("information", gains[best], data.scale, f"the best histogram is {best}")
    of_best = f"that of the best histogram of past ratings ({best}) {losses[best].mean():.4f}"
    finding = f"Log loss {losses[own].mean():.4f} nats, {of_best}."
    chart = Chart("bars", "Log loss", "information", "model", ("log_loss",), y_label="nats", highlight=own)
    return Section("information", title, finding, (verdict, chart, table("information", heading, columns, rows, note)))


def calibration(data: ValidationData) -> Section:
    """Reliability diagram, calibration error, bias of the mean, and coverage of intervals by support of the item."""
    shift = data.by_group.mean(data.simulator.expected() - data.truth, data.group)
    bias = judge("bias", shift, data.scale)
    coverage, holds = _coverage(data)
    if not data.simulator.has_distributions:
        why = "Only drawn ratings are known, no probabilities that could come true."
        blocks = undecided("calibration", why, data.scale), bias, holds, *coverage
        return Section("calibration", "Calibration", why, blocks)
    error, chance, beyond = _calibration_error(data)
    verdict = judge("calibration", beyond, data.scale)
    finding = f"The class-wise calibration error is {error:.4f}, of which chance alone makes {chance:.4f}."
    chart = Chart(
        "reliability", "Probability of a level and how often it was given", "reliability", "forecast", ("observed",),
        series="level", x_label="probability", y_label="share of ratings",
        caption="On the diagonal probabilities come true; hollow points stand for fewer than 30 forecasts.",
    )  # fmt: skip
    reliability = reliability_table(data.truth, data.simulator.distribution)
    return Section("calibration", "Calibration", finding, (verdict, bias, holds, chart, reliability, *coverage))


def _calibration_error(data: ValidationData) -> tuple[float, float, Interval]:
    """Class-wise calibration error, its mean where ratings are drawn from the simulator itself, and the difference.

    A resample adds noise to the error, which is a sum of distances; the drawn ratings are resampled likewise, so that
    their mean error has the same noise in it.
    """
    distribution, weights = data.simulator.distribution, data.by_group.weights
    probs, n_levels = distribution.probs, data.scale.n_levels
    bins = np.minimum((probs * N_BINS).astype(np.int64), N_BINS - 1)
    cell = ((data.group[:, None] * n_levels + np.arange(n_levels)) * N_BINS + bins).ravel()
    shape = weights.shape[1], n_levels * N_BINS
    n_events = n_levels * (weights @ np.bincount(data.group, minlength=shape[0]))

    def errors(ratings: FloatArray) -> FloatArray:
        gap = probs - (data.scale.index(ratings)[:, None] == np.arange(n_levels))
        by_group = np.bincount(cell, gap.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
        return np.asarray(np.abs(weights @ by_group).sum(axis=1) / n_events)

    rng = stream(data.seed, "validity", "calibration")
    error, chance = errors(data.truth), np.mean([errors(distribution.sample(rng)) for _ in range(N_NULL)], axis=0)
    return float(error[0]), float(chance[0]), data.by_group.interval(error - chance)


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


def _coverage(data: ValidationData) -> tuple[tuple[Chart | Table, ...], Verdict]:
    """Coverage and width of the intervals by support of the item, and the verdict on the whole."""
    low, high = data.simulator.low, data.simulator.high
    if low is None or high is None:
        return (), undecided("coverage", "The simulator gives no intervals.", data.scale)
    inside = metrics.inside_interval(data.truth, low, high)
    bucket = support_buckets(data.train.item_counts[data.held_out.item])
    parts = {"all": bucket >= 0, **{name: bucket == k for k, name in enumerate(SUPPORT_BUCKETS)}}
    rows = (
        (name, here.sum(), data.by_group.mean(inside[here], data.group[here]), (high - low)[here].mean())
        for name, here in parts.items()
        if here.sum() >= MIN_RATINGS
    )
    note = f"Fewer than {MIN_RATINGS} ratings are left out."
    columns = (
        Column("support", "training ratings"), Column("n", "ratings"), Column("coverage", "coverage", 4),
        *interval_columns(4), Column("width", "mean width, rating units", 3),
    )  # fmt: skip
    title = "Coverage of 90% intervals by the number of training ratings of the item"
    verdict = judge("coverage", data.by_group.mean(inside, data.group), data.scale)
    chart = Chart("bars", title, "coverage", "support", ("coverage",), "low", "high", reference=0.9,
                  y_label="share of the ratings inside",
                  caption="The dashed line is the 90% that intervals promise.")  # fmt: skip
    return (chart, table("coverage", title, columns, rows, note)), verdict


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
