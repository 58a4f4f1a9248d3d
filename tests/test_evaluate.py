"""Records, table, JSON and figure of a benchmark on a small made-up data set."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import InputError, SettingsError, StorageError
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.types import FloatArray, RatingDistribution, RatingScale
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bench import Benchmark
from hybrid_sim.evaluation.bench_report import BenchResult, table_text, write_json
from hybrid_sim.evaluation.protocols import Fold, make_protocol
from hybrid_sim.evaluation.scores import (
    Losses,
    Predictions,
    ResultRow,
    compare,
    rmse_interval,
    row_losses,
    score,
    score_by_support,
)
from hybrid_sim.report.bench import save_rmse_figure

SCALE = RatingScale((1, 2, 3, 4, 5))


def dataset(n: int = 400, seed: int = 0, synthetic: bool = True) -> Dataset:
    rng = np.random.default_rng(seed)
    users = pd.DataFrame(index=pd.Index([f"u{i}" for i in range(30)], dtype=object))
    items = pd.DataFrame(index=pd.Index([f"i{i}" for i in range(50)], dtype=object))
    rating = rng.choice(SCALE.values, size=n, p=[0.06, 0.11, 0.27, 0.34, 0.22])
    user, item = rng.integers(30, size=n), rng.integers(50, size=n)
    return Dataset("tiny", SCALE, users, items, user, item, rating, synthetic=synthetic)


def opinion(held_out: Dataset, noise: float, seed: int = 1) -> RatingDistribution:
    rng = np.random.default_rng(seed)
    return RatingDistribution.from_mean(SCALE, held_out.rating + rng.normal(0, noise, len(held_out)), 0.8)


def constant(held_out: Dataset) -> RatingDistribution:
    return RatingDistribution.from_mean(SCALE, np.full(len(held_out), 3.5), 1.0)


def ends(distribution: RatingDistribution) -> tuple[FloatArray, FloatArray]:
    at = np.ones(len(distribution))
    return distribution.quantile(0.05 * at), distribution.quantile(0.95 * at)


def report(synthetic: bool = True, models: tuple[str, ...] = ("close", "far", "flat")) -> BenchResult:
    results: list[ResultRow] = []
    losses: dict[str, list[Losses]] = {model: [] for model in models}
    support = []
    for fold in (1, 2):
        held_out = dataset(seed=fold, synthetic=synthetic)
        opinions = (opinion(held_out, 0.5), opinion(held_out, 1.0), constant(held_out))
        for model, distribution in zip(models, opinions, strict=True):
            low, high = ends(distribution)
            predicted = Predictions(model, held_out, distribution, low, high, "last40", fold, seconds=1.25)
            results.append(score(predicted))
            losses[model].append(row_losses(predicted))
            support += score_by_support(predicted, np.arange(len(held_out)) % 25)
    command = ["hybrid-sim", "bench"]
    return BenchResult(
        provenance(command, 7, dataset(synthetic=synthetic), "tf-idf"),
        results,
        [rmse_interval(parts) for parts in losses.values()],
        [compare(losses[models[0]], losses[other]) for other in models[1:]],
        support,
    )


def test_score_is_the_measures_of_the_expected_rating_and_of_a_sample() -> None:
    held_out = dataset()
    distribution = opinion(held_out, 0.7)
    low, high = ends(distribution)
    predicted = Predictions("m", held_out, distribution, low, high, "full", 3, n_fallback=5)
    row = score(predicted)
    truth, expected = held_out.rating, distribution.mean()
    assert (row.model, row.protocol, row.fold, row.n, row.n_abstained, row.n_fallback) == (
        "m",
        "full",
        3,
        400,
        0,
        5,
    )
    assert row.scores["rmse"] == metrics.rmse(truth, expected)
    assert row.scores["rmse_rounded"] == metrics.rmse(truth, np.floor(expected + 0.5))
    assert row.scores["mae_rounded"] != row.scores["mae"]
    assert row.scores["log_loss"] == metrics.log_loss(truth, distribution)
    assert row.scores["coverage"] == metrics.interval_coverage(truth, low, high)
    assert row.scores["within_user_sd_real"] == metrics.within_user_sd(truth, held_out.user)
    assert 0 < row.scores["kl"] < 0.2
    assert row == score(replace(predicted))
    other = score(replace(predicted, low=None, high=None, seed=1))
    assert (other.scores["rmse"], other.scores["coverage"], other.scores["width"]) == (row.scores["rmse"], None, None)
    assert other.scores["kl"] != row.scores["kl"]


def test_the_order_of_rows_changes_no_figure() -> None:
    held_out = dataset()
    distribution = opinion(held_out, 0.7)
    order = np.random.default_rng(0).permutation(len(held_out))
    a = score(Predictions("m", held_out, distribution))
    b = score(Predictions("m", held_out.take(order), distribution.take(order)))
    for name in ("rmse", "pearson", "log_loss", "ece", "kl", "wasserstein", "within_user_sd"):
        assert a.scores[name] == pytest.approx(b.scores[name], abs=1e-12)


def test_rows_that_abstain_are_refused_or_counted() -> None:
    held_out = dataset()
    full = opinion(held_out, 0.7)
    probs = full.probs.copy()
    probs[[3, 8, 9]] = np.nan
    distribution = RatingDistribution(SCALE, probs)
    with pytest.raises(InputError, match=r"row 3 abstains \(3 of 400 rows\)"):
        score(Predictions("m", held_out, distribution))
    with pytest.raises(InputError, match="row 3 abstains"):
        row_losses(Predictions("m", held_out, distribution))
    low, high = np.where(distribution.answered, ends(full), np.nan)
    row = score(Predictions("m", held_out, distribution, low, high).answered())
    assert (row.n, row.n_abstained) == (397, 3)
    rest = np.flatnonzero(distribution.answered)
    assert row.scores["rmse"] == metrics.rmse(held_out.rating[rest], full.take(rest).mean())
    silent = RatingDistribution.abstain(SCALE, 400)
    with pytest.raises(InputError, match="nobody answered"):
        score(Predictions("m", held_out, silent).answered())


def test_a_model_that_abstains_ends_a_benchmark(tiny: Dataset) -> None:
    class Abstaining(Benchmark):
        def predictions(self, fold: Fold) -> Iterator[Predictions]:
            yield Predictions("biases", fold.held_out, RatingDistribution.abstain(tiny.scale, len(fold.held_out)))

    protocol = make_protocol("kfold", tiny, folds=[1])
    with pytest.raises(InputError, match="row 0 abstains"):
        Abstaining(("biases",)).run(protocol)


def test_scores_by_support_are_those_of_the_rows_in_the_bucket() -> None:
    held_out = dataset()
    distribution = opinion(held_out, 0.7)
    low, high = ends(distribution)
    counts = np.resize(np.array([0, 1, 5, 20, 6]), len(held_out))
    rows = score_by_support(Predictions("m", held_out, distribution, low, high), counts)
    assert [(row.support, row.n) for row in rows] == [("0", 80), ("1-5", 160), ("6-20", 160)]
    here = counts == 0
    assert rows[0].coverage == metrics.interval_coverage(held_out.rating[here], low[here], high[here])


def test_comparisons_agree_with_the_means_over_folds_of_the_rows() -> None:
    got = report()
    rmse = {
        model: np.mean([row.scores["rmse"] for row in got.results if row.model == model])
        for model in ("close", "far", "flat")
    }
    first, second = got.comparisons
    assert (first.a, first.b, first.fold, first.groups, first.n_groups) == (
        "close",
        "far",
        "1, 2",
        "users",
        30,
    )
    assert first.estimate == pytest.approx(rmse["close"] - rmse["far"])
    assert second.estimate == pytest.approx(rmse["close"] - rmse["flat"])
    assert first.low < first.estimate < first.high < 0
    assert [row.estimate for row in got.intervals] == pytest.approx(list(rmse.values()))


@pytest.mark.parametrize("metric", ["rmse", "mae", "log_loss", "rps"])
def test_every_metric_can_be_compared_over_items(metric: str) -> None:
    held_out = dataset()
    a, b = opinion(held_out, 0.5), constant(held_out)
    rows = [score(Predictions(name, held_out, d)) for name, d in (("a", a), ("b", b))]
    of_a, of_b = (row_losses(Predictions(name, held_out, d)) for name, d in (("a", a), ("b", b)))
    over_items = compare([of_a], [of_b], metric, "items", n_boot=200)
    assert over_items.estimate == pytest.approx(rows[0].scores[metric] - rows[1].scores[metric])
    assert (over_items.groups, over_items.n_groups) == ("items", 50)


def test_models_on_different_rows_are_not_compared() -> None:
    held_out = dataset()
    a = row_losses(Predictions("a", held_out, constant(held_out)))
    part = held_out.take(np.arange(300))
    b = row_losses(Predictions("b", part, constant(part)))
    with pytest.raises(InputError, match="a and b were not scored on the same rows"):
        compare([a], [b])
    with pytest.raises(InputError, match="a and a were not scored on the same rows"):
        compare([a], [a, a])


def test_provenance_says_how_to_make_it_again_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sentinel")
    command = [
        str(Path.home() / "bin" / "hybrid-sim"),
        "bench",
        f"--data={Path.home()}/ml",
        str(tmp_path / "out.json"),
    ]
    command += ["--base-url", "https://ann:sentinel@example.org/v1", f"file://{Path.home()}/x y"]
    data = dataset()
    got = provenance(command, 3, data, "all-MiniLM-L6-v2")
    assert got.command == "hybrid-sim bench --data=.../ml out.json --base-url https://example.org/v1 'file://~/x y'"
    assert "sentinel" not in repr(got)
    assert (got.seed, got.dataset, got.synthetic, got.data_hash) == (3, "tiny", True, data.digest)
    assert got.versions["numpy"] == np.__version__
    assert got.python == ".".join(map(str, sys.version_info[:3]))


def test_commit_is_that_of_the_repository_or_none() -> None:
    source = Path(metrics.__file__).parent
    git = ["git", "-C", str(source)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=False)
        expected = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, check=False, text=True
        ).stdout.strip()
        expected_commit = expected if tracked.returncode == 0 else None
    except OSError:
        expected_commit = None
    commit = provenance([], 0, dataset()).commit
    assert (commit and commit.removesuffix("-dirty")) == expected_commit


def test_provenance_does_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(["hybrid-sim"], 0, dataset()).commit is None


def test_table_shows_means_over_folds_and_what_is_undefined_or_not_asked() -> None:
    text = table_text(report())
    lines = text.splitlines()
    assert lines[0] == "tiny (synthetic data), protocol last40, mean over folds 1, 2, seed 7"
    got = report().results
    assert max(map(len, lines)) <= 100
    flat, _, effort, *_ = (line.split() for line in lines if line.startswith("flat"))
    assert flat[:3] == ["flat", "1,2", "800"]
    assert flat.count("undefined") == 2  # Pearson's correlation, raw and rounded
    assert effort == ["flat", "1,2", "0", "0", "1.2", "-"]  # seconds were measured, memory was not
    mean = np.mean([row.scores["rmse"] for row in got if row.model == "close"])
    assert f" {mean:.4f} " in next(line for line in lines if line.startswith("close"))
    assert "close - far" in text
    assert "30 users" in text
    assert [line.split()[1] for line in lines if line.startswith("far")][3:] == ["0", "1-5", "6-20", ">"]
    assert "synthetic" not in table_text(report(synthetic=False))


def test_table_escapes_what_a_screen_should_not_get() -> None:
    text = table_text(report(models=("\x1b[31mred", "‮abc", "\ud800")))
    assert r"\x1b[31mred" in text
    assert r"\u202eabc" in text
    assert r"\ud800" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_json_is_strict_and_has_the_promised_keys(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_json(report(), path)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(content) == {"provenance", "results", "intervals", "comparisons", "support", "notes"}
    row = content["results"][2]
    promised = "model protocol fold n rmse mae pearson rmse_rounded mae_rounded pearson_rounded log_loss rps ece"
    promised += " coverage width n_abstained kl wasserstein within_user_sd within_user_sd_real seconds peak_mb"
    assert set(promised.split()) <= set(row)
    assert "scores" not in row
    assert (row["model"], row["fold"], row["pearson"], row["peak_mb"]) == ("flat", 1, None, None)
    assert content["provenance"]["data_hash"] == dataset().digest
    keys = {"a", "b", "metric", "estimate", "low", "high", "groups", "n_groups", "fold"}
    assert keys <= set(content["comparisons"][0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_json_takes_numbers_of_numpy(tmp_path: Path) -> None:
    got = report()
    odd = replace(got.results[0], fold=np.int64(4), seconds=np.float32("inf"))  # type: ignore[arg-type]  # foreign
    write_json(replace(got, results=[odd]), tmp_path / "out.json")
    row = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["results"][0]
    assert (row["fold"], row["seconds"]) == (4, None)


def test_a_file_that_cannot_be_written_is_said_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing.out\.json: cannot be written .*name a file in a folder"):
        write_json(report(), tmp_path / "missing" / "out.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SettingsError, match="cannot be written"):
        write_json(report(), tmp_path / "folder.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk; it needs a process of its own."""
    pytest.importorskip("resource", reason="limits on file size exist on POSIX only")
    path = tmp_path / "out.json"
    path.write_text("old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from hybrid_sim.core.errors import StorageError\n"
        "from hybrid_sim.core.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_whole(Path(sys.argv[1]), b'x' * 5000)\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "out.json: cannot be written" in done.stdout
    assert "free some space" in done.stdout
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]
    assert StorageError.exit_code == 5


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".SVG", b"<?xml")])
def test_figure_is_written_in_the_format_of_its_suffix(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"rmse{suffix}"
    save_rmse_figure(report(), path)
    first = path.read_bytes()
    assert first.startswith(start)
    save_rmse_figure(report(), path)
    assert path.read_bytes() == first


def test_figure_says_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "rmse.svg"
    save_rmse_figure(report(models=("hybrid", r"$\no_formula$", "\x1b")), path)
    text = path.read_text(encoding="utf-8")
    for said in (
        "tiny (synthetic data), protocol last40, folds 1, 2",
        "95% intervals by bootstrap over users",
    ):
        assert said in text
    for model in ("hybrid", r"$\no_formula$", r"\x1b"):
        assert f">{model}</text>" in text
    save_rmse_figure(report(synthetic=False), path)
    assert "synthetic" not in path.read_text(encoding="utf-8")


def test_figure_refuses_what_it_cannot_draw(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"saved as \.png or \.svg"):
        save_rmse_figure(report(), tmp_path / "rmse.pdf")
    with pytest.raises(InputError, match="no RMSE intervals of protocol 'full'"):
        save_rmse_figure(report(), tmp_path / "rmse.png", protocol="full")
    alone = dataset().take(np.array([0]))
    losses = row_losses(Predictions("one", alone, constant(alone)))
    one = replace(report(), intervals=[rmse_interval([losses])])
    save_rmse_figure(one, tmp_path / "one.png")  # a single user has no interval, only a dot
    assert (tmp_path / "one.png").exists()
