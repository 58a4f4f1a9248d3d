"""The ensemble without some of its components, for every subset of them.

Subsets that share their members share the learned weights, and those that share these too share the trees; the answers
are those that an ensemble fitted with just these components would give.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.parallel import as_done
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.core.types import FloatArray, RatingDistribution, RatingScale
from hybrid_sim.ensemble.combiner import (
    BOOSTED,
    MIN_ROWS,
    NEW,
    Inputs,
    RegimeCombiner,
    average_shape,
    regimes_of,
    training_rows,
)
from hybrid_sim.ensemble.components import members_of, switched
from hybrid_sim.ensemble.out_of_fold import MemberPredictions
from hybrid_sim.evaluation.ablation.member_answers import FoldAnswers
from hybrid_sim.models.support import REGIMES

LEARN, ANSWER = 0, 1
WEIGHTS, TREES, SHAPE = "weights", "trees", "level shape"
"""Names of the steps in the table of costs."""

Subset = frozenset[str]
T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """The predictions of the ensemble with just these components for the held-out pairs.

    `seconds` has the CPU seconds of the steps, learning and answering, of all variants that were made together.
    """

    components: Subset
    distribution: RatingDistribution
    seconds: Mapping[str, tuple[float, float]]


def subsets(components: Sequence[str]) -> list[Subset]:
    """All subsets, the empty one first and the whole last."""
    sizes = range(len(components) + 1)
    return [frozenset(chosen) for size in sizes for chosen in combinations(components, size)]


def each_variant(
    answers: FoldAnswers, components: Sequence[str], seed: int, n_jobs: int | None, scorer: Callable[[Variant], T]
) -> Iterator[T]:
    """The result of `scorer` for the variant of every subset of `components`, in no particular order.

    Components that are not named stay in. `n_jobs` sets of members are fitted and scored at a time, which changes
    no answer.
    """
    of_members = [name for name in components if name in members_of()]

    def choices(*steps: str) -> list[tuple[bool, ...]]:
        return list(product(*([True, False] if step in components else [True] for step in steps)))

    def work(kept: Subset, weighted: bool) -> list[T]:
        left = switched(answers.members, [name for name in of_members if name not in kept]).members
        probs, seconds = _predictions(answers, left, weighted, choices("boosted", "calibration"), seed)
        scores = []
        for (trees, shape), of_pairs in probs.items():
            on = {"combiner": weighted, "boosted": trees, "calibration": shape}
            of_ensemble = RatingDistribution(answers.fallback.scale, of_pairs)
            filled = of_ensemble.filled(answers.fallback, keep=answers.known)
            scores.append(scorer(Variant(kept | {step for step in components if on.get(step)}, filled, seconds)))
        return scores

    works = [(kept, weighted) for kept in reversed(subsets(of_members)) for (weighted,) in choices("combiner")]
    for _, scores in as_done(work, works, n_jobs, "subsets"):
        yield from scores


def _predictions(
    answers: FoldAnswers, members: Sequence[str], weighted: bool, switches: Sequence[tuple[bool, ...]], seed: int
) -> tuple[dict[tuple[bool, ...], FloatArray], dict[str, tuple[float, float]]]:
    """Probabilities of the held-out pairs for each (trees, level shape) in `switches`, and the CPU seconds of steps."""
    train, test = answers.of(members)
    probs = {one: average_shape(test.probs) for one in switches}
    clock = Clock()
    learn_from = [
        np.flatnonzero(training_rows(train.support.regime, answers.of_new, code) & _answered(train))
        for code in range(len(REGIMES))
    ]
    regimes = regimes_of(test.support, len(learn_from[NEW]) >= MIN_ROWS)
    for code, regime in enumerate(REGIMES):
        learn, rows = learn_from[code], np.flatnonzero((regimes == code) & _answered(test))
        if len(learn) < MIN_ROWS or not len(rows):
            continue
        seed_of_regime = derive_seed(seed, regime) % 2**31
        combiner = SwitchableCombiner(regime in BOOSTED, seed_of_regime, weighted=weighted, clock=clock)
        of_rows = combiner.answer(
            train.take(learn), answers.ratings[learn], test.take(rows), answers.fallback.scale, switches
        )
        for one in switches:
            probs[one][rows] = of_rows[one]
    return probs, clock.seconds


def _answered(predictions: MemberPredictions) -> NDArray[np.bool_]:
    """Rows that at least one member with a distribution rates."""
    return np.asarray(~np.isnan(predictions.probs[:, :, 0]).all(axis=1))


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
        switches: Sequence[tuple[bool, ...]],
    ) -> dict[tuple[bool, ...], FloatArray]:
        """Probabilities of `test` for each (trees, level shape) in `switches`, learned on `train`."""
        learn, query = self.select(train, ratings, scale), self.inputs(test)
        with self.clock.running(WEIGHTS, LEARN):
            linear, stack = self.cross_fitted_linear(learn, ratings), self.learn_stack(learn, ratings)
        with self.clock.running(WEIGHTS, ANSWER):
            test_linear = stack.predict(query.means, query.support)
        probs: dict[tuple[bool, ...], FloatArray] = {}
        with_trees = sorted({trees and self.boosted for trees, _ in switches})
        for trees in with_trees:
            mean, test_mean = self._means(trees, learn, linear, ratings, query, test_linear)
            for shape in sorted({shape for _, shape in switches}):
                step = SHAPE if trees == with_trees[-1] else f"{SHAPE} without trees"
                if shape:
                    with self.clock.running(step, LEARN):
                        fitted = self.learn_shape(learn, mean, ratings)
                    with self.clock.running(step, ANSWER):
                        answer = self.distribution(fitted, query, test_mean).probs
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
