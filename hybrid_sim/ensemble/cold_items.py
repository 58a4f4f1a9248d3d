"""Items that were held out as new while an ensemble was fitted: forecasts of their mean ratings, and the means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.ensemble.combiner import N_CROSS, Combiner, average_shape
from hybrid_sim.ensemble.out_of_fold import FittedMembers, MemberPredictions
from hybrid_sim.models.hold_outs import HoldOut
from hybrid_sim.models.support import REGIMES, SupportTable

MIN_RATINGS = 10
"""Fewer ratings of an item say too little about their mean."""

N_PANEL = 100
"""Users over whom the forecast of an item is averaged: as good as all users, and quickly predicted."""

COLD_ITEM = REGIMES.index("cold item")


@dataclass(frozen=True)
class ColdItems:
    """Items that lost all ratings in an inner hold-out, at least `MIN_RATINGS` of them.

    `features` are those of `item_features`, made without the item's ratings, shape `(n_items, 2)`; `mean_ratings` are
    the means of all ratings of the items, shape `(n_items,)`.
    """

    features: FloatArray
    mean_ratings: FloatArray

    @classmethod
    def gather(cls, combiner: Combiner, fitted: FittedMembers, dataset: Dataset, panels: Sequence[Pairs]) -> Self:
        """From the members' out-of-fold predictions of ratings, and of the `panels` that `cold_panel` makes."""
        asked = np.concatenate([panel.item for panel in panels])
        items, place = np.unique(asked, return_inverse=True)
        means = _cross_fitted_means(combiner, fitted, dataset, asked)
        total = np.bincount(dataset.item, weights=dataset.rating, minlength=dataset.n_items)
        mean_ratings = total[items] / dataset.item_counts[items]
        return cls(item_features(means, fitted.panel, dataset.scale, place, len(items)), mean_ratings)


def panel_of(support: SupportTable, items: IntArray) -> Pairs:
    """Each of `items` with the same users: `N_PANEL`, or all with ratings, evenly spaced in order of mean rating."""
    users = np.flatnonzero(support.n_user_[:-1])
    users = users[np.argsort(support.user_shares_[users] @ support.levels_, kind="stable")]
    n = min(N_PANEL, len(users))
    users = users[((np.arange(n) + 0.5) * len(users) / max(n, 1)).astype(np.int64)]
    return Pairs(np.tile(users, len(items)), np.repeat(items, len(users)))


def cold_panel(dataset: Dataset, plan: HoldOut) -> Pairs:
    """The panel about the items of which a hold-out leaves no rating, of users that it leaves ratings."""
    part = dataset.take(plan.train_rows)
    items = np.flatnonzero((dataset.item_counts >= MIN_RATINGS) & (part.item_counts == 0))
    return panel_of(SupportTable().fit(part), items)


def item_features(
    means: FloatArray, panel: MemberPredictions, scale: RatingScale, place: IntArray, n_items: int
) -> FloatArray:
    """What tells how far a forecast may be off, averaged over the panel, shape `(n_items, 2)`, in rating units.

    The expected rating, and the standard deviation of the predicted distributions. (How much the members differ, the
    similarity to the nearest rated items, the length of the text and the number of genres add nothing to these.)
    `means` are the ensemble's expected ratings of the panel's pairs, `place` says of which item each pair is.
    """
    spread = RatingDistribution(scale, average_shape(panel.probs)).std()
    return np.column_stack([_means_by_item(values, place, n_items) for values in (means, spread)])


def _means_by_item(values: FloatArray, place: IntArray, n_items: int) -> FloatArray:
    """The mean of each item's values, those that are NaN left out; NaN where all are."""
    answered = ~np.isnan(values)
    count = np.bincount(place, answered, n_items)
    return np.asarray(np.bincount(place, np.where(answered, values, 0.0), n_items) / np.where(count > 0, count, np.nan))


def _cross_fitted_means(combiner: Combiner, fitted: FittedMembers, dataset: Dataset, items: IntArray) -> FloatArray:
    """The expected ratings of the panel about `items`, each by a linear step that has not learned from the item.

    Cross-fitting by rating would not do: a step that has learned from some ratings of an item knows the item's mean.
    """
    means, part = combiner.combine(fitted.panel).mean(), combiner.regimes_[COLD_ITEM]
    if part is None:
        return means
    answered = ~np.isnan(average_shape(fitted.predictions.probs)[:, 0])
    learned = np.flatnonzero(answered & (fitted.predictions.support.regime == COLD_ITEM))
    rows = fitted.rows[learned]
    inputs, panel = part.inputs(fitted.predictions.take(learned)), part.inputs(fitted.panel)
    fold = stream(part.seed, "items").permutation(dataset.n_items) % N_CROSS
    for k in range(N_CROSS):
        others, own = np.flatnonzero(fold[dataset.item[rows]] != k), np.flatnonzero(fold[items] == k)
        if len(others):
            stack = part.learn_stack(inputs.take(others), dataset.rating[rows[others]])
            asked = panel.take(own)
            means[own] = part.mean(None, asked, stack.predict(asked.means, asked.support))
    return means
