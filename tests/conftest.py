"""Data that several test files share: a tiny made-up data set, and the real ones where they are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages_browser import CHROMIUM, DRIVER, Browser, browser

import hybrid_sim as hs
from hybrid_sim.cli import main
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.files import cache_folder
from hybrid_sim.core.types import RatingScale
from hybrid_sim.testing import tiny_dataset


def pytest_configure(config: pytest.Config) -> None:
    """The processes of `pytest -n` share the cores, so that libraries use one thread in each."""
    if config.getoption("numprocesses", default=None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests share no fits with other runs, only the vectors of texts."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "embeddings").symlink_to(cache_folder("embeddings"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_SIM_CACHE", str(folder))
        yield


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """40 users, 60 items, about 900 ratings; the last but one user and item have none."""
    return tiny_dataset()


@pytest.fixture(scope="session")
def world_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a simulator with two quick members; fitted to no named data, it is one of the synthetic world."""
    folder = tmp_path_factory.mktemp("world") / "model"
    assert main(["fit", "--members", "biases,content_gp", "-o", str(folder), "--quiet"]) == 0
    hs.load(folder).require_fitted_to(hs.load_dataset("world"))
    return folder


@pytest.fixture(scope="session")
def window() -> Iterator[Browser]:
    """A browser window that all tests of pages share; they are skipped where no browser is installed."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium chromium-driver)")
    with browser() as window:
        yield window


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set by its name; the test is skipped where it is not there."""
    root = Path(os.environ.get("HYBRID_SIM_DATA") or Path(__file__).parents[2] / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"the real data set {name} is not in {root}")
        return root / name

    return find


@pytest.fixture(scope="session")
def ml100k_fold(real_data: Callable[[str], Path]) -> Callable[[int, str], tuple[Dataset, Dataset]]:
    """Training and test rows of a genuine fold of MovieLens 100K; protocol A has each user's last 40."""

    @cache
    def read(fold: int, protocol: str) -> tuple[Dataset, Dataset]:
        folder = real_data("ml-100k")
        train, test = (
            pd.read_csv(folder / f"u{fold}.{part}", sep="\t", names=["user", "item", "rating", "at"])
            for part in ("base", "test")
        )
        if protocol == "A":
            train = train.sort_values(["user", "at"], kind="stable").groupby("user").tail(40).sort_index()
        return _movielens(train), _movielens(test)

    return read


def _movielens(frame: pd.DataFrame) -> Dataset:
    return Dataset(
        name="ml-100k",
        scale=RatingScale((1, 2, 3, 4, 5)),
        users=pd.DataFrame(index=pd.Index([str(user) for user in range(1, 944)], dtype=object)),
        items=pd.DataFrame(index=pd.Index([str(item) for item in range(1, 1683)], dtype=object)),
        user=frame["user"].to_numpy(dtype=np.int64) - 1,
        item=frame["item"].to_numpy(dtype=np.int64) - 1,
        rating=frame["rating"].to_numpy(dtype=float),
        timestamp=frame["at"].to_numpy(dtype=np.int64).copy(),
    )


@pytest.fixture(scope="session")
def world_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment of a small synthetic world, each user's last fifth held out."""
    from hybrid_sim.environments.build import build
    from hybrid_sim.evaluation.splits import user_temporal

    folder = tmp_path_factory.mktemp("environment") / "env"
    world = hs.make_world(n_users=60, n_items=80, ratings_per_user=30).dataset
    split = user_temporal(world)
    simulator = hs.Simulator(members=("biases",), without=("boosted",))
    build(
        world.take(split.train_rows),
        folder,
        simulator=simulator,
        held_out=world.take(split.test_rows),
        protocol="user-temporal",
    )
    return folder
