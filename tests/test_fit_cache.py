"""The cache of fits: equal to the last bit, for the same question alone, harmless when damaged, limited in size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_command

import hybrid_sim as hs
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.fit_cache import FitCache, caching_fits, fit_cache
from hybrid_sim.core.progress import listen
from hybrid_sim.core.rater import Rater
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation.ablation.member_answers import FoldAnswers, gather
from hybrid_sim.evaluation.bench import bench
from hybrid_sim.evaluation.protocols import Fold, make_protocol
from hybrid_sim.models import make_rater
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.hold_outs import hold_outs
from hybrid_sim.models.recorded import Recorded
from hybrid_sim.retrieval.embedder import TfidfSVD

MEMBERS = ("biases", "svd", "content_gp")


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=2, n_users=50, n_items=60, ratings_per_user=28).dataset


@pytest.fixture(scope="module")
def fold(world: Dataset) -> Fold:
    return next(make_protocol("kfold", world, folds=[1]).folds())


@pytest.fixture
def cache(tmp_path: Path) -> FitCache:
    return FitCache(tmp_path / "fits", least_seconds=0.0)


def gathered(fold: Fold, folder: Path, members: tuple[str, ...] = MEMBERS, seed: int = 0) -> tuple[FoldAnswers, int]:
    """The members' answers about a fold, and how many entries of the cache in `folder` they were made from."""
    with caching_fits(folder, least_seconds=0.0):
        return gather(fold, members, seed=seed, n_jobs=1), fit_cache().n_read


def simulated(fold: Fold, folder: Path | None, **options: Any) -> tuple[hs.Prediction, int]:
    """A simulator's predictions of a fold, and how many entries of the cache they were made from."""
    with caching_fits(folder, least_seconds=0.0):
        prediction = hs.fit(fold.train, members=MEMBERS, n_jobs=1, **options).predict_pairs(fold.held_out.pairs)
        return prediction, fit_cache().n_read


def test_cached_fits_predict_the_same_to_the_last_bit(fold: Fold, tmp_path: Path) -> None:
    plain = hs.fit(fold.train, members=MEMBERS, n_jobs=1).predict_pairs(fold.held_out.pairs)
    (first, n_first), (again, n_again) = (simulated(fold, tmp_path) for _ in range(2))
    assert (n_first, n_again) == (0, 9 * len(MEMBERS))
    for one in (first, again):
        np.testing.assert_array_equal(one.distribution.probs, plain.distribution.probs)
        np.testing.assert_array_equal(one.low, plain.low)


def test_an_ablation_and_a_simulator_share_the_fits_of_their_members(fold: Fold, tmp_path: Path) -> None:
    simulated(fold, tmp_path)
    answers, n_read = gathered(fold, tmp_path)
    assert n_read == 9 * len(MEMBERS)
    again, n_again = gathered(fold, tmp_path)
    assert n_again == n_read
    assert all(np.array_equal(again.seconds[name], answers.seconds[name]) for name in MEMBERS)
    _, n_without = simulated(fold, tmp_path, without=["boosted", "svd"])
    assert n_without == 9 * (len(MEMBERS) - 1)


def test_cached_answers_are_those_of_the_training_part_and_no_held_out_rating_reaches_them(
    fold: Fold, tmp_path: Path
) -> None:
    other = replace(fold, held_out=replace(fold.held_out, rating=6 - fold.held_out.rating))
    (first, _), (again, n_read) = (gathered(one, tmp_path, ("biases",)) for one in (fold, other))
    assert n_read == 9
    np.testing.assert_array_equal(first.test.means, again.test.means)
    plans = hold_outs(fold.train, 5, 2, 0.15, 0, 1)
    means = [
        Biases().fit(fold.train.take(plan.train_rows)).expect(fold.train.pairs.take(plan.held_rows)) for plan in plans
    ]
    np.testing.assert_array_equal(again.out_of_fold.means[:, 0, 0], np.concatenate(means))


def test_other_ratings_settings_embedders_rows_and_questions_are_other_entries(world: Dataset, cache: FitCache) -> None:
    altered = world.rating.copy()
    altered[0] = 6 - altered[0] + (altered[0] == 3)
    one, two = (TfidfSVD().fit(texts) for texts in (["a b"], ["b c d"]))
    rows = np.arange(5)
    made: list[str] = []

    def ask(name: str, what: str, rater: Rater, dataset: Dataset, rows: list[np.ndarray[Any, Any]]) -> None:
        cache.arrays(what, rater, dataset, rows, lambda: made.append(name) or {"x": np.zeros(1)})

    asked = {
        "biases": ("a", Biases(), world, [rows]),
        "the same again": ("a", Biases(), world, [rows]),
        "setting": ("a", Biases(reg_user=6.0), world, [rows]),
        "rater": ("a", make_rater("item_mean"), world, [rows]),
        "embedder": ("a", make_rater("content_gp", embedder=one), world, [rows]),
        "other embedder": ("a", make_rater("content_gp", embedder=two), world, [rows]),
        "data": ("a", Biases(), replace(world, rating=altered), [rows]),
        "rows": ("a", Biases(), world, [rows[:4]]),
        "order of rows": ("a", Biases(), world, [rows, rows[:1]]),
        "question": ("b", Biases(), world, [rows]),
    }
    for name, question in asked.items():
        ask(name, *question)
    assert made == [name for name in asked if name != "the same again"]


def test_fits_by_a_rater_whose_code_has_changed_are_not_used(
    world: Dataset, cache: FitCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: cached answers of another package's rater were used again after its code had changed."""
    monkeypatch.syspath_prepend(tmp_path)
    reads = []
    for package, body in (("rater_one", "pass"), ("rater_one", "pass"), ("other_rater", "spread = 2")):
        (tmp_path / package).mkdir(exist_ok=True)
        code = f"from hybrid_sim.models.biases import Biases\n\n\nclass Mine(Biases):\n    {body}\n"
        (tmp_path / package / "__init__.py").write_text(code)
        cache.fit(import_module(package).Mine(), world)
        reads.append(cache.n_read)
    assert reads == [0, 1, 1]


def test_a_rater_whose_settings_cannot_be_saved_is_fitted_each_time(world: Dataset, cache: FitCache) -> None:
    class Local(Biases):
        pass

    recording = Recorded(None)  # type: ignore[arg-type]  # a setting of a class that is not saved
    assert cache.fit(Local(), world).rater is not cache.fit(Local(), world).rater
    with pytest.raises(AttributeError):
        cache.fit(recording, world)
    assert cache.n_read == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign", "sparse"])
def test_damaged_and_foreign_entries_are_made_again(
    fold: Fold, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = simulated(fold, tmp_path)
    for file in [*tmp_path.glob("SVD*-out-of-fold-*"), *tmp_path.glob("SVD*-fit-*/arrays.npz")]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "sparse":
            with file.open("wb") as holes:
                holes.truncate(10**9)
            continue
        other = next(tmp_path.glob("Biases-fit-*/arrays.npz")).read_bytes()
        contents = {"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b"", "foreign": other}
        file.write_bytes(contents[damage])
    if damage == "foreign":
        for name in ("model.json", "manifest.json"):
            source = next(tmp_path.glob(f"Biases-fit-*/{name}"))
            next(tmp_path.glob(f"SVD*-fit-*/{name}")).write_bytes(source.read_bytes())
    again, _ = simulated(fold, tmp_path)
    assert "a cached fit is damaged and made again" in caplog.text
    np.testing.assert_array_equal(again.distribution.probs, first.distribution.probs)
    caplog.clear()
    _, n_read = simulated(fold, tmp_path)
    assert n_read == 9 * len(MEMBERS)
    assert not caplog.text


def test_the_entries_that_were_not_used_for_the_longest_time_make_room(world: Dataset, tmp_path: Path) -> None:
    cache = FitCache(tmp_path, least_seconds=0.0)
    raters = [Biases(reg_user=float(k)) for k in range(1, 7)]
    for rater in raters[:4]:
        cache.fit(rater, world)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) / 4
    for place, entry in enumerate(sorted(tmp_path.iterdir(), key=lambda entry: entry.stat().st_mtime_ns)):
        os.utime(entry, (1000 + place, 1000 + place))
    cache.max_bytes = int(4.5 * size)
    cache.fit(raters[0], world)  # used now
    cache.fit(raters[4], world)
    cache.make_room()
    assert len(list(tmp_path.iterdir())) == 4
    n_read = cache.n_read
    for rater in (raters[0], raters[4], raters[3]):
        cache.fit(rater, world)
    assert cache.n_read == n_read + 3


def test_a_command_leaves_the_cache_within_its_limit(world: Dataset, tmp_path: Path) -> None:
    for k in range(3):
        with caching_fits(tmp_path, max_bytes=1, least_seconds=0.0):
            fit_cache().fit(Biases(reg_user=1.0 + k), world)
            assert len(list(tmp_path.iterdir())) == 1
        assert not list(tmp_path.iterdir())


class Interrupting:
    """A listener on progress: somebody presses Ctrl-C at the `last` fit of a member."""

    def __init__(self, last: int) -> None:
        self.left = last

    @contextmanager
    def start(self, label: str, total: int) -> Iterator[Interrupting]:
        yield self if label == "fitting members" else Interrupting(-1)

    def advance(self, steps: int = 1, note: str = "", left: float | None = None) -> None:
        self.left -= steps
        if self.left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_fit_goes_on_where_it_was(fold: Fold, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), listen(Interrupting(12).start):
        simulated(fold, tmp_path)
    _, n_read = simulated(fold, tmp_path)
    assert n_read >= 12


def test_a_place_that_cannot_be_written_ends_no_fit(
    world: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    FitCache(tmp_path / "file" / "fits", least_seconds=0.0).fit(Biases(), world)
    assert "fits are not cached" in caplog.text
    with pytest.raises(SettingsError, match="is a file"), caching_fits(tmp_path / "file"):
        pass


def test_outside_of_caching_nothing_is_kept_and_quick_fits_never_are(world: Dataset, tmp_path: Path) -> None:
    assert fit_cache().folder is None
    FitCache(tmp_path).fit(make_rater("global_mean"), world)
    assert not list(tmp_path.iterdir())


def test_seconds_of_a_cached_model_are_not_shown_as_those_of_its_fit(world: Dataset, tmp_path: Path) -> None:
    with caching_fits(tmp_path, least_seconds=0.0):
        first, again = (bench(world, "kfold", ["svd", "hybrid"], folds=[1], members=["biases"]) for _ in range(2))
    assert all(row.seconds is not None and row.peak_mb is not None for row in first.results)
    assert all(row.seconds is None and row.peak_mb is None for row in again.results)
    np.testing.assert_equal([row.scores for row in first.results], [row.scores for row in again.results])


def test_commands_share_fits_unless_they_are_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_SIM_CACHE", str(tmp_path / "cache"))
    few = ("--members", "content_gp")
    assert run_command("bench", "--models", "hybrid", *few, "--no-cache", folder=tmp_path).status == 0
    assert not (tmp_path / "cache" / "fits").exists()
    assert run_command("bench", "--models", "hybrid", *few, folder=tmp_path).status == 0
    hybrid = set((tmp_path / "cache" / "fits").glob("ContentGP-*"))
    assert len(hybrid) == 9
    assert run_command("validate", *few, folder=tmp_path).status == 0
    assert hybrid <= set((tmp_path / "cache" / "fits").glob("ContentGP-*"))
