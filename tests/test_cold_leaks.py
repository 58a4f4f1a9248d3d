"""Leaks of exposure into item columns: plants are caught, honest columns pass."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.types import FloatArray
from hybrid_sim.data import load
from hybrid_sim.data.recordings import read_recordings
from hybrid_sim.data.world import World, make_world
from hybrid_sim.new_items.leakage import exposure_leak, warn_of_leaks
from hybrid_sim.testing import tiny_dataset


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(seed=1, n_users=400, n_items=900, ratings_per_user=80)


def with_column(dataset: Dataset, column: FloatArray) -> Dataset:
    return replace(dataset, items=dataset.items.assign(brought=column))


def item_means(dataset: Dataset, of_ratings: FloatArray) -> FloatArray:
    counts = dataset.item_counts
    total = np.bincount(dataset.item, weights=of_ratings, minlength=dataset.n_items)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def llm_ratings(world: World, seed: int) -> FloatArray:
    """What a language model might have said about every rated pair: quality, the user's leniency, noise."""
    data, rng = world.dataset, np.random.default_rng(seed)
    said = 3.3 + 0.5 * world.quality[data.item] + 0.6 * world.bias[data.user] + rng.normal(0, 0.9, len(data))
    return data.scale.round(said)


def test_the_number_of_ratings_is_caught(world: World) -> None:
    found = exposure_leak(with_column(world.dataset, np.log1p(world.dataset.item_counts)), "brought")
    assert found.count > 0.9
    assert "it follows the number of ratings" in str(found)


@pytest.mark.parametrize("shrink", [0.0, 5.0])
def test_the_mean_of_the_own_ratings_is_caught(world: World, shrink: float) -> None:
    data = world.dataset
    mean = data.rating.mean()
    column = mean + item_means(data, data.rating - mean) * data.item_counts / (data.item_counts + shrink)
    found = exposure_leak(with_column(data, column), "brought")
    assert "it behaves like an average over an item's raters" in str(found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_llm_ratings_averaged_over_actual_raters_are_caught_and_over_a_fixed_panel_not(world: World, seed: int) -> None:
    data = world.dataset
    over_raters = exposure_leak(with_column(data, item_means(data, llm_ratings(world, seed))), "brought")
    assert over_raters.found
    rng = np.random.default_rng(seed)
    panel = rng.choice(data.n_users, 30, replace=False)
    said = 3.3 + 0.5 * world.quality[:, None] + 0.6 * world.bias[panel] + rng.normal(0, 0.9, (data.n_items, 30))
    over_panel = exposure_leak(with_column(data, data.scale.round(said).mean(axis=1)), "brought")
    assert not over_panel.found


@pytest.mark.parametrize("seed", range(4))
def test_honest_columns_of_other_worlds_pass(seed: int) -> None:
    data = make_world(seed=seed + 10, n_users=300, n_items=600, ratings_per_user=60).dataset
    rng = np.random.default_rng(seed)
    of_genre = np.array([len(genres) for genres in data.items["genres"]]) + rng.normal(0, 0.5, data.n_items)
    items = data.items.assign(noise=rng.normal(size=data.n_items), of_genre=of_genre)
    for column in ("year", "genres", "noise", "of_genre"):
        found = exposure_leak(replace(data, items=items), column)
        assert not found.found, found


def test_a_category_that_is_made_from_the_number_of_ratings_is_caught(world: World) -> None:
    data = world.dataset
    counts = data.item_counts
    labels = np.where(counts > np.median(counts), "often", "rarely")
    found = exposure_leak(replace(data, items=data.items.assign(brought=labels.astype(object))), "brought")
    assert found.found


def test_equal_questions_have_equal_answers(world: World) -> None:
    assert exposure_leak(world.dataset, "year") == exposure_leak(world.dataset, "year")


def test_the_column_itself_does_not_explain_itself_away(world: World) -> None:
    """A leak that calls itself `year` is caught although years are taken for content."""
    counts = np.log1p(world.dataset.item_counts)
    noise = np.random.default_rng(0).normal(0, 1.5 * counts.std(), len(counts))
    leaky = replace(world.dataset, items=world.dataset.items.assign(year=counts + noise))
    assert exposure_leak(leaky, "year").count > 0.4


def test_of_few_items_or_of_a_constant_nothing_is_told(world: World) -> None:
    few = exposure_leak(tiny_dataset(), "year")
    assert np.isnan(few.count)
    assert not few.found
    constant = exposure_leak(with_column(world.dataset, np.ones(world.dataset.n_items)), "brought")
    assert np.isnan(constant.count)
    assert not constant.found


def test_missing_values_are_left_out(world: World) -> None:
    column = np.log1p(world.dataset.item_counts)
    column[::3] = np.nan
    found = exposure_leak(with_column(world.dataset, column), "brought")
    assert found.n_items <= 600
    assert found.found


def test_an_unknown_column_is_refused(world: World) -> None:
    with pytest.raises(SettingsError, match=r"there is no item column 'budget'; columns are title, year"):
        exposure_leak(world.dataset, "budget")


def test_only_leaks_are_warned_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    leaky = with_column(world.dataset, np.log1p(world.dataset.item_counts))
    with caplog.at_level(logging.WARNING, logger="hybrid_sim"):
        checks = warn_of_leaks(leaky, ["year", "brought"])
    assert [check.found for check in checks] == [False, True]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "item column 'brought' seems to know its items' ratings" in message
    assert "leave the column out" in message


def test_on_movielens_recorded_llm_ratings_are_caught_and_what_the_files_hold_passes(
    real_data: Callable[[str], Path],
) -> None:
    folder = real_data("ml-100k").parent
    recorded = [real_data("lusifer") / "ml-100k" / f"ratings_u{fold}.csv" for fold in (1, 2, 3)]
    data = load("ml-100k", folder, tmdb=None)
    recording = read_recordings(recorded, data)
    pairs = data.encode(recording.user_ids, recording.item_ids)
    total = np.bincount(pairs.item, weights=recording.ratings, minlength=data.n_items)
    counts = np.bincount(pairs.item, minlength=data.n_items)
    column = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    assert exposure_leak(with_column(data, column), "brought").found
    assert exposure_leak(with_column(data, np.log1p(data.item_counts)), "brought").found
    assert not exposure_leak(data, "year").found
    assert not exposure_leak(data, "genres").found
