"""A Gaussian process over all users and items at once, for cold items above all.

    rating(u, i) = mean + a(u) + b(i) + f(u, i) + noise,   cov f = K_user(u, u') K_item(i, i')

Each kernel is a weighted sum of inner products of features: identity, exposure (who rated what, cosine), side
information and item text. Opinions thus travel between users who are alike about items that are alike. The features
are cut to their leading axes, so that one product with the covariance costs `n_ratings * rank`, and the linear system
is solved by conjugate gradients (Hestenes and Stiefel 1952) with the bias part as preconditioner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numba
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.principal_axes import Features, leading_axes
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.side_features import SideEncoder
from hybrid_sim.models.training import require_positive, require_ratings

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class KernelWeights:
    """Prior variance that each kind of feature adds, as a share of the variance of ratings.

    `side` counts per column of side information.
    """

    identity: float = 0.0
    side: float = 0.0
    exposure: float = 0.0
    text: float = 0.0


@rater(
    "kernel_gp",
    order=40,
    component="embeddings",
    explanation="users with similar ratings",
    members=[Member("kernel_gp")],
)
@dataclass
class KernelGP:
    """The joint Gaussian process; `rank` leading axes of each kind of feature are kept.

    The linear system is solved until its residual is `tolerance` of the ratings' length.

    A user's noise variance is the mean square of the residuals of a bias model, shrunk towards that of all users as if
    by `noise_support` further ratings.
    """

    user: KernelWeights = KernelWeights(identity=0.7, side=0.03, exposure=0.935)
    item: KernelWeights = KernelWeights(side=0.03, exposure=0.24, text=0.10)
    user_bias: KernelWeights = KernelWeights(identity=0.20, side=0.01, exposure=0.04)
    item_bias: KernelWeights = KernelWeights(identity=0.07, side=0.04, exposure=0.14, text=0.10)
    rank: int = 96
    noise_support: float = 24.0
    noise_factor: float = 0.24
    tolerance: float = 2e-3
    embedder: Embedder | None = None
    scale_: RatingScale = field(init=False, repr=False)
    mean_: float = field(init=False, repr=False)
    user_offset_: FloatArray = field(init=False, repr=False)
    item_offset_: FloatArray = field(init=False, repr=False)
    user_vectors_: Vectors = field(init=False, repr=False)
    item_vectors_: Vectors = field(init=False, repr=False)
    spread_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, rank=self.rank, noise_support=self.noise_support)
        require_positive(self, noise_factor=self.noise_factor, tolerance=self.tolerance)

    def fit(self, dataset: Dataset) -> Self:
        """Solve for the weights of the observed ratings and fold them into one vector per user and item.

        Raises:
            DataError: there are no ratings.
        """
        require_ratings(dataset)
        self.scale_ = dataset.scale
        self.mean_ = float(dataset.rating.mean())
        residual = dataset.rating - self.mean_
        variance = max(float(residual.var()), 1e-6)
        spread, noise = float(np.sqrt(variance)), _noise(dataset, residual, self.noise_support)
        users = _user_features(dataset, self.rank)
        items = _item_features(dataset, self.embedder, self.rank)
        process = _Process(
            dataset.user,
            dataset.item,
            _weighted(users, self.user),
            _weighted(items, self.item) * spread,
            self.user.identity,
            _weighted(users, self.user_bias) * spread,
            _weighted(items, self.item_bias) * spread,
            self.user_bias.identity * variance,
            self.item_bias.identity * variance,
            noise[dataset.user] * self.noise_factor,
        )
        weights = process.solve(residual, self.tolerance)
        self.user_offset_, self.item_offset_ = (np.append(offset, 0.0) for offset in process.offsets(weights))
        self.user_vectors_ = _with_unknown(process.user_vectors(weights))
        self.item_vectors_ = _with_unknown(process.item_axes)
        self.spread_ = np.sqrt(np.append(noise, noise.mean()))
        return self

    def expect(self, pairs: Pairs) -> FloatArray:
        """The posterior mean of each pair's rating, shape `(n_pairs,)`."""
        mean = self.mean_ + self.user_offset_[pairs.user] + self.item_offset_[pairs.item]
        mean = mean + _dots(pairs.user, pairs.item, self.user_vectors_, self.item_vectors_)
        return np.where((pairs.user >= 0) | (pairs.item >= 0), mean, np.nan)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the posterior mean; a pair of which neither user nor item is known is abstained from."""
        return RatingDistribution.from_mean(self.scale_, self.expect(pairs), self.spread_[pairs.user])


@dataclass
class _Process:
    """The covariance of the observed ratings, without ever being written down."""

    user: IntArray
    item: IntArray
    user_axes: Vectors
    item_axes: Vectors
    identity: float
    user_bias_axes: Vectors
    item_bias_axes: Vectors
    user_identity: float
    item_identity: float
    noise: FloatArray

    def user_vectors(self, weights: FloatArray) -> Vectors:
        """What the weighted ratings say about each user, in the space of item axes, shape `(n_users, rank)`."""
        met = sp.csr_array((weights.astype(np.float32), (self.user, self.item)), shape=self._shape())
        own = np.asarray(met @ self.item_axes)
        shared = self.user_axes @ (self.user_axes.T @ own)
        return np.asarray(self.identity * own + shared, dtype=np.float32)

    def offsets(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What they say about the biases of users and of items."""
        n_users, n_items = self._shape()
        per_user = np.bincount(self.user, weights=weights, minlength=n_users)
        per_item = np.bincount(self.item, weights=weights, minlength=n_items)
        users = self.user_identity * per_user + self.user_bias_axes @ (self.user_bias_axes.T @ per_user)
        items = self.item_identity * per_item + self.item_bias_axes @ (self.item_bias_axes.T @ per_item)
        return np.asarray(users, dtype=float), np.asarray(items, dtype=float)

    def times(self, weights: FloatArray) -> FloatArray:
        """Covariance, noise included, times a vector over the ratings."""
        user_offset, item_offset = self.offsets(weights)
        product = _dots(self.user, self.item, self.user_vectors(weights), self.item_axes)
        return self.noise * weights + product + user_offset[self.user] + item_offset[self.item]

    def solve(self, target: FloatArray, tolerance: float, max_steps: int = 60) -> FloatArray:
        """Conjugate gradients until the residual is `tolerance` of the target."""
        shape = (len(target), len(target))
        covariance = LinearOperator(shape, matvec=self.times, dtype=float)
        inverse = LinearOperator(shape, matvec=self._preconditioner(), dtype=float)
        return np.asarray(cg(covariance, target, rtol=tolerance, maxiter=max_steps, M=inverse)[0])

    def _preconditioner(self) -> _BiasPreconditioner:
        interaction = np.einsum("ir,ir->i", self.item_axes, self.item_axes)[self.item]
        interaction = interaction * (self.identity + np.einsum("ur,ur->u", self.user_axes, self.user_axes)[self.user])
        user_variance = self.user_identity + float((self.user_bias_axes**2).sum(axis=1).mean())
        item_variance = self.item_identity + float((self.item_bias_axes**2).sum(axis=1).mean())
        variance = self.noise + 0.3 * interaction
        return _BiasPreconditioner(self.user, self.item, self._shape(), variance, user_variance, item_variance)

    def _shape(self) -> tuple[int, int]:
        return len(self.user_axes), len(self.item_axes)


class _BiasPreconditioner:
    """The inverse of a covariance of user biases, item biases and noise only, by Woodbury's identity."""

    def __init__(
        self,
        user: IntArray,
        item: IntArray,
        shape: tuple[int, int],
        variance: FloatArray,
        user_variance: float,
        item_variance: float,
    ) -> None:
        self.user, self.item, self.shape, self.weight = user, item, shape, 1.0 / variance
        met = sp.csr_array((self.weight, (user, item)), shape=shape)
        self.users = met.sum(axis=1) + 1.0 / max(user_variance, 1e-6)
        self.items = met.sum(axis=0) + 1.0 / max(item_variance, 1e-6)
        self.met = met if shape[0] >= shape[1] else met.T.tocsr()
        large, small = (self.users, self.items) if shape[0] >= shape[1] else (self.items, self.users)
        self.large = large
        inner = (self.met.T @ sp.diags_array(1.0 / large) @ self.met).toarray()
        self.small = cho_factor(np.diag(small) - inner, overwrite_a=True)

    def __call__(self, vector: FloatArray) -> FloatArray:
        weighted = self.weight * vector
        users = np.bincount(self.user, weights=weighted, minlength=self.shape[0])
        items = np.bincount(self.item, weights=weighted, minlength=self.shape[1])
        large, small = (users, items) if self.shape[0] >= self.shape[1] else (items, users)
        small = cho_solve(self.small, small - self.met.T @ (large / self.large))
        large = (large - self.met @ small) / self.large
        users, items = (large, small) if self.shape[0] >= self.shape[1] else (small, large)
        return np.asarray(weighted - self.weight * (users[self.user] + items[self.item]))


@numba.njit(nogil=True, cache=True, fastmath=True)
def _dots(user: IntArray, item: IntArray, users: Vectors, items: Vectors) -> FloatArray:
    out = np.empty(len(user))
    for p in range(len(user)):
        u, i = user[p], item[p]
        total = np.float32(0.0)
        for a in range(users.shape[1]):
            total += users[u, a] * items[i, a]
        out[p] = total
    return out


def _with_unknown(vectors: Vectors) -> Vectors:
    """A last row of zeros answers for an unknown user or item (-1)."""
    return np.vstack([vectors, np.zeros((1, vectors.shape[1]), dtype=np.float32)])


def _noise(dataset: Dataset, residual: FloatArray, support: float) -> FloatArray:
    """Noise variance of each user, shape `(n_users,)`, in squared rating units."""
    by_item = np.bincount(dataset.item, weights=residual, minlength=dataset.n_items) / (dataset.item_counts + 5)
    rest = residual - by_item[dataset.item]
    by_user = np.bincount(dataset.user, weights=rest, minlength=dataset.n_users) / (dataset.user_counts + 5)
    squares = (rest - by_user[dataset.user]) ** 2
    overall = max(float(squares.mean()), 1e-4 * (dataset.scale.high - dataset.scale.low) ** 2)
    sums = np.bincount(dataset.user, weights=squares, minlength=dataset.n_users)
    return (sums + support * overall) / (dataset.user_counts + support)


Kinds = dict[str, FloatArray]
"""Features by kind (side, exposure, text), shape `(n_rows, <= rank)`; inner products are the kernel of weight one."""


def _user_features(dataset: Dataset, rank: int) -> Kinds:
    exposure = _exposure(dataset.user, dataset.item, dataset.n_users, dataset.n_items)
    return {"side": _side(dataset.users, rank), "exposure": _cut(exposure, rank)}


def _item_features(dataset: Dataset, embedder: Embedder | None, rank: int) -> Kinds:
    exposure = _exposure(dataset.item, dataset.user, dataset.n_items, dataset.n_users)
    features = {"side": _side(dataset.items, rank), "exposure": _cut(exposure, rank)}
    if embedder is not None:
        vectors = embedder.embed(item_texts(dataset)).astype(float)
        features["text"] = _cut(_unit_rows(vectors - vectors.mean(axis=0)), rank)
    return features


def _side(frame: pd.DataFrame, rank: int) -> FloatArray:
    blocks = [_unit_rows(block) for block in SideEncoder().fit(frame).encode_columns(frame).values()]
    return _cut(np.hstack([np.zeros((len(frame), 0)), *blocks]), rank)


def _exposure(own: IntArray, other: IntArray, n_own: int, n_other: int) -> sp.csr_array:
    """Who met whom, the rare encounters weighing more (inverse square root of how often), rows of unit length."""
    rarity = 1.0 / np.sqrt(np.maximum(np.bincount(other, minlength=n_other), 1))
    lengths = np.sqrt(np.bincount(own, weights=rarity[other] ** 2, minlength=n_own))
    return sp.csr_array((rarity[other] / lengths[own], (own, other)), shape=(n_own, n_other))


def _unit_rows(block: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    return np.asarray(block / np.where(lengths > 0, lengths, 1.0))


def _cut(features: Features, rank: int) -> FloatArray:
    """At most `rank` columns with nearly the same inner products between rows."""
    return np.asarray(features @ leading_axes(features, rank))


def _weighted(features: Kinds, weights: KernelWeights) -> Vectors:
    """Vectors whose inner products are the weighted kernel, shape `(n_rows, n_columns)`."""
    parts = [np.sqrt(getattr(weights, kind)) * block for kind, block in features.items() if getattr(weights, kind)]
    n_rows = len(features["exposure"])
    return np.hstack([np.zeros((n_rows, 1)), *parts]).astype(np.float32)
