"""Features of items (text, genres, year), rows of at most unit length, and the pairs of one user at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs

YEARS_ALIKE = 10.0
"""Length scale of the kernel over years: films ten years apart have the similarity exp(-1/2)."""


def rows_by_user(pairs: Pairs, answered: NDArray[np.bool_]) -> Iterator[tuple[int, IntArray]]:
    """Each user among the pairs that are `answered`, and the rows of these pairs."""
    rows = np.flatnonzero(answered)
    order = rows[np.argsort(pairs.user[rows], kind="stable")]
    users, starts = np.unique(pairs.user[order], return_index=True)
    for user, start, end in zip(users.tolist(), starts.tolist(), [*starts[1:].tolist(), len(order)], strict=False):
        yield user, order[start:end]


def item_vectors(dataset: Dataset, embedder: Embedder) -> FloatArray:
    """Unit text vectors of the whole catalogue, shape `(n_items, dim)`; fits the embedder on its texts."""
    texts = item_texts(dataset)
    return embedder.fit(texts).embed(texts).astype(np.float64)


def centred(vectors: FloatArray) -> FloatArray:
    """Vectors without what all have in common, at unit length again; rows of zeros stay zero.

    Texts of one catalogue resemble each other (cosines about .2): what tells items apart is the difference
    from their mean (Mu and Viswanath 2018, "All-but-the-top").
    """
    filled = vectors.any(axis=1)
    apart = np.zeros_like(vectors)
    if filled.any():
        apart[filled] = vectors[filled] - vectors[filled].mean(axis=0)
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    return np.where(lengths > 1e-9, apart / np.maximum(lengths, 1e-9), 0.0)


def text_block(vectors: FloatArray, n_directions: int) -> FloatArray:
    """Unit vectors on their leading directions, shape `(n_items, <= n_directions)`; the rest is cut off."""
    strengths, directions = np.linalg.eigh(vectors.T @ vectors)
    leading = directions[:, np.argsort(-strengths, kind="stable")[:n_directions]]
    return np.asarray(vectors @ leading)


def genre_block(items: pd.DataFrame) -> FloatArray:
    """Unit rows over the genres of the catalogue, shape `(n_items, n_genres)`; zero without genres."""
    if "genres" not in items:
        return np.zeros((len(items), 0))
    row = np.repeat(np.arange(len(items)), [len(genres) for genres in items["genres"]])
    given = [genre for genres in items["genres"] for genre in genres]
    names = sorted(set(given))
    block = np.zeros((len(items), len(names)))
    block[row, [names.index(genre) for genre in given]] = 1.0
    return np.asarray(block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1.0))


def year_block(items: pd.DataFrame) -> FloatArray:
    """Unit rows with inner products of nearly exp(-(difference / 10 years)² / 2); zero without a year.

    The columns are bumps centred every ten years, shape `(n_items, n_decades)`.
    """
    years = items["year"].to_numpy(dtype=float) if "year" in items else np.full(len(items), np.nan)
    known = np.isfinite(years)
    if not known.any():
        return np.zeros((len(items), 0))
    centres = np.arange(years[known].min(), years[known].max() + YEARS_ALIKE, YEARS_ALIKE)
    block = np.zeros((len(items), len(centres)))
    block[known] = np.exp(-(((years[known, None] - centres) / YEARS_ALIKE) ** 2))
    block[known] /= np.linalg.norm(block[known], axis=1, keepdims=True)
    return block
