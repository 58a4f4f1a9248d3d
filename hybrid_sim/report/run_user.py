"""One user of a run: the versions of the profile, simulated and real ratings, an explanation, and a map of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.document import Block, Card, Cell, Chart, Column, Link, Phrase, Prose, Section, Table
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.core.user_state import Timeline, UserProfile
from hybrid_sim.profiles.timelines import difference, read_timelines
from hybrid_sim.retrieval.content_gp import N_PLAIN, ContentGP
from hybrid_sim.retrieval.text_raters import SignedFacets
from hybrid_sim.simulation.run_folder import HEADER_ROWS, FinishedRun, Truth, read_explanations
from hybrid_sim.simulation.simulator import Simulator

MAX_STEPS = 60
"""Ratings of one user that are drawn as a course; more cannot be told apart."""

MAX_VERSIONS = 40
"""Versions of a profile that are shown, the newest ones."""

VERSION_COLUMNS = (
    Column("version", "version"), Column("n", "ratings"), Column("at", "up to"), Column("writer", "written by"),
    Column("change", "what changed"),
)  # fmt: skip
RATING_COLUMNS = (
    Column("place", "place"), Column("row", "row"), Column("title or id", "item"),
    Column("expected", "expected, with interval", 2), Column("low", "low"), Column("high", "high"),
    Column("drawn", "drawn"), Column("real", "real"), Column("source", "source"),
)  # fmt: skip
CONTRIBUTION = Column("contribution", "contribution", 3, sign=True)
EVIDENCE_COLUMNS = (Column("item", "the user's rating of"), Column("rating", "rating"), CONTRIBUTION)
PART_COLUMNS = (Column("part", "part"), CONTRIBUTION, Column("before", "before", 2), Column("after", "after", 2))

MAX_ITEMS = 1200
"""Items on the map: all of a small catalogue, else those of the user and a random choice of others."""

MIN_ITEMS = 3
"""Items, and users, that a map needs."""

ITEM_COLUMNS = (
    Column("item", "item"), Column("title", "title"), Column("expected", "expected rating", 3),
    Column("across", "first principal direction", 3), Column("up", "second principal direction", 3),
)  # fmt: skip


@dataclass(frozen=True)
class RunView:
    """A run with what its page needs beside it: real ratings, titles of items by id, and which user is shown.

    `beside`: the page is a file of the run's folder, so that it may link to the table of ratings.
    """

    run: FinishedRun
    truth: Truth | None
    titles: Mapping[str, str]
    user: int
    beside: bool

    @property
    def user_id(self) -> str:
        """The user that is shown."""
        return str(self.run.user_ids[self.user])

    def table(self, name: str, title: str, columns: Sequence[Column], rows: IntArray) -> Table:
        """Rows of the run as a table; the names of the columns say what is shown of each."""
        run, numbers = self.run, (rows + 1 + HEADER_ROWS).tolist()
        items = run.prediction.item_ids[rows].tolist()
        values: dict[str, Sequence[Cell]] = {
            "place": range(1, len(rows) + 1),
            "row": [Link(str(number), "ratings.csv") for number in numbers] if self.beside else numbers,
            "user": run.prediction.user_ids[rows].tolist(),
            "item": items,
            "title": [self.titles.get(item, "") for item in items],
            "title or id": [self.titles.get(item, item) for item in items],
            "drawn": run.rating[rows].tolist(),
            "expected": run.distribution.mean()[rows].tolist(),
            "low": run.low[rows].tolist(),
            "high": run.high[rows].tolist(),
            "real": [None] * len(rows) if self.truth is None else self.truth.rating[rows].tolist(),
            "source": run.source[rows].tolist(),
            "llm": run.llm_rating[rows].tolist(),
        }
        cells = zip(*(values[column.name] for column in columns), strict=True)
        return Table(name, title, tuple(columns), tuple(cells), "Row: of ratings.csv, the header is row 1.")


def profile_section(view: RunView) -> Section:
    """All versions of the user's profile, what is new in each, and the ratings each was made from."""
    run, user_id = view.run, view.user_id
    timelines = read_timelines(run.folder.profiles) if run.folder.profiles.is_file() else {}
    timeline = timelines.get(user_id, Timeline())
    if not timeline.versions:
        finding = f"The run holds no profile of user {user_id}: too few ratings, or a user that the data does not know."
        return Section("profile", f"Profile of user {user_id}", finding)
    shown = timeline.versions[-MAX_VERSIONS:]
    before = (None, *timeline.versions)[len(timeline.versions) - len(shown) :]
    cards = (_card(old, new, view.titles) for old, new in zip(before, shown, strict=False))
    latest = shown[-1]
    finding = f"{len(timeline.versions)} versions. The latest: {_line(latest.summary)}"
    notes = (f"Only the {MAX_VERSIONS} newest versions are shown.",) if len(shown) < len(timeline.versions) else ()
    return Section("profile", f"Profile of user {user_id}", finding, (*_course(shown), *cards), notes)


def _course(versions: tuple[UserProfile, ...]) -> tuple[Chart, Table]:
    title = "Versions of the profile by the number of ratings that they rest on"
    rows = tuple((v.version, v.n_events, _date(v.at), v.writer, _line(v.change)) for v in versions)
    return Table("versions", title, VERSION_COLUMNS, rows).charted("lines", "n", "version")


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


def course_section(view: RunView) -> Section:
    """The ratings of one user in order: expected with interval, drawn, and real where that is known."""
    run, truth, user_id = view.run, view.truth, view.user_id
    rows = _ordered(run, view.user, truth)
    shown = rows[:MAX_STEPS]
    order = "in the order of time" if truth is not None and truth.at is not None else "in the order of the run"
    table = view.table("ratings", f"Ratings of user {user_id}, {order}", RATING_COLUMNS, shown)
    y = ("expected", "drawn") if truth is None else ("expected", "drawn", "real")
    blocks = table.charted("band", "place", *y, low="low", high="high", y_label="rating")
    notes = (f"The first {len(shown)} of {len(rows)} ratings.",) if len(shown) < len(rows) else ()
    return Section("course", "One user's ratings", _course_finding(run, user_id, rows, truth), blocks, notes)


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
    known, times = rows[truth.known[rows]], truth.at
    if not len(known):
        return rows
    return known if times is None else known[np.argsort(times[known], kind="stable")]


def reason_section(view: RunView) -> Section | None:
    """Why the user's highest expected rating is as high as it is, from the explanations of the run."""
    run, user_id = view.run, view.user_id
    rows = np.flatnonzero(run.user == view.user)
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
    name = view.titles.get(item_id, item_id)
    evidence = Table("evidence", "Evidence", EVIDENCE_COLUMNS, tuple(cited))
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
    title = f"Contributions to the expected rating of {name}"
    caption = "Parts of the prediction, in rating units. The axis does not begin at zero."
    return Table("contributions", title, PART_COLUMNS, tuple(rows)).charted(
        "waterfall", "part", "before", "after", y_label="rating", caption=caption
    )


def map_section(view: RunView, simulator: Simulator | None, seed: int = 0) -> Section:
    """The section with the map; without item vectors, or with too few items, it says that there is none."""
    run, user, user_id = view.run, view.user, view.user_id
    described = None if simulator is None else _vectors(simulator)
    if simulator is not None and described is not None:
        items, expected, vectors = _of_catalogue(run, user, simulator, described[0], seed)
        how = described[1]
    else:
        items, expected, vectors = _of_table(run, user)
        how = "how the users of this run are expected to rate them"
    if len(items) < MIN_ITEMS or not np.ptp(vectors, axis=0).any():
        finding = "No map can be drawn: the run holds too few items, or nothing that says which are alike."
        return Section("map", "Map of items", finding)
    places, share = principal_plane(vectors)
    low, high = float(expected.min()), float(expected.max())
    title = f"Items by {how}, coloured by the expected rating of user {user_id}"
    rows = tuple(
        (items[n], view.titles.get(items[n], items[n]), float(expected[n]), *places[n].tolist())
        for n in np.argsort(-expected, kind="stable").tolist()
    )
    variance = f"The two directions hold {share:.0%} of the variance between items"
    blocks = Table("items", title, ITEM_COLUMNS, rows).charted(
        "scatter", "across", "up", shade="expected", tip="title",
        caption=f"{variance}; distances on the map are approximate.",
    )  # fmt: skip
    finding = f"{len(items):,} items; user {user_id} is expected to give {low:.2f} to {high:.2f}."
    return Section("map", "Map of items", finding, blocks)


def _vectors(simulator: Simulator) -> tuple[FloatArray, str] | None:
    """Item vectors of a fitted member, shape `(n_items, n_directions)`, and by what they are similar; None without one.

    Of a `ContentGP` they are the item features F in the metric of the user weights W: F V sqrt(L) with W'W = V L V', so
    that distances between items are those between the rows of F W', the parts of the users' ratings due to content.
    """
    members, n_items = simulator.ensemble_.members_.values(), len(simulator.item_ids_)
    for member in members:
        if isinstance(member, ContentGP):
            features, weights = member.features_[:n_items, N_PLAIN:], member.user_weights_[:, N_PLAIN:]
            strengths, directions = np.linalg.eigh(weights.T @ weights)
            return features @ directions * np.sqrt(np.maximum(strengths, 0.0)), "who likes what they are about"
    for member in members:
        if isinstance(member, SignedFacets):
            return member.vectors_[:n_items], "their texts"
    return None


def _of_catalogue(
    run: FinishedRun, user: int, simulator: Simulator, vectors: FloatArray, seed: int
) -> tuple[list[str], FloatArray, FloatArray]:
    known = np.flatnonzero(vectors.any(axis=1))
    ids = simulator.item_ids_.to_numpy(dtype=object)
    own = np.isin(ids[known], run.item_ids[run.item[run.user == user]])
    if len(known) > MAX_ITEMS:
        first, others = known[own][:MAX_ITEMS], known[~own]
        drawn = stream(seed, "map").choice(len(others), min(MAX_ITEMS - len(first), len(others)), replace=False)
        known = np.sort(np.concatenate([first, others[drawn]]))
    items = [str(item) for item in ids[known]]
    expected = simulator.predict([str(run.user_ids[user])] * len(items), items).distribution.mean()
    return items, expected, vectors[known]


def _of_table(run: FinishedRun, user: int) -> tuple[list[str], FloatArray, FloatArray]:
    """The user's items, the user's expected ratings, and as vectors the centred expected ratings of all users."""
    mean = run.distribution.mean()
    rows = np.flatnonzero(run.user == user)[:MAX_ITEMS]
    distinct, first = np.unique(run.item[rows], return_index=True)
    here = np.isin(run.item, distinct)
    table = pd.DataFrame({"user": run.user[here], "item": run.item[here], "mean": mean[here]})
    wide = table.pivot_table(index="item", columns="user", values="mean", aggfunc="mean")
    wide = (wide - wide.mean()).fillna(0.0)
    vectors = wide.to_numpy(dtype=float)
    if vectors.shape[1] < MIN_ITEMS:
        vectors = np.zeros((len(distinct), MIN_ITEMS))
    return [str(item) for item in run.item_ids[distinct]], mean[rows[first]], vectors


def principal_plane(vectors: FloatArray) -> tuple[FloatArray, float]:
    """The two directions in which rows differ most: places of shape `(n, 2)` and the share of the variance they hold.

    Signs are fixed so that the largest place in each direction is positive: equal rows give an equal map.
    """
    centred: NDArray[np.float64] = vectors - vectors.mean(axis=0)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * strengths[:2]
    places *= np.where(places[np.abs(places).argmax(axis=0), np.arange(places.shape[1])] < 0, -1.0, 1.0)
    return places, float((strengths[:2] ** 2).sum() / (strengths**2).sum())
