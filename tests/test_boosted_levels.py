"""The boosted level distribution: the contract, no leak of a rating into its features, what it reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import Pairs, RatingScale
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation.metrics import calibration_error, log_loss, rmse
from hybrid_sim.models.boosted import BoostedLevels
from hybrid_sim.models.means import GlobalMean
from hybrid_sim.retrieval.embedder import TfidfSVD
from hybrid_sim.testing import check_rater, tiny_dataset

Fold = Callable[[int, str], tuple[Dataset, Dataset]]


def _halves(dataset: Dataset, seed: int = 0) -> tuple[Dataset, Dataset]:
    held = np.random.default_rng(seed).random(len(dataset)) < 0.2
    return dataset.take(~held), dataset.take(held)


def test_conforms() -> None:
    check_rater(lambda: BoostedLevels(n_trees=15))


def test_conforms_with_texts() -> None:
    texts = TfidfSVD().fit(item_texts(tiny_dataset()))
    check_rater(lambda: BoostedLevels(n_trees=5, n_axes=4, embedder=texts))


def test_beats_the_histogram_of_all_ratings_and_is_calibrated() -> None:
    train, test = _halves(make_world(seed=3, n_users=150, n_items=200, ratings_per_user=50).dataset)
    answer, histogram = (rater.fit(train).rate(test.pairs) for rater in (BoostedLevels(), GlobalMean()))
    assert log_loss(test.rating, answer) < log_loss(test.rating, histogram) - 0.1
    assert calibration_error(test.rating, answer) < 0.03


def test_ratings_without_any_pattern_are_not_learned_from_their_own_statistics() -> None:
    """Few ratings per user and item are where a rating among its own statistics gives itself away most."""
    rng = np.random.default_rng(0)
    noise = Dataset(
        name="noise",
        scale=RatingScale((1, 2, 3, 4, 5)),
        users=pd.DataFrame(index=pd.Index([f"u{row}" for row in range(800)], dtype=object)),
        items=pd.DataFrame(index=pd.Index([f"i{row}" for row in range(800)], dtype=object)),
        user=rng.integers(0, 800, 4000),
        item=rng.integers(0, 800, 4000),
        rating=rng.integers(1, 6, 4000).astype(float),
    )
    train, test = _halves(noise)
    answer = BoostedLevels(n_trees=60).fit(train).rate(test.pairs)
    assert log_loss(test.rating, answer) < np.log(5) + 0.06
    assert rmse(test.rating, answer.mean()) < np.sqrt(2) * 1.03


def test_unknown_users_and_items_are_answered_from_the_other_side() -> None:
    dataset = make_world(seed=3, n_users=100, n_items=120, ratings_per_user=40).dataset
    rater = BoostedLevels(n_trees=80).fit(dataset)
    means = np.bincount(dataset.item, dataset.rating) / np.maximum(np.bincount(dataset.item), 1)
    often = np.flatnonzero(dataset.item_counts >= 20)
    answer = rater.rate(Pairs(np.full(len(often), -1), often))
    assert answer.answered.all()
    assert np.corrcoef(answer.mean(), means[often])[0, 1] > 0.9
    assert not rater.rate(Pairs(np.array([-1]), np.array([-1]))).answered.any()


def test_item_texts_speak_about_items_without_ratings() -> None:
    """Two kinds of films that only their words tell apart: one loved, one loathed."""
    dataset = tiny_dataset(n_users=60, n_items=60)
    kind = np.arange(60) % 2
    words = ["a warm garden of letters" if k else "a cold engine in a storm" for k in kind]
    items = pd.DataFrame({"overview": words}, index=dataset.items.index)
    rating = np.where(kind[dataset.item] == 1, 5.0, 1.0)
    known = dataset.item < 50
    train = replace(dataset, items=items, rating=rating).take(known)
    new = np.arange(50, 60)
    texts = TfidfSVD().fit(words)
    told = BoostedLevels(embedder=texts).fit(train).rate(Pairs(np.zeros(10, dtype=np.int64), new)).mean()
    untold = BoostedLevels().fit(train).rate(Pairs(np.zeros(10, dtype=np.int64), new)).mean()
    assert told[kind[new] == 1].min() > told[kind[new] == 0].max() + 1.0
    assert np.ptp(untold) < 1e-9


def test_a_level_that_was_never_given_stays_possible() -> None:
    dataset = tiny_dataset()
    without_fives = dataset.take(dataset.rating < 5)
    probs = BoostedLevels(n_trees=20).fit(without_fives).rate(dataset.pairs).probs
    assert probs.min() > 1e-4
    assert probs[:, 4].max() < 0.01


def test_a_second_fit_replaces_the_first() -> None:
    first, second = tiny_dataset(seed=1), tiny_dataset(seed=2)
    rater = BoostedLevels(n_trees=10).fit(first)
    rater.rate(first.pairs)
    fresh = BoostedLevels(n_trees=10).fit(second)
    np.testing.assert_array_equal(rater.fit(second).rate(second.pairs).probs, fresh.rate(second.pairs).probs)


def test_what_it_cannot_learn_from_is_refused() -> None:
    with pytest.raises(DataError, match="has no ratings to learn from"):
        BoostedLevels().fit(tiny_dataset().take(np.array([], dtype=np.int64)))
    with pytest.raises(DataError, match="has one rating; statistics out of fold need at least two"):
        BoostedLevels().fit(tiny_dataset().take(np.array([0])))
    with pytest.raises(SettingsError, match=r"at most 25 levels, the scale has 101; use .* or bin"):
        BoostedLevels().fit(tiny_dataset(levels=range(101)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_trees": 0}, "n_trees of BoostedLevels must be a positive number, got 0"),
        ({"n_folds": 1}, "n_folds of BoostedLevels must be at least 2, got 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        BoostedLevels(**settings)


def test_known_figures_on_fold_1_of_movielens_100k(ml100k_fold: Fold) -> None:
    train, test = ml100k_fold(1, "A")
    answer = BoostedLevels(n_trees=100).fit(train).rate(test.pairs)
    assert log_loss(test.rating, answer) < 1.31
    assert rmse(test.rating, answer.mean()) < 0.99
