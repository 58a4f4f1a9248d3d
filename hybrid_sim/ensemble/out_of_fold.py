"""Predictions of ratings that the members were not trained on: a combiner learns from those of the members, a
correction from those of the ensemble."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.fit_cache import Fit, fit_cache
from hybrid_sim.core.parallel import parallel_map
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.hold_outs import HoldOut
from hybrid_sim.models.recorded import PairTable
from hybrid_sim.models.support import REGIMES, Support

WARM = (REGIMES.index("warm"), REGIMES.index("new user"))
COLD_ITEM = (REGIMES.index("cold item"),)

R = TypeVar("R")


@dataclass(frozen=True)
class MemberPredictions:
    """The members' predictions of some pairs, and the support of the pairs in the ratings that they were fitted to.

    `means` has shape `(n_pairs, n_members)`, NaN where a member abstained. `probs` holds the whole distributions of
    those members whose distributions are used, shape `(n_pairs, n_shapes, n_levels)`.
    """

    means: FloatArray
    probs: NDArray[np.float32]
    support: Support

    @classmethod
    def concatenate(cls, parts: Sequence[MemberPredictions]) -> MemberPredictions:
        """The rows of several, one after the other."""
        means, probs = (np.concatenate([getattr(part, name) for part in parts]) for name in ("means", "probs"))
        return cls(means, probs, Support.concatenate([part.support for part in parts]))

    def take(self, rows: NDArray[np.bool_] | IntArray | slice) -> MemberPredictions:
        """The predictions of these rows."""
        return MemberPredictions(self.means[rows], self.probs[rows], self.support.take(rows))


@dataclass(frozen=True)
class MemberAnswers:
    """One member's predictions of some pairs.

    `means`, shape `(n_pairs, 2)`: the expectation as the member computes it, which may lie beyond the scale, and the
    mean of its distribution; NaN where it abstains. `probs`, shape `(n_pairs, n_levels)`: its distributions. `seconds`:
    CPU seconds of fitting and of rating.
    """

    means: FloatArray
    probs: NDArray[np.float32]
    seconds: FloatArray

    @classmethod
    def of(cls, fit: Fit, pairs: Pairs) -> Self:
        """The predictions of a fitted member."""
        started = time.thread_time()
        distribution = fit.rater.rate(pairs)
        mean = distribution.mean()
        expect = getattr(fit.rater, "expect", None)
        means = np.column_stack([mean if expect is None else np.asarray(expect(pairs), dtype=float), mean])
        seconds = np.array([fit.seconds, time.thread_time() - started])
        return cls(means, distribution.probs.astype(np.float32), seconds)

    def take(self, rows: slice) -> MemberAnswers:
        """The predictions of these rows; the seconds stay."""
        return MemberAnswers(self.means[rows], self.probs[rows], self.seconds)

    def used(self, whole: bool) -> tuple[FloatArray, NDArray[np.float32] | None]:
        """What the combiner is given: the expected ratings, and the distributions if they are used (`whole`)."""
        return self.means[:, int(whole)], self.probs if whole else None


@dataclass(frozen=True)
class FittedMembers:
    """Members fitted to everything, and their out-of-fold predictions of `rows` of the same ratings.

    `of_new` marks the rows that were held out of users who were left a few ratings. `panel` are predictions of further
    pairs by the members of each hold-out, one hold-out after the other.
    """

    members: list[Rater]
    rows: IntArray
    predictions: MemberPredictions
    panel: MemberPredictions
    of_new: NDArray[np.bool_]


def fit_members(
    members: Mapping[str, Rater],
    shapes: Sequence[str],
    dataset: Dataset,
    plans: Sequence[HoldOut],
    n_jobs: int | None,
    panels: Sequence[Pairs],
) -> FittedMembers:
    """Fit every member to every plan's training rows and to all ratings; `n_jobs` at a time.

    Beside the rows that a plan holds out it is asked about the pairs of its panel. Members are copied before they are
    fitted. The result does not depend on `n_jobs`. What the cache of fits holds is read from it
    (`hybrid_sim.core.fit_cache`).
    """
    cache = fit_cache()
    fitted, held = fit_out_of_fold(
        members, dataset, plans, n_jobs, panels, lambda one: cache.fit(one, dataset).rater, whole=shapes
    )
    by_plan = [
        _stacked([held[name][k].used(name in shapes) for name in members], support)
        for k, support in enumerate(supports_of(dataset, plans, panels))
    ]
    n_held = [len(plan.held_rows) for plan in plans]
    return FittedMembers(
        list(fitted.values()),
        np.concatenate([plan.held_rows for plan in plans]),
        MemberPredictions.concatenate([part.take(slice(n)) for part, n in zip(by_plan, n_held, strict=True)]),
        MemberPredictions.concatenate([part.take(slice(n, None)) for part, n in zip(by_plan, n_held, strict=True)]),
        np.concatenate([np.full(len(plan.held_rows), plan.of_new) for plan in plans]),
    )


def fit_out_of_fold(
    members: Mapping[str, Rater],
    dataset: Dataset,
    plans: Sequence[HoldOut],
    n_jobs: int | None,
    panels: Sequence[Pairs],
    on_all: Callable[[Rater], R],
    whole: Collection[str],
) -> tuple[dict[str, R], dict[str, list[MemberAnswers]]]:
    """By member: what `on_all` returns for an unfitted copy, and the predictions of each plan's held-out rows, and of
    the pairs of its panel, by a copy fitted to its training rows. Distributions are left out (no rows) but of members
    named in `whole`.
    """
    cache = fit_cache()
    parts = [dataset.take(plan.train_rows) for plan in plans]
    pairs = [dataset.pairs.take(plan.held_rows).followed_by(panel) for plan, panel in zip(plans, panels, strict=True)]

    def work(name: str, plan: int) -> Any:
        member = copy.deepcopy(members[name])
        if plan < 0:
            return on_all(member)

        def answers() -> dict[str, NDArray[Any]]:
            started = time.thread_time()
            fitted = member.fit(parts[plan])
            return vars(MemberAnswers.of(Fit(fitted, time.thread_time() - started), pairs[plan]))

        rows = plans[plan].train_rows, plans[plan].held_rows, panels[plan].user, panels[plan].item
        found = MemberAnswers(**cache.arrays("out-of-fold", member, dataset, rows, answers))
        return found if name in whole else replace(found, probs=found.probs[:0])

    # Plan by plan, so that the time left is known after the first; in each the slowest first, which keeps workers busy.
    slowest_first = [(name, plan) for plan in range(-1, len(plans)) for name in reversed(list(members))]
    results = parallel_map(work, slowest_first, n_jobs, "fitting members", [name for name, _ in slowest_first])
    done = dict(zip(slowest_first, results, strict=True))
    return (
        {name: done[name, -1] for name in members},
        {name: [done[name, plan] for plan in range(len(plans))] for name in members},
    )


def supports_of(dataset: Dataset, plans: Sequence[HoldOut], panels: Sequence[Pairs]) -> list[Support]:
    """The support of each plan's held-out pairs, and those of its panel, in its training ratings."""
    held = [dataset.pairs.take(plan.held_rows).followed_by(panel) for plan, panel in zip(plans, panels, strict=True)]
    return [Support.of(dataset.take(plan.train_rows), pairs) for plan, pairs in zip(plans, held, strict=True)]


def predict_members(
    members: Mapping[str, Rater], shapes: Sequence[str], pairs: Pairs, support: Support
) -> MemberPredictions:
    """The predictions of fitted members; those named in `shapes` give whole distributions."""
    return _stacked([_predicted(member, pairs, name in shapes) for name, member in members.items()], support)


def _predicted(member: Rater, pairs: Pairs, whole: bool) -> tuple[FloatArray, NDArray[np.float32] | None]:
    """One member's expected ratings, and its distributions if they are used."""
    if not whole:
        return expected(member, pairs), None
    distribution = member.rate(pairs)
    return distribution.mean(), distribution.probs.astype(np.float32)


def _stacked(predicted: Sequence[tuple[FloatArray, NDArray[np.float32] | None]], support: Support) -> MemberPredictions:
    means = np.stack([means for means, _ in predicted], axis=1)
    return MemberPredictions(means, np.stack([probs for _, probs in predicted if probs is not None], axis=1), support)


@dataclass(frozen=True)
class OutOfFoldTable:
    """The ensemble's out-of-fold distributions of training ratings, as float32: 4 bytes per level and 8 per pair.

    `warm` holds pairs whose user and item had other ratings left, `cold` pairs whose item had no ratings at all while
    the user had. Where a pair was held out several times in one way, the first counts.
    """

    scale: RatingScale
    warm: PairTable
    cold: PairTable

    @classmethod
    def gather(cls, held: RatingDistribution, pairs: Pairs, regime: IntArray, n_items: int) -> Self:
        """Keep `held` distributions of `pairs`; `regime` is an index into `hybrid_sim.models.support.REGIMES`."""
        keys = pairs.keys(n_items)
        tables = []
        for kinds in (WARM, COLD_ITEM):
            rows = np.flatnonzero(held.answered & np.isin(regime, kinds))
            unique, first = np.unique(keys[rows], return_index=True)
            tables.append(PairTable(n_items, unique, held.probs[rows[first]].astype(np.float32)))
        return cls(held.scale, *tables)

    def of(self, pairs: Pairs, cold: bool = False) -> RatingDistribution:
        """The distribution of each pair; it abstains from pairs that were not rated, or not held out in this way."""
        probs = (self.cold if cold else self.warm).of(pairs)
        return RatingDistribution(self.scale, probs / probs.sum(axis=1, keepdims=True))

    def moved(self, users: IntArray, items: IntArray, n_items: int) -> OutOfFoldTable:
        """The same by new row numbers of users and items, see `PairTable.moved`."""
        return OutOfFoldTable(self.scale, *(table.moved(users, items, n_items) for table in (self.warm, self.cold)))
