"""The genuine MovieLens layouts: made-up rows with every trap, and the real files where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.data import load
from hybrid_sim.data.tmdb import add_tmdb, read_tmdb


def small_100k(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "u.data").write_text("7\t2\t3\t881250949\n9\t1\t5\t881250949\n7\t3\t1\t881250000\n")
    flags = {1: [3, 5], 2: [], 3: [0]}
    rows = {
        1: ("Café, The (1995)", "01-Jan-1996"),
        2: ("Land III: Time (1994) (V)", "01-Jan-1994"),
        3: ("unknown", ""),
    }
    lines = [
        f"{n}|{title}|{date}||http://x/{n}|" + "|".join(str(int(g in flags[n])) for g in range(19))
        for n, (title, date) in rows.items()
    ]
    (folder / "u.item").write_bytes("\n".join(lines).encode("latin-1"))
    (folder / "u.user").write_text("7|24|M|technician|02460\n8|53|F|other|T8H1N\n9|23|M|writer|98101-1234\n")
    return folder


def small_1m(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_text("2::10::5::978300760\n2::11::3::978300760\n1::10::4::978300000\n")
    movies = "10::Alien: The Début (1979)::Action|Sci-Fi\n11::Léon (1994)::Crime\n12::Never Rated (1990)::Drama\n"
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::02460-1234\n")
    return folder


def small_latest(folder: Path) -> Path:
    folder.mkdir(parents=True)
    ratings = "userId,movieId,rating,timestamp\r\n1,1,4.0,964982703\r\n1,2,0.5,964981247\r\n2,1,4.5,964982224\r\n"
    (folder / "ratings.csv").write_bytes(ratings.encode())
    movies = (
        'movieId,title,genres\r\n1,"American President, The (1995)",Comedy|Drama\r\n'
        '2,Desu nôto (2006–2007),(no genres listed)\r\n3,"Say ""A"" (1995) ",War\r\n4,Babylon 5,Sci-Fi\r\n'
        '5,"American President, The (1995)",Comedy\r\n'
    )
    (folder / "movies.csv").write_bytes(movies.encode())
    return folder


def test_100k(tmp_path: Path) -> None:
    dataset = load("ml-100k", small_100k(tmp_path / "ml-100k").parent)
    assert dataset.name == "ml-100k"
    assert dataset.rating.tolist() == [3, 5, 1]
    assert dataset.user.tolist() == [0, 2, 0], "users keep the order of u.user, unrated ones included"
    assert dataset.items["title"].tolist() == ["Café, The", "Land III: Time", "unknown"]
    np.testing.assert_array_equal(dataset.items["year"], [1995, 1994, np.nan])
    assert dataset.items["genres"].tolist() == [("Animation", "Comedy"), (), ()]
    assert dataset.users["zip_code"].tolist() == ["02460", "T8H1N", "98101-1234"]
    assert dataset.users["age"].tolist() == [24, 53, 23]


def test_1m(tmp_path: Path) -> None:
    small_1m(tmp_path / "ml-1m-part")
    (tmp_path / "ml-1m-other").mkdir()
    dataset = load("ml-1m", tmp_path)
    assert dataset.name == "ml-1m-part", "a part is not called by the name of the whole"
    assert dataset.rating.tolist() == [5, 3, 4]
    assert dataset.items["title"].tolist() == ["Alien: The Début", "Léon", "Never Rated"]
    assert dataset.items["genres"].tolist() == [("Action", "Sci-Fi"), ("Crime",), ("Drama",)]
    assert dataset.users["zip_code"].tolist() == ["48067", "02460-1234"]
    assert dataset.users["occupation"].tolist() == ["K-12 student", "self-employed"]
    assert dataset.users["age_group"].tolist() == ["under 18", "56+"]


@pytest.mark.parametrize("name", ["ml-latest-small", "ml-25m"])
def test_csv_layout(tmp_path: Path, name: str) -> None:
    dataset = load(name, small_latest(tmp_path / "any"))
    assert dataset.scale.levels == tuple(np.arange(0.5, 5.5, 0.5))
    assert dataset.items["title"].tolist()[:4] == [
        "American President, The",
        "Desu nôto",
        'Say "A"',
        "Babylon 5",
    ]
    np.testing.assert_array_equal(dataset.items["year"], [1995, 2006, 1995, np.nan, 1995])
    assert dataset.items["genres"].tolist()[:3] == [("Comedy", "Drama"), (), ("War",)]
    assert dataset.n_items == 5, "two items of one title stay two items"


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ml-100k is not in .*: neither u\.data .*hybrid-sim data get ml-100k"):
        load("ml-100k", tmp_path)
    with pytest.raises(SettingsError, match="there is no data set 'ml-2b'; did you mean 'ml-"):
        load("ml-2b", tmp_path)
    small_1m(tmp_path / "ml-1m-a")
    small_1m(tmp_path / "ml-1m-b")
    with pytest.raises(SettingsError, match="holds ml-1m-a, ml-1m-b: name one of them instead of ml-1m"):
        load("ml-1m", tmp_path)
    assert len(load("ml-1m-b", tmp_path)) == 3


def test_damaged_rows_are_named(tmp_path: Path) -> None:
    folder = small_1m(tmp_path / "ml-1m")
    with (folder / "ratings.dat").open("a") as file:
        file.write("1::11::9::978300000\n")
    with pytest.raises(Exception, match=r"ratings\.dat row 4, column 'rating': rating 9 is not on the scale"):
        load("ml-1m", folder)
    (folder / "movies.dat").write_text("10::Alien\n")
    with pytest.raises(DataError, match=r"movies\.dat row 1: 2 fields instead of 3"):
        load("ml-1m", folder)


def test_tmdb_texts_are_joined_without_votes(tmp_path: Path) -> None:
    table = tmp_path / "tmdb.csv"
    table.write_text(
        "movie_id,overview,runtime,original_language,origin_country,production_companies,vote_average,popularity\n"
        '1,A café.,81,fr,"[\'FR\', \'BE\']","[""Films A""]",7.5,99\n99,Not ours,10,en,[],[],1,1\n'
    )
    folder = small_100k(tmp_path / "ml-100k")
    items = load("ml-100k", folder, tmdb=table).items
    assert items["overview"].tolist() == ["A café.", "", ""]
    assert items["language"].tolist() == ["fr", "", ""]
    assert items["countries"].tolist() == [("FR", "BE"), (), ()]
    assert items["companies"].tolist() == [("Films A",), (), ()]
    np.testing.assert_array_equal(items["runtime"], [81, np.nan, np.nan])
    assert not {"popularity", "tmdb_vote_average", "vote_average"} & set(items)
    with_votes = load("ml-100k", folder, tmdb=table, tmdb_votes=True).items
    np.testing.assert_array_equal(with_votes["tmdb_vote_average"], [7.5, np.nan, np.nan])


def test_real_100k(real_data: Callable[[str], Path]) -> None:
    dataset = load("ml-100k", real_data("ml-100k").parent)
    assert (len(dataset), dataset.n_users, dataset.n_items) == (100_000, 943, 1682)
    assert dataset.items["title"].tolist()[245] == "Chasing Amy"
    assert dataset.items["title"].tolist()[267] == "Chasing Amy"
    both = dataset.items.assign(year=dataset.items["year"].fillna(0)).value_counts(["title", "year"])
    assert int((both > 1).sum()) == 18
    assert dataset.items["year"].isna().sum() == 1
    assert dataset.users["age"].between(7, 73).all()


def test_real_tmdb(real_data: Callable[[str], Path]) -> None:
    texts = read_tmdb(real_data("lusifer") / "ml-100k" / "movies_tmdb.parquet")
    dataset = add_tmdb(load("ml-100k", real_data("ml-100k").parent), texts)
    assert (dataset.items["overview"] != "").sum() == 1591 - 2
    assert not {"popularity", "revenue", "budget"} & set(dataset.items)
    assert not [column for column in dataset.items if "vote" in str(column)]


def test_real_1m_in_part(real_data: Callable[[str], Path]) -> None:
    dataset = load("ml-1m", real_data("ml-1m-users1-2999").parent)
    assert (dataset.name, len(dataset), dataset.n_users, dataset.n_items) == (
        "ml-1m-users1-2999",
        487_650,
        6040,
        3883,
    )
    assert dataset.users["zip_code"].str.contains("-").any()
    assert dataset.users["zip_code"].str.startswith("0").any()
    assert dataset.items["title"].str.contains(":").sum() > 100
    assert dataset.items["title"].str.contains("é").any()
    assert dataset.timestamp is not None
    assert (np.diff(dataset.timestamp) < 0).any(), "the order of the file is kept, which is not that of time"


def test_real_latest_small(real_data: Callable[[str], Path]) -> None:
    dataset = load("ml-latest-small", real_data("ml-latest-small").parent)
    assert (len(dataset), dataset.n_users, dataset.n_items) == (100_836, 610, 9742)
    assert dataset.items["year"].isna().sum() == 12
    assert (dataset.items["genres"].map(len) == 0).sum() == 34
    assert dataset.items.loc["171749", "title"] == "Death Note: Desu nôto"
    assert dataset.items.loc["171749", "year"] == 2006
    assert not dataset.items["title"].str.contains("\r").any()
