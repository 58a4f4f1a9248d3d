"""Opinions about ratings that their authors were not trained on, which is what a combiner may learn from.

Three kinds of inner hold-outs: `warm` folds, random parts of the ratings; `cold` ones, in which some items and some
users lose all their ratings at once; and `new` ones, in which some users keep a few. So the combiner meets pairs of
which as little is known as of those that it will be asked about.
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
from hybrid_sim.errors import DataError
from hybrid_sim.grouping import place_in_group
from hybrid_sim.models.support import NEW_USER, Support
from hybrid_sim.progress import track
from hybrid_sim.random import derive_seed, stream
from hybrid_sim.rater import Rater, expected
from hybrid_sim.types import FloatArray, IntArray, Pairs


@dataclass(frozen=True)
class HoldOut:
    """Row numbers to learn from and to be asked about; `of_new` if the users asked about were left a few ratings."""

    train_rows: IntArray
    held_rows: IntArray
    of_new: bool = False


@dataclass(frozen=True)
class Opinions:
    """What the members said about some pairs, and how much they had seen of user and item.

    `means` has shape `(n_pairs, n_members)`, NaN where a member abstained. `probs` holds the whole distributions of
    those members that are asked for them, shape `(n_pairs, n_shapes, n_levels)`.
    """

    means: FloatArray
    probs: NDArray[np.float32]
    support: Support

    def take(self, rows: NDArray[np.bool_] | IntArray) -> Opinions:
        """The opinions of these rows."""
        return Opinions(self.means[rows], self.probs[rows], self.support.take(rows))


def hold_outs(
    dataset: Dataset, n_warm: int, n_cold: int, cold_share: float, seed: int, n_new: int = 0
) -> list[HoldOut]:
    """`n_warm` random folds that partition the ratings, then `n_cold` draws of items and users that become cold.

    Last come `n_new` draws of users of whom 1 to `NEW_USER` ratings stay known, small numbers more often; they are
    other users as long as all these shares are below one together.

    Of few ratings there are fewer hold-outs: each has ratings to learn from and ratings to be asked about.

    Raises:
        DataError: there are not enough ratings for a single one.
    """
    rng = stream(seed, "hold-outs")
    fold = rng.permutation(len(dataset)) % max(n_warm, 1)
    held_out = [fold == k for k in range(n_warm)]
    item_draw, user_draw = rng.permutation(dataset.n_items), rng.permutation(dataset.n_users)
    for k in range(n_cold):
        cold_item = _slice(item_draw, k, cold_share)[dataset.item]
        cold_user = _slice(user_draw, k, cold_share)[dataset.user]
        held_out.append(cold_item | cold_user)
    for k in range(n_new):
        held_out.append(_all_but_few(dataset, _slice(user_draw, n_cold + k, cold_share), derive_seed(seed, "new", k)))
    plans = [
        HoldOut(np.flatnonzero(~held), np.flatnonzero(held), k >= n_warm + n_cold) for k, held in enumerate(held_out)
    ]
    usable = [plan for plan in plans if len(plan.train_rows) and len(plan.held_rows)]
    if not usable:
        raise DataError(
            f"data set {dataset.name!r} has {len(dataset)} rating(s), too few to learn from some and hold out others "
            f"({n_warm} warm and {n_cold} cold hold-outs); pass more ratings"
        )
    return usable


def _all_but_few(dataset: Dataset, users: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """The ratings of these users, but for a few of each: the earliest, as with users who are new, else random ones."""
    rng = np.random.default_rng(seed)
    n_kept = np.exp(rng.random(dataset.n_users) * np.log(NEW_USER + 1.0)).astype(np.int64)
    chance = rng.random(len(dataset))
    place = place_in_group(dataset.user, chance if dataset.timestamp is None else dataset.timestamp, chance)
    return np.asarray(users[dataset.user] & (place >= n_kept[dataset.user]))


def _slice(draw: IntArray, k: int, share: float) -> NDArray[np.bool_]:
    """Which entries fall in the k-th slice of a random order, wrapping around."""
    size = max(int(share * len(draw)), 1)
    flags = np.zeros(len(draw), dtype=bool)
    flags[np.take(draw, np.arange(k * size, (k + 1) * size), mode="wrap")] = True
    return flags


@dataclass(frozen=True)
class Fitted:
    """Members fitted on everything, and their opinions about held-out rows of the same ratings.

    `of_new` marks the rows that were held out of users who were left a few ratings.
    """

    members: list[Rater]
    rows: IntArray
    opinions: Opinions
    of_new: NDArray[np.bool_]


def fit_members(
    members: Mapping[str, Rater],
    shapes: Sequence[str],
    dataset: Dataset,
    plans: Sequence[HoldOut],
    n_jobs: int,
) -> Fitted:
    """Fit every member on every plan's training rows and on all ratings; `n_jobs` at a time.

    Members are copied before they are fitted. The result does not depend on `n_jobs`.
    """
    parts = [dataset.take(plan.train_rows) for plan in plans]
    held = [dataset.pairs.take(plan.held_rows) for plan in plans]
    answers: dict[tuple[str, int], Answer] = {}
    whole: dict[str, Rater] = {}

    def work(name: str, plan: int) -> None:
        member = copy.deepcopy(members[name])
        if plan < 0:
            whole[name] = member.fit(dataset)
        else:
            answers[name, plan] = _answer(member.fit(parts[plan]), held[plan], name in shapes)

    with (
        threadpool_limits(1),
        track("fitting members", len(members) * (len(plans) + 1)) as task,
        ThreadPoolExecutor(n_jobs) as pool,
    ):
        dearest_first = [(name, plan) for name in reversed(list(members)) for plan in range(-1, len(plans))]
        jobs = {pool.submit(work, name, plan): name for name, plan in dearest_first}
        try:
            for job in as_completed(jobs):
                job.result()
                task.advance(note=jobs[job])
        finally:
            pool.shutdown(cancel_futures=True)
    supports = [Support.of(part, pairs) for part, pairs in zip(parts, held, strict=True)]
    told = [_gather([answers[name, plan] for name in members], supports[plan]) for plan in range(len(plans))]
    return Fitted(
        [whole[name] for name in members],
        np.concatenate([plan.held_rows for plan in plans]),
        Opinions(
            np.concatenate([opinions.means for opinions in told]),
            np.concatenate([opinions.probs for opinions in told]),
            Support.concatenate(supports),
        ),
        np.concatenate([np.full(len(plan.held_rows), plan.of_new) for plan in plans]),
    )


def ask(members: Mapping[str, Rater], shapes: Sequence[str], pairs: Pairs, support: Support) -> Opinions:
    """The opinions of fitted members about `pairs`."""
    return _gather([_answer(member, pairs, name in shapes) for name, member in members.items()], support)


@dataclass(frozen=True)
class Answer:
    """One member's expected ratings, and its distributions if they were asked for."""

    means: FloatArray
    probs: NDArray[np.float32] | None


def _answer(member: Rater, pairs: Pairs, whole: bool) -> Answer:
    if not whole:
        return Answer(expected(member, pairs), None)
    distribution = member.rate(pairs)
    return Answer(distribution.mean(), distribution.probs.astype(np.float32))


def _gather(answers: Sequence[Answer], support: Support) -> Opinions:
    means = np.stack([answer.means for answer in answers], axis=1)
    return Opinions(means, np.stack([a.probs for a in answers if a.probs is not None], axis=1), support)
