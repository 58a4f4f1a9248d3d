"""Ablations: every subset is what an ensemble without the rest would be, gains add up, intervals are paired."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_worlds import rating_table, recording_of

from hybrid_sim.cli.parsing import parse
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.fit_cache import caching_fits
from hybrid_sim.core.types import FloatArray, IntArray, RatingScale
from hybrid_sim.data.world import make_world
from hybrid_sim.ensemble.components import BASE, STEPS, components, default_members, members_of, switched
from hybrid_sim.evaluation.ablation import AblationResult, ablate, ablation_text, write_ablation
from hybrid_sim.evaluation.ablation.member_answers import FoldAnswers, gather
from hybrid_sim.evaluation.ablation.scoring import KINDS, Kind, Scorer, gain_weights
from hybrid_sim.evaluation.ablation.variants import Variant, each_variant, subsets
from hybrid_sim.evaluation.bootstrap import ResampledLosses, paired_bootstrap
from hybrid_sim.evaluation.protocols import Fold, Protocol, make_protocol
from hybrid_sim.models.recorded import RecordedRatings
from hybrid_sim.retrieval.embedder import TfidfSVD
from hybrid_sim.simulation.simulator import Simulator

MEMBERS = ("biases", "svd", "levels_content")
SWITCHED = ("embeddings", "neighbours", "combiner", "boosted", "calibration")
"""The base, a quick member, one whose distributions count, and the components that they make possible."""


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=2, n_users=50, n_items=60, ratings_per_user=28).dataset


@pytest.fixture(scope="module")
def protocol(world: Dataset) -> Protocol:
    return make_protocol("kfold", world, folds=[1])


@pytest.fixture(scope="module")
def fold(protocol: Protocol) -> Fold:
    return next(protocol.folds())


@pytest.fixture(scope="module", autouse=True)
def cached_fits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Members are fitted once for all tests of this module."""
    with caching_fits(tmp_path_factory.mktemp("fits"), least_seconds=0.0):
        yield


@pytest.fixture(scope="module")
def answers(fold: Fold) -> FoldAnswers:
    return gather(fold, MEMBERS, n_jobs=2)


@pytest.fixture(scope="module")
def variants(answers: FoldAnswers) -> dict[frozenset[str], Variant]:
    return {one.components: one for one in each_variant(answers, SWITCHED, 0, 2, lambda variant: variant)}


def recorded(dataset: Dataset, noise: float, level_only: bool = False) -> RecordedRatings:
    """A made-up LLM: the true ratings and noise; with `level_only` it knows each user's mean and nothing of items."""
    rng = np.random.default_rng(0)
    means = np.bincount(dataset.user, dataset.rating) / np.maximum(np.bincount(dataset.user), 1)
    liking = means[dataset.user] if level_only else dataset.rating
    return recording_of(dataset, dataset.scale.round(liking + rng.normal(0, noise, len(dataset))))


@pytest.fixture(scope="module")
def report(protocol: Protocol) -> AblationResult:
    return run(protocol, recorded(protocol.dataset, 1.0))


def run(
    protocol: Protocol,
    recording: RecordedRatings | None = None,
    components: tuple[str, ...] | None = None,
) -> AblationResult:
    return ablate(
        protocol.dataset,
        protocol,
        components,
        recording=recording,
        members=MEMBERS,
        n_jobs=2,
        n_boot=300,
        command=["hybrid-sim", "ablate"],
    )


def rmse(fold: Fold, variant: Variant) -> float:
    return float(np.sqrt(np.mean((variant.distribution.mean() - fold.held_out.rating) ** 2)))


def test_components_hold_every_member_once() -> None:
    members = default_members(RatingScale((1, 2, 3, 4, 5)), TfidfSVD(), 0)
    named = [BASE, *(member for of_it in members_of().values() for member in of_it if member != "profile_neighbours")]
    assert sorted(named) == sorted(members)
    assert switched(list(members), members_of()).members == (BASE,)


@pytest.mark.parametrize(
    ("name", "cure"), [("bosted", "did you mean 'boosted'"), ("sdv", "did you mean 'svd'"), ("?", "choose one of")]
)
def test_an_unknown_component_is_refused_with_the_nearest(name: str, cure: str) -> None:
    with pytest.raises(SettingsError, match=cure):
        switched(MEMBERS, [name])


def test_a_component_or_a_single_member_can_be_left_out() -> None:
    left = switched(MEMBERS, ["svd", "calibration"])
    assert left.members == ("biases", "levels_content")
    assert (left.combiner, left.boosted, left.calibration) == (True, True, False)
    with pytest.raises(SettingsError, match="no member is left"):
        switched(["svd"], ["svd"])


def test_all_components_answer_as_the_simulator_does(fold: Fold, variants: dict[frozenset[str], Variant]) -> None:
    """And so does a subset of members with all steps: the same numbers as of a simulator that was fitted with these."""
    for members, left in ((MEMBERS, SWITCHED), (("biases", "levels_content"), ("embeddings", *STEPS))):
        simulator = Simulator(0, members, n_jobs=2).fit(fold.train)
        expected = simulator.predict_pairs(fold.held_out.pairs).distribution.probs
        np.testing.assert_array_equal(variants[frozenset(left)].distribution.probs, expected)


def test_there_is_one_variant_per_subset_and_each_step_matters(variants: dict[frozenset[str], Variant]) -> None:
    assert set(variants) == set(subsets(SWITCHED))
    whole = frozenset(SWITCHED)
    for name in SWITCHED:
        less = variants[whole - {name}].distribution.probs
        assert not np.allclose(less, variants[whole].distribution.probs, atol=1e-3), name


def test_the_base_is_the_biases_alone(
    fold: Fold, variants: dict[frozenset[str], Variant], answers: FoldAnswers
) -> None:
    alone = answers.test.probs[:, MEMBERS.index(BASE)]
    np.testing.assert_allclose(variants[frozenset()].distribution.mean(), alone @ np.arange(1, 6), atol=2e-3)


def test_without_weights_the_mean_is_the_plain_average(
    variants: dict[frozenset[str], Variant], answers: FoldAnswers
) -> None:
    mean = variants[frozenset({"embeddings", "neighbours"})].distribution.mean()
    scale = variants[frozenset()].distribution.scale
    used = [answers.test.means[:, k, int(name == "levels_content")] for k, name in enumerate(MEMBERS)]
    expected = scale.clip(np.mean(used, axis=0))
    np.testing.assert_allclose(mean, expected, atol=5e-3)


def test_level_shape_changes_no_mean(variants: dict[frozenset[str], Variant]) -> None:
    for chosen in subsets([name for name in SWITCHED if name != "calibration"]):
        plain, shaped = variants[chosen], variants[chosen | {"calibration"}]
        np.testing.assert_allclose(plain.distribution.mean(), shaped.distribution.mean(), atol=1e-9)


def test_workers_change_nothing(answers: FoldAnswers, variants: dict[frozenset[str], Variant]) -> None:
    few = ("neighbours", "calibration")
    alone = {one.components: one for one in each_variant(answers, few, 0, 1, lambda variant: variant)}
    rest = frozenset(SWITCHED) - set(few)
    for chosen, one in alone.items():
        np.testing.assert_array_equal(one.distribution.probs, variants[chosen | rest].distribution.probs)


def losses(n_groups: int = 40, n_rows: int = 600, n_variants: int = 8) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(3)
    return rng.gamma(2.0, 1.0, (n_rows, n_variants)), rng.integers(n_groups, size=n_rows)


def sums(columns: FloatArray, group: IntArray) -> FloatArray:
    found = [np.bincount(group, column) for column in [*columns.T, np.ones(len(group))]]
    return np.column_stack(found).astype(float)[None]


@pytest.mark.parametrize(("root", "statistic"), [(True, "rmse"), (False, "mean")])
def test_leaving_one_out_has_the_interval_of_a_paired_bootstrap(root: bool, statistic: str) -> None:
    columns, group = losses()
    resampled = ResampledLosses.of_sums(sums(columns, group), root, 400, 7)
    got = resampled.interval(np.array([1.0, -1.0, 0, 0, 0, 0, 0, 0]))
    expected = paired_bootstrap(columns[:, 0], columns[:, 1], group, statistic, n_boot=400, seed=7)  # type: ignore[arg-type]  # one of the two
    assert (got.estimate, got.low, got.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high), abs=1e-12
    )


def test_shapley_gains_are_those_of_a_game_worked_by_hand() -> None:
    """Losses 10, 7 (a), 8 (b), 4 (both): a gains 3 first and 4 second, b 2 and 3."""
    loss: dict[frozenset[str], float] = {
        frozenset(): 10.0,
        frozenset("a"): 7.0,
        frozenset("b"): 8.0,
        frozenset("ab"): 4.0,
    }

    def gain(name: str, kind: Kind) -> float:
        return sum(loss[chosen] * weight for chosen, weight in gain_weights(name, "ab", kind).items())

    assert [gain("a", kind) for kind in KINDS] == [3.5, 4.0, 3.0]
    assert [gain("b", kind) for kind in KINDS] == [2.5, 3.0, 2.0]


def test_an_interval_needs_two_groups() -> None:
    columns, group = losses()
    got = ResampledLosses.of_sums(sums(columns, np.zeros_like(group)), True, 50, 0).interval(np.eye(8)[0])
    assert got.estimate == pytest.approx(float(np.sqrt(columns[:, 0].mean())))
    assert np.isnan([got.low, got.high]).all()


@pytest.mark.parametrize("metric", ["rmse", "log_loss"])
def test_shapley_gains_sum_to_the_whole_gain(report: AblationResult, metric: str) -> None:
    present = [row.name for row in report.components if row.present]
    assert present == [*SWITCHED[:2], "combiner", "boosted", "calibration", "llm"]
    first, last = report.subset([]), report.subset(present)
    gains = [report.effect(name, metric, "shapley").gain for name in present]
    assert sum(gains) == pytest.approx(getattr(first, metric) - getattr(last, metric), abs=1e-12)
    fall = next(fall for fall in report.waterfalls if fall.metric == metric)
    assert [step.gain for step in fall.steps] == sorted(gains, reverse=True)
    assert (fall.steps[0].before, fall.steps[-1].after) == pytest.approx((fall.start, fall.end))
    assert sum(step.share for step in fall.steps) == pytest.approx(1.0)


def test_effects_are_differences_of_subsets(report: AblationResult) -> None:
    present = [row.name for row in report.components if row.present]
    for name in present:
        less = report.subset([other for other in present if other != name])
        left_out = report.effect(name, "rmse", "leave_one_out")
        assert left_out.gain == pytest.approx(less.rmse - report.subset(present).rmse)
        added = report.effect(name, "log_loss", "add_one_in")
        assert added.gain == pytest.approx(report.subset([]).log_loss - report.subset([name]).log_loss)
        assert left_out.low <= left_out.gain <= left_out.high


def test_an_llm_that_knows_tastes_beats_its_control(report: AblationResult) -> None:
    assert report.effect("llm", "rmse", "leave_one_out").low > 0
    assert report.effect("llm - llm_shuffled", "rmse", "shapley").low > 0
    taste, shuffled = (report.effect(name, "rmse", "shapley").gain for name in ("llm - llm_shuffled", "llm_shuffled"))
    assert taste + shuffled == pytest.approx(report.effect("llm", "rmse", "shapley").gain)


def test_an_llm_that_knows_only_users_levels_does_not_beat_its_control(protocol: Protocol) -> None:
    said = recorded(protocol.dataset, 0.3, level_only=True)
    effect = run(protocol, said, ("llm", "boosted")).effect("llm - llm_shuffled", "rmse", "shapley")
    assert effect.low < 0 < effect.high


def test_the_control_keeps_every_users_ratings_and_deals_them_out_anew(fold: Fold) -> None:
    scorer = Scorer.of(fold, "users", 0, recorded(fold.held_out, 1.0), switched=True)
    assert scorer.llm is not None
    assert scorer.shuffled is not None
    said, shuffled = scorer.llm.mean(), scorer.shuffled.mean()
    assert scorer.n_recorded == len(said)
    order = fold.held_out.user * 10.0
    np.testing.assert_array_equal(np.sort(order + said), np.sort(order + shuffled))
    assert (said != shuffled).mean() > 0.3


def test_without_a_recording_the_report_names_the_reason_why_llm_is_absent(protocol: Protocol) -> None:
    report = run(protocol, components=("boosted", "neighbours"))
    absent = {row.name: row.reason or "" for row in report.components if not row.present}
    assert "--llm-ratings" in absent["llm"]
    assert "none of its members" in absent["factorization"]
    assert "stays as it is" in absent["calibration"]
    assert len(report.subsets) == 4
    text = ablation_text(report)
    assert "Note: llm: needs recorded LLM ratings" in text
    assert "synthetic data" in text


def test_profiles_are_left_out_with_the_raters_that_read_them(protocol: Protocol) -> None:
    """Fault: `profile` was listed as a component in every ablation, and none could leave it out."""
    members = ("biases", "profile_neighbours")
    report = ablate(protocol.dataset, protocol, ["profile"], members=members, n_boot=20)
    assert {row.name for row in report.components} == set(components())
    assert [row.members for row in report.components if row.present] == [("profile_neighbours",)]
    assert report.subset(["profile"]).rmse != report.subset([]).rmse
    alone = ablate(protocol.dataset, protocol, ["combiner"], members=["biases"], n_boot=20)
    assert report.subset([]).rmse == pytest.approx(alone.subset(["combiner"]).rmse, abs=1e-12)


def test_profiles_that_an_llm_read_are_left_out_with_ratings_of_a_run_without_them(protocol: Protocol) -> None:
    with_profile, without = recorded(protocol.dataset, 0.7), recorded(protocol.dataset, 1.5)
    options: dict[str, Any] = {"members": ["biases"], "n_boot": 100}
    switched = ["llm", "profile"]
    report = ablate(protocol.dataset, protocol, switched, recording=with_profile, without_profile=without, **options)
    plain = ablate(protocol.dataset, protocol, ["llm"], recording=without, **options)
    assert report.subset(["llm"]).rmse == plain.subset(["llm"]).rmse
    assert report.subset(["llm"], control=True).rmse == plain.subset(["llm"], control=True).rmse
    assert report.subset(["profile"]).rmse == report.subset([]).rmse
    assert report.effect("profile", "rmse", "leave_one_out").low > 0


@pytest.mark.parametrize(
    ("wanted", "recordings", "message"),
    [
        (["profile"], {}, r"none of its members .*--llm-ratings-without-profile"),
        (["boosted"], {"without_profile": 1.0}, "add --llm-ratings FILE"),
    ],
)
def test_profiles_of_which_nothing_is_known_cannot_be_left_out(
    protocol: Protocol, wanted: list[str], recordings: dict[str, float], message: str
) -> None:
    ratings: dict[str, Any] = {name: recorded(protocol.dataset, noise) for name, noise in recordings.items()}
    with pytest.raises(SettingsError, match=message):
        ablate(protocol.dataset, protocol, wanted, members=["biases"], **ratings)


def test_an_ablation_is_one_call_and_its_result_a_table(world: Dataset) -> None:
    result = ablate(world, "kfold", ["boosted"], folds=[1], members=["biases", "svd"])
    frame = result.to_frame()
    assert frame.columns.tolist() == ["component", "metric", "kind", "gain", "low", "high"]
    assert set(frame["component"]) == {"boosted"}
    assert repr(result).startswith("<AblationResult: world (synthetic data), protocol kfold, boosted: rmse ")
    assert "<td>boosted</td>" in result._repr_html_()


def test_components_that_are_not_switched_stay_in(
    fold: Fold, protocol: Protocol, variants: dict[frozenset[str], Variant]
) -> None:
    row = run(protocol, components=("boosted",)).subset([])
    assert row.rmse == pytest.approx(rmse(fold, variants[frozenset(SWITCHED) - {"boosted"}]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": ("bosted",)}, "did you mean 'boosted'"),
        ({"components": ("llm",)}, "needs recorded LLM ratings"),
        ({"components": ("factorization",)}, "none of its members"),
        ({"members": ("svd",)}, "'biases' answers where all components are left out"),
        ({"members": ("biases", "sdv")}, "there is no member 'sdv'"),
    ],
)
def test_what_cannot_be_switched_is_refused(
    protocol: Protocol, settings: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        ablate(protocol.dataset, protocol, **{"members": ("biases",), **settings})  # type: ignore[arg-type]  # names of settings


def test_a_fold_without_recorded_pairs_is_refused(protocol: Protocol) -> None:
    nobody = RecordedRatings(np.array(["nobody"], dtype=object), np.array(["nothing"], dtype=object), np.array([3.0]))
    with pytest.raises(SettingsError, match=r"fold 1: no held-out pair has an LLM rating.*--folds"):
        run(protocol, nobody)


def test_whole_items_are_resampled_where_items_are_held_out(world: Dataset) -> None:
    protocol = make_protocol("cold-items", world, folds=[1, 2])
    switched, members = ["neighbours", "combiner"], ["biases", "svd"]
    report = ablate(world, protocol, switched, members=members, n_boot=100)
    held = {item for fold in protocol.folds() for item in fold.held_out.item.tolist()}
    assert (report.groups, report.n_groups, report.folds) == ("items", len(held), "1, 2")
    by_fold = [row.rmse for row in report.fold_results if row.components == ("neighbours",)]
    assert len(by_fold) == 2
    assert report.subset(["neighbours"]).rmse == pytest.approx(np.mean(by_fold))


def test_the_report_is_strict_json(report: AblationResult, tmp_path: Path) -> None:
    write_ablation(replace(report, n_boot=0, level=float("nan")), tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (content["kind"], content["level"]) == ("ablation", None)
    assert content["subsets"][0]["components"] == []
    assert len(content["subsets"]) == 64 + 32
    assert {row["component"] for row in content["costs"]} >= {"base", "neighbours", "llm", "boosted", "calibration"}
    assert all(row["seconds_fit"] >= 0 for row in content["costs"])


def test_real_data_with_its_cold_items_is_answered_as_the_simulator_does(
    ml100k_fold: Callable[[int, str], tuple[Dataset, Dataset]],
) -> None:
    """150 users of MovieLens 100K, fold 1, last 40 ratings: some held-out items were never rated (two regimes answer),
    and some expectations lie beyond the scale."""
    train, held_out = (part.take(part.user < 150) for part in ml100k_fold(1, "A"))
    assert (train.item_counts[held_out.item] == 0).any()
    members = ("biases",)
    answers = gather(Fold(1, train, held_out), members, embedder=TfidfSVD(), n_jobs=2)
    assert (np.abs(answers.test.means[:, :, 0] - 3) > 2).any()
    found = {one.components: one for one in each_variant(answers, ["calibration"], 0, 2, lambda variant: variant)}
    expected = Simulator(0, members, TfidfSVD(), 2).fit(train).predict_pairs(held_out.pairs).distribution.probs
    np.testing.assert_array_equal(found[frozenset({"calibration"})].distribution.probs, expected)


def command(*words: str) -> int:
    """`hybrid-sim` with this one command."""
    options = parse(words)
    options.command = ["hybrid-sim", *words]
    status: int = options.run(options)
    return status


def write_recorded(path: Path, recording: RecordedRatings) -> None:
    columns = {"user_id": recording.user_ids, "item_id": recording.item_ids, "rating": recording.ratings}
    pd.DataFrame(columns).to_csv(path, index=False)


@pytest.fixture
def own_files(world: Dataset, tmp_path: Path) -> list[str]:
    """Options that name a table of ratings and a table of LLM ratings."""
    rating_table(world).to_csv(tmp_path / "ratings.csv", index=False)
    write_recorded(tmp_path / "llm.csv", recorded(world, 1.0))
    names = {"--ratings": "ratings.csv", "--llm-ratings": "llm.csv", "--json": "out.json"}
    return [word for option, name in names.items() for word in (option, str(tmp_path / name))]


def test_the_command_prints_tables_and_writes_json(
    own_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--members", "biases,svd", "--components", "llm,neighbours", "--protocol", "kfold", "--folds", "1"]
    assert command("ablate", *own_files, *few) == 0
    shown = capsys.readouterr().out
    for expected in ("protocol kfold, mean over folds 1", "llm - llm_shuffled", "all without neighbours", "RMSE (raw)"):
        assert expected in shown
    content = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in content["components"] if row["present"]] == ["neighbours", "llm"]
    assert len(content["subsets"]) == 4 + 2
    assert content["provenance"]["command"].startswith("hybrid-sim ablate")
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()


def test_the_command_leaves_profiles_out_of_recorded_ratings(
    world: Dataset, own_files: list[str], tmp_path: Path
) -> None:
    write_recorded(tmp_path / "without.csv", recorded(world, 2.5))
    words = ["--members", "biases", "--components", "llm,profile", "--protocol", "kfold", "--folds", "1"]
    assert command("ablate", *own_files, *words, "--llm-ratings-without-profile", str(tmp_path / "without.csv")) == 0
    subsets = json.loads((tmp_path / "out.json").read_text())["subsets"]
    rmse = {tuple(row["components"]): row["rmse"] for row in subsets if not row["control"]}
    assert rmse["profile", "llm"] < rmse["llm",]
    assert rmse["profile",] == rmse[()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--without", "boosted"], "there is no option '--without'"),
        (["--components", "neighbour"], "did you mean 'neighbours'"),
        (["--protocol", "last4"], "did you mean 'last40'"),
        (["--component", "llm"], "did you mean '--components'"),
        (["--json", "no/such/folder/out.json"], "name a file in a folder that exists"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(own_files: list[str], words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        command("ablate", *own_files, "--protocol", "kfold", *words)


def test_names_of_components_are_those_of_the_design() -> None:
    assert set(components()) == {*members_of(), *STEPS, "llm", "profile"}
