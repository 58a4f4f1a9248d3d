"""The combiner of one regime with its steps switched on and off: what they share is learned once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution, RatingScale
from hybrid_sim.ensemble.combiner import N_CROSS, RegimeCombiner
from hybrid_sim.ensemble.out_of_fold import Opinions

LEARN, ANSWER = 0, 1
WEIGHTS, TREES, SHAPE = "weights", "trees", "level shape"
"""Names of the steps, as costs are told by them."""


@dataclass
class Clock:
    """CPU seconds of every step, of learning and of answering."""

    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def running(self, step: str, part: int) -> Iterator[None]:
        """Add what the body of the `with` takes on this thread."""
        started = time.thread_time()
        yield
        spent = list(self.seconds.get(step, (0.0, 0.0)))
        spent[part] += time.thread_time() - started
        self.seconds[step] = (spent[LEARN], spent[ANSWER])


@dataclass
class SwitchableCombiner(RegimeCombiner):
    """Learned weights (if `weighted`, else the members' plain average), trees and level shape of one regime.

    With all steps on it answers as a `RegimeCombiner` does, to the last bit.
    """

    weighted: bool = True
    clock: Clock = field(default_factory=Clock, repr=False)

    def answer(
        self,
        held: Opinions,
        ratings: FloatArray,
        asked: Opinions,
        scale: RatingScale,
        switches: Sequence[tuple[bool, bool]],
    ) -> dict[tuple[bool, bool], FloatArray]:
        """Probabilities about `asked` for each (trees, level shape) in `switches`, learned on `held` opinions."""
        self.scale_ = scale
        shares = (~np.isnan(held.means)).mean(axis=0)
        self.members_ = np.flatnonzero((shares > 0.5) | (shares == shares.max()))
        self.reference_ = self._best_distribution(held, ratings)
        fold = stream(self.seed, "cross").permutation(len(ratings)) % N_CROSS
        splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(N_CROSS)]
        linear = self._learn_weights(held, ratings, splits)
        with self.clock.running(WEIGHTS, ANSWER):
            asked_linear = self._linear(asked)
        found: dict[tuple[bool, bool], FloatArray] = {}
        with_trees = sorted({trees and self.boosted for trees, _ in switches})
        for trees in with_trees:
            mean = self._learn_trees(held, linear, ratings, splits) if trees else linear
            self.trees_ = self.trees_ if trees else None
            with self.clock.running(TREES, ANSWER):
                asked_mean = self._mean(asked, asked_linear)
            for shape in sorted({shape for _, shape in switches}):
                if shape:
                    step = SHAPE if trees == with_trees[-1] else f"{SHAPE} without trees"
                    probs = self._shaped_anew(held, mean, ratings, asked, asked_mean, step)
                else:
                    probs = RatingDistribution(scale, pooled(asked)).tilted_to(asked_mean).probs
                found |= {one: probs for one in switches if (one[0] and self.boosted, one[1]) == (trees, shape)}
        return found

    def _learn_weights(
        self, held: Opinions, ratings: FloatArray, splits: Sequence[tuple[IntArray, IntArray]]
    ) -> FloatArray:
        """What the weights say when each rating was kept from them; at the end they have learned from all."""
        linear = np.empty(len(ratings))
        with self.clock.running(WEIGHTS, LEARN):
            for learn, rest in splits:
                self._fit_stack(held.take(learn), ratings[learn])
                linear[rest] = self._linear(held.take(rest))
            self._fit_stack(held, ratings)
        return linear

    def _learn_trees(
        self, held: Opinions, linear: FloatArray, ratings: FloatArray, splits: Sequence[tuple[IntArray, IntArray]]
    ) -> FloatArray:
        """Means when each rating was kept from the trees; at the end they have learned from all."""
        mean = np.empty(len(ratings))
        with self.clock.running(TREES, LEARN):
            for learn, rest in splits:
                self._fit_trees(held.take(learn), linear[learn], ratings[learn], n_models=1)
                mean[rest] = self._mean(held.take(rest), linear[rest])
            self._fit_trees(held, linear, ratings, n_models=2)
        return mean

    def _shaped_anew(
        self, held: Opinions, mean: FloatArray, ratings: FloatArray, asked: Opinions, asked_mean: FloatArray, step: str
    ) -> FloatArray:
        """Distributions with the means `asked_mean`, the shares of the levels learned from held opinions."""
        with self.clock.running(step, LEARN):
            self._fit_shape(held, mean, ratings)
        with self.clock.running(step, ANSWER):
            return self._shaped(asked, asked_mean).probs

    def _fit_stack(self, opinions: Opinions, ratings: FloatArray) -> None:
        if self.weighted:
            super()._fit_stack(opinions, ratings)

    def _linear(self, opinions: Opinions) -> FloatArray:
        return super()._linear(opinions) if self.weighted else self._means(opinions).mean(axis=1)


def pooled(opinions: Opinions) -> FloatArray:
    """The average of the distributions that the members give, shape `(n_pairs, n_levels)`; NaN where none does."""
    answered = ~np.isnan(opinions.probs[:, :, 0])
    total = np.where(answered[:, :, None], opinions.probs, 0.0).sum(axis=1, dtype=float)
    mass = np.where(answered.any(axis=1), total.sum(axis=1), np.nan)
    return np.asarray(total / mass[:, None])
