"""Environments that are wrong in a known way: what judges environments must find them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hybrid_sim.core.seeding import stream
from hybrid_sim.environments.belief import CutArray
from hybrid_sim.environments.correlation import Correlation
from hybrid_sim.environments.folder import Population

GENEROUS_SHARE, GENEROSITY = 0.1, 1.5
"""Share of the items that are rated too high, and by how many standard deviations of the latent rating."""


def generous_items(population: Population, seed: int) -> Population:
    """A tenth of the items, at random, is rated too high."""
    cuts = np.array(population.cutpoints)
    chosen = stream(seed, "planted", "generous").random(cuts.shape[1]) < GENEROUS_SHARE
    cuts[:, chosen] -= np.float32(GENEROSITY)
    return _with_cutpoints(population, cuts)


def users_shuffled(population: Population, seed: int) -> Population:
    """Everybody answers as somebody else would."""
    order = stream(seed, "planted", "shuffled").permutation(len(population.cutpoints))
    return _with_cutpoints(population, population.cutpoints[order])


def constant(population: Population, seed: int) -> Population:
    """All answers are the median of the training ratings."""
    level = int(population.scale.index(np.sort(population.train.rating)[len(population.train) // 2]))
    below = np.arange(population.cutpoints.shape[2]) < level
    cuts = np.where(below, -np.inf, np.inf).astype(np.float32)
    return _with_cutpoints(population, np.broadcast_to(cuts, population.cutpoints.shape).copy())


def independent(population: Population, seed: int) -> Population:
    """Answers of one person do not hang together."""
    return replace(population, correlation=Correlation(0.0, 0.0))


def _with_cutpoints(population: Population, cuts: CutArray) -> Population:
    cuts.flags.writeable = False  # as those of a folder are: for arrays of another kind numba would compile again
    return replace(population, cutpoints=cuts)


PLANTED: dict[str, Callable[[Population, int], Population]] = {
    "generous-items": generous_items,
    "users-shuffled": users_shuffled,
    "constant": constant,
    "independent": independent,
}
