"""The simulator answers everybody about everything, says on what ground, and the same again after saving."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, ModelFileError, SettingsError
from hybrid_sim.core.model_files import save
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import Pairs
from hybrid_sim.models import RATERS, make_rater
from hybrid_sim.models.biases import Biases
from hybrid_sim.retrieval.minilm import MiniLM
from hybrid_sim.retrieval.tfidf import TfidfSVD
from hybrid_sim.simulation.simulator import SOURCES, Simulator
from hybrid_sim.testing import check_rater, tiny_dataset

MEMBERS = ("biases", "svd", "neighbours", "kernel_gp")


def quick(**settings: Any) -> Simulator:
    return Simulator(**{"members": MEMBERS, "embedder": TfidfSVD(dim=8), "n_jobs": 1, **settings})


def catalogue() -> Dataset:
    """As `tiny`, with items "i57" (text, no ratings) and "i58" (neither) and user "u38" (no ratings)."""
    tiny = tiny_dataset()
    items = tiny.items.copy()
    items.loc["i58", ["title", "overview"]] = ""
    items["genres"] = [() if item_id == "i58" else own for item_id, own in items["genres"].items()]
    items.loc["i58", "year"] = np.nan
    dataset = replace(tiny, items=items)
    return dataset.take(~np.isin(dataset.item, [57, 58]))


@pytest.fixture(scope="module")
def fitted() -> Simulator:
    return quick().fit(catalogue())


@pytest.mark.parametrize(
    ("user_id", "item_id", "source"),
    [
        ("u01", "i01", "stat"),
        ("u01", "i57", "stat"),
        ("u01", "i58", "user"),
        ("u01", "nowhere", "user"),
        ("u38", "i01", "item"),
        ("nobody", "i01", "item"),
        ("nobody", "i57", "item"),
        ("u38", "i58", "global"),
        ("nobody", "nowhere", "global"),
        ("", "", "global"),
        ("1", "U01", "global"),
    ],
)
def test_every_question_is_answered_and_its_ground_is_named(
    user_id: str, item_id: str, source: str, fitted: Simulator
) -> None:
    found = fitted.predict([user_id], [item_id])
    assert found.source.tolist() == [source]
    assert found.distribution.probs.sum() == pytest.approx(1)
    assert 1 <= found.low[0] <= found.high[0] <= 5
    overall = catalogue().rating.mean()
    if source == "global":
        assert found.distribution.mean() == pytest.approx(overall, abs=0.02)
    else:
        assert abs(found.distribution.mean()[0] - overall) > 0.001


def test_whatever_is_unknown_is_told_apart_from_the_last_row(fitted: Simulator) -> None:
    """The last user and item have low ratings throughout; -1 must not stand for them."""
    last = fitted.predict(["u39", "u00"], ["i00", "i59"]).distribution.mean()
    unknown = fitted.predict(["nobody", "u00"], ["i00", "nothing"]).distribution.mean()
    assert (last < unknown - 0.5).all()


def test_the_table_has_the_columns_of_the_command_line(fitted: Simulator) -> None:
    frame = fitted.predict(["u01", "nobody"], ["i01", "i02"]).to_frame()
    shares = [f"p_{level}" for level in range(1, 6)]
    assert frame.columns.tolist() == ["user_id", "item_id", "mean", "sd", *shares, "low", "high", "source", "known"]
    assert frame["user_id"].tolist() == ["u01", "nobody"]
    assert frame["mean"].to_numpy() == pytest.approx(frame[shares].to_numpy() @ np.arange(1, 6))
    second = frame[shares].to_numpy() @ np.arange(1, 6) ** 2
    assert frame["sd"].to_numpy() == pytest.approx(np.sqrt(second - frame["mean"].to_numpy() ** 2))
    halves = quick(members=("biases",)).fit(tiny_dataset(levels=(0.5, 1, 1.5))).predict(["u01"], ["i01"])
    assert [name for name in map(str, halves.to_frame()) if name.startswith("p_")] == [
        "p_0.5",
        "p_1",
        "p_1.5",
    ]


def test_light_stands_for_a_few_members() -> None:
    light = Simulator(members="light", n_jobs=1)
    assert light.members == ("biases", "svd", "content_gp")
    assert Simulator(members=["knn", "light"]).members == ("knn", *light.members)
    with pytest.raises(SettingsError, match=r"there is no member 'ligth'; members are .*, or light"):
        Simulator(members=["ligth"]).fit(catalogue())


def test_a_prediction_says_where_it_is_of_a_training_rating(fitted: Simulator) -> None:
    dataset = catalogue()
    rated = np.zeros((dataset.n_users, dataset.n_items), dtype=bool)
    rated[dataset.user, dataset.item] = True
    user, item = np.indices(rated.shape).reshape(2, -1)
    assert (fitted.predict_pairs(Pairs(user, item)).known == rated.ravel()).all()
    strangers = fitted.predict(["nobody", dataset.users.index[0]], [dataset.items.index[0], "nothing"])
    assert not strangers.known.any()


def test_ids_and_row_numbers_ask_the_same(fitted: Simulator) -> None:
    dataset = catalogue()
    user, item = dataset.user[:50], dataset.item[:50]
    by_row = fitted.predict_pairs(Pairs(user, item))
    by_id = fitted.predict(dataset.users.index[user], dataset.items.index[item])
    pd.testing.assert_frame_equal(by_row.to_frame(), by_id.to_frame())
    assert len(fitted.predict([], [])) == 0


def test_draws_do_not_depend_on_order_or_batch(fitted: Simulator) -> None:
    dataset = catalogue()
    user_ids = np.append(dataset.users.index.to_numpy(dtype=object)[dataset.user], "nobody")
    item_ids = np.append(dataset.items.index.to_numpy(dtype=object)[dataset.item], "i01")
    whole = fitted.predict(user_ids, item_ids).sample(seed=3)
    order = np.random.default_rng(0).permutation(len(whole))
    assert (fitted.predict(user_ids[order], item_ids[order]).sample(seed=3) == whole[order]).all()
    assert (fitted.predict(user_ids[:7], item_ids[:7]).sample(seed=3) == whole[:7]).all()
    others = [
        fitted.predict(user_ids, item_ids).sample(seed=4),
        fitted.predict(user_ids, item_ids).sample(3, 1),
    ]
    assert all(0.2 < (other != whole).mean() < 0.95 for other in others)
    assert dataset.scale.contains(whole).all()


def test_draws_follow_the_distribution(fitted: Simulator) -> None:
    dataset = catalogue()
    prediction = fitted.predict_pairs(dataset.pairs)
    drawn = np.concatenate([prediction.sample(0, replicate) for replicate in range(20)])
    shares = np.bincount(dataset.scale.index(drawn), minlength=5) / len(drawn)
    assert shares == pytest.approx(prediction.distribution.probs.mean(axis=0), abs=0.015)


def test_saving_and_loading_changes_no_bit(fitted: Simulator, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = Simulator.load(tmp_path / "model")
    user_ids, item_ids = ["u01", "u38", "nobody", "u02"], ["i01", "i57", "nowhere", "i58"]
    before, after = fitted.predict(user_ids, item_ids), loaded.predict(user_ids, item_ids)
    pd.testing.assert_frame_equal(before.to_frame(), after.to_frame(), check_exact=True)
    assert (before.sample(1) == after.sample(1)).all()
    assert loaded.embedder_name_ == fitted.embedder_name_ == "tfidf-svd-8"
    assert not list((tmp_path / "model").rglob("*.pkl"))
    save(Biases().fit(catalogue()), tmp_path / "biases")
    with pytest.raises(ModelFileError, match="holds a Biases, not a simulator"):
        Simulator.load(tmp_path / "biases")


def test_an_embedder_in_a_folder_is_named_again(tmp_path: Path) -> None:
    """A saved simulator names no folder of the machine; the embedder is known by its fingerprint."""
    mine = MiniLM(folder="mine", weights_sha256="ab" * 32)
    own = quick(members=("biases", "neighbours")).fit(catalogue())
    for holder in (own, own.ensemble_.members["neighbours"], own.ensemble_.members_["neighbours"]):
        vars(holder)["embedder"] = mine
    own.save(tmp_path / "model")
    loaded = Simulator.load(tmp_path / "model")
    assert isinstance(loaded.embedder, MiniLM)
    with pytest.raises(ModelFileError, match=r"does not name their folder: hybrid_sim.load\(..., embedder="):
        loaded.embedder.embed(["text"])
    loaded = Simulator.load(tmp_path / "model", mine)
    holders = (loaded, loaded.ensemble_.members["neighbours"], loaded.ensemble_.members_["neighbours"])
    assert [vars(holder)["embedder"] for holder in holders] == [mine] * 3
    for other in (MiniLM(), TfidfSVD().fit(["a text"])):
        with pytest.raises(SettingsError, match="not with this embedder"):
            Simulator.load(tmp_path / "model", other)


def test_the_number_of_workers_changes_no_bit(fitted: Simulator) -> None:
    pairs = catalogue().pairs
    again = quick(n_jobs=3).fit(catalogue())
    assert (again.rate(pairs).probs == fitted.rate(pairs).probs).all()
    other = quick(seed=1).fit(catalogue())
    assert (other.rate(pairs).probs != fitted.rate(pairs).probs).any()


def test_all_default_members_work_together() -> None:
    dataset = tiny_dataset(n_users=25, n_items=30, density=0.5)
    held = np.arange(len(dataset)) % 6 == 0
    found = Simulator(n_jobs=1).fit(dataset.take(~held)).predict_pairs(dataset.take(held).pairs)
    assert found.distribution.answered.all()
    error = np.sqrt(np.mean((found.distribution.mean() - dataset.rating[held]) ** 2))
    assert error < 0.9 * dataset.rating[held].std()


def test_a_member_that_does_not_exist_is_named() -> None:
    with pytest.raises(SettingsError, match="there is no member 'bias'; members are biases, knn, svd"):
        quick(members=("bias",)).fit(catalogue())
    with pytest.raises(SettingsError, match="an ensemble needs at least one member"):
        quick(members=()).fit(catalogue())


@pytest.mark.parametrize(("n_ratings", "message"), [(0, "no ratings to learn from"), (1, "1 rating.*too few")])
def test_too_few_ratings_are_refused(n_ratings: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        quick().fit(catalogue().take(np.arange(n_ratings)))


def _bare(dataset: Dataset) -> Dataset:
    """Nothing but ids and ratings."""
    return replace(dataset, users=dataset.users[[]], items=dataset.items[[]], timestamp=None)


def _alike(dataset: Dataset) -> Dataset:
    """Every item has the same text, genres and year."""
    return replace(
        dataset,
        items=dataset.items.assign(
            title="One", overview="", genres=pd.Series([()] * 60, dataset.items.index), year=2000.0
        ),
    )


TINY = tiny_dataset()
ODD: dict[str, Dataset] = {
    "two ratings": TINY.take(np.arange(2)),
    "five ratings": TINY.take(np.arange(5)),
    "five bare ratings": _bare(TINY).take(np.arange(5)),
    "one user": TINY.take(TINY.user == TINY.user[0]),
    "one item": TINY.take(TINY.item == TINY.item[0]),
    "a catalogue of one item": tiny_dataset(n_items=1),
    "a catalogue of one user": tiny_dataset(n_users=1),
    "all ratings equal": replace(TINY, rating=np.full(len(TINY), 3.0)),
    "all ratings lowest": replace(TINY, rating=np.full(len(TINY), 1.0)),
    "each rating twice": TINY.take(np.tile(np.arange(300), 2)),
    "no side information": _bare(TINY),
    "no text": replace(TINY, items=TINY.items[["year"]]),
    "items alike": _alike(TINY),
    "one moment": replace(TINY, timestamp=np.full(len(TINY), 10**9)),
    "infinite age": replace(TINY, users=TINY.users.assign(age=np.inf)),
    "binary": tiny_dataset(levels=(0, 1)),
    "binary and equal": replace(tiny_dataset(levels=(0, 1)), rating=np.ones(len(tiny_dataset(levels=(0, 1))))),
    "half stars": tiny_dataset(levels=np.arange(0.5, 5.5, 0.5).tolist()),
    "0 to 100": tiny_dataset(levels=range(101)),
    "wide and thin": tiny_dataset(n_users=150, n_items=300, density=0.002),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data_works(name: str) -> None:
    dataset = ODD[name]
    simulator = quick(members=("biases", "knn", "svd", "facets", "content_gp", "kernel_gp")).fit(dataset)
    rng = np.random.default_rng(0)
    found = simulator.predict_pairs(Pairs(rng.integers(-1, dataset.n_users, 60), rng.integers(-1, dataset.n_items, 60)))
    assert found.distribution.probs.sum(axis=1) == pytest.approx(1, abs=1e-9)
    assert dataset.scale.contains(np.concatenate([found.low, found.high, found.sample(0)])).all()
    assert (found.low <= found.high).all()
    assert set(found.source) <= set(SOURCES)


@pytest.mark.parametrize("name", ["binary", "five ratings"])
def test_the_default_factorizations_work_on_odd_data(name: str) -> None:
    dataset = ODD[name]
    simulator = quick(members=("factorization_1", "levels_content")).fit(dataset)
    assert simulator.rate(dataset.pairs).probs.sum(axis=1) == pytest.approx(1, abs=1e-9)


def test_ratings_of_zero_have_neighbours_too() -> None:
    """The cosine between ratings of zero is undefined; the default neighbours do without it there."""
    dataset = tiny_dataset(levels=(0, 1), density=0.6)
    found = quick(members=("knn",)).fit(dataset).rate(dataset.pairs)
    assert np.corrcoef(found.mean(), dataset.rating)[0, 1] > 0.4


def test_conforms() -> None:
    check_rater(lambda: quick(members=("biases", "kernel_gp")))


def _settings(name: str) -> dict[str, Any]:
    texts = TfidfSVD(dim=8).fit(item_texts(tiny_dataset()))
    small = {"n_iterations": 12, "burn_in": 4, "n_draws": 6, "n_factors": 3}
    own = {"factorization": small, "svdpp": {"n_factors": 3, "n_epochs": 3}, "kernel_gp": {"rank": 16}}
    reads_texts = name in ("content_gp", "neighbours", "facets", "factorization", "kernel_gp")
    return {**own.get(name, {}), **({"embedder": texts} if reads_texts else {})}


@pytest.mark.parametrize("name", sorted(set(RATERS) - {"recorded"}))
def test_every_rater_conforms(name: str) -> None:
    """Recorded ratings come from a table and not from a fit; they have tests of their own."""
    make: Callable[[], Rater] = lambda: make_rater(name, **_settings(name))  # noqa: E731
    check_rater(make)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        (["u1"], [17], "item id 17 is a int; ids are texts, for example '17'"),
        (["u1", "u2"], ["i1"], "2 users cannot stand beside 1 items"),
    ],
)
def test_ids_that_would_be_misread_are_refused(tiny: Dataset, users: list[str], items: list[str], message: str) -> None:
    simulator = Simulator(members=("biases",)).fit(tiny)
    with pytest.raises(SettingsError, match=re.escape(message)):
        simulator.predict(users, items)
