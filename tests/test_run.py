"""The Python API as a researcher in a notebook meets it: runs in a folder, results as tables, errors in one line."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from command_line import run_command
from llm_server import LoopbackLLM, rating_mind

import hybrid_sim as hs
from hybrid_sim.cli.parsing import parse
from hybrid_sim.core.errors import DataError, RunError, SettingsError, StorageError
from hybrid_sim.data.world import make_world


@pytest.fixture(scope="module")
def data() -> hs.Dataset:
    return make_world(seed=3, n_users=60, n_items=80, ratings_per_user=15).dataset


@pytest.fixture(scope="module")
def fitted(data: hs.Dataset) -> hs.Simulator:
    return hs.fit(data, members=["biases", "content_gp"])


@pytest.fixture(scope="module")
def pairs(data: hs.Dataset) -> pd.DataFrame:
    return hs.cross_pairs(data.users.index[:4], data.items.index[:3])


def settings(url: str, **rating: Any) -> dict[str, Any]:
    return {"llm": {"base_url": url}, "rating": {"learn_from": 6, **rating}}


def test_a_run_is_planned_simulated_and_read_back(
    data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    with LoopbackLLM() as server:
        run = hs.Run(tmp_path / "run", data, simulator=fitted, settings=settings(server.url), model="loopback")
        plan = run.plan(pairs)
        assert server.n_requests == 0
        assert sum(plan.questions.values()) == plan.forecast.calls > 10
        assert not (tmp_path / "run" / "ratings.csv").exists()
        simulation = run.simulate(pairs, on_progress=lambda *step: steps.append(step))
        n_requests = server.n_requests
        assert n_requests == plan.forecast.calls
        again = run.simulate(pairs["user_id"], pairs["item_id"])
        assert server.n_requests == n_requests  # nothing is paid for twice
    assert simulation.use is not None
    assert simulation.use.stopped is None
    assert simulation.use.ledger.calls == n_requests
    assert max(steps) > ("asking loopback", 0, 0)
    pd.testing.assert_frame_equal(again.to_frame(), simulation.to_frame())
    back = hs.Run.open(tmp_path / "run")
    pd.testing.assert_frame_equal(back.ratings, simulation.to_frame())
    assert back.ratings["llm_rating"].notna().all()
    assert set(back.profiles["user_id"]) == set(pairs["user_id"])
    assert len(back.explanations) == len(pairs)
    assert back.settings.llm.model == "loopback"
    assert back.calls["calls"].sum() == n_requests
    assert repr(back).endswith("12 ratings, world)")
    with pytest.raises(SettingsError, match=r"opened to be read; hs.Run\(folder, dataset\) simulates"):
        back.simulate(pairs)


def test_a_run_that_meets_its_limit_is_resumed(
    data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    with LoopbackLLM() as server:
        run = hs.Run(tmp_path, data, simulator=fitted, settings=settings(server.url), model="loopback")
        first = run.simulate(pairs, max_calls=5)
        assert first.use is not None
        assert first.use.stopped is not None
        assert server.n_requests == 5
        whole = run.simulate(pairs)
        assert whole.llm.answered.all()
        assert whole.use is not None
        assert whole.use.ledger.calls == server.n_requests == 5 + whole.use.calls


def test_a_model_that_is_found_to_be_worth_nothing_is_not_asked_about_pairs(
    data: hs.Dataset, fitted: hs.Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small model may choose one level whatever it is asked; run.json, `why` and the page say what that is worth."""
    pairs = hs.cross_pairs(data.users.index[:4], data.items.index[np.argsort(-data.item_counts)[:3]])
    always_the_same = rating_mind(noise=0.0, opinion=lambda item, about: 0.5)
    with LoopbackLLM(always_the_same) as server:
        chosen = settings(server.url, learn_from=60)
        run = hs.Run(tmp_path / "run", data, simulator=fitted, settings=chosen, model="loopback")
        planned = sum(run.plan(pairs).questions.values())
        simulation = run.simulate(pairs)
        assert 0 < server.n_requests < planned
    assert not simulation.asked.any()
    np.testing.assert_array_equal(simulation.prediction.distribution.probs, simulation.statistical.probs)
    back = hs.Run.open(tmp_path / "run")
    assert set(back.explanations["by"]) == {"statistics"}
    about = json.loads((tmp_path / "run" / "run.json").read_text())["llm_value"]
    assert about[0]["is_useless"]
    user, item = map(str, pairs.iloc[0][["user_id", "item_id"]])
    options = parse(["why", str(tmp_path / "run"), "--user", user, "--item", item])
    assert options.run(options) == 0
    assert "worth nothing, so it is not asked about them" in capsys.readouterr().out


def test_a_run_without_a_model_is_statistical_and_advances_profiles(
    data: hs.Dataset, fitted: hs.Simulator, tmp_path: Path
) -> None:
    every = hs.cross_pairs(data.users.index[:2], data.items.index[:20])
    before = hs.Run(tmp_path / "before", data, simulator=fitted)
    after = hs.Run(tmp_path / "after", data, simulator=fitted)
    simulation = before.simulate(every, explained=False)
    after.simulate(every, advance=True, explained=False)
    assert simulation.use is None
    assert not (tmp_path / "before" / "explanations.jsonl").exists()
    assert len(after.profiles) > len(before.profiles)
    assert before.calls.empty
    again = hs.Run(tmp_path / "again", data, simulator=fitted, profiles=tmp_path / "before")
    again.simulate(every)
    pd.testing.assert_frame_equal(again.profiles, before.profiles)


def test_a_folder_keeps_its_simulator_and_takes_no_other(data: hs.Dataset, pairs: pd.DataFrame, tmp_path: Path) -> None:
    """A saved simulator is reused for the same data, seed, members and components alone."""
    hs.Run(tmp_path, data, settings={"ensemble": {"members": ["biases"]}}).simulate(pairs, explained=False)
    arrays = tmp_path / "simulator" / "arrays.npz"

    def kept(dataset: hs.Dataset, **options: Any) -> bool:
        before = arrays.stat().st_mtime_ns
        ensemble = options.pop("ensemble", {"members": ["biases"]})
        run = hs.Run(tmp_path, dataset, settings={"ensemble": ensemble}, overwrite=True, **options)
        run.simulate(pairs, explained=False)
        return arrays.stat().st_mtime_ns == before

    assert kept(data)
    assert not kept(data, seed=1)
    assert not kept(data, ensemble={"members": ["biases", "svd"]})
    assert not kept(data, ensemble={"members": ["biases", "svd"], "without": ["combiner"]})
    fewer = data.take(np.arange(len(data)) % 10 > 0)
    assert not kept(fewer, ensemble={"members": ["biases", "svd"], "without": ["combiner"]})


NEW = pd.DataFrame({"item_id": ["n1"], "title": ["<b>Robots"], "genres": [["Drama"]]})

WRONG: dict[str, tuple[Callable[[hs.Dataset, hs.Simulator, Path], object], str]] = {
    "one list": (lambda d, s, p: s.predict(["u0001"]), "two lists of ids of one length, or one DataFrame"),
    "other lengths": (lambda d, s, p: s.predict(["u0001", "u0002"], ["f0001"]), "2 users cannot stand beside 1 items"),
    "a text": (lambda d, s, p: hs.cross_pairs("u0001", ["f0001"]), "give a list of user ids"),
    "not fitted": (lambda d, s, p: hs.Simulator().predict(["u0001"], ["f0001"]), "not fitted; call fit"),
    "a number": (lambda d, s, p: s.predict([1], ["f0001"]), "user id 1 is a int; ids are texts"),
    "no column": (lambda d, s, p: s.predict(pd.DataFrame({"user": ["u0001"]})), "lacks the column 'user_id'"),
    "table and list": (lambda d, s, p: s.predict(pd.DataFrame(), ["f0001"]), "one DataFrame with user_id and item_id"),
    "member": (lambda d, s, p: hs.fit(d, members=["bises"]), "there is no member 'bises'"),
    "setting": (lambda d, s, p: hs.Run(p, d, settings={"rating": {"sample": 2}}), "did you mean 'samples'?"),
    "settings file": (lambda d, s, p: hs.Run(p, d, settings=p / "no.toml"), "cannot be read"),
    "other data": (lambda d, s, p: hs.Run(p, d.take(d.user > 0), simulator=s), "was fitted to other data"),
    "no run": (lambda d, s, p: hs.Run.open(p), "holds no ratings.csv"),
    "nothing to plan": (lambda d, s, p: hs.Run(p, d, simulator=s).plan(["u0001"], ["f0001"]), "nothing to plan"),
    "budget": (
        lambda d, s, p: hs.Run(p, d, simulator=s, model="m").simulate(["u0001"], ["f0001"], budget="much"),
        "is not an amount of US dollars",
    ),
    "protocol": (lambda d, s, p: hs.bench(d, "kfolds", ["biases"]), "kfolds"),
    "run and members": (lambda d, s, p: hs.validate(d, run=p, members=["svd"]), "leave members and without out"),
    "new items": (
        lambda d, s, p: hs.forecast_new_items(
            d.take(d.user > 0), pd.DataFrame({"item_id": ["n"], "title": ["A"]}), simulator=s
        ),
        "was fitted to other data",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_errors_of_one_line(name: str, data: hs.Dataset, fitted: hs.Simulator, tmp_path: Path) -> None:
    call, message = WRONG[name]
    with pytest.raises(SettingsError, match=message) as error:
        call(data, fitted, tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_with_answers_of_a_model_is_not_continued_without_it_or_with_another(
    data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    with LoopbackLLM() as server:
        run = hs.Run(tmp_path, data, simulator=fitted, settings=settings(server.url), model="loopback")
        run.simulate(pairs, max_calls=1)
        other = hs.Run(tmp_path, data, simulator=fitted, settings=settings(server.url), model="another")
        with pytest.raises(RunError, match="model"):
            other.simulate(pairs)
        with pytest.raises(RunError, match="lacks"):
            run.simulate(pairs, replay=True)
        assert server.n_requests == 1
    with pytest.raises(SettingsError, match="holds answers of a language model"):
        hs.Run(tmp_path, data, simulator=fitted).simulate(pairs)


def test_results_are_tables_in_a_notebook(data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame) -> None:
    prediction = fitted.predict(pairs)
    results = [prediction, hs.simulate(fitted, data, pairs), hs.explain(fitted, prediction, data)]
    results.append(hs.forecast_new_items(data, NEW, simulator=fitted, n_users=20))
    for result in results:
        assert len(result.to_frame()) in (1, len(pairs))
        assert "<table" in result._repr_html_()
        assert "<b>" not in result._repr_html_()
        assert len(repr(result)) < 100
    assert results[-1].to_frame()["item_id"].tolist() == ["n1"]
    assert results[-1].to_frame()["n_users"].tolist() == [20]


def test_help_says_what_comes_back() -> None:
    for name in ("fit", "load", "simulate", "explain", "bench", "ablate", "validate", "forecast_new_items", "Run"):
        text = getattr(hs, name).__doc__
        assert text is not None
        assert "Raises:" in text, name


def test_results_are_those_of_the_last_simulation(data: hs.Dataset, fitted: hs.Simulator, tmp_path: Path) -> None:
    run = hs.Run(tmp_path / "run", data, simulator=fitted, overwrite=True)
    for n_users in (2, 3):
        run.simulate(hs.cross_pairs(data.users.index[:n_users], data.items.index[:1]))
        assert len(run.ratings) == n_users


def test_a_finished_run_is_replaced_by_another_only_where_that_is_asked_for(
    data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame, finished: Path
) -> None:
    """Issue 11: other pairs or another seed replaced a finished run without a word."""
    ratings = (finished / "ratings.csv").read_bytes()
    assert len(hs.Run(finished, data, simulator=fitted).simulate(pairs).pairs) == len(pairs)
    for other, of in ((hs.Run(finished, data, simulator=fitted, seed=1), pairs), (hs.Run(finished, data), pairs[:3])):
        with pytest.raises(SettingsError, match=r"another finished run \(.*--overwrite"):
            other.simulate(of)
    assert (finished / "ratings.csv").read_bytes() == ratings
    hs.Run(finished, data, simulator=fitted, overwrite=True).simulate(pairs[:3])
    assert len(hs.Run.open(finished).ratings) == 3
    (finished / "run.json").write_text("{}")
    with pytest.raises(SettingsError, match="another finished run"):
        hs.Run(finished, data, simulator=fitted).simulate(pairs)


def test_a_folder_of_other_things_is_not_written_into(
    data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    run = hs.Run(tmp_path, data, simulator=fitted, settings={"llm": {"base_url": "http://localhost:1"}}, model="m")
    for start in (run.plan, run.simulate):
        with pytest.raises(SettingsError, match=r"holds other things, for example thesis\.tex; name a new folder"):
            start(pairs)
    with pytest.raises(SettingsError, match="is a file"):
        hs.Run(tmp_path / "thesis.tex" / "run", data, simulator=fitted).simulate(pairs)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_is_refused_leaves_nothing_in_the_folder(
    data: hs.Dataset, pairs: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 11: without a key a run left its settings in the folder, and `plan` refused other ones that `simulate`
    took; the members were fitted before the key was missed."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    keyless = hs.Run(tmp_path / "run", data, model="gpt-4o-mini")
    with pytest.raises(SettingsError, match="needs a key"):
        keyless.simulate(pairs)
    unpriced = hs.Run(tmp_path / "run", data, model="m", settings=settings("https://models.example.com/v1"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    with pytest.raises(SettingsError, match="needs the price of model"):
        unpriced.simulate(pairs, budget="1usd")
    assert not (tmp_path / "run").exists()


def test_a_plan_and_a_simulation_agree_on_a_folder_without_answers(
    data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    with LoopbackLLM() as server:
        chosen = settings(server.url)
        first = hs.Run(tmp_path / "run", data, simulator=fitted, settings=chosen, model="first")
        first.simulate(pairs, max_calls=0)
        other = hs.Run(tmp_path / "run", data, simulator=fitted, settings=chosen, model="other", overwrite=True)
        assert other.plan(pairs).forecast.calls > 0
        assert other.simulate(pairs).llm.answered.all()


class SlowlyFitted(hs.Simulator):
    """A simulator that takes two seconds more to be fitted, and notes when it is."""

    ended = 0.0

    def fit(self, dataset: hs.Dataset) -> Self:
        fitted = super().fit(dataset)
        time.sleep(2)
        SlowlyFitted.ended = time.monotonic()
        return fitted

    def save(self, folder: str | Path) -> None:
        """Nothing: a class of these tests cannot be saved."""


def test_minutes_are_those_of_asking(data: hs.Dataset, pairs: pd.DataFrame, tmp_path: Path) -> None:
    """Issue 10: `--max-minutes` counted the fit, so that a run of a slow simulator asked nothing."""
    slow = SlowlyFitted(members=["biases"], without=["profile"])
    with LoopbackLLM() as server:
        run = hs.Run(tmp_path, data, simulator=slow, settings=settings(server.url), model="loopback")
        use = run.simulate(pairs, explained=False).use
    assert use is not None
    assert 0 < use.ledger.seconds <= time.monotonic() - SlowlyFitted.ended


@pytest.fixture
def finished(data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame, tmp_path: Path) -> Path:
    """A run of statistics that has ended."""
    hs.Run(tmp_path / "run", data, simulator=fitted).simulate(pairs)
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["ratings.csv", "profiles.jsonl", "explanations.jsonl", "run.json"])
def test_a_changed_file_of_a_run_is_reported(name: str, finished: Path) -> None:
    """Issue 10: a digit that was changed after the run was reported as the run's."""
    assert "changed" not in run_command("why", finished, "--user", "u0001", "--item", "f0001").stderr
    file = finished / name
    content = file.read_bytes()
    last = [number.start() for number in re.finditer(rb"\d{4}", content)][-1]
    file.write_bytes(content[:last] + (b"2" if content[last : last + 1] == b"1" else b"1") + content[last + 1 :])
    page = finished.parent / "page.html"
    commands = (
        ("why", finished, "--user", "u0001", "--item", "f0001"),
        ("report", finished, "--html", page),
        ("compare", finished, finished),
    )
    for words in commands:
        lines = run_command(*words).stderr.splitlines()
        assert [line for line in lines if "changed" in line] == [
            f"warning: {finished}: {name} changed after the run; shown is what stands there now"
        ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes are a matter of Unix")
@pytest.mark.parametrize(
    "name", ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite.ballast", "journal.sqlite.lock", "simulator"]
)
def test_links_in_a_run_folder_are_not_followed(
    name: str, data: hs.Dataset, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    """Issue 10: the file where a link leads was overwritten."""
    victim = tmp_path / "mine"
    victim.write_bytes(b"")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    with LoopbackLLM() as server:
        run = hs.Run(folder, data, simulator=hs.Simulator(members=["biases"]), settings=settings(server.url), model="m")
        with pytest.raises((RunError, SettingsError, StorageError), match=f"{name}.* (link|symbolic)"):
            run.simulate(pairs)
    assert victim.read_bytes() == b""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes are a matter of Unix")
@pytest.mark.parametrize("name", ["ratings.csv", "profiles.jsonl", "explanations.jsonl", "run.json"])
def test_tables_of_a_run_replace_links_and_holes_are_not_read(
    name: str, finished: Path, data: hs.Dataset, fitted: hs.Simulator, pairs: pd.DataFrame
) -> None:
    victim = finished.parent / "mine"
    victim.write_bytes(b"")
    (finished / name).unlink()
    (finished / name).symlink_to(victim)
    hs.Run(finished, data, simulator=fitted).simulate(pairs)
    assert victim.read_bytes() == b""
    with (finished / name).open("wb") as file:
        file.truncate(20 * 10**9)
    with pytest.raises(DataError, match=f"{name} cannot be read: a sparse file"):
        hs.Run.open(finished)
