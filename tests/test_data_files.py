"""Tables as people have them: packed, in other encodings, with other separators, without a header, in parts."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_sim.cli import main
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.data import ColumnMap, read_dataset
from hybrid_sim.data.columns import read_table

ROWS = [("01", "a,b", 4, 1_500_000_000), ("é", "i2", 5, 1_500_000_100), ("01", "i2", 1, 1_500_000_200)]
HEADER = ("user_id", "item_id", "rating", "timestamp")


def lines(delimiter: str = ",", header: bool = True) -> str:
    """The rows as delimited text; the item with a comma is quoted where commas delimit."""
    rows = [HEADER, *ROWS] if header else ROWS
    quoted = [[f'"{cell}"' if delimiter in str(cell) else str(cell) for cell in row] for row in rows]
    return "\n".join(delimiter.join(row) for row in quoted) + "\n"


def check(dataset: Dataset) -> None:
    """The dataset holds `ROWS`, exactly."""
    assert list(dataset.users.index[dataset.user]) == [row[0] for row in ROWS]
    assert list(dataset.items.index[dataset.item]) == [row[1] for row in ROWS]
    assert dataset.rating.tolist() == [row[2] for row in ROWS]
    assert dataset.timestamp is not None
    assert dataset.timestamp.tolist() == [row[3] for row in ROWS]


def zipped(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("folder/ratings.csv", content)


def zstandard(content: bytes, path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(content)


PACKERS: dict[str, Callable[[bytes, Path], object]] = {
    ".gz": lambda content, path: path.write_bytes(gzip.compress(content)),
    ".bz2": lambda content, path: path.write_bytes(bz2.compress(content)),
    ".xz": lambda content, path: path.write_bytes(lzma.compress(content)),
    ".zip": zipped,
    ".zst": zstandard,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_tables_are_read_and_their_rows_numbered(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"ratings.csv{suffix}"
    PACKERS[suffix](lines().encode(), path)
    check(read_dataset(path))
    PACKERS[suffix]((lines() + "x,y,oops,1\n").encode(), path)
    with pytest.raises(DataError, match="row 5, column 'rating': 'oops' is not a number"):
        read_dataset(path)


def test_packed_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl.gz"
    rows = "\n".join(json.dumps(dict(zip(HEADER, row, strict=True))) for row in ROWS)
    path.write_bytes(gzip.compress(rows.encode()))
    check(read_dataset(path))


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(lines().encode())[:-20])
    with pytest.raises(DataError, match=r"cut.csv.gz: damaged gzip"):
        read_dataset(cut)
    several = tmp_path / "several.zip"
    with zipfile.ZipFile(several, "w") as bundle:
        bundle.writestr("a.csv", "x")
        bundle.writestr("b.csv", "x")
    with pytest.raises(DataError, match=r"several.zip is a zip archive of 2 files; unpack it and name one"):
        read_dataset(several)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings_are_recognised(encoding: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "ratings.txt"
    path.write_bytes(lines("\t").encode(encoding))
    check(read_dataset(path))
    assert ("ratings.txt: UTF-" in caplog.text) == (encoding != "utf-8-sig")


def test_no_encoding_is_advised_for_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(b"user_id,item_id\n\x00\x00\xff\xfe\x00\xba\n")
    with pytest.raises(DataError, match=r"ratings.csv is no text; save the table as CSV"):
        read_dataset(path)


@pytest.mark.parametrize("delimiter", ["::", "\t", ";", "|", ","])
def test_delimiters_are_detected(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_text(lines(delimiter))
    check(read_dataset(path))


def test_with_a_delimiter_no_json_is_looked_for(tmp_path: Path) -> None:
    """The table of a run is delimited text: an array of millions of empty records in its place fills no memory."""
    path = tmp_path / "ratings.csv"
    path.write_text('[{"user_id":"u"}, {"user_id":"v"}]\n1,2\n')
    assert "user_id" not in read_table(path, delimiter=",").names


def test_blanks_between_fields_are_one_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "ratings.txt"
    path.write_text(lines(" ").replace(" ", "   ", 5))
    check(read_dataset(path))


def test_a_line_that_names_the_separator_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("sep=;\n" + lines(";") + "x;y;oops;1\n")
    with pytest.raises(DataError, match=r"ratings.csv row 6, column 'rating': 'oops'"):
        read_dataset(path)
    path.write_text("sep=;\n" + lines(";"))
    check(read_dataset(path))


def test_a_trailing_delimiter_in_every_row_is_no_field(tmp_path: Path) -> None:
    path = tmp_path / "ratings.tsv"
    head, *rows = lines("\t").splitlines()
    path.write_text("\n".join([head, *(f"{row}\t" for row in rows)]) + "\n")
    check(read_dataset(path))
    path.write_text("\n".join([head, *(f"{row}\t" for row in rows * 10), f"{rows[0]}\textra"]) + "\n")
    with pytest.raises(DataError, match="row 32: 5 fields instead of 4"):
        read_dataset(path)


def test_tables_without_a_header_get_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "u.data"
    path.write_text(lines("\t", header=False))
    table = read_table(path, names=HEADER)
    assert table.numbers("rating").tolist() == [4, 5, 1]
    assert table.row(2) == 3
    assert "u.data: no header: columns 1 to 4 taken as user_id, item_id, rating, timestamp" in caplog.text


def test_a_json_array_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ratings.json"
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    path.write_text(json.dumps(rows, indent=1))
    check(read_dataset(path))
    path.write_text(json.dumps([*rows, {**rows[0], "rating": "oops"}]))
    with pytest.raises(DataError, match=r"ratings.json row 4, column 'rating': 'oops'"):
        read_dataset(path)


def test_lines_of_python_literals_are_read_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "ratings.json"
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    path.write_text("\n".join(map(repr, rows)))
    check(read_dataset(path))
    path.write_text(f"{{'user_id': open({str(tmp_path / 'ran')!r}, 'w').name}}\n")
    with pytest.raises(DataError, match=r"ratings.json row 1: not JSON"):
        read_dataset(path)
    assert not (tmp_path / "ran").exists()


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_text('{"user_id": "a", "user_id": "b", "item_id": "i", "rating": 3}\n')
    with pytest.raises(DataError, match=r"row 1: not JSON \(the key 'user_id' occurs twice\)"):
        read_dataset(path)


def parquet_columns() -> dict[str, pa.Array]:
    columns = zip(HEADER, zip(*ROWS, strict=True), strict=True)
    return {name: pa.array(values) for name, values in columns}


def test_a_folder_of_parquet_parts_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "ratings.parquet"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    table = pa.table(parquet_columns())
    pq.write_table(table[:1], folder / "part-00000.parquet")
    pq.write_table(table[1:], folder / "part-00001.parquet")
    check(read_dataset(folder))
    check(read_dataset(folder.rename(tmp_path / "ratings")))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("user_id", pa.array(["01", "é", "01"], pa.string_view())),
        ("user_id", pa.array(["01", "é", "01"]).dictionary_encode()),
        ("rating", pa.array([Decimal("4.0"), Decimal("5.0"), Decimal("1.0")])),
        ("rating", pa.array([4, 5, 1], pa.uint8())),
        ("timestamp", pa.array([1_500_000_000, 1_500_000_100, 1_500_000_200], pa.timestamp("s", tz="UTC"))),
    ],
)
def test_types_of_parquet_columns_are_understood(column: str, values: pa.Array, tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    pq.write_table(pa.table({**parquet_columns(), column: values}), path)
    check(read_dataset(path))


def test_single_precision_levels_are_the_levels_that_were_meant(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    pq.write_table(pa.table({**parquet_columns(), "rating": pa.array([3.9, 0.1, 5.0], pa.float32())}), path)
    assert read_table(path).numbers("rating").tolist() == [3.9, 0.1, 5.0]


def test_a_column_of_dates_is_a_column_of_times(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    days = pa.array([date(1970, 1, 2), date(2020, 1, 1), date(1969, 12, 31)], pa.date32())
    pq.write_table(pa.table({**parquet_columns(), "timestamp": days}), path)
    timestamp = read_dataset(path).timestamp
    assert timestamp is not None
    np.testing.assert_array_equal(timestamp, [86_400, 1_577_836_800, -86_400])


def test_booleans_are_two_levels(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    pq.write_table(pa.table({**parquet_columns(), "rating": pa.array([True, False, True])}), path)
    assert read_dataset(path).rating.tolist() == [1, 0, 1]


def test_signs_are_part_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "thumbs.csv"
    path.write_text("user_id,item_id,rating\na,x,+1\na,y,-1\nb,x,+1\n")
    assert read_dataset(path, columns=ColumnMap(timestamp=None)).rating.tolist() == [1, -1, 1]


def test_lists_in_cells_are_sets_of_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ratings, items = tmp_path / "ratings.csv", tmp_path / "items.csv"
    ratings.write_text("user_id,item_id,rating\na,i1,1\na,i2,5\n")
    cells = {
        "i1": "\"['Action', 'Comedy', 'Action']\"",
        "i2": "\"[{'id': 18, 'name': 'Drama'}]\"",
        "i3": '"[""War"", """"]"',
        "i4": "[]",
        "i5": '"Action, Adventure"',
        "i6": "['Action'",
        "i7": "",
    }
    items.write_text("\n".join(["item_id,genres", *(f"{item},{cell}" for item, cell in cells.items())]) + "\n")
    genres = read_dataset(ratings, items).items["genres"]
    assert genres.tolist() == [("Action", "Comedy"), ("Drama",), ("War",), (), ("Action", "Adventure"), (), ()]
    assert "items.csv row 7, column 'genres': \"['Action'\" cannot be read as a list and counts as empty" in caplog.text


def test_lists_of_objects_in_parquet_are_sets_of_names(tmp_path: Path) -> None:
    ratings, items = tmp_path / "ratings.csv", tmp_path / "items.parquet"
    ratings.write_text("user_id,item_id,rating\na,i1,1\na,i2,5\n")
    genres = pa.array([[{"id": 1, "name": "War"}, {"id": 2, "name": "Drama"}], None])
    pq.write_table(pa.table({"item_id": ["i1", "i2"], "genres": genres}), items)
    assert read_dataset(ratings, items).items["genres"].tolist() == [("War", "Drama"), ()]


@pytest.mark.parametrize("words", [["--no-header"], ["--columns", "user_id,item_id,rating,timestamp"]])
def test_the_command_line_reads_tables_without_a_header(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "u.data"
    path.write_text("\n".join(f"{u}#{i}#{1 + (u + i) % 5}#{100 + u}" for u in range(9) for i in range(9)) + "\n")
    bench = ["bench", "--ratings", str(path), "--models", "global_mean", "--figure", "none", "--delimiter", "#"]
    assert main([*bench, *words]) == 0
    capsys.readouterr()
    assert main(bench) == 2
    assert "u.data row 1 is no header, it holds values: 0, 0, 1, 100; name the columns" in capsys.readouterr().err
    assert main([*bench, "--user-col", "100"]) == 2
    assert "u.data row 1 is no header" in capsys.readouterr().err


def test_columns_that_pandas_never_named_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("0,1,2\na,x,1\nb,x,5\n")
    assert len(read_dataset(path, columns=ColumnMap("0", "1", "2"))) == 2


NOON = 1_503_921_600
"""2017-08-28 12:00 UTC."""


@pytest.mark.parametrize(
    "form",
    [
        "2017-08-28 12:00:00 UTC",
        "2017-08-28T14:00:00+02:00",
        "2017/08/28 12:00",
        "Mon Aug 28 05:00:00 -0700 2017",
        "Mon, 28 Aug 2017 12:00:00 +0000",
        "Mon, 28 Aug 2017 12:00:00 GMT",
        "Mon Aug 28 05:00:00 PDT 2017",
        "2017-08-28 08:00:00 EDT",
        "2017-08-28 14:00 CEST",
        "08/28/2017 12:00",
        "28/08/2017 12:00:00",
        "1503921600000",
    ],
)
def test_times_are_read_in_the_forms_of_other_programs(form: str, tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f'user_id,item_id,rating,timestamp\na,x,1,"{form}"\nb,x,5,"{form}"\n')
    timestamp = read_dataset(path).timestamp
    assert timestamp is not None
    assert timestamp.tolist() == [NOON, NOON]


def test_blanks_behind_every_delimiter_are_no_part_of_values(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user_id, item_id, rating\na, x, 1\nb, x, 5\n")
    assert list(read_dataset(path).items.index) == ["x"]
    path.write_text("user_id,item_id,rating\na, x,1\nb,x,5\n")
    assert list(read_dataset(path).items.index) == [" x", "x"]


@pytest.mark.parametrize("form", ["20170828", "Aug 28, 2017", "08 28, 2017", "28.08.2017"])
def test_days_are_times(form: str, tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f'user_id,item_id,rating,timestamp\na,x,1,"{form}"\nb,x,5,"{form}"\n')
    timestamp = read_dataset(path).timestamp
    assert timestamp is not None
    assert timestamp.tolist() == [NOON - 43_200] * 2


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (" ", "2017-08-28", "row 2, column 'timestamp': the timestamp is missing"),
        ("2017-08-28", "soon", "row 3, column 'timestamp': the timestamp 'soon' is not a time"),
        ("2017-08-28", "2017-13-31", "row 3, column 'timestamp': the timestamp '2017-13-31' is not a time"),
        ("01/02/2017", "03/04/2017", "'01/02/2017' may begin with the day or with the month"),
    ],
)
def test_a_time_that_is_none_is_blamed_on_its_row(first: str, second: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"user_id,item_id,rating,timestamp\na,x,1,{first}\nb,x,5,{second}\n")
    with pytest.raises(DataError, match=message):
        read_dataset(path)


def test_zeros_beside_times_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"user_id,item_id,rating,timestamp\na,x,1,{NOON}\nb,x,5,0\n")
    read_dataset(path)
    assert "row 3, column 'timestamp': 1 of 2 timestamps are 0 (1970) beside times of 2017 to 2017" in caplog.text


def test_a_time_in_the_far_future_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating,timestamp\na,x,1,2017-08-28\nb,x,5,9999-12-31\n")
    read_dataset(path)
    assert "row 3, column 'timestamp': 1 timestamps are later than the file itself" in caplog.text


def test_an_item_row_that_is_repeated_exactly_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ratings, items = tmp_path / "ratings.csv", tmp_path / "items.csv"
    ratings.write_text("user_id,item_id,rating\na,i1,1\na,i2,5\n")
    items.write_text("item_id,title,genres,year\ni1,One,War|Drama,\ni2,Two,,1999\ni1,One,War|Drama,\n")
    assert read_dataset(ratings, items).items["title"].tolist() == ["One", "Two"]
    assert "items.csv row 4, column 'item_id': 1 rows repeat another exactly and count once" in caplog.text
    items.write_text("item_id,title\ni1,One\ni2,Two\ni1,Other\n")
    with pytest.raises(DataError, match="row 4, column 'item_id': the id 'i1' has a row already"):
        read_dataset(ratings, items)


def test_the_ids_of_items_and_users_may_be_called_otherwise(tmp_path: Path) -> None:
    ratings, items, users = tmp_path / "ratings.csv", tmp_path / "items.csv", tmp_path / "users.csv"
    ratings.write_text("user_id,item_id,rating\na,i1,1\na,i2,5\n")
    items.write_text("movieId,title\ni1,One\n")
    users.write_text("uid,age\na,30\n")
    dataset = read_dataset(ratings, items, users, ColumnMap(items_id="movieId", users_id="uid"))
    assert dataset.items["title"].tolist() == ["One", ""]
    assert dataset.users["age"].tolist() == [30]
    with pytest.raises(DataError, match=r"column 'item_id' is missing; .* name the right one with --items-id-col"):
        read_dataset(ratings, items)
    with pytest.raises(DataError, match=r"column 'user_id' is missing; .* name the right one with --users-id-col"):
        read_dataset(ratings, None, users)


@pytest.mark.parametrize("year", ["19550215", "200500000", "1503921600000", "-3", "9999"])
def test_a_year_that_can_be_none_is_missing(year: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ratings, items = tmp_path / "ratings.csv", tmp_path / "items.csv"
    ratings.write_text("user_id,item_id,rating\na,i1,1\na,i2,5\n")
    items.write_text(f"item_id,year\ni1,1999\ni2,{year}\n")
    np.testing.assert_array_equal(read_dataset(ratings, items).items["year"], [1999, np.nan])
    assert f"items.csv row 3, column 'year': {year} is no year" in caplog.text


@pytest.mark.parametrize("name", ["nan", "NULL", "None", "\\N"])
def test_an_id_that_is_a_missing_value_is_refused_dropped_or_kept(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"user_id,item_id,rating\n{name},x,1\n{name},y,5\nb,x,5\nb,y,1\n")
    place = f"ratings.csv row 2, column 'user_id': the id is {name!r}, a missing value"
    with pytest.raises(DataError, match=re.escape(f"{place} (2 of 4 rows); leave these rows out with --missing-ids")):
        read_dataset(path)
    assert list(read_dataset(path, missing_ids="keep").users.index) == [name, "b"]
    assert len(read_dataset(path, missing_ids="drop")) == 2
    assert f"{place}; 2 of 4 rows are left out" in caplog.text


def test_metadata_of_macos_in_a_zip_is_no_second_table(tmp_path: Path) -> None:
    """Archives packed on macOS hold `__MACOSX/._NAME` beside each file."""
    path = tmp_path / "ratings.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("ratings.csv", lines())
        bundle.writestr("__MACOSX/._ratings.csv", b"\0\5\x16\7")
    assert len(read_dataset(path)) == len(ROWS)
