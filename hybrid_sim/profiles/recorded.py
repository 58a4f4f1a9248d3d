"""Profiles that were written elsewhere: Lusifer's recorded ones, or any table with a row per version."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybrid_sim.core.errors import DataError
from hybrid_sim.core.user_state import Timeline, UserProfile
from hybrid_sim.data.columns import Table, read_table
from hybrid_sim.profiles.checks import RATINGS, quotes_ratings

LUSIFER_VERSIONS = "intermediate_user_profiles_json"
LUSIFER_CHANGES = "profile_changes_json"
COLUMNS = ("user_id", "version", "summary", "likes", "dislikes", "change", "at")
"""Columns of a table of profiles; user_id and summary are needed."""

SIGNS_GUESSED = "signs guessed"
"""The flag of a profile whose likes and dislikes were read from the words of its summary."""

_log = logging.getLogger("hybrid_sim")


def read_recorded_profiles(path: Path | str) -> dict[str, Timeline]:
    """The timelines in a table (CSV, Parquet, JSON lines), by user id.

    A table has a row per version: `user_id`, `summary`, and, if they are known, `version` (else the order of the rows),
    `likes` and `dislikes` (a list, a JSON list, or phrases between semicolons), `change` and `at` (seconds UTC). Where
    neither likes nor dislikes are given they are read from the summary (`split_by_sign`) and flagged. The table that
    was recorded with Lusifer (Ebrat et al. 2024), a row per user, is known by its columns; users without a profile
    are left out.

    Raises:
        SettingsError: there is no such file.
        DataError: a column is missing or a row is refused.
    """
    table = read_table(path, wanted=(*COLUMNS, LUSIFER_VERSIONS, LUSIFER_CHANGES))
    table.require("user_id", "a column user_id")
    if LUSIFER_VERSIONS in table.names:
        return _read_lusifer(table)
    table.require("summary", "a column summary")
    return {user: Timeline(tuple(versions)) for user, versions in _read_versions(table).items()}


def split_by_sign(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Likes and dislikes in a text that holds both, clause by clause; clauses without a sign are left out.

    A clause ends with its sentence, at a semicolon, or where "but", "while" and the like turn the sense. It is a
    dislike if it has a word such as "dislikes", "aversion", "poorly" or "lower", else a like if it has one such as
    "prefers", "enjoys" or "favourite". Irony, and a "not" before a sign word, are not understood.

    >>> split_by_sign("She enjoys quiet dramas, but dislikes horror. Age 24.")
    (('She enjoys quiet dramas',), ('dislikes horror',))
    """
    clauses = [clause.strip(" \n,;.") for clause in _TURN.split(text)]
    dislikes = tuple(clause for clause in clauses if _AGAINST.search(clause))
    return tuple(clause for clause in clauses if _FOR.search(clause) and not _AGAINST.search(clause)), dislikes


_TURN = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?]['\"’”]))\s+(?=['\"‘“]?[A-Z])|;\s+|\n+|"
    r"(?:,?\s+|(?<=\s)|^)\b(?i:but|while|whereas|although|though|however|despite|yet)\b,?\s+"
)
_AGAINST = re.compile(
    r"\b(?:dislik\w+|avers\w+|disinterest\w*|uninterest\w*|dissatisf\w+|disappoint\w+|distaste|poorly|avoids?|hates?|"
    r"low(?:er|est)?|less|least|lack\w*|weak\w*|critical|critici\w+|superficial|shallow|unfavou?r\w*|dismiss\w*|"
    r"struggles? with|reject\w*|bored?|boring|detest\w*|negative\w*)\b",
    re.IGNORECASE,
)
_FOR = re.compile(
    r"\b(?:lik(?:es?|ed|ing)|lov(?:es?|ed|ing)|enjoy\w*|prefer\w*|favou?r\w*|appreciat\w+|affinity|fond\w*|"
    r"high(?:er|est|ly)?|inclin\w+|interest\w*|drawn|admir\w+|valu(?:es?|ed|ing)|passion\w*|positive\w*|best|resonat\w+)\b",
    re.IGNORECASE,
)


def _read_lusifer(table: Table) -> dict[str, Timeline]:
    timelines: dict[str, Timeline] = {}
    records = zip(_users(table), table.texts(LUSIFER_VERSIONS), _texts(table, LUSIFER_CHANGES), strict=True)
    for record, (user, versions, changed) in enumerate(records):
        if user in timelines:
            raise DataError(f"{table.where(record, 'user_id')}: user {user!r} has a row already; remove one of them")
        summaries = _phrases(versions, table.where(record, LUSIFER_VERSIONS))
        changes = [*_phrases(changed, table.where(record, LUSIFER_CHANGES)), *[""] * len(summaries)]
        profiles = [_profile(user, k, text, change=changes[k - 1]) for k, text in enumerate(summaries, start=1)]
        if profiles:
            timelines[user] = Timeline(tuple(profiles))
    _log.warning(
        "%s: recorded profiles of %d users; those of Lusifer were made from u1.base of MovieLens 100K and know test "
        "ratings of the other folds: use them with fold 1 alone",
        table.path.name,
        len(timelines),
    )
    return timelines


def _read_versions(table: Table) -> dict[str, list[UserProfile]]:
    """The versions of each user, oldest first."""
    users, changes = _users(table), _texts(table, "change")
    numbers, times = _whole(table, "version"), _whole(table, "at")
    likes, dislikes = _lists(table, "likes"), _lists(table, "dislikes")
    versions: dict[str, list[UserProfile]] = {}
    for record, (user, summary) in enumerate(zip(users, table.texts("summary"), strict=True)):
        if not summary.strip():
            raise DataError(f"{table.where(record, 'summary')}: is empty; fill it in or remove the row")
        own = versions.setdefault(user, [])
        number = numbers[record] if numbers else len(own) + 1
        if number is None or any(version.version == number for version in own):
            raise DataError(
                f"{table.where(record, 'version')}: {number} of user {user!r}; expected a number that the user has once"
            )
        at = times[record] if times else None
        own.append(_profile(user, number, summary, changes[record], at, likes[record], dislikes[record]))
    return {user: sorted(own, key=lambda version: version.version) for user, own in versions.items()}


def _profile(
    user: str,
    version: int,
    summary: str,
    change: str = "",
    at: int | None = None,
    likes: tuple[str, ...] = (),
    dislikes: tuple[str, ...] = (),
) -> UserProfile:
    guessed = not (likes or dislikes)
    if guessed:
        likes, dislikes = split_by_sign(summary)
    text = "\n".join((summary, *likes, *dislikes))
    return UserProfile(
        user_id=user,
        version=version,
        summary=summary.strip(),
        likes=likes,
        dislikes=dislikes,
        change="" if version == 1 else change,
        at=at,
        writer="recorded",
        flags=(*((SIGNS_GUESSED,) if guessed else ()), *((RATINGS,) if quotes_ratings(text) else ())),
    )


def _users(table: Table) -> list[str]:
    ids = table.ids("user_id")
    return [str(user) for user in ids.names[ids.codes]]


def _texts(table: Table, column: str) -> list[str]:
    return table.texts(column) if column in table.names else [""] * len(table)


def _whole(table: Table, column: str) -> list[int | None]:
    """A column of whole numbers, None where one is missing; [] where the column is."""
    if column not in table.names:
        return []
    numbers = table.numbers(column)
    refused = np.flatnonzero(~np.isnan(numbers) & (numbers != np.floor(numbers)))
    if len(refused):
        record = int(refused[0])
        raise DataError(f"{table.where(record, column)}: {numbers[record]:g} is no whole number; fix or remove the row")
    return [None if np.isnan(number) else int(number) for number in numbers]


def _lists(table: Table, column: str) -> list[tuple[str, ...]]:
    values = table.columns.get(column)
    has_lists = values is not None and pa.types.is_list(values.type)
    cells: Iterable[Any] = table.columns[column].to_pylist() if has_lists else _texts(table, column)
    return [_phrases(cell, table.where(record, column)) if cell else () for record, cell in enumerate(cells)]


def _phrases(cell: str | list[Any], place: str) -> tuple[str, ...]:
    """The phrases of a list, of a JSON list of texts, or those between semicolons."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{place}: is no JSON list ({error}); fix or remove the row") from error
    phrases = cell if isinstance(cell, list) else cell.split(";")
    if not all(isinstance(phrase, str) for phrase in phrases):
        raise DataError(f"{place}: expected a list of texts; fix or remove the row")
    return tuple(phrase.strip() for phrase in phrases if phrase.strip())
