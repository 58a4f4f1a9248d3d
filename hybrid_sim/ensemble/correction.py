"""A correction of statistical predictions by an LLM's ratings, learned last; zero where the LLM gave none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd
from pandas.util import hash_array
from scipy.optimize import nnls

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, dot_rows

MIN_ROWS = 50
"""With fewer rated pairs nothing is learned: the correction stays zero."""

N_PANEL = 10
"""Users whose answers are averaged to what the LLM thinks of a new item, its panel. With all users the average would
also reveal how many rated the item, and who: recorded ratings that are shuffled within each user gain next to nothing
with a panel of ten, but a good deal with all."""

AGREEMENT = 0.3
"""Correlation of the surprises in two users' answers about one item: .26 to .33 in recorded ratings."""

_Z_95 = 1.645
"""One-sided 95% quantile of the normal distribution."""

_ROUNDING = 1e-6
"""Surprises below this, in rating units, are rounding errors of the least squares."""


@dataclass
class Correction:
    """Adds a weighted surprise to the expected rating: mean + worth × (LLM's rating - its prediction from statistics).

    The LLM's rating is predicted from mean and spread of the statistical distribution, by least squares; the residual
    is the surprise, the only part that statistics did not contain already. Its mean is zero: pairs are moved against
    each other and not all one way. Weighting surprises by the spread of the answer, by the item's ratings or by the
    user's leniency did not help (`experiments/selective.py`).

    With `new_items` a surprise has two parts, each with its own worth: the item's, which is the shrunken mean surprise
    of a few users' answers (`N_PANEL`, `AGREEMENT`), and the rest, the user's. The first holds for everybody: a pair
    about which the LLM was not asked is moved too if it was asked about the item. Learned from ratings of which hardly
    two share an item, the two worths are poorly separated.

    `strength` is a ridge penalty on `worth_`, in ratings. Worths are not negative: an LLM whose surprises point the
    wrong way is ignored.
    """

    new_items: bool = False
    strength: float = 400.0
    guess_: FloatArray = field(init=False, repr=False)
    worth_: FloatArray = field(init=False, repr=False)
    """One number, with `new_items` two: of the item's part and of the user's."""
    largest_gain_: float = field(init=False, repr=False)
    """Upper 95% confidence limit of the share of squared error that surprises explain (`largest_gain`); 1 unfitted."""

    def fit(self, statistical: RatingDistribution, llm: RatingDistribution, pairs: Pairs, ratings: FloatArray) -> Self:
        """Learn from pairs whose `ratings` neither distribution had seen; rows without a surprise are left out."""
        self.guess_, self.worth_, self.largest_gain_ = np.zeros(3), np.zeros(1 + self.new_items), 1.0
        both = llm.answered & statistical.answered
        if both.sum() < MIN_ROWS:
            return self
        self.guess_ = np.asarray(np.linalg.lstsq(_known(statistical.take(both)), llm.take(both).mean())[0])
        parts = self._parts(statistical, llm, pairs)
        rows = ~np.isnan(parts[:, 0])
        parts, error = parts[rows], ratings[rows] - statistical.take(rows).mean()
        self.largest_gain_ = largest_gain(parts, error)
        penalty = np.sqrt(self.strength * np.maximum((parts**2).mean(axis=0), 1e-9))
        self.worth_ = np.asarray(nnls(np.vstack([parts, np.diag(penalty)]), np.r_[error, np.zeros(len(penalty))])[0])
        return self

    def apply(self, statistical: RatingDistribution, llm: RatingDistribution, pairs: Pairs) -> RatingDistribution:
        """The corrected distributions, tilted to the corrected means.

        A row without an LLM rating (with `new_items`: of an item without any) comes back as it was, to the last bit.
        """
        if not self.worth_.any():
            return statistical
        shift = np.nan_to_num(dot_rows(self._parts(statistical, llm, pairs), self.worth_))
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
        surprise = llm.mean() - dot_rows(_known(statistical), self.guess_)
        if not self.new_items:
            return surprise[:, None]
        item = _of_items(surprise, pairs)
        own = np.where(np.isnan(surprise), 0.0, surprise - item)
        return np.where(statistical.answered[:, None], np.column_stack([item, own]), np.nan)


def largest_gain(parts: FloatArray, error: FloatArray) -> float:
    """Upper 95% confidence limit of the share of squared error that any one column of `parts` explains.

    A column s explains the share r² of the squared error e² by least squares through zero, where over n rows

        r = Σ s·e / √(Σ s² · Σ e²),   standard error of r ≈ √((1 - r²) / n),
        limit = max(0, r + 1.645 · √((1 - r²) / n))²

    One-sided, since a negative weight is never used. For normal errors a share of r² is ½ · r² nats of log loss. A
    column that is constant at zero explains nothing: a model that rates everything alike is recognised at once.
    """
    energy = np.sqrt((parts**2).sum(axis=0) * (error**2).sum())
    varies = np.sqrt((parts**2).mean(axis=0)) > _ROUNDING
    r = np.clip((parts.T @ error)[varies] / energy[varies], -1.0, 1.0)
    limits = np.maximum(0.0, r + _Z_95 * np.sqrt((1.0 - r**2) / len(error))) ** 2
    return float(limits.max(initial=0.0))


def _known(statistical: RatingDistribution) -> FloatArray:
    """What the LLM's rating is predicted from, shape `(n_pairs, 3)`."""
    return np.column_stack([np.ones(len(statistical)), statistical.mean(), statistical.std()])


def _of_items(surprise: FloatArray, pairs: Pairs) -> FloatArray:
    """The shrunken mean surprise about each pair's item over its panel of `N_PANEL` users; NaN where nobody answered.

    `AGREEMENT` being the share of the variance of surprises that is the item's, the best linear estimate of the item's
    part from n answers is their sum divided by n + (1 - AGREEMENT) / AGREEMENT.
    """
    table = pd.DataFrame({"user": pairs.user, "item": pairs.item, "surprise": surprise}).dropna()
    answers = table.drop_duplicates(["user", "item"]).sort_values(["user", "item"]).index.to_numpy()
    panel = answers[panel_places(pairs.take(answers)) < N_PANEL]
    item, _ = pd.factorize(pairs.item)
    count = np.bincount(item[panel], minlength=len(item))
    total = np.bincount(item[panel], surprise[panel], minlength=len(item))
    shrunken = total / (count + (1.0 - AGREEMENT) / AGREEMENT)
    return np.asarray(np.where(count > 0, shrunken, np.nan)[item])


def panel_places(pairs: Pairs) -> IntArray:
    """The place of each pair in a random order of its item's pairs, 0 first, which rests on row numbers alone.

    >>> panel_places(Pairs(np.array([5, 6, 5]), np.array([1, 1, 2]))).tolist()
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

    With `new_items` each item's is learned from the other items. The correction is learned on ratings of the test fold:
    any table that shows it has to state that.
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
