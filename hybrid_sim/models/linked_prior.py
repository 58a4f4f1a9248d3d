"""A normal prior whose mean is a linear function of side information, sampled by Gibbs steps.

    theta_i ~ N(mu + Σ_b Z_b[i] γ_b, Λ⁻¹)      γ_b ~ N(0, (λ_b Λ)⁻¹) row by row      Λ ~ Wishart

as in Macau (Simm et al. 2015). Each block of features X_b is replaced by its leading principal axes, Z_b =
X_b V_b, so that Z_bᵀ Z_b is diagonal and a draw of γ_b needs no matrix to be solved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.types import FloatArray
from hybrid_sim.models.principal_axes import Features, leading_axes


@dataclass(frozen=True)
class FeatureBlock:
    """Features along their principal axes.

    `centre` has shape `(n_features,)`, `axes` `(n_features, rank)`, `scores` = (X - centre) axes has shape
    `(n_rows, rank)` with orthogonal columns of squared lengths `energies`.
    """

    centre: FloatArray
    axes: FloatArray
    scores: FloatArray
    energies: FloatArray

    @classmethod
    def of(cls, features: Features, max_rank: int) -> FeatureBlock:
        """The block of at most `max_rank` principal axes of `features`, shape `(n_rows, n_features)`."""
        centre = np.asarray(features.mean(axis=0)).ravel()
        axes = leading_axes(features, max_rank, centre)
        scores = np.asarray(features @ axes) - centre @ axes
        return cls(centre, axes, scores, (scores**2).sum(axis=0))


class LinkedPrior:
    """The Gibbs state of the prior of one side, users or items, with vectors of length `dim`."""

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
            posterior = (block.energies + self.shrinkage[b])[:, None]
            noise = rng.standard_normal(self.weights[b].shape) @ spread
            weights = block.scores.T @ (theta - self.mu - others) / posterior + noise / np.sqrt(posterior)
            size = float(((weights @ self.precision) * weights).sum())
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
