"""Policies that choose what to show: those that every environment is tried with, and trained agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.environments.episodes import Episodes
from hybrid_sim.environments.folder import Population
from hybrid_sim.environments.kernel import USER

Policy = Callable[[Episodes], FloatArray]
"""Scores of items in the state that the episodes are in, `(n_rows, n_items)`; the largest open one is shown."""

SHRINKAGE = 5.0
"""Ratings at the overall mean that an item mean is shrunk by."""


def standard_policies(population: Population, seed: int = 0) -> dict[str, Policy]:
    """Policies of clearly different quality; they know the training ratings and the simulator, nothing held out.

    `greedy` shows what the simulator expects to be rated best, `adaptive` the same given the answers so far, and
    `cautious` the expected rating less its standard error. Diluted ones have noise as large as their own spread,
    and upside-down ones show the worst first.
    """
    train = population.train
    counts = train.item_counts.astype(float)
    popularity = np.log1p(counts)
    item_mean = item_means(train)
    greedy = _by_user(population.means)
    rng = stream(seed, "policies", "random")
    return {
        "random": lambda episodes: rng.random((len(episodes), len(counts))),
        "popularity": _fixed(popularity),
        "item mean": _fixed(item_mean),
        "greedy": greedy,
        "adaptive": adaptive,
        "cautious": cautious(population),
        "item mean, diluted": diluted(_fixed(item_mean), stream(seed, "policies", "item mean")),
        "greedy, diluted": diluted(greedy, stream(seed, "policies", "greedy")),
        "popularity, upside down": _fixed(-popularity),
        "greedy, upside down": lambda episodes: -greedy(episodes),
    }


def item_means(train: Dataset) -> FloatArray:
    """The mean rating of each item, shrunk towards that of all, `(n_items,)`."""
    sums = np.bincount(train.item, train.rating, minlength=train.n_items)
    return np.asarray((sums + SHRINKAGE * train.rating.mean()) / (train.item_counts + SHRINKAGE))


def _fixed(scores: FloatArray) -> Policy:
    return lambda episodes: np.broadcast_to(scores, (len(episodes), len(scores)))


def cautious(population: Population, caution: float = 1.0) -> Policy:
    """The simulator's expected ratings before any answer, less `caution` times their standard error.

    The standard error is the part of a rating's standard deviation that is the person's level and taste.
    """
    share = np.sqrt((population.features**2) @ population.prior)
    sds = np.array([population.distributions_of(user).std() for user in range(len(population.user_ids))])
    return _by_user(population.means - caution * share * sds)


def _by_user(scores: FloatArray) -> Policy:
    return lambda episodes: np.asarray(scores[episodes.state.counters[:, USER]])


def adaptive(episodes: Episodes) -> FloatArray:
    """The expected rating of every open item given the answers of the episode so far."""
    values, masks = episodes.population.scale.values, episodes.action_masks()
    scores = np.full(masks.shape, -np.inf)
    for row in range(len(episodes)):
        items = np.flatnonzero(masks[row])
        scores[row, items] = episodes.predict_rows(items, row) @ values
    return scores


def diluted(policy: Policy, rng: np.random.Generator) -> Policy:
    """The policy's scores with normal noise as large as their spread among a row's open items."""

    def scores(episodes: Episodes) -> FloatArray:
        plain = policy(episodes)
        open_scores = np.where(episodes.action_masks(), plain, np.nan)
        return np.asarray(plain + rng.normal(size=plain.shape) * np.nanstd(open_scores, axis=1, keepdims=True))

    return scores


@dataclass(frozen=True)
class Played:
    """What a policy showed and what was answered, `(n_rows, n_steps)` each: rows of items, and rewards."""

    items: IntArray
    rewards: FloatArray


def play(episodes: Episodes, policy: Policy, n_steps: int, seed: int) -> Played:
    """Let a policy choose among the open items of each row for some steps; equal scores are settled at random."""
    rng = np.random.default_rng(seed)
    items, rewards = np.empty((n_steps, len(episodes)), dtype=np.int64), np.empty((n_steps, len(episodes)))
    for step in range(n_steps):
        scores = np.where(episodes.action_masks(), policy(episodes), -np.inf)
        rows, best = np.nonzero(scores == scores.max(axis=1, keepdims=True))
        order = rng.permutation(len(rows))  # of several assignments to one place the last counts
        items[step, rows[order]] = best[order]
        episodes.step(items[step][:, None])
        rewards[step] = episodes.results.rewards
    return Played(items.T, rewards.T)
