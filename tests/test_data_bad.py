"""One file per bad case in `bad_data`: each is refused with file, row, column, value and cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybrid_sim.core.errors import DataError, InputError, ScaleError, SettingsError
from hybrid_sim.data import read_dataset
from hybrid_sim.data.scales import parse_scale

FOLDER = Path(__file__).parent / "bad_data"

ON_FIVE: dict[str, object] = {"scale": parse_scale("1:5")}

CASES: dict[str, tuple[dict[str, object], type[InputError], str]] = {
    "empty.csv": ({}, DataError, "empty.csv is empty; expected a header and rows"),
    "header_only.csv": ({}, DataError, "header_only.csv holds no ratings; expected a row per rating"),
    "missing_column.csv": (
        {},
        DataError,
        "missing_column.csv: column 'item_id' is missing; the file has 'user_id', 'movie', 'rating'; "
        "name the right one with --item-col",
    ),
    "nan_rating.csv": (
        ON_FIVE,
        DataError,
        "nan_rating.csv row 3, column 'rating': the rating is missing; fix or",
    ),
    "missing_rating.csv": (
        ON_FIVE,
        DataError,
        "missing_rating.csv row 3, column 'rating': the rating is missing",
    ),
    "infinite_rating.csv": (
        ON_FIVE,
        DataError,
        "infinite_rating.csv row 2, column 'rating': the rating is infinite",
    ),
    "unparsable_rating.csv": (
        ON_FIVE,
        DataError,
        "unparsable_rating.csv row 5, column 'rating': 'four' is not a number; fix or remove the row",
    ),
    "off_scale.csv": (
        ON_FIVE,
        ScaleError,
        "off_scale.csv row 3, column 'rating': rating 3.7 is not on the scale 1, 2, 3, 4, 5; declare an",
    ),
    "short_row.csv": (
        ON_FIVE,
        DataError,
        "short_row.csv row 3: 3 fields instead of 4: 'u1,i2,4'; quote fields",
    ),
    "long_row.csv": (
        ON_FIVE,
        DataError,
        "long_row.csv row 4: 5 fields instead of 4: 'u1,i2,4,5,6'; quote fields",
    ),
    "open_quote.csv": (
        ON_FIVE,
        DataError,
        'open_quote.csv row 3: a quote " is never closed; is the file cut short?',
    ),
    "repeated_header.csv": (
        {},
        DataError,
        "repeated_header.csv row 1: a column name occurs twice in user_id",
    ),
    "all_equal.csv": ({}, ScaleError, "all 2 ratings are 4, so nothing can be learned from them: a simulator needs"),
    "continuous.csv": (
        {},
        ScaleError,
        "220 distinct ratings between 0.1 and 81.13 are no scale; declare one, of which they become the nearest level",
    ),
    "empty_id.csv": (
        {},
        DataError,
        "empty_id.csv row 3, column 'item_id': the id is missing (1 of 2 rows); leave these rows out",
    ),
    "nul_id.csv": ({}, DataError, r"nul_id.csv row 3, column 'user_id': the id is 'u\x002'"),
    "missing_time.csv": (
        {},
        DataError,
        "missing_time.csv row 3, column 'timestamp': the timestamp is missing (1 such rows); "
        "fix it, or read without times: --timestamp-col ''",
    ),
    "unparsable_time.csv": (
        {},
        DataError,
        "unparsable_time.csv row 3, column 'timestamp': 'yesterday' is not a num",
    ),
    "repeated_pair.csv": (
        {"duplicates": "error"},
        DataError,
        "repeated_pair.csv row 4, columns 'user_id' and 'item_id': the same pair as in row 2; remove one",
    ),
    "latin1.csv": ({}, DataError, "latin1.csv row 3: byte 0xE9 is not utf-8; pass --encoding latin-1"),
    "not_json.jsonl": ({}, DataError, "not_json.jsonl row 2: not JSON"),
    "not_an_object.jsonl": (
        {},
        DataError,
        "not_an_object.jsonl row 1: expected a JSON object per line, got \"['1', '2']",
    ),
    "surrogate_id.jsonl": (
        {},
        DataError,
        r"surrogate_id.jsonl row 2, column 'user_id': '\ud800' is not text",
    ),
    "float_id.parquet": (
        {},
        DataError,
        "float_id.parquet, column 'user_id': ids are text or whole numbers, not double",
    ),
    "null_id.parquet": ({}, DataError, "null_id.parquet row 2, column 'user_id': the id is missing"),
    "truncated.parquet": ({}, DataError, "truncated.parquet is not a readable Parquet file"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_ratings_are_refused(name: str) -> None:
    settings, error, message = CASES[name]
    with pytest.raises(error, match=re.escape(message)):
        read_dataset(FOLDER / name, **settings)  # type: ignore[arg-type]  # the settings differ by case


def test_every_bad_file_has_a_case() -> None:
    assert {path.name for path in FOLDER.iterdir() if ".items." not in path.name} == set(CASES)


def test_an_item_listed_twice_is_refused(tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("user_id,item_id,rating\nu1,i1,1\nu1,i2,5\n")
    message = "repeated_item.items.csv row 4, column 'item_id': the id 'i1' has a row already; remove one"
    with pytest.raises(DataError, match=re.escape(message)):
        read_dataset(ratings, FOLDER / "repeated_item.items.csv")


def test_the_cure_for_a_foreign_encoding_works() -> None:
    dataset = read_dataset(FOLDER / "latin1.csv", encoding="latin-1")
    assert list(dataset.users.index) == ["u1", "André"]


def test_a_missing_file_a_folder_and_an_unknown_encoding_are_settings_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no file .*nowhere\.csv"):
        read_dataset(tmp_path / "nowhere.csv")
    with pytest.raises(SettingsError, match="cannot be read as a file"):
        read_dataset(tmp_path)
    with pytest.raises(SettingsError, match="unknown encoding 'klingon'"):
        read_dataset(FOLDER / "latin1.csv", encoding="klingon")
    with pytest.raises(SettingsError, match="duplicates='first' is not known"):
        read_dataset(FOLDER / "repeated_pair.csv", duplicates="first")  # type: ignore[arg-type]  # the point
