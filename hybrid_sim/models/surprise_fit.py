"""The door to Surprise: its training set from columns, and predictions from its arrays.

Surprise takes NaN and ratings off the scale in silence and predicts pair by pair in Python. Here only ratings
on the scale reach it, its training set is built from sorted columns, and the raters keep its arrays and
predict by compiled kernels that give what `algo.test` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.models.training import require_ratings


@dataclass(frozen=True)
class SurpriseData:
    """A data set as Surprise wants it, which numbers users and items in the order in which they are met.

    `user` and `item` are the numbers Surprise gives to each rating's user and item, in its order of ratings, `rating`
    the ratings in that order; `user_place` of shape
    `(n_users,)` and `item_place` of shape `(n_items,)` are those numbers for the rows of the catalogue, -1
    where there is no rating.
    """

    trainset: Any
    user: IntArray
    item: IntArray
    rating: FloatArray
    user_place: IntArray
    item_place: IntArray


def surprise_data(dataset: Dataset) -> SurpriseData:
    """The training set that Surprise's own loader would build from these ratings, ordered by user and item.

    Stochastic gradient descent depends on the order of the ratings; ordered, the same ratings give the same model
    whatever file they came from. It is the order of the genuine folds of MovieLens 100K.

    Raises:
        DataError: there are no ratings.
        ScaleError: a rating is not on the scale.
    """
    from surprise import Trainset

    require_ratings(dataset)
    dataset.scale.index(dataset.rating)
    dataset = dataset.take(np.lexsort((dataset.item, dataset.user)))
    user, user_rows = pd.factorize(dataset.user)
    item, item_rows = pd.factorize(dataset.item)
    trainset = Trainset(
        ur=_grouped(user, item, dataset.rating),
        ir=_grouped(item, user, dataset.rating),
        n_users=len(user_rows),
        n_items=len(item_rows),
        n_ratings=len(dataset),
        rating_scale=(dataset.scale.low, dataset.scale.high),
        raw2inner_id_users={},
        raw2inner_id_items={},
    )
    return SurpriseData(
        trainset=trainset,
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        rating=dataset.rating,
        user_place=_places(user_rows, dataset.n_users),
        item_place=_places(item_rows, dataset.n_items),
    )


def places_of(place: IntArray, rows: IntArray) -> IntArray:
    """Surprise's numbers for row numbers of the catalogue; -1 for an unknown row and one without ratings."""
    return np.where(rows >= 0, place[rows], -1)


def expect_biases(
    global_mean: float, user_bias: FloatArray, item_bias: FloatArray, user: IntArray, item: IntArray
) -> FloatArray:
    """Global mean plus the biases of what is known, in Surprise's numbers; NaN where neither is known."""
    mean = global_mean + np.where(user >= 0, user_bias[user], 0.0) + np.where(item >= 0, item_bias[item], 0.0)
    return np.where((user >= 0) | (item >= 0), mean, np.nan)


def expect_factors(user_factors: FloatArray, item_factors: FloatArray, user: IntArray, item: IntArray) -> FloatArray:
    """The product of the factors of each pair, in Surprise's numbers; zero where one side is -1."""
    return np.asarray(_products(user_factors, item_factors, user, item))


@numba.njit(nogil=True)
def _products(user_factors: FloatArray, item_factors: FloatArray, user: IntArray, item: IntArray) -> FloatArray:
    products = np.zeros(len(user))
    for pair in range(len(user)):
        u, i = user[pair], item[pair]
        if u >= 0 and i >= 0:
            total = 0.0
            for factor in range(user_factors.shape[1]):
                total += user_factors[u, factor] * item_factors[i, factor]
            products[pair] = total
    return products


def require_converged(rater: object, dataset: Dataset, *arrays: FloatArray) -> None:
    """Refuse arrays that are not finite.

    Raises:
        SettingsError: the steps were too long for this scale.
    """
    if not all(np.isfinite(array).all() for array in arrays):
        raise SettingsError(
            f"{rater} diverged on the scale {dataset.scale}; use a smaller learning rate, or a narrower scale"
        )


def _grouped(keys: IntArray, others: IntArray, ratings: FloatArray) -> dict[int, list[tuple[int, float]]]:
    order = np.argsort(keys, kind="stable")
    entries = list(zip(others[order].tolist(), ratings[order].tolist(), strict=True))
    ends = np.cumsum(np.bincount(keys)).tolist()
    return {key: entries[start:end] for key, (start, end) in enumerate(zip([0, *ends], ends, strict=False))}


def _places(rows: IntArray, n_rows: int) -> IntArray:
    places = np.full(n_rows, -1)
    places[rows] = np.arange(len(rows))
    return places
