"""Random streams derived from keys, never from the order of work.

One worker and sixty-four must give the same table, whatever the order of the rows. So a stream's seed is a hash of the
base seed and of keys that name the question (a rater's name, a user, an item, a replicate).
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def derive_seed(seed: int, *keys: str | int) -> int:
    """A 64-bit seed for the question named by `keys`; equal on every platform and in every release.

    >>> derive_seed(0, "svd", 1) == derive_seed(0, "svd", 1) != derive_seed(0, "svd", 2)
    True
    """
    text = "\x1f".join([str(int(seed)), *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")


def stream(seed: int, *keys: str | int) -> np.random.Generator:
    """A generator of its own for the question named by `keys`."""
    return np.random.default_rng(derive_seed(seed, *keys))


def pair_uniforms(
    seed: int, user_ids: NDArray[np.object_], item_ids: NDArray[np.object_], replicate: int = 0
) -> NDArray[np.float64]:
    """One uniform number in [0, 1) per (user, item, replicate), shape `(n_pairs,)`.

    A row's number depends on its own ids alone, so that batches may be reordered, split or spread over workers.
    The ids are hashed (SipHash of pandas), mixed with the seed by SplitMix64 (Steele et al. 2014).
    """
    state = np.full(len(user_ids), derive_seed(seed, "pair", replicate), dtype=np.uint64)
    for ids in (user_ids, item_ids):
        state = _splitmix64(state ^ pd.util.hash_array(np.asarray(ids, dtype=object)))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53  # the 53 bits that a double holds


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
