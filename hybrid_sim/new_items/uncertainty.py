"""How far the mean of an item's ratings may be from what was expected before anybody rated it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, RatingScale
from hybrid_sim.ensemble.ensemble import Ensemble

LEAST_RATINGS = 10
"""Ratings of an item from which its mean says something, and from which it is clear whether it was taken for new."""

MOSTLY = 0.6
"""Share of an item's ratings about which there is an opinion as if it or their user were new, from which it was the
item: the shares of users that are taken for new are about half of that (`Ensemble.n_cold` times `cold_share`)."""

LEAST_ITEMS = 20
"""Fewer items teach nothing about items."""


@dataclass(frozen=True)
class LevelDoubt:
    """What is not known about a new item as a whole; many users do not average it out.

    Learned from items that were taken for new ones while the ensemble learned: `gaps`, ascending, in rating units, are
    how far the mean of an item's ratings was from the mean that had been expected of them, for items with ten ratings
    or more. Most gaps are below zero: rarely rated items are liked less, and most items are rarely rated, but most
    ratings, which the ensemble learns from, are of the others.
    """

    gaps: FloatArray

    @classmethod
    def learn(cls, ensemble: Ensemble, dataset: Dataset) -> LevelDoubt | None:
        """From what the ensemble said about `dataset`'s ratings while their items had none; None from too few items."""
        held = ensemble.held_opinion(dataset.pairs, cold=True)
        n_held = np.bincount(dataset.item, weights=held.answered, minlength=dataset.n_items)
        chosen = (dataset.item_counts >= LEAST_RATINGS) & (n_held >= MOSTLY * dataset.item_counts)
        if chosen.sum() < LEAST_ITEMS:
            return None
        gap = np.where(held.answered, dataset.rating - held.mean(), 0.0)
        total = np.bincount(dataset.item, weights=gap, minlength=dataset.n_items)
        return cls(np.sort(total[chosen] / n_held[chosen]))

    def interval(self, mean: float, scale: RatingScale, level: float) -> tuple[float, float]:
        """Where the mean of an item's ratings will be in `level` of the cases, within the scale.

        Split conformal (Vovk et al. 2005) over items: exchangeable with those learned from, a new item lies within with
        at least that probability, if there are items enough for it.
        """
        n, outside = len(self.gaps), (1.0 - level) / 2
        low = max(int(np.floor(outside * (n + 1))) - 1, 0)
        ends = scale.clip([mean + self.gaps[low], mean + self.gaps[n - 1 - low]])
        return float(ends[0]), float(ends[1])
