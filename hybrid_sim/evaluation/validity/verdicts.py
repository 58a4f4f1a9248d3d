"""The rules of judgement: every question that is asked of a simulator, its threshold, and why it is that one.

Lengths are in units of a quarter of the rating scale's range: one star from 1 to 5. A demand to be better than
something is judged by the less favourable end of the 95% interval, a tolerance by the estimate; where chance alone
could exceed a tolerance (the worst of many groups), by the part that the interval leaves no doubt about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybrid_sim.core.document import Sense, Verdict
from hybrid_sim.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Rule:
    """A question with its threshold; `judged_by` says whether the estimate or the interval's worse end decides."""

    name: str
    question: str
    passed: str
    failed: str
    threshold: float
    sense: Sense
    reason: str
    judged_by: Literal["estimate", "interval"] = "estimate"


ACCURACY = Rule(
    "accuracy",
    "Does it predict ratings at least as well as user and item biases?",
    "It predicts ratings no worse than shrunk user and item biases",
    "It predicts ratings worse than shrunk user and item biases",
    0.01,
    "at most",
    "Biases know no taste at all. The seed of one model alone moves the RMSE by .004 to .012 stars.",
    "interval",
)
INFORMATION = Rule(
    "information",
    "Do its probabilities say more than histograms of past ratings?",
    "Its probabilities say more than the histogram of all, of the user's or of the item's past ratings",
    "Its probabilities say no more than a histogram of past ratings",
    0.0,
    "at most",
    "A histogram is what can be said without simulating anybody; the log loss must be below that of the best one.",
    "interval",
)
CALIBRATION = Rule(
    "calibration",
    "Does what it calls 30% happen in 30% of the cases?",
    "Its probabilities come true",
    "Its probabilities do not come true",
    0.02,
    "at most",
    "Class-wise calibration error beyond what a perfectly calibrated simulator would show on as many ratings. The "
    "ensemble has .001 to .011 on MovieLens 100K; .02 leaves room for a shift between past and future ratings.",
)
BIAS = Rule(
    "bias",
    "Is the mean of its ratings the mean of the real ones?",
    "Its ratings are as high as the real ones on average",
    "Its ratings are too high or too low on average",
    0.1,
    "at most",
    "A tenth of a star: on MovieLens 100K the ensemble is off by .003 to .026, on new items by .02 to .08, recorded "
    "language models by .09 to .14.",
)
COVERAGE = Rule(
    "coverage",
    "Do its 90% intervals hold 90% of the ratings?",
    "Its 90% intervals hold what they promise",
    "Its 90% intervals hold less than they promise",
    0.87,
    "at least",
    "On few levels an interval can only be too wide, never exact; three points below the promise is the tolerance.",
)
HISTOGRAM = Rule(
    "histogram",
    "Are the ratings it draws distributed as the real ones?",
    "The histogram of its ratings is that of the real ones",
    "The histogram of its ratings is not that of the real ones",
    0.1,
    "at most",
    "Mean distance, in stars, that ratings must be moved to turn one histogram into the other (Wasserstein).",
)
SPREAD = Rule(
    "spread",
    "Do ratings of one user vary as much as real ones?",
    "One user's ratings vary as much as a real user's",
    "One user's ratings vary less or more than a real user's",
    0.1,
    "at most",
    "Relative difference of the mean standard deviation within users. Answering with expected ratings, the usual "
    "mistake, loses half of it.",
)
USERS = Rule(
    "user-histograms",
    "Is each simulated user's use of the scale that of the real user?",
    "Simulated users use the scale as the real ones do, each in their own way",
    "Simulated users are no nearer to their real ones than draws from the histogram of everybody",
    0.0,
    "at most",
    "Mean Wasserstein distance between a user's simulated and real ratings, minus that of draws from the histogram of "
    "all training ratings: below zero it knows who it is simulating.",
    "interval",
)
SIGNAL = Rule(
    "personal-signal",
    "Does it know personal taste, beyond who is generous and what is good?",
    "It knows personal taste beyond the means of users and items",
    "It knows little or nothing of personal taste beyond the means of users and items",
    0.05,
    "at least",
    "Partial correlation of prediction and rating given the means of user and item. On MovieLens 100K with 40 past "
    "ratings a recorded language model has .07 to .10, comparisons of texts .11, the ensemble .29 to .34.",
    "interval",
)
MEMBERS = Rule(
    "above-members",
    "Does the ensemble know more of personal taste than its best member?",
    "The whole ensemble knows more of personal taste than any of its members",
    "A member alone knows more of personal taste than the whole ensemble",
    0.0,
    "at least",
    "Partial correlation of the ensemble minus that of its best member: a sum that is less than a part is badly made.",
)
PICKING = Rule(
    "discrimination",
    "Does it tell what a user liked from what the user disliked?",
    "It tells liked from disliked items of a user better than the items' means do",
    "It tells liked from disliked items of a user no better than the items' means do",
    0.0,
    "at least",
    "Share of right picks between one liked and one disliked item, minus that of picking by the items' training means: "
    "telling good items from bad ones needs no simulated user.",
    "interval",
)
RANKING = Rule(
    "ranking",
    "Does it rank recommenders as the real ratings do?",
    "It ranks recommenders as the real ratings do",
    "It does not rank recommenders as the real ratings do",
    0.85,
    "at least",
    "Kendall's tau between the real and the simulated quality of recommenders, the use that simulators are built for; "
    ".85 allows one pair in thirteen the wrong way round, about as many as are too close to be told apart.",
)
GOOD_BAD = Rule(
    "good-against-bad",
    "Does it prefer the better one of two recommenders that clearly differ?",
    "Of two recommenders that clearly differ it prefers the better one",
    "Of two recommenders that clearly differ it does not reliably prefer the better one",
    0.95,
    "at least",
    "Share of the pairs of recommenders that real ratings tell apart (95% interval without 0) in the right order.",
)
GROUPS = Rule(
    "groups",
    "Is it fair to groups of users and items?",
    "No group of users or items is rated too high or too low",
    "A group of users or items is rated too high or too low",
    0.1,
    "at most",
    "The largest bias of a group with at least 200 ratings, in stars, as far as its interval, widened for the number "
    "of groups, leaves no doubt.",
)
DRIFT = Rule(
    "drift",
    "Does it stay right as time passes?",
    "It is as right about late ratings as about early ones",
    "It drifts: it is too high or too low about late ratings",
    0.15,
    "at most",
    "Change of the bias from the first to the last fifth of the held-out ratings by time, in stars, as far as the "
    "interval leaves no doubt.",
)
HETEROGENEITY = Rule(
    "heterogeneity",
    "Do users differ from each other as much as real ones?",
    "Its users differ from each other as much as real ones",
    "Its users differ from each other less or more than real ones",
    0.2,
    "at most",
    "Relative difference of the standard deviation of users' means. The ensemble is within 6% on MovieLens 100K with "
    "40 past ratings. The less is known of users, the more alike simulated ones become.",
)
CONTAMINATION = Rule(
    "contamination",
    "Does the language model rate by taste, or recall the data set?",
    "The language model does not recite the data set",
    "The language model may recite the data set",
    0.1,
    "at most",
    "Share of exact hits with the real title minus that with an invented title and no text. Knowing a film makes a "
    "rating a little better; only recall makes it exact.",
)

RULES = (
    ACCURACY, INFORMATION, CALIBRATION, BIAS, COVERAGE, HISTOGRAM, SPREAD, USERS, SIGNAL, MEMBERS, PICKING, RANKING,
    GOOD_BAD, GROUPS, DRIFT, HETEROGENEITY, CONTAMINATION,
)  # fmt: skip


def judge(rule: Rule, measured: Interval, words: str) -> Verdict:
    """The verdict about a measured value; `words` say what was measured. A value that is undefined fails."""
    decisive = measured.estimate
    if rule.judged_by == "interval":
        worse = measured.high if rule.sense == "at most" else measured.low
        decisive = worse if np.isfinite(worse) else measured.estimate
    good = decisive <= rule.threshold if rule.sense == "at most" else decisive >= rule.threshold
    if rule.judged_by == "interval" and rule.threshold == 0.0:
        good = good and decisive != 0.0  # equal is not better
    good = good and bool(np.isfinite(decisive))
    bound = f"{rule.sense} {rule.threshold:g} is required"
    bound += " of its worse end" if rule.judged_by == "interval" else ""
    shown = describe(measured) if np.isfinite(measured.estimate) else "undefined"
    return Verdict(
        rule.name,
        rule.question,
        "pass" if good else "fail",
        f"{rule.passed if good else rule.failed}: {words} {shown}; {bound}.",
        *interval_cells(measured),
        rule.threshold,
        rule.sense,
        rule.reason,
    )


def undecided(rule: Rule, why: str) -> Verdict:
    """The verdict where the evidence cannot be had; `why` is a sentence."""
    return Verdict(rule.name, rule.question, "unknown", why, None, None, None, rule.threshold, rule.sense, rule.reason)


def describe(measured: Interval, decimals: int = 3) -> str:
    """An estimate with its interval in words."""
    if not np.isfinite(measured.estimate):
        return "an undefined amount"
    shown = f"{measured.estimate:.{decimals}f}"
    if not np.isfinite(measured.low):
        return shown
    return f"{shown} [{measured.low:.{decimals}f}, {measured.high:.{decimals}f}]"


def lower_bound_of_abs(measured: Interval) -> float:
    """Distance from zero of the interval's nearer end, 0 if it holds zero; the estimate's where there is no interval.

    >>> lower_bound_of_abs(Interval(-0.3, -0.4, -0.1, 0.95))
    0.1
    """
    if not np.isfinite(measured.low):
        return abs(measured.estimate)
    return max(0.0, measured.low, -measured.high)


def interval_cells(measured: Interval) -> tuple[float | None, float | None, float | None]:
    """Estimate and both ends of the interval for a table."""
    return finite_or_none(measured.estimate), finite_or_none(measured.low), finite_or_none(measured.high)


def finite_or_none(value: float) -> float | None:
    """A number for a table: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def without_interval(value: float) -> Interval:
    """A value that has no interval."""
    return Interval(float(value), float("nan"), float("nan"), 0.95)
