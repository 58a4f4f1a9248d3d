"""Every prediction can be explained: parts that sum to it, cited ratings, and a reason in plain words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from small_worlds import write_tables

from hybrid_sim.cli.parsing import parse
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.tables import read_dataset
from hybrid_sim.data.world import make_world
from hybrid_sim.ensemble.combiner import Combiner
from hybrid_sim.ensemble.contributions import Contributions
from hybrid_sim.ensemble.correction import Correction
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.ensemble.out_of_fold import MemberPredictions
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.boosted import BoostedResidual
from hybrid_sim.models.means import GlobalMean, ItemMean, UserMean
from hybrid_sim.models.support import Support
from hybrid_sim.retrieval.embedder import TfidfSVD
from hybrid_sim.simulation.explain import explain
from hybrid_sim.simulation.run_folder import RunFolder
from hybrid_sim.simulation.simulator import Prediction, Simulator
from hybrid_sim.testing import tiny_dataset

SCALE = RatingScale((1, 2, 3, 4, 5))
MEMBERS = ("biases", "knn", "svd", "content_gp")


@dataclass(frozen=True)
class Case:
    """A simulator fitted to ratings that leave every eighth item without any, and answers about all kinds of pairs."""

    dataset: Dataset
    simulator: Simulator
    prediction: Prediction


@pytest.fixture(scope="module")
def case() -> Case:
    world = make_world(seed=1, n_users=100, n_items=120, ratings_per_user=30).dataset
    dataset = world.take((world.item % 8 != 0) & (world.user % 25 != 0))
    simulator = Simulator(members=MEMBERS, n_jobs=1).fit(dataset)
    rng = np.random.default_rng(0)
    user, item = rng.integers(-1, world.n_users, 1500), rng.integers(-1, world.n_items, 1500)
    user[:3], item[:3] = (-1, -1, 0), (-1, 5, 0)
    users = np.append(world.users.index.to_numpy(dtype=object), "a stranger")[user]
    items = np.append(world.items.index.to_numpy(dtype=object), "a novelty")[item]
    return Case(dataset, simulator, simulator.predict(users, items))


@dataclass
class Noise:
    """Says a number that depends on the pair alone and knows nothing."""

    scale_: RatingScale = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        self.scale_ = dataset.scale
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        numbers = [stream(0, int(u), int(i)).normal(3, 1) for u, i in zip(pairs.user, pairs.item, strict=True)]
        return RatingDistribution.from_mean(self.scale_, np.array(numbers), 1.0)


def column(contributions: Contributions, name: str) -> FloatArray:
    return contributions.amounts[:, contributions.names.index(name)]


@pytest.mark.parametrize("boosted", [False, True])
def test_contributions_sum_to_the_expected_rating_without_a_rest(boosted: bool) -> None:
    """Where the expectation is inside the scale, nothing is left to the column that takes up what is cut off."""
    world = make_world(seed=4, n_users=100, n_items=120, ratings_per_user=30).dataset
    known = world.take(world.item % 6 != 0)
    members: dict[str, Rater] = {"biases": Biases(), "users": UserMean(), "items": ItemMean()}
    ensemble = Ensemble(members, boosted=boosted, n_jobs=1).fit(known)
    user, item = np.divmod(np.arange(world.n_users * world.n_items), world.n_items)
    pairs = Pairs(np.append(user, [-1, 0, -1]), np.append(item, [0, -1, -1]))
    mean, found = ensemble.rate(pairs).mean(), ensemble.contributions(pairs)
    answered = ~np.isnan(mean)
    assert found.names == ("base", "user mean", "item mean", "biases", "users", "items", "support", "calibration")
    assert (np.isnan(found.amounts).all(axis=1) == ~answered).all()
    assert found.total()[answered] == pytest.approx(mean[answered], abs=1e-9)
    inside = answered & (mean > 1.01) & (mean < 4.99)
    assert inside.mean() > 0.9
    assert np.abs(column(found, "calibration")[inside]).max() < 1e-9
    assert (column(found, "base")[answered] == column(found, "base")[0]).all()


def test_a_member_that_knows_nothing_contributes_little() -> None:
    world = make_world(seed=4, n_users=120, n_items=120, ratings_per_user=40).dataset
    ensemble = Ensemble({"biases": Biases(), "noise": Noise()}, ("biases",), n_jobs=1).fit(world)
    found = ensemble.contributions(world.pairs)
    assert np.abs(column(found, "noise")).mean() < 0.1
    assert np.abs(column(found, "user mean")).mean() > 2 * np.abs(column(found, "noise")).mean()


def opinions(means: FloatArray, n_item: float = 50.0) -> MemberPredictions:
    bells = [RatingDistribution.from_mean(SCALE, each, 1.0).probs.astype(np.float32) for each in means.T]
    n = len(means)
    support = (np.full(n, 60.0), np.full(n, n_item), np.ones(n), np.ones(n))
    shares = np.full((n, 5), 0.2, dtype=np.float32)
    return MemberPredictions(means, np.stack(bells, axis=1), Support(*support, shares, shares))


def combined(boosted: bool = False) -> tuple[Combiner, FloatArray]:
    rng = np.random.default_rng(0)
    liking = rng.normal(3, 0.6, 2000)
    ratings = SCALE.round(liking + rng.normal(0, 0.5, 2000))
    means = liking[:, None] + rng.normal(0, (0.3, 0.6, 0.9), (2000, 3))
    combiner = Combiner(boosted)
    combiner.fit(opinions(means), ratings, SCALE)
    return combiner, means


def test_what_one_member_says_moves_its_own_contribution_alone() -> None:
    combiner, means = combined()
    shapes = np.array([0, 1, 2])
    before = combiner.contributions(opinions(means[:50]), shapes)
    moved = means[:50] + np.array([0.0, 0.1, 0.0])
    after = combiner.contributions(opinions(moved), shapes)
    change = after - before
    told = combiner.combine(opinions(moved)).mean() - combiner.combine(opinions(means[:50])).mean()
    assert change[:, 4] == pytest.approx(told, abs=1e-9)
    assert np.abs(np.delete(change, 4, axis=1)).max() < 1e-9
    assert (told > 0).all()


@pytest.mark.parametrize("boosted", [False, True])
def test_a_member_that_is_silent_contributes_nothing(boosted: bool) -> None:
    combiner, means = combined(boosted)
    gaps = means[:100].copy()
    gaps[:50, 0] = np.nan
    gaps[:25, 1] = np.nan
    found = combiner.contributions(opinions(gaps), np.array([0, 1, 2]))
    assert (found[:50, 3] == 0).all()
    assert (found[:25, 4] == 0).all()
    assert (found[50:, 3] != 0).all()
    mean = combiner.combine(opinions(gaps)).mean()
    assert found.sum(axis=1) == pytest.approx(mean, abs=1e-9)
    assert np.abs(found[(mean > 1.01) & (mean < 4.99), -1]).max() < 1e-9


def test_averages_for_want_of_a_combiner_are_explained_too() -> None:
    """Nothing was learned about cold items, so the two distributions that are given are averaged."""
    combiner, means = combined()
    asked = opinions(means[:40], n_item=0.0)
    few = MemberPredictions(asked.means, asked.probs[:, [0, 2]], asked.support)
    found = combiner.contributions(few, np.array([0, 2]))
    assert found.sum(axis=1) == pytest.approx(combiner.combine(few).mean(), abs=1e-9)
    assert (found[:, 4] == 0).all()
    assert np.abs(found[:, -1]).max() < 1e-9


def test_trees_credit_the_features_that_they_use() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 4))
    features[:, 3] = 1.0
    target = np.where(features[:, 0] > 0, 0.5, -0.5) + 0.1 * features[:, 1] + rng.normal(0, 0.1, 4000)
    trees = BoostedResidual(seed=3).fit(features, target)
    found = trees.contributions(features)
    assert found.sum(axis=1) == pytest.approx(trees.predict(features), abs=1e-12)
    sizes = np.abs(found[:, :4]).mean(axis=0)
    assert sizes[0] > 3 * sizes[1] > 3 * sizes[2]
    assert sizes[3] == 0
    assert found[:, -1] == pytest.approx(target.mean(), abs=0.02)


def test_trees_that_never_split_are_all_mean() -> None:
    features = np.ones((600, 2))
    found = BoostedResidual().fit(features, np.arange(600) / 600.0).contributions(features)
    assert (found[:, :2] == 0).all()


def test_explanations_sum_and_name_their_source(case: Case) -> None:
    told = explain(case.simulator, case.prediction, case.dataset)
    mean = case.prediction.distribution.mean()
    assert [sum(e.contributions.values()) for e in told] == pytest.approx(mean, abs=1e-9)
    assert {*case.prediction.source} == {"global", "item", "user", "stat"}
    for explanation, source in zip(told, case.prediction.source, strict=True):
        assert (set(explanation.contributions) == {"base"}) == (source == "global")
        assert "language model" not in explanation.contributions
        assert bool(explanation.evidence) <= (source == "stat")
        assert explanation.by == "statistics"
        assert explanation.reason.endswith("Source: the mean of all ratings." if source == "global" else "statistics.")
    stat = [e for e, source in zip(told, case.prediction.source, strict=True) if source == "stat"]
    assert np.mean([bool(e.evidence) for e in stat]) > 0.9
    n_pairs = len({(e.user_id, e.item_id) for e in stat})
    assert len({e.reason.partition(":")[2] for e in stat}) > 0.98 * n_pairs
    assert json.loads(json.dumps([e.to_json() for e in told]))[5]["contributions"] == told[5].contributions


def test_sentences_follow_the_facts(case: Case) -> None:
    told = explain(case.simulator, case.prediction, case.dataset)
    reasons = dict(zip(zip(case.prediction.user_ids, case.prediction.item_ids, strict=True), told, strict=True))
    stranger = reasons["a stranger", "a novelty"].reason
    assert stranger.startswith("a novelty: 3.")
    assert "There are no ratings by this user and none of this item; nothing else is known." in stranger
    counts = case.dataset.item_counts
    for (user, item), explanation in reasons.items():
        cold = item != "a novelty" and counts[case.dataset.items.index.get_loc(item)] == 0
        known = user != "a stranger" and case.dataset.user_counts[case.dataset.users.index.get_loc(user)] > 0
        assert ("nobody has rated the item yet" in explanation.reason) == (cold and known)
        if explanation.evidence:
            assert f"{explanation.evidence[0].rating:g} for {explanation.evidence[0].title}" in explanation.reason
    generous = max(told, key=lambda e: e.contributions.get("user's level", 0.0))
    level = generous.contributions["user's level"]
    assert f"The user rates {level:.1f} higher than usual" in generous.reason


def test_an_unrated_item_is_explained_by_its_text_and_by_nobody_elses_ratings(case: Case) -> None:
    told = explain(case.simulator, case.prediction, case.dataset)
    rated = dict(zip(case.dataset.items.index, case.dataset.item_counts > 0, strict=True))
    mentioned = {True: 0, False: 0}
    for explanation, source in zip(told, case.prediction.source, strict=True):
        item_rated = rated.get(explanation.item_id, False)
        mentioned[item_rated] += "users with similar ratings" in explanation.reason
        if source == "stat" and item_rated:
            assert "text" not in explanation.contributions
        if not item_rated:
            assert not {"others' ratings", "item quality"} & set(explanation.contributions)
    assert mentioned[True] > 0 == mentioned[False]


def test_members_that_know_alike_things_are_one_contribution(case: Case) -> None:
    pairs = case.dataset.pairs.take(slice(50))
    (svd, knn) = (column(case.simulator.ensemble_.contributions(pairs), name) for name in ("svd", "knn"))
    told = explain(case.simulator, case.simulator.predict_pairs(pairs), case.dataset)
    assert [e.contributions["others' ratings"] for e in told] == pytest.approx(svd + knn, abs=1e-9)


def corrected(prediction: Prediction) -> tuple[Prediction, FloatArray]:
    """Every second row as a language model's word would leave it."""
    before = prediction.distribution
    rows = np.arange(len(prediction)) % 2 == 0
    llm = RatingDistribution.from_mean(before.scale, np.where(rows, 1.0 + np.arange(len(rows)) % 5, np.nan), 0.3)
    truth = before.scale.round(before.mean() + np.where(rows, 0.5 * (llm.mean() - before.mean()), 0.0))
    pairs = Pairs(np.arange(len(rows)), np.arange(len(rows)))
    correction = Correction().fit(before, llm, pairs, truth)
    return replace(prediction, distribution=correction.apply(before, llm, pairs)), correction.shift(before, llm, pairs)


def test_what_a_language_model_changed_is_its_contribution(case: Case) -> None:
    prediction, shift = corrected(case.prediction)
    assert (shift[1::2] == 0).all()
    assert np.abs(shift[::2]).mean() > 0.1
    told = explain(case.simulator, prediction, case.dataset)
    assert [e.contributions.get("language model", 0.0) for e in told] == pytest.approx(shift, abs=1e-9)
    assert [sum(e.contributions.values()) for e in told] == pytest.approx(prediction.distribution.mean(), abs=1e-9)
    for explanation, moved in zip(told, shift, strict=True):
        assert explanation.reason.endswith("corrected by a language model.") == (moved != 0)
        if abs(moved) > 0.4:
            assert f"by {abs(moved):.1f} by the language model" in explanation.reason


def test_a_language_models_reason_is_kept_where_it_gave_one(case: Case) -> None:
    reasons = ["Loves westerns." if row % 3 == 0 else "" for row in range(len(case.prediction))]
    told = explain(case.simulator, case.prediction, case.dataset, reasons)
    plain = explain(case.simulator, case.prediction, case.dataset)
    for row, explanation in enumerate(told):
        assert explanation.by == ("llm" if row % 3 == 0 else "statistics")
        assert explanation.reason == (reasons[row] or plain[row].reason)


def test_a_loaded_simulator_explains_alike(case: Case, tmp_path: Path) -> None:
    case.simulator.save(tmp_path / "model")
    loaded = Simulator.load(tmp_path / "model")
    assert explain(loaded, case.prediction, case.dataset) == explain(case.simulator, case.prediction, case.dataset)


def test_order_and_company_of_rows_change_nothing(case: Case) -> None:
    rows = np.random.default_rng(1).permutation(len(case.prediction))[:200]
    some = case.simulator.predict(case.prediction.user_ids[rows], case.prediction.item_ids[rows])
    together = explain(case.simulator, case.prediction, case.dataset)
    for row, alone in zip(rows.tolist(), explain(case.simulator, some, case.dataset), strict=True):
        assert alone.reason == together[row].reason
        assert alone.contributions == pytest.approx(together[row].contributions, abs=1e-9)


def test_without_data_no_ratings_are_cited_and_other_data_is_refused(case: Case) -> None:
    told = explain(case.simulator, case.prediction, None)
    assert not any(e.evidence or e.keywords or e.against for e in told)
    whole = explain(case.simulator, case.prediction, case.dataset)
    assert [e.contributions for e in told] == [e.contributions for e in whole]
    with pytest.raises(SettingsError, match="was fitted to other data"):
        explain(case.simulator, case.prediction, tiny_dataset())


def test_other_scales_have_their_own_words() -> None:
    dataset = tiny_dataset(n_users=15, n_items=15, levels=range(0, 101))
    simulator = Simulator(members=("biases",), n_jobs=1).fit(dataset)
    prediction = simulator.predict(dataset.users.index[:5], dataset.items.index[:5])
    for explanation, mean in zip(explain(simulator, prediction, None), prediction.distribution.mean(), strict=True):
        assert f": {mean:.0f} is expected" in explanation.reason


def ask_why(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints."""
    options = parse(["why", *words])
    assert options.run(options) == 0
    return capsys.readouterr().out


@dataclass(frozen=True)
class Saved:
    """A saved simulator, the data that it was fitted to, and the words that name this data."""

    folder: Path
    dataset: Dataset
    data: tuple[str, ...]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("why")
    world = make_world(seed=5, n_users=60, n_items=70, ratings_per_user=25).dataset
    options = write_tables(world, folder)[:4]
    dataset = read_dataset(folder / "ratings.csv", folder / "items.csv")
    Simulator(members=("biases", "content_gp"), embedder=TfidfSVD(), n_jobs=1).fit(dataset).save(folder / "model")
    return Saved(folder / "model", dataset, tuple(options))


def test_why_shows_everything(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = saved.dataset
    words = [str(saved.folder), "--user", dataset.users.index[3], "--item", dataset.items.index[7], *saved.data]
    page = ask_why(words, capsys)
    content = json.loads(ask_why([*words, "--json"], capsys))
    assert sum(content["contributions"].values()) == pytest.approx(content["mean"], abs=1e-9)
    assert sum(content["distribution"].values()) == pytest.approx(1.0, abs=1e-9)
    assert f"expected {content['mean']:.2f}, 90% interval {content['low']:g} to {content['high']:g}" in page
    assert len(content["evidence"]) > 2
    for cited in content["evidence"]:
        assert f"{cited['contribution']:+8.3f}  {cited['rating']:g} for {cited['title']}" in page
    assert f"In common with those against it: {', '.join(content['against'])}\n" in page
    assert " ".join(content["reason"].split()) in " ".join(page.split())
    assert page.count("#") == pytest.approx(40, abs=3)


def test_why_without_data_says_what_is_missing(
    saved: Saved, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    user = saved.dataset.users.index[3]
    page = ask_why([str(saved.folder), "--user", user, "--item", "no such\x1b[2Jitem"], capsys)
    assert "no ratings are cited: name the data" in caplog.text
    assert "speak for" not in page
    assert "no such\\x1b[2Jitem" in page
    assert "\x1b" not in page


@pytest.fixture
def run_folder(saved: Saved, tmp_path: Path) -> tuple[RunFolder, Prediction]:
    """A run of a hundred pairs, corrected by a language model that gave its reasons, kept for all but the last."""
    dataset = saved.dataset
    simulator = Simulator.load(saved.folder)
    simulator.save(tmp_path / "simulator")
    prediction = simulator.predict(np.repeat(dataset.users.index[:10], 10), np.tile(dataset.items.index[20:30], 10))
    prediction, _ = corrected(prediction)
    prediction = replace(prediction, source=np.full(100, "llm+stat", dtype=object))
    run = RunFolder(tmp_path)
    prediction.to_frame().assign(rating=3).to_csv(run.ratings, index=False)
    told = explain(simulator, prediction, dataset, ["Because of the horses."] * 100)
    run.explanations.write_text("".join(f"{json.dumps(e.to_json())}\n" for e in told[:99]))
    return run, prediction


def test_why_tells_of_a_run(
    saved: Saved, run_folder: tuple[RunFolder, Prediction], capsys: pytest.CaptureFixture[str]
) -> None:
    run, prediction = run_folder
    for row in (0, 99):
        words = [str(run.path), "--user", prediction.user_ids[row], "--item", prediction.item_ids[row]]
        content = json.loads(ask_why([*words, *saved.data, "--json"], capsys))
        assert content["mean"] == pytest.approx(prediction.distribution.mean()[row], abs=1e-12)
        assert content["source"] == "llm+stat"
        assert sum(content["contributions"].values()) == pytest.approx(content["mean"], abs=1e-9)
        assert (content["reason"] == "Because of the horses.") == (row == 0)
    page = ask_why([str(run.path), "--user", prediction.user_ids[0], "--item", prediction.item_ids[0]], capsys)
    assert "Reason (the language model)\nBecause of the horses.\n" in page


def test_why_refuses_what_a_run_does_not_have(
    run_folder: tuple[RunFolder, Prediction], capsys: pytest.CaptureFixture[str]
) -> None:
    run, prediction = run_folder
    with pytest.raises(SettingsError, match=r"has no rating of item 'x' by user 'u0001'; its 100 pairs are in"):
        ask_why([str(run.path), "--user", "u0001", "--item", "x"], capsys)
    last = ["--user", prediction.user_ids[99], "--item", prediction.item_ids[99]]
    for file in run.simulator.iterdir():
        file.unlink()
    run.simulator.rmdir()
    with pytest.raises(SettingsError, match="no simulator to make one"):
        ask_why([str(run.path), *last], capsys)
    run.explanations.write_text('{"user_id": "a"\n')
    with pytest.raises(DataError, match=r"explanations\.jsonl line 1 is not an explanation"):
        ask_why([str(run.path), *last], capsys)


def test_of_a_pair_unknown_on_both_sides_the_fallback_is_the_whole_base() -> None:
    """Also where a member answers about such a pair."""
    data = tiny_dataset()
    simulator = Simulator(members=("biases",), n_jobs=1).fit(data)
    simulator.ensemble_ = Ensemble({"biases": Biases(), "mean": GlobalMean()}).fit(data)
    contributions = explain(simulator, simulator.predict(["a stranger"], ["a novelty"]), data)[0].contributions
    assert set(contributions) == {"base"}
