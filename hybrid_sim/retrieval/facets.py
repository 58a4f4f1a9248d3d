"""Signed facets: a profile vector of what the user likes and another of what the user dislikes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.registry import Member, rater
from hybrid_sim.models.training import is_known
from hybrid_sim.retrieval.content import centred, item_vectors
from hybrid_sim.retrieval.embedder import default_embedder
from hybrid_sim.retrieval.products import pair_products

SLOPE_DOUBT = 1 / 9
"""Prior precision of the slope: in units of residual spread per unit score it is expected within ±3."""


@rater(
    "facets",
    order=31,
    component="embeddings",
    explanation="this user's ratings of similar items",
    members=[Member("facets")],
)
@dataclass
class SignedFacets:
    """Predicts biases plus slope × (likes - dislikes) · item.

    A user's `likes` is the sum of the text vectors of items rated above expectation (global mean + user +
    item bias), weighted by how far above, and shortened to length |sum| / (shrink + |sum|), so that little
    evidence makes a short profile; `dislikes` likewise from below. One text for both has no sign: its
    similarity to an item hardly tells the rating. The slope is a ridge regression on scores that leave the
    rating itself out. A user without ratings, an unknown item and an item without text are abstained from.
    """

    embedder: Embedder = field(default_factory=default_embedder)
    shrink: float = 5.0
    biases_: Biases = field(init=False, repr=False)
    embedder_name_: str = field(init=False, repr=False)
    vectors_: FloatArray = field(init=False, repr=False)
    has_text_: NDArray[np.bool_] = field(init=False, repr=False)
    likes_: FloatArray = field(init=False, repr=False)
    dislikes_: FloatArray = field(init=False, repr=False)
    slope_: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.shrink) and self.shrink > 0):
            raise SettingsError(f"shrink of SignedFacets is a number above 0, got {self.shrink}")

    def fit(self, dataset: Dataset) -> Self:
        """Build both profiles, shape `(n_users, dim)`, and the slope in rating units per unit score.

        Raises:
            DataError: there are no ratings.
        """
        self.biases_ = Biases().fit(dataset)
        self.vectors_ = centred(item_vectors(dataset, self.embedder))
        self.has_text_ = np.any(self.vectors_ != 0, axis=1)
        self.embedder_name_ = self.embedder.name
        residuals = (dataset.rating - self.biases_.expect(dataset.pairs)) / self.biases_.spread_
        self.likes_, scores_for = self._profile(dataset, np.maximum(residuals, 0.0))
        self.dislikes_, scores_against = self._profile(dataset, np.maximum(-residuals, 0.0))
        scores = scores_for - scores_against
        slope = (scores @ residuals) / (scores @ scores + SLOPE_DOUBT)
        self.slope_ = float(slope * self.biases_.spread_)
        return self

    def _profile(self, dataset: Dataset, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Profiles from weighted items, and each training pair's score with its own rating left out."""
        shape = (dataset.n_users, dataset.n_items)
        total = scipy.sparse.csr_array((weights, (dataset.user, dataset.item)), shape=shape) @ self.vectors_
        squares = np.einsum("ud,ud->u", total, total)
        own = self.vectors_[dataset.item]
        products = np.einsum("pd,pd->p", own, total[dataset.user])
        lengths = np.einsum("pd,pd->p", own, own)
        left = np.maximum(squares[dataset.user] - 2 * weights * products + weights**2 * lengths, 0.0)
        scores = (products - weights * lengths) / (self.shrink + np.sqrt(left))
        return total / (self.shrink + np.sqrt(squares))[:, None], scores

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean, as wide as the residuals of the biases."""
        return RatingDistribution.from_mean(self.biases_.scale_, self.expect(pairs), self.biases_.spread_)

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        return self.biases_.expect(pairs) + self.slope_ * self.score(pairs)

    def score(self, pairs: Pairs) -> FloatArray:
        """(likes - dislikes) · item of each pair, between -2 and 2, NaN where the rater abstains."""
        known = is_known(self.biases_.user_rated_, pairs.user) & (pairs.item >= 0)
        known[known] &= self.has_text_[pairs.item[known]]
        user, item = pairs.user[known], pairs.item[known]
        scores = np.full(len(pairs), np.nan)
        for_item = pair_products(user, item, self.likes_, self.vectors_)
        scores[known] = for_item - pair_products(user, item, self.dislikes_, self.vectors_)
        return scores
