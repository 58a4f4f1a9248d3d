"""The predictions of every member for a fold: all subsets of members are made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.fit_cache import fit_cache
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution
from hybrid_sim.ensemble.cold_items import cold_panel
from hybrid_sim.ensemble.components import default_members, shapes_among
from hybrid_sim.ensemble.ensemble import BATCH, Ensemble
from hybrid_sim.ensemble.out_of_fold import MemberAnswers, MemberPredictions, fit_out_of_fold, supports_of
from hybrid_sim.evaluation.protocols import Fold
from hybrid_sim.models.hold_outs import hold_outs
from hybrid_sim.models.means import GlobalMean
from hybrid_sim.models.support import Support
from hybrid_sim.retrieval.embedder import embedder_for


@dataclass(frozen=True)
class StackedAnswers:
    """All members' answers about some pairs: `means` `(n_pairs, n_members, 2)` as in `MemberAnswers`, and `probs`."""

    means: FloatArray
    probs: NDArray[np.float32]
    support: Support

    @classmethod
    def of(cls, answers: Sequence[MemberAnswers], support: Support) -> Self:
        """The answers of several members about the same pairs."""
        means, probs = [one.means for one in answers], [one.probs for one in answers]
        return cls(np.stack(means, axis=1), np.stack(probs, axis=1), support)

    def predictions(self, columns: Sequence[int], shapes: Sequence[int]) -> MemberPredictions:
        """The predictions of the members `columns`, as an ensemble gathers them that uses distributions of `shapes`."""
        means = np.stack([self.means[:, k, int(k in shapes)] for k in columns], axis=1)
        return MemberPredictions(means, self.probs[:, shapes], self.support)


@dataclass(frozen=True)
class FoldAnswers:
    """All members' answers about one fold: `out_of_fold` about the training `ratings`, `test` about held-out pairs.

    `of_new` marks ratings of users who were left a few, as in `hybrid_sim.ensemble.out_of_fold`.

    `fallback` answers the held-out pairs where the ensemble has nothing to say, or knows neither user nor item
    (`known`), as in `hybrid_sim.simulation.simulator`.
    """

    members: tuple[str, ...]
    out_of_fold: StackedAnswers
    ratings: FloatArray
    of_new: NDArray[np.bool_]
    test: StackedAnswers
    known: NDArray[np.bool_]
    fallback: RatingDistribution
    seconds: Mapping[str, FloatArray]
    embedder: str

    def of(self, members: Sequence[str]) -> tuple[MemberPredictions, MemberPredictions]:
        """Out-of-fold and test predictions of these members alone, as a simulator of just these would gather them.

        Where no member whose shape is used is left, the distributions of all are used.
        """
        columns = [self.members.index(name) for name in members]
        shapes = [self.members.index(name) for name in shapes_among(members)] or columns
        return self.out_of_fold.predictions(columns, shapes), self.test.predictions(columns, shapes)


def gather(
    fold: Fold,
    members: Sequence[str] | None,
    *,
    seed: int = 0,
    embedder: Embedder | None = None,
    n_jobs: int | None = None,
) -> FoldAnswers:
    """Fit and query the members (None: all of the ensemble) as fitting a simulator with this seed would.

    What the cache of fits holds is not fitted again (`hybrid_sim.core.fit_cache`).

    Raises:
        DataError: there are too few ratings to hold any out.
        SettingsError: a member's name is not known.
    """
    train, pairs, cache = fold.train, fold.held_out.pairs, fit_cache()
    embedder = embedder_for(train, embedder)
    raters = default_members(train.scale, embedder, seed, members or ())
    names = tuple(raters) if members is None else tuple(members)
    for name in names:
        if name not in raters:
            raise SettingsError(f"there is no member {name!r}; {nearest(name, raters)}")
    plans = hold_outs(train, Ensemble.n_warm, Ensemble.n_cold, Ensemble.cold_share, seed, Ensemble.n_new)

    def on_held_out(rater: Rater) -> MemberAnswers:
        def answers() -> dict[str, NDArray[Any]]:
            fit = cache.fit(rater, train)
            firsts = range(0, len(pairs), BATCH)
            return vars(
                _joined([MemberAnswers.of(fit, pairs.take(slice(at, at + BATCH))) for at in firsts], fit.seconds)
            )

        return MemberAnswers(**cache.arrays("held-out", rater, train, (pairs.user, pairs.item), answers))

    chosen = {name: raters[name] for name in names}
    panels = [cold_panel(train, plan) for plan in plans]  # asked for the ensemble's sake, with which fits are shared
    on_test, by_plan = fit_out_of_fold(chosen, train, plans, n_jobs, panels, on_held_out, whole=names)
    n_held = [len(plan.held_rows) for plan in plans]
    supports = [one.take(slice(n)) for one, n in zip(supports_of(train, plans, panels), n_held, strict=True)]
    out_of_fold = {
        name: _joined(
            [one.take(slice(n)) for one, n in zip(parts, n_held, strict=True)], sum(p.seconds[0] for p in parts)
        )
        for name, parts in by_plan.items()
    }
    return FoldAnswers(
        names,
        StackedAnswers.of(list(out_of_fold.values()), Support.concatenate(supports)),
        train.rating[np.concatenate([plan.held_rows for plan in plans])],
        np.concatenate([np.full(len(plan.held_rows), plan.of_new) for plan in plans]),
        StackedAnswers.of(list(on_test.values()), Support.of(train, pairs)),
        _known(train, pairs),
        GlobalMean().fit(train).rate(pairs),
        {name: _seconds(out_of_fold[name], on_test[name]) for name in names},
        embedder.name,
    )


def _joined(parts: Sequence[MemberAnswers], fit_seconds: float) -> MemberAnswers:
    """One member's predictions of several groups of pairs, one after the other."""
    means, probs = np.concatenate([part.means for part in parts]), np.concatenate([part.probs for part in parts])
    return MemberAnswers(means, probs, np.array([fit_seconds, sum(part.seconds[1] for part in parts)]))


def _seconds(out_of_fold: MemberAnswers, test: MemberAnswers) -> FloatArray:
    """CPU seconds of all fits, of rating the out-of-fold pairs and of rating the held-out ones."""
    return np.array([out_of_fold.seconds[0] + test.seconds[0], out_of_fold.seconds[1], test.seconds[1]])


def _known(train: Dataset, pairs: Pairs) -> NDArray[np.bool_]:
    """Whether user or item of each pair is known from ratings, or the item from its text."""
    item_known = (train.item_counts > 0) | (np.array(item_texts(train), dtype=object) != "")
    return np.asarray(item_known[pairs.item] | (train.user_counts > 0)[pairs.user])
