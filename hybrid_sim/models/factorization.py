"""Bayesian matrix factorization with side information, Gaussian or ordinal, sampled by Gibbs steps.

The prior mean of a user's or item's vector is a linear function of side information (`gibbs.LinkedPrior`); exposure,
which items a user rated and which users rated an item, is side information too (Koren 2008, SVD++; Rendle et al. 2019).
Every user and item has a noise precision of its own, so that erratic raters count less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.rater import FitCost
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models import gibbs
from hybrid_sim.models.features import MAX_RANK, FeatureBlock, SideEncoder, UserFeatures, exposure, spread_out
from hybrid_sim.models.gibbs import LinkedPrior
from hybrid_sim.models.registry import OTHERS, Member, rater
from hybrid_sim.models.training import require_positive, require_ratings

MAX_ORDINAL_LEVELS = 25
_TABLE_REACH = 6.5
_NORMAL_TABLE = ndtr(np.linspace(-_TABLE_REACH, _TABLE_REACH, 4097))


def _ordinal(scale: RatingScale) -> dict[str, Any]:
    """The ordinal response where the scale has few enough levels."""
    return {"response": "ordinal" if scale.n_levels <= MAX_ORDINAL_LEVELS else "gaussian"}


# Four chains carry most of the ensemble's weight: the average of two Gaussian ones varies less than either, and of the
# two ordinal ones, which give whole distributions, one is fitted without exposure, which new items do not have.
@rater(
    "factorization",
    order=50,
    component="factorization",
    group=OTHERS,
    members=[
        Member("factorization_1"),
        Member("factorization_2"),
        Member("levels", shape=True, settings=_ordinal),
        Member(
            "levels_content", "embeddings", shape=True, settings=lambda scale: _ordinal(scale) | {"exposure": False}
        ),
    ],
)
@dataclass
class BayesianFactorization:
    """Rating = user bias + item bias + inner product of `n_factors` factors + noise.

    `response` "gaussian" takes ratings as numbers; "ordinal" takes them as levels between cutpoints of a hidden normal
    variable (Albert and Chib 1993), the better distribution. `exposure` False leaves out whatever tells how often and
    with whom an item was rated: for items without ratings, which would be taken for unpopular ones.
    `embedder` adds the texts of items. `n_draws` posterior draws are kept, evenly spaced over the
    `n_iterations` sweeps after `burn_in`.
    """

    response: Literal["gaussian", "ordinal"] = "gaussian"
    n_factors: int = 16
    n_iterations: int = 160
    burn_in: int = 30
    n_draws: int = 64
    exposure: bool = True
    user_noise: float = 10.0
    item_noise: float = 20.0
    prior_strength: float = 0.1
    seed: int = 0
    embedder: Embedder | None = None
    scale_: RatingScale = field(init=False, repr=False)
    centre_: float = field(init=False, repr=False)
    unit_: float = field(init=False, repr=False)
    user_vectors_: FloatArray = field(init=False, repr=False)
    item_vectors_: FloatArray = field(init=False, repr=False)
    cuts_: FloatArray = field(init=False, repr=False)
    user_precision_: FloatArray = field(init=False, repr=False)
    item_precision_: FloatArray = field(init=False, repr=False)
    item_ids_: pd.Index = field(init=False, repr=False)
    user_features_: UserFeatures = field(init=False, repr=False)
    user_prior_weights_: list[FloatArray] = field(init=False, repr=False)
    user_prior_precision_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_draws=self.n_draws, user_noise=self.user_noise)
        require_positive(self, item_noise=self.item_noise, prior_strength=self.prior_strength)
        if self.n_iterations - self.burn_in < self.n_draws:
            raise SettingsError(
                f"{self.n_iterations} iterations less {self.burn_in} of burn-in do not give {self.n_draws} draws"
            )

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Draws as they are gathered, and once more stacked; columns of the ratings; two sweeps over the factors."""
        n_rows, n_vector = dataset.n_users + dataset.n_items, self.n_factors + 1
        memory = 20.0 * self.n_draws * n_rows * n_vector + 150.0 * len(dataset) + 40.0 * n_rows * MAX_RANK
        return FitCost(memory, self.n_iterations * (3.5e-7 * len(dataset) + 3e-6 * n_rows))

    def fit(self, dataset: Dataset) -> Self:
        """Run the sampler and keep draws.

        Raises:
            DataError: there are no ratings.
            SettingsError: the scale has too many levels for an ordinal response.
        """
        require_ratings(dataset)
        if self.response == "ordinal" and dataset.scale.n_levels > MAX_ORDINAL_LEVELS:
            raise SettingsError(
                f"an ordinal response takes at most {MAX_ORDINAL_LEVELS} levels, the scale has "
                f"{dataset.scale.n_levels}; use response='gaussian'"
            )
        self.scale_ = dataset.scale
        chain = _Chain(self, dataset)
        kept = np.linspace(self.burn_in, self.n_iterations - 1, self.n_draws).astype(int)
        draws = []
        for sweep in range(self.n_iterations):
            chain.sweep()
            if sweep in kept:
                draws.append(chain.snapshot())
        self.centre_, self.unit_ = chain.centre, chain.unit
        for name in ("user_vectors", "item_vectors", "user_precision", "item_precision"):
            setattr(self, f"{name}_", np.stack([getattr(draw, name) for draw in draws], axis=1).astype(np.float32))
        self.cuts_ = np.stack([draw.cuts for draw in draws])
        self.item_ids_, self.user_features_ = dataset.items.index, chain.user_features
        by_block = zip(*(draw.user_prior_weights for draw in draws), strict=True)
        self.user_prior_weights_ = [np.stack(weights).astype(np.float32) for weights in by_block]
        self.user_prior_precision_ = np.stack([draw.user_prior_precision for draw in draws]).astype(np.float32)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The posterior predictive distribution; a pair of which neither user nor item is known is abstained from."""
        known = (pairs.user >= 0) | (pairs.item >= 0)
        asked = pairs.take(known)
        probs = np.full((len(pairs), self.scale_.n_levels), np.nan)
        probs[known] = self._ordinal(asked) if self.response == "ordinal" else self._gaussian(asked)
        return RatingDistribution(self.scale_, probs)

    def expect(self, pairs: Pairs) -> FloatArray:
        """The posterior mean of each pair's rating, shape `(n_pairs,)`."""
        if self.response == "ordinal":
            return self.rate(pairs).mean()
        mean = self.centre_ + self.unit_ * self._moments(pairs)[:, 0]
        return np.where((pairs.user >= 0) | (pairs.item >= 0), mean, np.nan)

    def _moments(self, asked: Pairs) -> FloatArray:
        low, high = (self.scale_.low - self.centre_) / self.unit_, (self.scale_.high - self.centre_) / self.unit_
        return gibbs.moments(asked.user, asked.item, self.user_vectors_, self.item_vectors_, low, high)

    def _gaussian(self, asked: Pairs) -> FloatArray:
        moments = self._moments(asked)
        # Variance of a new rating: that of the noise, averaged over draws, and that of its expectation between draws.
        noise = (self.user_precision_[asked.user] ** -2.0).mean(axis=1)
        noise = noise * (self.item_precision_[asked.item] ** -2.0).mean(axis=1)
        variance = noise + moments[:, 1]
        mean = moments[:, 0] * self.unit_ + self.centre_
        return RatingDistribution.from_mean(self.scale_, mean, np.sqrt(variance) * self.unit_).probs

    def _ordinal(self, asked: Pairs) -> FloatArray:
        return gibbs.level_probabilities(
            asked.user,
            asked.item,
            self.user_vectors_,
            self.item_vectors_,
            self.cuts_,
            self.user_precision_,
            self.item_precision_,
            _NORMAL_TABLE,
            _TABLE_REACH,
        )


@dataclass(frozen=True)
class _Draw:
    """One posterior draw; the last row of every array answers for an unknown user or item."""

    user_vectors: FloatArray
    item_vectors: FloatArray
    user_precision: FloatArray
    item_precision: FloatArray
    cuts: FloatArray
    user_prior_weights: list[FloatArray]
    user_prior_precision: FloatArray


class _Side:
    """Users or items inside the chain: their vectors, prior, ratings in order, and noise."""

    def __init__(
        self,
        own: IntArray,
        partner: IntArray,
        n_rows: int,
        blocks: list[FeatureBlock],
        model: BayesianFactorization,
        noise_shape: float,
        rng: np.random.Generator,
    ) -> None:
        self.order = np.argsort(own, kind="stable")
        self.partners = partner[self.order]
        self.counts = np.bincount(own, minlength=n_rows)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])
        self.own = own
        self.prior = LinkedPrior(blocks, n_rows, model.n_factors + 1, model.prior_strength)
        self.vectors = rng.standard_normal((n_rows, model.n_factors + 1)) * 0.1
        self.noise_shape = noise_shape
        self.precision = np.ones(n_rows)

    def draw(self, other: _Side, targets: FloatArray, weights: FloatArray, rng: np.random.Generator) -> None:
        gibbs.draw_vectors(
            self.vectors,
            self.starts,
            self.partners,
            targets[self.order],
            weights[self.order],
            other.vectors,
            self.prior.means,
            self.prior.precision,
            rng.standard_normal(self.vectors.shape),
        )

    def draw_precision(self, squares: FloatArray, rng: np.random.Generator) -> None:
        """Noise precision of each row ~ Gamma with mean one, given weighted squared errors."""
        sums = np.bincount(self.own, weights=squares, minlength=len(self.counts))
        self.precision = rng.gamma((self.noise_shape + self.counts) / 2) / ((self.noise_shape + sums) / 2)

    def with_unknown(self, rows: FloatArray, unknown: FloatArray | float) -> FloatArray:
        return np.concatenate([rows, np.reshape(np.asarray(unknown, dtype=float), (1, *rows.shape[1:]))])


class _Chain:
    """The state of one Gibbs chain."""

    def __init__(self, model: BayesianFactorization, dataset: Dataset) -> None:
        self.rng = stream(model.seed, "factorization", model.response)
        self.ordinal = model.response == "ordinal"
        self.user, self.item = dataset.user, dataset.item
        self.user_features, users = UserFeatures.learn(dataset)
        items = _item_blocks(model, dataset)
        self.users = _Side(self.user, self.item, dataset.n_users, users, model, model.user_noise, self.rng)
        self.items = _Side(self.item, self.user, dataset.n_items, items, model, model.item_noise, self.rng)
        self.level = dataset.scale.index(dataset.rating)
        self.centre = 0.0 if self.ordinal else float(dataset.rating.mean())
        # The priors are meant for a scale of width four, such as 1 to 5: on 0 to 100 the chain would never leave zero.
        self.unit = 1.0 if self.ordinal else (dataset.scale.high - dataset.scale.low) / 4.0
        self.targets = (dataset.rating - self.centre) / self.unit
        self.tau = 1.0 if self.ordinal else 1.0 / max(float(self.targets.var()), 1e-6)
        self.expected = np.zeros(len(dataset))
        shares = np.cumsum(np.bincount(self.level, minlength=dataset.scale.n_levels) + 0.5)
        self.cuts = ndtri(shares[:-1] / shares[-1]) * 1.2
        self.first_gaps = np.log(np.diff(self.cuts))
        self.step = 0.02

    def sweep(self) -> None:
        """Draw everything once, each part from its distribution given all others."""
        if self.ordinal:
            self._draw_hidden()
        # Given the items, users are independent of each other, and the other way round: each side is drawn at once.
        weights = self.tau * self.users.precision[self.user] * self.items.precision[self.item]
        self.users.draw(self.items, self.targets, weights, self.rng)
        self.items.draw(self.users, self.targets, weights, self.rng)
        self.users.prior.update(self.users.vectors, self.rng)
        self.items.prior.update(self.items.vectors, self.rng)
        self.expected = gibbs.expect(self.user, self.item, self.users.vectors, self.items.vectors)
        squares = (self.targets - self.expected) ** 2
        # A rating's noise precision is tau × user × item; ordinal, tau is 1, as the hidden variable has no unit.
        self.users.draw_precision(squares * self.tau * self.items.precision[self.item], self.rng)
        self.items.draw_precision(squares * self.tau * self.users.precision[self.user], self.rng)
        if not self.ordinal:
            scaled = squares * self.users.precision[self.user] * self.items.precision[self.item]
            self.tau = float(self.rng.gamma((1.0 + len(scaled)) / 2) / ((1.0 + scaled.sum()) / 2))

    def snapshot(self) -> _Draw:
        root = np.sqrt(self.tau)
        users, items = self.users, self.items
        return _Draw(
            user_vectors=users.with_unknown(users.vectors, users.prior.mu),
            item_vectors=items.with_unknown(items.vectors, items.prior.mu),
            user_precision=users.with_unknown(np.sqrt(users.precision) * root, root),
            item_precision=items.with_unknown(np.sqrt(items.precision), 1.0),
            cuts=self.cuts.copy(),
            user_prior_weights=list(users.prior.weights),
            user_prior_precision=users.prior.precision,
        )

    def _draw_hidden(self) -> None:
        """Cutpoints with the hidden variable integrated out (Cowles 1996), then the hidden variable.

        Given the hidden variable a cutpoint could only move between the two nearest values, hardly at all with many
        ratings. So Metropolis steps propose all cutpoints: the first, and the logarithms of the gaps, which keeps the
        order.
        """
        inverse_sd = np.sqrt(self.users.precision[self.user] * self.items.precision[self.item])
        now = self._cut_density(self.cuts, inverse_sd)
        for _ in range(3):
            first = self.cuts[0] + self.step * self.rng.standard_normal()
            gaps = np.exp(np.log(np.diff(self.cuts)) + self.step * self.rng.standard_normal(len(self.cuts) - 1))
            proposed = np.cumsum(np.concatenate([[first], gaps]))
            then = self._cut_density(proposed, inverse_sd)
            if np.log(self.rng.random()) < then - now:
                self.cuts, now, self.step = proposed, then, min(self.step * 1.1, 0.5)
            else:
                self.step *= 0.96  # in balance with the growth above if three steps in ten are accepted
        uniforms = self.rng.random(len(self.level))
        self.targets = gibbs.draw_hidden(self.expected, inverse_sd, self.level, self.cuts, uniforms)

    def _cut_density(self, cuts: FloatArray, inverse_sd: FloatArray) -> float:
        gaps = np.log(np.maximum(np.diff(cuts), 1e-12))
        prior = -0.5 * float(((gaps - self.first_gaps) ** 2).sum())
        return gibbs.log_likelihood(self.expected, inverse_sd, self.level, cuts, _NORMAL_TABLE, _TABLE_REACH) + prior


def _item_blocks(model: BayesianFactorization, dataset: Dataset) -> list[FeatureBlock]:
    """Side information of items, how often and by whom each was rated, and the leading directions of its text."""
    blocks = [FeatureBlock.of(SideEncoder().fit(dataset.items).encode(dataset.items), MAX_RANK)]
    if model.exposure:
        rated = dataset.item_counts > 0
        activity = np.sqrt(dataset.item_counts[rated])[:, None]
        activity = (activity - activity.mean(axis=0)) / np.maximum(activity.std(axis=0), 1e-9)
        raters = exposure(dataset.item, dataset.user, dataset.n_items, dataset.n_users)[np.flatnonzero(rated)]
        blocks += [spread_out(FeatureBlock.of(features, MAX_RANK), rated) for features in (activity, raters)]
    if model.embedder is not None:
        vectors = model.embedder.embed(item_texts(dataset)).astype(float)
        blocks.append(FeatureBlock.of(vectors, MAX_RANK))
    return blocks
