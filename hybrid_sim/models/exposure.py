"""Features of users and items for the priors of the factorization: side information, activity and exposure.

Exposure is who rated what, whatever the rating: it is side information too (Koren 2008, SVD++).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.models.linked_prior import FeatureBlock
from hybrid_sim.models.side_features import SideEncoder

MAX_RANK = 100
"""Principal axes that are kept of each block of features."""


@dataclass(frozen=True)
class UserFeatures:
    """Side information and rated items of users, in terms learned from the users of a fit.

    `typical_count` is how many ratings a user of the fit has, as a geometric mean. `centres` and `axes`
    belong to the three `FeatureBlock`s: side information, activity and rated items.
    """

    encoder: SideEncoder
    typical_count: float
    centres: list[FloatArray]
    axes: list[FloatArray]

    @classmethod
    def learn(cls, dataset: Dataset) -> tuple[UserFeatures, list[FeatureBlock]]:
        """The terms, and the blocks of the users of `dataset` itself."""
        encoder = SideEncoder().fit(dataset.users)
        rated = dataset.user_counts > 0
        met = meetings(dataset.user, dataset.item, dataset.n_users, dataset.n_items)[np.flatnonzero(rated)]
        blocks = [
            FeatureBlock.of(encoder.encode(dataset.users), MAX_RANK),
            spread_out(FeatureBlock.of(_activity(dataset), MAX_RANK), rated),
            spread_out(FeatureBlock.of(met, MAX_RANK), rated),
        ]
        typical_count = float(np.expm1(np.log1p(dataset.user_counts[rated]).mean()))
        features = cls(encoder, typical_count, [b.centre for b in blocks], [b.axes for b in blocks])
        return features, blocks

    def scores(self, dataset: Dataset) -> list[FloatArray]:
        """Scores of new users with the same items as the fit, one array `(n_users, rank)` per block.

        A new user's ratings are the beginning of a history, those of the fit's users the whole of one. So
        their number and times say nothing yet, activity is taken for average, and a history shorter than the
        typical one is completed by items as the average user rates them.
        """
        counts = dataset.user_counts
        whole = np.maximum(counts, self.typical_count)
        met = meetings(dataset.user, dataset.item, dataset.n_users, dataset.n_items)
        side, activity, items = self.axes
        average = self.centres[2] @ items
        known = np.sqrt(counts / whole)[:, None] * (met @ items)
        completed = ((whole - counts) / np.sqrt(whole))[:, None] * (average / self.centres[2].sum())
        return [
            self.encoder.encode(dataset.users) @ side - self.centres[0] @ side,
            np.zeros((dataset.n_users, activity.shape[1])),
            np.where((counts > 0)[:, None], known + completed - average, 0.0),
        ]


def _activity(dataset: Dataset) -> FloatArray:
    """Log count, mean time and its squared distance to the mean of users with ratings, standardised."""
    rated = dataset.user_counts > 0
    columns = [np.log1p(dataset.user_counts)]
    if dataset.timestamp is not None:
        sums = np.bincount(dataset.user, weights=dataset.timestamp, minlength=dataset.n_users)
        when = sums / np.maximum(dataset.user_counts, 1)
        columns += [when, (when - when[rated].mean()) ** 2]
    activity = np.column_stack(columns)[rated]
    return np.asarray((activity - activity.mean(axis=0)) / np.maximum(activity.std(axis=0), 1e-9))


def meetings(own: IntArray, other: IntArray, n_own: int, n_other: int) -> sp.csr_array:
    """Whom each row met, shape `(n_own, n_other)`; a row of n meetings has entries 1/sqrt(n)."""
    counts = np.bincount(own, minlength=n_own)
    return sp.csr_array((1.0 / np.sqrt(counts[own]), (own, other)), shape=(n_own, n_other))


def spread_out(block: FeatureBlock, rated: NDArray[np.bool_]) -> FeatureBlock:
    """The block of the rated rows, with zero scores for all others: they are at the mean."""
    scores = np.zeros((len(rated), block.scores.shape[1]))
    scores[rated] = block.scores
    return replace(block, scores=scores)
