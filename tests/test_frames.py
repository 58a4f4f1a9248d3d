"""Frames in place of files, single ids, and what a simulator says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small_worlds import rating_table, write_tables

import hybrid_sim as hs
from hybrid_sim.core.errors import DataError, NotFittedError
from hybrid_sim.data.world import make_world


@pytest.fixture(scope="module")
def world() -> hs.Dataset:
    return make_world(seed=3, n_users=40, n_items=50, ratings_per_user=15).dataset


@pytest.fixture(scope="module")
def simulator(world: hs.Dataset) -> hs.Simulator:
    return hs.fit(world, members=["biases"], without=["boosted"])


class Foreign:
    """A frame of a library that hands its columns over as Arrow does, for example polars."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._table = pa.Table.from_pandas(frame, preserve_index=False)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def test_frames_are_read_as_files_are(world: hs.Dataset, tmp_path: Path) -> None:
    """Issue 11: frames came out of the library, but did not go in."""
    write_tables(world, tmp_path)
    paths = [tmp_path / f"{name}.csv" for name in ("ratings", "items", "users")]
    read = hs.read_dataset(*paths, name="w")
    frames = [pd.read_csv(path) for path in paths]
    for made in (frames, [Foreign(frame) for frame in frames], [pa.Table.from_pandas(frame) for frame in frames]):
        dataset = hs.read_dataset(*made, name="w")
        assert dataset.digest == read.digest
    indexed = [frames[0], frames[1].set_index("item_id"), frames[2].set_index("user_id")]
    assert hs.read_dataset(*indexed, name="w").digest == read.digest
    assert hs.read_dataset(frames[0].sample(frac=1, random_state=0)).n_users == world.n_users


def test_whole_numbers_are_ids_and_messages_name_rows(world: hs.Dataset) -> None:
    ratings = rating_table(world).assign(user_id=world.user)
    simulator = hs.fit(ratings, members=["biases"], without=["boosted"])
    assert "17" in simulator.user_ids_
    assert len(simulator.predict(ratings[["user_id", "item_id"]].head(3))) == 3
    n = len(world)
    wrong = {
        "the frame row 2, column 'rating': 'x' is not a number": ratings.assign(rating=["4", "x", *["3"] * (n - 2)]),
        "column 'rating' is missing": ratings.drop(columns="rating"),
        "ids are text or whole numbers, not double": ratings.assign(user_id=ratings["user_id"] + 0.5),
        "give each column one type": ratings.assign(user_id=["u", 1, *["v"] * (n - 2)]),
    }
    for message, frame in wrong.items():
        with pytest.raises(DataError, match=message):
            hs.read_dataset(frame)


def test_one_user_stands_beside_many_items_and_one_item_beside_many_users(simulator: hs.Simulator) -> None:
    users, items = ["u0001", "u0002"], ["f0001", "f0002", "f0003"]
    many = simulator.predict("u0001", items)
    np.testing.assert_array_equal(many.mean, simulator.predict(["u0001"] * 3, items).mean)
    np.testing.assert_array_equal(many.mean, many.distribution.mean())
    assert simulator.predict(users, "f0001").user_ids.tolist() == users
    assert len(simulator.predict("u0001", "f0001")) == 1
    assert len(simulator.predict("u0001", [])) == 0
    pairs = Foreign(pd.DataFrame({"user_id": users, "item_id": items[:2]}))
    np.testing.assert_array_equal(simulator.predict(pairs).mean, simulator.predict(users, items[:2]).mean)


def test_a_simulator_says_whether_it_is_fitted_and_to_what(
    world: hs.Dataset, simulator: hs.Simulator, tmp_path: Path
) -> None:
    unfitted = hs.Simulator(members=["biases"])
    assert repr(unfitted) == "Simulator(seed=0, members=('biases',); not fitted)"
    for ask in (lambda: unfitted.predict("u", "i"), lambda: unfitted.save(tmp_path / "no"), unfitted.facts):
        with pytest.raises((NotFittedError, hs.HybridSimError), match="not fitted"):
            ask()
    assert not hasattr(unfitted, "nonsense")
    simulator.save(tmp_path / "model")
    for fitted in (simulator, hs.load(tmp_path / "model")):
        assert repr(fitted).endswith(f"fitted to world: {len(world)} ratings, 40 users, 50 items)")
        facts = fitted.facts()
        assert (facts["members"], facts["without"], facts["data hash"]) == (["biases"], ["boosted"], world.digest)
        assert facts["accuracy out of fold"] == simulator.accuracy_
    held = simulator.ensemble_.out_of_fold(world.pairs).mean() - world.rating
    known = held[np.isfinite(held)]
    assert simulator.accuracy_["RMSE"] == pytest.approx(np.sqrt((known**2).mean()))
    assert simulator.accuracy_["ratings"] == len(known)
