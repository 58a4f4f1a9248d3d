"""What an LLM's rating adds to the statistical answer: a correction, learned last, exactly zero where there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.data.dataset import Dataset
from hybrid_sim.random import stream
from hybrid_sim.types import FloatArray, IntArray, RatingDistribution

MIN_ROWS = 50
"""Fewer rated pairs than this teach nothing: the correction stays zero."""


@dataclass
class Correction:
    """Moves the expected rating by `worth_` times the surprise in the LLM's rating.

    What the LLM would say is guessed from the statistical answer, by least squares on its mean and spread; the rest is
    the surprise, the only part of its word that statistics did not hold already. Its mean is zero: answers are moved
    against each other and not all one way. `strength` is a ridge penalty on `worth_`, in ratings; an LLM whose
    surprises point the wrong way is worth nothing. Weighting surprises by the spread of the answer, by the item's
    ratings or by the user's leniency did not help (`experiments/selective.py`).
    """

    strength: float = 400.0
    guess_: FloatArray = field(init=False, repr=False)
    worth_: float = field(init=False, repr=False)

    def fit(self, statistical: RatingDistribution, llm: RatingDistribution, ratings: FloatArray) -> Self:
        """Learn from pairs whose `ratings` neither opinion had seen; rows without an LLM rating are left out."""
        rows = llm.answered & statistical.answered
        self.guess_, self.worth_ = np.zeros(3), 0.0
        if rows.sum() < MIN_ROWS:
            return self
        expected, said = statistical.take(rows), llm.take(rows).mean()
        self.guess_ = np.asarray(np.linalg.lstsq(_known(expected), said)[0])
        surprise = said - _known(expected) @ self.guess_
        penalty = self.strength * max(float(np.mean(surprise**2)), 1e-9)
        slope = float(surprise @ (ratings[rows] - expected.mean()) / (surprise @ surprise + penalty))
        self.worth_ = max(slope, 0.0)
        return self

    def apply(self, statistical: RatingDistribution, llm: RatingDistribution) -> RatingDistribution:
        """The corrected distributions; a row without an LLM rating comes back as it was, to the last bit."""
        if not self.worth_:
            return statistical
        rows = llm.answered & statistical.answered
        before, said = statistical.take(rows), llm.take(rows).mean()
        surprise = said - _known(before) @ self.guess_
        probs = statistical.probs.copy()
        probs[rows] = before.tilted_to(before.mean() + self.worth_ * surprise).probs
        return RatingDistribution(statistical.scale, probs)

    def shift(self, statistical: RatingDistribution, llm: RatingDistribution) -> FloatArray:
        """How far `apply` moves each expected rating, in rating units; exactly zero without an LLM rating.

        A row without a statistical answer is NaN.
        """
        return self.apply(statistical, llm).mean() - statistical.mean()


def _known(statistical: RatingDistribution) -> FloatArray:
    """What the LLM's rating is guessed from, shape `(n_pairs, 3)`."""
    return np.column_stack([np.ones(len(statistical)), statistical.mean(), statistical.std()])


def cross_fitted_correction(
    statistical: RatingDistribution,
    llm: RatingDistribution,
    held_out: Dataset,
    seed: int,
    n_folds: int = 5,
    groups: IntArray | None = None,
) -> RatingDistribution:
    """Corrected distributions of held-out ratings, each user's learned from the other users alone.

    The correction is learned on users of the test fold, which any table that shows it has to say. `groups`, a label
    per held-out rating, takes the place of the users: of new items, say, each learned from the other items.
    """
    labels, group = np.unique(held_out.user if groups is None else groups, return_inverse=True)
    part = (stream(seed, "correction").permutation(len(labels)) % n_folds)[group]
    probs = statistical.probs.copy()
    for k in range(n_folds):
        learn, apply = part != k, part == k
        if not apply.any():
            continue
        correction = Correction().fit(statistical.take(learn), llm.take(learn), held_out.rating[learn])
        probs[apply] = correction.apply(statistical.take(apply), llm.take(apply)).probs
    return RatingDistribution(statistical.scale, probs)
