"""What a command says before, while and after it works: checks, progress, names, help."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from command_line import run_command
from small_worlds import rating_table

import hybrid_sim as hs
from hybrid_sim.cli.info import LISTS
from hybrid_sim.cli.parsing import COMMANDS, command_parser
from hybrid_sim.cli.terminal import messages
from hybrid_sim.core.parallel import parallel_map
from hybrid_sim.core.progress import report_to, track


def test_work_that_does_not_advance_shows_that_it_goes_on() -> None:
    """Issue 11: 18 minutes of silence while texts were embedded."""
    screen = StringIO()
    with messages(stream=screen), track("embedding", 4):
        time.sleep(3.5)
    assert re.fullmatch(r"embedding: 0% \(0 of 4\)\nembedding: done in \d s\n", screen.getvalue())


def test_the_time_left_is_learned_from_tasks_of_the_same_kind() -> None:
    """Issue 11: it was told from the first three of 99 tasks, which were the slowest, or the quickest."""
    screen = StringIO()
    tasks = [(seconds,) for _ in range(3) for seconds in (1.2, 0.0)]
    with messages(stream=screen):
        parallel_map(time.sleep, tasks, 1, "fitting", ["slow", "quick"] * 3)
    lines = screen.getvalue().splitlines()
    assert re.fullmatch(r"fitting: (33|50)% \([23] of 6\), [1-4] s left - (quick|slow)", lines[0])


def test_tasks_in_threads_report_what_they_track() -> None:
    seen: list[str] = []

    def work(name: str) -> None:
        with track(name, 1) as task:
            task.advance()

    with report_to(lambda label, done, total: seen.append(label)):
        parallel_map(work, [("a",), ("b",)], 2, "outer")
    assert set(seen) == {"a", "b", "outer"}


def test_a_notebook_shows_bars(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, expected in (("another_module", False), ("ipykernel", True)):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        with track("long work", 2) as task:
            time.sleep(2.2 if expected else 0.0)
            task.advance()
        assert ("long work" in capsys.readouterr().err) is expected
    monkeypatch.delitem(sys.modules, "ipykernel")
    with hs.show_progress(), track("long work", 2) as task:
        time.sleep(2.2)
        task.advance(1, "half", 61.0)
    assert re.search(r"long work: +50%.*1/2 \[.*1 min 01 s left, half", capsys.readouterr().err)


def test_info_says_what_a_saved_model_holds(world_model: Path, tmp_path: Path) -> None:
    shown = run_command("info", world_model).stdout
    for expected in ("data: world", "ratings: 18,", "members: biases, content_gp", "RMSE 0.", "numpy "):
        assert expected in shown
    facts = json.loads(run_command("info", world_model, "--json").stdout)
    assert (facts["seed"], facts["users"], facts["packages"]["hybrid-sim"]) == (0, 300, hs.__version__)
    refused = run_command("info", tmp_path)
    assert (refused.status, "not a saved model" in refused.stderr) == (2, True)


def test_names_are_listed_with_what_they_are() -> None:
    listed = {what: run_command("list", what).stdout for what in LISTS}
    for what, name in (
        ("members", "kernel_gp"), ("models", "hybrid+llm"), ("components", "boosted"), ("protocols", "cold-users"),
        ("datasets", "ml-100k"),
    ):  # fmt: skip
        assert re.search(rf"^{re.escape(name)} +\w", listed[what], re.M), what
    assert "did you mean 'members'?" in run_command("list", "member").stderr


def test_a_shell_completes_commands_options_and_names(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    (tmp_path / "script").write_text(run_command("completion", "bash").stdout)

    def completed(*words: str) -> list[str]:
        line = f"source ./script; COMP_WORDS=(hybrid-sim {' '.join(words)}); COMP_CWORD={len(words)}; _hybrid_sim"
        command = ["bash", "-c", f"{line}; echo ${{COMPREPLY[@]}}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

    assert completed("ben") == ["bench"]
    assert completed("bench", "--mo") == ["--models"]
    assert completed("bench", "--models", "hyb") == ["hybrid", "hybrid+llm", "hybrid+llm_shuffled"]
    assert run_command("completion", "zsh").stdout.startswith("autoload -Uz bashcompinit")


def test_every_option_has_help_and_descriptions_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for name in COMMANDS:
        parser = command_parser(name)
        text = parser.format_help()
        for action in parser._actions:
            assert action.help not in (None, argparse.SUPPRESS), (name, action.dest)
        prose = [line for line in text.splitlines() if not line.startswith(" ") and not line.startswith("usage")]
        assert max(map(len, prose)) <= 60, name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("bench --without knnn", "there is no component or member 'knnn'; did you mean 'knn'?"),
        ("bench --members svdd", "there is no member 'svdd'"),
        ("bench --models svd --members biases", "--members belongs to the model hybrid, which is not run"),
        ("bench --llm-model x --models svd", "--llm-model belongs to --llm-ratings FILE"),
        ("simulate --user u0001 --item zzz -o run", "--item zzz: the data has no such id, it has for example f0001"),
        ("simulate --user u0001 --item f0001 -o file/run", "file is a file"),
        ("simulate --user u0001 --item f0001 --max-calls 3 -o run", "--model NAME"),
        ("cold --new new.csv -o file/run", "file is a file"),
        ("fit -o file/model", "file is a file"),
        ("fit -o model --folds 1,2 --protocol kfold", "one fold is meant; name one"),
        ("validate --truth held.csv --folds 2", "--folds says what is held out, and --truth does already"),
        ("validate --fitted model --members svd", "--members belongs to a new fit, and --fitted names a simulator"),
        ("validate --simulated s.csv --without svd", "--without belongs to a new fit, and --simulated names"),
        ("doctor --no-question", "--no-question belongs to --model NAME"),
        ("report result.json --user u0001", "--user belongs to the folder of a run, and result.json is none"),
        ("bench --dataset world --duplicates mean", "--duplicates belongs to --ratings FILE"),
    ],
)
def test_what_can_be_checked_is_checked_before_anything_is_fitted(words: str, message: str, tmp_path: Path) -> None:
    """Issue 11: a misspelt name was told after minutes of fitting; options that did nothing were taken."""
    (tmp_path / "file").write_text("")
    done = run_command(*words.split(), folder=tmp_path)
    assert (done.status, message in done.stderr) == (2, True), done.stderr
    assert "fitting" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_columns_of_held_out_ratings_are_named_as_those_of_the_ratings(tmp_path: Path) -> None:
    world = hs.load_dataset("world")
    rows = np.arange(len(world)) % 5 == 0
    for name, part in (("train.csv", world.take(~rows)), ("held.csv", world.take(rows))):
        rating_table(part).rename(columns={"user_id": "who", "rating": "stars"}).to_csv(tmp_path / name, index=False)
    words = ["validate", "--ratings", "train.csv", "--truth", "held.csv", "--members", "biases", "--json", "out.json"]
    named = run_command(*words, "--user-col", "who", "--rating-col", "stars", folder=tmp_path)
    assert named.status == 0, named.stderr
    assert "written: out.json" in named.stderr


def test_a_fold_that_was_fitted_is_validated(tmp_path: Path) -> None:
    fold = ["--protocol", "kfold", "--folds", "2"]
    assert run_command("fit", "--members", "biases", *fold, "-o", "model", folder=tmp_path).status == 0
    assert run_command("validate", *fold, "--fitted", "model", folder=tmp_path).status == 0
    other = run_command("validate", "--protocol", "kfold", "--folds", "1", "--fitted", "model", folder=tmp_path)
    assert "was fitted to other data" in other.stderr
