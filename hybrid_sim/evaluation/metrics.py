"""How good predicted and simulated ratings are: errors, proper scores, calibration, realism, intervals.

Nothing is skipped in silence: a row without an answer is an error here, so that models are compared on
equal rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybrid_sim.core.errors import InputError
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution, RatingScale, like_level

PROBABILITY_FLOOR = 1e-12
"""Smallest probability in a logarithm: a rating that was held impossible costs 27.6 nats, not infinity."""

Events = Literal["levels", "pooled", "top"]


def rmse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Root of the mean squared error, in rating units.

    Raises:
        InputError: there are no rows, or one is not a finite number (so for every measure of this module).
    """
    truth, predicted = finite_columns(truth=truth, predicted=predicted)
    return float(np.sqrt(np.mean((predicted - truth) ** 2)))


def mae(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error, in rating units."""
    truth, predicted = finite_columns(truth=truth, predicted=predicted)
    return float(np.mean(np.abs(predicted - truth)))


def pearson(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's correlation; NaN where it is undefined: one of the columns is constant to within rounding."""
    truth, predicted = finite_columns(truth=truth, predicted=predicted)
    x, y = truth - truth.mean(), predicted - predicted.mean()
    for column, deviation in ((truth, x), (predicted, y)):
        if np.abs(deviation).max() <= 1e-12 * max(1.0, float(np.abs(column).max())):
            return float("nan")
    correlation = float((x @ y) / (np.sqrt(x @ x) * np.sqrt(y @ y)))
    return min(1.0, max(-1.0, correlation))


N_TOP = 10
"""Items at the top of a ranking that are judged."""


@dataclass(frozen=True)
class Ranking:
    """How well expected ratings rank each user's held-out items, mean over the users with more than `N_TOP` of them.

    NaN where there is no such user. Equal expected ratings count as their average over all orders (McSherry and
    Najork 2008), so a constant is as good as chance. `ndcg` is Σ gain / log2(place + 1) over the first `N_TOP` places,
    divided by the largest that is possible (Järvelin and Kekäläinen 2002); the gain is the rating above the lowest.
    `recall` is the share of the liked items among the first `N_TOP`, divided by the largest that is possible.
    """

    ndcg: float
    recall: float

    @classmethod
    def of(cls, truth: FloatArray, expected: FloatArray, user: IntArray, scale: RatingScale) -> Ranking:
        """Of ratings, expected ratings and users' row numbers, shape `(n_rows,)` each; see `like_level`."""
        rows = np.flatnonzero(np.bincount(user)[user] > N_TOP)
        truth, expected, user = truth[rows], expected[rows], user[rows]
        place, best = place_in_group(user, -expected), place_in_group(user, -truth)
        ties = np.unique(np.column_stack([user, expected]), axis=0, return_inverse=True)[1].ravel()
        scores = []
        for gain, weights in (
            (truth - scale.low, 1.0 / np.log2(np.arange(N_TOP) + 2.0)),
            ((truth >= like_level(scale)).astype(float), np.ones(N_TOP)),
        ):
            weights = np.append(weights, 0.0)
            average = (np.bincount(ties, gain) / np.maximum(np.bincount(ties), 1))[ties]
            reached = np.bincount(user, average * weights[np.minimum(place, N_TOP)])
            possible = np.bincount(user, gain * weights[np.minimum(best, N_TOP)])
            defined = possible > 0
            scores.append(float((reached[defined] / possible[defined]).mean()) if defined.any() else float("nan"))
        return cls(*scores)


def log_losses(truth: ArrayLike, distribution: RatingDistribution) -> FloatArray:
    """Minus the natural logarithm of the probability given to each rating, at most 27.6, shape `(n_rows,)`.

    Raises:
        InputError: there are no rows, or one abstains.
        ScaleError: a rating is not on the scale.
    """
    truth = require_answers(truth, distribution)
    return -np.log(np.maximum(distribution.prob_of(truth), PROBABILITY_FLOOR))


def ranked_probability_scores(truth: ArrayLike, distribution: RatingDistribution) -> FloatArray:
    """Squared gaps of predicted and observed cumulative probability, summed over levels, shape `(n_rows,)`.

    From 0 (certain and right) to `n_levels - 1`: not divided by the levels (Epstein 1969, Murphy 1971).
    """
    truth = require_answers(truth, distribution)
    observed = np.arange(distribution.scale.n_levels) >= distribution.scale.index(truth)[:, None]
    return np.asarray(((distribution.cdf() - observed) ** 2).sum(axis=1))


def log_loss(truth: ArrayLike, distribution: RatingDistribution) -> float:
    """Mean of `log_losses`, in nats."""
    return float(log_losses(truth, distribution).mean())


def ranked_probability_score(truth: ArrayLike, distribution: RatingDistribution) -> float:
    """Mean of `ranked_probability_scores`."""
    return float(ranked_probability_scores(truth, distribution).mean())


@dataclass(frozen=True)
class Reliability:
    """Forecast against outcome in bins of probability: the data of a reliability diagram.

    All three have shape `(n_kinds, n_bins)`, one kind of event per row: the mean forecast, the share of
    events that came true (both NaN in an empty bin), and the number of forecasts.
    """

    forecast: FloatArray
    observed: FloatArray
    count: IntArray

    @property
    def error(self) -> float:
        """Mean distance between forecast and outcome, bins weighted by their number of forecasts."""
        gap = np.abs(self.forecast - self.observed)
        return float((np.where(self.count > 0, gap, 0.0) * self.count).sum() / self.count.sum())


def reliability(
    truth: ArrayLike, distribution: RatingDistribution, events: Events = "levels", n_bins: int = 10
) -> Reliability:
    """Forecasts and outcomes in `n_bins` bins of equal width; a bin holds its lower edge, the last also 1.

    `events` says what is forecast: `"levels"` takes "the rating is this level" for every row and level,
    each level binned for itself; `"pooled"` the same events in one set of bins, where errors of different
    levels may cancel; `"top"` only "the rating is the most probable level" (the lowest of equals), one
    event per row.
    """
    if events not in get_args(Events):
        raise ValueError(f"events {events!r} must be one of {', '.join(get_args(Events))}")
    truth = require_answers(truth, distribution)
    probs, n_levels = distribution.probs, distribution.scale.n_levels
    happened = distribution.scale.index(truth)[:, None] == np.arange(n_levels)
    kind = np.broadcast_to(np.arange(n_levels) if events == "levels" else 0, probs.shape)
    if events == "top":
        top = (np.arange(len(probs)), probs.argmax(axis=1))
        probs, happened, kind = probs[top], happened[top], kind[top]
    n_kinds = n_levels if events == "levels" else 1
    cell = (kind * n_bins + np.clip((probs * n_bins).astype(np.int64), 0, n_bins - 1)).ravel()

    def total(weights: FloatArray | None) -> FloatArray:
        return np.bincount(cell, weights, minlength=n_kinds * n_bins).reshape(n_kinds, n_bins).astype(float)

    count = total(None)
    with np.errstate(invalid="ignore"):
        forecast, observed = total(probs.ravel()) / count, total(happened.ravel().astype(float)) / count
    return Reliability(forecast, observed, count.astype(np.int64))


def calibration_error(
    truth: ArrayLike, distribution: RatingDistribution, events: Events = "levels", n_bins: int = 10
) -> float:
    """Expected calibration error: mean distance between forecast and outcome over bins of probability.

    With `"levels"` the class-wise error, the mean over levels of their binary errors (Kull et al. 2019;
    "static calibration error" of Nixon et al. 2019), which judges the whole distribution; with `"top"` the
    error of the most probable level alone (Guo et al. 2017). All are biased upwards on few rows.
    """
    return reliability(truth, distribution, events, n_bins).error


def inside_interval(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> FloatArray:
    """1 for each rating inside its closed interval (to within 1e-9), else 0, shape `(n_rows,)`."""
    truth, low, high = finite_columns(truth=truth, low=low, high=high)
    return np.asarray((truth >= low - 1e-9) & (truth <= high + 1e-9), dtype=float)


def interval_coverage(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of ratings inside their interval."""
    return float(np.mean(inside_interval(truth, low, high)))


def interval_width(low: ArrayLike, high: ArrayLike) -> float:
    """Mean width of intervals, in rating units."""
    low, high = finite_columns(low=low, high=high)
    return float(np.mean(high - low))


def kl_divergence(simulated: ArrayLike, real: ArrayLike, scale: RatingScale) -> float:
    """Relative entropy of the simulated histogram with respect to the real one, in nats: sum of q log(q / p).

    q is the simulated and p the real share of a level (Kullback and Leibler 1951). Half a count is added to
    every level of both histograms (Krichevsky and Trofimov 1981), so the answer stays finite and is 0 for
    equal ones. Two samples of n ratings from one law have about `(n_levels - 1) / n`.
    """
    q, p = _histogram(simulated, scale, 0.5), _histogram(real, scale, 0.5)
    return float(np.sum(q * np.log(q / p)))


def wasserstein(simulated: ArrayLike, real: ArrayLike, scale: RatingScale) -> float:
    """Wasserstein-1 distance of two histograms: how far, in rating units, one is moved to be the other."""
    difference = np.cumsum(_histogram(simulated, scale) - _histogram(real, scale))[:-1]
    return float(np.abs(difference) @ np.diff(scale.values))


def within_user_sd(ratings: ArrayLike, users: ArrayLike) -> float:
    """Mean over users of the sample standard deviation (n - 1) of their ratings.

    Users with one rating have none and do not count; NaN where no user has two.
    """
    (ratings,) = finite_columns(ratings=ratings)
    _, user = np.unique(np.asarray(users), return_inverse=True)
    if user.shape != ratings.shape:
        raise ValueError(f"{len(ratings)} ratings and {user.size} users must be columns of one length")
    n = np.bincount(user)
    several = n > 1
    return float(sd_by_group(ratings, user, len(n))[several].mean()) if several.any() else float("nan")


def sd_by_group(column: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
    """Sample standard deviation (n - 1) of each group, shape `(n_groups,)`; 0 for groups of one."""
    count = np.bincount(group, minlength=n_groups)
    mean = np.bincount(group, column, minlength=n_groups) / np.maximum(count, 1)
    squares = np.bincount(group, (column - mean[group]) ** 2, minlength=n_groups)
    return np.asarray(np.sqrt(squares / np.maximum(count - 1, 1)))


def _histogram(ratings: ArrayLike, scale: RatingScale, added: float = 0.0) -> FloatArray:
    (ratings,) = finite_columns(ratings=ratings)
    counts = np.bincount(scale.index(ratings), minlength=scale.n_levels) + added
    return np.asarray(counts / counts.sum())


def finite_columns(**columns: ArrayLike) -> list[FloatArray]:
    """The columns as arrays of numbers of one length.

    Raises:
        InputError: they are empty, or hold a number that is not finite.
        ValueError: they are not of one length.
    """
    arrays = [np.asarray(column, dtype=float) for column in columns.values()]
    if arrays[0].ndim != 1 or any(array.shape != arrays[0].shape for array in arrays):
        raise ValueError(f"{', '.join(columns)} must be columns of one length, got {[a.shape for a in arrays]}")
    if not len(arrays[0]):
        raise InputError("there are no ratings to score: nothing is held out, or nobody answered")
    for name, array in zip(columns, arrays, strict=True):
        bad = ~np.isfinite(array)
        if bad.any():
            raise InputError(
                f"{name} row {int(bad.argmax())} is {array[bad][0]}, expected a finite number "
                f"({int(bad.sum())} of {len(array)} rows); put a rater that always answers behind this one"
            )
    return arrays


def require_answers(truth: ArrayLike, distribution: RatingDistribution) -> FloatArray:
    """The ratings as an array, once it is sure that each has a row of `distribution` that answers.

    Raises:
        InputError: there are no rows, one abstains, or a rating is not a finite number.
    """
    (truth,) = finite_columns(truth=truth)
    if len(truth) != len(distribution):
        raise ValueError(f"{len(truth)} ratings and {len(distribution)} predictions must be of one length")
    silent: NDArray[np.bool_] = ~distribution.answered
    if silent.any():
        raise InputError(
            f"row {int(silent.argmax())} abstains ({int(silent.sum())} of {len(silent)} rows); "
            "put a rater that always answers behind this one, or leave these rows out and report how many"
        )
    return truth
