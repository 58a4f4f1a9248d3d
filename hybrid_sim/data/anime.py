"""The genuine layout of the MyAnimeList subset (tab-separated)."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.data.columns import read_table
from hybrid_sim.data.ratings import assemble
from hybrid_sim.data.scales import parse_scale
from hybrid_sim.data.sources import DATASETS, DataSource
from hybrid_sim.data.tables import frame_by_id, split_genres


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


DATASETS.add("anime", DataSource(read_anime, "anime_ratings.dat", licence="gathered from MyAnimeList: research use"))
