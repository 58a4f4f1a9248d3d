"""`hybrid-sim compare`: differences of two runs or two benchmarks, with intervals, and nothing that is equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages_checks import PageReader

from hybrid_sim.cli import main
from hybrid_sim.evaluation.compare import compare_runs
from hybrid_sim.simulation.run_folder import read_run, read_truth

RESULTS = Path(__file__).parents[1] / "experiments" / "results"
USERS, ITEMS = 40, 25

Write = Callable[..., Path]


def table(noise: float, seed: int = 0) -> pd.DataFrame:
    """Made-up answers about made-up pairs: distributions around a truth, the further away the more noise."""
    rng, levels = np.random.default_rng(seed), np.arange(1.0, 6.0)
    truth = np.random.default_rng(99).uniform(1.5, 4.5, USERS * ITEMS)
    weights = np.exp(-((levels - (truth + rng.normal(0, noise, len(truth)))[:, None]) ** 2))
    probs = weights / weights.sum(axis=1, keepdims=True)
    return pd.DataFrame(
        {
            "user_id": np.repeat([f"u{n}" for n in range(USERS)], ITEMS),
            "item_id": np.tile([f"i{n}" for n in range(ITEMS)], USERS),
            "rating": levels[(probs.cumsum(axis=1) < rng.random((len(truth), 1))).sum(axis=1).clip(0, 4)],
            "mean": probs @ levels,
            "sd": 1.0,
            **{f"p_{k + 1}": probs[:, k] for k in range(5)},
            "low": 1.0,
            "high": 5.0,
            "source": "stat",
            "real": np.round(truth).clip(1, 5),
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a run folder; gives its path."""

    def folder(name: str, frame: pd.DataFrame, **about: object) -> Path:
        path = tmp_path / name
        path.mkdir()
        frame.drop(columns="real").to_csv(path / "ratings.csv", index=False)
        (path / "run.json").write_text(json.dumps(about))
        return path

    return folder


def truth_of(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "truth.csv"
    frame[["user_id", "item_id", "real"]].rename(columns={"real": "rating"}).to_csv(path, index=False)
    return path


def test_a_better_run_is_told_from_a_worse_one_by_the_same_rows(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = table(0.1), table(1.0, seed=1)
    a, b = write("a", good, settings={"seed": 1}), write("b", bad.sample(frac=1, random_state=0), settings={"seed": 2})
    truth = truth_of(good, tmp_path)
    out = ["--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html")]
    assert main(["compare", str(a), str(b), "--truth", str(truth), *out]) == 0
    said = capsys.readouterr().out
    content = json.loads((tmp_path / "c.json").read_text())
    rows = {row["measure"]: row for row in content["differences"]}
    wanted = [float(np.sqrt(((frame["mean"] - frame["real"]) ** 2).mean())) for frame in (good, bad)]
    raw = rows["RMSE, raw"]
    assert [raw["a"], raw["b"], raw["difference"]] == pytest.approx([*wanted, wanted[0] - wanted[1]])
    assert raw["low"] < raw["difference"] < raw["high"] < 0
    assert rows["share of pairs drawn differently"]["difference"] == pytest.approx(
        (good["rating"] != bad["rating"]).mean()
    )
    assert content["settings"] == [["settings.seed", "1", "2"]]
    assert "settings.seed: 1 | 2" in said
    assert "95% intervals by paired bootstrap over 40 users" in said
    read = PageReader((tmp_path / "c.html").read_text())
    assert f"{raw['a']:.3f} {raw['b']:.3f} {raw['difference']:+.3f}" in read.text
    wanted_sentence = f"A predicts the real ratings better: A's RMSE minus B's is {raw['difference']:+.3f} ["
    assert wanted_sentence in said
    assert wanted_sentence in read.text
    assert "Distances between A and B" in read.text
    assert main(["compare", str(b), str(a), "--truth", str(truth), *out[:2]]) == 0
    turned = {row["measure"]: row for row in json.loads((tmp_path / "c.json").read_text())["differences"]}
    assert turned["RMSE, raw"]["difference"] == pytest.approx(-raw["difference"])


def test_what_is_equal_is_not_listed(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write("a", table(0.1), settings={"seed": 1}), write("b", table(0.1), settings={"seed": 1})
    assert main(["compare", str(a), str(b)]) == 0
    said = capsys.readouterr().out
    assert "The two are equal in every figure." in said
    assert "No setting differs." in said
    assert "1,000 of 1,000 pairs have the same distribution in both." in said


def test_what_a_language_model_took_is_shown_in_units_that_people_use(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = {"calls": 4790, "money": 1_250_000_000, "seconds": 10.548694431003241}
    a, b = write("a", table(0.1), ledger=ledger), write("b", table(0.1))
    assert main(["compare", str(a), str(b)]) == 0
    said = capsys.readouterr().out
    for line in ("calls: 4,790 |", "money: $1.25 |", "seconds: 11 s |"):
        assert f"language model: {line}" in said


def test_only_pairs_that_both_have_are_compared(write: Write, tmp_path: Path) -> None:
    frame = table(0.1)
    a, b = read_run(write("a", frame[:600])), read_run(write("b", frame[400:]))
    found = compare_runs(a, b, ("a", "b"), n_boot=50)
    assert "200 pairs of 8 users" in found.about
    assert found.notes[0] == "Intervals over 8 users are too narrow to be believed; at least 30 users are needed."
    assert "400 of a, 400 of b" in found.notes[-1]
    truth = truth_of(frame[:420], tmp_path)
    with_truth = compare_runs(a, b, ("a", "b"), (read_truth(truth, a), read_truth(truth, b)), n_boot=50)
    assert with_truth.differences == ()
    assert "RMSE, raw" in with_truth.notes[2]


def test_two_benchmarks_are_compared_where_they_share_model_and_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = RESULTS / "world.json"
    content = json.loads(first.read_text())
    for row in [*content["intervals"], *content["results"]]:
        if row["model"] == "knn":
            row.update({key: row[key] + 0.1 for key in ("estimate", "low", "high", "mae") if key in row})
        row["model"] = row["model"].replace("nmf", "new")
    content["provenance"]["data_hash"] = "other"
    second = tmp_path / "b.json"
    second.write_text(json.dumps(content))
    assert main(["compare", str(second), str(first), "--json", str(tmp_path / "c.json")]) == 0
    said = capsys.readouterr().out
    rows = json.loads((tmp_path / "c.json").read_text())["differences"]
    assert [(row["measure"].split(":")[0], row["basis"]) for row in rows] == [("RMSE, raw", "stored"), ("mae", "folds")]
    assert rows[0]["difference"] == pytest.approx(0.1)
    stored = next(row for row in json.loads(first.read_text())["intervals"] if row["model"] == "knn")
    half = float(np.hypot(stored["estimate"] - stored["low"], stored["high"] - stored["estimate"]))
    assert rows[0]["low"] == pytest.approx(0.1 - half)
    assert "not paired" in said
    assert "The data differ" in said
    assert f"Only in {second}: new." in said
    assert main(["compare", str(first), str(first)]) == 0
    assert "The two are equal in every figure." in capsys.readouterr().out


def test_neither_a_distance_nor_an_interval_of_few_users_is_a_finding(write: Write, tmp_path: Path) -> None:
    """Equally good runs that differ: only their distances, which cannot be negative, exclude zero."""
    frames = [table(0.4, seed) for seed in (1, 2)]
    a, b = (read_run(write(name, frame)) for name, frame in zip("ab", frames, strict=True))
    plain = compare_runs(a, b, ("a", "b"), n_boot=200)
    distances = [row for row in plain.differences if row.a is None]
    assert [row.measure for row in distances] == [
        "distance of the expected ratings",
        "share of pairs drawn differently",
    ]
    assert all((row.low or 0) > 0 and not row.is_clear for row in distances)
    assert "only real ratings can tell" in plain.conclusion
    file = truth_of(frames[0], tmp_path)
    judged = compare_runs(a, b, ("a", "b"), (read_truth(file, a), read_truth(file, b)), n_boot=200)
    assert judged.conclusion.startswith("Real ratings do not tell the two apart")
    worse = read_run(write("worse", table(2.0, 3)[:500]))
    few = compare_runs(a, worse, ("a", "worse"), (read_truth(file, a), read_truth(file, worse)), n_boot=200)
    assert few.conclusion.startswith("20 users are too few to say which is better")


def test_what_cannot_be_compared_is_refused(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(said: str, *words: object) -> None:
        assert main(["compare", *map(str, words)]) == 2
        assert said in capsys.readouterr().err

    frame = table(0.1)
    a, other = write("a", frame), write("other", frame.assign(user_id="x" + frame["user_id"]))
    halves = write("halves", frame.rename(columns={f"p_{k}": f"p_{k / 2:g}" for k in range(1, 6)}).assign(rating=1.0))
    bench, cold = RESULTS / "ml-100k-last40.json", RESULTS / "ml-100k-cold-items.json"
    refused("not one of each", a, bench)
    refused("have no pair in common", a, other)
    refused("different rating scales", a, halves)
    refused("no protocol and model on the same folds in common", bench, cold)
    refused("--truth belongs to run folders", bench, bench, "--truth", tmp_path / "t.csv")
    refused("would replace what it is made from", bench, cold, "--json", cold)
    refused("holds no ratings.csv", a, tmp_path)
    refused("is no bench result", bench, RESULTS / "compare_myfm.json")
