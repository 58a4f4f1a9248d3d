"""Validation on the synthetic world, whose law is known: the law itself passes, what is bad on purpose is caught."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Section
from hybrid_sim.core.errors import DataError, InputError, SettingsError
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.world import World, make_world
from hybrid_sim.evaluation.bootstrap import Interval, Resampler
from hybrid_sim.evaluation.metrics import calibration_error
from hybrid_sim.evaluation.protocols import Fold, Protocol
from hybrid_sim.evaluation.splits import kfold
from hybrid_sim.evaluation.validity.accuracy import calibration
from hybrid_sim.evaluation.validity.discrimination import discrimination, signal
from hybrid_sim.evaluation.validity.groups import drift, groups
from hybrid_sim.evaluation.validity.inputs import Answers, SimulatorOutput, ValidationData
from hybrid_sim.evaluation.validity.recommenders import kendall
from hybrid_sim.evaluation.validity.references import NEGATIVE_CONTROLS, negative_control
from hybrid_sim.evaluation.validity.report import ValidityReport, validity_text, write_validity
from hybrid_sim.evaluation.validity.validate import validate_data, validation_data
from hybrid_sim.evaluation.validity.verdicts import RULES, judge
from hybrid_sim.models.biases import Biases
from hybrid_sim.report.results import read_validity
from hybrid_sim.retrieval.embedder import TfidfSVD


@dataclass
class Law:
    """The true distributions of a world as they are in the middle of its time."""

    world: World

    def fit(self, dataset: Dataset) -> Self:
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        times = self.world.dataset.timestamp
        assert times is not None
        return self.world.distribution(pairs, np.full(len(pairs), int(np.median(times))))


def subject_of(rater: Law, held_out: Dataset, name: str = "the law") -> SimulatorOutput:
    distribution = rater.rate(held_out.pairs)
    return SimulatorOutput(name, distribution, distribution.sample(np.random.default_rng(1)), rater=rater)


def trial_on(world: World) -> ValidationData:
    split = kfold(world.dataset, 3, seed=1)[0]
    train, held_out = world.dataset.take(split.train_rows), world.dataset.take(split.test_rows)
    answers = Answers(subject_of(Law(world), held_out), held_out)
    embedder = TfidfSVD().fit(item_texts(train))
    return validation_data(Fold(1, train, held_out), answers, Protocol("kfold", world.dataset, ()), embedder)


@pytest.fixture(scope="module", params=[1, 2])
def data(request: pytest.FixtureRequest) -> ValidationData:
    """Two worlds, and the law of each as the simulator."""
    return trial_on(make_world(seed=request.param))


def states(report: ValidityReport) -> dict[str, str]:
    return {verdict.name: verdict.state for verdict in report.verdicts}


def test_the_law_of_the_world_fails_no_verdict_and_passes_all_that_have_enough_ratings(data: ValidationData) -> None:
    found = states(validate_data(data, "kfold", "1"))
    assert [name for name, state in found.items() if state == "fail"] == []
    unknown = {name for name, state in found.items() if state == "unknown"}
    assert {"coverage", "above-members", "contamination"} <= unknown
    assert unknown <= {"coverage", "above-members", "contamination", "groups", "drift"}  # these need more ratings
    assert set(found) == set(RULES)


@pytest.mark.parametrize(
    ("name", "caught_by"),
    [
        ("constant", {"accuracy", "information", "histogram", "spread", "heterogeneity", "personal-signal", "ranking"}),
        ("users-shuffled", {"accuracy", "information", "calibration", "user-histograms", "personal-signal"}),
        ("item-mean", {"accuracy", "heterogeneity", "personal-signal", "discrimination"}),
        ("over-positive", {"calibration", "bias", "histogram", "groups"}),
    ],
)
def test_planted_bad_simulators_are_caught(data: ValidationData, name: str, caught_by: set[str]) -> None:
    honest = data.simulator.rater
    assert honest is not None
    bad = negative_control(name, honest, data.train, data.held_out)
    report = validate_data(replace(data, simulator=bad), "kfold", "1")
    failed = {verdict for verdict, state in states(report).items() if state == "fail"}
    assert caught_by <= failed
    assert "fail (" in report.summary
    assert NEGATIVE_CONTROLS[name] in report.notes[0]


def test_there_is_no_other_planted_simulator(data: ValidationData) -> None:
    with pytest.raises(SettingsError, match="no planted simulator 'bad'; choose one of constant"):
        negative_control("bad", Law(make_world(seed=1)), data.train, data.held_out)


def test_rounded_expectations_lose_spread_and_are_caught(data: ValidationData) -> None:
    mean = data.held_out.scale.round(data.simulator.distribution.mean())
    rounded = replace(data.simulator, drawn=mean)
    found = states(validate_data(replace(data, simulator=rounded), "kfold", "1"))
    assert found["spread"] == "fail"
    assert found["accuracy"] == "pass"


def test_a_simulator_that_is_unfair_to_one_group_is_caught(data: ValidationData) -> None:
    women = (data.held_out.users["gender"] == "F").to_numpy()[data.held_out.user]
    honest = data.simulator.distribution
    unfair = honest.tilted_to(honest.mean() + np.where(women, 0.3, -0.3))
    section = groups(replace(data, simulator=replace(data.simulator, distribution=unfair)))
    assert section.verdicts[0].state == "fail"
    assert groups(data).verdicts[0].state != "fail"
    shown = {str(row[1]): row[-3:] for row in section.tables[0].rows}
    assert [column.name for column in section.tables[0].columns[-3:]] == ["bias", "low", "high"]
    assert shown["gender: F"][0] == pytest.approx(0.3, abs=0.12)
    (verdict,) = section.verdicts
    (worst,) = [values for group, values in shown.items() if f" {group} is worst off" in verdict.sentence]
    assert (verdict.value, verdict.low, verdict.high) == worst  # the verdict is on what the chart and table show


def test_the_calibration_error_beyond_chance_has_an_interval_that_holds_zero_for_the_law(data: ValidationData) -> None:
    section = calibration(data)
    verdict = section.verdicts[0]
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < 0.002 < verdict.high + 0.002
    error = calibration_error(data.truth, data.simulator.distribution)
    assert f"calibration error is {error:.4f}" in section.finding


def test_a_simulator_that_drifts_is_caught(data: ValidationData) -> None:
    times = data.held_out.timestamp
    assert times is not None
    late = (times - times.min()) / np.ptp(times)
    honest = data.simulator.distribution
    drifting = honest.tilted_to(honest.mean() + 0.8 * (late - 0.5))
    assert drift(data).verdicts[0].state != "fail"
    assert drift(replace(data, simulator=replace(data.simulator, distribution=drifting))).verdicts[0].state == "fail"


def test_data_without_times_cannot_tell_of_drift(data: ValidationData) -> None:
    section = drift(replace(data, held_out=replace(data.held_out, timestamp=None)))
    assert section.verdicts[0].state == "unknown"
    assert "No times" in section.finding


def test_personal_signal_is_the_partial_correlation(data: ValidationData) -> None:
    section = signal(data)
    biases = Biases().fit(data.train)
    given = np.column_stack(
        [
            np.ones(len(data.truth)),
            biases.user_bias_[data.held_out.user],
            biases.item_bias_[data.held_out.item],
        ]
    )
    left = [y - given @ np.linalg.lstsq(given, y, rcond=None)[0] for y in (data.truth, data.simulator.expected())]
    assert section.tables[0].rows[0][1] == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-6)


def test_a_prediction_from_means_alone_has_no_personal_signal(data: ValidationData) -> None:
    means = Biases().fit(data.train).rate(data.held_out.pairs)
    expected = Biases().fit(data.train).expect(data.held_out.pairs)
    section = signal(replace(data, simulator=replace(data.simulator, distribution=means, members={"means": expected})))
    assert section.tables[0].rows[1][1] == 0.0
    assert section.verdicts[0].state == "fail"


def test_picks_agree_with_counting_all_ways_to_draw_the_others() -> None:
    world = make_world(seed=5, n_users=12, n_items=40, ratings_per_user=18)
    data = replace(trial_on(world), seed=3)
    table = discrimination(replace(data, simulator=replace(data.simulator, rater=None))).tables[0]
    score, truth, user = data.simulator.expected(), data.truth, data.held_out.user
    for n in (1, 2, 3):
        rights = []
        for row in np.flatnonzero(truth >= 4):
            bad = score[(user == user[row]) & (truth <= 2)]
            draws = [max(others) < score[row] for others in combinations(bad, n)]
            rights += [float(np.mean(draws))] if draws else []
        found = next(row for row in table.rows if row[1] == f"1:{n}")
        assert found[2] == len(rights)
        assert found[3] == pytest.approx(np.mean(rights))


def test_kendall_is_tau_b() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=(6, 12)).astype(float), rng.integers(5, size=(6, 12)).astype(float)
    assert kendall(a, b) == pytest.approx([kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert np.isnan(kendall(a[:1], np.ones((1, 12))))[0]


def test_intervals_hold_the_truth_as_often_as_they_promise() -> None:
    rng = np.random.default_rng(7)
    group = np.repeat(np.arange(60), 8)
    held = 0
    for seed in range(200):
        column = rng.normal(0.0, 1.0, 60)[group] + rng.normal(0.0, 1.0, len(group))
        found = Resampler(group, 60, seed, n_boot=300).mean(column, group)
        held += found.low <= 0.0 <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_the_first_row_of_sums_is_the_data_and_absent_groups_are_never_drawn() -> None:
    group = np.array([3, 3, 7])
    resampler = Resampler(group, 10, n_boot=50)
    assert resampler.sums(np.array([[1.0], [2.0], [4.0]]), group)[0] == pytest.approx([7.0])
    assert (resampler.weights[:, [0, 1, 2, 4, 5, 6, 8, 9]] == 0).all()
    assert (resampler.weights[1:].sum(axis=1) == 2).all()


@pytest.mark.parametrize(
    ("rule", "low", "high", "state"),
    [
        ("accuracy", -0.06, -0.02, "pass"),
        ("accuracy", -0.06, 0.02, "unknown"),
        ("accuracy", 0.0, 0.06, "fail"),  # equal is not better
        ("accuracy", 0.0, 0.0, "fail"),
        ("discrimination", 0.01, 0.2, "pass"),
        ("discrimination", -0.05, 0.2, "unknown"),
        ("discrimination", -0.05, 0.0, "fail"),
        ("bias", -0.09, 0.09, "pass"),
        ("bias", 0.02, 0.14, "unknown"),
        ("bias", -0.3, 0.3, "unknown"),
        ("bias", -0.2, -0.1, "fail"),
        ("bias", 0.1, 0.2, "fail"),
        ("bias", np.nan, np.nan, "unknown"),
    ],
)
def test_a_verdict_is_where_its_interval_lies(rule: str, low: float, high: float, state: str) -> None:
    """One rule for all: where the estimate lies makes no difference, and a value without an interval never passes."""
    for estimate in (low, high, float("nan")):
        verdict = judge(rule, Interval(estimate, low, high, 0.95), RatingScale((1, 2, 3, 4, 5)))
        assert verdict.state == state


def test_thresholds_in_rating_units_are_a_part_of_the_scale_and_have_a_reason_and_a_unit() -> None:
    shift = Interval(0.5, 0.4, 0.6, 0.95)
    narrow, wide = (judge("bias", shift, RatingScale(levels)) for levels in ((1, 2, 3, 4, 5), (0, 25, 50, 75, 100)))
    assert (narrow.state, narrow.limit) == ("fail", "within ±0.1")
    assert (wide.state, wide.limit) == ("pass", "within ±2.5")
    assert judge("coverage", shift, RatingScale((1, 2))).limit == "at least 0.87"
    for rule in RULES.values():
        assert all((rule.reason, rule.measure, rule.unit))
        assert "ensemble has" not in rule.reason


def test_of_a_few_users_nothing_is_told(data: ValidationData) -> None:
    few = data.held_out.user < 5
    answers = data.simulator
    simulator = replace(
        answers, distribution=answers.distribution.take(few), drawn=answers.drawn[few], low=None, high=None
    )
    rows = {name: distribution.take(few) for name, distribution in data.baselines.items()}
    scores = {name: column[few] for name, column in data.recommenders.items()}
    of_few = replace(data, held_out=data.held_out.take(few), simulator=simulator, baselines=rows, recommenders=scores)
    report = validate_data(of_few, "kfold", "1")
    assert set(states(report).values()) == {"unknown"}
    assert "5 users have held-out ratings, at least 30 are needed" in report.verdicts[0].sentence


def test_a_table_of_ratings_is_judged_by_what_it_can_tell(data: ValidationData) -> None:
    drawn = data.simulator.drawn
    probs = np.eye(5)[data.held_out.scale.index(drawn)]
    table = SimulatorOutput(
        "a table", RatingDistribution(data.held_out.scale, probs), drawn, has_distributions=False, rater=None
    )
    found = states(validate_data(replace(data, simulator=table), "kfold", "1"))
    assert [name for name, state in found.items() if state == "fail"] == []
    assert {"information", "calibration"} <= {name for name, state in found.items() if state == "unknown"}
    assert found["accuracy"] == "pass"  # against drawn ratings of the baselines, not their means


def test_an_answer_must_be_there_for_every_held_out_rating(data: ValidationData) -> None:
    probs = data.simulator.distribution.probs.copy()
    probs[3] = np.nan
    silent = replace(data.simulator, distribution=RatingDistribution(data.held_out.scale, probs))
    with pytest.raises(InputError, match=r"answers \d+ of \d+ held-out pairs; it must answer all"):
        replace(data, simulator=silent)
    with pytest.raises(InputError, match="no held-out ratings"):
        replace(data, held_out=data.held_out.take(np.zeros(len(data.held_out), dtype=bool)))


def test_the_report_is_strict_json_and_comes_back_as_it_was(data: ValidationData, tmp_path: Path) -> None:
    report = validate_data(data, "kfold", "1")
    write_validity(report, tmp_path / "report.json")
    assert read_validity(tmp_path / "report.json") == report
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["kind"], content["synthetic"]) == ("validity", True)
    for damaged, message in (
        ("{", "is not JSON"),
        ('{"kind": "bench"}', "is no validity result"),
        ('{"kind": "validity", "format": 1}', "is no validity result"),
        ('{"kind": "validity", "format": 2}', "title: Field required"),
        (json.dumps({**content, "sections": [3]}), r"sections\.0: Input should be"),
    ):
        (tmp_path / "report.json").write_text(damaged)
        with pytest.raises(DataError, match=message):
            read_validity(tmp_path / "report.json")


def check_section(section: Section) -> None:
    """Charts name columns that are there, rows fit their columns, and no cell is NaN."""
    tables = {table.name: table for table in section.tables}
    for table in section.tables:
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert not any(isinstance(cell, float) and not np.isfinite(cell) for cell in row)
    for chart in section.charts:
        names = {column.name for column in tables[chart.table].columns}
        used = {chart.x, *chart.y, chart.low, chart.high, chart.series, chart.label} - {None}
        assert used <= names


def test_what_a_page_needs_is_there(data: ValidationData) -> None:
    report = validate_data(data, "kfold", "1")
    for section in report.sections:
        check_section(section)
        assert section.finding.endswith(".")
    names = [table.name for section in report.sections for table in section.tables]
    assert len(names) == len(set(names))
    text = validity_text(report)
    assert "(synthetic data)" in text
    lines = [line.split() for line in text.split("\n")]
    marks = [line[1] for line in lines if len(line) > 2 and line[0] in RULES and line[1] in ("FAIL", "?", "pass")]
    assert len(marks) == len(RULES)
    assert marks == sorted(marks, key=["FAIL", "?", "pass"].index)  # failures first
    for section in report.sections:
        for verdict in section.verdicts:
            if verdict.value is not None:  # the number stands in the table alone
                assert f"{verdict.value:.3f}" not in verdict.sentence + section.finding
    assert max(map(len, validity_text(report, 80).split("\n"))) <= 84


def test_no_two_groups_share_a_name(data: ValidationData) -> None:
    section = groups(
        replace(
            data, held_out=replace(data.held_out, users=data.held_out.users.assign(gender="none", occupation="none"))
        )
    )
    names = section.tables[0].column("group")
    assert {"gender: none", "occupation: none"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("levels", [(1.0, 2.0, 3.0, 4.0, 5.0), (0.0, 25.0, 50.0, 75.0, 100.0)])
def test_verdicts_do_not_depend_on_the_numbers_of_the_scale(levels: tuple[float, ...]) -> None:
    world = make_world(seed=4, n_users=150, n_items=200, ratings_per_user=40)
    data = trial_on(world)
    stretched = np.array(levels)

    def on_scale(ratings: FloatArray) -> FloatArray:
        return np.asarray(stretched[(ratings - 1).astype(int)])

    scale = replace(data.held_out.scale, levels=levels)
    train, held_out = (replace(d, scale=scale, rating=on_scale(d.rating)) for d in (data.train, data.held_out))
    subject = replace(
        data.simulator,
        distribution=RatingDistribution(scale, data.simulator.distribution.probs),
        drawn=on_scale(data.simulator.drawn),
        rater=None,
    )
    references = {name: RatingDistribution(scale, d.probs) for name, d in data.baselines.items()}
    other = replace(data, train=train, held_out=held_out, simulator=subject, baselines=references)
    plain = validate_data(replace(data, simulator=replace(data.simulator, rater=None)), "kfold", "1")
    assert states(validate_data(other, "kfold", "1")) == states(plain)


def test_few_ratings_make_unknown_verdicts_and_no_crash() -> None:
    world = make_world(seed=6, n_users=4, n_items=12, ratings_per_user=6)
    bare = replace(world.dataset, users=pd.DataFrame(index=world.dataset.users.index))
    data = trial_on(replace(world, dataset=bare))
    found = states(validate_data(data, "kfold", "1"))
    assert found["groups"] == found["ranking"] == "unknown"
