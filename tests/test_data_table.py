"""Any table of ratings: formats, ids, scale, times, repeats and side information."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_sim.core.errors import DataError, ScaleError
from hybrid_sim.core.types import RatingScale
from hybrid_sim.data import ColumnMap, read_dataset
from hybrid_sim.data.scales import KNOWN_SCALES, parse_scale

ROWS = [("u1", "i1", 4, 100), ("u1", "i2", 1, 90), ("u2", "i1", 5, 80)]
FIVE = parse_scale("1:5")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_every_format_gives_the_same_dataset(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t", lineterminator="\r\n")
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    write(tmp_path / "mark.csv", "\ufeff" + (tmp_path / "a.csv").read_text().replace(",", ";"))
    datasets = [
        read_dataset(tmp_path / name, scale=FIVE, name="a")
        for name in ("a.csv", "a.tsv", "a.parquet", "a.jsonl", "mark.csv")
    ]
    assert len({dataset.digest for dataset in datasets}) == 1
    assert datasets[0].rating.tolist() == [4, 1, 5]
    assert datasets[0].timestamp is not None
    assert datasets[0].timestamp.tolist() == [100, 90, 80]
    assert list(datasets[0].users.index) == ["u1", "u2"]


def test_ids_are_exact_and_collisions_are_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "r.csv", "user_id,item_id,rating\n1,a,1\n01,a,5\n1.0,b,2\n 1,b,3\n2,a,1\n")
    dataset = read_dataset(path)
    assert list(dataset.users.index) == ["1", "01", "1.0", " 1", "2"]
    reports = [record.getMessage() for record in caplog.records if "several ways" in record.getMessage()]
    assert len(reports) == 1
    assert "4 of them are numbers written in several ways: '1', '01', '1.0', ' 1'" in reports[0]


def test_strange_ids_are_kept_verbatim(tmp_path: Path) -> None:
    ids = ["../../etc/passwd", "\u202eabc", "\x1b[31mred", "x" * 300, "=1+1", "a\u001ab", "007", " "]
    lines = [json.dumps({"user_id": name, "item_id": "i", "rating": 1 + n % 2}) for n, name in enumerate(ids)]
    dataset = read_dataset(write(tmp_path / "r.jsonl", "\n".join(lines)))
    assert list(dataset.users.index) == ids


@settings(deadline=None)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8),
        min_size=2,
        max_size=8,
        unique=True,
    )
)
def test_any_text_is_an_id(ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ids")
    frame = pd.DataFrame({"user_id": ids, "item_id": "i", "rating": np.arange(len(ids)) % 5 + 1})
    frame.to_parquet(folder / "r.parquet", index=False)
    lines = [json.dumps(row) for row in frame.to_dict("records")]
    write(folder / "r.jsonl", "\n".join(lines))
    for name in ("r.parquet", "r.jsonl"):
        assert list(read_dataset(folder / name, scale=FIVE, missing_ids="keep").users.index) == ids


@settings(deadline=None)
@given(content=st.binary(max_size=120), suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
def test_any_bytes_are_read_or_refused_with_the_name_of_the_file(
    content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bytes") / f"ratings{suffix}"
    path.write_bytes(b"user_id,item_id,rating\n" + content if suffix == ".csv" else content)
    try:
        read_dataset(path)
    except (DataError, ScaleError) as error:
        assert path.name in str(error) or "declare" in str(error)  # noqa: PT017  both outcomes are right


def test_whole_numbers_of_parquet_are_ids(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": [10, 2], "m": ["a", "a"], "r": [0.5, 5.0]})
    frame.to_parquet(tmp_path / "r.parquet", index=False)
    dataset = read_dataset(tmp_path / "r.parquet", columns=ColumnMap("u", "m", "r"))
    assert list(dataset.users.index) == ["10", "2"]
    assert dataset.scale == parse_scale("0.5:5:0.5")


def test_rows_are_lines_even_after_quoted_line_breaks(tmp_path: Path) -> None:
    text = 'note,user_id,item_id,rating\n"two\nlines, quoted",u1,i1,1\n\nplain,u1,i2,oops\n'
    with pytest.raises(DataError, match=r"r\.csv row 5, column 'rating': 'oops' is not a number"):
        read_dataset(write(tmp_path / "r.csv", text))


@pytest.mark.parametrize(
    ("ratings", "scale"),
    [
        ((1, 5), "1:5"),
        ((1, 3, 5), "1:5"),
        ((0.5, 4, 5), "0.5:5:0.5"),
        ((1, 10, 7), "1:10"),
        ((0, 1), "0,1"),
        ((0, 100, 37), "0:100"),
        ((0, 10), "0:10"),
        ((-1, 1), "-1,1"),
        ((2, 3, 4), "2,3,4"),
        ((0.1, 0.7), "0.1,0.7"),
    ],
)
def test_the_scale_is_detected_and_stated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ratings: tuple[float, ...], scale: str
) -> None:
    caplog.set_level(logging.INFO, "hybrid_sim")
    rows = "".join(f"u,i{n},{rating}\n" for n, rating in enumerate(ratings))
    dataset = read_dataset(write(tmp_path / "r.csv", "user_id,item_id,rating\n" + rows))
    assert dataset.scale == parse_scale(scale)
    is_known = scale in KNOWN_SCALES
    stated = [record for record in caplog.records if "rating scale" in record.getMessage()]
    assert [record.levelname for record in stated] == ["INFO" if is_known else "WARNING"]
    assert str(dataset.scale) in stated[0].getMessage()


@pytest.mark.parametrize("scale", ["1:nan", "0:inf", "1e13,2e13", "0:1e-14", "low:high"])
def test_a_scale_that_is_none_is_refused(scale: str) -> None:
    with pytest.raises(ScaleError, match="is not understood; write low:high"):
        parse_scale(scale)


def test_repeated_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "user_id,item_id,rating,timestamp\nu,a,1,10\nu,b,3,20\nu,a,4,30\nv,a,5,40\n"
    path = write(tmp_path / "r.csv", text)
    last, mean = (read_dataset(path, duplicates=policy) for policy in ("last", "mean"))
    assert last.rating.tolist() == [3, 4, 5]
    assert last.timestamp is not None
    assert last.timestamp.tolist() == [20, 30, 40]
    assert mean.rating.tolist() == [3, 3, 5], "2.5 is rounded up to the scale"
    said = [record.getMessage() for record in caplog.records if "repeat" in record.getMessage()]
    assert said == [
        "r.csv: 1 rows repeat a (user, item) pair; the last rating counts",
        "r.csv: 1 rows repeat a (user, item) pair; the mean counts, rounded to the scale",
    ]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1577836800", ""),
        ("1577836800.9", ""),
        ("1577836800123", "milliseconds"),
        ("1577836800123456", "microseconds"),
        ("1577836800123456789", "nanoseconds"),
        ("2020-01-01", ""),
        ("2020-01-01T01:00:00+01:00", ""),
    ],
)
def test_times_become_seconds(tmp_path: Path, caplog: pytest.LogCaptureFixture, written: str, said: str) -> None:
    caplog.set_level(logging.INFO, "hybrid_sim")
    path = write(tmp_path / "r.csv", f"user_id,item_id,rating,timestamp\nu,a,1,{written}\nu,b,5,{written}\n")
    dataset = read_dataset(path)
    assert dataset.timestamp is not None
    assert dataset.timestamp.tolist() == [1577836800, 1577836800]
    assert (f"timestamps are in {said}" in caplog.text) == bool(said)


def test_times_of_parquet_become_seconds(tmp_path: Path) -> None:
    times = pd.to_datetime(["2020-01-01", "2020-01-02"])
    frame = pd.DataFrame({"user_id": ["u", "v"], "item_id": "i", "rating": [1, 5], "timestamp": times})
    frame.to_parquet(tmp_path / "r.parquet", index=False)
    dataset = read_dataset(tmp_path / "r.parquet")
    assert dataset.timestamp is not None
    assert dataset.timestamp.tolist() == [1577836800, 1577923200]


def test_times_after_the_file_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "r.csv", "user_id,item_id,rating,timestamp\nu,a,1,100\nu,b,5,1600000000\n")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    read_dataset(path)
    assert "r.csv row 3, column 'timestamp': 1 timestamps are later than the file itself" in caplog.text


def test_times_are_optional_unless_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "user_id,item_id,rating,when\nu,a,1,\nu,b,5,3\n")
    assert read_dataset(path).timestamp is None
    assert read_dataset(path, columns=ColumnMap(timestamp=None)).timestamp is None
    with pytest.raises(DataError, match="row 2, column 'when': the timestamp is missing"):
        read_dataset(path, columns=ColumnMap(timestamp="when"))
    with pytest.raises(DataError, match=r"column 'at' is missing; .* name the right one with --timestamp-col"):
        read_dataset(path, columns=ColumnMap(timestamp="at"))


def test_side_information(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ratings = write(tmp_path / "r.csv", "user_id,item_id,rating\nu1,i9,1\nu1,i2,5\n")
    items = write(
        tmp_path / "items.csv",
        'item_id,title,year,genres,overview,price,score\ni2,"Two, the",1999,War|Drama,"Say ""hi""",3,4.5\n'
        "i1,One,,(no genres listed),,,4\n",
    )
    users = write(tmp_path / "users.csv", "user_id,age,gender,zip,shoe\nu1,31,F,02460,40\nu2,,M,55117,\n")
    columns = ColumnMap(item_features=("price",), user_features=("age", "gender", "zip"))
    dataset = read_dataset(ratings, items, users, columns)
    assert list(dataset.items.index) == ["i2", "i1", "i9"], "unlisted items stand behind the listed ones"
    assert dataset.item.tolist() == [2, 0]
    assert dataset.items["title"].tolist() == ["Two, the", "One", ""]
    assert dataset.items["genres"].tolist() == [("War", "Drama"), (), ()]
    assert dataset.items["overview"].tolist() == ['Say "hi"', "", ""]
    np.testing.assert_array_equal(dataset.items["year"], [1999, np.nan, np.nan])
    np.testing.assert_array_equal(dataset.items["price"], [3, np.nan, np.nan])
    assert "score" not in dataset.items, "only features that are asked for: this one may average ratings"
    assert dataset.users["zip"].tolist() == ["02460", "55117"], "a leading zero makes text"
    np.testing.assert_array_equal(dataset.users["age"], [31, np.nan])
    assert "items without a row of their own: 1, for example 'i9'" in caplog.text


def test_genres_may_be_lists(tmp_path: Path) -> None:
    ratings = write(tmp_path / "r.csv", "user_id,item_id,rating\nu1,i1,1\nu1,i2,5\n")
    lists = [{"item_id": "i1", "genres": ["War", "Drama"]}, {"item_id": "i2", "genres": None}]
    items = write(tmp_path / "items.jsonl", "\n".join(map(json.dumps, lists)))
    frame = pd.DataFrame(lists)
    frame.to_parquet(tmp_path / "items.parquet", index=False)
    for path in (items, tmp_path / "items.parquet"):
        assert read_dataset(ratings, path).items["genres"].tolist() == [("War", "Drama"), ()]


def test_one_user_and_one_item_work(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "user_id,item_id,rating\nu,i,3\n")
    dataset = read_dataset(path, scale=FIVE)
    assert (dataset.n_users, dataset.n_items, len(dataset)) == (1, 1, 1)


@given(low=st.integers(-50, 50), step=st.sampled_from(["0.1", "0.25", "0.5", "1", "2"]), n=st.integers(1, 200))
def test_ladders_are_parsed_exactly(low: int, step: str, n: int) -> None:
    high = low + n * float(step)
    scale = parse_scale(f"{low}:{high:.10g}:{step}")
    np.testing.assert_allclose(scale.levels, low + np.arange(n + 1) * float(step), atol=1e-12)


@given(levels=st.sets(st.integers(-1000, 1000), min_size=2, max_size=50))
def test_lists_of_levels_are_parsed_in_any_order(levels: set[int]) -> None:
    assert parse_scale(",".join(map(str, levels))) == RatingScale(tuple(sorted(levels)))


@given(text=st.text(max_size=20))
def test_any_text_is_a_scale_or_a_scale_error(text: str) -> None:
    try:
        scale = parse_scale(text)
    except ScaleError:
        return
    assert 2 <= scale.n_levels <= 201


@pytest.mark.parametrize("text", ["", "5", "1:", "1:5:0", "5:1", "1:5:0.3", "0:1e9", "1:2:3:4", "nan,1", "a,b", "1,1"])
def test_wrong_scales_are_refused(text: str) -> None:
    with pytest.raises(ScaleError):
        parse_scale(text)
