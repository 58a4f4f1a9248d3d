"""One user of a run: the versions of the profile, simulated and real ratings, and an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from hybrid_sim.core.document import Block, Card, Cell, Chart, Column, Link, Phrase, Prose, Section, Table
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import IntArray
from hybrid_sim.core.user_state import Timeline, UserProfile
from hybrid_sim.profiles.timelines import difference, read_timelines
from hybrid_sim.simulation.run_folder import HEADER_ROWS, FinishedRun, Truth, read_explanations

MAX_STEPS = 60
"""Ratings of one user that are drawn as a course; more cannot be told apart."""

MAX_VERSIONS = 40
"""Versions of a profile that are shown, the newest ones."""


def most_rated_user(run: FinishedRun, truth: Truth | None) -> int:
    """The user with most pairs whose real rating is known, or with most pairs; the first of equals."""
    rows = np.ones(len(run), dtype=bool) if truth is None else truth.known
    return int(np.bincount(run.user[rows], minlength=len(run.user_ids)).argmax())


def profile_section(run: FinishedRun, user_id: str, titles: Mapping[str, str]) -> Section:
    """All versions of the user's profile, what is new in each, and the ratings each was made from."""
    timelines = read_timelines(run.folder.profiles) if run.folder.profiles.is_file() else {}
    timeline = timelines.get(user_id, Timeline())
    if not timeline.versions:
        finding = f"The run holds no profile of user {user_id}: too few ratings, or a user that the data does not know."
        return Section("profile", f"Profile of user {user_id}", finding)
    shown = timeline.versions[-MAX_VERSIONS:]
    before = (None, *timeline.versions)[len(timeline.versions) - len(shown) :]
    cards = (_card(old, new, titles) for old, new in zip(before, shown, strict=False))
    latest = shown[-1]
    finding = f"{len(timeline.versions)} versions. The latest: {_line(latest.summary)}"
    notes = (f"Only the {MAX_VERSIONS} newest versions are shown.",) if len(shown) < len(timeline.versions) else ()
    return Section("profile", f"Profile of user {user_id}", finding, (*_course(shown), *cards), notes)


def _course(versions: tuple[UserProfile, ...]) -> tuple[Chart, Table]:
    title = "Versions of the profile by the number of ratings that they rest on"
    columns = (
        Column("version", "version"), Column("n", "ratings"), Column("at", "up to"), Column("writer", "written by"),
        Column("change", "what changed"),
    )  # fmt: skip
    rows = tuple((v.version, v.n_events, _date(v.at), v.writer, _line(v.change)) for v in versions)
    return Chart("lines", title, "versions", "n", ("version",)), Table("versions", title, columns, rows)


def _card(before: UserProfile | None, version: UserProfile, titles: Mapping[str, str]) -> Card:
    new = difference(before, version)
    added = (new.likes_added, new.dislikes_added) if before else ((), ())
    facts: list[tuple[str, tuple[Phrase, ...]]] = [("in short", (Phrase(_line(version.summary)),))]
    for name, phrases, fresh, gone in (
        ("likes", version.likes, added[0], new.likes_removed),
        ("dislikes", version.dislikes, added[1], new.dislikes_removed),
    ):
        marked = [Phrase(phrase, "added" if phrase in fresh else "") for phrase in phrases]
        marked += [Phrase(phrase, "removed") for phrase in gone]
        if marked:
            facts.append((name, tuple(marked)))
    if version.change:
        facts.append(("change", (Phrase(_line(version.change)),)))
    if version.evidence:
        facts.append(("evidence", tuple(Phrase(titles.get(item, item)) for item in version.evidence)))
    if version.flags:
        facts.append(("note", (Phrase(", ".join(version.flags)),)))
    return Card(_heading(version), tuple(facts))


def _heading(version: UserProfile) -> str:
    at = _date(version.at)
    return f"Version {version.version}, after {version.n_events} ratings{at and f' up to {at}'}, by {version.writer}"


def _date(at: int | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _line(text: str) -> str:
    return " ".join(text.split())


def course_section(
    run: FinishedRun, user: int, truth: Truth | None, titles: Mapping[str, str], beside: bool
) -> Section:
    """The ratings of one user in order: expected with interval, drawn, and real where that is known."""
    user_id = str(run.user_ids[user])
    rows = _ordered(run, user, truth)
    shown = rows[:MAX_STEPS]
    expected = run.distribution.mean()
    order = "in the order of time" if truth is not None and truth.at is not None else "in the order of the run"
    title = f"Ratings of user {user_id}, {order}"
    columns = (
        Column("place", "place"), Column("row", "row"), Column("item", "item"),
        Column("expected", "expected, with interval", 2), Column("low", "low"), Column("high", "high"),
        Column("drawn", "drawn"), Column("real", "real"), Column("source", "source"),
    )  # fmt: skip

    def cells(place: int, row: int) -> tuple[Cell, ...]:
        item = str(run.item_ids[run.item[row]])
        numbers = (float(expected[row]), float(run.low[row]), float(run.high[row]), float(run.rating[row]))
        real = None if truth is None else float(truth.rating[row])
        return (place, row_cell(row, beside), titles.get(item, item), *numbers, real, str(run.source[row]))

    y = ("expected", "drawn") if truth is None else ("expected", "drawn", "real")
    chart = Chart("band", title, "ratings", "place", y, "low", "high", y_label="rating")
    cells_of_rows = tuple(cells(place, row) for place, row in enumerate(shown.tolist(), start=1))
    table = Table("ratings", title, columns, cells_of_rows, "Row: of ratings.csv, the header is row 1.")
    notes = (f"The first {len(shown)} of {len(rows)} ratings.",) if len(shown) < len(rows) else ()
    return Section("course", "One user's ratings", _course_finding(run, user_id, rows, truth), (chart, table), notes)


def _course_finding(run: FinishedRun, user_id: str, rows: IntArray, truth: Truth | None) -> str:
    drawn = run.rating[rows]
    finding = f"User {user_id}: {len(rows)} simulated ratings, mean {drawn.mean():.2f}, spread {drawn.std():.2f}"
    known = rows[truth.known[rows]] if truth is not None else rows[:0]
    if truth is None or not len(known):
        return f"{finding}."
    real = truth.rating[known]
    error = float(np.sqrt(np.mean((run.distribution.mean()[known] - real) ** 2)))
    return (
        f"{finding}; the {len(known)} real ones have mean {real.mean():.2f} and spread {real.std():.2f}; RMSE "
        f"{error:.2f} (raw expected rating)."
    )


def _ordered(run: FinishedRun, user: int, truth: Truth | None) -> IntArray:
    rows = np.flatnonzero(run.user == user)
    if truth is None:
        return rows
    known = rows[truth.known[rows]]
    if not len(known):
        return rows
    return known if truth.at is None else known[np.argsort(truth.at[known], kind="stable")]


def row_cell(row: int, beside: bool) -> Cell:
    """The number of a row of `ratings.csv`, leading to the file where the page stands beside it."""
    number = row + 1 + HEADER_ROWS
    return Link(str(number), "ratings.csv") if beside else number


def reason_section(run: FinishedRun, user: int, titles: Mapping[str, str]) -> Section | None:
    """Why the user's highest expected rating is as high as it is, from the explanations of the run."""
    user_id = str(run.user_ids[user])
    rows = np.flatnonzero(run.user == user)
    best = rows[int(np.argmax(run.distribution.mean()[rows]))]
    item_id = str(run.item_ids[run.item[best]])
    stored = read_explanations(run.folder.explanations)
    explanation = next((e for e in stored if (e["user_id"], e["item_id"]) == (user_id, item_id)), None)
    if explanation is None:
        return None
    try:
        parts = {str(name): float(part) for name, part in dict(explanation["contributions"]).items()}
        cited = [(str(e["title"]), float(e["rating"]), float(e["contribution"])) for e in explanation["evidence"]]
        reason, by = str(explanation["reason"]), str(explanation["by"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{run.folder.explanations}: the explanation of user {user_id!r} and item {item_id!r} is damaged "
            f"({error}); run `hybrid-sim simulate` again"
        ) from error
    name = titles.get(item_id, item_id)
    columns = (
        Column("item", "the user's rating of"), Column("rating", "rating"),
        Column("contribution", "contribution", 3, sign=True),
    )  # fmt: skip
    evidence = Table("evidence", "Evidence", columns, tuple(cited))
    blocks: tuple[Block, ...] = (*_contributions(parts, name), Prose(_line(reason)), evidence)
    writer = "in the language model's words" if by == "llm" else "in words made from the numbers"
    finding = f"Of this user's pairs, {name} has the highest expected rating; below is why, {writer}."
    return Section("reason", "Why one rating", finding, blocks)


def _contributions(parts: Mapping[str, float], name: str) -> tuple[Chart, Table]:
    """The contributions to an expected rating, the largest first, as a waterfall from the base."""
    order = sorted((part for part in parts if part != "base"), key=lambda part: -abs(parts[part]))
    total = parts.get("base", 0.0)
    rows: list[tuple[Cell, ...]] = [("base", None, None, total)]
    for part in order:
        rows.append((part, parts[part], total, total + parts[part]))
        total += parts[part]
    rows.append(("expected rating", None, None, total))
    columns = (
        Column("part", "part"), Column("contribution", "contribution", 3, sign=True), Column("before", "before", 2),
        Column("after", "after", 2),
    )  # fmt: skip
    title = f"Contributions to the expected rating of {name}"
    caption = "Parts of the prediction, in rating units. The axis does not begin at zero."
    chart = Chart("waterfall", title, "contributions", "part", ("before", "after"), y_label="rating", caption=caption)
    return chart, Table("contributions", title, columns, tuple(rows))
