"""Film texts of TMDB: a table of them, joined to a dataset; `tmdb_client` gathers one."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.files import write_whole
from hybrid_sim.data.columns import read_table
from hybrid_sim.data.tables import frame_by_id, read_sets

TEXTS = {"overview": "overview", "original_language": "language", "director": "director"}
SETS = {"origin_country": "countries", "production_companies": "companies", "cast": "cast"}
COLLECTIONS = ("collection", "belongs_to_collection")
VOTES = {"vote_average": "tmdb_vote_average", "vote_count": "tmdb_vote_count"}


def read_tmdb(path: Path | str) -> pd.DataFrame:
    """A table of TMDB texts (Parquet, CSV or JSON lines), indexed by its column `item_id` or `movie_id`.

    Raises:
        DataError: the id column is missing or a row cannot be used.
    """
    table = read_table(path)
    column = next((name for name in ("item_id", "movie_id") if name in table.names), None)
    if column is None:
        raise DataError(f"{table.path.name}: expected a column item_id or movie_id, got {', '.join(table.names)}")
    data: dict[str, Any] = {}
    data.update({ours: table.texts(theirs) for theirs, ours in TEXTS.items() if theirs in table.names})
    data.update({ours: read_sets(table, theirs, _whole) for theirs, ours in SETS.items() if theirs in table.names})
    collection = next((name for name in COLLECTIONS if name in table.names), None)
    if collection:
        data["collection"] = table.texts(collection)
    numbers = {"runtime": "runtime", **VOTES}
    data.update({ours: table.numbers(theirs) for theirs, ours in numbers.items() if theirs in table.names})
    return frame_by_id(table, column, data)


def write_tmdb(texts: pd.DataFrame, path: Path) -> None:
    """Write a table of texts, as `TmdbClient.fetch` gives it, so that `read_tmdb` reads the same.

    Raises:
        StorageError: the disk is full or not writable.
    """
    table = texts.rename(columns={ours: theirs for theirs, ours in (TEXTS | SETS).items()})
    for name in SETS:
        table[name] = [json.dumps(members) for members in table[name]]
    content = io.BytesIO()
    table.rename_axis("item_id").reset_index().to_parquet(content)
    write_whole(path, content.getvalue())


def add_tmdb(dataset: Dataset, texts: pd.DataFrame, *, votes: bool = False) -> Dataset:
    """The dataset with TMDB's columns beside its own; an overview replaces only where TMDB has one.

    Votes were counted decades after the ratings, so they are left out unless `votes` asks for them;
    popularity and revenue always are.
    """
    items = dataset.items.copy()
    aligned = texts.reindex(items.index)
    for name in texts.columns:
        if name in VOTES.values() and not votes:
            continue
        if texts[name].dtype != object:
            items[name] = aligned[name]
            continue
        empty: Any = () if name in SETS.values() else ""
        old = items[name].tolist() if name in items else [empty] * len(items)
        new = [value if isinstance(value, str | tuple) else empty for value in aligned[name]]
        items[name] = pd.Series([b or a for a, b in zip(old, new, strict=True)], items.index, dtype=object)
    return replace(dataset, items=items)


def _whole(texts: list[str]) -> list[tuple[str, ...]]:
    """A plain text is one name."""
    return [(text,) if text else () for text in texts]
