"""The benchmark: nothing held out is seen, everything is scored on the same rows, the report says how."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_worlds import rating_table, recording_of

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import RatingDistribution, RatingScale
from hybrid_sim.data.recordings import RecordingColumns, read_recordings, shuffle_within_users
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation.bench import Benchmark, bench, choose_models
from hybrid_sim.evaluation.bench_report import BenchResult, headline, over_folds, table_text, write_json
from hybrid_sim.evaluation.protocols import Protocol, make_protocol, parse_folds
from hybrid_sim.evaluation.resources import measured
from hybrid_sim.evaluation.scores import Comparison, Losses, Predictions, ResultRow, row_losses, shared_rows
from hybrid_sim.models.recorded import RecordedRatings


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=2, n_users=60, n_items=80, ratings_per_user=30).dataset


FEW = ("biases", "svd")
"""Members of the ensemble in these tests: two quick ones."""


def run(benchmark: Benchmark, protocol: Protocol) -> BenchResult:
    return benchmark.run(protocol, ["hybrid-sim"])


def recorded(dataset: Dataset, share: float, seed: int = 0) -> RecordedRatings:
    """A made-up LLM: the true rating and noise, for a random share of all ratings."""
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero(rng.random(len(dataset)) < share)
    noisy = dataset.scale.round(dataset.rating[chosen] + rng.normal(0, 1.0, len(chosen)))
    return recording_of(dataset, noisy, chosen)


def with_other_held_out(dataset: Dataset, protocol: Protocol) -> Dataset:
    """The same data, with the held-out ratings and times shuffled among themselves."""
    rows = protocol.splits[0][1].test_rows
    mixed = np.random.default_rng(7).permutation(rows)
    assert dataset.timestamp is not None
    rating, timestamp = dataset.rating.copy(), dataset.timestamp.copy()
    rating[rows], timestamp[rows] = rating[mixed], timestamp[mixed]
    return replace(dataset, rating=rating, timestamp=timestamp)


def answers(benchmark: Benchmark, protocol: Protocol) -> dict[str, Predictions]:
    return {of_model.model: of_model for of_model in benchmark.predictions(next(protocol.folds()))}


@pytest.mark.parametrize("name", ["kfold", "last40", "cold-items"])
def test_shuffled_held_out_ratings_change_no_prediction(world: Dataset, name: str) -> None:
    benchmark = Benchmark(choose_models(["user_mean", "biases", "knn", "svd", "hybrid"], False), members=FEW)
    protocol = make_protocol(name, world, folds=[1])
    shuffled = make_protocol(name, with_other_held_out(world, protocol), folds=[1])
    before, after = next(protocol.folds()).held_out, next(shuffled.folds()).held_out
    assert not np.array_equal(before.rating, after.rating)
    first, second = answers(benchmark, protocol), answers(benchmark, shuffled)
    assert list(first) == ["user_mean", "biases", "knn", "svd", "hybrid"]
    for model, predicted in first.items():
        np.testing.assert_array_equal(predicted.distribution.probs, second[model].distribution.probs, err_msg=model)
    for end in ("low", "high"):
        np.testing.assert_array_equal(getattr(first["hybrid"], end), getattr(second["hybrid"], end))


def test_shuffled_held_out_ratings_change_nothing_with_members_of_every_kind() -> None:
    kinds = ("biases", "knn", "svd", "levels_content", "content_gp", "kernel_gp", "facets", "neighbours")
    small = make_world(seed=2, n_users=25, n_items=30, ratings_per_user=12).dataset
    protocol = make_protocol("kfold", small, folds=[1])
    shuffled = make_protocol("kfold", with_other_held_out(small, protocol), folds=[1])
    first, second = (answers(Benchmark(("hybrid",), members=kinds), each)["hybrid"] for each in (protocol, shuffled))
    np.testing.assert_array_equal(first.distribution.probs, second.distribution.probs)


def test_training_ratings_do_change_predictions(world: Dataset) -> None:
    protocol = make_protocol("kfold", world, folds=[1])
    other = replace(world, rating=world.rating[::-1].copy())
    benchmark = Benchmark(("user_mean", "biases"))
    first, second = answers(benchmark, protocol), answers(benchmark, make_protocol("kfold", other, folds=[1]))
    for model in first:
        assert not np.array_equal(first[model].distribution.probs, second[model].distribution.probs)


def test_baselines_answer_every_row_and_count_what_they_could_not(world: Dataset) -> None:
    protocol = make_protocol("cold-items", world, folds=[1])
    got = answers(Benchmark(("global_mean", "item_mean", "svd")), protocol)
    n = len(protocol.splits[0][1].test_rows)
    assert all(predicted.distribution.answered.all() for predicted in got.values())
    assert (got["item_mean"].n_fallback, got["global_mean"].n_fallback) == (n, 0)
    np.testing.assert_array_equal(got["item_mean"].distribution.probs, got["global_mean"].distribution.probs)


def test_report_holds_results_intervals_comparisons_and_notes(world: Dataset, tmp_path: Path) -> None:
    protocol = make_protocol("last40", world, folds=[1, 3])
    report = run(Benchmark(choose_models(["hybrid", "biases"], False), seed=4, members=FEW), protocol)
    write_json(report, tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert [(row["model"], row["fold"]) for row in saved["results"]] == [
        ("biases", 1),
        ("biases", 3),
        ("hybrid", 1),
        ("hybrid", 3),
    ]
    assert {row["protocol"] for row in saved["results"]} == {"last40"}
    assert [row["n"] for row in saved["results"][:2]] == [len(split.test_rows) for _, split in protocol.splits]
    assert all(row["seconds"] > 0 and row["peak_mb"] >= 0 for row in saved["results"])
    comparison = saved["comparisons"][0]
    assert (comparison["a"], comparison["b"], comparison["groups"]) == ("hybrid", "biases", "users")
    assert comparison["low"] <= comparison["estimate"] <= comparison["high"]
    rmse = {
        model: np.mean([row["rmse"] for row in saved["results"] if row["model"] == model])
        for model in ("hybrid", "biases")
    }
    assert comparison["estimate"] == pytest.approx(rmse["hybrid"] - rmse["biases"])
    assert {row["model"] for row in saved["support"]} == {"hybrid"}
    assert saved["provenance"]["synthetic"] is True
    assert saved["provenance"]["embedder"]
    assert saved["provenance"]["data_hash"] == world.digest
    text = table_text(report)
    assert "world (synthetic data), protocol last40, mean over folds 1, 3, seed 4" in text
    assert "Note: the folds are 5 random parts of the ratings (seed 4)" in table_text(
        replace(report, notes=make_protocol("full", world, seed=4).notes)
    )
    assert "Note: the folds are 5 random parts of the ratings (seed 0)" in text


def test_the_headline_is_the_difference_to_the_best_baseline_and_to_knn() -> None:
    figures = {"knn": -0.03, "biases": -0.01, "svd": -0.02, "llm": 0.5}
    compared = [
        Comparison("hybrid", name, "last40", "1", "rmse", gap, gap - 0.01, gap + 0.01, 0.95, "users", 9)
        for name, gap in figures.items()
    ]
    assert headline(compared) == (
        "RMSE of the hybrid less that of biases (the best baseline) -0.0100 [-0.0200, +0.0000], of knn -0.0300 "
        "[-0.0400, -0.0200]."
    )
    assert headline(compared[3:]) == ""


def test_counts_are_summed_over_folds_and_all_else_is_averaged() -> None:
    rows = [ResultRow("a", "last40", fold, fold, 0, 0, {"ndcg": fold / 2}, 1.0, 1.0) for fold in (1, 2)]
    assert over_folds(rows, "n") == 3
    assert over_folds(rows, "ndcg") == 0.75
    assert over_folds(rows, "a metric that an earlier version lacked") is None


def test_cold_items_resample_items(world: Dataset) -> None:
    report = run(Benchmark(("user_mean",)), make_protocol("cold-items", world, folds=[2]))
    assert [row.groups for row in report.intervals] == ["items"]


def test_llm_corrects_only_where_it_was_recorded(world: Dataset) -> None:
    protocol = make_protocol("kfold", world, folds=[1])
    recording = recorded(world, 0.5)
    got = answers(Benchmark(choose_models(["hybrid+llm", "llm"], True), recording, members=FEW), protocol)
    assert list(got) == ["hybrid", "llm", "hybrid+llm"]
    silent = ~got["llm"].distribution.answered
    assert 0 < silent.sum() < len(silent)
    plain, corrected = got["hybrid"].distribution.probs, got["hybrid+llm"].distribution.probs
    np.testing.assert_array_equal(plain[silent], corrected[silent])
    assert not np.array_equal(plain[~silent], corrected[~silent])


def test_report_with_llm_compares_on_shared_rows_and_says_what_was_learned(world: Dataset) -> None:
    protocol = make_protocol("kfold", world, folds=[1])
    models = ("biases", "hybrid", "llm", "hybrid+llm", "hybrid+llm_shuffled")
    report = run(Benchmark(choose_models(models, True), recorded(world, 0.6), members=FEW), protocol)
    rows = {row.model: row for row in report.results}
    assert list(rows) == list(models)
    assert rows["llm"].n + rows["llm"].n_abstained == rows["hybrid"].n
    made = {(row.a, row.b, row.metric) for row in report.comparisons}
    assert {
        ("hybrid", "llm", "rmse"),
        ("hybrid+llm", "hybrid", "rmse"),
        ("hybrid+llm", "hybrid", "log_loss"),
    } <= made
    assert ("hybrid+llm", "hybrid+llm_shuffled", "rmse") in made
    assert any("cross-fitted" in note for note in report.notes)
    assert rows["hybrid+llm"].scores["rmse"] < rows["hybrid"].scores["rmse"]


def test_a_fold_without_recorded_pairs_is_that_of_the_hybrid(world: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    protocol = make_protocol("kfold", world, folds=[1, 2])
    here = world.take(protocol.splits[0][1].test_rows)
    benchmark = Benchmark(choose_models(["hybrid+llm", "llm"], True), recorded(here, 1.0), members=FEW)
    first, second = ({p.model: p for p in benchmark.predictions(fold)} for fold in protocol.folds())
    assert list(first) == ["hybrid", "llm", "hybrid+llm"]
    assert list(second) == ["hybrid", "hybrid+llm"]
    plain, corrected = second["hybrid"].distribution.probs, second["hybrid+llm"].distribution.probs
    np.testing.assert_array_equal(plain, corrected)
    assert "fold 2: no held-out pair has an LLM rating" in caplog.text


def test_models_are_chosen_by_name() -> None:
    assert choose_models(["svd", "knn"], False) == ("knn", "svd")
    assert choose_models(["hybrid+llm"], True) == ("hybrid", "hybrid+llm")
    assert {"knn", "svd", "nmf", "hybrid"} <= set(choose_models(None, False))
    assert {"hybrid+llm", "llm"} <= set(choose_models(None, True))
    with pytest.raises(SettingsError, match="no model 'svdd'; did you mean 'svd'"):
        choose_models(["svdd"], False)
    with pytest.raises(SettingsError, match="needs recorded LLM ratings; add --llm-ratings"):
        choose_models(["hybrid+llm"], False)


def test_shared_rows_are_what_both_were_scored_on(world: Dataset) -> None:
    held_out = world.take(np.arange(50))
    predicted = RatingDistribution.from_mean(world.scale, held_out.rating, 1.0)

    def losses(model: str, rows: slice, fold: int) -> Losses:
        return row_losses(Predictions(model, held_out.take(np.arange(50)[rows]), predicted.take(rows), fold=fold))

    a = [losses("a", slice(0, 40), 1), losses("a", slice(0, 50), 2)]
    b = [losses("b", slice(10, 50), 1)]
    left, right = shared_rows(a, b)
    assert [(part.fold, len(part.user)) for part in left] == [(1, 30)]
    np.testing.assert_array_equal(left[0].user, right[0].user)
    np.testing.assert_array_equal(left[0].item, right[0].item)


@pytest.mark.parametrize("name", ["last40", "full", "kfold", "user-temporal", "cold-items", "cold-users"])
def test_protocols_hold_out_what_they_promise(world: Dataset, name: str) -> None:
    protocol = make_protocol(name, world)
    assert len(protocol.splits) == (1 if name == "user-temporal" else 5)
    for fold in protocol.folds():
        learned = set(zip(fold.train.user.tolist(), fold.train.item.tolist(), strict=True))
        held = set(zip(fold.held_out.user.tolist(), fold.held_out.item.tolist(), strict=True))
        assert not learned & held
        if name == "last40":
            assert fold.train.user_counts.max() <= 40
        if name == "cold-items":
            assert fold.train.item_counts[fold.held_out.item].max() == 0
        if name == "cold-users":
            assert fold.train.user_counts[fold.held_out.user].max() == 0


def test_cold_users_may_have_some_known_ratings(world: Dataset) -> None:
    protocol = make_protocol("cold-users", world, known=5, folds=[2])
    fold = next(protocol.folds())
    assert protocol.name == "cold-users-5"
    assert set(fold.train.user_counts[fold.held_out.user]) == {5}


def test_data_without_times_is_refused_or_said(world: Dataset) -> None:
    untimed = replace(world, timestamp=None)
    for name in ("last40", "user-temporal"):
        with pytest.raises(DataError, match="no timestamps"):
            make_protocol(name, untimed)
    assert "no times" in make_protocol("user-temporal", untimed, shuffle_untimed=True).notes[0]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1,2", [1, 2]), ("u3", [3]), (" 2 - 4".replace(" ", ""), [2, 3, 4]), ("2,1,2", [1, 2])],
)
def test_folds_are_read(text: str, numbers: list[int]) -> None:
    assert parse_folds(text) == numbers


@pytest.mark.parametrize("text", ["", "one", "1,,2", "1-", "-1", "1.5"])
def test_folds_that_are_not_understood(text: str) -> None:
    with pytest.raises(SettingsError, match="write numbers as in 1,2 or 1-3"):
        parse_folds(text)


def test_a_fold_that_does_not_exist(world: Dataset) -> None:
    with pytest.raises(SettingsError, match="no fold 6; protocol full has folds 1 to 5"):
        make_protocol("full", world, folds=[1, 6])
    with pytest.raises(SettingsError, match="no fold 2; protocol user-temporal has only fold 1"):
        make_protocol("user-temporal", world, folds=[2])


def test_a_fold_that_holds_nothing_out_is_refused(world: Dataset) -> None:
    few = world.take(np.arange(200))  # about three ratings per user; the first 20 are never tested
    protocol = make_protocol("cold-users", few)
    with pytest.raises(SettingsError, match="fold 1 has no held-out ratings"):
        list(protocol.folds())


def write_recording(dataset: Dataset, path: Path, **columns: object) -> Path:
    rating_table(dataset).rename(columns={"item_id": "movie_id"}).assign(**columns).to_csv(path, index=False)
    return path


def test_recordings_in_the_published_layout_never_read_the_truth(world: Dataset, tmp_path: Path) -> None:
    llm = np.random.default_rng(0).integers(1, 6, len(world))
    for part in (1, 2):
        rows = np.arange(part - 1, len(world), 2)
        write_recording(world.take(rows), tmp_path / f"ratings_u{part}.csv", simulated_ratings=llm[rows])
    write_recording(world, tmp_path / "ratings_u1_subset.csv", other=llm)
    recording = read_recordings([tmp_path], world)
    assert len(recording) == len(world)
    assert sorted(recording.ratings) == sorted(llm.astype(float))
    again = read_recordings([tmp_path / "ratings_u1.csv", tmp_path / "ratings_u2.csv"], world)
    np.testing.assert_array_equal(again.ratings, recording.ratings)
    with pytest.raises(DataError, match=r"ratings_u1_subset.csv, column 'rating': 100% of its ratings equal"):
        read_recordings([tmp_path / "ratings_u1_subset.csv"], world)
    named = read_recordings([tmp_path / "ratings_u1_subset.csv"], world, RecordingColumns(rating="other"))
    np.testing.assert_array_equal(named.ratings, llm)


def test_recordings_that_are_not_there(world: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no file or folder .*nowhere.csv of LLM ratings"):
        read_recordings([tmp_path / "nowhere.csv"], world)
    with pytest.raises(SettingsError, match=r"holds no \.csv or \.parquet file"):
        read_recordings([tmp_path], world)
    (tmp_path / "odd.csv").write_text("user_id,item_id,stars\nu0001,f0001,3\n")
    with pytest.raises(
        DataError, match=r"none of the columns .* it has 'user_id', 'item_id', 'stars'.*--llm-rating-col"
    ):
        read_recordings([tmp_path / "odd.csv"], world)


def test_shuffling_within_users_keeps_each_users_ratings(world: Dataset) -> None:
    recording = recorded(world, 0.7)
    mixed = shuffle_within_users(recording, seed=1)
    assert not np.array_equal(mixed.ratings, recording.ratings)
    np.testing.assert_array_equal(mixed.item_ids, recording.item_ids)
    for user in np.unique(recording.user_ids)[:10]:
        of_user = recording.user_ids == user
        assert sorted(mixed.ratings[of_user]) == sorted(recording.ratings[of_user])


def test_effort_sees_time_and_memory() -> None:
    with measured() as effort:
        block = np.ones(8_000_000)
    assert effort.seconds > 0
    assert effort.peak_mb >= 0.9 * block.nbytes / 2**20
    del block
    with measured() as effort:
        pass
    assert effort.peak_mb < 20


def test_a_scale_with_a_level_0_is_no_reason_to_stop_and_the_unusual_setting_is_named(
    world: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """Thumbs up and down: the cosine of two rows of zeros is undefined, which ended the whole benchmark."""
    thumbs = replace(world, scale=RatingScale((0.0, 1.0)), rating=(world.rating > 3).astype(float))
    protocol = make_protocol("kfold", thumbs, folds=[1])
    with caplog.at_level("WARNING", "hybrid_sim"):
        report = run(Benchmark(choose_models(["global_mean", "knn"], False)), protocol)
    note = "knn is run with similarity='msd': its default does not suit the rating scale 0, 1."
    assert note in report.notes
    assert f"Note: {note}" in table_text(report)
    assert note in caplog.messages
    assert [row.model for row in report.results] == ["global_mean", "knn"]


def test_settings_that_are_the_defaults_are_not_named(world: Dataset) -> None:
    report = run(Benchmark(choose_models(["knn"], False)), make_protocol("kfold", world, folds=[1]))
    assert not any("similarity" in note for note in report.notes)


def test_a_benchmark_is_one_call_and_its_result_a_table(world: Dataset) -> None:
    result = bench(world, "kfold", ["user_mean", "biases"], folds=[1, 2])
    frame = result.to_frame()
    assert frame["model"].tolist() == ["user_mean"] * 2 + ["biases"] * 2
    assert frame["fold"].tolist() == [1, 2, 1, 2]
    means = result.means().loc["kfold"]
    assert means.index.tolist() == ["user_mean", "biases"]
    assert means["rmse"].tolist() == pytest.approx([row.estimate for row in result.intervals])
    assert repr(result).startswith("<BenchResult: world (synthetic data), protocol kfold, 2 models, lowest RMSE 0.")
    assert "<th>RMSE</th>" in result._repr_html_()
