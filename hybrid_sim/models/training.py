"""What the statistical raters share: checks of settings and data, and the normal shape around a predicted mean."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale

BELL_STEPS = 1024
"""Steps across the scale at which bells are computed; between them they are interpolated."""


def require_positive(rater: object, **settings: float) -> None:
    """Refuse settings that are not positive numbers.

    Raises:
        SettingsError: one of `settings` is zero, negative, infinite or NaN.
    """
    for name, value in settings.items():
        if not (np.isfinite(value) and value > 0):
            raise SettingsError(f"{name} of {type(rater).__name__} must be a positive number, got {value}")


def require_seed(rater: object, seed: int) -> None:
    """Refuse what numpy's older generators, which Surprise uses, take for no seed.

    Raises:
        SettingsError: `seed` is not a whole number of 32 bits.
    """
    if not (isinstance(seed, int) and 0 <= seed < 2**32):
        raise SettingsError(f"seed of {type(rater).__name__} must be a whole number from 0 to 2**32 - 1, got {seed}")


def require_ratings(dataset: Dataset) -> None:
    """Refuse a data set without ratings.

    Raises:
        DataError: there is nothing to learn from.
    """
    if len(dataset) == 0:
        raise DataError(
            f"data set {dataset.name!r} has no ratings to learn from; name a file, or a fold, that has some"
        )


def residual_spread(scale: RatingScale, residuals: FloatArray) -> float:
    """Root mean square of the training residuals, at least a quarter of the smallest gap between levels.

    Residuals on training data are smaller than on new pairs: what is made of this spread is calibrated later.
    """
    least = float(np.diff(scale.values).min()) / 4
    return max(float(np.sqrt(np.mean(residuals**2))), least)


class BellRater:
    """Answers with a bell around `expect`, the same for every pair: `scale_` and `spread_` are set by `fit`."""

    scale_: RatingScale
    spread_: float

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        raise NotImplementedError

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean."""
        return bell(self.scale_, self.expect(pairs), self.spread_)


def bell(scale: RatingScale, mean: FloatArray, spread: float) -> RatingDistribution:
    """`RatingDistribution.from_mean` for one spread and many pairs, interpolated between `BELL_STEPS` means.

    A mixture of two distributions has the mixture of their means, so that the means stay exact, moved into
    the scale; the spread grows by at most half a step. NaN abstains.
    """
    table = _bell_table(scale, spread)
    position = (scale.clip(mean) - scale.low) / (scale.high - scale.low) * BELL_STEPS
    answered = ~np.isnan(position)
    step = np.where(answered, position, 0.0).astype(np.int64).clip(0, BELL_STEPS - 1)
    weight = (position - step)[:, None]
    return RatingDistribution(scale, (1.0 - weight) * table[step] + weight * table[step + 1])


@lru_cache(maxsize=64)
def _bell_table(scale: RatingScale, spread: float) -> FloatArray:
    table = RatingDistribution.from_mean(scale, np.linspace(scale.low, scale.high, BELL_STEPS + 1), spread).probs
    table.flags.writeable = False
    return table


def is_known(rated: NDArray[np.bool_], rows: IntArray) -> NDArray[np.bool_]:
    """Which row numbers (-1 is unknown) belong to a user or item that `rated` marks as seen in training."""
    return (rows >= 0) & rated[rows]
