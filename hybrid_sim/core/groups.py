"""Rows that belong together, without a loop over the groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.types import IntArray


def permute_within_groups(group: NDArray[Any], seed: int) -> IntArray:
    """A random permutation of the rows that keeps each row in its group: the row whose value each row gets."""
    # Two orders list the groups alike: by row number, and with the rows of each group in random order.
    code = np.unique(group, return_inverse=True)[1]
    source = np.empty(len(code), dtype=np.int64)
    source[np.argsort(code, kind="stable")] = np.lexsort((np.random.default_rng(seed).random(len(code)), code))
    return source


def place_in_group(group: IntArray, *keys: NDArray[Any]) -> IntArray:
    """The place of each row among those of its group, 0 first, in ascending order of the keys, the first counting most.

    >>> place_in_group(np.array([7, 8, 7]), np.array([0.9, 0.5, 0.1])).tolist()
    [1, 0, 0]
    """
    order = np.lexsort((*reversed(keys), group))
    start = np.flatnonzero(np.r_[True, np.diff(group[order]) != 0][: len(order)])
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(start, np.diff(np.r_[start, len(order)]))
    return place
