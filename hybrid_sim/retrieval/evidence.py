"""Explanations by example: the ratings of a user that raise or lower a prediction the most, and shared tags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.core.user_state import History
from hybrid_sim.retrieval.content_gp import N_PLAIN, ContentGP, Influences
from hybrid_sim.retrieval.keywords import catalogue_tags
from hybrid_sim.retrieval.products import SPARE, nearest, pair_products

N_KEYWORDS = 5
"""Keywords that are named for an item at most, and as many against it."""

LEAST_EFFECT = 0.0025
"""A rating is cited if it moves the prediction by this part of the scale's range: a hundredth of a star of five."""

MAX_QUERIES = 4096
"""Items compared with a user's history at once, which bounds the memory."""


@dataclass(frozen=True)
class Evidence:
    """One rating of the user's past. `contribution` is what the content process would predict less without it."""

    item: int
    item_id: str
    title: str
    rating: float
    contribution: float


@dataclass(frozen=True)
class Grounds:
    """The evidence about one item in the user's ratings, largest effects first.

    `keywords` are tags that the item shares with cited items that the user liked more than expected, `against` with
    cited items that the user liked less.
    """

    evidence: tuple[Evidence, ...] = ()
    keywords: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


class EvidenceFinder:
    """Cites ratings by what they do to the prediction of a fitted content process.

    Up to `n_cited` ratings are cited that are higher than the user's others let expect and raise the prediction for the
    item, and as many the other way round: those with the largest effects by content. The contribution reported is the
    whole effect, which also has a part that is the same for all items (a user who gives low ratings); ranked by it,
    every item would have the same few ratings for evidence.

    >>> from hybrid_sim.retrieval.embedder import TfidfSVD
    >>> from hybrid_sim.core.user_state import Histories
    >>> from hybrid_sim.testing import tiny_dataset
    >>> tiny = tiny_dataset()
    >>> finder = EvidenceFinder(ContentGP(TfidfSVD()).fit(tiny), tiny)
    >>> len(finder.about(Histories(tiny).of(0), np.array([3, 5])))
    2
    """

    def __init__(self, process: ContentGP, dataset: Dataset, n_cited: int = 3) -> None:
        self._process = process
        self._n_cited = n_cited
        self._least = LEAST_EFFECT * (dataset.scale.high - dataset.scale.low)
        self._item_ids = dataset.items.index.to_numpy(dtype=object)
        titles = dataset.items["title"].tolist() if "title" in dataset.items else [""] * dataset.n_items
        self._titles = [title or item_id for title, item_id in zip(titles, self._item_ids, strict=True)]
        tags = catalogue_tags(dataset)
        common = np.asarray((tags.weights > 0).sum(axis=0)).ravel()
        rarity = np.sqrt(np.log(dataset.n_items / np.maximum(common, 1)))
        self._tag_names = tags.names
        self._tags = scipy.sparse.csr_array(tags.weights @ scipy.sparse.diags_array(rarity))

    def about(self, history: History, items: IntArray) -> list[Grounds]:
        """The grounds for each of `items`, row numbers of the dataset, from one user's `history`."""
        if not len(history):
            return [Grounds()] * len(items)
        influences = self._process.influences(history.item, history.rating)
        return [
            grounds
            for start in range(0, len(items), MAX_QUERIES)
            for grounds in self._about(history, influences, items[start : start + MAX_QUERIES])
        ]

    def _about(self, history: History, influences: Influences, items: IntArray) -> Iterator[Grounds]:
        rows, places, effects = self._cited(influences, items)
        tags = self._shared_tags(rows, history.item[places], effects, items)
        ends = np.searchsorted(rows, np.arange(len(items) + 1))
        for row in range(len(items)):
            cited = slice(ends[row], ends[row + 1])
            evidence = zip(places[cited].tolist(), effects[cited].tolist(), strict=True)
            yield Grounds(tuple(self._evidence(history, place, effect) for place, effect in evidence), *tags[row])

    def _cited(self, influences: Influences, items: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Row of `items`, place in the history and effect of every rating that is cited: by row, the largest first."""
        features = self._process.features_[items]
        cited = []
        for sign in (1.0, -1.0):
            side = np.flatnonzero(sign * influences.surprise > 0)
            weights = sign * influences.weights[side]
            pending, width = np.arange(len(items)), self._n_cited + SPARE
            while len(pending) and len(side):
                places, by_content = nearest(features[pending, N_PLAIN:], weights[:, N_PLAIN:], width)
                row = np.repeat(pending, places.shape[1])
                effect = pair_products(row, places.ravel(), features, weights).reshape(places.shape)
                telling = (effect >= self._least) & (by_content > 0)
                chosen = telling & (telling.cumsum(axis=1) <= self._n_cited)
                # Further ratings may be telling where few of these are; a content effect of 0 ends the list.
                open_end = (telling.sum(axis=1) < self._n_cited) & (by_content[:, -1] > 0) & (width < len(side))
                chosen[open_end] = False
                cited.append((row[chosen.ravel()], side[places[chosen]], sign * effect[chosen]))
                pending, width = pending[open_end], len(side)
        if not cited:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
        rows, places, effects = (np.concatenate(part) for part in zip(*cited, strict=True))
        order = np.lexsort((places, -np.abs(effects), rows))
        return rows[order], places[order], effects[order]

    def _shared_tags(
        self, rows: IntArray, cited: IntArray, effects: FloatArray, items: IntArray
    ) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Tags for and against each of `items`: those it shares with cited items, weighed by rarity and effects."""
        carrying = scipy.sparse.csr_array((effects, (rows, cited)), shape=(len(items), len(self._titles)))
        shared = scipy.sparse.csr_array((carrying @ self._tags).multiply(self._tags[items]))
        return [
            self._named(shared.indices[row], shared.data[row]) for row in map(slice, shared.indptr, shared.indptr[1:])
        ]

    def _named(self, columns: IntArray, weights: FloatArray) -> tuple[tuple[str, ...], tuple[str, ...]]:
        order = np.lexsort((columns, -np.abs(weights)))
        columns, weights = columns[order], weights[order]
        chosen = (columns[weights > 0], columns[weights < 0])
        liked, disliked = (tuple(self._tag_names[tag] for tag in tags[:N_KEYWORDS].tolist()) for tags in chosen)
        return liked, disliked

    def _evidence(self, history: History, place: int, effect: float) -> Evidence:
        item = int(history.item[place])
        return Evidence(item, self._item_ids[item], self._titles[item], float(history.rating[place]), effect)
