"""A Gaussian process over all users and items at once, for cold items above all.

    rating(u, i) = mean + a(u) + b(i) + f(u, i) + noise,   cov f = K_user(u, u') K_item(i, i')

Each kernel is a weighted sum of inner products of features: identity, exposure (who rated what, cosine), side
information and item text: a rating is evidence about similar users and similar items. The features are cut to their
leading axes, so that one product with the covariance costs `n_ratings * rank`, and the linear system is solved by
preconditioned conjugate gradients (Hestenes and Stiefel 1952).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from hybrid_sim.core.compiled import compiled
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.rater import FitCost
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.features import Features, SideEncoder, leading_axes
from hybrid_sim.models.registry import OTHERS, Member, rater
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
    group=OTHERS,
    members=[Member("kernel_gp")],
)
@dataclass
class KernelGP:
    """Posterior mean of the joint Gaussian process; `rank` leading axes of each kind of feature are kept.

    The linear system is solved to the relative residual `tolerance`. A user's noise variance is the mean square of the
    residuals of a bias model, shrunk towards that of all users as if by `noise_support` further ratings, times
    `noise_factor`. The mean of the process is kept as offsets and as vectors of users and of items whose inner product
    is f; the last row of each answers for an unknown user or item.
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

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Axes of users and items, columns of the ratings, and the dense system of the smaller side's biases."""
        n_rows, smaller = dataset.n_users + dataset.n_items, min(dataset.n_users, dataset.n_items)
        memory = 24.0 * smaller**2 + 300.0 * len(dataset) + 60.0 * n_rows * self.rank
        return FitCost(memory, 2e-5 * len(dataset) + 1e-10 * float(smaller) ** 3)

    def fit(self, dataset: Dataset) -> Self:
        """Solve for the weights of the observed ratings and fold them into one vector per user and item."""
        require_ratings(dataset)
        self.scale_ = dataset.scale
        self.mean_ = float(dataset.rating.mean())
        residual = dataset.rating - self.mean_
        variance = max(float(residual.var()), 1e-6)
        spread, noise = float(np.sqrt(variance)), _noise(dataset, residual, self.noise_support)
        of_users, of_items = _features(dataset, "user", self.rank), _features(dataset, "item", self.rank, self.embedder)
        # Kernels are shares of the variance; f is a product, so that one side alone bears its scale.
        users = _Side(
            dataset.user,
            _weighted(of_users, self.user),
            _weighted(of_users, self.user_bias) * spread,
            self.user_bias.identity * variance,
        )
        items = _Side(
            dataset.item,
            _weighted(of_items, self.item) * spread,
            _weighted(of_items, self.item_bias) * spread,
            self.item_bias.identity * variance,
        )
        covariance = _Covariance(users, items, self.user.identity, noise[dataset.user] * self.noise_factor)
        weights = covariance.solve(residual, self.tolerance)
        self.user_offset_, self.item_offset_ = (np.append(side.offsets(weights), 0.0) for side in (users, items))
        self.user_vectors_ = _with_unknown(covariance.user_vectors(weights))
        self.item_vectors_ = _with_unknown(items.axes)
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
class _Side:
    """Users or items: the row of each rating, and features whose inner products are the kernels of f and of the biases.

    `bias_variance` is that of each bias's own part.
    """

    rows: IntArray
    axes: Vectors
    bias_axes: Vectors
    bias_variance: float

    def offsets(self, weights: FloatArray) -> FloatArray:
        """The posterior means of the biases, given the weights of the ratings."""
        sums = np.bincount(self.rows, weights=weights, minlength=len(self.axes))
        return np.asarray(self.bias_variance * sums + self.bias_axes @ (self.bias_axes.T @ sums), dtype=float)

    def diagonal(self, of_rows: FloatArray) -> FloatArray:
        """Row sums of the precisions plus the mean prior precision of a bias."""
        return of_rows + 1.0 / max(self.bias_variance + float((self.bias_axes**2).sum(axis=1).mean()), 1e-6)


@dataclass
class _Covariance:
    """The covariance of the observed ratings, multiplied with vectors without ever being written down.

    `identity` is what the kernel of users has on its diagonal beside their features, `noise` one variance per rating.
    """

    users: _Side
    items: _Side
    identity: float
    noise: FloatArray

    def user_vectors(self, weights: FloatArray) -> Vectors:
        """(K_user W) Z, shape `(n_users, rank)`: W holds the weights by user and item, Z the items' axes.

        The posterior mean of f(u, i) is the inner product of row u with the item's axes.
        """
        own = np.asarray(self._by_pair(weights.astype(np.float32)) @ self.items.axes)
        shared = self.users.axes @ (self.users.axes.T @ own)
        return np.asarray(self.identity * own + shared, dtype=np.float32)

    def times(self, weights: FloatArray) -> FloatArray:
        """Covariance, noise included, times a vector over the ratings."""
        user_offset, item_offset = self.users.offsets(weights), self.items.offsets(weights)
        product = _dots(self.users.rows, self.items.rows, self.user_vectors(weights), self.items.axes)
        return self.noise * weights + product + user_offset[self.users.rows] + item_offset[self.items.rows]

    def solve(self, target: FloatArray, tolerance: float, max_steps: int = 60) -> FloatArray:
        """Weights with covariance times weights = target, to a relative residual of `tolerance`."""
        shape = (len(target), len(target))
        covariance = LinearOperator(shape, matvec=self.times, dtype=float)
        inverse = LinearOperator(shape, matvec=self._preconditioner(), dtype=float)
        return np.asarray(cg(covariance, target, rtol=tolerance, maxiter=max_steps, M=inverse)[0])

    def _preconditioner(self) -> Callable[[FloatArray], FloatArray]:
        """The inverse of a simpler covariance: independent biases, and a diagonal for noise and f.

        The biases make the largest eigenvalues, each shared by many ratings; with these divided out, few steps suffice.
        f is taken for independent noise of three tenths of its variance, which changes only how many steps are needed.
        """
        interaction = np.einsum("ir,ir->i", self.items.axes, self.items.axes)[self.items.rows]
        of_users = np.einsum("ur,ur->u", self.users.axes, self.users.axes)[self.users.rows]
        precision = 1.0 / (self.noise + 0.3 * (interaction * (self.identity + of_users)))
        observed = self._by_pair(precision)
        users = self.users.rows, self.users.diagonal(observed.sum(axis=1))
        items = self.items.rows, self.items.diagonal(observed.sum(axis=0))
        if len(self.users.axes) >= len(self.items.axes):
            return _bias_inverse(precision, observed, *users, *items)
        return _bias_inverse(precision, observed.T.tocsr(), *items, *users)

    def _by_pair(self, values: NDArray[np.floating]) -> sp.csr_array:
        shape = (len(self.users.axes), len(self.items.axes))
        return sp.csr_array((values, (self.users.rows, self.items.rows)), shape=shape)


def _bias_inverse(
    precision: FloatArray,
    observed: sp.csr_array,
    large: IntArray,
    large_diagonal: FloatArray,
    small: IntArray,
    small_diagonal: FloatArray,
) -> Callable[[FloatArray], FloatArray]:
    """Multiplication with the inverse of a covariance of two kinds of biases and noise of this `precision`.

    Woodbury's identity takes a system of the size of all biases, whose off-diagonal block is `observed`, the precisions
    by row of the `large` and of the `small` side. Its diagonal blocks are diagonal: eliminating the large side leaves a
    dense system of the size of the small one (Schur complement).
    """
    inner = (observed.T @ sp.diags_array(1.0 / large_diagonal) @ observed).toarray()
    factor = cho_factor(np.diag(small_diagonal) - inner, overwrite_a=True)

    def times(vector: FloatArray) -> FloatArray:
        weighted = precision * vector
        of_large = np.bincount(large, weights=weighted, minlength=len(large_diagonal))
        of_small = np.bincount(small, weights=weighted, minlength=len(small_diagonal))
        of_small = cho_solve(factor, of_small - observed.T @ (of_large / large_diagonal))
        of_large = (of_large - observed @ of_small) / large_diagonal
        return np.asarray(weighted - precision * (of_large[large] + of_small[small]))

    return times


@compiled(fastmath=True)
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


def _features(dataset: Dataset, side: Literal["user", "item"], rank: int, embedder: Embedder | None = None) -> Kinds:
    own, other = (dataset.user, dataset.item) if side == "user" else (dataset.item, dataset.user)
    frame, others = (dataset.users, dataset.items) if side == "user" else (dataset.items, dataset.users)
    blocks = [_unit_rows(block) for block in SideEncoder().fit(frame).encode_columns(frame).values()]
    features: dict[str, Features] = {"side": np.hstack([np.zeros((len(frame), 0)), *blocks])}
    features["exposure"] = _exposure(own, other, len(frame), len(others))
    if embedder is not None:
        vectors = embedder.embed(item_texts(dataset)).astype(float)
        features["text"] = _unit_rows(vectors - vectors.mean(axis=0))
    # At most `rank` columns with nearly the same inner products between rows.
    return {kind: np.asarray(block @ leading_axes(block, rank)) for kind, block in features.items()}


def _exposure(own: IntArray, other: IntArray, n_own: int, n_other: int) -> sp.csr_array:
    """Who rated what, rarely rated ones weighing more (inverse square root of their count), in rows of unit length."""
    rarity = 1.0 / np.sqrt(np.maximum(np.bincount(other, minlength=n_other), 1))
    lengths = np.sqrt(np.bincount(own, weights=rarity[other] ** 2, minlength=n_own))
    return sp.csr_array((rarity[other] / lengths[own], (own, other)), shape=(n_own, n_other))


def _unit_rows(block: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    return np.asarray(block / np.where(lengths > 0, lengths, 1.0))


def _weighted(features: Kinds, weights: KernelWeights) -> Vectors:
    """Vectors whose inner products are the weighted kernel, shape `(n_rows, n_columns)`."""
    parts = [np.sqrt(getattr(weights, kind)) * block for kind, block in features.items() if getattr(weights, kind)]
    n_rows = len(features["exposure"])
    return np.hstack([np.zeros((n_rows, 1)), *parts]).astype(np.float32)
