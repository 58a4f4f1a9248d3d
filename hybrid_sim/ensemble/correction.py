"""What an LLM's ratings add to the statistical answer: a correction, learned last, zero where it said nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from pandas.util import hash_array
from scipy.optimize import nnls

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution

MIN_ROWS = 50
"""Fewer rated pairs than this teach nothing: the correction stays zero."""
N_VOICES = 10
"""Users whose answers tell what the LLM thinks of a new item. All of them would tell how many came to rate it, and who:
recorded ratings that are shuffled within each user gain next to nothing with ten voices, but a good deal with all."""
AGREEMENT = 0.3
"""Correlation of the surprises about one item in two users' answers, as recorded ratings have it (.26 to .33)."""


@dataclass
class Correction:
    """Moves the expected rating by the surprise in the LLM's rating, times what it is worth.

    What the LLM would say is guessed from the statistical answer, by least squares on its mean and spread; the rest is
    the surprise, the only part of its word that statistics did not hold already. Its mean is zero: answers are moved
    against each other and not all one way. Weighting surprises by the spread of the answer, by the item's ratings or by
    the user's leniency did not help (`experiments/selective.py`).

    With `new_items` a surprise has two parts, each with a worth of its own: what the LLM thinks of the item, which
    is the mean surprise of a few users' answers, shrunk (`N_VOICES`, `AGREEMENT`), and what it adds for this user. The
    first holds for everybody, so a pair that it was not asked about is moved too where its item was asked about.
    Learned from ratings of which hardly two share an item, the two worths are a guess from their sum.

    `strength` is a ridge penalty on `worth_`, in ratings; an LLM whose surprises point the wrong way is worth nothing.
    """

    new_items: bool = False
    strength: float = 400.0
    guess_: FloatArray = field(init=False, repr=False)
    worth_: FloatArray = field(init=False, repr=False)
    """One number, with `new_items` two: of the item's part and of the user's."""

    def fit(self, statistical: RatingDistribution, llm: RatingDistribution, pairs: Pairs, ratings: FloatArray) -> Self:
        """Learn from pairs whose `ratings` neither opinion had seen; rows that it would not move are left out."""
        self.guess_, self.worth_ = np.zeros(3), np.zeros(1 + self.new_items)
        heard = llm.answered & statistical.answered
        if heard.sum() < MIN_ROWS:
            return self
        self.guess_ = np.asarray(np.linalg.lstsq(_known(statistical.take(heard)), llm.take(heard).mean())[0])
        parts = self._parts(statistical, llm, pairs)
        rows = ~np.isnan(parts[:, 0])
        parts, error = parts[rows], ratings[rows] - statistical.take(rows).mean()
        penalty = np.sqrt(self.strength * np.maximum((parts**2).mean(axis=0), 1e-9))
        self.worth_ = np.asarray(nnls(np.vstack([parts, np.diag(penalty)]), np.r_[error, np.zeros(len(penalty))])[0])
        return self

    def apply(self, statistical: RatingDistribution, llm: RatingDistribution, pairs: Pairs) -> RatingDistribution:
        """The corrected distributions; a row that the LLM's word is not about comes back as it was, to the last bit.

        That is one without an LLM rating, and with `new_items` one of an item without any.
        """
        if not self.worth_.any():
            return statistical
        shift = np.nan_to_num(self._parts(statistical, llm, pairs) @ self.worth_)
        rows = shift != 0.0
        before = statistical.take(rows)
        probs = statistical.probs.copy()
        probs[rows] = before.tilted_to(before.mean() + shift[rows]).probs
        return RatingDistribution(statistical.scale, probs)

    def shift(self, statistical: RatingDistribution, llm: RatingDistribution, pairs: Pairs) -> FloatArray:
        """How far `apply` moves each expected rating, in rating units; exactly zero where it leaves the row as it was.

        A row without a statistical answer is NaN.
        """
        return self.apply(statistical, llm, pairs).mean() - statistical.mean()

    def _parts(self, statistical: RatingDistribution, llm: RatingDistribution, pairs: Pairs) -> FloatArray:
        """The parts of the surprise about each pair, shape `(n_pairs, n_parts)`; NaN where it has none."""
        surprise = llm.mean() - _known(statistical) @ self.guess_
        if not self.new_items:
            return surprise[:, None]
        item = _of_items(surprise, pairs)
        own = np.where(np.isnan(surprise), 0.0, surprise - item)
        return np.where(statistical.answered[:, None], np.column_stack([item, own]), np.nan)


def _known(statistical: RatingDistribution) -> FloatArray:
    """What the LLM's rating is guessed from, shape `(n_pairs, 3)`."""
    return np.column_stack([np.ones(len(statistical)), statistical.mean(), statistical.std()])


def _of_items(surprise: FloatArray, pairs: Pairs) -> FloatArray:
    """What surprises about each pair's item have in common: the shrunken mean of `N_VOICES`; NaN without any."""
    heard = np.flatnonzero(~np.isnan(surprise))
    heard = heard[np.unique(np.column_stack([pairs.user, pairs.item])[heard], axis=0, return_index=True)[1]]
    voices = heard[turns(pairs.take(heard)) < N_VOICES]
    _, item = np.unique(pairs.item, return_inverse=True)
    count, total = (np.bincount(item[voices], w, minlength=len(item)) for w in (None, surprise[voices]))
    common = total / (count + (1.0 - AGREEMENT) / AGREEMENT)
    return np.asarray(np.where(count > 0, common, np.nan)[item])


def turns(pairs: Pairs) -> IntArray:
    """The place of each pair among those of its item, 0 first, by a chance that rests on the pair's row numbers alone.

    >>> turns(Pairs(np.array([5, 6, 5]), np.array([1, 1, 2]))).tolist()
    [0, 1, 0]
    """
    return place_in_group(pairs.item, hash_array(pairs.user) ^ hash_array(pairs.item + 2**32))


def cross_fitted_correction(
    statistical: RatingDistribution,
    llm: RatingDistribution,
    held_out: Dataset,
    seed: int,
    n_folds: int = 5,
    new_items: bool = False,
) -> RatingDistribution:
    """Corrected distributions of held-out ratings, each user's learned from the other users alone.

    With `new_items` each item's is learned from the other items. The correction is learned on ratings of the test fold,
    which any table that shows it has to say.
    """
    labels, group = np.unique(held_out.item if new_items else held_out.user, return_inverse=True)
    part = (stream(seed, "correction").permutation(len(labels)) % n_folds)[group]
    probs = statistical.probs.copy()
    for k in range(n_folds):
        learn, apply = part != k, part == k
        if not apply.any():
            continue
        correction = Correction(new_items).fit(
            statistical.take(learn), llm.take(learn), held_out.pairs.take(learn), held_out.rating[learn]
        )
        probs[apply] = correction.apply(statistical.take(apply), llm.take(apply), held_out.pairs.take(apply)).probs
    return RatingDistribution(statistical.scale, probs)
