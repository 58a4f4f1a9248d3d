"""`hybrid-sim report RESULT.json`: pages of benchmarks, ablations and validations say what the files say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pages_browser import Browser
from pages_checks import HOSTILE, PageReader

import hybrid_sim as hs
from hybrid_sim.cli import main
from hybrid_sim.core.document import Chart, Column, Section, Table, Verdict
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.provenance import Provenance
from hybrid_sim.evaluation.ablation.report import (
    AblationResult,
    ComponentRow,
    CostRow,
    EffectRow,
    SubsetRow,
    Waterfall,
    WaterfallStep,
    write_ablation,
)
from hybrid_sim.evaluation.validity.report import ValidityReport, summarise, write_validity
from hybrid_sim.report.results import read_result

RESULTS = Path(__file__).parents[1] / "experiments" / "results"
SOURCE = Provenance("hybrid-sim x", None, 3, "world", True, "abc", 3, 4, 9, None, "3.11", "Linux", {"numpy": "2"})


def page_of(source: Path, folder: Path) -> PageReader:
    target = folder / "page.html"
    assert main(["report", str(source), "--html", str(target), "--quiet"]) == 0
    return PageReader(target.read_text())


def test_the_page_of_a_benchmark_holds_its_figures(tmp_path: Path) -> None:
    read = page_of(RESULTS / "ml-100k-last40.json", tmp_path)
    content = json.loads((RESULTS / "ml-100k-last40.json").read_text())
    for row in content["intervals"]:
        name = row["model"] if row["fold"] == "1, 2, 3, 4, 5" else f"{row['model']} (folds {row['fold']})"
        assert f"{name} {row['fold']} {row['estimate']:.4f} {row['low']:.4f} {row['high']:.4f}" in read.text
    for row in content["comparisons"]:
        told = f"{row['a']} − {row['b']} {row['fold']} {row['metric']} {row['estimate']:+.4f} {row['low']:+.4f}"
        assert told in read.text
    whole = [row for row in content["intervals"] if row["fold"] == "1, 2, 3, 4, 5"]
    best = min(whole, key=lambda row: row["estimate"])
    assert f"{best['model']} has the lowest RMSE on all folds, {best['estimate']:.4f}" in read.text
    assert "(folds 1, 2, 3)" in read.text
    buckets = [row for row in content["support"] if row["support"] == "1-5"]
    n = sum(row["n"] for row in buckets)
    rmse = (sum(row["n"] * row["rmse"] ** 2 for row in buckets) / n) ** 0.5
    assert f"1-5 {n:,} {rmse:.4f}" in read.text
    assert content["provenance"]["commit"] in read.text
    assert read.tags.count("svg") == 14


def test_a_page_goes_beside_its_result_and_never_over_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "result.json"
    source.write_bytes((RESULTS / "world.json").read_bytes())
    assert main(["report", str(source), "--quiet"]) == 0
    assert "synthetic data" in PageReader((tmp_path / "result.html").read_text()).text
    assert main(["report", str(source), "--html", str(source)]) == 2
    assert "would replace what it is made from" in capsys.readouterr().err
    assert main(["report", str(source), "--truth", "x.csv"]) == 2
    assert "--truth belongs to the folder of a run" in capsys.readouterr().err


def test_files_that_are_no_results_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = json.loads((RESULTS / "world.json").read_text())
    bench["results"][1]["rmse"] = "low"
    unknown: dict[str, object] = {"provenance": {}, "results": [], "comparisons": []}
    for content, said in (
        ("", "is not JSON"),
        ("[1, 2]", "holds no result"),
        ('{"results": []}', "is no result that can be drawn"),
        (json.dumps(bench), "results.1.rmse: Input should be a valid number"),
        (json.dumps(unknown), "provenance.command: Field required"),
        ('{"kind": "ablation"}', "provenance: Field required"),
        ('{"kind": "validity"}', "is no validity result; expected what `hybrid-sim validate --json` writes"),
    ):
        file = tmp_path / "result.json"
        file.write_text(content)
        assert main(["report", str(file)]) == 2
        assert said in capsys.readouterr().err


def ablation(word: str = "text") -> AblationResult:
    """Two components; `word` is foreign text."""

    def subset(*components: str, rmse: float, control: bool = False) -> SubsetRow:
        return SubsetRow(components, control, 100, rmse, rmse - 0.01, rmse + 0.01, 1.3, 1.2, 1.4, 0.01)

    steps = (
        WaterfallStep(word, 0.06, 0.05, 0.07, 0.6, 1.0, 0.94),
        WaterfallStep("llm", 0.04, 0.0, 0.08, 0.4, 0.94, 0.9),
    )
    return AblationResult(
        provenance=replace(SOURCE, dataset=word),
        protocol="last40",
        folds="1, 2",
        groups="users",
        n_groups=30,
        level=0.95,
        n_boot=2000,
        components=(
            ComponentRow(word, word, ("facets",), True),
            ComponentRow("llm", "the model", (), True),
            ComponentRow("profile", "profiles", (), False, "needs a run"),
        ),
        subsets=(
            subset(rmse=1.0),
            subset(word, rmse=0.98),
            subset("llm", rmse=0.97),
            subset(word, "llm", rmse=0.9),
            subset(word, "llm", rmse=0.94, control=True),
        ),
        fold_results=(),
        effects=tuple(
            EffectRow(component, "rmse", kind, gain, float("nan"), 0.1)
            for component, gain in ((word, 0.06), ("llm", 0.04))
            for kind in ("shapley", "leave_one_out", "add_one_in")
        ),
        waterfalls=(Waterfall("rmse", 1.0, 0.9, steps),),
        costs=(
            CostRow("base", "biases", 0.5, 0.5, 10, 0),
            CostRow(word, "facets", 9.0, 0, 10, 0),
            CostRow("llm", "x", 1.0, 0, 10, 5),
        ),
        notes=("A note.",),
    )


def test_the_page_of_an_ablation_holds_its_waterfall_and_its_best_buys(tmp_path: Path) -> None:
    write_ablation(ablation(), tmp_path / "ablation.json")
    read = page_of(tmp_path / "ablation.json", tmp_path)
    assert (
        "RMSE (raw, rating units) is 1.0000 with nothing but the base and 0.9000 with all components. "
        "Most is gained by text: +0.0600 [+0.0500, +0.0700]." in read.text
    )
    assert "text: +0.0600, from 0.0000 to 0.0600" in read.text
    assert "all components: +0.1000" in read.text
    assert read.text.index("A note.") > read.text.index("Error of every subset against its time")
    assert "4 subsets; the best is text + llm with RMSE 0.9000." in read.text
    assert "text + llm (shuffled) 100 0.9400" in read.text
    assert "profile: needs a run" in read.text
    costs = read.text[read.text.index("Error of every subset against its time CPU") :]
    for told in (
        "base alone 1 s 1.0000 0.9900 1.0100 yes",
        "llm 2 s 0.9700 0.9600 0.9800 yes",
        "text 10 s 0.9800 0.9700 0.9900 no",
    ):
        assert told in read.text, costs
    assert "text + llm 11 s 0.9000 0.8900 0.9100 yes" in read.text


def validity(word: str = "svd") -> ValidityReport:
    """Every kind of chart; `word` is foreign text."""

    def table(name: str, headings: str, *rows: tuple[str | int | float | None, ...]) -> Table:
        columns = tuple(Column(key, key, None if key in ("x", "level") else 3) for key in headings.split())
        return Table(name, f"Table {name}", columns, rows)

    models = table("models", "x rmse low high", ("hybrid", 0.93, 0.92, 0.94), (word, 0.95, None, None))
    groups = table("groups", "x bias kind", ("18", 0.1, "age"), ("F", -0.1, "gender"), (word, None, "gender"))
    curve = table("curve", "level forecast observed n", ("1", 0.1, 0.2, 10), ("1", 0.5, 0.4, 5), ("2", 0.9, 1.0, 2))
    shares = table("shares", "level real simulated", (1, 0.2, 0.3), (2, 0.8, 0.7))
    cells = table("cells", "x level share", (1, 1, 0.9), (2, 1, 0.1), (1, 2, 0.4), (2, 2, 0.6))
    quality = table("quality", "x real simulated", (word, 3.0, 3.1), ("random", 2.0, 2.2))
    picks = table("picks", "x right", ("1:1", 0.8), ("1:9", 0.3))
    loose = table("loose", "x y", (word, 1.5))
    charts = (
        Chart("bars", "RMSE", "models", "x", ("rmse",), "low", "high", reference=0.94),
        Chart("bars", "RMSE again", "models", "x", ("rmse",)),
        Chart("bars", "Bias", "groups", "x", ("bias",), series="kind", reference=0.0),
        Chart("reliability", "Reliability", "curve", "forecast", ("observed",), series="level"),
        Chart("histograms", "Shares", "shares", "level", ("real", "simulated")),
        Chart("heatmap", "Confusion", "cells", "x", ("level", "share")),
        Chart("scatter", "Quality", "quality", "real", ("simulated",), label="x"),
        Chart("lines", "Picks", "picks", "x", ("right",), reference=0.5),
    )
    verdicts = (
        Verdict(
            "good", "Is it good?", "pass", f"It is {word}.", 0.9, 0.8, 1.0, 0.5, "at least", "Half.", "hits", "share"
        ),
        Verdict(
            "fair", "Is it fair?", "fail", "It is not.", 0.9, 0.7, 1.1, 0.5, "within", "More is unfair.", "bias", "nats"
        ),
        Verdict("asked", "Was it asked?", "unknown", "No model.", None, None, None, None, "at most", ""),
    )
    tables = (models, groups, curve, shares, cells, quality, picks, loose)
    blocks = (*verdicts, *charts, *tables)
    sections = (Section("all", "All evidence", "It was found.", blocks, ("How it was measured.",)),)
    return ValidityReport(
        f"Validity on {word}",
        word,
        "last40",
        "1",
        "users",
        100,
        200,
        0,
        True,
        summarise(sections),
        sections,
        SOURCE,
        ("N.",),
    )


def test_the_page_of_a_validation_draws_every_chart_with_its_table(tmp_path: Path) -> None:
    write_validity(validity(), tmp_path / "validity.json")
    read = page_of(tmp_path / "validity.json", tmp_path)
    assert read.tags.count("svg") == 16
    assert read.tags.count("table") == 9
    assert read.links.count("#table-evidence-all-models") == 1
    for told in (
        "1 of 3 verdicts pass",
        "✓ passes Is it good? It is svd.",
        "✗ fails Is it fair? 0.900 0.700 1.100 within ±0.5 nats bias ? cannot tell Was it asked?",
        "✓ passes Is it good? 0.900 0.800 1.000 at least 0.5 share hits",
    ):
        assert told in read.text
    assert "hybrid 0.930 0.920 0.940 svd 0.950 – –" in read.text
    assert "How it was measured." in read.text
    assert "synthetic data" in read.text
    hs.write_report(validity(), tmp_path / "memory.html")
    assert read.text.replace(" beside", "") == PageReader((tmp_path / "memory.html").read_text()).text


def test_the_python_api_writes_the_page_of_the_command_from_memory_and_from_files(tmp_path: Path) -> None:
    write_ablation(ablation(), tmp_path / "ablation.json")
    write_validity(validity(), tmp_path / "validity.json")
    command, page = tmp_path / "command.html", tmp_path / "page.html"
    for source in (RESULTS / "world.json", tmp_path / "ablation.json", tmp_path / "validity.json"):
        assert main(["report", str(source), "--html", str(command), "--quiet"]) == 0
        for result in (source, str(source), read_result(source)):
            hs.write_report(result, page)
            assert page.read_bytes() == command.read_bytes()
    with pytest.raises(SettingsError, match="--user belongs to the folder of a run"):
        hs.write_report(read_result(RESULTS / "world.json"), page, user="17")
    for a_run in (tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(SettingsError, match=r"ratings\.csv|name a run folder"):
            hs.write_report(a_run, page)


@pytest.mark.parametrize("word", HOSTILE[::3])
def test_hostile_words_in_an_ablation_are_only_text(word: str, tmp_path: Path) -> None:
    write_ablation(ablation(word), tmp_path / "ablation.json")
    page_of(tmp_path / "ablation.json", tmp_path)


@pytest.mark.parametrize("word", HOSTILE[1::3])
def test_hostile_words_in_a_validation_are_only_text(word: str, tmp_path: Path) -> None:
    hs.write_report(validity(word), tmp_path / "validity.html")
    PageReader((tmp_path / "validity.html").read_text())


@pytest.mark.parametrize("word", HOSTILE[2::3])
def test_hostile_words_in_a_benchmark_are_only_text(word: str, tmp_path: Path) -> None:
    bench = json.loads((RESULTS / "world.json").read_text())
    bench["notes"], bench["provenance"]["dataset"], bench["provenance"]["command"] = [word], word, word
    for row in [*bench["results"], *bench["intervals"]]:
        row["model"] = row["model"].replace("knn", word)
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    page_of(tmp_path / "bench.json", tmp_path)


def test_in_a_browser_results_ask_for_nothing(window: Browser, tmp_path: Path) -> None:
    word = "</style></title><script>window.hacked=1</script>"
    hs.write_report(validity(word), tmp_path / "validity.html")
    assert main(["report", str(RESULTS / "ml-100k-full.json"), "--html", str(tmp_path / "bench.html"), "--quiet"]) == 0
    for name in ("validity.html", "bench.html"):
        window.check(tmp_path / name)
