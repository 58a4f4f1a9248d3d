"""Inner hold-outs: training ratings on which members are asked about rows that they have not learned from.

Three kinds of inner hold-outs: `warm` folds, random parts of the ratings; `cold` ones, in which some items and some
users lose all their ratings at once; and `new` ones, in which some users keep a few. So the combiner meets pairs of
which as little is known as of those that it will be asked about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.seeding import derive_seed, stream
from hybrid_sim.core.types import IntArray
from hybrid_sim.models.support import NEW_USER


@dataclass(frozen=True)
class HoldOut:
    """Row numbers to learn from and to be asked about; `of_new` if the users asked about were left a few ratings."""

    train_rows: IntArray
    held_rows: IntArray
    of_new: bool = False


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
