"""Simulators to compare with: baselines to beat, and negative controls, bad in one way each, that must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.fit_cache import fit_cache
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import Pairs, RatingDistribution
from hybrid_sim.evaluation.scores import draw
from hybrid_sim.evaluation.validity.inputs import SimulatorOutput
from hybrid_sim.models import RATERS, make_rater

BASELINES = ("global_mean", "user_mean", "item_mean", "biases", "knn", "svd", "nmf")
"""Histograms of all, of the user's and of the item's ratings; biases; and the three models of Lusifer's paper."""

TOO_HIGH = 0.125
"""Part of the scale's range by which ratings of the over-positive simulator are too high, as far as the scale goes."""

NEGATIVE_CONTROLS = {
    "constant": "gives everybody's most frequent rating to everything",
    "users-shuffled": "answers about a user as it would about another one",
    "item-mean": "draws from the past ratings of the item, whoever is asked",
    "over-positive": "rates higher by an eighth of the range of the scale",
}
"""What each bad simulator does."""


@dataclass(frozen=True)
class FittedRater:
    """A rater that was fitted before: a function of pairs."""

    rate: Callable[[Pairs], RatingDistribution]

    def fit(self, dataset: Dataset) -> Self:
        """Nothing is learned."""
        return self


def filled(rater: Rater, train: Dataset) -> FittedRater:
    """`rater` fitted to `train`; where it abstains the histogram of all training ratings answers."""
    fitted, fallback = fit_cache().fit(rater, train).rater, make_rater("global_mean").fit(train)
    return FittedRater(lambda pairs: fitted.rate(pairs).filled(fallback.rate(pairs)))


def baseline_answers(train: Dataset, pairs: Pairs, seed: int = 0) -> dict[str, RatingDistribution]:
    """The answers of the `BASELINES` about the pairs; where one abstains, the histogram of all training ratings."""
    raters = {name: RATERS[name].suited_to(train.scale, None, seed) for name in BASELINES}
    return {name: filled(rater, train).rate(pairs) for name, rater in raters.items()}


def constant(train: Dataset) -> FittedRater:
    """The most frequent training rating, always, with certainty."""
    level = np.bincount(train.scale.index(train.rating), minlength=train.scale.n_levels).argmax()
    probs = (np.arange(train.scale.n_levels) == level).astype(float)
    return FittedRater(lambda pairs: RatingDistribution(train.scale, np.tile(probs, (len(pairs), 1))))


def users_shuffled(rater: Rater, train: Dataset, seed: int) -> FittedRater:
    """What a fitted `rater` says about another user: those who have ratings are permuted, nobody stays himself."""
    order = stream(seed, "planted", "users").permutation(np.flatnonzero(train.user_counts > 0))
    other = np.append(np.arange(train.n_users), -1)
    other[order] = np.roll(order, 1)
    return FittedRater(lambda pairs: rater.rate(Pairs(other[pairs.user], pairs.item)))


def over_positive(rater: Rater, by: float = TOO_HIGH) -> FittedRater:
    """The answers of a fitted `rater`, moved to the nearest distributions with means higher by a part of the range."""

    def rate(pairs: Pairs) -> RatingDistribution:
        honest = rater.rate(pairs)
        return honest.tilted_to(honest.mean() + by * (honest.scale.high - honest.scale.low))

    return FittedRater(rate)


def negative_control(name: str, honest: Rater, train: Dataset, held_out: Dataset, seed: int = 0) -> SimulatorOutput:
    """A bad simulator of this name, made from an honest one that was fitted to `train`.

    Raises:
        SettingsError: there is no such bad simulator.
    """
    make = {
        "constant": lambda: constant(train),
        "users-shuffled": lambda: users_shuffled(honest, train, seed),
        "item-mean": lambda: filled(make_rater("item_mean"), train),
        "over-positive": lambda: over_positive(honest),
    }
    if name not in make:
        raise SettingsError(f"there is no planted simulator {name!r}; choose one of {', '.join(NEGATIVE_CONTROLS)}")
    rater = make[name]()
    distribution = rater.rate(held_out.pairs)
    drawn = draw(distribution, held_out, held_out.pairs, seed)
    return SimulatorOutput(
        f"planted: {name}", distribution, drawn, rater=rater, notes=(f"Planted: it {NEGATIVE_CONTROLS[name]}.",)
    )
