"""Items and users as plain text: for embedding and for profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hybrid_sim.core.dataset import Dataset


def item_texts(dataset: Dataset) -> list[str]:
    """One text per item for embedding: title, year, genres and overview, as far as known; "" where nothing is.

    For example `Toy Story (1995). Genres: Animation, Comedy. Led by Woody, Andy's toys live happily in his room.`
    """
    parts = zip(_titles(dataset), _genres(dataset), _column(dataset, "overview"), strict=True)
    return [
        " ".join(part for part in (_sentence(title), genres and f"Genres: {genres}.", overview) if part)
        for title, genres, overview in parts
    ]


def user_info(dataset: Dataset) -> list[str]:
    """One text per user: age, gender and occupation on a line each (Lusifer, Ebrat et al. 2024)."""
    users = dataset.users
    ages = "age_group" if "age_group" in users else "age"
    fields = {"Age": ages, "Gender": "gender", "Occupation": "occupation"}
    columns = [[(label, _plain(value)) for value in users[name]] for label, name in fields.items() if name in users]
    if not columns:
        return [""] * len(users)
    return ["\n".join(f"{label}: {value}" for label, value in row if value) for row in zip(*columns, strict=True)]


def _titles(dataset: Dataset) -> list[str]:
    years = [_plain(year) for year in dataset.items["year"]] if "year" in dataset.items else [""] * dataset.n_items
    titles = _column(dataset, "title")
    return [f"{title} ({year})" if title and year else title for title, year in zip(titles, years, strict=True)]


def _sentence(title: str) -> str:
    return title if not title or title.endswith((".", "!", "?")) else f"{title}."


def _genres(dataset: Dataset) -> list[str]:
    if "genres" not in dataset.items:
        return [""] * dataset.n_items
    return [", ".join(genres) for genres in dataset.items["genres"]]


def _column(dataset: Dataset, name: str) -> Sequence[str]:
    return dataset.items[name].tolist() if name in dataset.items else [""] * dataset.n_items


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return {"M": "Male", "F": "Female"}.get(str(value), str(value))
