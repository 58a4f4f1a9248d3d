"""Memory that there is, what fitting takes of it, and members that do not fit."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run_command

import hybrid_sim as hs
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.memory import room
from hybrid_sim.core.rater import fit_cost
from hybrid_sim.core.types import RatingScale
from hybrid_sim.ensemble.components import default_members
from hybrid_sim.ensemble.cost import affordable, ensemble_cost
from hybrid_sim.retrieval.tfidf import TfidfSVD


def machine(root: Path, files: dict[str, str]) -> Path:
    """A folder with files of /proc and /sys."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 24000000 kB\nMemFree: 1 kB\nMemAvailable: 20000000 kB\n"}
V2 = {
    "sys/fs/cgroup/memory.current": "3000000000\n",
    "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 1000000000\n",
}


@pytest.mark.parametrize(
    ("files", "size", "bound"),
    [
        (MEMINFO, 20_480_000_000, "the machine"),
        (MEMINFO | V2 | {"sys/fs/cgroup/memory.max": "max\n"}, 20_480_000_000, "the machine"),
        (MEMINFO | V2 | {"sys/fs/cgroup/memory.max": "8000000000\n"}, 6_000_000_000, "the control group"),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "500000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "900000000\n",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 100000000\n",
            },
            0,
            "the control group",
        ),
        ({}, float("inf"), "nothing"),
    ],
    ids=["machine", "no limit", "cgroup v2", "cgroup v1, overdrawn", "another system"],
)
def test_the_least_bound_of_the_memory_counts(files: dict[str, str], size: float, bound: str, tmp_path: Path) -> None:
    found = room(machine(tmp_path, files))
    assert (found.size, found.bound.startswith(bound)) == (size, True)


def many_users(n_users: int, n_items: int = 50, n_ratings: int = 1000) -> Dataset:
    """Random ratings of a large catalogue; nobody fits to it."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(n_users, size=n_ratings), rng.integers(n_items, size=n_ratings)
    users, items = pd.DataFrame(index=pd.RangeIndex(n_users)), pd.DataFrame(index=pd.RangeIndex(n_items))
    return Dataset("many", RatingScale((1, 2, 3, 4, 5)), users, items, user, item, rng.integers(1, 6, n_ratings) * 1.0)


def test_what_cannot_fit_into_the_machine_is_refused_before_anything_is_fitted() -> None:
    """Issue 10, point 13: the similarities of 1,000,000 users take 40 TB."""
    data = many_users(1_000_000)
    with pytest.raises(SettingsError, match=r"\(a fit of knn 40,000\.\d GB, biases .*but .* leaves"):
        hs.Simulator(members=("biases", "knn"), n_jobs=1, embedder=TfidfSVD()).fit(data)


def test_members_that_do_not_fit_into_the_memory_given_are_left_out_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = many_users(100_000)
    members = {
        name: rater for name, rater in default_members(data.scale, TfidfSVD(), 0).items() if name in ("biases", "knn")
    }
    with caplog.at_level(logging.INFO, "hybrid_sim"):
        left = affordable(members, data, 1, 2e9)
    assert list(left) == ["biases"]
    assert caplog.messages[0].startswith(
        "knn is left out: with it fitting takes about 480.0 GB of memory, 400.0 GB of it"
    )
    with pytest.raises(SettingsError, match=r"each fit of biases, more than the 0 MB of --memory; give more"):
        affordable(members, data, 1, 1000)


def test_a_large_fit_says_beforehand_what_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    data = many_users(6_000)
    with caplog.at_level(logging.INFO, "hybrid_sim"):
        affordable(default_members(data.scale, TfidfSVD(), 0), data, 1)
    assert caplog.messages[0].startswith("fitting takes about ")
    assert "of memory (a fit of knn 1.4 GB, " in caplog.messages[0]
    assert caplog.messages[0].endswith("CPU")


def test_fits_at_a_time_are_counted() -> None:
    data = many_users(6_000)
    members = default_members(data.scale, TfidfSVD(), 0)
    one, two = (ensemble_cost(members, data, n_jobs).total.memory for n_jobs in (1, 2))
    assert two - one == fit_cost(members["knn"], data).memory


@pytest.mark.parametrize("size", ["0gb", "much", "8 apples", "-1gb", "8"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    done = run_command("fit", "-o", "m", f"--memory={size}")
    assert (done.status, "is no size of memory, as in 8GB or 500MB" in done.stderr) == (2, True)


def test_fit_leaves_out_what_does_not_fit(tmp_path: Path) -> None:
    done = run_command(
        "fit", "--members", "biases,facets", "--memory", "35MB", "--jobs", "1", "-o", "m", folder=tmp_path
    )
    assert (done.status, "warning: facets is left out: with it" in done.stderr) == (0, True), done.stderr
    assert list(hs.load(tmp_path / "m").ensemble_.members) == ["biases"]
