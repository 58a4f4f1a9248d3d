"""`hybrid-sim validate` as a user meets it, and the probe that asks a language model whether it recalls the data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm_server import LoopbackLLM, rating_mind
from small_worlds import rating_table

from hybrid_sim.cli import main
from hybrid_sim.cli.parsing import parse
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, HybridSimError, SettingsError
from hybrid_sim.core.settings import LLMSettings, ProfileSettings, RunSettings
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation.splits import kfold
from hybrid_sim.evaluation.validity.contamination import contamination, masked, probe
from hybrid_sim.evaluation.validity.inputs import Probe, ValidationData
from hybrid_sim.evaluation.validity.report import ValidityReport
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.report.results import read_validity
from hybrid_sim.simulation.interviewer import LLMRatings, RatingRequest, interviewer

MEMBERS = ["--members", "biases,content_gp"]


def command(words: list[str]) -> int:
    """Run `hybrid-sim validate` with these words."""
    options = parse(["validate", *words])
    options.command = ["hybrid-sim", "validate", *words]
    status: int = options.run(options)
    return status


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world as tables: training ratings, held-out ratings, items, users."""
    folder = tmp_path_factory.mktemp("tables")
    world = make_world(seed=8, n_users=120, n_items=150, ratings_per_user=30).dataset
    split = kfold(world, 4, seed=0)[0]
    for name, rows in (("train", split.train_rows), ("truth", split.test_rows)):
        rating_table(world.take(rows)).drop(columns="timestamp").to_csv(folder / f"{name}.csv", index=False)
    items = world.items.assign(genres=["|".join(genres) for genres in world.items["genres"]])
    items.rename_axis("item_id").to_csv(folder / "items.csv")
    world.users.rename_axis("user_id").to_csv(folder / "users.csv")
    return folder


@pytest.fixture(scope="module")
def of_files(files: Path) -> list[str]:
    """Options that name the tables, the held-out ratings among them."""
    return [*data_options(files), "--truth", str(files / "truth.csv")]


def data_options(files: Path) -> list[str]:
    names = ("ratings", "items", "users")
    return [word for name in names for word in (f"--{name}", str(files / f"{name.replace('ratings', 'train')}.csv"))]


@pytest.fixture(scope="module")
def run_folder(files: Path) -> Path:
    """A finished run of `simulate` that rated the held-out pairs without having seen their ratings."""
    folder = files / "run"
    pairs = ["--pairs", str(files / "truth.csv"), "--explain", "none", "--quiet"]
    assert main(["simulate", *data_options(files), *pairs, *MEMBERS, "-o", str(folder)]) == 0
    return folder


def states(path: Path) -> dict[str, str]:
    return {verdict.name: verdict.state for verdict in read_validity(path).verdicts}


def rewritten(source: Path, target: Path, change: Callable[[int, dict[str, str]], dict[str, str] | None]) -> Path:
    """The table with `change` made to every row; None leaves it out."""
    with source.open(newline="") as file:
        rows = [change(number, row) for number, row in enumerate(csv.DictReader(file))]
    kept = [row for row in rows if row is not None]
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return target


def test_a_simulator_is_fitted_and_judged(
    of_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    assert command([*of_files, *MEMBERS, "--json", str(out), "--html", str(tmp_path / "report.html")]) == 0
    said = capsys.readouterr().out
    report = read_validity(out)
    assert report.summary.split(";")[0] in said.replace("\n", " ")
    assert report.subject == "simulator (2 members)"
    found = states(out)
    assert found["accuracy"] == found["calibration"] == found["personal-signal"] == "pass"
    assert found["drift"] == found["contamination"] == "unknown"
    cost = next(section for section in report.sections if section.name == "cost")
    assert all(row[1] is not None for row in cost.tables[0].rows)
    assert report.provenance is not None
    assert report.provenance.command.startswith("hybrid-sim validate --ratings")
    assert str(tmp_path.parent) not in out.read_text()
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_a_run_of_the_simulator_is_judged_by_the_distributions_that_it_wrote(
    of_files: list[str], run_folder: Path, tmp_path: Path
) -> None:
    for number in (1, 2):
        assert command([*of_files, "--run", str(run_folder), "--json", str(tmp_path / f"{number}.json")]) == 0
    of_run = read_validity(tmp_path / "1.json")
    assert of_run.sections == read_validity(tmp_path / "2.json").sections
    assert command([*of_files, *MEMBERS, "--json", str(tmp_path / "own.json")]) == 0
    own = read_validity(tmp_path / "own.json")
    assert figures(of_run, "accuracy")[0][1:] == pytest.approx(figures(own, "accuracy")[0][1:], abs=1e-6)
    assert states(tmp_path / "1.json")["coverage"] == "pass"


def figures(report: ValidityReport, name: str) -> list[tuple[Any, ...]]:
    """Numbers of a table, row by row."""
    tables = {table.name: table for section in report.sections for table in section.tables}
    return [tuple(np.nan if cell is None else cell for cell in row)[:9] for row in tables[name].rows]


def test_a_run_that_may_have_seen_the_held_out_ratings_is_refused(
    files: Path, run_folder: Path, tmp_path: Path
) -> None:
    fewer = rewritten(files / "train.csv", tmp_path / "train.csv", lambda n, row: row if n else None)
    words = ["--ratings", str(fewer), *data_options(files)[2:], "--truth", str(files / "truth.csv")]
    with pytest.raises(SettingsError, match=r"learned from other data .* may have seen the held-out ones"):
        command([*words, "--run", str(run_folder)])
    with pytest.raises(SettingsError, match=r"holds no ratings\.csv"):
        command([*words, "--run", str(tmp_path)])
    (tmp_path / "ratings.csv").write_bytes((run_folder / "ratings.csv").read_bytes())
    with pytest.raises(SettingsError, match="is no finished run"):
        command([*words, "--run", str(tmp_path)])


def test_a_damaged_table_of_a_run_is_refused(of_files: list[str], run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((run_folder / "run.json").read_bytes())
    rewritten(
        run_folder / "ratings.csv", tmp_path / "ratings.csv", lambda n, row: {**row, "p_3": "7"} if n == 5 else row
    )
    with pytest.raises(DataError, match=r"ratings.csv: the row of user '.*' holds no distribution"):
        command([*of_files, "--run", str(tmp_path)])


def test_a_table_of_any_simulator_is_judged(
    of_files: list[str], run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn(number: int, row: dict[str, str]) -> dict[str, str] | None:
        return None if number % 5 == 0 else {name: row[name] for name in ("user_id", "item_id", "rating")}

    table = rewritten(run_folder / "ratings.csv", tmp_path / "mine.csv", drawn)
    assert command([*of_files, "--simulated", str(table), "--json", str(tmp_path / "1.json")]) == 0
    assert "only these are judged" in capsys.readouterr().out
    found = states(tmp_path / "1.json")
    assert "fail" not in (found["histogram"], found["spread"])
    assert found["calibration"] == found["coverage"] == "unknown"
    assert command([*of_files, "--simulated", str(run_folder / "ratings.csv"), "--json", str(tmp_path / "3.json")]) == 0
    flat = rewritten(table, tmp_path / "flat.csv", lambda _, row: {**row, "rating": "4"})
    assert command([*of_files, "--simulated", str(flat), "--json", str(tmp_path / "2.json")]) == 0
    found = states(tmp_path / "2.json")
    assert found["histogram"] == found["spread"] == found["personal-signal"] == "fail"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, row: row if n < 20 else None, "speaks about 20 of .* held-out pairs, at least 100 are needed"),
        (lambda n, row: {**row, "rating": "3.7" if n == 4 else row["rating"]}, r"row 6, column 'rating': '3.7' is not"),
        (lambda n, row: row, "100% of its ratings equal the held-out ones"),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused(
    of_files: list[str],
    files: Path,
    tmp_path: Path,
    change: Callable[[int, dict[str, str]], dict[str, str] | None],
    message: str,
) -> None:
    def other(number: int, row: dict[str, str]) -> dict[str, str] | None:
        return change(number, row if "equal" in message else {**row, "rating": str(1 + number % 5)})

    table = rewritten(files / "truth.csv", tmp_path / "mine.csv", other)
    with pytest.raises(HybridSimError, match=message):
        command([*of_files, "--simulated", str(table)])


def test_held_out_ratings_that_were_learned_from_are_refused(files: Path) -> None:
    with pytest.raises(DataError, match="are a training rating too"):
        command([*data_options(files), "--truth", str(files / "train.csv")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "a", "--simulated", "b"], "--run and --simulated name different simulators"),
        (["--fitted", "a", "--run", "b"], "leave it out"),
        (["--folds", "1,2", "--protocol", "kfold"], "one fold is meant"),
        (["--json", "no/such/folder/x.json"], "name a file in a folder that exists"),
        (["--probe", "there"], "--probe DIR and --model NAME go together"),
        (["--model", "gpt"], "--probe DIR and --model NAME go together"),
        (["--planted", "constnat"], "did you mean 'constant'"),
    ],
)
def test_words_that_contradict_each_other_are_refused_at_once(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        command(words)


def test_recorded_llm_ratings_correct_the_simulator(of_files: list[str], files: Path, tmp_path: Path) -> None:
    def told(number: int, row: dict[str, str]) -> dict[str, str]:
        said = int(row["rating"]) if number % 2 else 1 + number % 5
        return {"user_id": row["user_id"], "item_id": row["item_id"], "llm_rating": str(said)}

    table = rewritten(files / "truth.csv", tmp_path / "llm.csv", told)
    for name, more in (("with", ["--llm-ratings", str(table)]), ("without", [])):
        assert command([*of_files, *MEMBERS, *more, "--json", str(tmp_path / f"{name}.json")]) == 0
    reports = [read_validity(tmp_path / f"{name}.json") for name in ("with", "without")]
    assert figures(reports[0], "accuracy")[0][1] < figures(reports[1], "accuracy")[0][1] - 0.02
    assert "LLM" in [row[0] for row in figures(reports[0], "signal")]
    assert "cross-fitted" in reports[0].notes[0]


def taste_world() -> tuple[Dataset, Dataset]:
    """Everybody agrees about every film, so that a model that knows the films by name knows all ratings."""
    world = make_world(seed=9, n_users=60, n_items=80, ratings_per_user=20).dataset
    level = np.random.default_rng(0).integers(1, 6, world.n_items).astype(float)
    dataset = replace(world, rating=level[world.item])
    split = kfold(dataset, 2, seed=0)[0]
    return dataset.take(split.train_rows), dataset.take(split.test_rows)


@contextmanager
def asker(server: LoopbackLLM, folder: Path) -> Iterator[Callable[[Dataset, list[RatingRequest]], LLMRatings]]:
    settings = RunSettings(
        llm=LLMSettings(model="loopback", base_url=server.url), profile=ProfileSettings(writer="statistics")
    )
    with Journal(folder / "journal.sqlite") as journal, LLM(settings.llm, journal, Budget()) as llm:
        yield lambda data, inquiries: interviewer(data, settings, llm).ask(inquiries)


def recall(train: Dataset, held_out: Dataset) -> Callable[[Mapping[str, Any], str], float]:
    """A model that knows the ratings of every film by its title, and says 3 about one that it does not know."""
    rated = dict(zip([*train.item, *held_out.item], [*train.rating, *held_out.rating], strict=True))
    titles = [f"{t} ({y:g})" for t, y in zip(train.items["title"], train.items["year"], strict=True)]
    known = {titles[item]: (rating - 1) / 4 for item, rating in rated.items()}
    return lambda shown, about: float(known.get(shown["title"], 0.5))


def asked(opinion: Callable[[Mapping[str, Any], str], float], folder: Path) -> Probe:
    train, held_out = taste_world()
    with LoopbackLLM(rating_mind(noise=0.0, opinion=opinion)) as server, asker(server, folder) as ask:
        return probe(train, held_out, ask)


def judged(found: Probe | None) -> str:
    train, held_out = taste_world()
    from hybrid_sim.evaluation.validity.inputs import SimulatorOutput
    from hybrid_sim.models import make_rater

    distribution = make_rater("global_mean").fit(train).rate(held_out.pairs)
    subject = SimulatorOutput("anybody", distribution, held_out.rating)
    return contamination(ValidationData(train, held_out, subject, {}, {}, probe=found)).verdicts[0].state


def test_a_model_that_recites_ratings_is_caught_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    reciting = asked(recall(*taste_world()), tmp_path / "reciting")
    assert len(reciting.truth) >= 50
    assert (reciting.with_title == reciting.truth).mean() > 0.95
    assert judged(reciting) == "fail"
    assert judged(asked(lambda shown, about: 0.75, tmp_path / "same")) == "pass"
    assert judged(None) == "unknown"


def test_masked_data_shows_nothing_of_what_the_films_are_called() -> None:
    train, _ = taste_world()
    hidden = masked(train, seed=0)
    assert not set(hidden.items["title"]) & set(train.items["title"])
    assert hidden.items["title"].is_unique
    assert "overview" not in hidden.items
    assert hidden.items["genres"].equals(train.items["genres"])


def test_the_probe_is_asked_from_the_command_line_once(of_files: list[str], tmp_path: Path) -> None:
    out, folder = tmp_path / "report.json", tmp_path / "probe"
    with LoopbackLLM() as server:
        words = [*of_files, "--members", "biases", "--model", "loopback", "--base-url", server.url]
        words += ["--probe", str(folder), "--set", "profile.writer=statistics", "--json", str(out)]
        assert command(words) == 0
        first = server.n_requests
        measured = {verdict.name: verdict.value for verdict in read_validity(out).verdicts}
        assert measured["contamination"] is not None
        assert command(words) == 0
        assert server.n_requests == first > 0
    assert json.loads(out.read_text())["synthetic"] is False
