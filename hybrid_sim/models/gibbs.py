"""The Gibbs steps of the Bayesian factorization: compiled inner loops, and the prior that side information gives.

The loops run on one thread, release the interpreter lock, and take random numbers that were drawn before: the answer
does not depend on how many of them run side by side. A vector is (bias, factors...); a rating's expectation is the sum
of the two biases and the inner product of the factors.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from hybrid_sim.core.compiled import compiled
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.models.features import FeatureBlock


@compiled(fastmath=True)
def draw_vectors(
    vectors: FloatArray,
    starts: IntArray,
    partners: IntArray,
    targets: FloatArray,
    weights: FloatArray,
    partner_vectors: FloatArray,
    prior_means: FloatArray,
    prior_precision: FloatArray,
    normals: FloatArray,
) -> None:
    """Draw every row of `vectors` from its normal full conditional, in place.

    The ratings of row i stand at `starts[i]:starts[i + 1]`: `partners` (row numbers of the other side), `targets`
    (rating minus offset) and `weights` (noise precision). `normals` has the shape of `vectors`.
    """
    n_rows, dim = vectors.shape
    system = np.empty((dim, dim))
    right = np.empty(dim)
    x = np.empty(dim)
    x[0] = 1.0
    for i in range(n_rows):
        for a in range(dim):
            total = 0.0
            for c in range(dim):
                system[a, c] = prior_precision[a, c]
                total += prior_precision[a, c] * prior_means[i, c]
            right[a] = total
        for p in range(starts[i], starts[i + 1]):
            j = partners[p]
            for a in range(1, dim):
                x[a] = partner_vectors[j, a]
            rest = targets[p] - partner_vectors[j, 0]
            for a in range(dim):
                weighted = weights[p] * x[a]
                right[a] += weighted * rest
                for c in range(a + 1):
                    system[a, c] += weighted * x[c]
        _solve_and_draw(system, right, normals[i])
        for a in range(dim):
            vectors[i, a] = right[a]


@compiled(fastmath=True)
def _solve_and_draw(system: FloatArray, right: FloatArray, normal: FloatArray) -> None:
    """`right` becomes system⁻¹ right plus a draw of covariance system⁻¹, by Cholesky.

    The lower half of `system` is used and overwritten.
    """
    dim = len(right)
    for a in range(dim):
        for c in range(a + 1):
            total = system[a, c]
            for e in range(c):
                total -= system[a, e] * system[c, e]
            system[a, c] = math.sqrt(total) if a == c else total / system[c, c]
    for a in range(dim):
        total = right[a]
        for e in range(a):
            total -= system[a, e] * right[e]
        right[a] = total / system[a, a]
    # With system = L Lᵀ and `right` now L⁻¹ right, L⁻ᵀ (right + normal) has the mean and covariance wanted.
    for a in range(dim):
        right[a] += normal[a]
    for a in range(dim - 1, -1, -1):
        total = right[a]
        for e in range(a + 1, dim):
            total -= system[e, a] * right[e]
        right[a] = total / system[a, a]


@compiled(fastmath=True)
def expect(user: IntArray, item: IntArray, users: FloatArray, items: FloatArray) -> FloatArray:
    """Sum of biases and inner product of factors for each pair, shape `(n_pairs,)`."""
    dim = users.shape[1]
    out = np.empty(len(user))
    for p in range(len(user)):
        u, i = user[p], item[p]
        total = users[u, 0] + items[i, 0]
        for a in range(1, dim):
            total += users[u, a] * items[i, a]
        out[p] = total
    return out


@compiled(fastmath=True)
def log_likelihood(
    expected: FloatArray,
    inverse_sd: FloatArray,
    level: IntArray,
    cuts: FloatArray,
    table: FloatArray,
    reach: float,
) -> float:
    """Log-likelihood of the levels under the ordered probit model with these cutpoints; `table` as in `normal_cdf`."""
    total = 0.0
    last = len(cuts)
    for p in range(len(level)):
        k = level[p]
        below, above = 0.0, 1.0
        if k > 0:
            below = normal_cdf((cuts[k - 1] - expected[p]) * inverse_sd[p], table, reach)
        if k < last:
            above = normal_cdf((cuts[k] - expected[p]) * inverse_sd[p], table, reach)
        total += math.log(max(above - below, 1e-12))
    return total


@compiled(fastmath=True, inline="always")
def normal_cdf(x: float, table: FloatArray, reach: float) -> float:
    """Normal distribution function, linear between the entries of `table`, equal steps of [-reach, reach]."""
    place = (min(max(x, -reach), reach * 0.999999) + reach) * ((len(table) - 1) / (2 * reach))
    cell = int(place)
    value: float = table[cell] + (place - cell) * (table[cell + 1] - table[cell])
    return value


@compiled(fastmath=True)
def moments(
    user: IntArray, item: IntArray, users: FloatArray, items: FloatArray, low: float, high: float
) -> FloatArray:
    """Mean and variance of the expectation over posterior draws, shape `(n_pairs, 2)`.

    `users` has shape `(n_users + 1, n_draws, dim)` and `items` likewise; the last row answers for an unknown one (-1).
    Each draw's expectation is moved into [low, high] first.
    """
    n_draws, dim = users.shape[1], users.shape[2]
    out = np.empty((len(user), 2))
    for p in range(len(user)):
        u, i = user[p], item[p]
        first = second = 0.0
        for s in range(n_draws):
            value = users[u, s, 0] + items[i, s, 0]
            for a in range(1, dim):
                value += users[u, s, a] * items[i, s, a]
            value = min(max(value, low), high)
            first += value
            second += value * value
        first /= n_draws
        out[p, 0] = first
        out[p, 1] = max(second / n_draws - first * first, 0.0)
    return out


@compiled(fastmath=True)
def level_probabilities(
    user: IntArray,
    item: IntArray,
    users: FloatArray,
    items: FloatArray,
    cuts: FloatArray,
    user_precision: FloatArray,
    item_precision: FloatArray,
    table: FloatArray,
    reach: float,
) -> FloatArray:
    """Probability of each level, averaged over posterior draws, shape `(n_pairs, n_levels)`.

    Vectors as in `moments`; `cuts` has shape `(n_draws, n_levels - 1)`, the square roots of noise precision
    `(n_users + 1, n_draws)` and `(n_items + 1, n_draws)`. `table` as in `normal_cdf`.
    """
    n_draws, dim = users.shape[1], users.shape[2]
    n_cuts = cuts.shape[1]
    out = np.zeros((len(user), n_cuts + 1))
    for p in range(len(user)):
        u, i = user[p], item[p]
        for s in range(n_draws):
            value = users[u, s, 0] + items[i, s, 0]
            for a in range(1, dim):
                value += users[u, s, a] * items[i, s, a]
            precision = user_precision[u, s] * item_precision[i, s]
            before = 0.0
            for k in range(n_cuts):
                below = normal_cdf((cuts[s, k] - value) * precision, table, reach)
                out[p, k] += below - before
                before = below
            out[p, n_cuts] += 1.0 - before
        for k in range(n_cuts + 1):
            out[p, k] /= n_draws
    return out


def draw_hidden(
    expected: FloatArray, inverse_sd: FloatArray, level: IntArray, cuts: FloatArray, uniforms: FloatArray
) -> FloatArray:
    """The hidden normal variable behind each rating, drawn between the cutpoints of its level."""
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    below = ndtr((edges[level] - expected) * inverse_sd)
    above = ndtr((edges[level + 1] - expected) * inverse_sd)
    at = below + (above - below) * uniforms
    return np.asarray(expected + ndtri(at.clip(1e-12, 1 - 1e-12)) / inverse_sd)


class LinkedPrior:
    """The Gibbs state of the normal prior of users' or items' vectors of length `dim`.

    theta_i ~ N(mu + Σ_b Z_b[i] γ_b, Λ⁻¹)      γ_b ~ N(0, (λ_b Λ)⁻¹) row by row      Λ ~ Wishart

    as in Macau (Simm et al. 2015). Each block of features X_b is replaced by its leading principal axes, Z_b = X_b V_b,
    so that Z_bᵀ Z_b is diagonal and a draw of γ_b needs no matrix to be solved.
    """

    def __init__(self, blocks: list[FeatureBlock], n_rows: int, dim: int, strength: float) -> None:
        self.blocks = blocks
        self.mu = np.zeros(dim)
        self.precision = np.eye(dim) * 5.0
        self.weights = [np.zeros((block.scores.shape[1], dim)) for block in blocks]
        self.shrinkage = [10.0] * len(blocks)
        self.strength = strength
        self._linked = np.zeros((n_rows, dim))

    @property
    def means(self) -> FloatArray:
        """The prior mean of each row, shape `(n_rows, dim)`."""
        return self.mu + self._linked

    def update(self, theta: FloatArray, rng: np.random.Generator) -> None:
        """Draw mean, weights, shrinkage and precision given the vectors `theta`, shape `(n_rows, dim)`."""
        n_rows, dim = theta.shape
        spread = np.linalg.cholesky(np.linalg.inv(self.precision)).T
        self.mu = (theta - self._linked).mean(axis=0) + rng.standard_normal(dim) @ spread / np.sqrt(n_rows)
        for b, block in enumerate(self.blocks):
            others = self._linked - block.scores @ self.weights[b]
            # Principal axes make Z_bᵀ Z_b diagonal, so that the posterior precision is one number per axis (times Λ).
            posterior = (block.energies + self.shrinkage[b])[:, None]
            noise = rng.standard_normal(self.weights[b].shape) @ spread
            weights = block.scores.T @ (theta - self.mu - others) / posterior + noise / np.sqrt(posterior)
            size = float(((weights @ self.precision) * weights).sum())
            # Gamma prior of shape and rate 1/2 on each block's shrinkage, conjugate to the normal prior of its weights.
            self.shrinkage[b] = rng.gamma((1.0 + weights.size) / 2) / ((1.0 + size) / 2)
            self.weights[b] = weights
            self._linked = others + block.scores @ weights
        residual = theta - self.mu - self._linked
        scatter = np.eye(dim) * self.strength + residual.T @ residual
        degrees = float(dim + 2 + n_rows)
        for shrinkage, weights in zip(self.shrinkage, self.weights, strict=True):
            scatter += shrinkage * weights.T @ weights
            degrees += len(weights)
        self.precision = _draw_wishart(degrees, np.asarray(np.linalg.inv(scatter)), rng)


def _draw_wishart(degrees: float, scale: FloatArray, rng: np.random.Generator) -> FloatArray:
    """One draw by Bartlett's decomposition (1933)."""
    dim = len(scale)
    root = np.zeros((dim, dim))
    root[np.diag_indices(dim)] = np.sqrt(rng.chisquare(degrees - np.arange(dim)))
    root[np.tril_indices(dim, -1)] = rng.standard_normal(dim * (dim - 1) // 2)
    root = np.linalg.cholesky(scale) @ root
    return root @ root.T
