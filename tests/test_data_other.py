"""The genuine layouts of anime and Amazon, texts of items and users, and where data is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.texts import user_info
from hybrid_sim.data import item_texts, load


def small_anime(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "anime_ratings.dat").write_text("User_ID\tAnime_ID\tFeedback\n1\t20\t8\n1\t3\t10\n2\t20\t1\n")
    info = (
        "anime_ids\tname\tgenre\ttype\tepisodes\trating\tmembers\n"
        "20\tGintama&#039;\tAction, Slice of Life\tTV\t51\t9.16\t151266\n"
        '3\t"Bungaku Shoujo"° Kyou\t\tMovie\tUnknown\t6.27\t313\n'
    )
    (folder / "anime_info.dat").write_text(info, encoding="utf-8")
    return folder


def small_amazon(folder: Path, text: str = "Fine") -> Path:
    folder.mkdir(parents=True)
    review = {"reviewerName": 'A "B" \u001a', "helpful": [0, 1], "summary": "", "reviewTime": "03 1, 2014"}
    keys = [("A1", "0005", 5.0, text), ("A1", "B7", 3.0, "Fine"), ("A2", "0005", 1.0, "")]
    lines = [
        json.dumps(
            {
                "reviewerID": u,
                "asin": i,
                "overall": r,
                "reviewText": t,
                "unixReviewTime": 1393632000,
                **review,
            }
        )
        for u, i, r, t in keys
    ]
    (folder / "reviews_Tape_Decks_5.json").write_text("\n".join(lines) + "\n")
    meta = (
        "{'asin': '0005', 'title': \"Rock &amp; Roll's\", 'price': 9.5, "
        "'categories': [['Music', 'Rock'], ['Music']], 'salesRank': {'Music': 3}, 'brand': 'Ampex'}\n"
        "{'asin': 'B7', 'description': 'Loud &lt;3', 'title': 'Tape'}\n"
    )
    (folder / "meta_Tape_Decks.json").write_text(meta)
    return folder


def test_anime(tmp_path: Path) -> None:
    dataset = load("anime", small_anime(tmp_path / "anime").parent)
    assert dataset.scale.high == 10
    assert dataset.timestamp is None
    assert dataset.items["title"].tolist() == ["Gintama'", '"Bungaku Shoujo"° Kyou']
    assert dataset.items["genres"].tolist() == [("Action", "Slice of Life"), ()]
    np.testing.assert_array_equal(dataset.items["episodes"], [51, np.nan])
    assert not {"rating", "members"} & set(dataset.items), "community averages hold the ratings that are held out"


def test_amazon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load("amazon-tape-decks", small_amazon(tmp_path / "amazon").parent)
    assert list(dataset.items.index) == ["0005", "B7"]
    assert dataset.items["title"].tolist() == ["Rock & Roll's", "Tape"]
    assert dataset.items["genres"].tolist() == [("Music", "Rock"), ()]
    assert dataset.items["overview"].tolist() == ["", "Loud <3"]
    assert not {"price", "salesRank"} & set(dataset.items)
    assert dataset.rating.tolist() == [5, 3, 1]
    assert "1 reviews repeat a text that the same user posted before" in caplog.text
    caplog.clear()
    load("amazon", small_amazon(tmp_path / "other", text="Another"))
    assert "repeat a text" not in caplog.text


def test_amazon_metadata_is_never_run(tmp_path: Path) -> None:
    folder = small_amazon(tmp_path / "amazon")
    trap = tmp_path / "ran"
    (folder / "meta_Tape_Decks.json").write_text(f"{{'asin': open({str(trap)!r}, 'w').name}}\n")
    with pytest.raises(DataError, match=r"meta_Tape_Decks\.json row 1: not JSON"):
        load("amazon", folder)
    assert not trap.exists()


def test_amazon_metadata_without_an_item_is_refused(tmp_path: Path) -> None:
    folder = small_amazon(tmp_path / "amazon")
    (folder / "meta_Tape_Decks.json").write_text('{"title": "Tape"}\n')
    with pytest.raises(DataError, match=r"meta_Tape_Decks\.json row 1: expected a record with an asin"):
        load("amazon", folder)


def test_amazon_categories_are_named_when_it_is_not_clear(tmp_path: Path) -> None:
    folder = small_amazon(tmp_path / "amazon")
    with pytest.raises(SettingsError, match="0 review files of amazon-books; it has: amazon-tape-decks"):
        load("amazon-books", folder)
    (folder / "reviews_Books_5.json").write_bytes((folder / "reviews_Tape_Decks_5.json").read_bytes())
    with pytest.raises(SettingsError, match="2 review files"):
        load("amazon", folder)


def test_texts(tmp_path: Path) -> None:
    dataset = load("amazon", small_amazon(tmp_path / "amazon"))
    assert item_texts(dataset) == ["Rock & Roll's. Genres: Music, Rock.", "Tape. Loud <3"]
    assert user_info(dataset) == ["", ""]
    world = load("world")
    assert world.synthetic
    assert user_info(world)[0].startswith("Age: ")


def test_an_item_of_which_nothing_is_known_has_an_empty_text(tmp_path: Path) -> None:
    folder = small_amazon(tmp_path / "amazon")
    (folder / "meta_Tape_Decks.json").unlink()
    assert item_texts(load("amazon", folder)) == ["", ""]


def test_where_data_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_anime(tmp_path / "named" / "anime")
    small_anime(tmp_path / "variable" / "anime")
    with (tmp_path / "variable" / "anime" / "anime_ratings.dat").open("a") as file:
        file.write("2\t3\t4\n")
    monkeypatch.setenv("HYBRID_SIM_DATA", str(tmp_path / "variable"))
    assert len(load("anime")) == 4
    assert len(load("anime", tmp_path / "named")) == 3
    monkeypatch.delenv("HYBRID_SIM_DATA")
    monkeypatch.setenv("HYBRID_SIM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        SettingsError,
        match=r"--data DIR, else in the environment variable HYBRID_SIM_DATA, else in .*cache.data",
    ) as raised:
        load("anime")
    assert "hybrid-sim data get ml-100k" in str(raised.value)


def test_real_anime(real_data: Callable[[str], Path]) -> None:
    dataset = load("anime", real_data("anime").parent)
    assert (len(dataset), dataset.n_items, int((dataset.user_counts > 0).sum())) == (419_943, 7390, 4714)
    assert int((dataset.item_counts > 0).sum()) == 7157
    assert not dataset.items["title"].str.contains("&#").any()
    assert (dataset.items["genres"].map(len) == 0).any()
    order = np.argsort(dataset.user, kind="stable")
    first = np.append(0, np.flatnonzero(np.diff(dataset.user[order])) + 1)
    by_user = dataset.rating[order]
    constant = np.maximum.reduceat(by_user, first) == np.minimum.reduceat(by_user, first)
    assert constant.sum() == 348


def test_real_amazon(real_data: Callable[[str], Path]) -> None:
    root = real_data("amazon").parent
    instruments = load("amazon-musical-instruments", root)
    assert (len(instruments), instruments.n_users, instruments.n_items) == (10_261, 1429, 900)
    assert instruments.timestamp is not None
    assert (instruments.timestamp % 86_400 == 0).all()
    music = load("amazon-digital-music", root)
    assert (len(music), music.n_users, music.n_items) == (6908, 2490, 382)
    assert (music.items["title"] != "").all()
    assert (music.items["overview"] != "").sum() <= 315


def test_real_texts_equal_those_of_lusifer(real_data: Callable[[str], Path]) -> None:
    tables = real_data("lusifer") / "ml-100k"
    dataset = load("ml-100k", real_data("ml-100k").parent, tmdb=tables / "movies_tmdb.parquet")
    profiles = pd.read_parquet(tables / "user_profiles.parquet")
    assert profiles["user_info"].str.strip().tolist() == user_info(dataset)
