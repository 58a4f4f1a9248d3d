"""Values as people really have them: ratings that are none, missing ids, odd times, files that are no tables."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_sim.cli import main
from hybrid_sim.core.errors import DataError, ScaleError, SettingsError
from hybrid_sim.data import ColumnMap, read_dataset
from hybrid_sim.data.columns import read_table
from hybrid_sim.data.scales import parse_scale

ROOT = Path(__file__).parents[1]
Caplog = pytest.LogCaptureFixture


def table(path: Path, ratings: list[Any], times: list[Any] | None = None) -> Path:
    """A table of one rating per row, by three users."""
    rows = [[f"u{n % 3}", f"i{n}", rating] for n, rating in enumerate(ratings)]
    if times is not None:
        rows = [[*row, time] for row, time in zip(rows, times, strict=True)]
    names = ["user_id", "item_id", "rating", "timestamp"][: len(rows[0])]
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")
    return path


# ratings that are none


@pytest.mark.parametrize(
    ("ratings", "mark"),
    [
        ([0] * 6 + [7, 8, 9, 10], 0),
        ([-1, 5, 6, 7, 8], -1),
        ([99, 5.5, -3, 9, 2], 99),
        ([0] * 4 + [5, 8], 0),
    ],
)
def test_numbers_that_stand_for_no_rating_are_asked_about_and_left_out(
    ratings: list[float], mark: int, tmp_path: Path, caplog: Caplog
) -> None:
    path = table(tmp_path / "r.csv", ratings)
    read_dataset(path)
    n = ratings.count(mark)
    question = f"r.csv: {n} of {len(ratings)} ratings ({100 * n / len(ratings):.0f}%) are {mark}, which often means"
    assert question in caplog.text
    assert f"--unrated {mark}" in caplog.text
    caplog.clear()
    assert mark not in read_dataset(path, unrated=[mark]).rating
    assert "which often means" not in caplog.text


@pytest.mark.parametrize(
    "ratings", [[0, 1, 1, 0, 0, 0], [-1, 0, 1], [1, 2, 3, 4, 5], [0, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4]]
)
def test_ordinary_scales_raise_no_question(ratings: list[float], tmp_path: Path, caplog: Caplog) -> None:
    read_dataset(table(tmp_path / "r.csv", ratings))
    assert "which often means" not in caplog.text


def test_empty_ratings_can_be_left_out(tmp_path: Path) -> None:
    path = table(tmp_path / "r.csv", [1, "", 5, "NULL"])
    with pytest.raises(
        DataError, match=r"row 3, column 'rating': the rating is missing.*--unrated nan \(2 such rows\)"
    ):
        read_dataset(path)
    assert read_dataset(path, unrated=[np.nan]).rating.tolist() == [1, 5]


def test_equal_ratings_are_refused_or_said_to_teach_nothing(tmp_path: Path, caplog: Caplog) -> None:
    path = table(tmp_path / "r.csv", [1, 1, 1])
    with pytest.raises(ScaleError, match=r"a simulator needs two levels.*offered and not taken") as refusal:
        read_dataset(path)
    assert "--scale" not in str(refusal.value)
    read_dataset(path, scale=parse_scale("1:5"))
    assert "all 3 ratings are 1, so nothing can be learned from them" in caplog.text


def test_reals_become_levels_only_where_this_is_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path / "r.csv", [0.0, 100.0, 14.9, *np.linspace(0.123, 99.877, 40).round(3)])
    with pytest.raises(ScaleError, match=r"43 distinct ratings between 0 and 100 are no scale; .* --round"):
        read_dataset(path)
    scale = parse_scale("0:100:10")
    with pytest.raises(ScaleError, match=r"rating 14.9 is not on the scale .*\(--round\)"):
        read_dataset(path, scale=scale)
    assert read_dataset(path, scale=scale, rounded=True).rating[:3].tolist() == [0, 100, 10]


def test_counts_are_no_scale(tmp_path: Path) -> None:
    with pytest.raises(ScaleError, match=r"counts \(plays, clicks\) are no ratings"):
        read_dataset(table(tmp_path / "r.csv", [n * n for n in range(1, 41)]))


def test_a_number_that_is_far_too_large_is_no_rating(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 3, column 'rating': the rating is 1e\+308"):
        read_dataset(table(tmp_path / "r.csv", [1, "1e308", 5]))


@pytest.mark.parametrize(
    ("cells", "ratings"),
    [
        (["True", "false", "true"], [1, 0, 1]),
        (["3.9000000953674316", "0.1", "5"], [3.9, 0.1, 5]),
    ],
)
def test_ratings_of_other_programs_are_the_numbers_that_were_meant(
    cells: list[str], ratings: list[float], tmp_path: Path
) -> None:
    assert read_dataset(table(tmp_path / "r.csv", cells)).rating.tolist() == ratings


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user_id;item_id;rating\na;x;3,5\na;y;4\n")
    assert read_dataset(path).rating.tolist() == [3.5, 4]


def test_booleans_of_json_are_ratings(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("\n".join(json.dumps({"user_id": "a", "item_id": n, "rating": n % 2 == 0}) for n in range(3)))
    assert read_dataset(path).rating.tolist() == [1, 0, 1]


# ids


def test_ids_that_a_spreadsheet_rounded_are_reported(tmp_path: Path, caplog: Caplog) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user_id,item_id,rating\n1.23457E+12,x,1\n1.23457E+12,y,5\nE10,x,5\n")
    read_dataset(path)
    assert "r.csv, column 'user_id': 1 ids are rounded numbers such as 1.23457E+12 (2 rows)" in caplog.text


def test_rows_of_items_without_an_id_are_refused_or_dropped(tmp_path: Path) -> None:
    ratings, items = table(tmp_path / "r.csv", [1, 5]), tmp_path / "items.csv"
    items.write_text("item_id,title\ni0,A\n,B\n")
    with pytest.raises(DataError, match=r"items.csv row 3, column 'item_id': the id is missing"):
        read_dataset(ratings, items)
    assert read_dataset(ratings, items, missing_ids="drop").items["title"].tolist() == ["A", ""]
    with pytest.raises(SettingsError, match="missing_ids='all' is not known"):
        read_dataset(ratings, items, missing_ids="all")  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("name", ["", None])
def test_a_pair_without_an_id_is_refused(name: str | None, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"user_id": pa.array(["a", name])}), path)
    with pytest.raises(DataError, match=r"row 2, column 'user_id': the id is (missing|'')"):
        read_table(path).ids("user_id")


# times


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            [1_500_000_000, 1_500_000_100_000, 1_500_000_200],
            r"row 3, .* 1500000100000 is in milliseconds, most .* in sec",
        ),
        ([1_500_000_000, 1e15, 1_500_000_200], r"row 3, .* microseconds"),
        (["2017-08-28 12:00 XYZ"] * 3, r"row 2, .*'2017-08-28 12:00 XYZ' is not a time .* --timestamp-col ''"),
    ],
)
def test_times_that_cannot_be_told_are_named(times: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(table(tmp_path / "r.csv", [1, 5, 3], times))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1_500_000_000] * 3, "all 3 timestamps are equal (1500000000), which is no order"),
        ([3, 1, 2], "timestamps from 1 to 3 are no seconds since 1970; only their order counts"),
        ([42_975.5, 42_976, 42_977], "timestamps are taken as Excel's days (42975.5 is 2017-08-28)"),
    ],
)
def test_times_that_are_none_are_reported(times: list[Any], message: str, tmp_path: Path, caplog: Caplog) -> None:
    read_dataset(table(tmp_path / "r.csv", [1, 5, 3], times))
    assert message in caplog.text


def test_days_of_excel_are_seconds(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path / "r.csv", [1, 5], [42_975.5, 42_976]))
    assert dataset.timestamp is not None
    assert dataset.timestamp.tolist() == [1_503_921_600, 1_503_964_800]


@pytest.mark.parametrize("form", ["8/28/2017 12:00:00 PM", "8/28/17 12:00", "20170828120000", "28-Aug-2017 12:00"])
def test_times_of_spreadsheets_are_read(form: str, tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path / "r.csv", [1, 5], [form, form]))
    assert dataset.timestamp is not None
    assert dataset.timestamp.tolist() == [1_503_921_600] * 2


def test_a_time_of_day_in_parquet_is_no_time(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    times = pa.array([1, 2], pa.time32("s"))
    pq.write_table(pa.table({"user_id": ["a", "b"], "item_id": ["x", "y"], "rating": [1, 5], "timestamp": times}), path)
    with pytest.raises(DataError, match="column 'timestamp': expected numbers, not time32"):
        read_dataset(path)


# files


@pytest.mark.parametrize("orient", ["columns", "index", "records", "table"])
def test_json_of_pandas_is_read(orient: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "rating": [1, 5]})
    path = tmp_path / "r.json"
    frame.to_json(path, orient=orient, indent=1 if orient == "records" else 0)
    if orient == "index":
        with pytest.raises(DataError, match="column 'user_id' is missing"):
            read_dataset(path)
    else:
        assert read_dataset(path).rating.tolist() == [1, 5]


def test_json_is_known_by_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text('{"user_id": "a", "item_id": "x", "rating": 1}\n{"user_id": "a", "item_id": "y", "rating": 5}\n')
    assert read_dataset(path).rating.tolist() == [1, 5]


def test_feather_partitions_and_bytes_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "rating": [1, 5]})
    frame.to_feather(tmp_path / "r.feather")
    assert read_dataset(tmp_path / "r.feather").rating.tolist() == [1, 5]
    for rating, part in frame.groupby("rating"):
        folder = tmp_path / "parts" / f"rating={rating}"
        folder.mkdir(parents=True)
        part.drop(columns="rating").to_parquet(folder / "part.parquet")
    assert read_dataset(tmp_path / "parts").rating.tolist() == [1, 5]
    as_bytes = pa.table({**frame, "user_id": pa.array([b"a", b"b"])})
    pq.write_table(as_bytes, tmp_path / "hive.parquet")
    assert list(read_dataset(tmp_path / "hive.parquet").users.index) == ["a", "b"]


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a\xff", b"b"]).buffers())
    pq.write_table(pa.table({"user_id": broken, "item_id": ["x", "y"], "rating": [1, 5]}), path)
    with pytest.raises(DataError, match=r"r.parquet is not a readable Parquet file"):
        read_dataset(path)


@pytest.mark.parametrize("encoding", ["punycode", "rot13", "idna", "klingon", "undefined"])
def test_codecs_that_are_no_encoding_of_a_file_are_refused(encoding: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"unknown encoding '{encoding}'"):
        read_dataset(table(tmp_path / "r.csv", [1, 5]), encoding=encoding)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", bytes(5000), "r.csv is no text; save the table as CSV"),
        ("r.csv", b"\x80\x04\x95\x01\x02" * 50, "r.csv is no text; save the table as CSV"),
        ("r.json", b'{"user_id": "' + b"a" * (65 << 20), "r.json row 1 is longer than 64 MB"),
        ("r.csv", b"1:\n5,3,2005-09-06\n", "row 1: '1:' begins the ratings of one item"),
        ("r.csv", b"user_id^item_id^rating\n1^2^3\n", "or what stands between fields with --delimiter"),
        ("r.csv", b"u,i,r\n" * 3, "column 'user_id' is missing"),
        ("r.tsv", "\t".join(map(str, np.arange(40) / 8)).encode() + b"\n", "a table of users by items must become"),
        ("r.tsv", b"9.5\t" * 40 + b"\n", "a table of users by items must become"),
        ("r.csv", ",".join(f"i{n}" for n in range(500)).encode() + b"\n", "'i29', ...; a table of users by items"),
        ("r.txt", b"user_1\t2009-05-04T23:08:57Z\tx\n", "row 1 is no header, it holds values: user_1, 2009"),
        ("r.json", b'{"user_id":\n{}', "r.json row 1: not JSON"),
    ],
)
def test_files_that_are_no_tables_of_ratings_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)) as refusal:
        read_dataset(tmp_path / name)
    assert "latin-1" not in str(refusal.value)


def test_a_workbook_a_pipe_and_a_bomb_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "r.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "")
    with pytest.raises(DataError, match=r"r.xlsx is a workbook of Excel; save the sheet as CSV"):
        read_dataset(tmp_path / "r.xlsx")
    with pytest.raises(SettingsError, match="it is a pipe or device"):
        read_dataset("/dev/null")
    rows = b"user_id,item_id,rating\n" + b"a,b,3\n" * (11 << 20)
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(rows, 1))
    with pytest.raises(DataError, match=r"r.csv.gz unpacks to more than 50 times its size"):
        read_dataset(tmp_path / "r.csv.gz")


def test_damage_far_into_an_archive_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 10**9, 200_000)
    rows = "user_id,item_id,rating\n" + "".join(f"{n},b,3\n" for n in noise)
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(rows.encode())[:-1000])
    with pytest.raises(DataError, match=r"r.csv.gz: damaged gzip"):
        read_dataset(tmp_path / "r.csv.gz")


def test_headers_of_spreadsheets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("\n, user_id , item_id, rating,,\n0,a,x,1,,\n1,a,y,oops,,\n")
    with pytest.raises(DataError, match="row 4, column 'rating': 'oops'"):
        read_dataset(path)
    path.write_text(path.read_text().replace("oops", "5"))
    assert read_dataset(path).rating.tolist() == [1, 5]


def test_columns_that_are_all_named_by_values_of_the_first_row_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text("14\t102\t4.5\n8\t5\t4\n7\t9\t2\n")
    with pytest.raises(DataError, match=r"row 1 is no header, it holds values: 14, 102, 4.5"):
        read_dataset(path, columns=ColumnMap("14", "102", "4.5"))


def test_a_file_of_one_column_has_no_delimiter(tmp_path: Path, caplog: Caplog) -> None:
    caplog.set_level("INFO")
    (tmp_path / "users.csv").write_text("user_id\na\n")
    assert read_table(tmp_path / "users.csv").names == ("user_id",)
    assert "between fields" not in caplog.text


def test_more_names_than_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("a,x,1\na,y,5\n")
    assert len(read_dataset(path, header=["user_id", "item_id", "rating"])) == 2
    with pytest.raises(DataError, match="row 1: 3 fields instead of 4; name fewer columns"):
        read_dataset(path, header=["user_id", "item_id", "rating", "timestamp"])


def test_damaged_tables_end_in_one_line_and_never_in_a_traceback(tmp_path: Path) -> None:
    """A small run of the experiment whose large one is in experiments/results/table_fuzz.json."""
    out = tmp_path / "table_fuzz.json"
    subprocess.run([sys.executable, str(ROOT / "experiments" / "table_fuzz.py"), "150", str(out)], check=True)
    report = json.loads(out.read_text())
    assert report["tracebacks"] == []
    assert set(report["outcomes"]) <= {"read", "refused", "read, too few to hold out"}
    assert report["outcomes"]["read"] >= 5


# items


def test_tables_of_items_and_users_may_lack_headers(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_text("i0::Heat::Crime|Drama\ni1::Alien::Horror\n")
    (tmp_path / "users.dat").write_text("u0::F::25\nu1::M::30\n")
    ratings = table(tmp_path / "r.csv", [1, 5])
    with pytest.raises(DataError, match=r"users.dat row 1 is no header.* name the columns with --users-columns"):
        read_dataset(ratings, users=tmp_path / "users.dat")
    names = ["item_id", "title", "genres"]
    header = {"items_header": names, "users_header": ["user_id", "gender", "age"]}
    dataset = read_dataset(ratings, tmp_path / "movies.dat", tmp_path / "users.dat", **header)  # type: ignore[arg-type]  # by name
    assert dataset.items["genres"].tolist() == [("Crime", "Drama"), ("Horror",)]
    assert dataset.users["age"].tolist() == [25, 30]


@pytest.mark.parametrize(
    ("cell", "year"),
    [
        ("1995-01-01", 1995),
        ("01-Jan-1995", 1995),
        ("1995.0", 1995),
        ("Nov 1, 2000", 2000),
        ("0", np.nan),
        ("?", np.nan),
    ],
)
def test_years_of_dates_are_years(cell: str, year: float, tmp_path: Path, caplog: Caplog) -> None:
    items = tmp_path / "items.csv"
    items.write_text(f'item_id,year\ni0,"{cell}"\ni1,\n')
    dataset = read_dataset(table(tmp_path / "r.csv", [1, 5]), items)
    np.testing.assert_array_equal(dataset.items["year"], [year, np.nan])
    assert ("is no year" in caplog.text) == np.isnan(year)


def test_genres_of_numpy_and_by_a_given_delimiter(tmp_path: Path) -> None:
    ratings, items = table(tmp_path / "r.csv", [1, 5]), tmp_path / "items.csv"
    items.write_text("item_id,genres\ni0,['War' 'Film Noir']\ni1,\"{'Drama': 3}\"\n")
    assert read_dataset(ratings, items).items["genres"].tolist() == [("War", "Film Noir"), ("Drama",)]
    items.write_text("item_id,genres\ni0,War / Film Noir\ni1,Drama\n")
    columns = ColumnMap(genres_delimiter="/")
    assert read_dataset(ratings, items, columns=columns).items["genres"].tolist() == [("War", "Film Noir"), ("Drama",)]


def test_an_item_with_countless_genres_is_refused(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,genres\ni0,A\ni1," + "|".join(f"g{n}" for n in range(100_000)) + "\n")
    with pytest.raises(DataError, match="row 3, column 'genres': a list of 100000 names, at most 1000 are possible"):
        read_dataset(table(tmp_path / "r.csv", [1, 5]), items)


def test_a_column_of_numbers_that_becomes_categories_is_reported(tmp_path: Path, caplog: Caplog) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,price\ni0,9.99\ni1,—\ni2,7\n")
    ratings, columns = table(tmp_path / "r.csv", [1, 5, 3]), ColumnMap(item_features=("price",))
    assert read_dataset(ratings, items, columns=columns).items["price"].tolist() == ["9.99", "—", "7"]
    assert "items.csv row 3, column 'price': '—' is no number, so that all of 'price' are categories" in caplog.text


def test_ratings_and_items_may_stand_in_one_file(tmp_path: Path, caplog: Caplog) -> None:
    path = tmp_path / "all.csv"
    path.write_text("user_id,item_id,rating,title\na,x,1,Heat\nb,x,5,Heat\nc,x,5,Heat\nb,y,3,Alien\n")
    assert read_dataset(path, path).items["title"].tolist() == ["Heat", "Alien"]
    assert "repeat another exactly" not in caplog.text


# commands


def test_a_table_without_times_is_held_out_at_random(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "r.csv", [1, 5, 3, 4, 2] * 6)
    words = ["bench", "--ratings", str(path), "--models", "global_mean", "--figure", "none"]
    assert main(words) == 0
    output = capsys.readouterr()
    assert "r has no times: the protocol is kfold; name times with --timestamp-col" in output.err
    assert "protocol kfold" in output.out
    assert main([*words, "--protocol", "user-temporal"]) == 2


def test_the_command_line_cleans_ratings_and_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "r.csv", [1.2, 5, 3, 4, 0] * 6)
    path.write_text(path.read_text() + "nan,x,3\n")
    words = ["bench", "--ratings", str(path), "--models", "global_mean", "--figure", "none"]
    cleaning = ["--unrated", "0,-1", "--scale", "1:5", "--round", "--missing-ids", "drop"]
    assert main([*words, *cleaning]) == 0
    assert "6 of 31 rows are left out (--unrated 0, -1)" in capsys.readouterr().err
    assert main([*words, "--unrated", "none"]) == 2
    assert "'none' is no list of numbers" in capsys.readouterr().err


def test_copied_ratings_and_equal_times_are_noted_in_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.csv"
    rows = [f"u{u},i{i},{1 + u % 5},{1_500_000_000 + u}" for u in range(10) for i in range(10)]
    path.write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")
    words = ["bench", "--ratings", str(path), "--models", "global_mean", "--figure", "none"]
    assert main(words) == 0
    output = capsys.readouterr()
    note = "20 of 20 held-out ratings repeat a training rating of the same user at the same time"
    assert note in output.err
    assert note in output.out
    path.write_text(re.sub(r"15000000\d\d", "1500000000", path.read_text()))
    assert main(words) == 0
    assert "all times are equal: what is held out as latest is the end of the file" in capsys.readouterr().out


def test_the_benchmark_goes_on_without_a_baseline_that_cannot_be_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "r.csv", [-1, 1, 1] * 10, list(range(30)))
    words = ["bench", "--ratings", str(path), "--figure", "none", "--scale=-1,1", "--models"]
    assert main([*words, "nmf,global_mean"]) == 0
    output = capsys.readouterr()
    assert "fold 1 goes on without nmf: NMF cannot learn from the scale -1, 1" in output.err
    assert "nmf cannot be fitted to these ratings and is left out." in output.out
    assert main([*words, "nmf"]) == 2
    assert "none of the models nmf can be fitted to r" in capsys.readouterr().err
