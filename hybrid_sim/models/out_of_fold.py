"""Opinions about ratings that their authors were not trained on, which is what a combiner may learn from.

Two kinds of inner hold-outs: `warm` folds, random parts of the ratings, and `cold` folds, in which some items and some users
lose all their ratings at once, so that the combiner meets pairs as cold as those it will be asked about.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hybrid_sim.data.dataset import Dataset
from hybrid_sim.models.support import Support
from hybrid_sim.progress import track
from hybrid_sim.random import stream
from hybrid_sim.rater import Rater
from hybrid_sim.types import FloatArray, IntArray, Pairs, RatingDistribution


@dataclass(frozen=True)
class HoldOut:
    """Row numbers to learn from and to be asked about."""

    train_rows: IntArray
    held_rows: IntArray


@dataclass(frozen=True)
class Opinions:
    """What every member said about some pairs, and how much the members had seen of user and item.

    `probs` has shape `(n_pairs, n_members, n_levels)`, NaN where a member abstained.
    """

    probs: NDArray[np.float32]
    support: Support

    def means(self, levels: FloatArray) -> FloatArray:
        """Expected ratings, shape `(n_pairs, n_members)`."""
        return self.probs @ levels

    def take(self, rows: NDArray[np.bool_] | IntArray) -> Opinions:
        """The opinions of these rows."""
        return Opinions(self.probs[rows], self.support.take(rows))


def hold_outs(dataset: Dataset, n_warm: int, n_cold: int, cold_share: float, seed: int) -> list[HoldOut]:
    """`n_warm` random folds that partition the ratings, then `n_cold` draws of items and users that become cold."""
    rng = stream(seed, "hold-outs")
    fold = rng.permutation(len(dataset)) % max(n_warm, 1)
    plans = [HoldOut(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_warm)]
    item_draw, user_draw = rng.permutation(dataset.n_items), rng.permutation(dataset.n_users)
    for k in range(n_cold):
        cold_item = _slice(item_draw, k, cold_share)[dataset.item]
        cold_user = _slice(user_draw, k, cold_share)[dataset.user]
        held = cold_item | cold_user
        if held.any() and not held.all():
            plans.append(HoldOut(np.flatnonzero(~held), np.flatnonzero(held)))
    return plans


def _slice(draw: IntArray, k: int, share: float) -> NDArray[np.bool_]:
    """Which entries fall in the k-th slice of a random order, wrapping around."""
    size = max(int(share * len(draw)), 1)
    flags = np.zeros(len(draw), dtype=bool)
    flags[np.take(draw, np.arange(k * size, (k + 1) * size), mode="wrap")] = True
    return flags


@dataclass(frozen=True)
class Fitted:
    """Members fitted on everything, and their opinions about held-out rows of the same ratings."""

    members: list[Rater]
    rows: IntArray
    opinions: Opinions


def fit_members(members: Mapping[str, Rater], dataset: Dataset, plans: Sequence[HoldOut], n_jobs: int) -> Fitted:
    """Fit every member on every plan's training rows and on all ratings; `n_jobs` at a time.

    Members are copied before they are fitted. The result does not depend on `n_jobs`.
    """
    parts = [dataset.take(plan.train_rows) for plan in plans]
    held = [dataset.pairs.take(plan.held_rows) for plan in plans]
    answers: list[list[NDArray[np.float32]]] = [[np.empty(0, np.float32)] * len(members) for _ in plans]
    whole: list[Rater] = list(members.values())

    def opinion(member: Rater, plan: int) -> NDArray[np.float32]:
        return copy.deepcopy(member).fit(parts[plan]).rate(held[plan]).probs.astype(np.float32)

    with (
        threadpool_limits(1),
        track("fitting members", len(members) * (len(plans) + 1)) as task,
        ThreadPoolExecutor(n_jobs) as pool,
    ):
        jobs = {}
        for k, (name, member) in enumerate(members.items()):
            jobs[pool.submit(copy.deepcopy(member).fit, dataset)] = (name, k, -1)
            jobs.update({pool.submit(opinion, member, plan): (name, k, plan) for plan in range(len(plans))})
        for job in as_completed(jobs):
            name, k, plan = jobs[job]
            if plan < 0:
                whole[k] = job.result()
            else:
                answers[plan][k] = job.result()
            task.advance(note=name)
    supports = [Support.of(part, pairs) for part, pairs in zip(parts, held, strict=True)]
    probs = np.concatenate([np.stack(answer, axis=1) for answer in answers])
    rows = np.concatenate([plan.held_rows for plan in plans])
    return Fitted(whole, rows, Opinions(probs, Support.concatenate(supports)))


def ask(members: Sequence[Rater], pairs: Pairs, support: Support) -> Opinions:
    """The opinions of fitted members about `pairs`."""
    answers = [member.rate(pairs).probs.astype(np.float32) for member in members]
    return Opinions(np.stack(answers, axis=1), support)


def distribution(opinions: Opinions, member: int, like: RatingDistribution) -> RatingDistribution:
    """One member's opinions as distributions on the scale of `like`."""
    return RatingDistribution(like.scale, opinions.probs[:, member].astype(float))
