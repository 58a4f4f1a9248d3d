"""A synthetic world: fictional films and users whose true rating distributions are known."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.sources import DATASETS, DataSource

SCALE = RatingScale((1, 2, 3, 4, 5))
FIRST_SECOND = 1_577_836_800
"""2020-01-01, when the world's ratings begin; they last three years."""
SPAN = 3 * 365 * 86_400
N_TRAITS, N_CHOICES = 6, 3
"""Traits of a film, and alternatives of words for each trait, pole and place in a sentence."""


@dataclass(frozen=True)
class World:
    """A dataset and the law that its ratings were drawn from.

    A user's taste for the traits of a film moves in a straight line through the three years. The appeal
    of a film is `base + user bias + quality + taste(time) . traits`; the rating is that plus normal noise of
    the user's own width, rounded into the scale.

    >>> world = make_world(seed=1, n_users=20, n_items=40, ratings_per_user=10)
    >>> world.dataset.synthetic, world.truth.probs.shape == (len(world.dataset), 5)
    (True, True)
    """

    dataset: Dataset
    traits: FloatArray
    quality: FloatArray
    bias: FloatArray
    taste: FloatArray
    drift: FloatArray
    noise: FloatArray
    base: float

    def distribution(self, pairs: Pairs, timestamp: IntArray) -> RatingDistribution:
        """The true distribution of each pair's rating at each time (seconds UTC); every id is known."""
        appeal = self._appeal(pairs, timestamp)
        edges = np.convolve(SCALE.levels, [0.5, 0.5], mode="valid")
        below = ndtr((edges - appeal[:, None]) / self.noise[pairs.user, None])
        return RatingDistribution(SCALE, np.diff(below, axis=1, prepend=0.0, append=1.0))

    @property
    def truth(self) -> RatingDistribution:
        """The true distribution of every rating of the dataset at its time."""
        times = self.dataset.timestamp
        assert times is not None, "the world always has times"
        return self.distribution(self.dataset.pairs, times)

    def _appeal(self, pairs: Pairs, timestamp: IntArray) -> FloatArray:
        elapsed = (timestamp - FIRST_SECOND) / SPAN - 0.5
        taste = self.taste[pairs.user] + elapsed[:, None] * self.drift[pairs.user]
        match = (taste * self.traits[pairs.item]).sum(axis=1)
        appeal: FloatArray = self.base + self.bias[pairs.user] + self.quality[pairs.item] + match
        return appeal


def make_world(seed: int = 0, n_users: int = 300, n_items: int = 400, ratings_per_user: int = 60) -> World:
    """Generate a world; equal arguments give an equal world.

    `ratings_per_user` is the mean; the number varies by user as in real data, from a quarter of it upwards,
    and never exceeds half of the films. Users rate what is popular and what they tend to like.
    """
    items, traits = _make_items(stream(seed, "world", "items"), n_items)
    users, taste = _make_users(stream(seed, "world", "users"), n_users)
    rng = stream(seed, "world", "laws")
    quality = rng.normal(0, 0.5, n_items)
    empty = np.empty(0, dtype=np.int64)
    world = World(
        dataset=Dataset("world", SCALE, users, items, empty, empty, np.empty(0), empty, synthetic=True),
        traits=traits,
        quality=quality,
        bias=rng.normal(0, 0.45, n_users),
        taste=taste,
        drift=rng.normal(0, 0.25, (n_users, N_TRAITS)),
        noise=rng.uniform(0.55, 1.0, n_users),
        base=3.1,
    )
    popularity = 0.9 * rng.gumbel(size=n_items) + 1.0 * quality
    return _with_ratings(world, stream(seed, "world", "ratings"), popularity, ratings_per_user)


def _with_ratings(world: World, rng: np.random.Generator, popularity: FloatArray, per_user: int) -> World:
    """Each user picks films by popularity and appeal (Gumbel top-k, without replacement) and rates them."""
    n_users, n_items = world.dataset.n_users, world.dataset.n_items
    counts = np.clip(rng.lognormal(np.log(per_user) - 0.18, 0.6, n_users), per_user / 4, n_items / 2).astype(np.int64)
    grid = Pairs(np.repeat(np.arange(n_users), n_items), np.tile(np.arange(n_items), n_users))
    middle = np.full(len(grid), FIRST_SECOND + SPAN // 2)
    appeal = world._appeal(grid, middle).reshape(n_users, n_items)
    ranks = np.argsort(-(popularity + 0.5 * appeal + rng.gumbel(size=appeal.shape)), axis=1)
    user = np.repeat(np.arange(n_users), counts)
    place = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    item = ranks[user, place]
    joined = rng.uniform(0, 0.6, n_users)
    timestamp = FIRST_SECOND + (SPAN * rng.uniform(joined[user], 1.0)).astype(np.int64)
    order = np.lexsort((item, user, timestamp))
    user, item, timestamp = user[order], item[order], timestamp[order]
    rating = world.distribution(Pairs(user, item), timestamp).sample(rng)
    return replace(world, dataset=replace(world.dataset, user=user, item=item, rating=rating, timestamp=timestamp))


@cache
def _words() -> dict[str, Any]:
    """The fictional words of the world.

    `genres` holds the loadings of each genre on the traits, `traits` for the low and the high pole of each trait
    alternatives of words for each place in a sentence.
    """
    words: dict[str, Any] = json.loads(resources.files(__package__).joinpath("world.json").read_text("utf-8"))
    return words


def fictional_titles() -> list[str]:
    """All titles that the world's films can have, sequels aside."""
    return [f"The {first} {second}" for first in _words()["title_first"] for second in _words()["title_second"]]


def _make_items(rng: np.random.Generator, n_items: int) -> tuple[pd.DataFrame, FloatArray]:
    """Films with traits; genres and overviews are drawn from the traits, so that text tells of them."""
    traits = rng.normal(0, 1.0, (n_items, N_TRAITS))
    index = pd.Index([f"f{number + 1:04d}" for number in range(n_items)], dtype=object)
    texts = {"title": _titles(rng, n_items), "genres": _genres(rng, traits), "overview": _overviews(rng, traits)}
    columns = {name: pd.Series(values, index, dtype=object) for name, values in texts.items()}
    years = np.floor(2020 - 60 * rng.beta(1.2, 3.0, n_items))
    frame = pd.DataFrame({**columns, "year": pd.Series(years, index)})[["title", "year", "genres", "overview"]]
    return frame, traits


def _titles(rng: np.random.Generator, n_items: int) -> list[str]:
    """Distinct titles; beyond the first round of combinations they become sequels."""
    titles = fictional_titles()
    order = rng.permutation(len(titles))
    places = (divmod(position, len(titles)) for position in range(n_items))
    return [titles[order[number]] + (f" {turn + 1}" if turn else "") for turn, number in places]


def _genres(rng: np.random.Generator, traits: FloatArray) -> list[tuple[str, ...]]:
    genres = _words()["genres"]
    names, loadings = list(genres), np.array(list(genres.values()))
    scores = traits @ loadings.T + rng.gumbel(0, 0.5, (len(traits), len(names)))
    best, counts = np.argsort(-scores, axis=1), rng.integers(1, 4, len(traits))
    return [tuple(sorted(names[place] for place in row[:count])) for row, count in zip(best, counts, strict=True)]


def _overviews(rng: np.random.Generator, traits: FloatArray) -> list[str]:
    """Each slot of the sentence speaks of one trait, drawn by its strength; its sign picks the words."""
    slots = ("tone", "tone", "who", "deed", "place", "close")
    gumbel = rng.gumbel(size=(len(traits), len(slots), N_TRAITS))
    strongest = np.argmax(2.0 * np.abs(traits)[:, None, :] + gumbel, axis=2)
    picks = rng.integers(0, N_CHOICES, (len(traits), len(slots)))
    picks[:, 1] = (picks[:, 0] + rng.integers(1, N_CHOICES, len(traits))) % N_CHOICES
    texts = []
    for row, (trait_row, pick_row) in enumerate(zip(strongest, picks, strict=True)):
        parts = [
            _words()["traits"][trait][int(traits[row, trait] > 0)][slot][pick]
            for slot, trait, pick in zip(slots, trait_row, pick_row, strict=True)
        ]
        texts.append("{} and {}: {} {} {}. {}".format(parts[0].capitalize(), *parts[1:]))
    return texts


def _make_users(rng: np.random.Generator, n_users: int) -> tuple[pd.DataFrame, FloatArray]:
    """Users with demographics that explain a part of their taste."""
    occupations = np.array(_words()["occupations"], dtype=object)
    age = np.clip(np.round(rng.gamma(6.0, 6.0, n_users)), 14, 80)
    gender = rng.integers(0, 2, n_users)
    occupation = rng.integers(0, len(occupations), n_users)
    taste = (
        ((age - 36) / 15)[:, None] * rng.normal(0, 0.12, N_TRAITS)
        + (gender - 0.5)[:, None] * rng.normal(0, 0.25, N_TRAITS)
        + rng.normal(0, 0.12, (len(occupations), N_TRAITS))[occupation]
        + rng.normal(0, 0.2, (n_users, N_TRAITS))
    )
    index = pd.Index([f"u{number + 1:04d}" for number in range(n_users)], dtype=object)
    columns: dict[str, pd.Series[float] | pd.Series[str]] = {
        "age": pd.Series(age, index),
        "gender": pd.Series(np.array(["F", "M"], dtype=object)[gender], index, dtype=object),
        "occupation": pd.Series(occupations[occupation], index, dtype=object),
    }
    return pd.DataFrame(columns), taste


DATASETS.add("world", DataSource(lambda folder, name: make_world().dataset))
