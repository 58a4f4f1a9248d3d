"""Simulators that are bad on purpose, each in one way: a validation that lets one of them pass is worth nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.evaluation.scores import draw
from hybrid_sim.evaluation.validity.inputs import SimulatorOutput
from hybrid_sim.models import make_rater

TOO_HIGH = 0.5
"""Stars by which the over-positive simulator is too high, as far as the scale goes."""

NEGATIVE_CONTROLS = {
    "constant": "gives everybody's most frequent rating to everything",
    "users-shuffled": "answers about a user as it would about another one",
    "item-mean": "draws from the past ratings of the item, whoever is asked",
    "over-positive": f"is {TOO_HIGH:g} stars too friendly",
}
"""What each bad simulator does."""


@dataclass
class Constant:
    """The most frequent training rating, always, with certainty."""

    scale_: RatingScale = field(init=False, repr=False)
    level_: int = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Count the levels."""
        self.scale_ = dataset.scale
        self.level_ = int(np.bincount(dataset.scale.index(dataset.rating)).argmax())
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The same level for every pair."""
        probs = np.zeros((len(pairs), self.scale_.n_levels))
        probs[:, self.level_] = 1.0
        return RatingDistribution(self.scale_, probs)


@dataclass
class UsersShuffled:
    """Answers about a user with what `rater`, fitted already, says about another one."""

    rater: Rater
    seed: int = 0
    other_: IntArray = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Deal out the users who have ratings among themselves, nobody to himself; `other_` has a row per user."""
        rated = np.flatnonzero(dataset.user_counts > 0)
        order = stream(self.seed, "planted", "users").permutation(rated)
        self.other_ = np.append(np.arange(dataset.n_users), -1)
        self.other_[order] = np.roll(order, 1)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """What is said about the other user."""
        return self.rater.rate(Pairs(self.other_[pairs.user], pairs.item))


@dataclass
class OverPositive:
    """The answers of `rater`, fitted already, with means moved up by `stars` quarters of the scale's range."""

    rater: Rater
    stars: float = TOO_HIGH

    def fit(self, dataset: Dataset) -> Self:
        """Nothing is learned."""
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The nearest distributions with the higher means."""
        honest = self.rater.rate(pairs)
        unit = (honest.scale.high - honest.scale.low) / 4.0
        return honest.tilted_to(honest.mean() + self.stars * unit)


@dataclass
class Filled:
    """The answers of `rater`, and the histogram of all training ratings where it has none."""

    rater: Rater
    fallback_: Rater = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Fit both."""
        self.rater.fit(dataset)
        self.fallback_ = make_rater("global_mean").fit(dataset)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """Always an answer."""
        return self.rater.rate(pairs).filled(self.fallback_.rate(pairs))


def negative_control(name: str, honest: Rater, train: Dataset, held_out: Dataset, seed: int = 0) -> SimulatorOutput:
    """A bad simulator of this name, made from an honest one that was fitted to `train`.

    Raises:
        SettingsError: there is no such bad simulator.
    """
    match name:
        case "constant":
            rater: Rater = Constant()
        case "users-shuffled":
            rater = UsersShuffled(honest, seed)
        case "item-mean":
            rater = Filled(make_rater("item_mean"))
        case "over-positive":
            rater = OverPositive(honest)
        case _:
            raise SettingsError(f"there is no planted simulator {name!r}; choose one of {', '.join(NEGATIVE_CONTROLS)}")
    distribution = rater.fit(train).rate(held_out.pairs)
    drawn = draw(distribution, held_out, held_out.pairs, seed)
    return SimulatorOutput(
        f"planted: {name}", distribution, drawn, rater=rater, notes=(f"Planted: it {NEGATIVE_CONTROLS[name]}.",)
    )
