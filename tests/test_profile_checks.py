"""Checks of profile texts, and profiles that were written elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.settings import ProfileSettings
from hybrid_sim.profiles.checks import RATINGS, TITLES, faults, quoted_titles, quotes_ratings
from hybrid_sim.profiles.recorded import SIGNS_GUESSED, read_recorded_profiles, split_by_sign

QUOTING = [
    "rated it 4",
    "rated 'The Rock' a 4",
    "4/5",
    "gave 4 out of 5",
    "four out of five",
    "5 stars",
    "a two-star comedy",
    "'Sleeper' (5) and",
    "high ratings (4 or 5) for",
    "low ratings (1-2)",
    "(both rated 3.5)",
    "(4s and 5s)",
    "gave westerns a 2",
    "ratings of 4 and 5",
    "ratings of 3 for films like these",
    "consistently rated below 3",
    "a rating of 85",
    "a score of 7.5",
    "a 4 rating for",
    "received a 1",
    "Rating: 3",
]
NOT_QUOTING = [
    "",
    "Age: 24, Gender: Male",
    "rates more generously than others",
    "rated 40 films of the 1990s",
    "gave 3 films another try",
    "likes 'Ocean's Eleven' (1960)",
    "from the 1990s",
    "20,000 leagues under the sea",
    "a man of 57 who rates strictly",
    "Naked Gun 33 1/3",
    "12 angry men",
    "enjoys stars of the silent era",
    "in her 30s",
    "rated 100% of them",
]


@pytest.mark.parametrize("text", QUOTING)
def test_row_19_a_quoted_rating_is_found(text: str) -> None:
    assert quotes_ratings(f"The user {text}, it seems.")


@pytest.mark.parametrize("text", NOT_QUOTING)
def test_row_19_other_numbers_are_no_ratings(text: str) -> None:
    assert not quotes_ratings(f"The user {text}, it seems.")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("loves 'speed'", "Speed"),
        ("loves “It,” most of all", "It"),
        ("was moved by Titanic and", "Titanic (1997)"),
        ("such as The Rock.", "Rock, The (1996)"),
        ("such as 'Full Monty'", "Full Monty, The"),
        ("saw dead man walking twice and one flew over the cuckoo's nest", "One Flew Over the Cuckoo's Nest (1975)"),
        ("laughed at 'Weekend at Bernie's' (3)", "Weekend at Bernie's"),
        ("Heat (1995) bored them", "Heat"),
        ("loves Star\nWars", "Star Wars"),
        ("loves M*A*S*H (1970)", "M*A*S*H"),
    ],
)
def test_row_19_a_named_title_is_found(text: str, title: str) -> None:
    assert quoted_titles(text, ["Never Shown", title]) == [title]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("it is all about speed", "Speed"),
        ("Speed matters most", "Speed"),
        ("It is about love", "It"),
        ("a true romance lover", "True Romance"),
        ("star wars of the heart", "Star Wars"),
        ("likes goats", "Go"),
        ("loves Heathers", "Heat"),
        ("anything", ""),
        ("anything", " (1995)"),
    ],
)
def test_row_19_plain_words_are_no_titles(text: str, title: str) -> None:
    assert quoted_titles(text, [title]) == []


def test_row_19_only_what_is_forbidden_is_a_fault() -> None:
    texts, titles = ("Adores 'Heat' (5).",), ["Heat (1995)"]
    assert faults(texts, titles, ProfileSettings()) == (RATINGS, TITLES)
    assert faults(texts, titles, ProfileSettings(may_quote_ratings=True)) == (TITLES,)
    assert faults(texts, titles, ProfileSettings(may_quote_titles=True)) == (RATINGS,)
    assert faults(("Adores crime.",), titles, ProfileSettings()) == ()
    assert faults(("Fine.", "five stars"), titles, ProfileSettings()) == (RATINGS,)


def test_likes_and_dislikes_of_one_text_are_told_apart_clause_by_clause() -> None:
    likes, dislikes = split_by_sign(
        "She prefers slow dramas, while loud action is rated poorly. Lives alone. "
        "Has an aversion to gore; enjoys wit.\nHowever, shallow plots bore her."
    )
    assert likes == ("She prefers slow dramas", "enjoys wit")
    assert dislikes == ("loud action is rated poorly", "Has an aversion to gore", "shallow plots bore her")
    assert split_by_sign("") == ((), ())


def test_the_layout_of_lusifer_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame(
        {
            "user_id": [1, 2, 3],
            "user_info": ["Age: 24"] * 3,
            "user_profile": ["Enjoys wit.", None, "Enjoys war (5)."],
            "intermediate_user_profiles_json": ['["Enjoys drama.", "Enjoys wit."]', None, '["Enjoys war (5)."]'],
            "profile_changes_json": ['["First User profile", "Wit is new."]', None, '["First User profile"]'],
        }
    )
    frame.to_parquet(tmp_path / "p.parquet")
    timelines = read_recorded_profiles(tmp_path / "p.parquet")
    assert list(timelines) == ["1", "3"]
    first, second = timelines["1"].versions
    assert (first.summary, first.change, second.summary, second.change) == (
        "Enjoys drama.",
        "",
        "Enjoys wit.",
        "Wit is new.",
    )
    assert (second.version, second.likes, second.writer, second.flags) == (
        2,
        ("Enjoys wit",),
        "recorded",
        (SIGNS_GUESSED,),
    )
    assert timelines["3"].versions[0].flags == (SIGNS_GUESSED, RATINGS)
    assert "use them with fold 1 alone" in caplog.text


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_with_a_row_per_version_is_read(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["b", "a", "a"],
            "version": [1, 2, 1],
            "summary": ["Enjoys opera.", "Second.", "First."],
            "likes": ["", "drama; quiet humour", '["drama"]'],
            "dislikes": ["", "war", ""],
            "change": ["", "War is out.", ""],
            "at": [np.nan, 200, 100],
        }
    )
    path = tmp_path / f"profiles{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    timelines = read_recorded_profiles(path)
    first, second = timelines["a"].versions
    assert (first.version, first.summary, first.likes, first.at) == (1, "First.", ("drama",), 100)
    assert (second.likes, second.dislikes, second.change) == (("drama", "quiet humour"), ("war",), "War is out.")
    assert timelines["a"].before(200).latest == first
    assert timelines["b"].versions[0].likes == ("Enjoys opera",)
    assert timelines["b"].versions[0].flags == (SIGNS_GUESSED,)


def test_without_versions_the_order_of_the_rows_counts(tmp_path: Path) -> None:
    lines = [{"user_id": "a", "summary": f"Likes {word}.", "likes": [word]} for word in ("war", "love")]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    versions = read_recorded_profiles(tmp_path / "p.jsonl")["a"].versions
    assert [(version.version, version.likes) for version in versions] == [(1, ("war",)), (2, ("love",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,summary\na,x\n", "column 'user_id' is missing"),
        (
            'user_id,intermediate_user_profiles_json,profile_changes_json\na,"[""x""]",[]\na,"[""y""]",[]\n',
            r"row 3, column 'user_id': user 'a' has a row already",
        ),
        ("user_id,text\na,x\n", "column 'summary' is missing"),
        ("user_id,summary\na,\n", r"row 2, column 'summary': is empty"),
        ("user_id,version,summary\na,1,x\na,1,y\n", r"row 3, column 'version': 1 of user 'a'"),
        ("user_id,version,summary\na,1.5,x\n", r"row 2, column 'version': 1.5 is no whole number"),
        ("user_id,version,summary\na,,x\n", r"row 2, column 'version': None of user 'a'"),
        ('user_id,summary,likes\na,x,"[1, 2]"\n', r"row 2, column 'likes': expected a list of texts"),
        ("user_id,summary,likes\na,x,[war\n", r"row 2, column 'likes': is no JSON list"),
    ],
)
def test_a_bad_table_is_refused_with_its_row(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_recorded_profiles(tmp_path / "p.csv")


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no file"):
        read_recorded_profiles(tmp_path / "none.csv")


def test_the_recorded_profiles_of_lusifer(real_data: Callable[[str], Path]) -> None:
    file = real_data("lusifer") / "ml-100k" / "user_profiles.parquet"
    timelines = read_recorded_profiles(file)
    latest = [timeline.versions[-1] for timeline in timelines.values()]
    assert len(latest) == 459
    assert sum(len(timeline.versions) for timeline in timelines.values()) == 1513
    assert np.mean([bool(profile.likes and profile.dislikes) for profile in latest]) > 0.95
    in_parentheses = pd.Series([profile.summary for profile in latest]).str.contains(r"\(\d\)").mean()
    assert in_parentheses == pytest.approx(0.48, abs=0.005)  # the usual count: "'A Title' (5)"
    assert np.mean([RATINGS in profile.flags for profile in latest]) == pytest.approx(0.78, abs=0.01)
    older = pd.read_parquet(file)["user_profile_older_run"].dropna()
    assert not older.map(quotes_ratings).any()  # an older prompt, whose profiles hold no digit but years
