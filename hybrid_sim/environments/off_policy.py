"""Off-policy estimates of a policy's value from the log alone: self-normalised IPS and doubly robust.

The log are the held-out ratings: user u rated item i with reward r. A policy π(i | u) is valued by

    SNIPS = Σ w r / Σ w,   w = π(i | u) / p(i | u)                       (Swaminathan and Joachims 2015)
    DR = mean over users of Σ_i π(i | u) q(u, i) + Σ w (r - q) / Σ w     (Dudík et al. 2011)

where q is the simulator's expected reward. Nobody knows how people came to rate what they rated; the propensity model p
is that item i is picked in proportion to its training count plus one, among all items that the user had not rated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.types import FloatArray
from hybrid_sim.environments.folder import Population

PROPENSITY_MODEL = "in proportion to an item's training ratings plus one, among the items that the user had not rated"

SHARPNESS = 2.0
"""A policy of scores shows an item with probability in proportion to exp(SHARPNESS * standardised score)."""

FEW = 0.02
"""Effective share of the log below which a policy shows so much else than was logged that its estimate says little."""


@dataclass(frozen=True)
class OffPolicyEstimate:
    """Values on the reward scale [0, 1]; `overlap` is the effective sample size as a share of the log (Kish 1965)."""

    snips: float
    doubly_robust: float
    overlap: float
    enough_overlap: bool


def off_policy_estimate(population: Population, scores: FloatArray) -> OffPolicyEstimate:
    """The value of showing items by `scores`, `(n_users, n_items)`, as estimated from the held-out ratings."""
    train, held_out, scale = population.train, population.held_out, population.scale
    is_open = np.ones(scores.shape, dtype=bool)
    is_open[train.user, train.item] = False
    policy = _softmax(SHARPNESS * _standardised(scores, is_open), is_open)
    propensity = is_open * (train.item_counts + 1.0)
    propensity = propensity / propensity.sum(axis=1, keepdims=True)
    rows = held_out.user, held_out.item
    weights = policy[rows] / propensity[rows]
    reward = (held_out.rating - scale.low) / (scale.high - scale.low)
    users = np.flatnonzero(held_out.user_counts)
    expected = (population.means - scale.low) / (scale.high - scale.low)
    total = max(float(weights.sum()), 1e-300)
    direct = float((policy[users] * expected[users]).sum(axis=1).mean())
    overlap = total**2 / max(float((weights**2).sum()), 1e-300) / len(held_out)
    return OffPolicyEstimate(
        float((weights * reward).sum() / total),
        direct + float((weights * (reward - expected[rows])).sum() / total),
        overlap,
        overlap >= FEW,
    )


def _standardised(scores: FloatArray, is_open: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> FloatArray:
    kept = np.where(is_open, scores, np.nan)
    centred = scores - np.nanmean(kept, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.nanstd(kept, axis=1, keepdims=True), 1e-9))


def _softmax(logits: FloatArray, is_open: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> FloatArray:
    logits = np.where(is_open, logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
