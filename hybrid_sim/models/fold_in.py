"""Fold-in: users who come after a fit find their place among its posterior draws, without a refit.

Given the items of a draw, its prior and its noise, users are independent of each other. So a newcomer's
vector is drawn from its own full conditional, draw by draw, as the sampler itself would; only that her
ratings teach the items nothing.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.models import gibbs
from hybrid_sim.models.linked_prior import FeatureBlock
from hybrid_sim.models.side_features import SideEncoder

if TYPE_CHECKING:
    from hybrid_sim.models.factorization import BayesianFactorization

MAX_RANK = 100

N_STEPS = 2
"""Gibbs steps on newcomers' noise and hidden variables per draw; they carry on from draw to draw."""

WARM_UP = 10
"""Further steps before the first draw."""

BLOCK = 128
"""Newcomers at a time: bounds the memory of their random numbers."""


@dataclass(frozen=True)
class UserFeatures:
    """Side information and rated items of users, in terms learned from the users of a fit.

    `typical_count` is how many ratings a user of the fit has, as a geometric mean. `centres` and `axes`
    belong to the three `FeatureBlock`s: side information, activity and rated items.
    """

    encoder: SideEncoder
    typical_count: float
    centres: list[FloatArray]
    axes: list[FloatArray]

    @classmethod
    def learn(cls, dataset: Dataset) -> tuple[UserFeatures, list[FeatureBlock]]:
        """The terms, and the blocks of the users of `dataset` itself."""
        encoder = SideEncoder().fit(dataset.users)
        rated = dataset.user_counts > 0
        met = meetings(dataset.user, dataset.item, dataset.n_users, dataset.n_items)[np.flatnonzero(rated)]
        blocks = [
            FeatureBlock.of(encoder.encode(dataset.users), MAX_RANK),
            spread_out(FeatureBlock.of(_activity(dataset), MAX_RANK), rated),
            spread_out(FeatureBlock.of(met, MAX_RANK), rated),
        ]
        typical_count = float(np.expm1(np.log1p(dataset.user_counts[rated]).mean()))
        features = cls(encoder, typical_count, [b.centre for b in blocks], [b.axes for b in blocks])
        return features, blocks

    def scores(self, dataset: Dataset) -> list[FloatArray]:
        """Scores of newcomers with the same items as the fit, one array `(n_users, rank)` per block.

        A newcomer's ratings are the beginning of a history, those of the fit's users the whole of one. So
        their number and times say nothing yet, activity is taken for average, and a history shorter than the
        typical one is completed by items as the average user rates them.
        """
        counts = dataset.user_counts
        whole = np.maximum(counts, self.typical_count)
        met = meetings(dataset.user, dataset.item, dataset.n_users, dataset.n_items)
        side, activity, items = self.axes
        average = self.centres[2] @ items
        known = np.sqrt(counts / whole)[:, None] * (met @ items)
        completed = ((whole - counts) / np.sqrt(whole))[:, None] * (average / self.centres[2].sum())
        return [
            self.encoder.encode(dataset.users) @ side - self.centres[0] @ side,
            np.zeros((dataset.n_users, activity.shape[1])),
            np.where((counts > 0)[:, None], known + completed - average, 0.0),
        ]


def _activity(dataset: Dataset) -> FloatArray:
    """Log count, mean time and its squared distance to the mean of users with ratings, standardised."""
    rated = dataset.user_counts > 0
    columns = [np.log1p(dataset.user_counts)]
    if dataset.timestamp is not None:
        sums = np.bincount(dataset.user, weights=dataset.timestamp, minlength=dataset.n_users)
        when = sums / np.maximum(dataset.user_counts, 1)
        columns += [when, (when - when[rated].mean()) ** 2]
    activity = np.column_stack(columns)[rated]
    return np.asarray((activity - activity.mean(axis=0)) / np.maximum(activity.std(axis=0), 1e-9))


def meetings(own: IntArray, other: IntArray, n_own: int, n_other: int) -> sp.csr_array:
    """Whom each row met, shape `(n_own, n_other)`; a row of n meetings has entries 1/sqrt(n)."""
    counts = np.bincount(own, minlength=n_own)
    return sp.csr_array((1.0 / np.sqrt(counts[own]), (own, other)), shape=(n_own, n_other))


def spread_out(block: FeatureBlock, rated: NDArray[np.bool_]) -> FeatureBlock:
    """The block of the rated rows, with zero scores for all others: they are at the mean."""
    scores = np.zeros((len(rated), block.scores.shape[1]))
    scores[rated] = block.scores
    return replace(block, scores=scores)


def draw_hidden(
    expected: FloatArray, inverse_sd: FloatArray, level: IntArray, cuts: FloatArray, uniforms: FloatArray
) -> FloatArray:
    """The hidden normal variable behind each rating, drawn between the cutpoints of its level."""
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    below = ndtr((edges[level] - expected) * inverse_sd)
    above = ndtr((edges[level + 1] - expected) * inverse_sd)
    at = below + (above - below) * uniforms
    return np.asarray(expected + ndtri(at.clip(1e-12, 1 - 1e-12)) / inverse_sd)


def fold_in(model: BayesianFactorization, dataset: Dataset) -> BayesianFactorization:
    """See `BayesianFactorization.fold_in`."""
    _require_same_items(model, dataset)
    dataset = dataset.take(np.lexsort((dataset.item, dataset.user)))
    scores = model.user_features_.scores(dataset)
    vectors: list[FloatArray] = []
    precision: list[FloatArray] = []
    for first in range(0, dataset.n_users, BLOCK):
        block = slice(first, min(first + BLOCK, dataset.n_users))
        sampled = _Newcomers(model, dataset, block).sample(model, [part[block] for part in scores])
        vectors.append(sampled[0])
        precision.append(sampled[1])
    folded = copy(model)
    folded.user_vectors_ = _stacked(vectors, model.user_vectors_[-1:])
    folded.user_precision_ = _stacked(precision, model.user_precision_[-1:])
    return folded


def _stacked(blocks: list[FloatArray], unknown: FloatArray) -> FloatArray:
    """The rows of all blocks and that of an unknown user, in single precision as `fit` keeps them."""
    return np.concatenate([*blocks, unknown]).astype(np.float32)


def _require_same_items(model: BayesianFactorization, dataset: Dataset) -> None:
    if dataset.scale != model.scale_:
        raise DataError(
            f"data set {dataset.name!r} has the scale {dataset.scale}, the factorization was fitted on "
            f"{model.scale_}; convert the ratings, or fit again"
        )
    fitted, given = model.item_ids_, dataset.items.index
    if len(fitted) != len(given):
        raise DataError(
            f"data set {dataset.name!r} has {len(given)} items, the factorization was fitted on "
            f"{len(fitted)}; fold-in needs the same items in the same order"
        )
    for row, (was, now) in enumerate(zip(fitted, given, strict=True)):
        if was != now:
            raise DataError(
                f"item {row} of data set {dataset.name!r} is {now!r}, the factorization was fitted with "
                f"{was!r} there; fold-in needs the same items in the same order"
            )


@dataclass(frozen=True)
class _Given:
    """What one posterior draw says about a block of newcomers before and beside their ratings.

    `items` are the vectors of the items they rated, `precision` has one entry per rating (without the user's
    own noise), `prior_means` one row per user.
    """

    items: FloatArray
    precision: FloatArray
    prior_means: FloatArray
    prior_precision: FloatArray
    cuts: FloatArray


class _Newcomers:
    """A block of users inside the sampler: their ratings in order, vectors, noise and random numbers."""

    def __init__(self, model: BayesianFactorization, dataset: Dataset, block: slice) -> None:
        """`dataset` is ordered by user; `block` are row numbers of users."""
        counts = dataset.user_counts[block]
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        first = int(dataset.user_counts[: block.start].sum())
        rows = slice(first, first + int(self.starts[-1]))
        self.user = dataset.user[rows] - block.start
        self.rated, self.item = np.unique(dataset.item[rows], return_inverse=True)
        self.level = dataset.scale.index(dataset.rating[rows])
        self.targets = (dataset.rating[rows] - model.centre_) / model.unit_
        self.ordinal = model.response == "ordinal"
        self.noise_shape = model.user_noise
        self.noise = np.ones(len(counts))
        self.vectors = np.zeros((len(counts), model.n_factors + 1))
        self._draw_numbers(model.seed, dataset.users.index[block], WARM_UP + N_STEPS * model.n_draws)

    def _draw_numbers(self, seed: int, user_ids: pd.Index, n_steps: int) -> None:
        counts = np.diff(self.starts)
        self.normals = np.empty((n_steps, *self.vectors.shape))
        self.gammas = np.empty((n_steps, len(counts)))
        self.uniforms = np.empty((n_steps, len(self.user) if self.ordinal else 0))
        for k, user_id in enumerate(user_ids):
            rng = stream(seed, "fold-in", user_id)
            self.normals[:, k] = rng.standard_normal(self.normals[:, k].shape)
            self.gammas[:, k] = rng.gamma((self.noise_shape + counts[k]) / 2, size=n_steps)
            if self.ordinal:
                self.uniforms[:, self.starts[k] : self.starts[k + 1]] = rng.random((n_steps, counts[k]))

    def sample(self, model: BayesianFactorization, scores: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Vectors `(n_users, n_draws, dim)` and square roots of noise precision `(n_users, n_draws)`."""
        vectors, roots = [], []
        step = 0
        for draw in range(model.n_draws):
            given = self._given(model, scores, draw)
            if draw == 0:
                self.vectors[:] = given.prior_means
            for _ in range(N_STEPS + WARM_UP * (draw == 0)):
                self._step(given, step)
                step += 1
            vectors.append(self.vectors.copy())
            roots.append(np.sqrt(self.noise) * model.user_precision_[-1, draw])
        return np.stack(vectors, axis=1), np.stack(roots, axis=1)

    def _given(self, model: BayesianFactorization, scores: list[FloatArray], draw: int) -> _Given:
        means = np.tile(model.user_vectors_[-1, draw].astype(float), (len(self.noise), 1))
        for part, weights in zip(scores, model.user_prior_weights_, strict=True):
            means += part @ weights[draw]
        noise = model.item_precision_[self.rated, draw] * model.user_precision_[-1, draw]
        return _Given(
            items=model.item_vectors_[self.rated, draw].astype(float),
            precision=noise.astype(float)[self.item] ** 2,
            prior_means=means,
            prior_precision=model.user_prior_precision_[draw].astype(float),
            cuts=model.cuts_[draw],
        )

    def _step(self, given: _Given, step: int) -> None:
        """Draw hidden variables, vectors and noise once."""
        weights = given.precision * self.noise[self.user]
        if self.ordinal:
            expected = gibbs.expect(self.user, self.item, self.vectors, given.items)
            numbers = self.uniforms[step]
            self.targets = draw_hidden(expected, np.sqrt(weights), self.level, given.cuts, numbers)
        gibbs.draw_vectors(
            self.vectors,
            self.starts,
            self.item,
            self.targets,
            weights,
            given.items,
            given.prior_means,
            given.prior_precision,
            self.normals[step],
        )
        expected = gibbs.expect(self.user, self.item, self.vectors, given.items)
        squares = given.precision * (self.targets - expected) ** 2
        sums = np.bincount(self.user, weights=squares, minlength=len(self.noise))
        self.noise = self.gammas[step] / ((self.noise_shape + sums) / 2)
