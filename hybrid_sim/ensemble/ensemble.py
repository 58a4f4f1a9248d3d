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
from hybrid_sim.ensemble.combiner import Combiner
from hybrid_sim.ensemble.conformal import Conformal, Interval
from hybrid_sim.ensemble.contributions import Contributions, column_names
from hybrid_sim.ensemble.out_of_fold import Opinions, ask, fit_members
from hybrid_sim.ensemble.out_of_fold_store import HeldOpinions
from hybrid_sim.models.hold_outs import hold_outs
from hybrid_sim.models.support import Support, SupportTable
from hybrid_sim.models.training import require_positive, require_ratings

BATCH = 25_000
"""Pairs that are rated at a time: enough to be quick, few enough for memory, and the same whatever the workers."""


@dataclass
class Ensemble:
    """Combines `members` (name to rater) by what they say about ratings that were kept from them.

    All give expected ratings; the members named in `shapes` (none: all) also say which levels share them.
    `n_warm` inner folds partition the ratings, in each of `n_cold` further hold-outs a share `cold_share` of the items
    and of the users loses all ratings, in each of `n_new` such a share of the users keeps a few. `n_jobs` fits run at
    a time (None: one per core); the result does not depend on it.
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
    held_: HeldOpinions = field(init=False, repr=False)

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
        """Gather out-of-fold opinions, learn how to combine them, refit the members on everything.

        Raises:
            DataError: there are no ratings, or too few to hold any out.
        """
        require_ratings(dataset)
        plans = hold_outs(dataset, self.n_warm, self.n_cold, self.cold_share, self.seed, self.n_new)
        fitted = fit_members(self.members, self._shapes, dataset, plans, self.n_jobs)
        ratings = dataset.rating[fitted.rows]
        self.members_ = dict(zip(self.members, fitted.members, strict=True))
        self.support_ = SupportTable().fit(dataset)
        self.combiner_ = Combiner(self.boosted, self.seed, self.weighted, self.shaped)
        held = self.combiner_.fit(fitted.opinions, ratings, dataset.scale, fitted.of_new)
        support, rest = fitted.opinions.support, ~fitted.of_new
        weights = _conformal_weights(dataset.item[fitted.rows[rest]], support.take(rest))
        self.conformal_ = Conformal().fit(held.take(rest), ratings[rest], support.take(rest), weights)
        pairs, regime = dataset.pairs.take(fitted.rows), support.regime
        self.held_ = HeldOpinions.gather(held, pairs, regime, dataset.n_items)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The combined opinion; abstains where every member named in `shapes` does."""
        return RatingDistribution(self.combiner_.scale_, self._in_batches(self._rate_batch, pairs))

    def contributions(self, pairs: Pairs) -> Contributions:
        """What each member adds to the mean of `rate`, and what else does; a row is NaN where the ensemble abstains."""
        return Contributions(column_names(tuple(self.members)), self._in_batches(self._account_batch, pairs))

    def held_opinion(self, pairs: Pairs, cold: bool = False) -> RatingDistribution:
        """What the ensemble said about training ratings while they were kept from it and from its combiner.

        It abstains about pairs that are no training ratings. With `cold` it is what it said while the item had no
        ratings at all and the user had, which was tried for a part of them (`n_cold` draws of `cold_share`).
        """
        return self.held_.of(pairs, cold)

    def _in_batches(self, work: Callable[[Opinions], FloatArray], pairs: Pairs) -> FloatArray:
        """The rows that `work` makes of the members' opinions, some pairs at a time."""

        def answer(part: Pairs) -> FloatArray:
            return work(ask(self.members_, self._shapes, part, self.support_.of(part)))

        parts = [(pairs.take(slice(first, first + BATCH)),) for first in range(0, max(len(pairs), 1), BATCH)]
        return np.concatenate(parallel_map(answer, parts, self.n_jobs, "rating"))

    def _rate_batch(self, opinions: Opinions) -> FloatArray:
        return self.combiner_.combine(opinions).probs

    def _account_batch(self, opinions: Opinions) -> FloatArray:
        shapes = np.array([row for row, name in enumerate(self.members) if name in self._shapes])
        return self.combiner_.contributions(opinions, shapes)

    @property
    def _shapes(self) -> Sequence[str]:
        return self.shapes or tuple(self.members)

    def interval(self, pairs: Pairs, distribution: RatingDistribution) -> Interval:
        """The calibrated interval of each pair around its distribution."""
        return self.conformal_.interval(distribution, self.support_.of(pairs))


def _conformal_weights(item: IntArray, support: Support) -> FloatArray:
    """Every cold item counts once, however many ratings it was robbed of: new items are rarely the popular ones."""
    cold = support.n_item == 0
    n_held = np.bincount(item[cold], minlength=int(item.max()) + 1)
    return np.where(cold, 1.0 / np.maximum(n_held[item], 1), 1.0)
