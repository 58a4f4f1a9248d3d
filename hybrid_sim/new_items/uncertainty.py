"""Uncertainty about the mean rating of a new item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, RatingScale
from hybrid_sim.ensemble.ensemble import Ensemble

MIN_RATINGS = 10
"""Fewer ratings of an item say too little about their mean, and about whether the item was held out as new."""

MIN_COLD_SHARE = 0.6
"""An item was held out as new if at least this share of its ratings has an out-of-fold prediction without item ratings.
Holding out users instead gives about half of that (`Ensemble.n_cold` times `cold_share`)."""

MIN_ITEMS = 20
"""Fewer held-out items give no interval."""


@dataclass(frozen=True)
class ItemMeanInterval:
    """Split conformal intervals for the mean rating of a new item.

    The uncertainty is about the item as a whole, so averaging over users does not reduce it. `gaps`, ascending, in
    rating units, are true less predicted mean of items that were held out as new while the ensemble was fitted. Most
    are below zero: rarely rated items are liked less and most items are rarely rated, but most ratings, from which the
    ensemble learns, are of the others.
    """

    gaps: FloatArray

    @classmethod
    def learn(cls, ensemble: Ensemble, dataset: Dataset) -> ItemMeanInterval | None:
        """From the out-of-fold predictions of ratings of held-out items; None where there are too few such items."""
        predicted = ensemble.out_of_fold(dataset.pairs, cold=True)
        n_predicted = np.bincount(dataset.item, weights=predicted.answered, minlength=dataset.n_items)
        held_out = (dataset.item_counts >= MIN_RATINGS) & (n_predicted >= MIN_COLD_SHARE * dataset.item_counts)
        if held_out.sum() < MIN_ITEMS:
            return None
        gap = np.where(predicted.answered, dataset.rating - predicted.mean(), 0.0)
        total = np.bincount(dataset.item, weights=gap, minlength=dataset.n_items)
        return cls(np.sort(total[held_out] / n_predicted[held_out]))

    def interval(self, mean: float, scale: RatingScale, level: float) -> tuple[float, float]:
        """The interval around a predicted mean, within the scale; it covers the true mean with probability `level`.

        Split conformal (Vovk et al. 2005) over `n` items, exchangeable with the new one: the ends are the
        floor((1 - level) / 2 · (n + 1)) outermost gaps.
        """
        n, outside = len(self.gaps), (1.0 - level) / 2
        low = max(int(np.floor(outside * (n + 1))) - 1, 0)
        ends = scale.clip([mean + self.gaps[low], mean + self.gaps[n - 1 - low]])
        return float(ends[0]), float(ends[1])
