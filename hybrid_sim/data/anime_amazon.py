"""The genuine layouts of the MyAnimeList subset (tabs) and of the Amazon reviews of 2014 (JSON lines)."""

from __future__ import annotations

import ast
import html
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.data.columns import Table, read_table
from hybrid_sim.data.ratings import assemble
from hybrid_sim.data.scales import parse_scale
from hybrid_sim.data.tables import frame_by_id, split_genres

_log = logging.getLogger("hybrid_sim")


def read_anime(folder: Path, name: str) -> Dataset:
    """The MyAnimeList subset from `anime_ratings.dat` and `anime_info.dat`; it has no times.

    `rating` and `members` of the info file average the community's ratings, held-out ones included, and are
    not read.

    Raises:
        DataError: a file is damaged.
    """
    ratings = read_table(folder / "anime_ratings.dat", delimiter="\t", quoted=False)
    wanted = ("anime_ids", "name", "genre", "type", "episodes")
    info = read_table(folder / "anime_info.dat", wanted=wanted, delimiter="\t", quoted=False)
    side: dict[str, Any] = {
        "title": [html.unescape(title).strip() for title in info.texts("name")],
        "year": np.full(len(info), np.nan),
        "genres": split_genres(info.texts("genre")),
        "overview": [""] * len(info),
        "type": info.texts("type"),
        "episodes": np.array([float(count) if count.isdigit() else np.nan for count in info.texts("episodes")]),
    }
    return assemble(
        ratings,
        name=name,
        user="User_ID",
        item="Anime_ID",
        rating="Feedback",
        timestamp=None,
        items=frame_by_id(info, "anime_ids", side),
        scale=parse_scale("1:10"),
    )


def read_amazon(reviews: Path, name: str) -> Dataset:
    """Reviews of one category from `reviews_<Category>_5*.json`, with `meta_<Category>*.json` where it lies
    beside.

    Times are whole days. Price, sales rank and related products were gathered after the ratings and are not
    read.

    Raises:
        DataError: a file is damaged.
    """
    wanted = ("reviewerID", "asin", "overall", "unixReviewTime", "reviewText")
    table = read_table(reviews, wanted=wanted)
    _report_repeated_texts(table)
    category = amazon_category(reviews).replace("-", "_")
    metadata = sorted(path for path in reviews.parent.glob("meta_*.json") if amazon_category(path) == category)
    asins = table.ids("asin")
    items = _read_metadata(metadata[0]) if metadata else pd.DataFrame(index=pd.Index(asins.names, dtype=object))
    return assemble(
        table,
        name=name,
        user="reviewerID",
        item="asin",
        rating="overall",
        timestamp="unixReviewTime",
        items=_with_text_columns(items),
        scale=parse_scale("1:5"),
    )


def find_reviews(folder: Path, category: str) -> Path:
    """The reviews file of a category (`musical-instruments`), or the only one where `category` is empty.

    Raises:
        SettingsError: there is none, or there are several.
    """
    files = sorted(folder.glob("reviews_*.json"))
    chosen = [path for path in files if category in ("", amazon_category(path).replace("_", "-"))]
    if len(chosen) != 1:
        known = ", ".join("amazon-" + amazon_category(path).replace("_", "-") for path in files) or "none"
        raise SettingsError(f"{folder} holds {len(chosen)} review files of amazon-{category or '...'}; it has: {known}")
    return chosen[0]


def amazon_category(path: Path) -> str:
    """The category in the name of a reviews or metadata file, in lower case: `digital_music`."""
    words = path.name.split(".")[0].split("_")[1:]
    return "_".join(word for word in words if not word.isdigit()).lower()


def _report_repeated_texts(table: Table) -> None:
    """One review is sometimes posted under several products, so that a test row may copy a training row."""
    texts = pd.DataFrame({"user": table.texts("reviewerID"), "text": table.texts("reviewText")})
    repeated = int((texts.duplicated() & (texts["text"] != "")).sum())
    if repeated:
        _log.warning(
            "%s: %d reviews repeat a text that the same user posted before; held-out ratings may copy training ones",
            table.path.name,
            repeated,
        )


def _read_metadata(path: Path) -> pd.DataFrame:
    """The lines are Python literals, not JSON: they are parsed as literals and never run."""
    records: dict[str, dict[str, Any]] = {}
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = ast.literal_eval(line) if line.strip() else None
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                raise DataError(f"{path.name} row {number}: not a Python literal ({error}); remove the line") from error
            if record is None:
                continue
            if not isinstance(record, dict) or not isinstance(record.get("asin"), str):
                raise DataError(f"{path.name} row {number}: expected a record with an asin, got {line[:40]!r}")
            records[record["asin"]] = record
    rows = list(records.values())
    columns: dict[str, Any] = {
        "title": [html.unescape(str(row.get("title", ""))) for row in rows],
        "genres": [_flat_categories(row.get("categories", [])) for row in rows],
        "overview": [html.unescape(str(row.get("description", ""))) for row in rows],
        "brand": [html.unescape(str(row.get("brand", ""))) for row in rows],
    }
    index = pd.Index(list(records), dtype=object)
    return pd.DataFrame({key: pd.Series(values, index, dtype=object) for key, values in columns.items()}, index=index)


def _flat_categories(paths: list[list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(html.unescape(category) for path in paths for category in path))


def _with_text_columns(items: pd.DataFrame) -> pd.DataFrame:
    """Products without metadata have an empty text, not a missing column."""
    empty: dict[str, Any] = {"title": "", "genres": (), "overview": ""}
    missing = {
        name: pd.Series([value] * len(items), items.index, dtype=object)
        for name, value in empty.items()
        if name not in items
    }
    return items.assign(**missing, year=np.nan)
