"""Side information becomes features in a way that can be said in a sentence, and depends on no order of rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.types import FloatArray
from hybrid_sim.models.features import MAX_KNOTS, SideEncoder

JOBS = ["baker", "nurse", "pilot"]
GENRES = [("Drama",), ("Comedy", "Drama"), ("Comedy", "Drama", "War"), ("War",), ()]


def frame(n_rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.uniform(10, 80, n_rows),
            "stars": rng.integers(0, 4, n_rows),
            "job": pd.Series(rng.choice(JOBS, n_rows), dtype=object),
            "genres": pd.Series([GENRES[k] for k in rng.integers(0, len(GENRES), n_rows)], dtype=object),
        }
    )


def columns(encoder: SideEncoder, **cells: object) -> dict[str, FloatArray]:
    """The features of one further row."""
    row = {"age": 30.0, "stars": 1.0, "job": "baker", "genres": ("War",), **cells}
    return encoder.encode_columns(pd.DataFrame({name: [cell] for name, cell in row.items()}))


def test_a_number_is_shared_by_the_two_knots_around_it() -> None:
    encoder = SideEncoder().fit(frame())
    hats = encoder.encode_columns(frame())["age"]
    assert hats.shape == (300, MAX_KNOTS)
    assert hats.sum(axis=1) == pytest.approx(1)
    assert (hats > 0).sum(axis=1).max() == 2
    assert hats @ encoder.knots_["age"] == pytest.approx(frame()["age"].to_numpy())


def test_few_numbers_are_flags_and_beyond_the_ends_the_end_has_it_all() -> None:
    encoder = SideEncoder().fit(frame())
    assert encoder.knots_["stars"] == [0, 1, 2, 3]
    assert columns(encoder, stars=2.0)["stars"].tolist() == [[0, 0, 1, 0]]
    assert columns(encoder, stars=-9.0)["stars"].tolist() == [[1, 0, 0, 0]]
    assert columns(encoder, stars=99.0)["stars"].tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_a_missing_or_infinite_number_is_zeros(missing: float) -> None:
    encoder = SideEncoder().fit(frame())
    assert not columns(encoder, age=missing)["age"].any()
    holed = frame()
    holed.loc[:20, "age"] = missing
    assert np.isfinite(SideEncoder().fit(holed).encode(holed)).all()
    assert np.isfinite(SideEncoder().fit(holed).knots_["age"]).all()


def test_categories_and_sets_have_unit_length_or_are_zeros() -> None:
    encoder = SideEncoder().fit(frame())
    blocks = encoder.encode_columns(frame())
    assert np.linalg.norm(blocks["job"], axis=1) == pytest.approx(1)
    lengths = np.linalg.norm(blocks["genres"], axis=1)
    assert lengths == pytest.approx([1.0 if genres else 0.0 for genres in frame()["genres"]])
    assert columns(encoder, genres=("Comedy", "War"))["genres"] == pytest.approx(np.array([[0.5**0.5, 0, 0.5**0.5]]))
    for cell in ("farmer", "", None):
        assert not columns(encoder, job=cell)["job"].any()
    assert not columns(encoder, genres=("Western",))["genres"].any()
    assert columns(encoder, genres=("Western", "War"))["genres"].tolist() == [[0, 0, 1]]


def test_the_order_of_rows_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(300)
    one = SideEncoder().fit(frame())
    other = SideEncoder().fit(frame().iloc[order])
    assert (one.knots_, one.members_) == (other.knots_, other.members_)
    assert (one.encode(frame())[order] == other.encode(frame().iloc[order])).all()


def test_columns_that_say_nothing_are_left_out() -> None:
    """Constants, names of their own for nearly every row, titles, and categories seen fewer than three times."""
    rows = frame().assign(
        constant=3.0,
        empty=np.nan,
        title=[f"Film {number % 5}" for number in range(300)],
        passport=[f"no {max(number, 3)}" for number in range(300)],
        rare=["once", "twice", "twice", *[""] * 297],
    )
    encoder = SideEncoder().fit(rows)
    assert [*encoder.knots_, *encoder.members_] == ["age", "stars", "job", "genres"]


def test_a_frame_without_columns_or_with_fewer_has_an_answer() -> None:
    bare = frame()[[]]
    assert SideEncoder().fit(bare).encode(bare).shape == (300, 0)
    encoder = SideEncoder().fit(frame())
    without = encoder.encode_columns(frame().drop(columns=["age", "genres"]))
    assert not without["age"].any()
    assert not without["genres"].any()
    assert without["job"].any(axis=1).all()
