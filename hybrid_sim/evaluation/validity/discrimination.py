"""Evidence on personal taste: correlation beyond the means, and preferring items that the user liked to others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from hybrid_sim.core.document import Chart, Column, Section, Verdict, interval_columns
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs
from hybrid_sim.evaluation.bootstrap import Interval
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import RULES, judge, table, undecided
from hybrid_sim.models import make_rater
from hybrid_sim.models.biases import Biases

MOST_OTHERS = 9
"""A liked item is picked among one to this many others (1:1 to 1:9, as in Agent4Rec, Zhang et al. 2024)."""

POOL = 30
"""Items per user from which the others are taken, of those that the user has not rated."""

LIKED, DISLIKED = 0.6, 0.4
"""Parts of the scale's range at and above which an item is liked, and below which it is disliked: 4, 5 and 1, 2."""


@dataclass(frozen=True)
class Alternatives:
    """Items that a liked one is compared with: pairs with their scores by the simulator and by the items' means."""

    kind: str
    user: IntArray
    scores: FloatArray
    item_means: FloatArray


@dataclass(frozen=True)
class Picks:
    """How often the liked item has the highest score among it and `n_others` alternatives, in `n_cases` cases.

    `difference` is the share of right picks minus that by the items' means.
    """

    kind: str
    n_others: int
    n_cases: int
    share: Interval
    by_means: float
    difference: Interval


def discrimination(data: ValidationData) -> Section:
    """Share of right picks among 1 to 9 alternatives: disliked by the user, or not rated (any, or as popular)."""
    picks = list(_all_picks(data))
    rows = ((p.kind, f"1:{p.n_others}", p.n_cases, p.share, p.by_means, 1 / (p.n_others + 1)) for p in picks)
    columns = (
        Column("kind", "the others are"), Column("others", "liked : others"), Column("n", "cases"),
        Column("accuracy", "right picks", 4), *interval_columns(4), Column("item_means", "by items' means", 4),
        Column("chance", "by chance", 4),
    )  # fmt: skip
    right = table("picks", "Share of right picks of the liked item", columns, rows, _NOTE)
    chart = Chart("lines", "Picking the liked item among others", "picks", "others", ("accuracy",), "low", "high",
                  series="kind", x_label="liked : others", y_label="share of right picks")  # fmt: skip
    verdict, finding = _verdict(data, picks)
    notes = () if data.simulator.rater is not None else ("Items that were not rated cannot be asked about.",)
    return Section("discrimination", "Telling liked items from others", finding, (verdict, chart, right), notes)


def _verdict(data: ValidationData, picks: list[Picks]) -> tuple[Verdict, str]:
    """The verdict on one liked and one disliked item, and the finding."""
    decisive = next((p for p in picks if p.kind == "disliked" and p.n_others == 1), None)
    if decisive is None:
        why = "No user has both a liked and a disliked held-out item."
        return undecided("discrimination", why, data.scale), why
    share, by_means = decisive.share.estimate, decisive.by_means
    finding = f"Of one liked and one disliked item {share:.1%} of picks are right, {by_means:.1%} by the items' means."
    return judge("discrimination", decisive.difference, data.scale), finding


def _all_picks(data: ValidationData) -> Iterator[Picks]:
    scale = data.held_out.scale
    share = (data.truth - scale.low) / (scale.high - scale.low)
    liked, disliked = np.flatnonzero(share >= LIKED), np.flatnonzero(share < DISLIKED)
    own, means = data.simulator.expected(), data.baselines["item_mean"].mean()
    kinds = [Alternatives("disliked", data.held_out.user[disliked], own[disliked], means[disliked])]
    if data.simulator.rater is not None:
        kinds += [_not_rated(data, as_popular) for as_popular in (False, True)]
    for others in kinds:
        for n in range(1, MOST_OTHERS + 1):
            right = _right_picks(data, liked, others, n, own, others.scores)
            by_means = _right_picks(data, liked, others, n, means, others.item_means)
            cases = np.isfinite(right)
            if cases.any():
                group = data.group[liked[cases]]
                yield Picks(
                    others.kind,
                    n,
                    int(cases.sum()),
                    data.by_group.mean(right[cases], group),
                    float(by_means[cases].mean()),
                    data.by_group.mean((right - by_means)[cases], group),
                )


_NOTE = (
    "Liked and disliked by held-out ratings. Not rated: items that the user has rated nowhere, any of them or drawn by "
    "their number of training ratings. Users who have too few others are left out. Equal scores are settled at random. "
    "Intervals resample the users (of held-out items: the liked items)."
)


def _not_rated(data: ValidationData, as_popular: bool) -> Alternatives:
    """Up to `POOL` items per user that the user has rated neither in training nor in the held-out part."""
    kind = "not rated, as popular" if as_popular else "not rated"
    users = np.unique(data.held_out.user)
    rated = np.zeros((len(users), data.train.n_items), dtype=bool)
    for part in (data.train, data.held_out):
        place = np.searchsorted(users, part.user).clip(0, len(users) - 1)
        mine = users[place] == part.user
        rated[place[mine], part.item[mine]] = True
    known = (data.train.item_counts > 0) | (data.held_out.item_counts > 0)
    weight = np.log(np.maximum(data.train.item_counts + data.held_out.item_counts, 1.0)) if as_popular else 0.0
    key = stream(data.seed, "validity", kind).gumbel(size=rated.shape) + weight
    key[rated | ~known] = -np.inf
    size = min(POOL, key.shape[1])
    sample = np.argpartition(-key, size - 1, axis=1)[:, :size]  # the largest Gumbel keys: drawn without replacement
    allowed = np.isfinite(np.take_along_axis(key, sample, axis=1)).ravel()
    pairs = Pairs(np.repeat(users, size)[allowed], sample.ravel()[allowed].astype(np.int64))
    assert data.simulator.rater is not None, "only called where somebody can be asked"
    answers = data.simulator.rater.rate(pairs), make_rater("item_mean").fit(data.train).rate(pairs)
    scores, item_means = (np.where(one.answered, one.mean(), data.train.rating.mean()) for one in answers)
    if not data.simulator.has_distributions:
        scores = data.drawn_from(answers[0], pairs)
    return Alternatives(kind, pairs.user, scores, item_means)


def _right_picks(
    data: ValidationData, liked: IntArray, others: Alternatives, n: int, scores: FloatArray, of_others: FloatArray
) -> FloatArray:
    """Probability that a liked item's score is above those of `n` of its user's others, drawn without replacement.

    One number per liked row, NaN where the user has fewer others. With b others of which w are below it is
    C(w, n) / C(b, n): exact, where drawing would only be an estimate.
    """
    user, n_users = data.held_out.user[liked], data.held_out.n_users
    available = np.bincount(others.user, minlength=n_users)[user]
    below = _below(data, user, scores[liked], others.user, of_others)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_share = _log_choose(below, n) - _log_choose(available, n)
    return np.where(available < n, np.nan, np.where(below < n, 0.0, np.exp(log_share)))


def _below(
    data: ValidationData, user: IntArray, score: FloatArray, other_user: IntArray, other_score: FloatArray
) -> IntArray:
    """How many of the same user's others score lower; equal scores are settled at random."""
    n = len(user)
    everyone = np.append(user, other_user)
    value = np.round(np.append(score, other_score), 9)
    tie = stream(data.seed, "validity", "ties", n).random(len(everyone))
    is_other = np.append(np.zeros(n, dtype=np.int64), np.ones(len(other_user), dtype=np.int64))
    order = np.lexsort((tie, value, everyone))
    counted = np.cumsum(is_other[order])
    starts = np.searchsorted(everyone[order], everyone[order])
    before_user = np.append(0, counted)[starts]
    below = np.empty(len(everyone), dtype=np.int64)
    below[order] = counted - is_other[order] - before_user
    return below[:n]


def _log_choose(total: IntArray, n: int) -> FloatArray:
    total = np.maximum(total, n).astype(float)
    return np.asarray(gammaln(total + 1) - gammaln(n + 1) - gammaln(total - n + 1))


def signal(data: ValidationData) -> Section:
    """Partial correlations with the rating, given the training means of user and item, of the whole and its parts."""
    parts = {data.simulator.name: data.simulator.expected(), **data.simulator.members}
    sums = _moments(data, list(parts.values()))
    values = {name: _partial(sums, k) for k, name in enumerate(parts)}
    intervals = {name: data.by_group.interval(value) for name, value in values.items()}
    correlations = table(
        "signal",
        "Partial correlation of prediction and rating, given the means of user and item",
        (Column("model", "prediction"), Column("correlation", "partial correlation", 4), *interval_columns(4)),
        list(intervals.items()),
        "Means are those of training ratings, shrunk, users' and items' freed from each other (biases); both sides are "
        "residuals of a linear regression on them. A prediction that is nothing but these means has no correlation. "
        f"Intervals resample {data.groups}.",
    )
    chart = Chart("bars", "Personal signal", "signal", "model", ("correlation",), "low", "high",
                  reference=RULES["personal-signal"].threshold, y_label="partial correlation",
                  caption="The dashed line is what is required of the whole.",
                  highlight=data.simulator.name)  # fmt: skip
    whole = intervals[data.simulator.name]
    verdict = judge("personal-signal", whole, data.scale)
    above, finding = _above_members(data, values)
    blocks = (verdict, above, chart, correlations)
    return Section("signal", "Personal signal", finding, blocks)


def _above_members(data: ValidationData, values: dict[str, FloatArray]) -> tuple[Verdict, str]:
    """Whether the whole has more signal than its best member, and the finding."""
    whole, *members = values
    known = [name for name in members if np.isfinite(values[name][0])]
    if not known:
        why = "The members of the simulator are not known."
        return undecided("above-members", why, data.scale), why
    best = max(known, key=lambda name: float(values[name][0]))
    difference = data.by_group.interval(values[whole] - values[best])
    finding = f"Of the members {best} knows most: its partial correlation is {values[best][0]:.3f}."
    return judge("above-members", difference, data.scale, f"the best member is {best}"), finding


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
    """Partial correlation of the rating and prediction `k`, per resample; 0 for a prediction that is a function of the
    means, which explains nothing beyond them; NaN where that is so of the rating.
    """
    given, both = np.arange(3), np.array([3, 4 + k])
    explained = moments[:, given[:, None], both]
    inverse = np.linalg.pinv(moments[:, :3, :3], rcond=1e-10, hermitian=True)
    total = moments[:, both[:, None], both]
    left = total - np.swapaxes(explained, 1, 2) @ inverse @ explained
    variance = left[:, [0, 1], [0, 1]]
    nothing = variance <= 1e-8 * np.maximum(total[:, [0, 1], [0, 1]], 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = left[:, 0, 1] / np.sqrt(variance[:, 0] * variance[:, 1])
    return np.asarray(np.where(nothing[:, 0], np.nan, np.where(nothing[:, 1], 0.0, correlation)))
