"""Many opinions become one calibrated distribution.

Pairs are told apart by what had been rated before (`support.REGIMES`), because the members' worth depends on it. In
each regime a ridge regression on the members' means comes first, small trees correct what it leaves over (only where
user and item have been rated: on cold items they make things worse), and a conditional logit shares the expected rating
among the levels. Everything is cross-fitted, so that each step learns on numbers that the step before had not seen the
answers to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.seeding import derive_seed, stream
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution, RatingScale
from hybrid_sim.ensemble.contributions import Common, Parts, column_names, spread_over_gaps
from hybrid_sim.ensemble.level_shape import LevelShape
from hybrid_sim.ensemble.out_of_fold import Opinions
from hybrid_sim.ensemble.stacking import LinearStack, PlainAverage
from hybrid_sim.models.boosted_residuals import BoostedResidual
from hybrid_sim.models.support import REGIMES, Support

MIN_ROWS = 200
"""A regime with fewer held-out ratings gets no combiner of its own: the members that answer are averaged."""

BOOSTED = ("warm", "new user")
"""Regimes in which trees help; on cold items they make things worse."""

N_CROSS = 5


WARM, NEW = REGIMES.index("warm"), REGIMES.index("new user")


def learners(regime: IntArray, of_new: NDArray[np.bool_], code: int) -> NDArray[np.bool_]:
    """Which held-out rows the combiner of a regime learns from.

    That of warm pairs learns from all ratings of the warm folds, however few the user has left there, but not from
    those that were taken from users to make them new (`of_new`).
    """
    return np.isin(regime, (WARM, NEW)) & ~of_new if code == WARM else np.asarray(regime == code)


def told_apart(support: Support, new_users: bool) -> IntArray:
    """The regime of each pair; without a combiner of their own `new_users` are answered like all others."""
    regime = support.regime
    return regime if new_users else np.where(regime == NEW, WARM, regime)


@dataclass
class Combiner:
    """One `RegimeCombiner` per regime that was seen often enough.

    Each step can be left out: the ridge regression (`weighted`; else the members' plain average), the trees
    (`boosted`), and the shares of the levels (`shaped`; else the average of the distributions, moved to the mean).
    """

    boosted: bool = True
    seed: int = 0
    weighted: bool = True
    shaped: bool = True
    scale_: RatingScale = field(init=False, repr=False)
    overall_: FloatArray = field(init=False, repr=False)
    regimes_: list[RegimeCombiner | None] = field(init=False, repr=False)
    new_users_: bool = field(init=False, repr=False)

    def fit(
        self, opinions: Opinions, ratings: FloatArray, scale: RatingScale, of_new: NDArray[np.bool_] | None = None
    ) -> RatingDistribution:
        """Learn from out-of-fold opinions; returns cross-fitted distributions of the same pairs, for calibration.

        Pairs without a single distribution teach nothing and stay without one. `of_new` marks ratings of users who were
        left a few, to teach what new users need (None: none).
        """
        self.scale_ = scale
        self.overall_ = np.bincount(scale.index(ratings), minlength=scale.n_levels) / len(ratings)
        self.regimes_ = []
        of_new = np.zeros(len(ratings), dtype=bool) if of_new is None else of_new
        probs, regime = _average_shape(opinions.probs), opinions.support.regime
        answered = ~np.isnan(probs[:, 0])
        for code, name in enumerate(REGIMES):
            rows = np.flatnonzero(learners(regime, of_new, code) & answered)
            if len(rows) < MIN_ROWS:
                self.regimes_.append(None)
                continue
            part = RegimeCombiner(
                self.boosted and name in BOOSTED, derive_seed(self.seed, name) % 2**31, self.weighted, self.shaped
            )
            probs[rows] = part.fit(opinions.take(rows), ratings[rows], scale).probs
            self.regimes_.append(part)
        self.new_users_ = self.regimes_[NEW] is not None
        return RatingDistribution(scale, probs)

    def combine(self, opinions: Opinions) -> RatingDistribution:
        """One distribution per pair; it abstains where all members do that are asked for distributions."""
        regime = told_apart(opinions.support, self.new_users_)
        probs = _average_shape(opinions.probs)
        for code, part in enumerate(self.regimes_):
            rows = np.flatnonzero((regime == code) & ~np.isnan(probs[:, 0]))
            if part is not None and len(rows):
                probs[rows] = part.combine(opinions.take(rows)).probs
        return RatingDistribution(self.scale_, probs)

    def contributions(self, opinions: Opinions, shapes: IntArray) -> FloatArray:
        """What sums to the means of `combine`, columns as `contributions.column_names` has them; NaN where it abstains.

        `shapes` says which members the columns of `opinions.probs` are of.
        """
        mean, regime = self.combine(opinions).mean(), told_apart(opinions.support, self.new_users_)
        n_columns = len(column_names(())) + opinions.means.shape[1]
        values = np.full((len(mean), n_columns), np.nan)
        for code, part in enumerate(self.regimes_):
            rows = np.flatnonzero((regime == code) & ~np.isnan(mean))
            if not len(rows):
                continue
            told, common = opinions.take(rows), self._common(opinions.support.take(rows))
            parts = self._averaged(told, common, shapes) if part is None else part.parts(told, common)
            values[rows] = parts.settled(mean[rows])
        return values

    def _common(self, support: Support) -> Common:
        levels = self.scale_.values
        base = float(self.overall_ @ levels)
        user = np.where(support.n_user > 0, support.user_shares @ levels - base, 0.0)
        item = np.where(support.n_item > 0, support.item_shares @ levels - base, 0.0)
        return Common(base, user, item)

    def _averaged(self, opinions: Opinions, common: Common, shapes: IntArray) -> Parts:
        """Where the members' distributions were averaged, each adds its part of the average."""
        probs = np.nan_to_num(opinions.probs).astype(float)
        mass = probs.sum(axis=2)
        beyond = probs @ self.scale_.values - mass * common.level[:, None]
        members = np.zeros(opinions.means.shape)
        members[:, shapes] = beyond / mass.sum(axis=1, keepdims=True)
        return Parts(common.base, common.user, common.item, members, np.zeros(len(members)))


def _average_shape(probs: NDArray[np.float32]) -> FloatArray:
    """The average of the distributions given, shape `(n_pairs, n_levels)`; NaN where there are none."""
    answered = ~np.isnan(probs[:, :, 0])
    total = np.where(answered[:, :, None], probs, 0.0).sum(axis=1, dtype=float)
    mass = np.where(answered.any(axis=1), total.sum(axis=1), np.nan)
    return np.asarray(total / mass[:, None])


def _row_means(means: FloatArray) -> FloatArray:
    """The mean of each row's numbers; NaN where there are none."""
    answered = ~np.isnan(means)
    counts = np.where(answered.any(axis=1), answered.sum(axis=1), np.nan)
    return np.asarray(np.where(answered, means, 0.0).sum(axis=1) / counts)


@dataclass
class RegimeCombiner:
    """Ridge, trees and level shape for the pairs of one regime."""

    boosted: bool
    seed: int
    weighted: bool = True
    shaped: bool = True
    scale_: RatingScale = field(init=False, repr=False)
    members_: IntArray = field(init=False, repr=False)
    reference_: int = field(init=False, repr=False)
    stack_: LinearStack | PlainAverage = field(init=False, repr=False)
    trees_: BoostedResidual | None = field(init=False, repr=False)
    shape_: LevelShape | None = field(init=False, repr=False)

    def fit(self, opinions: Opinions, ratings: FloatArray, scale: RatingScale) -> RatingDistribution:
        """Learn every step on all rows; returns what the steps say when each row's answer was kept from them."""
        self.scale_ = scale
        shares = (~np.isnan(opinions.means)).mean(axis=0)
        self.members_ = np.flatnonzero((shares > 0.5) | (shares == shares.max()))
        self.reference_ = self._best_distribution(opinions, ratings)
        fold = stream(self.seed, "cross").permutation(len(ratings)) % N_CROSS
        linear, mean = np.empty(len(ratings)), np.empty(len(ratings))
        probs = np.empty((len(ratings), scale.n_levels))
        splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(N_CROSS)]
        for learn, held in splits:
            self._fit_stack(opinions.take(learn), ratings[learn])
            linear[held] = self._linear(opinions.take(held))
        mean[:] = linear
        if self.boosted:
            for learn, held in splits:
                self._fit_trees(opinions.take(learn), linear[learn], ratings[learn], n_models=1)
                mean[held] = self._mean(opinions.take(held), linear[held])
        for learn, held in splits:
            self._fit_shape(opinions.take(learn), mean[learn], ratings[learn])
            probs[held] = self._shaped(opinions.take(held), mean[held]).probs
        self._fit_stack(opinions, ratings)
        self._fit_trees(opinions, linear, ratings, n_models=2)
        self._fit_shape(opinions, mean, ratings)
        return RatingDistribution(scale, probs)

    def combine(self, opinions: Opinions) -> RatingDistribution:
        """The distribution of each pair."""
        return self._shaped(opinions, self._mean(opinions, self._linear(opinions)))

    def parts(self, opinions: Opinions, common: Common) -> Parts:
        """What each member and what else adds to the expected rating, before it is moved into the scale."""
        answered, support = ~np.isnan(opinions.means), opinions.support
        beyond = np.where(answered, opinions.means - common.level[:, None], 0.0)
        weights = self.stack_.weights(support)
        total = weights.sum(axis=1)
        offset = self.stack_.offset(support) + total * (common.base - self.stack_.centre_) - common.base
        members = spread_over_gaps(weights, self.members_, answered) * beyond
        parts = Parts(common.base, total * common.user, total * common.item, members, offset)
        if self.trees_ is not None:
            credits = self.trees_.contributions(self._tree_features(opinions, self._linear(opinions)))
            n = len(self.members_)
            parts.members += spread_over_gaps(credits[:, 1 : n + 1], self.members_, answered)
            parts.user += credits[:, -3]
            parts.item += credits[:, -2]
            parts.support += credits[:, 0] + credits[:, n + 1 : -3].sum(axis=1) + credits[:, -1]
        return parts

    def _best_distribution(self, opinions: Opinions, ratings: FloatArray) -> int:
        """Which of the whole distributions has the least log loss in this regime."""
        level = self.scale_.index(ratings)
        given = np.nan_to_num(opinions.probs[np.arange(len(ratings)), :, level])
        return int(np.argmin(-np.log(np.maximum(given, 1e-6)).mean(axis=0)))

    def _means(self, opinions: Opinions) -> FloatArray:
        """Members' expected ratings; a gap is filled with the mean of the others, of all others where none is in."""
        means = opinions.means[:, self.members_]
        others = _row_means(means)
        if np.isnan(others).any():
            others = np.where(np.isnan(others), _row_means(opinions.means), others)
        return np.where(np.isnan(means), others[:, None], means)

    def _fit_stack(self, opinions: Opinions, ratings: FloatArray) -> None:
        stack = LinearStack() if self.weighted else PlainAverage()
        self.stack_ = stack.fit(self._means(opinions), opinions.support, ratings)

    def _linear(self, opinions: Opinions) -> FloatArray:
        return self.stack_.predict(self._means(opinions), opinions.support)

    def _fit_trees(self, opinions: Opinions, linear: FloatArray, ratings: FloatArray, n_models: int) -> None:
        self.trees_ = None
        if self.boosted:
            features = self._tree_features(opinions, linear)
            self.trees_ = BoostedResidual(n_models=n_models, seed=self.seed).fit(features, ratings - linear)

    def _mean(self, opinions: Opinions, linear: FloatArray) -> FloatArray:
        residual = 0.0 if self.trees_ is None else self.trees_.predict(self._tree_features(opinions, linear))
        return self.scale_.clip(linear + residual)

    def _tree_features(self, opinions: Opinions, linear: FloatArray) -> FloatArray:
        means, support, levels = self._means(opinions), opinions.support, self.scale_.values
        return np.column_stack(
            [
                linear,
                means - linear[:, None],
                means.std(axis=1),
                self._reference(opinions).std(),
                support.n_user,
                support.n_item,
                support.user_spread,
                support.item_spread,
                support.user_shares @ levels,
                support.item_shares @ levels,
            ]
        )

    def _fit_shape(self, opinions: Opinions, mean: FloatArray, ratings: FloatArray) -> None:
        self.shape_ = None
        if self.shaped:
            self.shape_ = LevelShape().fit(self._reference(opinions), mean, opinions.support, ratings)

    def _shaped(self, opinions: Opinions, mean: FloatArray) -> RatingDistribution:
        if self.shape_ is None:
            return RatingDistribution(self.scale_, _average_shape(opinions.probs)).tilted_to(mean)
        return self.shape_.predict(self._reference(opinions), mean, opinions.support)

    def _reference(self, opinions: Opinions) -> RatingDistribution:
        """The best member's distributions; where it abstains, the average of the others."""
        probs = opinions.probs[:, self.reference_].astype(float)
        gaps = np.isnan(probs[:, 0])
        if gaps.any():
            probs[gaps] = _average_shape(opinions.probs[gaps])
        return RatingDistribution(self.scale_, probs)
