"""`hybrid-sim report RUN_DIR`: what the page of a run says is what the run's files say, and bad folders are refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from llm_server import LoopbackLLM
from pages_browser import Browser
from pages_checks import HOSTILE, PageReader

import hybrid_sim as hs
from hybrid_sim.cli import main

WORLD = ["--dataset", "world", "--quiet"]
PAIRS = ["--user", "random:6", "--item", "random:12"]


@pytest.fixture(scope="module")
def run(world_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a language model: 6 users, 12 items of the synthetic world."""
    folder = tmp_path_factory.mktemp("page") / "run"
    with LoopbackLLM() as server:
        asked = ["--model", "loopback", "--base-url", server.url, "--set", "rating.learn_from=6"]
        assert main(["simulate", *WORLD, *PAIRS, *asked, "--fitted", str(world_model), "-o", str(folder)]) == 0
    shutil.copytree(world_model, folder / "simulator")
    return folder


@pytest.fixture(scope="module")
def truth(run: Path) -> Path:
    """Made-up real ratings of all but ten pairs of the run, with times."""
    frame = pd.read_csv(run / "ratings.csv", dtype={"user_id": str, "item_id": str})[10:]
    rng = np.random.default_rng(0)
    frame["rating"] = np.clip(np.round(frame["mean"] + rng.normal(0, 0.8, len(frame))), 1, 5)
    frame["timestamp"] = 1_000_000_000 + rng.permutation(len(frame))
    file = run.parent / "truth.csv"
    frame[["user_id", "item_id", "rating", "timestamp"]].to_csv(file, index=False)
    return file


def report(source: Path, *more: str) -> int:
    return main(["report", str(source), *more, "--quiet"])


@pytest.fixture(scope="module")
def page(run: Path, truth: Path) -> Path:
    """A page of the run, with the real ratings, in another folder."""
    file = truth.with_name("page.html")
    assert report(run, "--truth", str(truth), "--html", str(file)) == 0
    return file


def test_the_page_of_a_run_holds_its_figures(run: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(run, "--truth", str(truth), "--dataset", "world") == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    read = PageReader((run / "report.html").read_text())
    rows = pd.read_csv(run / "ratings.csv", dtype={"user_id": str, "item_id": str})
    real = pd.read_csv(truth, dtype={"user_id": str, "item_id": str})
    both = rows.merge(real, on=["user_id", "item_id"], suffixes=("", "_real"))
    both = both[both["known_rating"].isna()]
    rmse = float(np.sqrt(((both["mean"] - both["rating_real"]) ** 2).mean()))
    assert len(both) == 57
    assert "synthetic data" in read.text
    assert "72 ratings were simulated" in read.text
    titles = json.loads((run / "run.json").read_text())["titles"]
    means = rows.groupby("item_id")["mean"].mean().sort_values()
    best, worst = (f"{titles[means.index[k]]} {word}, {means.iloc[k]:.2f}" for k, word in ((-1, "most"), (0, "least")))
    assert f"Of 12 items the 6 users would like {best} on average on the scale 1, 2, 3, 4, 5, and {worst}." in read.text
    assert "What its ratings were found to be worth: " in read.text
    assert f"RMSE {rmse:.4f} [" in read.text
    assert "on 57 pairs of 6 users" in read.text
    assert "57 of 72 pairs have one" in read.text
    assert "8 of the pairs are rated in the data that the simulator learned from" in read.text
    inside = (both["rating_real"] >= both["low"]) & (both["rating_real"] <= both["high"])
    assert f"{inside.mean():.1%} of the real ratings are inside their intervals" in read.text
    about = json.loads((run / "run.json").read_text())
    assert f"{about['ledger']['calls']:,} calls were sent" in read.text
    assert about["provenance"]["data_hash"] in read.text
    for title in (
        "Map of items",
        "Profile of user",
        "Why one rating",
        "Calls by prompt",
        "Forecast probability and observed frequency",
    ):
        assert title in read.text
    assert "ratings.csv" in read.links


def test_the_python_api_writes_the_page_of_the_command(
    run: Path, truth: Path, world_model: Path, tmp_path: Path
) -> None:
    world, written, page = hs.load_dataset("world"), tmp_path / "command.html", tmp_path / "page.html"
    user = pd.read_csv(truth, dtype=str)["user_id"].iloc[-1]
    data, judged = ["--dataset", "world"], ["--truth", str(truth), "--user", user, "--fitted", str(world_model)]
    for words, result, options in (
        ([], run, {}),
        ([], hs.Run.open(run), {}),
        (data, hs.Run(run, world), {"dataset": world}),
        ([*data, *judged], str(run), {"dataset": world, "truth": truth, "user": user, "fitted": world_model}),
    ):
        assert report(run, *words, "--html", str(written)) == 0
        hs.write_report(result, page, **options)
        assert page.read_bytes() == written.read_bytes()
    beside = run / "beside.html"
    hs.write_report(run, beside)
    assert 'href="ratings.csv"' in beside.read_text()
    assert 'href="ratings.csv"' not in page.read_text()
    beside.unlink()


def test_rows_are_named_by_their_number_in_the_file(run: Path, truth: Path, page: Path) -> None:
    read = PageReader(page.read_text())
    assert "ratings.csv" not in read.links
    lines = (run / "ratings.csv").read_text().splitlines()
    with truth.open(newline="") as file:
        real = {(row["user_id"], row["item_id"]): float(row["rating"]) for row in csv.DictReader(file)}
    header = lines[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in lines]
    errors = {
        number: abs(float(row["mean"]) - real[row["user_id"], row["item_id"]])
        for number, row in enumerate(rows, start=1)
        if (row["user_id"], row["item_id"]) in real and not row["known_rating"]
    }
    worst = max(errors, key=lambda number: errors[number])
    part = read.text[read.text.index("The 57 largest errors") :]
    heading = "row user item title drawn expected low high real source language model "
    assert part[part.index(heading) + len(heading) :].startswith(f"{worst} {rows[worst - 1]['user_id']} ")


def test_titles_are_those_that_the_run_has_kept(run: Path, page: Path) -> None:
    """The page is made without naming the data."""
    text = PageReader(page.read_text()).text
    assert all(title in text for title in json.loads((run / "run.json").read_text())["titles"].values())
    shift = json.loads((run / "run.json").read_text())["llm_shift"]
    if shift is not None:
        assert f"moved {shift['pairs']} of 72 expected ratings, by {shift['mean']:.2f} rating units" in text


def test_one_user_is_shown_as_asked(run: Path, tmp_path: Path) -> None:
    users = pd.read_csv(run / "ratings.csv", dtype=str)["user_id"].unique()
    for user in users[:2]:
        assert report(run, "--user", user, "--html", str(tmp_path / "page.html")) == 0
        text = PageReader((tmp_path / "page.html").read_text()).text
        assert f"User {user}: 12 simulated ratings" in text
        assert f"Profile of user {user}" in text
        profiles = [json.loads(line) for line in (run / "profiles.jsonl").read_text().splitlines()]
        versions = [profile for profile in profiles if profile["user_id"] == user]
        assert f"{len(versions)} versions. The latest: {' '.join(versions[-1]['summary'].split())}" in text


def test_the_same_run_gives_the_same_page(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert report(run, "--html", str(tmp_path / f"{name}.html")) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_run_without_model_explanations_or_simulator_has_a_page(world_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(["simulate", *WORLD, *PAIRS, "--explain", "none", "--fitted", str(world_model), "-o", str(folder)]) == 0
    (folder / "run.json").unlink()
    assert report(folder) == 0
    text = PageReader((folder / "report.html").read_text()).text
    assert "the run cost no calls" in text
    assert "has left no run.json" in text
    assert "12 items; user" in text
    assert "how the users of this run are expected to rate them" in text


def test_a_damaged_simulator_costs_only_the_map(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for file in (folder / "simulator").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert report(folder) == 0
    assert "warning: the map of items is drawn from the table of ratings" in capsys.readouterr().err


def write_hostile_run(folder: Path) -> None:
    """A run whose every word is an attack."""
    words = [word for word in HOSTILE if "\ud800" not in word]
    folder.mkdir()
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["user_id", "item_id", "rating", "mean", "sd", "p_1", "p_2", "low", "high", "source", "llm_rating"]
        )
        for user in words[:4]:
            for item in words:
                rows.writerow([user, item, 2, 1.6, 0.5, 0.4, 0.6, 1, 2, words[0], ""])
    parts = {"base": 1.5, **dict.fromkeys(words, 0.1)}
    evidence = [{"item_id": word, "title": word, "rating": 1.0, "contribution": 0.1} for word in words]
    line = {"user_id": words[0], "item_id": words[0], "reason": "".join(words), "by": "llm", "contributions": parts}
    (folder / "explanations.jsonl").write_text(
        json.dumps({**line, "evidence": evidence, "keywords": [], "against": []}) + "\n"
    )
    version = {"user_id": words[0], "version": 1, "summary": words[0], "likes": words, "dislikes": words}
    lines = [
        version,
        {**version, "version": 2, "likes": [], "change": words[0], "evidence": words, "writer": words[1]},
    ]
    (folder / "profiles.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    about = {
        "provenance": {"dataset": words[0], "command": words[1], "seed": words[2], "versions": {words[3]: words[4]}}
    }
    (folder / "run.json").write_text(
        json.dumps({**about, "settings": {"llm": {"model": words[0], words[2]: words[5]}}})
    )


def test_a_hostile_run_gives_a_harmless_page(tmp_path: Path) -> None:
    write_hostile_run(tmp_path / "run")
    assert report(tmp_path / "run") == 0
    text = PageReader((tmp_path / "run" / "report.html").read_text()).text
    for word in ("<script>window.hacked=1</script>", "=HYPERLINK", "\\u202egnp.exe", "{{ 7 * 7 }}"):
        assert word in text


def test_half_a_surrogate_pair_in_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hostile_run(tmp_path / "run")
    explanations = tmp_path / "run" / "explanations.jsonl"
    explanations.write_text(explanations.read_text().replace('"reason": "', '"reason": "\\ud800', 1))
    assert report(tmp_path / "run") == 2
    assert "explanations.jsonl line 1 is not an explanation" in capsys.readouterr().err


def test_a_line_of_a_run_that_is_much_too_long_is_not_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hostile_run(tmp_path / "run")
    (tmp_path / "run" / "explanations.jsonl").write_text(f"[{'{},' * 400_000}{{}}]\n")
    assert report(tmp_path / "run") == 2
    assert "explanations.jsonl line 1 has more than 1,000,000 bytes" in capsys.readouterr().err


def test_in_a_browser_the_pages_of_runs_ask_for_nothing(window: Browser, page: Path, tmp_path: Path) -> None:
    write_hostile_run(tmp_path / "run")
    assert report(tmp_path / "run", "--html", str(tmp_path / "hostile.html")) == 0
    for file in (page, tmp_path / "hostile.html"):
        window.check(file)


def test_a_large_run_has_a_small_page(tmp_path: Path) -> None:
    folder, n_users, n_items = tmp_path / "run", 400, 100
    folder.mkdir()
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), n_users * n_items)
    mean = probs @ np.arange(1.0, 6.0)
    frame = pd.DataFrame(
        {
            "user_id": np.repeat([f"u{n}" for n in range(n_users)], n_items),
            "item_id": np.tile([f"i{n}" for n in range(n_items)], n_users),
            "rating": rng.integers(1, 6, n_users * n_items),
            "mean": mean,
            **{f"p_{level + 1}": probs[:, level] for level in range(5)},
            "low": 1.0,
            "high": 5.0,
            "source": "stat",
        }
    )
    frame.to_csv(folder / "ratings.csv", index=False)
    frame[["user_id", "item_id", "rating"]].to_csv(tmp_path / "truth.csv", index=False)
    assert report(folder, "--truth", str(tmp_path / "truth.csv")) == 0
    page = (folder / "report.html").read_text()
    assert len(page) < 1_000_000
    assert "200 of 40,000 rows, drawn at random" in PageReader(page).text


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(said: str, source: Path, *more: str) -> None:
        assert report(source, *more) == 2
        assert said in capsys.readouterr().err

    refused("holds no ratings.csv; name a folder", tmp_path)
    refused("has no rating by user 'nobody'", run, "--user", "nobody")
    refused("name a file in a folder that exists", run, "--html", str(tmp_path / "nowhere" / "x.html"))
    refused("cannot be read", tmp_path / "nothing.json")
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    good = (broken / "ratings.csv").read_text()
    (broken / "ratings.csv").write_text(good.replace(",source,", ",origin,"))
    refused("lacks the column 'source'", broken)
    lines = good.splitlines()
    spoilt = ",".join(["9" if place == 2 else cell for place, cell in enumerate(lines[1].split(","))])
    (broken / "ratings.csv").write_text("\n".join([lines[0], spoilt, *lines[2:]]) + "\n")
    refused("ratings.csv row 2, column 'rating': 9 is not on the scale 1, 2, 3, 4, 5", broken)
    (broken / "ratings.csv").write_text(good)
    (broken / "run.json").write_text('{"provenance": [1]}')
    refused("holds no table of settings", broken)
    (broken / "run.json").write_text('{"provenance"')
    refused("is not JSON", broken)


def test_bad_truths_are_refused_with_their_row(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = tmp_path / "truth.csv"
    for content, said in (
        ("user_id,item_id\nu,i\n", "column 'rating' is missing"),
        ("user_id,item_id,rating\nu,i,4\n", "no row can judge the run, none is about its pairs"),
        ("user_id,item_id,rating\nu,i,4\nu,j,9\n", "truth.csv row 3, column 'rating': 9 is not on the scale"),
        ("user_id,item_id,rating\nu,i,\n", "truth.csv row 2, column 'rating': nan is not on the scale"),
        ("", "truth.csv is empty"),
    ):
        truth.write_text(content)
        assert report(run, "--truth", str(truth)) == 2
        assert said in capsys.readouterr().err


def test_of_a_repeated_truth_the_last_row_counts(run: Path, truth: Path, tmp_path: Path) -> None:
    right = pd.read_csv(truth, dtype={"user_id": str, "item_id": str})
    wrong = right.assign(rating=6 - right["rating"])
    for name, frames in (("once", [right]), ("twice", [wrong, right])):
        pd.concat(frames).to_csv(tmp_path / "truth.csv", index=False)
        assert report(run, "--truth", str(tmp_path / "truth.csv"), "--html", str(tmp_path / f"{name}.html")) == 0
    assert (tmp_path / "once.html").read_text() == (tmp_path / "twice.html").read_text()


def test_passwords_in_addresses_are_not_shown(tmp_path: Path) -> None:
    write_hostile_run(tmp_path / "run")
    address = "https://someone:secret@llm.example.org/v1"
    (tmp_path / "run" / "run.json").write_text(json.dumps({"settings": {"llm": {"base_url": address}}}))
    assert report(tmp_path / "run") == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "secret" not in page
    assert "https://llm.example.org/v1" in page
