"""The genuine layouts of MovieLens: 100K (bars and tabs), 1M (double colons), latest-small and 25M (CSV)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray
from hybrid_sim.data.columns import Table, read_table
from hybrid_sim.data.delimited import RATING_NAMES
from hybrid_sim.data.ratings import assemble
from hybrid_sim.data.scales import parse_scale
from hybrid_sim.data.sources import DATASETS, Archive, DataSource
from hybrid_sim.data.tables import frame_by_id, split_genres

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
)  # fmt: skip
"""The flags of `u.item`, in order (`u.genre`)."""

AGES_1M = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
"""The ages of `users.dat` are codes of these ranges (README of MovieLens 1M)."""

OCCUPATIONS_1M = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer",
    "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
    "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip
"""The occupations of `users.dat`, by code (README of MovieLens 1M)."""


def read_100k(folder: Path, name: str) -> Dataset:
    """MovieLens 100K from `u.data`, `u.item` and `u.user`.

    Raises:
        DataError: a file is damaged.
    """
    ratings = read_table(folder / "u.data", names=RATING_NAMES, delimiter="\t", quoted=False)
    fields = ["item_id", "title", "released", "video", "imdb", *GENRES_100K]
    items = read_table(folder / "u.item", names=fields, delimiter="|", encoding="latin-1", quoted=False)
    user_names = ("user_id", "age", "gender", "occupation", "zip_code")
    users = read_table(folder / "u.user", names=user_names, delimiter="|", encoding="latin-1", quoted=False)
    titles, years = split_titles(items.texts("title"))
    released = np.array([float(date[-4:]) if date else np.nan for date in items.texts("released")])
    flags = np.column_stack([items.numbers(genre) for genre in GENRES_100K[1:]]) > 0
    genres = [tuple(np.array(GENRES_100K[1:], dtype=object)[row]) for row in flags]
    side = {"title": titles, "year": np.where(np.isnan(years), released, years), "genres": genres}
    return assemble(
        ratings,
        name=name,
        users=frame_by_id(users, "user_id", _demographics(users, users.texts("occupation"))),
        items=frame_by_id(items, "item_id", {**side, "overview": [""] * len(items)}),
        scale=parse_scale("1:5"),
    )


def read_1m(folder: Path, name: str) -> Dataset:
    """MovieLens 1M from `ratings.dat`, `movies.dat` and `users.dat`.

    A third of the ratings share user and second with another, so that the order of the file is part of the
    data and is kept.

    Raises:
        DataError: a file is damaged.
    """
    ratings = read_table(folder / "ratings.dat", names=RATING_NAMES, delimiter="::", quoted=False)
    movie_names, user_names = ("item_id", "title", "genres"), ("user_id", "gender", "age", "occupation", "zip_code")
    movies = read_table(folder / "movies.dat", names=movie_names, delimiter="::", encoding="latin-1", quoted=False)
    users = read_table(folder / "users.dat", names=user_names, delimiter="::", encoding="latin-1", quoted=False)
    codes = users.numbers("occupation").astype(np.int64)
    occupations = [OCCUPATIONS_1M[code] if 0 <= code < len(OCCUPATIONS_1M) else str(code) for code in codes]
    demographics = _demographics(users, occupations)
    demographics["age_group"] = [AGES_1M.get(int(age), str(int(age))) for age in demographics["age"]]
    return assemble(
        ratings,
        name=name,
        users=frame_by_id(users, "user_id", demographics),
        items=frame_by_id(movies, "item_id", _movies(movies)),
        scale=parse_scale("1:5"),
    )


def read_csv_layout(folder: Path, name: str) -> Dataset:
    """MovieLens latest-small or 25M from `ratings.csv` and `movies.csv`; these sets say nothing about users.

    Raises:
        DataError: a file is damaged.
    """
    ratings = read_table(folder / "ratings.csv", delimiter=",")
    movies = read_table(folder / "movies.csv", delimiter=",")
    return assemble(
        ratings,
        name=name,
        user="userId",
        item="movieId",
        items=frame_by_id(movies, "movieId", _movies(movies)),
        scale=parse_scale("0.5:5:0.5"),
    )


def split_titles(titles: list[str]) -> tuple[list[str], FloatArray]:
    """Titles without the year in brackets at their end, and the (first) year, NaN where there is none.

    >>> split_titles(["Twelve Monkeys (1995)", "Desu nôto (2006–2007)", "Babylon 5"])
    (['Twelve Monkeys', 'Desu nôto', 'Babylon 5'], array([1995., 2006.,   nan]))
    """
    years = [_YEAR.search(title) for title in titles]
    names = [title[: year.start() if year else None].strip() for title, year in zip(titles, years, strict=True)]
    return names, np.array([float(year[1]) if year else np.nan for year in years])


_YEAR = re.compile(r"\s*\((\d{4})(?:[-–](?:\d{4})?)?\)(?:\s*\(V\))?\s*$")
"""`(1995)`, `(2006–2007)`, `(2006-)`; MovieLens 100K marks one title with `(V)`, made for video."""


def _movies(movies: Table) -> dict[str, Any]:
    titles, years = split_titles(movies.texts("title"))
    genres = split_genres(movies.texts("genres"))
    return {"title": titles, "year": years, "genres": genres, "overview": [""] * len(movies)}


def _demographics(users: Table, occupations: list[str]) -> dict[str, Any]:
    """Zip codes stay text: they have leading zeros, letters and nine-digit forms."""
    return {
        "age": users.numbers("age"),
        "gender": users.texts("gender"),
        "occupation": occupations,
        "zip_code": users.texts("zip_code"),
    }


def _register(name: str, marker: str, read: Callable[[Path, str], Dataset], megabytes: int, md5: str | None) -> None:
    archive = Archive(f"https://files.grouplens.org/datasets/movielens/{name}.zip", megabytes << 20, md5)
    DATASETS.add(name, DataSource(read, marker, archive, LICENCE))


LICENCE = "MovieLens may be used for research only and not be passed on; its terms lie in the folder"
_register("ml-100k", "u.data", read_100k, 20, "0e33842e24a9c977be4e0107933c0723")
_register("ml-1m", "ratings.dat", read_1m, 40, "c4d9eecfca2ab87c1945afe126590906")
_register("ml-latest-small", "ratings.csv", read_csv_layout, 20, None)
_register("ml-25m", "ratings.csv", read_csv_layout, 500, None)
