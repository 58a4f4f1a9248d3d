"""A Gaussian process per user over what items are: their text, genres and year, and how others like them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder, vector_length
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.rater import FitCost
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.registry import TASTE, Member, rater
from hybrid_sim.models.training import is_known
from hybrid_sim.retrieval.content import genre_block, item_vectors, rows_by_user, text_block, year_block
from hybrid_sim.retrieval.embedder import default_embedder
from hybrid_sim.retrieval.products import pair_products, precision_factor, solved, whitened

NOISE_SUPPORT = 20.0
"""With this many ratings a user's own noise counts as much as everyone's."""

LEAST_NOISE = 0.01
"""Nobody's noise is estimated below this part of the prior noise."""

CONTENT_SHARE = 0.5
"""The part of the variance of item levels that is expected to follow from content, before any rating."""

N_PLAIN = 2
"""The first features, constant and quality, are not about the content of an item."""


class _Posterior(NamedTuple):
    """Of one history: features and noise variances of the items rated, Cholesky factor of the precision."""

    features: FloatArray
    noise: FloatArray
    factor: FloatArray

    def weights(self, residuals: FloatArray) -> FloatArray:
        """The mean of the user's weights, shape `(n_features,)`."""
        weighted = np.einsum("hf,h->f", self.features, residuals / self.noise)
        return np.asarray(solved(self.factor, weighted[None])[0])

    def variance(self, features: FloatArray) -> FloatArray:
        """The variance of the deviation at each row of `features`, shape `(n_rows,)`."""
        reduced = whitened(self.factor, features)
        return np.asarray(np.einsum("rf,rf->r", reduced, reduced))

    def residuals(self, residuals: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What the weights leave over of each rating, and by how much each rating decides its own prediction."""
        expected = np.einsum("hf,f->h", self.features, self.weights(residuals))
        return residuals - expected, self.variance(self.features) / self.noise


@dataclass(frozen=True)
class Influences:
    """What a user's ratings do to predictions, in rating units.

    Row h of `weights`, shape `(n_history, n_features)`, is the part of the user's weights that is due to rating h: by
    its inner product with an item's features the prediction for that item would fall if the rating were not there.
    `surprise`, shape `(n_history,)`, is how far each rating was above what the others let expect.
    """

    weights: FloatArray
    surprise: FloatArray


@rater(
    "content_gp",
    order=32,
    component="embeddings",
    group=TASTE,
    members=[Member("content_gp", light=True)],
)
@dataclass
class ContentGP:
    """Predicts an item's level plus the user's deviation from it, which is a function of the item's content.

    The deviation is a Gaussian process with a linear kernel over blocks of features (Rasmussen and Williams 2006,
    section 2.1): a constant (how generous the user is), `quality` (how far the user follows the others), text vectors,
    genres and year. The settings are the prior variances of each block and of the noise, in units of the variance of
    ratings about their item's level, so that they hold on any scale; the defaults were chosen on held-out fifths of
    training rows of MovieLens 100K. An item's level is the shrunk mean of its ratings. It is shrunk to what its content
    suggests, which is all there is for an item without ratings.

    A user without ratings and an unknown item are abstained from. Where text, genres or year of an item are
    unknown, the variance of that block stays in the spread. Each user's noise is shrunk to everyone's.
    """

    embedder: Embedder = field(default_factory=default_embedder)
    generosity: float = 0.15
    quality: float = 0.03
    text: float = 0.10
    genres: float = 0.07
    year: float = 0.08
    noise: float = 0.75
    text_dim: int = 64
    scale_: RatingScale = field(init=False, repr=False)
    item_level_: FloatArray = field(init=False, repr=False)
    features_: FloatArray = field(init=False, repr=False)
    unseen_variance_: FloatArray = field(init=False, repr=False)
    noise_variance_: float = field(init=False, repr=False)
    history_start_: IntArray = field(init=False, repr=False)
    history_item_: IntArray = field(init=False, repr=False)
    user_weights_: FloatArray = field(init=False, repr=False)
    user_noise_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        variances = {name: getattr(self, name) for name in ("generosity", "quality", "text", "genres", "year")}
        for name, value in {**variances, "noise": self.noise}.items():
            if not (np.isfinite(value) and value >= 0) or (name == "noise" and value == 0):
                raise SettingsError(f"{name} of ContentGP is a variance, at least 0 (noise: above 0), got {value}")
        if self.text_dim < 1:
            raise SettingsError(f"text_dim of ContentGP is a number of directions, at least 1, got {self.text_dim}")

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Vectors of items and features cut from them, weights of users; a small system per user."""
        n_features = self.text_dim + 40
        of_items = dataset.n_items * (20.0 * vector_length(self.embedder) + 40.0 * n_features)
        memory = of_items + 8.0 * n_features * dataset.n_users + 100.0 * len(dataset)
        return FitCost(memory, 1e-4 * dataset.n_users + 5e-10 * n_features**2 * len(dataset))

    def fit(self, dataset: Dataset) -> Self:
        """Learn every user's deviation; one Cholesky factorization per user.

        Shapes: `features_` `(n_items, n_features)`, `user_weights_` `(n_users, n_features)`,
        `unseen_variance_` `(n_items,)` (of unknown content, squared rating units), `user_noise_` `(n_users,)`
        (a factor to `noise_variance_`). The history is sorted by user.
        """
        content, unseen = self._content(dataset)
        biases = Biases().fit(dataset)
        effect = _item_effects(dataset, biases, content)
        self.scale_ = dataset.scale
        self.item_level_ = biases.global_mean_ + effect
        residuals = dataset.rating - self.item_level_[dataset.item]
        variance = max(float(np.mean(residuals**2)), 1e-12)
        typical = max(float(np.sqrt(np.mean(effect[dataset.item] ** 2))), 1e-9)
        constant = np.full(dataset.n_items, np.sqrt(self.generosity))
        blocks = np.column_stack([constant, np.sqrt(self.quality) * effect / typical, content])
        self.features_ = np.sqrt(variance) * blocks
        self.unseen_variance_ = variance * unseen
        self.noise_variance_ = variance * self.noise
        by_user = np.argsort(dataset.user, kind="stable")
        self.history_start_ = np.concatenate([[0], np.cumsum(dataset.user_counts)]).astype(np.int64)
        self.history_item_ = dataset.item[by_user]
        self._fit_users(residuals[by_user])
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A bell around the predicted mean, as wide as the predicted spread."""
        return RatingDistribution.from_mean(self.scale_, self.expect(pairs), self.spread(pairs))

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        mean = np.full(len(pairs), np.nan)
        known = self._known(pairs)
        user, item = pairs.user[known], pairs.item[known]
        mean[known] = self.item_level_[item] + pair_products(user, item, self.user_weights_, self.features_)
        return mean

    def spread(self, pairs: Pairs) -> FloatArray:
        """The predicted standard deviation of each pair's rating, NaN where the rater abstains.

        The posterior of each user asked about is factorized again: keeping all of them would take
        n_users × n_features² numbers.
        """
        variance = np.full(len(pairs), np.nan)
        for user, rows in rows_by_user(pairs, self._known(pairs)):
            items, posterior = pairs.item[rows], self._posterior(self._rated_by(user))
            own_noise = self.noise_variance_ * self.user_noise_[user]
            variance[rows] = posterior.variance(self.features_[items]) + self.unseen_variance_[items] + own_noise
        return np.asarray(np.sqrt(variance))

    def influences(self, history: IntArray, ratings: FloatArray) -> Influences:
        """By how much each rating of a user's `history`, row numbers of items, moves the predictions.

        The prediction for item i less what it would be had the user not rated item h (levels of items stay as they
        are): with the posterior covariance c of i and h, the residual e of h and its noise s, it is c e / (s - c_hh)
        (leave-one-out, Rasmussen and Williams 2006, section 5.4.2). The history need not be that of the fit.
        """
        posterior = self._posterior(history)
        residuals = ratings - self.item_level_[history]
        rest, leverage = posterior.residuals(residuals)
        surprise = rest / (1.0 - leverage)
        pull = (surprise / posterior.noise)[:, None] * solved(posterior.factor, posterior.features)
        return Influences(pull, surprise)

    def _known(self, pairs: Pairs) -> NDArray[np.bool_]:
        rated = np.diff(self.history_start_) > 0
        return is_known(rated, pairs.user) & (pairs.item >= 0)

    def _content(self, dataset: Dataset) -> tuple[FloatArray, FloatArray]:
        """Weighted content features, and per item the prior variance of content that is not known."""
        vectors = item_vectors(dataset, self.embedder)
        blocks = [
            (self.text, text_block(vectors, self.text_dim)),
            (self.genres, genre_block(dataset.items)),
            (self.year, year_block(dataset.items)),
        ]
        content = np.hstack([np.sqrt(weight) * block for weight, block in blocks])
        in_use = sum(weight for weight, block in blocks if block.any())
        return content, np.maximum(in_use - np.einsum("if,if->i", content, content), 0.0)

    def _fit_users(self, residuals: FloatArray) -> None:
        """Weights per user, and noise from standardised leave-one-out residuals; rows are sorted by user."""
        counts = np.diff(self.history_start_)
        self.user_weights_ = np.zeros((len(counts), self.features_.shape[1]))
        surprise = np.zeros(len(counts))
        for user in np.flatnonzero(counts).tolist():
            own = residuals[self.history_start_[user] : self.history_start_[user + 1]]
            posterior = self._posterior(self._rated_by(user))
            rest, leverage = posterior.residuals(own)
            unseen = posterior.noise - self.noise_variance_
            surprise[user] = np.sum(rest**2 / (1.0 - leverage) - unseen) / self.noise_variance_
            self.user_weights_[user] = posterior.weights(own)
        overall = max(surprise.sum() / counts.sum(), LEAST_NOISE)
        shrunk = (NOISE_SUPPORT * overall + surprise) / (NOISE_SUPPORT + counts)
        self.user_noise_ = np.maximum(shrunk, LEAST_NOISE)

    def _rated_by(self, user: int) -> IntArray:
        return self.history_item_[self.history_start_[user] : self.history_start_[user + 1]]

    def _posterior(self, items: IntArray) -> _Posterior:
        features, noise = self.features_[items], self.noise_variance_ + self.unseen_variance_[items]
        return _Posterior(features, noise, precision_factor(features, noise))


def _item_effects(dataset: Dataset, biases: Biases, content: FloatArray) -> FloatArray:
    """How far each item is rated above the global mean, shape `(n_items,)`, shrunk to what its content predicts.

    Two levels of normal shrinkage: effect = content · v + own part, ratings = effect + noise, all three
    variances by moments. Items weigh by their ratings in v: people meet what is much rated, so that an item
    without ratings is expected to be like those.
    """
    counts = dataset.item_counts
    residuals = dataset.rating - biases.global_mean_ - biases.user_bias_[dataset.user]
    means = np.bincount(dataset.item, residuals, dataset.n_items) / np.maximum(counts, 1)
    n_rated = int(np.count_nonzero(counts))
    within = float(np.sum((residuals - means[dataset.item]) ** 2))
    noise = within / max(len(dataset) - n_rated, 1) + 1e-12
    between = max((float(np.sum(counts * means**2)) - n_rated * noise) / len(dataset), 0.01 * noise)
    reach = max(float(np.einsum("if,if->i", content, content).max()), 1e-12)
    scaled = np.sqrt(CONTENT_SHARE * between / reach) * content
    design = np.column_stack([np.full(dataset.n_items, np.sqrt(noise)), scaled])
    weighted = design * (counts / noise)[:, None]
    suggested = design @ np.linalg.solve(design.T @ weighted + np.eye(design.shape[1]), weighted.T @ means)
    own_support = noise / ((1.0 - CONTENT_SHARE) * between)
    return np.asarray(suggested + counts / (counts + own_support) * (means - suggested))
