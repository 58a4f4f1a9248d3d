"""`hybrid-sim simulate` and `plan` as a user meets them: files, messages, exit statuses, and what survives."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from llm_server import DEAD_ADDRESS, FaultPlan, LoopbackLLM, always, first

from hybrid_sim.cli import main
from hybrid_sim.data import load

KEY = "sk-sentinel-7f3a9c51d2e8"
WORDS = ["simulate", "--user", "random:4", "--item", "random:3"]
LEARN_NOTHING = ("--set", "rating.learn_from=2")
"""Too few users to find the loopback model worth nothing, so that it is asked about the pairs."""

INTERRUPTIBLE = """
import signal, sys
from hybrid_sim.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
sys.exit(main(sys.argv[1:]))
"""

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def simulate(world_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in the folder `run`; gives the exit status and all that was said."""

    def run(*more: str, url: str | None = None, words: list[str] | None = None) -> tuple[int, str]:
        model = [] if url is None else ["--model", "loopback", "--base-url", url, "--set", "rating.learn_from=6"]
        command = [*(words or WORDS), "--fitted", str(world_model), "-o", str(tmp_path / "run"), *model, *more]
        status = main(command)
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def rows(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "run" / "ratings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_a_model_the_answers_are_statistical_and_it_is_said(simulate: Run, tmp_path: Path) -> None:
    status, said = simulate()
    assert status == 0
    assert "no language model is asked (--model NAME asks one)" in said
    assert "12 pairs rated, from: stat 12" in said
    found = rows(tmp_path)
    assert list(found[0])[:5] == ["user_id", "item_id", "rating", "mean", "sd"]
    assert {row["source"] for row in found} == {"stat"}
    assert {row["llm_rating"] for row in found} == {""}
    explanations = [json.loads(line) for line in (tmp_path / "run" / "explanations.jsonl").read_text().splitlines()]
    for row, explanation in zip(found, explanations, strict=True):
        assert sum(explanation["contributions"].values()) == pytest.approx(float(row["mean"]), abs=1e-9)
    profiles = [json.loads(line) for line in (tmp_path / "run" / "profiles.jsonl").read_text().splitlines()]
    assert {profile["user_id"] for profile in profiles} == {row["user_id"] for row in found}
    assert not (tmp_path / "run" / "journal.sqlite").exists()


def test_with_a_model_a_second_run_sends_nothing_and_writes_the_same_bytes(simulate: Run, tmp_path: Path) -> None:
    tables = ("ratings.csv", "explanations.jsonl", "profiles.jsonl")
    with LoopbackLLM() as server:
        status, said = simulate(*LEARN_NOTHING, url=server.url)
        assert status == 0
        assert "12 of 12 pairs answered" in said
        before = [(tmp_path / "run" / name).read_bytes() for name in tables]
        n_requests = server.n_requests
        status, said = simulate(*LEARN_NOTHING, url=server.url)
        assert status == 0
        assert server.n_requests == n_requests
    assert "(0 of them now)" in said
    assert [(tmp_path / "run" / name).read_bytes() for name in tables] == before
    assert simulate("--replay", *LEARN_NOTHING, url=DEAD_ADDRESS)[0] == 0
    assert [(tmp_path / "run" / name).read_bytes() for name in tables] == before


def test_row_01_a_dead_endpoint_gives_the_rows_of_a_statistical_run_and_status_3(simulate: Run, tmp_path: Path) -> None:
    assert simulate()[0] == 0
    alone = rows(tmp_path)
    status, said = simulate("--overwrite", "--set", "llm.attempts=2", url=DEAD_ADDRESS)
    assert status == 3
    assert "127.0.0.1" in said
    assert "go on with: hybrid-sim simulate" in said
    assert rows(tmp_path) == alone


def test_row_43_a_run_ends_with_its_budget_and_goes_on_with_a_larger_one(simulate: Run, tmp_path: Path) -> None:
    with LoopbackLLM() as server:
        status, said = simulate("--max-calls", "10", url=server.url)
        assert status == 4
        assert server.n_requests == 10
        assert "raise --max-calls" in said
        assert {row["source"] for row in rows(tmp_path)} == {"stat"}
        status, said = simulate("--max-calls", "1000", url=server.url)
        assert status == 0
        whole = server.n_requests
    with LoopbackLLM() as other:
        assert simulate("-o", str(tmp_path / "other"), url=other.url)[0] == 0
        assert other.n_requests == whole


def test_money_is_refused_where_no_price_is_known(simulate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    status, said = simulate("--budget", "1usd", url="https://llm.example.org/v1")
    assert status == 2
    assert "price" in said
    assert KEY not in said


def test_pairs_without_the_models_word_are_counted_and_the_status_is_6(simulate: Run, tmp_path: Path) -> None:
    with LoopbackLLM(faults=lambda number, body: "refusal" if number % 9 == 0 else None) as server:
        status, said = simulate("--set", "rating.items_per_call=1", url=server.url)
    assert status == 6
    assert "gave no usable rating of" in said
    found = rows(tmp_path)
    assert {row["source"] for row in found if not row["llm_rating"]} == {"stat"}


def test_row_32_another_prompt_or_temperature_is_not_mixed_into_a_run(simulate: Run, tmp_path: Path) -> None:
    with LoopbackLLM() as server:
        assert simulate(url=server.url)[0] == 0
        status, said = simulate("--set", "llm.temperature=0.7", url=server.url)
        assert status == 2
        assert "llm.temperature: 0.0 in the run, 0.7 now" in said
        status, said = simulate(url=server.url, words=[*WORDS[:4], "random:5"])
        assert status == 2
        assert "pairs: " in said


def test_a_plan_sends_nothing_and_comes_close(simulate: Run, tmp_path: Path) -> None:
    with LoopbackLLM() as server:
        status, said = simulate("--dry-run", *LEARN_NOTHING, url=server.url)
        assert status == 0
        assert server.n_requests == 0
        planned = int(said.split(" calls, ")[0].rsplit(maxsplit=1)[-1].replace(",", ""))
        assert not (tmp_path / "run" / "ratings.csv").exists()
        assert simulate(*LEARN_NOTHING, url=server.url)[0] == 0
        assert planned == server.n_requests
        status, said = simulate("--dry-run", *LEARN_NOTHING, url=server.url)
    assert "loopback: 0 calls" in said


def test_row_25_the_key_is_written_nowhere(
    simulate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LoopbackLLM(faults=FaultPlan(seed=5, share=0.3)) as server:
        _, said = simulate("--debug", "--set", "llm.deadline=1", url=server.url)
        sent = {received.headers.get("authorization") for received in server.requests}
    assert sent == {f"Bearer {KEY}"}
    with LoopbackLLM(faults=always("401")) as server:
        status, refused = simulate("--debug", "-o", str(tmp_path / "refused"), url=server.url)
    assert status == 3
    assert KEY not in said + refused + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_row_26_no_option_takes_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("simulate", "plan", "prompt", "profile", "why"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "key" not in [word.strip("-,") for word in capsys.readouterr().out.split() if word.startswith("--")]
    assert main(["simulate", "--api-key", KEY]) == 2
    assert KEY not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "u0001"], "say which pairs"),
        (["--user", "random:0", "--item", "all"], "random:N with N from 1 to 300"),
        (["--user", "all", "--item", "all", "--pairs", "x.csv"], "name the pairs once"),
        (["--pairs", "nowhere.csv"], "nowhere.csv"),
        (["--user", "u0001", "--item", "f0001", "--set", "rating.item_per_call=3"], "did you mean 'items_per_call'"),
        (["--user", "u0001", "--item", "f0001", "--set", "llm.api_key=x"], "no setting 'llm.api_key'"),
        (["--user", "u0001", "--item", "f0001", "--settings", "nowhere.toml"], "nowhere.toml"),
        (["--user", "u0001", "--item", "f0001", "--members", "biases"], "leave --members and --without out"),
    ],
)
def test_mistakes_are_said_in_one_line(simulate: Run, words: list[str], message: str) -> None:
    status, said = simulate(words=["simulate", *words])
    assert status == 2
    assert message in said
    assert said.count("\n") == 1


def test_row_28_ctrl_c_keeps_what_came_and_says_how_to_go_on(world_model: Path, tmp_path: Path) -> None:
    with LoopbackLLM(latency=0.3) as server:
        words = [*WORDS, "--fitted", str(world_model), "-o", str(tmp_path / "run"), "--model", "loopback"]
        command = [
            sys.executable,
            "-c",
            INTERRUPTIBLE,
            *words,
            "--base-url",
            server.url,
            "--set",
            "llm.concurrency=2",
        ]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
        try:
            deadline = time.monotonic() + 120
            while server.n_requests < 6 and time.monotonic() < deadline:
                time.sleep(0.05)
            child.send_signal(signal.SIGINT)
            said = child.communicate(timeout=120)[1]
        finally:
            child.kill()
        n_answered = len(server.answered)
        assert child.returncode == 130
        assert "go on with: hybrid-sim simulate" in said
        assert n_answered == server.n_requests
        assert main([*words, "--base-url", server.url, "--replay"]) == 2  # some answers are missing, none is asked for
        assert main([*words, "--base-url", server.url]) == 0
        keys = [json.dumps(body["messages"]) for body in server.bodies]
    assert len(keys) == len(set(keys))


def test_a_storm_of_faults_ends_in_a_whole_table(simulate: Run, tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(3, "503")) as server:
        assert simulate(url=server.url)[0] == 0
    assert len(rows(tmp_path)) == 12


def test_components_are_switched_off_by_name(simulate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "--user", "random:3", "--item", "random:3", "--members", "biases,content_gp", "--quiet"]
    (tmp_path / "settings.toml").write_text('[ensemble]\nwithout = ["embeddings", "profile"]\n')
    with LoopbackLLM() as server:
        model = ["--model", "loopback", "--base-url", server.url, "--set", "rating.learn_from=9"]
        settings = ["--settings", str(tmp_path / "settings.toml")]
        assert main([*words, *model, *settings, "-o", str(tmp_path / "out")]) == 0
        assert server.n_requests == 12  # nine users to learn from and three to rate, and no profiles
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["members"] == ["biases"]
    assert main([*words, "-o", str(tmp_path / "bad"), "--without", "embedings"]) == 2
    assert "did you mean 'embeddings'?" in capsys.readouterr().err
    assert main([*words, *model, "-o", str(tmp_path / "no"), "--without", "llm"]) == 0
    assert not (tmp_path / "no" / "journal.sqlite").exists()


def test_ratings_that_the_data_holds_already_are_told_and_are_no_truth(
    simulate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = load("world")
    known = pd.DataFrame(
        {
            "user_id": world.users.index[world.user[:6]],
            "item_id": world.items.index[world.item[:6]],
            "rating": world.rating[:6],
        }
    )
    unknown = known[["user_id"]].assign(item_id=[*known["item_id"][1:], known["item_id"][0]])
    pairs = pd.concat([known[["user_id", "item_id"]], unknown]).drop_duplicates()
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    known.to_csv(tmp_path / "truth.csv", index=False)
    words = ["simulate", "--pairs", str(tmp_path / "pairs.csv")]
    status, said = simulate(words=words)
    assert status == 0
    frame = pd.read_csv(tmp_path / "run" / "ratings.csv", dtype={"user_id": str, "item_id": str})
    held = world.rating_of(world.encode(frame["user_id"], frame["item_id"]))
    assert np.array_equal(frame["known_rating"], held, equal_nan=True)
    assert f"{np.isfinite(held).sum()} of the pairs are rated in the data already" in said
    assert main(["report", str(tmp_path / "run"), "--truth", str(tmp_path / "truth.csv")]) == 2
    assert "the simulator learned from all 6 that are about its pairs" in capsys.readouterr().err
