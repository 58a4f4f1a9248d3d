"""The genuine layout of the Amazon reviews of 2014 (JSON lines)."""

from __future__ import annotations

import html
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.data.columns import Table, read_table
from hybrid_sim.data.decoding import text_file
from hybrid_sim.data.ratings import assemble
from hybrid_sim.data.records import read_records
from hybrid_sim.data.scales import parse_scale
from hybrid_sim.data.sources import DATASETS, DataSource

REVIEWS = "reviews_*.json"

_log = logging.getLogger("hybrid_sim")


def read_amazon(folder: Path, name: str) -> Dataset:
    """Reviews of the category in `name` (`amazon-<category>`) from `reviews_<Category>_5*.json`, with
    `meta_<Category>*.json` where it lies beside.

    Times are whole days. Price, sales rank and related products were gathered after the ratings and are not
    read.

    Raises:
        SettingsError: there is no such category, or several while `name` is `amazon`.
        DataError: a file is damaged.
    """
    reviews = _find_reviews(folder, name.partition("-")[2])
    wanted = ("reviewerID", "asin", "overall", "unixReviewTime", "reviewText")
    table = read_table(reviews, wanted=wanted)
    _report_repeated_texts(table)
    metadata = sorted(path for path in folder.glob("meta_*.json") if _category(path) == _category(reviews))
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


def _find_reviews(folder: Path, category: str) -> Path:
    """The reviews file of a category (`musical-instruments`), or the only one where `category` is empty."""
    files = {path: _category(path) for path in sorted(folder.glob(REVIEWS))}
    matches = [path for path, other in files.items() if category in ("", other)]
    if len(matches) != 1:
        names = ", ".join(f"amazon-{other}" for other in files.values()) or "none"
        raise SettingsError(
            f"{folder} holds {len(matches)} review files of amazon-{category or '...'}; it has: {names}"
        )
    return matches[0]


def _category(path: Path) -> str:
    """The category in the name of a reviews or metadata file: `digital-music`."""
    words = path.name.split(".")[0].split("_")[1:]
    return "-".join(word for word in words if not word.isdigit()).lower()


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
    records: dict[str, dict[str, Any]] = {}
    for record, row in zip(*read_records(text_file(path)), strict=True):
        if not isinstance(record.get("asin"), str):
            raise DataError(f"{path.name} row {row}: expected a record with an asin, got {str(record)[:40]!r}")
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
    for name, empty in {"title": "", "genres": (), "overview": ""}.items():
        if name not in items:
            items[name] = pd.Series([empty] * len(items), items.index, dtype=object)
    return items.assign(year=np.nan)


DATASETS.add(
    "amazon-<category>",
    DataSource(read_amazon, REVIEWS, licence="Amazon reviews of 2014 (He and McAuley 2016): research use, cite them"),
)
