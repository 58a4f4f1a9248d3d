"""Baselines on request: settings chosen without the held-out ratings, and EASE."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.rater import Rater
from hybrid_sim.data.world import make_world
from hybrid_sim.models import ease, make_rater
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.ease import EASE
from hybrid_sim.models.means import GlobalMean, ItemMean
from hybrid_sim.models.tuned import TunedSVD, best_of
from hybrid_sim.testing import check_rater, tiny_dataset


@pytest.fixture(scope="module")
def parts() -> tuple[Dataset, Dataset]:
    world = make_world(seed=4, n_users=120, n_items=150, ratings_per_user=40).dataset
    known = np.arange(len(world)) % 5 != 0
    return world.take(known), world.take(~known)


def rmse(rater: Rater, parts: tuple[Dataset, Dataset]) -> float:
    known, new = parts
    return float(np.sqrt(np.nanmean((rater.fit(known).rate(new.pairs).mean() - new.rating) ** 2)))


@pytest.mark.parametrize("strength", [50.0, None])
def test_ease_keeps_the_contract(strength: float | None) -> None:
    check_rater(partial(EASE, strength))


def test_ease_is_the_ridge_regression_of_each_item_on_the_others() -> None:
    data = tiny_dataset(n_users=30, n_items=12)
    fitted = EASE(3.0).fit(data)
    x, item = fitted.residuals_.toarray(), 5
    others = np.delete(x, item, axis=1)
    weights = np.linalg.solve(others.T @ others + 3.0 * np.eye(11), others.T @ x[:, item])
    assert np.delete(fitted.weights_[:, item], item) == pytest.approx(weights)
    assert fitted.weights_[item, item] == 0.0
    expected = Biases().fit(data).expect(data.pairs) + (x @ fitted.weights_)[data.user, data.item]
    assert fitted.expect(data.pairs) == pytest.approx(expected)


def test_better_settings_are_found_in_the_training_ratings(parts: tuple[Dataset, Dataset]) -> None:
    assert rmse(make_rater("svd_tuned"), parts) < rmse(make_rater("svd"), parts) - 0.02
    assert rmse(make_rater("ease"), parts) < rmse(make_rater("biases"), parts) - 0.01


def test_the_best_rater_is_chosen_on_ratings_that_it_has_not_learned(parts: tuple[Dataset, Dataset]) -> None:
    assert best_of([GlobalMean(), Biases(), ItemMean()], parts[0], seed=0) == 1
    assert best_of([GlobalMean(), Biases()], tiny_dataset().take(slice(0, 1)), seed=0) == 0
    with pytest.raises(DataError, match="has no ratings"):
        TunedSVD().fit(tiny_dataset().take(slice(0, 0)))


def test_too_many_items_for_ease_are_refused() -> None:
    world = make_world(n_users=5, n_items=ease.MAX_ITEMS + 1, ratings_per_user=3).dataset
    with pytest.raises(DataError, match="EASE inverts a square of all items"):
        EASE(1.0).fit(world)
