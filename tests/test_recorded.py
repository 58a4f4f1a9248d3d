"""Recorded ratings: replayed exactly, and files with bad rows refused row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, ScaleError, SettingsError
from hybrid_sim.core.types import RatingScale
from hybrid_sim.data.recordings import read_recorded
from hybrid_sim.models.recorded import Recorded, RecordedRatings
from hybrid_sim.testing import check_rater, tiny_dataset

FIVE = RatingScale((1, 2, 3, 4, 5))


def _table(*rows: tuple[str, str, float]) -> RecordedRatings:
    users, items, ratings = zip(*rows, strict=True)
    return RecordedRatings(np.array(users, dtype=object), np.array(items, dtype=object), np.array(ratings, dtype=float))


def _write(folder: Path, text: str) -> Path:
    path = folder / "llm.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_conforms_on_half_of_the_pairs() -> None:
    for levels in ((1, 2, 3, 4, 5), (0, 1)):
        dataset = tiny_dataset(levels=levels)
        half = dataset.take(np.arange(0, len(dataset), 2))
        table = RecordedRatings(
            dataset.users.index.to_numpy(dtype=object)[half.user],
            dataset.items.index.to_numpy(dtype=object)[half.item],
            half.rating,
        )
        check_rater(lambda table=table: Recorded(table), dataset)


def test_replays_frequencies_and_abstains_elsewhere(tiny: Dataset) -> None:
    table = _table(("u01", "i02", 4), ("u00", "i00", 1), ("u01", "i02", 5), ("u01", "i02", 4), ("u99", "i00", 2))
    rater = Recorded(table).fit(tiny)
    answer = rater.rate(tiny.encode(["u01", "u00", "u02", "u00", "u99"], ["i02", "i00", "i02", "i01", "i00"]))
    np.testing.assert_allclose(answer.probs[0], [0, 0, 0, 2 / 3, 1 / 3])
    np.testing.assert_array_equal(answer.probs[1], [1, 0, 0, 0, 0])
    assert answer.answered.tolist() == [True, True, False, False, False]
    assert rater.n_unknown_ == 1


def test_a_rating_off_the_scale_of_the_data_set_is_named(tiny: Dataset) -> None:
    with pytest.raises(ScaleError, match=r"recorded rating 7 of user 'u01' and item 'i02' is not on the scale 1, 2, 3"):
        Recorded(_table(("u00", "i00", 3), ("u01", "i02", 7))).fit(tiny)


def test_reads_ids_as_they_stand_and_counts_missing_answers(tmp_path: Path) -> None:
    path = _write(tmp_path, '\ufeffuser_id,item_id,rating,model\n01,"a,b", 4 ,x\n\n1,NA,,x\n1.0,\u00e9,3.0,y\n')
    table = read_recorded(path, FIVE)
    assert table.user_ids.tolist() == ["01", "1.0"]
    assert table.item_ids.tolist() == ["a,b", "\u00e9"]
    assert table.ratings.tolist() == [4.0, 3.0]
    assert table.n_missing == 1
    assert len(read_recorded(path, FIVE, model="y")) == 1


def test_reads_parquet(tmp_path: Path) -> None:
    path = tmp_path / "llm.parquet"
    frame = pd.DataFrame({"user_id": [7, 8, 9], "movie": ["01", "1", "x"], "score": [1.0, np.nan, 5.0]})
    frame.to_parquet(path)
    table = read_recorded(path, FIVE, item="movie", rating="score")
    assert (table.user_ids.tolist(), table.item_ids.tolist()) == (["7", "9"], ["01", "x"])
    assert (table.ratings.tolist(), table.n_missing) == ([1.0, 5.0], 1)
    frame.assign(score=[4.0, 9.0, 1.0]).to_parquet(path)
    with pytest.raises(DataError, match=r"llm.parquet row 2, column 'score': 9.0 is not a number on the scale"):
        read_recorded(path, FIVE, item="movie", rating="score")
    frame.assign(user_id=[1.0, 2.0, 3.0]).to_parquet(path)
    with pytest.raises(DataError, match=r"column 'user_id': ids are text or whole numbers, not double"):
        read_recorded(path, FIVE, item="movie", rating="score")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"llm.parquet is not a readable Parquet file"):
        read_recorded(path, FIVE)


BAD_CELLS = [
    "4/5",
    "four",
    "NaN",
    "Infinity",
    "1e309",
    "1e999",
    "true",
    "[4]",
    "0x4",
    "1_0",
    "\u0664",
    "9",
    "3.7",
    "0",
    "-1",
]


@pytest.mark.parametrize("cell", BAD_CELLS)
def test_a_cell_that_is_no_rating_is_refused_with_its_row(cell: str, tmp_path: Path) -> None:
    path = _write(tmp_path, f"user_id,item_id,rating\n1,2,3\n1,3,{cell}\n")
    with pytest.raises(
        DataError, match=r"llm.csv row 3, column 'rating': .* is not a number(; fix| on the scale 1, 2, 3, 4, 5; fix)"
    ):
        read_recorded(path, FIVE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a header"),
        (
            "user_id,item,rating\n1,2,3\n",
            "column 'item_id' is missing; the file has 'user_id', 'item', 'rating'; name the right one",
        ),
        ("user_id,item_id,rating,rating\n1,2,3,3\n", "a column name occurs twice in user_id"),
        ("user_id,item_id,rating\n1,2,3\n1,2\n", "row 3: 2 fields instead of 3"),
        ("user_id,item_id,rating\n1,2,3,4\n", "row 2: 4 fields instead of 3"),
        ("user_id,item_id,rating\n,2,3\n", "row 2, column 'user_id': the id is ''"),
        ('user_id,item_id,rating\n1,"2,3\n', 'a quote " is never closed'),
    ],
)
def test_a_file_that_is_no_recording_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_recorded(_write(tmp_path, text), FIVE)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(SettingsError, match=f"there is no file .*{name}"):
            read_recorded(tmp_path / name, FIVE)
    (tmp_path / "latin.csv").write_bytes("user_id,item_id,rating\né,1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv row 2: byte 0xE9 is not utf-8"):
        read_recorded(tmp_path / "latin.csv", FIVE)
    with pytest.raises(DataError, match="has no row of model 'y'"):
        read_recorded(_write(tmp_path, "user_id,item_id,rating,model\n1,2,3,x\n"), FIVE, model="y")


@settings(deadline=None)
@given(cell=st.text(st.characters(exclude_characters='",\r\n', codec="utf-8"), max_size=8))
def test_whatever_the_cell_it_is_a_level_or_missing_or_refused(
    cell: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _write(tmp_path_factory.mktemp("cell"), f"user_id,item_id,rating\n1,2,{cell}\n")
    try:
        table = read_recorded(path, FIVE)
    except DataError as error:
        assert "row 2, column 'rating'" in str(error)  # noqa: PT017  both ends are allowed
    else:
        assert table.n_missing == 1 if not cell.strip() else table.ratings[0] in FIVE.levels


def test_real_recorded_ratings_score_as_published(
    real_data: Callable[[str], Path], ml100k_fold: Callable[[int, str], tuple[Dataset, Dataset]]
) -> None:
    published = {1: (19655, 1, 1.3351), 2: (19615, 18, 1.3022), 3: (19595, 47, 1.2995)}
    for fold, (n_rated, n_missing, rmse) in published.items():
        path = real_data("lusifer") / "ml-100k" / f"ratings_u{fold}.csv"
        table = read_recorded(path, FIVE, item="movie_id", rating="simulated_ratings")
        train, test = ml100k_fold(fold, "B")
        answer = Recorded(table).fit(train).rate(test.pairs)
        seen = answer.answered
        assert (len(table), table.n_missing, seen.sum()) == (n_rated, n_missing, n_rated)
        error = np.sqrt(np.mean((answer.mean()[seen] - test.rating[seen]) ** 2))
        assert error == pytest.approx(rmse, abs=1e-4)
