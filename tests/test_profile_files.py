"""Profiles in files, as vectors, and as the command line shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_sim.cli import main
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.settings import ProfileSettings
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.user_state import Histories, Timeline, UserProfile, UserState
from hybrid_sim.profiles.statistical_writer import StatisticalWriter
from hybrid_sim.profiles.timelines import PROFILES_FILE, difference, read_timelines, timeline_lines, write_timelines
from hybrid_sim.profiles.writers import write_profiles
from hybrid_sim.retrieval.embedder import MiniLM, TfidfSVD
from hybrid_sim.retrieval.index import ProfileIndex

NASTY = 'line\nend \x00\x1b[31m \u202e \u2028 ünïcode 電影 "quoted"'


def timelines_of(dataset: Dataset) -> list[Timeline]:
    histories = Histories(dataset)
    states = [UserState(user, histories.of(user)) for user in range(dataset.n_users)]
    written = write_profiles(StatisticalWriter().fit(dataset), states, ProfileSettings())
    return [state.timeline for state in written]


def test_timelines_come_back_as_they_were(tiny: Dataset, tmp_path: Path) -> None:
    timelines = timelines_of(tiny)
    nasty = UserProfile("../a\tb", 1, NASTY, (NASTY,), ("",), NASTY, ("i",), 1, -5, "m", ("f",))
    timelines.append(Timeline((nasty, replace(nasty, version=7, at=None))))
    write_timelines(tmp_path / PROFILES_FILE, timelines)
    assert list(read_timelines(tmp_path / PROFILES_FILE).values()) == timelines
    assert len((tmp_path / PROFILES_FILE).read_bytes().split(b"\n")) == 1 + sum(len(t.versions) for t in timelines)


def test_no_timelines_are_a_file_without_lines(tmp_path: Path) -> None:
    write_timelines(tmp_path / "p.jsonl", [])
    assert read_timelines(tmp_path / "p.jsonl") == {}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda line: line[:-9], "row 2, the line: Invalid JSON"),
        (lambda line: line.replace('"version": 2', '"version": "2"'), "row 2, version: "),
        (
            lambda line: line.replace('"version": 2', '"version": 1'),
            "row 2: version 1 of user 'u' stands behind version 1",
        ),
        (lambda line: line.replace('"summary"', '"sumary"'), "row 2, s"),
        (lambda line: line.replace("{", '{"mood": 1, ', 1), "row 2, mood: "),
        (lambda line: "[]", "row 2, the line"),
        (lambda line: f"[{'{},' * 400_000}{{}}]", "row 2 has more than 1,000,000 characters"),
    ],
)
def test_a_damaged_line_is_refused_with_its_row(tmp_path: Path, spoil: Callable[[str], str], message: str) -> None:
    path = tmp_path / "p.jsonl"
    write_timelines(path, [Timeline((UserProfile("u", 1, "a"), UserProfile("u", 2, "b")))])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{spoil(second)}\n")
    with pytest.raises(DataError, match=message):
        read_timelines(path)


def test_a_missing_file_or_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_timelines(tmp_path / "p.jsonl")
    with pytest.raises(SettingsError, match="folder that exists"):
        write_timelines(tmp_path / "none" / "p.jsonl", [])


# Vectors


def indexed(*profiles: UserProfile | None, dataset: Dataset) -> tuple[ProfileIndex, NDArray[np.float32]]:
    """The index of the profiles and the vectors of the items' texts."""
    texts = item_texts(dataset)
    embedder = TfidfSVD(32).fit(texts)
    return ProfileIndex().fit(profiles, embedder), embedder.embed(texts)


def test_likes_and_dislikes_have_opposite_signs(tiny: Dataset) -> None:
    genre = tiny.items["genres"].iloc[0][0]
    fan, hater = UserProfile("a", 1, "", (genre,)), UserProfile("b", 1, "", (), (genre,))
    index, items = indexed(fan, hater, dataset=tiny)
    scores = [index.score(np.full(len(items), row), items) for row in (0, 1)]
    np.testing.assert_allclose(scores[0], -scores[1])
    has = np.array([genre in genres for genres in tiny.items["genres"]])
    assert scores[0][has].mean() > scores[0][~has].mean() + 0.2
    audience = index.audience(items[has], 2)
    assert audience.rows.tolist() == [[0, 1]] * int(has.sum())
    np.testing.assert_allclose(audience.similarities[:, 0], scores[0][has], atol=1e-6)


def test_row_42_what_says_nothing_is_never_an_id(tiny: Dataset) -> None:
    profiles = UserProfile("a", 1, "", ("drama",)), UserProfile("b", 1, "", ("",), ("qzx",)), None
    index, items = indexed(*profiles, dataset=tiny)
    rows = np.array([0, 1, 2, -1])
    scores = index.score(rows, items[:4])
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1:]).all()
    assert np.isnan(index.score(np.array([0]), np.zeros((1, items.shape[1])))).all()
    similar = index.similar(rows, 2)
    assert (similar.rows == -1).all()  # the first is alone, and not its own neighbour
    assert np.isnan(similar.similarities).all()
    assert index.audience(np.zeros((1, items.shape[1])), 2).rows.tolist() == [[-1, -1]]


def test_nobody_at_all_is_an_empty_index(tiny: Dataset) -> None:
    index, items = indexed(dataset=tiny)
    assert len(index.likes_) == 0
    assert index.audience(items[:1], 3).rows.tolist() == [[-1, -1, -1]]


def test_the_nearest_profile_likes_and_dislikes_the_same(tiny: Dataset) -> None:
    first, second = sorted({genre for genres in tiny.items["genres"] for genre in genres})[:2]
    profiles = [
        UserProfile("a", 1, "", (first,), (second,)),
        UserProfile("b", 1, "", (second,), (first,)),
        UserProfile("c", 1, "", (first,), (second,)),
        UserProfile("d", 1, "", (first,)),
    ]
    similar = indexed(*profiles, dataset=tiny)[0].similar(np.array([0, 2]), 2)
    assert similar.rows.tolist() == [[2, 3], [0, 3]]
    np.testing.assert_allclose(similar.similarities[:, 0], 1.0, atol=1e-5)


def test_profiles_that_come_and_change_are_found(tiny: Dataset) -> None:
    genres = sorted({genre for genres in tiny.items["genres"] for genre in genres})
    old = [UserProfile("a", 1, "", (genres[0],)), UserProfile("b", 1, "", (genres[1],))]
    index, _ = indexed(*old, dataset=tiny)
    now = [UserProfile("new", 1, "", (genres[2],)), old[1], UserProfile("a", 2, "", (genres[2],))]
    embedder = TfidfSVD(32).fit(item_texts(tiny))
    updated = index.updated(now, embedder, np.array([2, 1]))
    assert updated.similar(np.array([0, 2]), 1).rows.tolist() == [[2], [0]]


def test_phrases_find_what_they_mean_with_the_real_model() -> None:
    model = MiniLM()
    if model.locate() is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not on this machine")
    profile = UserProfile("a", 1, "", ("war stories",), ("musicals",))
    items = model.embed(["Soldiers defend a bridge.", "A choir puts on a show of song and dance."])
    war, song = ProfileIndex().fit([profile], model).score(np.array([0, 0]), items)
    assert war > 0.1
    assert song < -0.1


# Differences, and what people see


def test_a_difference_names_what_came_and_went() -> None:
    before = UserProfile("u", 1, "", ("drama", "War"), ("gore",))
    after = UserProfile("u", 2, "", ("war", "wit"), ())
    found = difference(before, after)
    assert (found.likes_added, found.likes_removed) == (("wit",), ("drama",))
    assert found.sentence == "Now likes wit; no longer likes drama; no longer dislikes gore."
    assert difference(after, before).sentence == "Now likes drama; dislikes gore; no longer likes wit."
    assert difference(before, replace(after, likes=("drama",), dislikes=("gore",))).sentence == "No longer likes War."
    assert difference(before, before).sentence == "Likes and dislikes are as before."


def test_the_lines_of_a_timeline_show_versions_evidence_and_flags() -> None:
    first = UserProfile("u", 1, "Likes drama.", ("drama",), (), "", ("1", "9"), 2, 878542960)
    second = UserProfile("u", 2, "Likes wit.", ("wit",), (), "Wit is new.", (), 2, None, "m-1", ("quotes ratings",))
    assert timeline_lines(Timeline((first, second)), {"1": "Heat (5)"}) == [
        "version 1, 1997-11-03, after 2 ratings, by statistics",
        "  Likes drama.",
        "  likes: drama",
        "  from: Heat (5); 9",
        "version 2, after 2 ratings, by m-1",
        "  Likes wit.",
        "  likes: +wit (no longer drama)",
        "  change: Wit is new.",
        "  note: quotes ratings",
    ]


def show(*words: str) -> int:
    return main(["profile", *words])


def test_the_command_writes_a_profile_from_ratings(capsys: pytest.CaptureFixture[str]) -> None:
    assert show("--dataset", "world", "--user", "u0001", "--per-version", "15", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["user_id"] == "u0001"
    first, second = record["versions"][:2]
    assert len(first["evidence"]) == 15
    assert first["evidence"][0]["item"][-3:-2] == "("  # the title, then the rating
    assert set(second["likes"]) == {*first["likes"], *second["difference"]["likes_added"]} - {
        *second["difference"]["likes_removed"]
    }


def test_the_command_names_users_with_similar_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    assert show("--dataset", "world", "--user", "u0001", "--similar", "3", "--json") == 0
    similar = json.loads(capsys.readouterr().out)["similar_users"]
    assert len(similar) == 3
    assert "u0001" not in similar
    assert list(similar.values()) == sorted(similar.values(), reverse=True)
    assert all(0 < similarity <= 1.000001 for similarity in similar.values())
    assert show("--recorded", "x", "--user", "u0001", "--similar", "3") == 2


def test_the_command_shows_what_a_run_has_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    versions = tuple(UserProfile("a\x1b[31m", k, f"Text {k}\x1b[0m", ("wit",), at=k * 86_400) for k in (1, 2, 3))
    write_timelines(tmp_path / PROFILES_FILE, [Timeline(versions)])
    assert show("--run", str(tmp_path), "--user", "a\x1b[31m", "--at", "1970-01-04") == 0
    shown = capsys.readouterr().out
    assert "Text 2" in shown
    assert "Text 3" not in shown
    assert "\x1b" not in shown
    assert r"\x1b[0m" in shown


def test_the_command_shows_recorded_profiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.csv").write_text("user_id,summary\nu0001,Enjoys wit.\n")
    assert show("--recorded", str(tmp_path / "p.csv"), "--user", "u0001", "--dataset", "world") == 0
    assert "likes: Enjoys wit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "world", "--user", "nobody"], "world has no user 'nobody'; there are 300, for example"),
        (["--recorded", "{}/p.csv", "--user", "u2"], "has no profile of user 'u2'; did you mean 'u1'"),
        (["--run", "{}", "--user", "u1"], "profiles.jsonl: cannot be read"),
        (["--recorded", "{}/p.csv", "--user", "u1", "--at", "1997-01-01"], "has no times"),
        (["--dataset", "world", "--user", "u0001", "--at", "1997-01-01"], "had no profile then"),
        (["--dataset", "world", "--user", "u0001", "--at", "soon"], "'soon' is no time"),
        (["--recorded", "x", "--run", "y", "--user", "u1"], "not allowed with"),
    ],
)
def test_mistakes_are_answered_with_the_cure(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text("user_id,summary\nu1,Enjoys wit.\n")
    assert show(*(word.format(tmp_path) for word in words)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hybrid-sim: ")]
    assert message in line
