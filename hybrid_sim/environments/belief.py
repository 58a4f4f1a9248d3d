"""A Gaussian belief about one person, and the Gaussian copula that joins it to a simulator's rating distributions.

A rating of item i is the level between whose cutpoints a latent normal variable falls:

    y(i) = h(i) · θ + ε(i),   θ ~ N(μ, Σ),   ε(i) ~ N(0, noise(i)),   noise(i) = 1 - h(i)' Σ₀ h(i)

θ holds the person's level and taste vector, h(i) = (1, unit vector of the item). Before any answer μ = 0 and Σ = Σ₀, so
that y(i) is standard normal and the cutpoints Φ⁻¹(F(k)) give the simulator's distribution F exactly. After an answer y
is known to lie in an interval: mean and variance of the truncated normal are matched (assumed density filtering, Opper
1998; Minka 2001), which is one Kalman step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from hybrid_sim.core.compiled import compiled
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution

CutArray = NDArray[np.float32]

FARTHEST = 8.0
"""Standard deviations beyond which the normal law has no probability in double precision's upper tail."""


def cutpoints(distribution: RatingDistribution) -> CutArray:
    """The latent cutpoints Φ⁻¹(F(k)) of each row, shape `(n_pairs, n_levels - 1)`; ±∞ where levels have no probability.

    >>> from hybrid_sim.core.types import RatingScale
    >>> cutpoints(RatingDistribution(RatingScale((0, 1)), np.array([[0.5, 0.5], [1.0, 0.0]])))
    array([[ 0.],
           [inf]], dtype=float32)
    """
    return np.asarray(ndtri(np.clip(distribution.cdf()[:, :-1], 0.0, 1.0)), dtype=np.float32)


@compiled(forceinline=True)
def normal_cdf(x: float) -> float:
    """Φ(x)."""
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


@compiled(forceinline=True)
def normal_density(x: float) -> float:
    """The density of the standard normal law, 0 at ±∞."""
    return 0.3989422804014327 * math.exp(-0.5 * x * x)


@compiled(forceinline=True, fastmath={"contract", "reassoc"})
def project(mean: FloatArray, covariance: FloatArray, features: FloatArray, gain: FloatArray) -> tuple[float, float]:
    """Mean and variance of h · θ; `gain` becomes Σ h."""
    centre, variance = 0.0, 0.0
    for a in range(len(features)):
        total = 0.0
        for b in range(len(features)):
            total += covariance[a, b] * features[b]
        gain[a] = total
        centre += features[a] * mean[a]
        variance += features[a] * total
    return centre, variance


@compiled(forceinline=True)
def level_probabilities(cuts: NDArray[Any], centre: float, variance: float, probs: FloatArray) -> None:
    """Fill `probs` with the probability of each level, where y has this mean and variance."""
    sd = math.sqrt(variance)
    below = 0.0
    for k in range(len(cuts)):
        upto = normal_cdf((cuts[k] - centre) / sd)
        probs[k] = max(upto - below, 0.0)
        below = upto
    probs[len(cuts)] = max(1.0 - below, 0.0)


@compiled(forceinline=True, fastmath={"contract", "reassoc"})
def learn(
    mean: FloatArray,
    covariance: FloatArray,
    gain: FloatArray,
    centre: float,
    variance: float,
    low: float,
    high: float,
) -> None:
    """Update the belief in place, given that y, with this mean and variance, lies between `low` and `high`."""
    sd = math.sqrt(variance)
    a, b = (low - centre) / sd, (high - centre) / sd
    # Where both ends are in the upper tail, the same interval in the lower one, where differences of Φ keep digits.
    left, right = (-b, -a) if a > 0 else (a, b)
    probability = normal_cdf(right) - normal_cdf(left)
    if probability > 1e-12:
        at_a, at_b = normal_density(a), normal_density(b)
        shift = (at_a - at_b) / probability
        spread = 1.0 - shift * shift
        if at_a > 0:
            spread += a * at_a / probability
        if at_b > 0:
            spread -= b * at_b / probability
        spread = min(max(spread, 0.0), 1.0)
    else:  # next to impossible: y is at the nearer end
        shift = min(max(a if a > 0 else b, -FARTHEST), FARTHEST)
        spread = 1.0 / (1.0 + shift * shift)
    step, shrinkage = shift / sd, (1.0 - spread) / variance
    for i in range(len(mean)):
        mean[i] += gain[i] * step
        factor = gain[i] * shrinkage
        for j in range(len(mean)):
            covariance[i, j] -= factor * gain[j]


@compiled(forceinline=True)
def forget(mean: FloatArray, covariance: FloatArray, prior: FloatArray, retention: float) -> None:
    """One step of the autoregression θ' = retention θ + √(1 - retention²) N(0, Σ₀): the prior stays what it is.

    `prior` is the diagonal of Σ₀.
    """
    square = retention * retention
    for i in range(len(mean)):
        mean[i] *= retention
        for j in range(len(mean)):
            covariance[i, j] *= square
        covariance[i, i] += (1.0 - square) * prior[i]


@compiled()
def sequential_probabilities(
    starts: IntArray,
    item: IntArray,
    level: IntArray,
    cuts: CutArray,
    features: FloatArray,
    prior: FloatArray,
    n_learned: int,
) -> FloatArray:
    """The distribution of each rating given the ratings of the same user before it, shape `(n_ratings, n_levels)`.

    `starts` are the first rows of the users in order, and the end; `cuts` has a row per rating, `features` one per
    item, `prior` is the diagonal of Σ₀. Learns from the first `n_learned` ratings of each user only (-1: from all).
    """
    n_levels, width = cuts.shape[1] + 1, features.shape[1]
    probs = np.empty((len(item), n_levels))
    mean, covariance, gain = np.empty(width), np.empty((width, width)), np.empty(width)
    for user in range(len(starts) - 1):
        mean[:] = 0.0
        covariance[:] = np.diag(prior)
        for row in range(starts[user], starts[user + 1]):
            own = features[item[row]]
            centre, shared = project(mean, covariance, own, gain)
            variance = shared + own_noise(own, prior)
            level_probabilities(cuts[row], centre, variance, probs[row])
            if n_learned < 0 or row - starts[user] < n_learned:
                k = level[row]
                low = cuts[row, k - 1] if k > 0 else -np.inf
                high = cuts[row, k] if k < n_levels - 1 else np.inf
                learn(mean, covariance, gain, centre, variance, low, high)
    return probs


@compiled(forceinline=True)
def own_noise(features: FloatArray, prior: FloatArray) -> float:
    """The variance of ε(i): what Σ₀ leaves of a standard normal y."""
    noise = 1.0
    for a in range(len(features)):
        noise -= features[a] * features[a] * prior[a]
    return noise
