"""The ensemble without some of its components, for every subset of them.

Subsets that share their members share the learned weights, and those that share these too share the trees; the answers
are those that an ensemble fitted with just these components would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.parallel import as_done
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.core.types import RatingDistribution
from hybrid_sim.ensemble.combiner import BOOSTED, MIN_ROWS, NEW, average_shape, regimes_of, training_rows
from hybrid_sim.ensemble.components import members_of, switched
from hybrid_sim.ensemble.out_of_fold import MemberPredictions
from hybrid_sim.evaluation.ablation.combiner_steps import Clock, SwitchableCombiner
from hybrid_sim.evaluation.ablation.member_answers import FoldAnswers
from hybrid_sim.models.support import REGIMES

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
    works = list(product(reversed(subsets(of_members)), _choices("combiner", components)))

    def work(kept: Subset, weighted: bool) -> list[T]:
        return [scorer(variant) for variant in _together(answers, components, kept, weighted, seed)]

    for _, scores in as_done(work, works, n_jobs, "subsets"):
        yield from scores


def _choices(step: str, components: Sequence[str]) -> list[bool]:
    return [True, False] if step in components else [True]


def _together(
    answers: FoldAnswers, components: Sequence[str], kept: Subset, weighted: bool, seed: int
) -> list[Variant]:
    """All variants with these components that have members, and with or without learned weights."""
    out = [name for name in components if name in members_of() and name not in kept]
    train, test = answers.of(switched(answers.members, out).members)
    switches = list(product(_choices("boosted", components), _choices("calibration", components)))
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
    variants = []
    for trees, shape in switches:
        on = {"combiner": weighted, "boosted": trees, "calibration": shape}
        of_ensemble = RatingDistribution(answers.fallback.scale, probs[trees, shape])
        chosen = kept | {step for step in components if on.get(step)}
        variants.append(Variant(chosen, of_ensemble.filled(answers.fallback, keep=answers.known), clock.seconds))
    return variants


def _answered(opinions: MemberPredictions) -> NDArray[np.bool_]:
    """Rows that at least one member with a distribution rates."""
    return np.asarray(~np.isnan(opinions.probs[:, :, 0]).all(axis=1))
