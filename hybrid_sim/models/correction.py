"""What an LLM's rating adds to the statistical answer: a correction, learned last, exactly zero where there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.data.dataset import Dataset
from hybrid_sim.random import stream
from hybrid_sim.types import FloatArray, RatingDistribution

MIN_ROWS = 50
"""Fewer rated pairs than this teach nothing: the correction stays zero."""


@dataclass
class Correction:
    """Moves the expected rating by a ridge regression on what the LLM said beyond it.

    Features are the LLM's rating, centred, its difference from the statistical expectation, and their products with the
    spread of the statistical answer: where statistics are unsure the LLM may count for more. `strength` is the ridge
    penalty, in ratings; it shrinks the correction towards zero.
    """

    strength: float = 200.0
    centre_: FloatArray = field(init=False, repr=False)
    coefficients_: FloatArray = field(init=False, repr=False)

    def fit(self, statistical: RatingDistribution, llm: RatingDistribution, ratings: FloatArray) -> Self:
        """Learn from pairs whose `ratings` neither opinion had seen; rows without an LLM rating are left out."""
        rows = llm.answered & statistical.answered
        raw = _features(statistical.take(rows), llm.take(rows))
        self.centre_ = raw.mean(axis=0) if rows.any() else np.zeros(raw.shape[1])
        design = raw - self.centre_
        target = ratings[rows] - statistical.take(rows).mean()
        if rows.sum() < MIN_ROWS:
            self.coefficients_ = np.zeros(design.shape[1])
        else:
            system = design.T @ design + self.strength * np.diag(np.maximum(design.var(axis=0), 1e-9))
            self.coefficients_ = np.asarray(np.linalg.solve(system, design.T @ target))
        return self

    def apply(self, statistical: RatingDistribution, llm: RatingDistribution) -> RatingDistribution:
        """The corrected distributions; a row without an LLM rating comes back as it was, to the last bit."""
        if not self.coefficients_.any():
            return statistical
        rows = llm.answered & statistical.answered
        before = statistical.take(rows)
        moved = before.mean() + (_features(before, llm.take(rows)) - self.centre_) @ self.coefficients_
        probs = statistical.probs.copy()
        probs[rows] = before.tilted_to(moved).probs
        return RatingDistribution(statistical.scale, probs)

    def shift(self, statistical: RatingDistribution, llm: RatingDistribution) -> FloatArray:
        """How far `apply` moves each expected rating, in rating units; exactly zero without an LLM rating.

        A row without a statistical answer is NaN.
        """
        return self.apply(statistical, llm).mean() - statistical.mean()


def _features(statistical: RatingDistribution, llm: RatingDistribution) -> FloatArray:
    expected, said = statistical.mean(), llm.mean()
    unit = (statistical.scale.high - statistical.scale.low) / 4.0
    doubt = statistical.std() / unit - 1.0
    beyond = said - expected
    return np.column_stack([said, beyond * doubt, doubt * unit])


def cross_fitted_correction(
    statistical: RatingDistribution,
    llm: RatingDistribution,
    held_out: Dataset,
    seed: int,
    n_folds: int = 5,
) -> RatingDistribution:
    """Corrected distributions of held-out ratings, each user's learned from the other users alone.

    The correction is learned on users of the test fold, which any table that shows it has to say.
    """
    users = np.unique(held_out.user)
    fold = np.empty(held_out.n_users, dtype=np.int64)
    fold[users] = stream(seed, "correction").permutation(len(users)) % n_folds
    part = fold[held_out.user]
    probs = statistical.probs.copy()
    for k in range(n_folds):
        learn, apply = part != k, part == k
        if not apply.any():
            continue
        correction = Correction().fit(statistical.take(learn), llm.take(learn), held_out.rating[learn])
        probs[apply] = correction.apply(statistical.take(apply), llm.take(apply)).probs
    return RatingDistribution(statistical.scale, probs)
