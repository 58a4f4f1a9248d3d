"""Records of users and items for prompts: no ids, and of one user only the user's own data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import IntArray
from hybrid_sim.core.user_state import History, UserProfile
from hybrid_sim.prompts.untrusted import shown_text

MAX_OVERVIEW = 600
MAX_OVERVIEW_OF_RATED = 200
"""Characters of an item's text: of one that is to be rated, and of one that was rated."""

MAX_TITLE = 200
MAX_SUMMARY = 3000
MAX_PHRASES = 30
"""Likes, and likewise dislikes, that are shown of a profile."""

Record = dict[str, Any]


def item_records(dataset: Dataset, items: IntArray, overview: int = MAX_OVERVIEW) -> list[Record]:
    """Title with year, genres and overview of each item, as far as known; -1, an unknown item, has an empty record.

    `overview` is how many characters of the overview are shown.
    """
    columns = [_column(dataset.items, name, items) for name in ("title", "year", "genres", "overview")]
    return [
        _without_empty(
            title=_title(title, year),
            genres=_phrases(genres),
            overview=shown_text(text, overview) if text and overview else "",
        )
        for title, year, genres, text in zip(*columns, strict=True)
    ]


def rated_records(dataset: Dataset, history: History, overview: int = MAX_OVERVIEW_OF_RATED) -> list[Record]:
    """The items of a history with the ratings that the user gave them, in the order of the history."""
    items = item_records(dataset, history.item, min(overview, MAX_OVERVIEW_OF_RATED))
    return [{**item, "rating": plain_number(rating)} for item, rating in zip(items, history.rating, strict=True)]


def user_record(dataset: Dataset, user: int, profile: UserProfile | None = None) -> Record:
    """Age, gender and occupation as far as known, and summary, likes and dislikes of the profile where there is one."""
    names = ("age_group", "age", "gender", "occupation")
    age_group, age, gender, occupation = (_column(dataset.users, name, np.array([user]))[0] for name in names)
    return _without_empty(
        age=age_group or _as_text(age),
        gender={"M": "male", "F": "female"}.get(str(gender), gender),
        occupation=occupation,
        profile=shown_text(profile.summary, MAX_SUMMARY) if profile else "",
        likes=_phrases(profile.likes if profile else ()),
        dislikes=_phrases(profile.dislikes if profile else ()),
    )


def plain_number(value: float) -> int | float:
    """A whole number without its point, so that it reads as 4 and not as 4.0."""
    return int(value) if float(value).is_integer() else float(value)


def _column(table: Any, name: str, rows: IntArray) -> list[Any]:
    """The column's values of these rows; None where row, column or value is missing."""
    if name not in table:
        return [None] * len(rows)
    column = table[name].array  # not to_numpy(), which copies a column of strings
    values = [column[row] if row >= 0 else None for row in rows]
    return [None if value is None or value != value else value for value in values]  # NaN differs from itself


def _without_empty(**fields: Any) -> Record:
    return {name: value for name, value in fields.items() if value not in (None, "", [])}


def _title(title: str | None, year: Any) -> str:
    text = shown_text(title or "", MAX_TITLE)
    return f"{text} ({_as_text(year)})" if text and year is not None else text


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else f"{value:g}"


def _phrases(phrases: Sequence[str] | None) -> list[str]:
    return [shown_text(phrase, MAX_TITLE) for phrase in (phrases or ())[:MAX_PHRASES]]
