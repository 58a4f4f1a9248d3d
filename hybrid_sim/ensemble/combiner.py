"""The members' predictions become one calibrated distribution.

Pairs are divided into regimes by what had been rated before (`support.REGIMES`), because the members' accuracy depends
on it. In each regime a ridge regression on the members' means comes first, small trees correct its residuals (only
where user and item have been rated), and a conditional logit distributes the expected rating over the levels. All steps
are cross-fitted: each learns from predictions of the step before that had not seen the ratings in question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.seeding import derive_seed, stream
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution, RatingScale, dot_rows
from hybrid_sim.ensemble.contributions import Common, column_names, columns, spread_over_gaps
from hybrid_sim.ensemble.out_of_fold import MemberPredictions
from hybrid_sim.ensemble.stacking import LevelShape, LinearStack
from hybrid_sim.models.boosted import BoostedResidual
from hybrid_sim.models.support import REGIMES, Support

MIN_ROWS = 200
"""A regime with fewer held-out ratings gets no combiner of its own: the members that answer are averaged."""

BOOSTED = ("warm", "new user")
"""Regimes in which trees help; on cold items they make things worse."""

N_CROSS = 5
"""Folds of the cross-fitting."""

WARM, NEW = REGIMES.index("warm"), REGIMES.index("new user")

Step = TypeVar("Step")


def training_rows(regime: IntArray, of_new: NDArray[np.bool_], code: int) -> NDArray[np.bool_]:
    """Which held-out rows the combiner of the regime `code` learns from.

    That of warm pairs learns from all ratings of the warm folds, however few the user has left there, but not from
    those that were taken from users to make them new (`of_new`).
    """
    return np.isin(regime, (WARM, NEW)) & ~of_new if code == WARM else np.asarray(regime == code)


def regimes_of(support: Support, new_users: bool) -> IntArray:
    """The regime of each pair; without a combiner of their own `new_users` are answered like all others."""
    regime = support.regime
    return regime if new_users else np.where(regime == NEW, WARM, regime)


@dataclass
class Combiner:
    """One `RegimeCombiner` per regime that was seen often enough.

    Each step can be left out: the ridge regression (`weighted`; else the members' plain average), the trees
    (`boosted`), and the level shape (`shaped`; else the average of the distributions, tilted to the mean).
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
        self,
        predictions: MemberPredictions,
        ratings: FloatArray,
        scale: RatingScale,
        of_new: NDArray[np.bool_] | None = None,
    ) -> RatingDistribution:
        """Learn from out-of-fold predictions; returns cross-fitted distributions of the same pairs, for calibration.

        Pairs without a single distribution are not learned from and abstain. `of_new` marks ratings of users who were
        left a few, from which the combiner of new users learns (None: none).
        """
        self.scale_ = scale
        self.overall_ = np.bincount(scale.index(ratings), minlength=scale.n_levels) / len(ratings)
        self.regimes_ = []
        of_new = np.zeros(len(ratings), dtype=bool) if of_new is None else of_new
        probs, regime = average_shape(predictions.probs), predictions.support.regime
        answered = ~np.isnan(probs[:, 0])
        for code, name in enumerate(REGIMES):
            rows = np.flatnonzero(training_rows(regime, of_new, code) & answered)
            if len(rows) < MIN_ROWS:
                self.regimes_.append(None)
                continue
            part = RegimeCombiner(
                self.boosted and name in BOOSTED, derive_seed(self.seed, name) % 2**31, self.weighted, self.shaped
            )
            probs[rows] = part.fit(predictions.take(rows), ratings[rows], scale).probs
            self.regimes_.append(part)
        self.new_users_ = self.regimes_[NEW] is not None
        return RatingDistribution(scale, probs)

    def combine(self, predictions: MemberPredictions) -> RatingDistribution:
        """One distribution per pair; it abstains where all members do whose distributions are used."""
        probs = average_shape(predictions.probs)
        for part, rows in self._by_regime(predictions.support, ~np.isnan(probs[:, 0])):
            if part is not None:
                probs[rows] = part.combine(predictions.take(rows)).probs
        return RatingDistribution(self.scale_, probs)

    def contributions(self, predictions: MemberPredictions, shapes: IntArray) -> FloatArray:
        """Terms that sum to the means of `combine`, columns as in `contributions.column_names`; NaN where it abstains.

        `shapes` are the members whose distributions `predictions.probs` holds, as column numbers of the means.
        """
        mean = self.combine(predictions).mean()
        values = np.full((len(mean), len(column_names(())) + predictions.means.shape[1]), np.nan)
        for part, rows in self._by_regime(predictions.support, ~np.isnan(mean)):
            here, common = predictions.take(rows), self._common(predictions.support.take(rows))
            if part is None:
                members = self._averaged(here, common, shapes)
                values[rows] = columns(common, members, np.zeros(len(rows)), mean[rows])
            else:
                values[rows] = part.contributions(here, common, mean[rows])
        return values

    def _by_regime(
        self, support: Support, answered: NDArray[np.bool_]
    ) -> Iterator[tuple[RegimeCombiner | None, IntArray]]:
        """The combiner of each regime that occurs, and the answered rows in it."""
        regime = regimes_of(support, self.new_users_)
        for code, part in enumerate(self.regimes_):
            rows = np.flatnonzero((regime == code) & answered)
            if len(rows):
                yield part, rows

    def _common(self, support: Support) -> Common:
        levels = self.scale_.values
        base = float(self.overall_ @ levels)
        user = np.where(support.n_user > 0, dot_rows(support.user_shares, levels) - base, 0.0)
        item = np.where(support.n_item > 0, dot_rows(support.item_shares, levels) - base, 0.0)
        return Common(base, user, item)

    def _averaged(self, predictions: MemberPredictions, common: Common, shapes: IntArray) -> FloatArray:
        """Where the members' distributions were averaged, each adds its part of the average."""
        probs = np.nan_to_num(predictions.probs).astype(float)
        mass = probs.sum(axis=2)
        beyond = dot_rows(probs, self.scale_.values) - mass * common.level[:, None]
        members = np.zeros(predictions.means.shape)
        members[:, shapes] = beyond / mass.sum(axis=1, keepdims=True)
        return members


def average_shape(probs: NDArray[np.float32]) -> FloatArray:
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


@dataclass(frozen=True)
class Inputs:
    """What the steps of one regime read: expected ratings of its members without gaps, `(n_pairs, n_members)`, the
    distributions of its best member (`reference`), the average of all distributions, and support."""

    means: FloatArray
    reference: RatingDistribution
    average: RatingDistribution
    support: Support

    def take(self, rows: IntArray) -> Inputs:
        """The inputs of these rows."""
        return Inputs(self.means[rows], self.reference.take(rows), self.average.take(rows), self.support.take(rows))


@dataclass
class RegimeCombiner:
    """Ridge regression, trees and level shape for the pairs of one regime.

    `members_` are the column numbers of the members that answer at least half of the pairs (or most), `reference_` is
    that of the distribution with the least log loss.
    """

    boosted: bool
    seed: int
    weighted: bool = True
    shaped: bool = True
    scale_: RatingScale = field(init=False, repr=False)
    members_: IntArray = field(init=False, repr=False)
    reference_: int = field(init=False, repr=False)
    stack_: LinearStack = field(init=False, repr=False)
    trees_: BoostedResidual | None = field(init=False, repr=False)
    shape_: LevelShape | None = field(init=False, repr=False)

    def fit(self, predictions: MemberPredictions, ratings: FloatArray, scale: RatingScale) -> RatingDistribution:
        """Learn every step from all rows; returns the cross-fitted distributions of these rows."""
        inputs = self.select(predictions, ratings, scale)
        linear = self.cross_fitted_linear(inputs, ratings)
        mean = self.cross_fitted_mean(inputs, linear, ratings) if self.boosted else linear
        probs = self.cross_fitted(
            len(ratings),
            lambda rows: self.learn_shape(inputs.take(rows), mean[rows], ratings[rows]),
            lambda shape, rows: self.distribution(shape, inputs.take(rows), mean[rows]).probs,
        )
        self.stack_ = self.learn_stack(inputs, ratings)
        self.trees_ = self.learn_trees(inputs, linear, ratings, n_models=2)
        self.shape_ = self.learn_shape(inputs, mean, ratings)
        return RatingDistribution(scale, probs)

    def combine(self, predictions: MemberPredictions) -> RatingDistribution:
        """The distribution of each pair."""
        inputs = self.inputs(predictions)
        linear = self.stack_.predict(inputs.means, inputs.support)
        return self.distribution(self.shape_, inputs, self.mean(self.trees_, inputs, linear))

    def contributions(self, predictions: MemberPredictions, common: Common, mean: FloatArray) -> FloatArray:
        """What each member and what else adds to the expected ratings `mean`, see `contributions.columns`."""
        answered, support = ~np.isnan(predictions.means), predictions.support
        beyond = np.where(answered, predictions.means - common.level[:, None], 0.0)
        weights = self.stack_.weights(support)
        total = weights.sum(axis=1)
        user, item = total * common.user, total * common.item
        rest = self.stack_.offset(support) + total * (common.base - self.stack_.centre_) - common.base
        members = spread_over_gaps(weights, self.members_, answered) * beyond
        if self.trees_ is not None:
            inputs = self.inputs(predictions)
            linear = self.stack_.predict(inputs.means, support)
            credits = self.trees_.contributions(self._tree_features(inputs, linear))
            n = len(self.members_)
            members += spread_over_gaps(credits[:, 1 : n + 1], self.members_, answered)
            user, item = user + credits[:, -3], item + credits[:, -2]
            rest = rest + (credits[:, 0] + credits[:, n + 1 : -3].sum(axis=1) + credits[:, -1])
        return columns(Common(common.base, user, item), members, rest, mean)

    def select(self, predictions: MemberPredictions, ratings: FloatArray, scale: RatingScale) -> Inputs:
        """Choose the members and the reference that the steps read; returns the inputs of the steps."""
        self.scale_ = scale
        shares = (~np.isnan(predictions.means)).mean(axis=0)
        self.members_ = np.flatnonzero((shares > 0.5) | (shares == shares.max()))
        of_rating = np.nan_to_num(predictions.probs[np.arange(len(ratings)), :, scale.index(ratings)])
        self.reference_ = int(np.argmin(-np.log(np.maximum(of_rating, 1e-6)).mean(axis=0)))
        return self.inputs(predictions)

    def inputs(self, predictions: MemberPredictions) -> Inputs:
        """A gap among the means is filled with the mean of the others (of all others where none of `members_` answers),
        a gap in the reference with the average of the other distributions."""
        means = np.ascontiguousarray(predictions.means[:, self.members_])
        gaps = np.isnan(means)
        if gaps.any():
            others = _row_means(means)
            others = np.where(np.isnan(others), _row_means(predictions.means), others)
            means = np.where(gaps, others[:, None], means)
        average = RatingDistribution(self.scale_, average_shape(predictions.probs))
        probs = predictions.probs[:, self.reference_].astype(float)
        reference = RatingDistribution(self.scale_, np.where(np.isnan(probs[:, :1]), average.probs, probs))
        return Inputs(means, reference, average, predictions.support)

    def cross_fitted(
        self, n_rows: int, learn: Callable[[IntArray], Step], answer: Callable[[Step, IntArray], FloatArray]
    ) -> FloatArray:
        """The answer about each row of a step that learned from the other folds."""
        fold = stream(self.seed, "cross").permutation(n_rows) % N_CROSS
        answers = [answer(learn(np.flatnonzero(fold != k)), np.flatnonzero(fold == k)) for k in range(N_CROSS)]
        rows = np.argsort(fold, kind="stable")
        return np.concatenate(answers)[np.argsort(rows)]

    def cross_fitted_linear(self, inputs: Inputs, ratings: FloatArray) -> FloatArray:
        """Cross-fitted predictions of the linear step."""
        return self.cross_fitted(
            len(ratings),
            lambda rows: self.learn_stack(inputs.take(rows), ratings[rows]),
            lambda stack, rows: stack.predict(inputs.means[rows], inputs.support.take(rows)),
        )

    def cross_fitted_mean(self, inputs: Inputs, linear: FloatArray, ratings: FloatArray) -> FloatArray:
        """Cross-fitted expected ratings after the trees; one model a fold is enough."""
        return self.cross_fitted(
            len(ratings),
            lambda rows: self.learn_trees(inputs.take(rows), linear[rows], ratings[rows], n_models=1),
            lambda trees, rows: self.mean(trees, inputs.take(rows), linear[rows]),
        )

    def learn_stack(self, inputs: Inputs, ratings: FloatArray) -> LinearStack:
        """The linear step."""
        return LinearStack(weighted=self.weighted).fit(inputs.means, inputs.support, ratings)

    def learn_trees(
        self, inputs: Inputs, linear: FloatArray, ratings: FloatArray, n_models: int
    ) -> BoostedResidual | None:
        """Trees on the residuals of the linear step, if there are to be any."""
        if not self.boosted:
            return None
        features = self._tree_features(inputs, linear)
        return BoostedResidual(n_models=n_models, seed=self.seed).fit(features, ratings - linear)

    def learn_shape(self, inputs: Inputs, mean: FloatArray, ratings: FloatArray) -> LevelShape | None:
        """The level shape around the expected ratings `mean`, if there is to be one."""
        return LevelShape().fit(inputs.reference, mean, inputs.support, ratings) if self.shaped else None

    def mean(self, trees: BoostedResidual | None, inputs: Inputs, linear: FloatArray) -> FloatArray:
        """Expected ratings within the scale, shape `(n_pairs,)`."""
        residual = 0.0 if trees is None else trees.predict(self._tree_features(inputs, linear))
        return self.scale_.clip(linear + residual)

    def distribution(self, shape: LevelShape | None, inputs: Inputs, mean: FloatArray) -> RatingDistribution:
        """Distributions with the expected ratings `mean`."""
        if shape is None:
            return inputs.average.tilted_to(mean)
        return shape.predict(inputs.reference, mean, inputs.support)

    def _tree_features(self, inputs: Inputs, linear: FloatArray) -> FloatArray:
        support, levels = inputs.support, self.scale_.values
        return np.column_stack(
            [
                linear,
                inputs.means - linear[:, None],
                inputs.means.std(axis=1),
                inputs.reference.std(),
                support.n_user,
                support.n_item,
                support.user_spread,
                support.item_spread,
                dot_rows(support.user_shares, levels),
                dot_rows(support.item_shares, levels),
            ]
        )
