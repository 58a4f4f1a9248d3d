"""Tags: what items have in common, in single words: genres, keywords of their texts, decades."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import IntArray

Kind = Literal["genre", "keyword", "decade"]

MIN_ITEMS = 3
"""Items that a tag belongs to at least."""

MAX_SHARE = 0.04
"""Share of the items' texts that a keyword occurs in at most; commoner words are of the language, not of the item."""

DISTINCT = 3.0
"""Standard deviations by which a keyword must be more frequent in a genre than by chance."""

_WORD = re.compile(r"[^\W\d_]{4,}")


@dataclass(frozen=True)
class Tags:
    """All tags of a catalogue: `weights` is sparse, shape `(n_items, n_tags)`.

    Genres and decades weigh one; the keywords of an item are weighed by how rare they are (TF-IDF) and have the
    length one together.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    weights: Any

    def columns(self, kind: Kind) -> IntArray:
        """The columns of the tags of one kind."""
        return np.flatnonzero(np.array(self.kinds, dtype=object) == kind).astype(np.int64)


def catalogue_tags(dataset: Dataset) -> Tags:
    """The tags of the items of a dataset, from `genres`, `overview` and `year` as far as they exist.

    A keyword is a word of at least four letters that stands in at least three overviews, and there in lower case, which
    leaves names out. No keyword is a stop word, a genre or the whole title of an item, so that none gives a title away.
    Where there are genres, a keyword is clearly more frequent in one of them than elsewhere: "police" and "planet"
    are, "decides" and "suddenly" are not. Where there are no overviews, there are no keywords.
    """
    genres, keywords = _tags("genre", _genres(dataset)), _tags("keyword", _keywords(dataset))
    parts = [genres, _distinctive(keywords, genres), _tags("decade", _decades(dataset))]
    return Tags(
        tuple(name for part in parts for name in part.names),
        tuple(kind for part in parts for kind in part.kinds),
        scipy.sparse.hstack([part.weights for part in parts], format="csr"),
    )


def _distinctive(keywords: Tags, genres: Tags) -> Tags:
    """The keywords that some genre has more often than chance would give it, weighed anew; all if there are none.

    Chance: a keyword of n items is in n p of a genre with the share p, with the variance n p (1 - p).
    """
    if not genres.names or not keywords.names:
        return _by_rarity(keywords)
    n_items = np.asarray(keywords.weights.sum(axis=0)).ravel()[:, None]
    share = np.asarray(genres.weights.mean(axis=0)).ravel()
    together = (keywords.weights.T @ genres.weights).toarray()
    excess = (together - n_items * share) / np.sqrt(n_items * share * (1 - share) + 0.5)
    kept = np.flatnonzero((excess.max(axis=1) > DISTINCT) & ~np.isin(keywords.names, genres.names))
    names = tuple(keywords.names[column] for column in kept)
    return _by_rarity(Tags(names, keywords.kinds[: len(names)], keywords.weights[:, kept]))


def _by_rarity(keywords: Tags) -> Tags:
    """The keywords weighed by inverse document frequency, the keywords of each item with the length one together."""
    n_items = np.asarray(keywords.weights.sum(axis=0)).ravel()
    weights = keywords.weights * np.log(keywords.weights.shape[0] / np.maximum(n_items, 1))
    lengths = np.sqrt(np.asarray(weights.power(2).sum(axis=1)).ravel())
    return replace(keywords, weights=(weights.T * (1 / np.where(lengths > 0, lengths, 1))).T.tocsr())


def _tags(kind: Kind, of_items: Sequence[Sequence[str]]) -> Tags:
    """The tags of one kind that enough items have, all of weight one, given each item's tags."""
    n_items_with = Counter(tag for tags in of_items for tag in set(tags))
    names = sorted(tag for tag, count in n_items_with.items() if count >= MIN_ITEMS)
    column = {name: place for place, name in enumerate(names)}
    cells = [(row, column[tag]) for row, tags in enumerate(of_items) for tag in dict.fromkeys(tags) if tag in column]
    rows, columns = np.array(cells, dtype=np.int64).reshape(-1, 2).T
    weights = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(of_items), len(names)))
    return Tags(tuple(names), tuple(kind for _ in names), weights)


def _genres(dataset: Dataset) -> list[list[str]]:
    if "genres" not in dataset.items:
        return [[] for _ in range(dataset.n_items)]
    return [[_short(genre) for genre in genres if genre.strip()] for genres in dataset.items["genres"]]


def _decades(dataset: Dataset) -> list[list[str]]:
    if "year" not in dataset.items:
        return [[] for _ in range(dataset.n_items)]
    years = dataset.items["year"].to_numpy(dtype=float)
    return [[f"{int(year // 10 * 10)}s"] if np.isfinite(year) else [] for year in years]


def _keywords(dataset: Dataset) -> list[list[str]]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    if "overview" not in dataset.items:
        return [[] for _ in range(dataset.n_items)]
    titles = {title.strip().casefold() for title in dataset.items.get("title", ())}
    words = [[word for word in _WORD.findall(text) if word == word.lower()] for text in dataset.items["overview"]]
    n_items_with = Counter(word for own in words for word in set(own))
    too_common = {word for word, count in n_items_with.items() if count > max(MAX_SHARE * len(words), MIN_ITEMS)}
    left_out = ENGLISH_STOP_WORDS | titles | too_common
    return [[word for word in own if word not in left_out] for own in words]


def _short(phrase: str) -> str:
    return " ".join(phrase.split())[:60].lower()
