"""One user of a run: the profile and how it changed, the simulated ratings beside the real ones, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import IntArray
from hybrid_sim.core.user_state import Timeline, UserProfile
from hybrid_sim.profiles.changes import difference
from hybrid_sim.profiles.timelines import read_timelines
from hybrid_sim.report.bars import Step, waterfall_chart
from hybrid_sim.report.page import Block, Card, Cards, Cell, Chart, Column, Link, Prose, Section, Table, Word
from hybrid_sim.report.plots import Line, Moment, lines_chart, timeline_chart
from hybrid_sim.simulation.run_results import HEADER_ROWS, FinishedRun, Truth

MAX_STEPS = 60
"""Ratings of one user that are drawn as a course; more cannot be told apart."""

MAX_VERSIONS = 40
"""Versions of a profile that are shown, the newest ones."""

N_PARTS = 10
"""Contributions to one rating that are named; smaller ones are summed up."""


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
        return Section("profile", f"Profile of user {user_id}", finding, ())
    shown = timeline.versions[-MAX_VERSIONS:]
    before = (None, *timeline.versions)[len(timeline.versions) - len(shown) :]
    cards = Cards(tuple(_card(old, new, titles) for old, new in zip(before, shown, strict=False)))
    latest = shown[-1]
    finding = f"{len(timeline.versions)} versions. The latest: {_line(latest.summary)}"
    notes = (f"Only the {MAX_VERSIONS} newest versions are shown.",) if len(shown) < len(timeline.versions) else ()
    return Section("profile", f"Profile of user {user_id}", finding, (_course(shown), cards), notes)


def _course(versions: tuple[UserProfile, ...]) -> Chart:
    moments = [
        Moment(float(v.n_events), f"version {v.version}", f"{v.n_events} ratings", f"{_heading(v)}. {_line(v.change)}")
        for v in versions
    ]
    title = "The profile over the ratings that it rests on"
    columns = (Column("version"), Column("ratings"), Column("up to"), Column("written by"), Column("what changed"))
    rows = tuple((v.version, v.n_events, _date(v.at), v.writer, _line(v.change)) for v in versions)
    return Chart(title, timeline_chart(title, moments), Table("table-profile", title, columns, rows))


def _card(before: UserProfile | None, version: UserProfile, titles: Mapping[str, str]) -> Card:
    new = difference(before, version)
    added = (new.likes_added, new.dislikes_added) if before else ((), ())
    facts: list[tuple[str, tuple[Word, ...]]] = [("in short", (Word(_line(version.summary)),))]
    for name, phrases, fresh, gone in (
        ("likes", version.likes, added[0], new.likes_removed),
        ("dislikes", version.dislikes, added[1], new.dislikes_removed),
    ):
        words = [Word(phrase, "new" if phrase in fresh else "") for phrase in phrases]
        words += [Word(phrase, "gone") for phrase in gone]
        if words:
            facts.append((name, tuple(words)))
    if version.change:
        facts.append(("change", (Word(_line(version.change)),)))
    if version.evidence:
        facts.append(("evidence", tuple(Word(titles.get(item, item)) for item in version.evidence)))
    if version.flags:
        facts.append(("note", (Word(", ".join(version.flags)),)))
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
    places = [float(place) for place in range(1, len(shown) + 1)]
    expected, low, high = (part[shown].tolist() for part in (run.distribution.mean(), run.low, run.high))
    real = None if truth is None else truth.rating[shown]
    lines = [Line("expected, with interval", places, expected, low, high)]
    lines.append(Line("drawn", places, run.rating[shown].tolist(), joined=False))
    if real is not None:
        lines.append(Line("real", places, real.tolist(), joined=False))
    order = "in the order of time" if truth is not None and truth.at is not None else "in the order of the run"
    title = f"Ratings of user {user_id}, {order}"
    columns = (
        Column("place"), Column("row"), Column("item"), Column("expected", 2), Column("low"), Column("high"),
        Column("drawn"), Column("real"), Column("source"),
    )  # fmt: skip
    cells: list[tuple[Cell, ...]] = [
        (
            place + 1,
            row_cell(int(row), beside),
            titles.get(str(run.item_ids[run.item[row]]), str(run.item_ids[run.item[row]])),
            expected[place],
            low[place],
            high[place],
            float(run.rating[row]),
            None if real is None else float(real[place]),
            str(run.source[row]),
        )
        for place, row in enumerate(shown)
    ]
    table = Table("table-course", title, columns, tuple(cells), "Row: of ratings.csv, the header is row 1.")
    chart = Chart(title, lines_chart(title, lines, "place", "rating"), table)
    notes = (f"The first {len(shown)} of {len(rows)} ratings.",) if len(shown) < len(rows) else ()
    return Section("course", "One user's ratings", _course_finding(run, user_id, rows, truth), (chart,), notes)


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
    found = _explanation(run, user_id, item_id)
    if found is None:
        return None
    try:
        parts = {str(name): float(part) for name, part in dict(found["contributions"]).items()}
        cited = [(str(e["title"]), float(e["rating"]), float(e["contribution"])) for e in found["evidence"]]
        reason, by = str(found["reason"]), str(found["by"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{run.folder.explanations}: the explanation of user {user_id!r} and item {item_id!r} is damaged "
            f"({error}); run `hybrid-sim simulate` again"
        ) from error
    name = titles.get(item_id, item_id)
    title = f"What adds up to the expected rating of {name}"
    table = Table(
        "table-contributions",
        title,
        (Column("part"), Column("rating units", 3, True)),
        tuple((part, parts[part]) for part in sorted(parts, key=lambda part: -abs(parts[part]))),
    )
    drawing = waterfall_chart(
        title, ("base", parts.get("base", 0.0)), _steps(parts), "expected rating", "rating", decimals=2
    )
    columns = (Column("the user's rating of"), Column("rating"), Column("speaks for (+) or against (−)", 3, True))
    caption = "Parts of the prediction, in rating units. The axis does not begin at zero."
    blocks: list[Block] = [Chart(title, drawing, table, caption)]
    blocks += [Prose(_line(reason)), Table("table-evidence", "Evidence", columns, tuple(cited))]
    told = "in the language model's words" if by == "llm" else "in words made from the numbers"
    finding = f"Of this user's pairs, {name} has the highest expected rating; below is why, {told}."
    return Section("reason", "Why one rating", finding, tuple(blocks))


def _steps(parts: Mapping[str, float]) -> list[Step]:
    order = sorted((name for name in parts if name != "base"), key=lambda name: -abs(parts[name]))
    steps = [Step(name, parts[name]) for name in order[:N_PARTS]]
    rest = sum(parts[name] for name in order[N_PARTS:])
    return [*steps, Step(f"{len(order) - N_PARTS} smaller parts", rest)] if len(order) > N_PARTS else steps


def _explanation(run: FinishedRun, user_id: str, item_id: str) -> dict[str, Any] | None:
    """The line of `explanations.jsonl` about a pair; only lines that name both ids are parsed."""
    if not run.folder.explanations.is_file():
        return None
    wanted = (json.dumps(user_id), json.dumps(item_id))
    with run.folder.explanations.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not all(word in line for word in wanted):
                continue
            try:
                found = dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"{run.folder.explanations} line {number} is not an explanation; run `hybrid-sim simulate` again"
                ) from error
            if (found.get("user_id"), found.get("item_id")) == (user_id, item_id):
                return found
    return None
