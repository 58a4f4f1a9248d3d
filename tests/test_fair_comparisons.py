"""What is compared, on which rows, resampled by what, and what is left unsaid for want of data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from small_worlds import recording_of

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, InputError, SettingsError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.recordings import SUSPICIOUS
from hybrid_sim.ensemble.correction import cross_fitted_correction
from hybrid_sim.evaluation.ablation.member_answers import gather
from hybrid_sim.evaluation.ablation.scoring import Scorer
from hybrid_sim.evaluation.ablation.variants import Variant, each_variant
from hybrid_sim.evaluation.bench import Benchmark
from hybrid_sim.evaluation.bench_report import BenchResult
from hybrid_sim.evaluation.bootstrap import ResampledLosses, paired_bootstrap
from hybrid_sim.evaluation.compare import compare_benches
from hybrid_sim.evaluation.protocols import Fold, Protocol, make_protocol
from hybrid_sim.evaluation.scores import Predictions, compare, row_losses
from hybrid_sim.evaluation.splits import both_out, kfold, users_out
from hybrid_sim.evaluation.validity.contamination import contamination, masked, probe
from hybrid_sim.evaluation.validity.discrimination import discrimination
from hybrid_sim.evaluation.validity.groups import drift, groups
from hybrid_sim.evaluation.validity.inputs import (
    Answers,
    Probe,
    SimulatorOutput,
    ValidationData,
    from_run,
    from_table,
    read_simulated,
    read_truth,
    with_recording,
)
from hybrid_sim.evaluation.validity.realism import diversity, realism
from hybrid_sim.evaluation.validity.recommenders import recommenders
from hybrid_sim.models import make_rater
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.means import GlobalMean
from hybrid_sim.models.recorded import RecordedRatings
from hybrid_sim.simulation.interviewer import LLMRatings, RatingRequest
from hybrid_sim.simulation.run_folder import RunFolder
from hybrid_sim.simulation.simulator import Simulator

SCALE = RatingScale((1, 2, 3, 4, 5))
LLM_MODELS = ("hybrid", "llm", "hybrid+llm", "hybrid+llm_shuffled")


def ratings_of(user: IntArray, item: IntArray, rating: FloatArray, n_users: int = 0, n_items: int = 0) -> Dataset:
    """A data set of these ratings; users and items are named by their numbers and have nothing else."""
    sizes = (max(n_users, int(user.max()) + 1), max(n_items, int(item.max()) + 1))
    users, items = (pd.DataFrame(index=pd.Index([str(n) for n in range(size)], dtype=object)) for size in sizes)
    return Dataset("made up", SCALE, users, items, user, item, rating.astype(float))


@pytest.fixture(scope="module")
def world() -> Dataset:
    """Ratings of 40 users for 30 items, each pair with a chance of two in three."""
    rng = np.random.default_rng(0)
    user, item = np.divmod(rng.permutation(1200)[:800], 30)
    liking = 3 + rng.normal(0, 0.5, 40)[user] + rng.normal(0, 0.5, 30)[item] + rng.normal(0, 0.7, 800)
    return ratings_of(user, item, SCALE.round(SCALE.clip(liking)), 40, 30)


def noisy(dataset: Dataset, seed: int = 1) -> FloatArray:
    """What an LLM that knows the truth nearly would say."""
    return SCALE.round(SCALE.clip(dataset.rating + np.random.default_rng(seed).normal(0, 0.6, len(dataset))))


def benchmark(recording: RecordedRatings | None = None, models: Sequence[str] = LLM_MODELS) -> Benchmark:
    return Benchmark(tuple(models), recording, members=("biases",), without=("boosted", "calibration"), n_jobs=1)


def report_of(bench: Benchmark, protocol: Protocol) -> BenchResult:
    return bench.run(protocol)


def opinions(bench: Benchmark, fold: Fold) -> dict[str, Predictions]:
    return {opinion.model: opinion for opinion in bench.predictions(fold)}


def test_a_fold_that_the_llm_did_not_rate_is_scored_but_enters_no_comparison(world: Dataset) -> None:
    """There the corrected model is a copy: compared with the original it would only dilute the difference."""
    protocol = make_protocol("kfold", world, folds=[1, 2])
    first, _ = protocol.folds()
    report = report_of(benchmark(recording_of(first.held_out, noisy(first.held_out))), protocol)
    scored = {(row.model, row.fold) for row in report.results}
    assert {("hybrid+llm", 2), ("hybrid+llm_shuffled", 2)} <= scored
    folds = {(row.a, row.b): row.fold for row in report.comparisons}
    assert folds["hybrid+llm", "hybrid"] == "1"
    assert folds["hybrid+llm_shuffled", "hybrid"] == "1"
    assert {row.model: row.fold for row in report.intervals}["hybrid+llm"] == "1"


def test_the_control_shuffles_ratings_of_one_fold_among_themselves(world: Dataset) -> None:
    protocol = make_protocol("kfold", world, folds=[1, 2])
    first, second = protocol.folds()
    both = world.take(np.r_[protocol.splits[0][1].test_rows, protocol.splits[1][1].test_rows])
    said = noisy(both)
    other = np.where(np.arange(len(both)) < len(first.held_out), said, 6 - said)
    before, after = (opinions(benchmark(recording_of(both, r)), first)["hybrid+llm_shuffled"] for r in (said, other))
    assert (before.distribution.probs == after.distribution.probs).all()
    assert len(second.held_out)


@pytest.mark.parametrize("shuffled", ["bench", "ablate"])
def test_the_control_shuffles_the_ratings_of_a_user_among_themselves(world: Dataset, shuffled: str) -> None:
    """Where a user always says the same nothing changes by it, though users differ."""
    fold = next(make_protocol("kfold", world, folds=[1]).folds())
    recording = recording_of(fold.held_out, (fold.held_out.user % 5 + 1).astype(float))
    if shuffled == "bench":
        got = opinions(benchmark(recording), fold)
        assert (got["hybrid+llm"].distribution.probs == got["hybrid+llm_shuffled"].distribution.probs).all()
        assert (got["hybrid+llm"].distribution.probs != got["hybrid"].distribution.probs).any()
        return
    scorer = Scorer.of(fold, "users", 0, recording, switched=True)
    assert scorer.llm is not None
    assert scorer.shuffled is not None
    assert (scorer.llm.probs == scorer.shuffled.probs).all()
    mixed = Scorer.of(fold, "users", 0, recording_of(fold.held_out, noisy(fold.held_out)), switched=True)
    assert mixed.llm is not None
    assert mixed.shuffled is not None
    assert (mixed.llm.probs != mixed.shuffled.probs).any()


def test_on_new_items_a_correction_is_learned_from_other_items(world: Dataset) -> None:
    fold = next(make_protocol("cold-items", world, folds=[1]).folds())
    own = fold.held_out.item == fold.held_out.item[0]
    altered = replace(fold.held_out, rating=np.where(own, 6 - fold.held_out.rating, fold.held_out.rating))
    bench = benchmark(recording_of(fold.held_out, noisy(fold.held_out)), ("hybrid", "hybrid+llm"))
    before, after = (
        opinions(bench, replace(fold, held_out=held_out))["hybrid+llm"].distribution.probs
        for held_out in (fold.held_out, altered)
    )
    assert (before[own] == after[own]).all()
    assert (before[~own] != after[~own]).any()


def test_pairs_that_a_model_knows_nothing_of_are_not_counted_as_its_answers(world: Dataset) -> None:
    fold = next(make_protocol("cold-both", world, folds=[1]).folds())
    got = opinions(benchmark(models=("global_mean", "biases", "hybrid")), fold)
    n = len(fold.held_out)
    assert {name: one.n_fallback for name, one in got.items()} == {"global_mean": 0, "biases": n, "hybrid": n}
    assert all(one.distribution.answered.all() for one in got.values())


def test_where_items_are_held_out_items_are_resampled(world: Dataset) -> None:
    for name in ("cold-items", "cold-items-tenth"):
        protocol = make_protocol(name, world, folds=[1])
        report = report_of(benchmark(models=("user_mean", "hybrid")), protocol)
        n_items = len(np.unique(world.item[protocol.splits[0][1].test_rows]))
        assert {(row.groups, row.n_groups) for row in report.intervals} == {("items", n_items)}
        assert {(row.groups, row.n_groups) for row in report.comparisons} == {("items", n_items)}


def test_benchmarks_on_other_folds_are_not_compared(world: Dataset) -> None:
    bench = benchmark(models=("user_mean", "item_mean"))
    one, other = (report_of(bench, make_protocol("kfold", world, folds=folds)) for folds in ([1], [1, 2]))
    assert compare_benches(one, one, ("a", "b")).differences == ()
    with pytest.raises(InputError, match="no protocol and model on the same folds in common"):
        compare_benches(one, other, ("a", "b"))


def by_item(n_users: int = 60, n_items: int = 12) -> tuple[Dataset, FloatArray]:
    """Ratings of every user for every item, and predictions whose error is that of the item alone."""
    user, item = np.divmod(np.arange(n_users * n_items), n_items)
    held_out = ratings_of(user, item, np.full(len(user), 3.0))
    return held_out, 3.0 + np.random.default_rng(2).normal(0, 0.8, n_items)[item]


def test_an_error_shared_by_all_ratings_of_an_item_widens_the_interval_over_items() -> None:
    held_out, predicted = by_item()
    a = [row_losses(Predictions("a", held_out, RatingDistribution.from_mean(SCALE, predicted, 1.0)))]
    b = [row_losses(Predictions("b", held_out, RatingDistribution.from_mean(SCALE, held_out.rating, 1.0)))]
    items, users = compare(a, b, groups="items"), compare(a, b, groups="users")
    assert (items.n_groups, users.n_groups) == (12, 60)
    assert items.high - items.low > 0.1
    assert users.high - users.low < 1e-9


def test_whole_groups_are_drawn_and_one_group_alone_has_no_interval() -> None:
    losses = np.repeat([0.0, 4.0], 500)
    wide = paired_bootstrap(losses, np.zeros(1000), np.repeat([0, 1], 500), "mean", n_boot=200)
    assert (wide.low, wide.high) == (0.0, 4.0)
    alone = paired_bootstrap(losses, np.zeros(1000), np.zeros(1000), "mean", n_boot=200)
    assert alone.estimate == 2.0
    assert np.isnan([alone.low, alone.high]).all()


def test_a_resample_that_misses_a_fold_is_the_mean_over_the_others() -> None:
    got = paired_bootstrap([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0, 1, 2], "mean", folds=[1, 1, 2], n_boot=300)
    assert (got.estimate, got.low, got.high) == (1.0, 1.0, 1.0)


def test_groups_without_rows_are_never_drawn() -> None:
    """Nobody of 50 users but 3 has a held-out rating."""
    sums = np.zeros((1, 50, 2))
    sums[0, [4, 9, 30]] = [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]
    got = ResampledLosses.of_sums(sums, root=False, n_boot=500, seed=0)
    assert np.isfinite(got.resampled).all()
    assert set(np.round(got.resampled[:, 0] * 3).astype(int)) <= set(range(3, 10))
    assert got.resampled.min() >= 1.0


def test_neither_side_of_a_cold_pair_is_learned_from(world: Dataset) -> None:
    for split in both_out(world, 3):
        train, test = world.take(split.train_rows), world.take(split.test_rows)
        assert not np.isin(test.user, train.user).any()
        assert not np.isin(test.item, train.item).any()


def test_the_first_ratings_of_a_new_user_are_never_tested(world: Dataset) -> None:
    few, many = (users_out(world, 3, known, reserved=8) for known in (0, 5))
    for one, other in zip(few, many, strict=True):
        assert (one.test_rows == other.test_rows).all()
        tested, all_ = np.bincount(world.user[one.test_rows], minlength=40), world.user_counts
        assert (all_ - tested)[tested > 0].tolist() == [8] * int((tested > 0).sum())


def test_only_rated_items_and_users_are_dealt_into_folds(world: Dataset) -> None:
    """30 further items that nobody has rated leave the folds as they are."""
    bigger = pd.DataFrame(index=pd.Index([str(n) for n in range(60)], dtype=object))
    splits = (make_protocol("cold-items", d).splits for d in (world, replace(world, items=bigger)))
    for (_, one), (_, other) in zip(*splits, strict=True):
        assert (one.test_rows == other.test_rows).all()


def test_a_protocol_that_needs_times_refuses_data_without_them_by_its_name(world: Dataset) -> None:
    with pytest.raises(DataError, match="no timestamps, which protocol last40 needs"):
        make_protocol("last40", world)


def data_of(train: Dataset, held_out: Dataset, expected: FloatArray | None = None) -> ValidationData:
    """The evidence about a simulator with these expected ratings (None: the real ones, half way to the middle)."""
    means = (held_out.rating + 3) / 2 if expected is None else expected
    distribution = RatingDistribution.from_mean(SCALE, means, 0.7)
    drawn = distribution.sample(np.random.default_rng(3))
    fallback = GlobalMean().fit(train).rate(held_out.pairs)
    baselines = {
        name: make_rater(name).fit(train).rate(held_out.pairs).filled(fallback)
        for name in ("global_mean", "user_mean", "item_mean", "biases")
    }
    scores = {f"recommender {k}": np.random.default_rng(k).random(len(held_out)) for k in range(8)}
    return ValidationData(train, held_out, SimulatorOutput("made up", distribution, drawn), baselines, scores)


def of_new_users(n_users: int, n_each: int) -> ValidationData:
    """Users without past ratings who rate items without any: one group of users and one of items."""
    rng = np.random.default_rng(4)
    user, item = np.repeat(np.arange(n_users), n_each), np.tile(np.arange(n_each), n_users)
    held_out = ratings_of(user, item, rng.integers(1, 6, len(user)).astype(float), n_users + 5, n_each + 5)
    old = (np.repeat(np.arange(5), 5) + n_users, np.tile(np.arange(5), 5) + n_each)
    train = replace(held_out, user=old[0], item=old[1], rating=rng.integers(1, 6, 25).astype(float))
    return data_of(train, held_out)


def cut(data: ValidationData, n: int) -> ValidationData:
    """The first ratings only."""
    rows = np.arange(n)
    simulator = data.simulator
    fewer = replace(simulator, distribution=simulator.distribution.take(rows), drawn=simulator.drawn[rows])
    return replace(
        data,
        held_out=data.held_out.take(rows),
        simulator=fewer,
        baselines={name: one.take(rows) for name, one in data.baselines.items()},
        recommenders={name: one[rows] for name, one in data.recommenders.items()},
    )


@pytest.mark.parametrize(
    ("n_users", "n_each", "n", "is_judged"), [(40, 5, 200, True), (40, 5, 199, False), (29, 12, 348, False)]
)
def test_groups_of_few_ratings_or_of_few_users_are_not_judged(
    n_users: int, n_each: int, n: int, is_judged: bool
) -> None:
    data = cut(of_new_users(n_users, n_each), n)
    simulator = replace(data.simulator, distribution=RatingDistribution.from_mean(SCALE, np.full(n, 4.9), 0.3))
    assert (groups(replace(data, simulator=simulator)).verdicts[0].state == "fail") == is_judged


def test_the_worst_of_many_groups_is_not_judged_by_the_interval_of_one() -> None:
    """A bias is judged, drawn and tabulated with one interval, the wider one for twenty groups."""
    rng = np.random.default_rng(5)
    user, item = np.divmod(np.arange(12000), 100)
    held_out = ratings_of(user, item, np.full(12000, 3.0))
    genres = [(f"genre {n % 25}",) for n in range(100)]
    held_out = replace(held_out, items=held_out.items.assign(genres=pd.Series(genres, held_out.items.index)))
    train = replace(held_out.take(np.arange(10)), rating=np.full(10, 3.0) + np.arange(10) % 2)
    expected = 3.0 + rng.normal(0, 0.9, 120)[user] * (item % 25 == 7)
    section = groups(data_of(train, held_out, expected))
    shown = {row[1]: row[-3:] for row in section.tables[0].rows}["genre: genre 7"]
    (verdict,) = section.verdicts
    assert shown == (verdict.value, verdict.low, verdict.high)
    rows = item % 25 == 7
    plain = data_of(train, held_out, expected).by_group.mean((expected - 3.0)[rows], user[rows])
    assert float(str(shown[2])) - float(str(shown[1])) > 1.4 * (plain.high - plain.low)


@pytest.mark.parametrize(("n", "is_judged"), [(990, False), (1000, True)])
def test_drift_is_not_judged_by_small_fifths(n: int, is_judged: bool) -> None:
    data = cut(of_new_users(50, 20), n)
    data = replace(data, held_out=replace(data.held_out, timestamp=np.arange(n)))
    assert (drift(data).verdicts[0].value is not None) == is_judged


@pytest.mark.parametrize(("n", "is_judged"), [(49, False), (50, True)])
def test_recall_is_not_judged_by_few_answers(n: int, is_judged: bool) -> None:
    columns = np.arange(n) % 20, *(np.full(n, 3.0) for _ in range(3))
    data = replace(of_new_users(20, 5), probe=Probe(*columns))
    assert (contamination(data).verdicts[0].state != "unknown") == is_judged


@pytest.mark.parametrize(("n_users", "n", "is_judged"), [(20, 8, True), (19, 8, False), (20, 7, False)])
def test_few_recommenders_or_users_say_nothing_of_rankings(n_users: int, n: int, is_judged: bool) -> None:
    data = of_new_users(n_users, 4)
    data = replace(data, recommenders=dict(list(data.recommenders.items())[:n]))
    assert (recommenders(data).verdicts[0].value is not None) == is_judged


def test_users_with_few_ratings_have_no_histogram_and_no_mean_of_their_own() -> None:
    for n_each, is_judged in ((4, False), (5, True)):
        data = of_new_users(20, n_each)
        assert (realism(data).verdicts[1].value is not None) == is_judged
        assert (diversity(data).verdicts[0].value is not None) == is_judged
    assert realism(of_new_users(20, 1)).verdicts[0].state == "unknown"
    assert diversity(of_new_users(1, 12)).verdicts[0].state == "unknown"


def test_evidence_on_new_items_resamples_items() -> None:
    held_out, predicted = by_item()
    data = replace(data_of(held_out.take(np.arange(30)), held_out, predicted), groups="items")
    error = np.asarray(predicted - held_out.rating)
    items, users = data.by_group.mean(error, data.group), data.by_user.mean(error, held_out.user)
    assert items.high - items.low > 0.1
    assert users.high - users.low < 1e-9


class Asked:
    """A rater that remembers which pairs it was asked about."""

    def __init__(self) -> None:
        self.pairs: list[Pairs] = []

    def fit(self, dataset: Dataset) -> Asked:
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        self.pairs.append(pairs)
        return RatingDistribution.from_mean(SCALE, np.full(len(pairs), 3.0), 1.0)


def test_items_called_not_rated_were_rated_neither_in_training_nor_in_the_held_out_part(world: Dataset) -> None:
    split = kfold(world, 3)[0]
    data, rater = data_of(world.take(split.train_rows), world.take(split.test_rows)), Asked()
    section = discrimination(replace(data, simulator=replace(data.simulator, rater=rater)))
    asked = np.concatenate([pairs.keys(30) for pairs in rater.pairs])
    assert len(asked)
    assert not np.isin(asked, world.pairs.keys(30)).any()
    assert section.verdicts[0].state != "unknown"


def test_a_user_with_fewer_disliked_items_than_others_to_pick_from_is_left_out() -> None:
    user = np.repeat(np.arange(30), 3)
    held_out = ratings_of(user, np.tile(np.arange(3), 30), np.tile([5.0, 1.0, 1.0], 30))
    table = discrimination(data_of(held_out.take(np.arange(20)), held_out)).tables[0]
    assert [(row[0], row[1], row[2]) for row in table.rows] == [("disliked", "1:1", 30), ("disliked", "1:2", 30)]


def test_only_pairs_answered_with_both_titles_show_recall() -> None:
    held_out = ratings_of(np.repeat(np.arange(10), 6), np.tile(np.arange(6), 10), np.full(60, 4.0))
    held_out = replace(held_out, items=held_out.items.assign(title=[f"Film {n}" for n in range(6)]))
    train = replace(held_out, item=held_out.item.copy())

    def ask(dataset: Dataset, requests: list[RatingRequest]) -> LLMRatings:
        known = set(dataset.items["title"]) == set(train.items["title"])
        silent = 1 if known else 2
        answers = LLMRatings.none_yet(requests, 1)
        answers.ratings[0] = np.where(answers.pairs.item == silent, np.nan, 4.0)
        return answers

    got = probe(train, held_out, ask)
    assert len(got.truth) == 40
    assert np.isfinite([got.with_title, got.without]).all()


def test_an_invented_title_is_that_of_no_film_in_the_data() -> None:
    """Even if a film of the data is called as the invented ones are."""
    plain = ratings_of(np.arange(5), np.arange(5), np.full(5, 3.0))
    first = masked(plain, seed=0)
    renamed = replace(plain, items=first.items[["title"]])
    assert not set(masked(renamed, seed=0).items["title"]) & set(renamed.items["title"])


def write_table(path: Path, dataset: Dataset, ratings: FloatArray) -> Path:
    pd.DataFrame({"user_id": dataset.user, "item_id": dataset.item, "rating": ratings}).to_csv(path, index=False)
    return path


def test_a_table_that_holds_the_truth_or_speaks_of_few_pairs_is_refused(world: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="so it holds the truth"):
        read_simulated(write_table(tmp_path / "truth.csv", world, world.rating), world)
    assert SUSPICIOUS < 1
    recording = recording_of(world, noisy(world))
    few = RecordedRatings(recording.user_ids[:99], recording.item_ids[:99], recording.ratings[:99])
    with pytest.raises(DataError, match="speaks about 99 of 800 held-out pairs, at least 100"):
        from_table(few, world, "few.csv")
    assert len(from_table(recording, world, "all.csv").held_out) == 800


def test_held_out_ratings_that_are_training_ratings_are_refused(world: Dataset, tmp_path: Path) -> None:
    train, rest = world.take(np.arange(600)), world.take(np.arange(600, 800))
    assert len(read_truth(write_table(tmp_path / "rest.csv", rest, rest.rating), train)) == 200
    with pytest.raises(DataError, match="are a training rating too"):
        read_truth(write_table(tmp_path / "seen.csv", world.take(np.arange(599, 800)), world.rating[599:]), train)


def write_run(path: Path, held_out: Dataset, digest: str, probs: NDArray[np.float64]) -> Path:
    folder = RunFolder(path)
    path.mkdir()
    folder.about.write_text(json.dumps({"provenance": {"data_hash": digest}}))
    table = {
        "user_id": held_out.user,
        "item_id": held_out.item,
        "rating": 3,
        "mean": 3.0,
        "low": 1.0,
        "high": 5.0,
        "source": "stat",
    }
    pd.DataFrame({**table, **{f"p_{k + 1}": probs[:, k] for k in range(5)}}).to_csv(folder.ratings, index=False)
    return path


def test_a_run_that_learned_from_other_data_or_holds_no_distribution_is_refused(world: Dataset, tmp_path: Path) -> None:
    train, held_out = world.take(np.arange(600)), world.take(np.arange(600, 800))
    probs = np.full((200, 5), 0.2)
    assert len(from_run(write_run(tmp_path / "good", held_out, train.digest, probs), train, held_out).held_out) == 200
    with pytest.raises(SettingsError, match="may have seen the held-out ones"):
        from_run(write_run(tmp_path / "other", held_out, world.digest, probs), train, held_out)
    probs[7] = 0.3
    with pytest.raises(DataError, match="holds no distribution"):
        from_run(write_run(tmp_path / "bad", held_out, train.digest, probs), train, held_out)


def test_a_recording_about_other_pairs_corrects_nothing(world: Dataset) -> None:
    train, held_out = world.take(np.arange(600)), world.take(np.arange(600, 800))
    answers = Answers(data_of(train, held_out).simulator, held_out)
    with pytest.raises(DataError, match="no held-out pair has a recorded LLM rating"):
        with_recording(answers, recording_of(train, noisy(train)), 0)
    recording = recording_of(held_out, noisy(held_out))
    said = RatingDistribution(SCALE, np.eye(5)[SCALE.index(recording.ratings)])
    for new_items, groups_ in ((False, "users"), (True, "items")):
        own = cross_fitted_correction(answers.simulator.distribution, said, held_out, 0, new_items=new_items)
        got = with_recording(answers, recording, 0, groups_)  # type: ignore[arg-type]  # a literal in the loop
        assert (got.simulator.distribution.probs == own.probs).all()


@pytest.mark.parametrize("protocol", ["cold-both", "cold-items"])
def test_the_whole_ensemble_taken_apart_answers_as_the_simulator(world: Dataset, protocol: str) -> None:
    """Of cold items too few ratings are held out of the training part to learn weights for them."""
    fold = next(make_protocol(protocol, world, folds=[1]).folds())
    answers = gather(fold, ["biases", "kernel_gp"], n_jobs=1)
    variants = {one.components: one for one in each_variant(answers, ["embeddings"], 0, 1, lambda variant: variant)}
    simulator = Simulator(members=("biases", "kernel_gp"), n_jobs=1).fit(fold.train)
    whole = simulator.predict_pairs(fold.held_out.pairs).distribution
    assert variants[frozenset({"embeddings"})].distribution.probs == pytest.approx(whole.probs, abs=1e-9)


def test_an_ablation_on_new_items_sums_by_item_and_learns_from_other_items(world: Dataset) -> None:
    fold = next(make_protocol("cold-items", world, folds=[1]).folds())
    plain = Biases().fit(fold.train).rate(fold.held_out.pairs)
    recording = recording_of(fold.held_out, noisy(fold.held_out))
    scorer = Scorer.of(fold, "items", 0, recording, switched=False)
    ((_, scores),) = scorer(Variant(frozenset(), plain, {}))
    assert scorer.llm is not None
    corrected = cross_fitted_correction(plain, scorer.llm, fold.held_out, 0, new_items=True)
    assert scores.rmse == pytest.approx(np.sqrt(((corrected.mean() - fold.held_out.rating) ** 2).mean()), abs=1e-12)
    assert scores.sums[:, -1].tolist() == fold.held_out.item_counts.tolist()
    with pytest.raises(SettingsError, match="no held-out pair has an LLM rating"):
        Scorer.of(fold, "items", 0, recording_of(fold.train, noisy(fold.train)), switched=True)
