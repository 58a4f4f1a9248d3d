"""The combiner of one regime with its steps switched on and off: what they share is learned once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hybrid_sim.core.types import FloatArray, RatingScale
from hybrid_sim.ensemble.combiner import Inputs, RegimeCombiner
from hybrid_sim.ensemble.out_of_fold import MemberPredictions

LEARN, ANSWER = 0, 1
WEIGHTS, TREES, SHAPE = "weights", "trees", "level shape"
"""Names of the steps in the table of costs."""


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
    """The linear step (if `weighted`, else the members' plain average), trees and level shape of one regime.

    With all steps on it answers as a `RegimeCombiner` does, to the last bit.
    """

    clock: Clock = field(default_factory=Clock, repr=False)

    def answer(
        self,
        train: MemberPredictions,
        ratings: FloatArray,
        test: MemberPredictions,
        scale: RatingScale,
        switches: Sequence[tuple[bool, bool]],
    ) -> dict[tuple[bool, bool], FloatArray]:
        """Probabilities of `test` for each (trees, level shape) in `switches`, learned on `train`."""
        learn, query = self.select(train, ratings, scale), self.inputs(test)
        with self.clock.running(WEIGHTS, LEARN):
            linear, stack = self.cross_fitted_linear(learn, ratings), self.learn_stack(learn, ratings)
        with self.clock.running(WEIGHTS, ANSWER):
            test_linear = stack.predict(query.means, query.support)
        probs: dict[tuple[bool, bool], FloatArray] = {}
        with_trees = sorted({trees and self.boosted for trees, _ in switches})
        for trees in with_trees:
            mean, test_mean = self._means(trees, learn, linear, ratings, query, test_linear)
            for shape in sorted({shape for _, shape in switches}):
                if shape:
                    step = SHAPE if trees == with_trees[-1] else f"{SHAPE} without trees"
                    answer = self._shaped_anew(learn, mean, ratings, query, test_mean, step)
                else:
                    answer = query.average.tilted_to(test_mean).probs
                probs |= {one: answer for one in switches if (one[0] and self.boosted, one[1]) == (trees, shape)}
        return probs

    def _means(
        self, trees: bool, learn: Inputs, linear: FloatArray, ratings: FloatArray, query: Inputs, base: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Cross-fitted means of the rows learned from, and of the test rows from their linear means `base`."""
        fitted, mean = None, linear
        if trees:
            with self.clock.running(TREES, LEARN):
                mean = self.cross_fitted_mean(learn, linear, ratings)
                fitted = self.learn_trees(learn, linear, ratings, n_models=2)
        with self.clock.running(TREES, ANSWER):
            return mean, self.mean(fitted, query, base)

    def _shaped_anew(
        self, learn: Inputs, mean: FloatArray, ratings: FloatArray, query: Inputs, test_mean: FloatArray, step: str
    ) -> FloatArray:
        """Distributions with the means `test_mean`, the level shape learned from the others."""
        with self.clock.running(step, LEARN):
            shape = self.learn_shape(learn, mean, ratings)
        with self.clock.running(step, ANSWER):
            return self.distribution(shape, query, test_mean).probs
