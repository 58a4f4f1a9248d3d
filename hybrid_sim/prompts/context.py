"""What a prompt shows of users and items, as records for `as_data`: no ids, and of one user only its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.history import History
from hybrid_sim.core.types import IntArray
from hybrid_sim.core.user_state import UserProfile
from hybrid_sim.prompts.untrusted import shown_text

MAX_OVERVIEW = 600
MAX_OVERVIEW_OF_RATED = 200
"""Characters of an item's text: of one that is to be rated, and of one that was rated."""

MAX_TITLE = 200
MAX_SUMMARY = 3000
MAX_PHRASES = 30
"""Likes, and likewise dislikes, that are shown of a profile."""

Record = dict[str, Any]


def shown_items(dataset: Dataset, items: IntArray, overview: int = MAX_OVERVIEW) -> list[Record]:
    """Title with year, genres and overview of each item, as far as known; -1, an unknown item, has an empty record.

    `overview` is how many characters of the overview are shown; 0 leaves it out.
    """
    columns = {name: _column(dataset, name, items) for name in ("title", "year", "genres", "overview")}
    rows = zip(*columns.values(), strict=True)
    return [
        _known(
            title=_title(title, year),
            genres=_phrases(genres),
            overview=shown_text(text or "", overview) if overview else "",
        )
        for title, year, genres, text in rows
    ]


def shown_rated(dataset: Dataset, history: History, overview: int = MAX_OVERVIEW_OF_RATED) -> list[Record]:
    """The items of a history with the ratings that the user gave them, in the order of the history."""
    items = shown_items(dataset, history.item, overview)
    return [{**item, "rating": plain_number(rating)} for item, rating in zip(items, history.rating, strict=True)]


def shown_person(dataset: Dataset, user: int, profile: UserProfile | None = None) -> Record:
    """Age, gender and occupation as far as known, and summary, likes and dislikes of the profile where there is one."""
    of_user = {name: _column(dataset, name, np.array([user]), "users")[0] for name in _PERSON}
    age = of_user["age_group"] or _plain(of_user["age"])
    gender = {"M": "male", "F": "female"}.get(str(of_user["gender"]), of_user["gender"])
    person = _known(age=age, gender=gender, occupation=of_user["occupation"])
    if profile is None:
        return person
    return person | _known(
        profile=shown_text(profile.summary, MAX_SUMMARY),
        likes=_phrases(profile.likes),
        dislikes=_phrases(profile.dislikes),
    )


def plain_number(value: float) -> int | float:
    """A whole number without its point, so that it reads as 4 and not as 4.0."""
    return int(value) if float(value).is_integer() else float(value)


_PERSON = ("age_group", "age", "gender", "occupation")


def _column(dataset: Dataset, name: str, rows: IntArray, frame: str = "items") -> list[Any]:
    """The column's values of these rows; None where row, column or value is not known."""
    table = dataset.users if frame == "users" else dataset.items
    if name not in table:
        return [None] * len(rows)
    values = table[name].array  # not to_numpy(), which copies a column of strings
    found = [values[row] if row >= 0 else None for row in rows]
    return [None if value is None or value != value else value for value in found]  # NaN differs from itself


def _known(**fields: Any) -> Record:
    return {name: value for name, value in fields.items() if value not in (None, "", [])}


def _title(title: str | None, year: Any) -> str:
    text = shown_text(title or "", MAX_TITLE)
    return f"{text} ({_plain(year)})" if text and year is not None else text


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else f"{value:g}"


def _phrases(phrases: Sequence[str] | None) -> list[str]:
    return [shown_text(phrase, MAX_TITLE) for phrase in (phrases or ())[:MAX_PHRASES]]
