"""Rating scales, pairs of user and item in columns, and rating distributions over the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybrid_sim.core.errors import ScaleError, SettingsError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LIKED_FROM = 0.6
"""Ratings in the upper 40% of the scale's range are likes: 4 and 5 of 1 to 5, 3.5 and more of 0.5 to 5."""

MAX_LEVELS = 201
"""Levels a scale may have at most (0 to 100 in halves); more is a continuous quantity and must be binned."""


@dataclass(frozen=True)
class RatingScale:
    """The values a rating can take, ascending.

    >>> RatingScale((1, 2, 3, 4, 5)).index([5, 1])
    array([4, 0])
    >>> RatingScale((1, 2)).index([3])
    Traceback (most recent call last):
    hybrid_sim.core.errors.ScaleError: rating 3 is not on the scale 1, 2
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        levels = tuple(float(level) for level in self.levels)
        if not 2 <= len(levels) <= MAX_LEVELS:
            raise ScaleError(f"a rating scale has 2 to {MAX_LEVELS} levels, got {len(levels)}; bin the ratings first")
        if not np.isfinite(levels).all() or any(a >= b for a, b in pairwise(levels)):
            raise ScaleError(f"the levels of a rating scale are finite and ascending, got {self.levels}")
        object.__setattr__(self, "levels", levels)

    def __str__(self) -> str:
        return describe_levels(self.levels)

    @property
    def values(self) -> FloatArray:
        """The levels as an array of shape `(n_levels,)`."""
        return np.array(self.levels)

    @property
    def low(self) -> float:
        """The smallest level."""
        return self.levels[0]

    @property
    def high(self) -> float:
        """The largest level."""
        return self.levels[-1]

    @property
    def n_levels(self) -> int:
        """How many levels there are."""
        return len(self.levels)

    def contains(self, ratings: ArrayLike) -> NDArray[np.bool_]:
        """Which ratings are on the scale, to within 1e-9; NaN and infinity are not."""
        ratings = np.asarray(ratings, dtype=float)
        nearest = self.values[self._nearest(ratings)]
        with np.errstate(invalid="ignore"):
            return np.abs(ratings - nearest) <= 1e-9

    def index(self, ratings: ArrayLike) -> IntArray:
        """The position of each rating among the levels.

        Raises:
            ScaleError: a rating is not on the scale.
        """
        ratings = np.asarray(ratings, dtype=float)
        on_scale = self.contains(ratings)
        if not on_scale.all():
            raise ScaleError(f"rating {ratings[~on_scale].flat[0]:g} is not on the scale {self}")
        return self._nearest(ratings)

    def round(self, ratings: ArrayLike) -> FloatArray:
        """Each number replaced by the nearest level; halves go to the upper level."""
        return self.values[self._nearest(np.asarray(ratings, dtype=float))]

    def clip(self, ratings: ArrayLike) -> FloatArray:
        """Each number moved into the range of the scale."""
        return np.asarray(np.clip(np.asarray(ratings, dtype=float), self.low, self.high))

    def _nearest(self, ratings: FloatArray) -> IntArray:
        middles = (self.values[1:] + self.values[:-1]) / 2
        return np.searchsorted(middles, ratings, side="right").clip(0, self.n_levels - 1).astype(np.int64)


def like_level(scale: RatingScale, like_from: float | None = None) -> float:
    """The lowest level that is a like: the first from `like_from` upwards, or from 60% of the way up the scale.

    >>> like_level(RatingScale((1, 2, 3, 4, 5)))
    4.0

    Raises:
        SettingsError: no level of the scale, or every one, would be a like.
    """
    wanted = scale.low + LIKED_FROM * (scale.high - scale.low) if like_from is None else like_from
    liked = [level for level in scale.levels if level >= wanted - 1e-9]
    if not 0 < len(liked) < scale.n_levels:
        raise SettingsError(
            f"likes from {wanted:g} upwards are all or none of the scale {scale}; choose a level within"
        )
    return liked[0]


def dot_rows(rows: NDArray[np.floating], weights: FloatArray) -> FloatArray:
    """Inner products of `weights` with the last axis of `rows`, in double precision.

    Unlike with `rows @ weights`, the last bit of a row's product does not depend on the other rows: BLAS chooses its
    order of summation by the shape of the matrix, while numpy's sum over a contiguous axis has one order.
    """
    return np.asarray((np.ascontiguousarray(rows, dtype=float) * weights).sum(axis=-1))


def describe_levels(levels: Sequence[float]) -> str:
    """The levels in words, shortened when there are more than twelve."""
    shown = [f"{level:g}" for level in levels]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:3], "...", *shown[-2:]])


@dataclass(frozen=True)
class Pairs:
    """Pairs of user and item, in columns: row numbers into the users and items of a `Dataset`; -1 is unknown."""

    user: IntArray
    item: IntArray

    def __post_init__(self) -> None:
        if self.user.shape != self.item.shape or self.user.ndim != 1:
            raise ValueError(f"users {self.user.shape} and items {self.item.shape} must be columns of one length")

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.bool_] | IntArray | slice) -> Pairs:
        """The pairs of these rows, in this order."""
        return Pairs(self.user[rows], self.item[rows])

    def followed_by(self, others: Pairs) -> Pairs:
        """These pairs, then the others."""
        return Pairs(np.concatenate([self.user, others.user]), np.concatenate([self.item, others.item]))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Pairs whose user and item are both known."""
        return (self.user >= 0) & (self.item >= 0)

    def keys(self, n_items: int) -> IntArray:
        """One number per pair, ascending by user, then item: user * n_items + item; -1 for a pair that is not known."""
        return np.where(self.known, self.user * n_items + self.item, -1)

    def rows_by_user(self) -> dict[int, IntArray]:
        """The rows of each user's known pairs, users in order of first appearance."""
        known = np.flatnonzero(self.known)
        known = known[np.argsort(self.user[known], kind="stable")]
        users, first = np.unique(self.user[known], return_index=True)
        rows = np.split(known, first[1:])
        return {int(users[k]): rows[k] for k in np.argsort(known[first])}


@dataclass(frozen=True)
class RatingDistribution:
    """Predicted ratings: one probability distribution over the scale per pair.

    `probs` has shape `(n_pairs, n_levels)`; a row sums to one, or is all NaN where the rater abstains. Statistics of
    a row that abstains are NaN.

    >>> d = RatingDistribution(RatingScale((1, 2, 3)), np.array([[0.2, 0.2, 0.6], [np.nan] * 3]))
    >>> d.mean().round(2), d.answered
    (array([2.4, nan]), array([ True, False]))
    """

    scale: RatingScale
    probs: FloatArray

    def __post_init__(self) -> None:
        if self.probs.ndim != 2 or self.probs.shape[1] != self.scale.n_levels:
            raise ValueError(f"probs has shape {self.probs.shape}, the scale {self.scale.n_levels} levels")

    def __len__(self) -> int:
        return len(self.probs)

    @classmethod
    def abstain(cls, scale: RatingScale, n_pairs: int) -> RatingDistribution:
        """Rows of NaN for `n_pairs` pairs: no prediction for any."""
        return cls(scale, np.full((n_pairs, scale.n_levels), np.nan))

    @classmethod
    def from_mean(cls, scale: RatingScale, mean: FloatArray, sd: FloatArray | float) -> RatingDistribution:
        """Distributions with exactly these means: a normal law on the levels, tilted exponentially.

        `mean` has shape `(n_pairs,)`, NaN abstains, values beyond the scale are moved to its end. Among all laws with
        that mean the tilted one is nearest (in relative entropy) to the normal law with spread `sd` around it.
        """
        mean = scale.clip(mean)
        probs = np.full((len(mean), scale.n_levels), np.nan)
        sd = np.broadcast_to(np.asarray(sd, dtype=float), mean.shape)
        # The tilt to a mean at an end of the scale is infinite: all probability is put on that level instead.
        edge = 1e-10 * (scale.high - scale.low)
        inside = (mean > scale.low + edge) & (mean < scale.high - edge)
        at_end = np.flatnonzero(~inside & ~np.isnan(mean))
        probs[at_end] = 0.0
        probs[at_end, np.where(mean[at_end] > (scale.low + scale.high) / 2, -1, 0)] = 1.0
        # A spread far below the distance of levels would leave no probability on any but one level.
        gap = float(np.diff(scale.values).min())
        z = (scale.values - mean[inside, None]) / np.maximum(sd[inside], 0.05 * gap)[:, None]
        probs[inside] = _tilted(scale.values, -0.5 * z * z, mean[inside])
        return cls(scale, probs)

    def tilted_to(self, mean: FloatArray) -> RatingDistribution:
        """The nearest distributions (in relative entropy) that have these means, shape `(n_pairs,)`.

        Means are kept a thousandth of the range away from the ends of the scale. Rows that abstain, and rows whose new
        mean is NaN, abstain.
        """
        margin = 1e-3 * (self.scale.high - self.scale.low)
        mean = np.clip(mean, self.scale.low + margin, self.scale.high - margin)
        probs = np.full_like(self.probs, np.nan)
        rows = self.answered & ~np.isnan(mean)
        log_weights = np.log(np.maximum(self.probs[rows], 1e-12))  # a level of probability 0 could never be reached
        probs[rows] = _tilted(self.scale.values, log_weights, mean[rows])
        return RatingDistribution(self.scale, probs)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which rows do not abstain, shape `(n_pairs,)`."""
        return ~np.isnan(self.probs[:, 0])

    def mean(self) -> FloatArray:
        """The expected rating of each row."""
        return dot_rows(self.probs, self.scale.values)

    def std(self) -> FloatArray:
        """The standard deviation of each row's rating."""
        second = dot_rows(self.probs, self.scale.values**2)
        return np.sqrt(np.maximum(second - self.mean() ** 2, 0.0))

    def cdf(self) -> FloatArray:
        """Probability of a rating at or below each level, shape `(n_pairs, n_levels)`; the last column is one."""
        below = np.cumsum(self.probs, axis=1)
        below[:, -1] = np.where(self.answered, 1.0, np.nan)
        return below

    def prob_of(self, ratings: ArrayLike) -> FloatArray:
        """The probability that each row gives to its rating, shape `(n_pairs,)`."""
        return self.probs[np.arange(len(self)), self.scale.index(ratings)]

    def quantile(self, at: FloatArray) -> FloatArray:
        """The smallest level whose cumulative probability exceeds `at`, one number in [0, 1) per row; NaN abstains.

        With uniform random numbers this draws ratings, see `hybrid_sim.core.seeding.pair_uniforms`.
        """
        position = (self.cdf()[:, :-1] <= np.asarray(at)[:, None]).sum(axis=1)
        return np.where(self.answered, self.scale.values[position], np.nan)

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """One rating drawn per row, on the scale; NaN where the row abstains."""
        return self.quantile(rng.random(len(self)))

    def filled(self, fallback: RatingDistribution, keep: NDArray[np.bool_] | bool = True) -> RatingDistribution:
        """The same where a row answers and `keep` holds, the row of `fallback` elsewhere."""
        stays = self.answered & keep
        return RatingDistribution(self.scale, np.where(stays[:, None], self.probs, fallback.probs))

    def take(self, rows: NDArray[np.bool_] | IntArray | slice) -> RatingDistribution:
        """The distributions of these rows, in this order."""
        return RatingDistribution(self.scale, self.probs[rows])


def _tilted(levels: FloatArray, log_weights: FloatArray, mean: FloatArray) -> FloatArray:
    """Weights exp(log_weights + λx), normalised, with λ such that the mean is right.

    The mean increases in λ with the variance as its derivative. Newton's method overshoots where the variance is small,
    so each row keeps a bracket of λ, and a step out of it is replaced by bisection.
    """
    gap = float(np.diff(levels).min())
    offsets = levels - mean[:, None]
    # At the ends of the first bracket one level outweighs the next by e^60 at least, beyond double precision.
    reach = (60.0 + np.ptp(log_weights, axis=1)) / gap
    low, high, tilt = -reach, reach.copy(), np.zeros(len(mean))
    probs = np.empty_like(offsets)
    active = np.arange(len(mean))
    for _ in range(80):
        x = offsets[active]
        exponent = log_weights[active] + tilt[active, None] * x
        weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        probs[active] = weights
        error = (weights * x).sum(axis=1)
        low[active] = np.where(error < 0, tilt[active], low[active])
        high[active] = np.where(error > 0, tilt[active], high[active])
        open_ = np.abs(error) > 1e-13 * max(1.0, float(np.abs(levels).max()))
        if not open_.any():
            break
        variance = (weights * x * x).sum(axis=1) - error**2
        active, error, variance = active[open_], error[open_], variance[open_]
        step = tilt[active] - error / np.maximum(variance, 1e-300)
        inside = (step > low[active]) & (step < high[active])
        tilt[active] = np.where(inside, step, (low[active] + high[active]) / 2)
    return probs
