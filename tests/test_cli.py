"""The command line as users meet it: files, messages and exit statuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run_command

from hybrid_sim.cli import main
from hybrid_sim.cli.terminal import messages
from hybrid_sim.core.progress import track
from hybrid_sim.data.world import make_world

CHEAP = ["--models", "user_mean,biases"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up ratings, items and users as CSV, in their own words."""
    folder = tmp_path_factory.mktemp("tables")
    world = make_world(seed=5, n_users=40, n_items=60, ratings_per_user=25).dataset
    readers, books = world.users.index.to_numpy(), world.items.index.to_numpy()
    ratings = {
        "reader": readers[world.user],
        "book": books[world.item],
        "stars": world.rating.astype(int),
        "at": world.timestamp,
    }
    pd.DataFrame(ratings).to_csv(folder / "ratings.csv", index=False)
    items = world.items.assign(genres=world.items["genres"].map("|".join))
    items.rename_axis("book").to_csv(folder / "items.csv")
    world.users.rename_axis("reader").to_csv(folder / "users.csv")
    return folder


COLUMNS = ["--user-col", "reader", "--item-col", "book", "--rating-col", "stars", "--timestamp-col", "at"]


@pytest.fixture(scope="module")
def model(tables: Path) -> Path:
    """A simulator fitted on the tables by the command line."""
    folder = tables / "model"
    done = run_command(
        "fit", "--ratings", tables / "ratings.csv", "--items", tables / "items.csv",
        "--users", tables / "users.csv", *COLUMNS, "--scale", "1:5",
        "--members", "biases,svd", "-o", folder,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert "ratings of 40 users and 60 items on the scale 1, 2, 3, 4, 5" in done.stderr
    assert done.stdout == ""
    return folder


def test_bench_writes_table_figure_and_json(tmp_path: Path) -> None:
    done = run_command("bench", *CHEAP, "--json", "out.json", "--seed", "3", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "world (synthetic data), protocol user-temporal" in done.stdout
    assert re.search(r"^user_mean +1 +3616 +1\.\d{4}", done.stdout, re.MULTILINE)
    assert "Figure: bench-world-user-temporal.png" in done.stdout
    assert (tmp_path / "bench-world-user-temporal.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert [row["model"] for row in saved["results"]] == ["user_mean", "biases"]
    assert saved["provenance"]["command"] == "hybrid-sim bench --models user_mean,biases --json out.json --seed 3"
    assert saved["provenance"]["seed"] == 3


def test_bench_runs_on_own_tables_and_knows_their_columns(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--ratings", str(tables / "ratings.csv"), *COLUMNS, *CHEAP, "--figure", "none"]
    assert main([*words, "--protocol", "last40", "--folds", "2,3"]) == 0
    shown = capsys.readouterr()
    assert "ratings, protocol last40, mean over folds 2, 3" in shown.out
    assert "Figure" not in shown.out
    assert "Note: the folds are 5 random parts" in shown.out
    assert shown.err.count("rating scale 1, 2, 3, 4, 5 (detected)") == 1


def test_bench_on_ml_100k_with_recorded_ratings(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    folder = real_data("ml-100k").parent
    recorded = real_data("lusifer") / "ml-100k" / "ratings_u1.csv"
    done = run_command(
        "bench", "--data", folder, "--dataset", "ml-100k", "--protocol", "last40", "--folds", "1,2",
        "--llm-ratings", recorded, "--json", tmp_path / "out.json", "--figure", "none",
        "--models", "knn,svd,llm",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert "LLM ratings from column 'simulated_ratings'" in done.stderr
    rows = {(row["model"], row["fold"]): row for row in json.loads((tmp_path / "out.json").read_text())["results"]}
    assert list(rows) == [("knn", 1), ("knn", 2), ("svd", 1), ("svd", 2), ("llm", 1)]
    assert rows["llm", 1]["rmse"] == pytest.approx(1.3351, abs=1e-4)
    assert rows["llm", 1]["n"] == 19_655
    assert (rows["knn", 1]["rmse"] + rows["knn", 2]["rmse"]) / 2 == pytest.approx(0.9943, abs=5e-4)


def test_predict_answers_every_pair_in_order(model: Path, tmp_path: Path) -> None:
    pairs = pd.DataFrame({"user_id": ["u0001", "nobody", "u0002"], "item_id": ["f0003", "f0001", "nothing"]})
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    done = run_command("predict", model, "--pairs", "pairs.csv", "-o", "out.csv", folder=tmp_path)
    assert done.status == 0, done.stderr
    got = pd.read_csv(tmp_path / "out.csv", dtype={"user_id": str, "item_id": str})
    levels = [f"p_{level}" for level in (1, 2, 3, 4, 5)]
    assert list(got.columns) == ["user_id", "item_id", "mean", "sd", *levels, "low", "high", "source", "known"]
    pd.testing.assert_frame_equal(got[["user_id", "item_id"]], pairs, check_dtype=False)
    np.testing.assert_allclose(got[levels].sum(axis=1), 1.0)
    np.testing.assert_allclose(got[levels] @ np.arange(1.0, 6.0), got["mean"])
    assert ((got["low"] <= got["mean"]) & (got["mean"] <= got["high"])).all()
    assert got["source"].tolist() == ["stat", "item", "user"]
    assert "warning: 2 of 3 pairs hold an id that the model does not know" in done.stderr
    assert not got["known"].any()
    assert "training ratings" not in done.stderr
    assert "3 predictions in out.csv" in done.stderr
    assert run_command("predict", model, "--pairs", "pairs.csv", "-o", "again.parquet", folder=tmp_path).status == 0
    again = pd.read_parquet(tmp_path / "again.parquet")
    np.testing.assert_array_equal(again["mean"], got["mean"])
    assert list(again.columns) == list(got.columns)


def test_predict_says_which_pairs_are_training_ratings(model: Path, tables: Path, tmp_path: Path) -> None:
    """A model answers them from memory, without a word of it before."""
    rated = pd.read_csv(tables / "ratings.csv")[["reader", "book"]].set_axis(["user_id", "item_id"], axis=1)
    unrated = sorted(set(rated["item_id"]) - set(rated["item_id"][rated["user_id"] == rated["user_id"][0]]))[0]
    pairs = pd.concat([rated.head(2), rated.head(1).assign(item_id=unrated)])
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    done = run_command("predict", model, "--pairs", "pairs.csv", "-o", "out.csv", folder=tmp_path)
    assert pd.read_csv(tmp_path / "out.csv")["known"].tolist() == [True, True, False]
    assert "warning: 2 of 3 pairs are training ratings (column known)" in done.stderr


def test_predict_keeps_odd_ids_exactly(model: Path, tmp_path: Path) -> None:
    odd = [
        "=1+1",
        "-2",
        "01",
        "1.0",
        'a "quoted", id',
        "two\nlines",
        "../../etc",
        "\x1b[31mred",
        "é" * 300,
        "NA",
    ]
    pd.DataFrame({"user_id": odd, "item_id": "f0001"}).to_csv(tmp_path / "pairs.csv", index=False)
    assert main(["predict", str(model), "--pairs", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "o.csv")]) == 0
    got = pd.read_csv(tmp_path / "o.csv", dtype=str, keep_default_na=False)
    assert got["user_id"].tolist() == odd


def test_predict_says_which_ids_a_spreadsheet_would_run(model: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n=cmd(),f0001\n")
    done = run_command("predict", model, "--pairs", "pairs.csv", "-o", "o.csv", folder=tmp_path)
    assert "warning: 1 ids look like formulas to a spreadsheet, for example '=cmd()'" in done.stderr


def test_predict_reads_parquet_with_other_columns(model: Path, tmp_path: Path) -> None:
    pd.DataFrame({"who": ["u0001"], "what": ["f0001"], "extra": [1.5]}).to_parquet(tmp_path / "pairs.parquet")
    words = ["predict", str(model), "--pairs", str(tmp_path / "pairs.parquet"), "-o", str(tmp_path / "o.csv")]
    assert main([*words, "--pairs-user-col", "who", "--pairs-item-col", "what"]) == 0
    assert pd.read_csv(tmp_path / "o.csv")["user_id"].tolist() == ["u0001"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "user,item_id\nu,i\n",
            r"column 'user_id' is missing; the file has 'user', 'item_id'; .* --pairs-user-col",
        ),
        ("user_id,item_id\nu0001,\n", r"pairs.csv row 2, column 'item_id': the id is ''"),
        ("", r"pairs.csv is empty"),
    ],
)
def test_predict_refuses_bad_pairs_and_writes_nothing(
    model: Path, tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    words = ["predict", str(model), "--pairs", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "o.csv")]
    assert main(words) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "o.csv").exists()


def test_predict_refuses_a_damaged_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.csv").write_text("user_id,item_id\nu0001,f0001\n")
    words = ["--pairs", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "o.csv")]
    assert main(["predict", str(tmp_path), *words]) == 2
    assert "is not a saved model" in capsys.readouterr().err
    assert main(["predict", str(model), "--pairs", words[1], "-o", str(tmp_path / "o.xlsx")]) == 2
    assert "saved as .csv or .parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bnech"], "there is no command 'bnech'; did you mean 'bench'?"),
        (["bench", "--protocl", "full"], "there is no option '--protocl'; did you mean '--protocol'?"),
        (["bench", "--protocol", "last4"], "there is no protocol 'last4'; did you mean 'last40'?"),
        (["plan", "-o", "run", "--model", "m", "--budget", "5eur"], "budget '5eur' is not an amount of US dollars"),
        (["bench", "--known", "5"], "--known belongs to the protocol cold-users, not to user-temporal"),
        (["bench", "--dataset", "ml-100"], "there is no data set 'ml-100'; did you mean 'ml-100k'?"),
        (["bench", "--models", "svdd"], "there is no model 'svdd'; did you mean 'svd'?"),
        (["bench", "--folds", "x"], "folds 'x' are not understood; write numbers as in 1,2 or 1-3"),
        (["bench", "--folds", "9"], "there is no fold 9; protocol user-temporal has only fold 1"),
        (["bench", "--models", "llm"], "model 'llm' needs recorded LLM ratings; add --llm-ratings FILE"),
        (["bench", "--json", "nowhere/out.json"], "--json nowhere/out.json: cannot be written"),
        (["bench", "--figure", "out.pdf"], "a figure is saved as .png or .svg"),
        (["bench", "--seed", "-1"], "'-1' is not a whole number from 0 upwards"),
        (["bench", "--scale", "1:5"], "--scale belongs to --ratings FILE"),
        (["bench", "--user-feature", "age"], "--user-feature belongs to --ratings FILE"),
        (["bench", "--data", "nowhere", "--dataset", "ml-100k"], "there is no data folder nowhere"),
        (["bench", "--ratings", "nowhere.csv"], "there is no file nowhere.csv"),
        (["bench", "--data", "."], "either --dataset NAME (for example world) or --ratings FILE"),
        (["fit", "--data", ".", "-o", "model"], "either --dataset NAME (for example world) or --ratings FILE"),
        (["fit", "--dataset", "world", "--ratings", "r.csv", "-o", "m"], "either --dataset NAME"),
        (["fit", "--dataset", "world", "--tmdb-votes", "-o", "m"], "--tmdb-votes needs the table"),
        (["fit", "--teach", "m", "--members", "svd", "-o", "m"], "--without and --memory belong to a new fit"),
        (["predict"], "the following arguments are required: MODEL_DIR, --pairs, -o/--output"),
        (["data", "gett"], "data 'gett' is not known; did you mean 'get'?"),
        (["bench", "--duplicates", "lats"], "'lats' is not known; did you mean 'last'?"),
        (["data", "get"], "data get needs a name, for example ml-100k"),
        (["data", "get", "ml-10k"], "'ml-10k' cannot be downloaded; did you mean 'ml-100k'?"),
        (["data", "list", "ml-100k"], "data list takes no name"),
        (["--nope"], "there is no option '--nope'; did you mean '--help'?"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_with_the_cure(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("hybrid-sim: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_bad_row_is_named_and_debug_shows_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is the installed program in a process of its own."""
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating\na,x,5\nb,y,1\nb,z,nine\n")
    words = ("fit", "--ratings", "ratings.csv", "-o", "model")
    command = [sys.executable, "-m", "hybrid_sim", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "hybrid-sim: ratings.csv row 4, column 'rating': 'nine' is not a number; fix or remove the row"
    ]
    assert not (tmp_path / "model").exists()
    loud = run_command(*words, "--debug", folder=tmp_path)
    assert loud.status == 2
    assert "Traceback" in loud.stderr
    monkeypatch.setenv("HYBRID_SIM_DEBUG", "1")
    assert "Traceback" in run_command(*words, folder=tmp_path).stderr


def test_control_characters_of_foreign_text_do_not_reach_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.csv").write_text("user_id,item_id,rating\na,x,\x1b[31m5\n")
    assert main(["fit", "--ratings", str(tmp_path / "r.csv"), "-o", str(tmp_path / "m")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_full_disk_is_exit_5(tables: Path, tmp_path: Path) -> None:
    words = ["bench", "--ratings", str(tables / "ratings.csv"), *COLUMNS, *CHEAP, "--figure", "none"]
    code = (
        "import resource, signal, sys; from hybrid_sim.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--json", str(tmp_path / "out.json")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 5, done.stderr
    assert "cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupt_is_exit_130(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, threading; from hybrid_sim.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "sys.exit(main(['bench', '--models', 'svdpp', '--protocol', 'kfold', '--json', 'out.json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "hybrid-sim: interrupted"
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "evaluate:" in capsys.readouterr().out


def test_descriptions_wrap_at_the_width_of_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main(["validate", "--help"])
    lines = capsys.readouterr().out.split("\n")
    assert [line for line in lines if len(line) > 60 and not line.startswith("  hybrid-sim ")] == []
    assert "  --run RUN_DIR         a finished run of `hybrid-sim" in lines


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert re.fullmatch(r"hybrid-sim \d+\.\d+\.\d+\n", capsys.readouterr().out)


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_download_that_is_refused_is_exit_3(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        done = run_command("data", "get", "ml-100k", "--data", tmp_path, "--mirror", address)
    finally:
        server.shutdown()
        server.server_close()
    assert done.status == 3, done.stderr
    assert address in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_data_list_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ml-latest-small").mkdir()
    (tmp_path / "ml-latest-small" / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    assert main(["data", "list", "--data", str(tmp_path)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["ml-latest-small"] == str(tmp_path / "ml-latest-small")
    assert lines["ml-1m"] == f"not in {tmp_path}"
    assert lines["world"].startswith("synthetic")
    assert main(["data", "where", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path)


def test_log_lines_appear_once_and_quiet_keeps_warnings() -> None:
    import logging

    log = logging.getLogger("hybrid_sim")
    for quiet, expected in ((False, "read \\x1b\nwarning: odd\n"), (True, "warning: odd\n")):
        screen = StringIO()
        with messages(quiet, screen):
            for _ in range(2):
                log.info("read %s", "\x1b")
                log.warning("odd")
        assert screen.getvalue() == expected
    with messages(stream=(later := StringIO())):
        log.info("read again")
    assert later.getvalue() == "read again\n"


def test_long_work_is_told_in_plain_lines_where_there_is_no_terminal() -> None:
    screen = StringIO()
    with messages(stream=screen), track("short", 3) as task:
        task.advance(3)
    assert screen.getvalue() == ""
    with messages(stream=screen), track("slow", 4) as task:
        task.advance(1)
        time.sleep(2.1)
        task.advance(1, "halfway")
        task.advance(2)
    assert re.fullmatch(
        r"slow: (25|50)% \([12] of 4\), \d s left( - halfway)?\nslow: done in \d s\n", screen.getvalue()
    )


class Terminal(StringIO):
    """A screen that says that it is one."""

    def isatty(self) -> bool:
        return True


def test_long_work_is_a_bar_on_a_terminal() -> None:
    screen = Terminal()
    with messages(stream=screen), track("slow", 4) as task:
        task.advance(1)
        time.sleep(2.1)
        task.advance(1, "halfway")
    assert re.search(r"slow: +50%.*2/4 \[.*halfway", screen.getvalue())
