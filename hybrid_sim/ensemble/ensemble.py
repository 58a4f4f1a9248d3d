"""The ensemble: a rater of raters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.parallel import parallel_map
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.ensemble.cold_items import ColdItems, cold_panel, item_features, panel_of
from hybrid_sim.ensemble.combiner import Combiner
from hybrid_sim.ensemble.conformal import Conformal, Interval
from hybrid_sim.ensemble.contributions import Contributions, column_names
from hybrid_sim.ensemble.out_of_fold import MemberPredictions, OutOfFoldTable, fit_members, predict_members
from hybrid_sim.models.hold_outs import hold_outs
from hybrid_sim.models.support import Support, SupportTable
from hybrid_sim.models.training import require_positive, require_ratings

BATCH = 25_000
"""Pairs that are rated at a time: enough to be quick, few enough for memory, and the same for any number of jobs."""


@dataclass
class Ensemble:
    """Combines `members` (name to rater) by their out-of-fold predictions.

    All give expected ratings; those named in `shapes` (none: all) also give whole distributions. `n_warm` inner folds
    partition the ratings, in each of `n_cold` further hold-outs a share `cold_share` of the items and of the users
    loses all ratings, in each of `n_new` such a share of the users keeps a few. `n_jobs` fits run at a time (None: one
    per core); the result does not depend on it.
    """

    members: dict[str, Rater]
    shapes: Sequence[str] = ()
    n_warm: int = 5
    n_cold: int = 2
    n_new: int = 1
    cold_share: float = 0.15
    boosted: bool = True
    weighted: bool = True
    shaped: bool = True
    seed: int = 0
    n_jobs: int | None = None
    members_: dict[str, Rater] = field(init=False, repr=False)
    support_: SupportTable = field(init=False, repr=False)
    combiner_: Combiner = field(init=False, repr=False)
    conformal_: Conformal = field(init=False, repr=False)
    out_of_fold_: OutOfFoldTable = field(init=False, repr=False)
    cold_items_: ColdItems = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.members:
            raise SettingsError("an ensemble needs at least one member, got none")
        for name in self.shapes:
            if name not in self.members:
                raise SettingsError(f"shapes names {name!r}, which is no member; members are {', '.join(self.members)}")
        if min(self.n_warm, self.n_cold, self.n_new) < 0 or self.n_warm == 1 or self.n_warm + self.n_cold == 0:
            raise SettingsError(
                f"an ensemble learns from at least 2 warm folds or 1 cold hold-out, got n_warm={self.n_warm}, "
                f"n_cold={self.n_cold} and n_new={self.n_new}"
            )
        if not 0.0 < self.cold_share < 1.0:
            raise SettingsError(f"cold_share is a share between 0 and 1, got {self.cold_share}")
        if self.n_jobs is not None:
            require_positive(self, n_jobs=self.n_jobs)

    def fit(self, dataset: Dataset) -> Self:
        """Gather out-of-fold predictions, learn how to combine them, refit the members to everything.

        Raises:
            DataError: there are no ratings, or too few to hold any out.
        """
        require_ratings(dataset)
        plans = hold_outs(dataset, self.n_warm, self.n_cold, self.cold_share, self.seed, self.n_new)
        panels = [cold_panel(dataset, plan) for plan in plans]
        fitted = fit_members(self.members, self._shapes, dataset, plans, self.n_jobs, panels)
        ratings, support = dataset.rating[fitted.rows], fitted.predictions.support
        self.members_ = dict(zip(self.members, fitted.members, strict=True))
        self.support_ = SupportTable().fit(dataset)
        self.combiner_ = Combiner(self.boosted, self.seed, self.weighted, self.shaped)
        held = self.combiner_.fit(fitted.predictions, ratings, dataset.scale, fitted.of_new)
        rest = ~fitted.of_new
        weights = _conformal_weights(dataset.item[fitted.rows[rest]], support.take(rest))
        self.conformal_ = Conformal().fit(held.take(rest), ratings[rest], support.take(rest), weights)
        pairs = dataset.pairs.take(fitted.rows)
        self.out_of_fold_ = OutOfFoldTable.gather(held, pairs, support.regime, dataset.n_items)
        self.cold_items_ = ColdItems.gather(self.combiner_, fitted, dataset, panels)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The combined distribution; abstains where every member named in `shapes` does."""
        probs = self._in_batches(lambda predictions: self.combiner_.combine(predictions).probs, pairs)
        return RatingDistribution(self.combiner_.scale_, probs)

    def contributions(self, pairs: Pairs) -> Contributions:
        """What each member adds to the mean of `rate`, and what else does; a row is NaN where the ensemble abstains."""
        shapes = np.array([row for row, name in enumerate(self.members) if name in self._shapes])
        amounts = self._in_batches(lambda predictions: self.combiner_.contributions(predictions, shapes), pairs)
        return Contributions(column_names(tuple(self.members)), amounts)

    def out_of_fold(self, pairs: Pairs, cold: bool = False) -> RatingDistribution:
        """The ensemble's predictions of training ratings from members and a combiner that had not learned from them.

        It abstains from pairs that are no training ratings. With `cold` it is the prediction while the item had no
        ratings at all and the user had, which was made for a part of them (`n_cold` draws of `cold_share`).
        """
        return self.out_of_fold_.of(pairs, cold)

    def item_features(self, items: IntArray) -> FloatArray:
        """The features of `items`, row numbers, as `cold_items_` holds them of items that were held out."""
        panel = panel_of(self.support_, items)
        predictions = predict_members(self.members_, self._shapes, panel, self.support_.of(panel))
        means = self.combiner_.combine(predictions).mean()
        place = np.repeat(np.arange(len(items)), len(panel) // max(len(items), 1))
        return item_features(means, predictions, self.combiner_.scale_, place, len(items))

    def out_of_fold_accuracy(self, dataset: Dataset) -> dict[str, float]:
        """RMSE and number of the out-of-fold predictions of the dataset's ratings, also while the item had none."""
        accuracy: dict[str, float] = {}
        for prefix, cold in (("", False), ("cold item ", True)):
            squares, n = 0.0, 0
            for first in range(0, len(dataset), BATCH):
                rows = slice(first, first + BATCH)
                errors = self.out_of_fold(dataset.pairs.take(rows), cold).mean() - dataset.rating[rows]
                squares, n = squares + float(np.nansum(errors**2)), n + int(np.isfinite(errors).sum())
            if n:
                accuracy |= {f"{prefix}RMSE": float(np.sqrt(squares / n)), f"{prefix}ratings": n}
        return accuracy

    def interval(self, pairs: Pairs, distribution: RatingDistribution) -> Interval:
        """The calibrated interval of each pair around its distribution."""
        return self.conformal_.interval(distribution, self.support_.of(pairs))

    def _in_batches(self, work: Callable[[MemberPredictions], FloatArray], pairs: Pairs) -> FloatArray:
        """The rows that `work` makes of the members' predictions, some pairs at a time."""

        def answer(part: Pairs) -> FloatArray:
            return work(predict_members(self.members_, self._shapes, part, self.support_.of(part)))

        parts = [(pairs.take(slice(first, first + BATCH)),) for first in range(0, max(len(pairs), 1), BATCH)]
        return np.concatenate(parallel_map(answer, parts, self.n_jobs, "rating"))

    @property
    def _shapes(self) -> Sequence[str]:
        return self.shapes or tuple(self.members)


def _conformal_weights(item: IntArray, support: Support) -> FloatArray:
    """1, for a pair of a cold item 1 / the number of its held-out pairs: new items are rarely the popular ones."""
    cold = support.n_item == 0
    n_held = np.bincount(item[cold], minlength=int(item.max()) + 1)
    return np.where(cold, 1.0 / np.maximum(n_held[item], 1), 1.0)
