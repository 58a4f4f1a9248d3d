"""Uncertainty about the mean rating of a new item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.linear_model import GammaRegressor

from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, RatingScale
from hybrid_sim.ensemble.cold_items import ColdItems

MIN_ITEMS = 20
"""Fewer held-out items give no interval."""

N_CROSS = 10
"""Folds of items for the scores."""

PENALTY = 0.3
"""Ridge penalty of the regression of the gaps. Chosen by cross-fitting on inner held-out items of MovieLens 100K and
ml-latest-small: of .03 to 1 it covers the narrowest and the widest fifth most alike (.90 and .91, .89 and .90)."""

LEAST_GAP = 0.005
"""Smaller gaps, as parts of the scale's range, count as this: a gamma distribution has no zero."""

REACH = 3.0
"""Features further from their means than this, in standard deviations, are moved there."""


@dataclass(frozen=True)
class _GapScale:
    """The median gap, and the expected distance of a gap from it as a log-linear function of an item's features."""

    median: float
    centre: FloatArray
    spread: FloatArray
    regression: GammaRegressor

    @classmethod
    def fit(cls, features: FloatArray, gaps: FloatArray, least: float) -> Self:
        median, centre, spread = float(np.median(gaps)), features.mean(axis=0), features.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        regression = GammaRegressor(alpha=PENALTY, max_iter=1000)
        regression.fit((features - centre) / spread, np.maximum(np.abs(gaps - median), least))
        return cls(median, centre, spread, regression)

    def of(self, features: FloatArray) -> FloatArray:
        """The expected distance for each item, shape `(n_items,)`, in rating units."""
        standard = np.clip((features - self.centre) / self.spread, -REACH, REACH)
        return np.asarray(self.regression.predict(standard))


@dataclass(frozen=True)
class ItemMeanInterval:
    """Normalised split conformal intervals for the mean rating of a new item (Papadopoulos et al. 2008).

    The uncertainty is about the item as a whole, so averaging over users does not reduce it. A gap is the true less
    the predicted mean of an item that was held out as new while the ensemble was fitted; its score is its distance from
    the median gap, divided by what is expected of an item with its features. `scores` are ascending, each by a
    regression that had not seen the item. Most gaps are below zero: rarely rated items are liked less and most items
    are rarely rated, but most ratings, from which the ensemble learns, are of the others.
    """

    scores: FloatArray
    gap_scale: _GapScale

    @classmethod
    def learn(cls, items: ColdItems, scale: RatingScale, seed: int = 0) -> Self | None:
        """From items that were held out; None where there are fewer than `MIN_ITEMS`."""
        features, gaps = items.features, items.mean_ratings - items.features[:, 0]
        if len(gaps) < MIN_ITEMS:
            return None
        least = LEAST_GAP * (scale.high - scale.low)
        fold = stream(seed, "gaps").permutation(len(gaps)) % N_CROSS
        scores = np.empty(len(gaps))
        for k in range(N_CROSS):
            own = fold == k
            gap_scale = _GapScale.fit(features[~own], gaps[~own], least)
            scores[own] = (gaps[own] - gap_scale.median) / gap_scale.of(features[own])
        return cls(np.sort(scores), _GapScale.fit(features, gaps, least))

    def interval(self, means: FloatArray, features: FloatArray, scale: RatingScale, level: float) -> FloatArray:
        """Both ends for each item, shape `(n_items, 2)`, within the scale; they cover with probability `level`.

        `features` are those of `Ensemble.item_features`. The ends are the floor((1 - level) / 2 · (n + 1)) outermost of
        the `n` scores, times what is expected of the item's gap, around the predicted mean plus the median gap (split
        conformal, Vovk et al. 2005: the `n` items are exchangeable with the new one).
        """
        n, outside = len(self.scores), (1.0 - level) / 2
        low = max(int(np.floor(outside * (n + 1))) - 1, 0)
        around, width = means + self.gap_scale.median, self.gap_scale.of(features)
        ends = [around + width * self.scores[low], around + width * self.scores[n - 1 - low]]
        return scale.clip(np.column_stack(ends))
