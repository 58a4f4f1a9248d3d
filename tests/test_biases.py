"""Means and biases: hand-computed cases, what they abstain from, and the known figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.types import Pairs, RatingScale
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.means import GlobalMean, ItemMean, UserMean
from hybrid_sim.testing import check_rater, tiny_dataset


def _dataset(user: list[int], item: list[int], rating: list[float], n_users: int = 3, n_items: int = 3) -> Dataset:
    return Dataset(
        name="by hand",
        scale=RatingScale((1, 2, 3)),
        users=pd.DataFrame(index=pd.Index([f"u{row}" for row in range(n_users)], dtype=object)),
        items=pd.DataFrame(index=pd.Index([f"i{row}" for row in range(n_items)], dtype=object)),
        user=np.array(user),
        item=np.array(item),
        rating=np.array(rating, dtype=float),
    )


def _pairs(*pairs: tuple[int, int]) -> Pairs:
    return Pairs(np.array([user for user, _ in pairs]), np.array([item for _, item in pairs]))


@pytest.mark.parametrize("make", [GlobalMean, UserMean, ItemMean, Biases])
def test_conforms(make: Callable[[], Rater]) -> None:
    check_rater(make)


@pytest.mark.parametrize("make", [GlobalMean, UserMean, ItemMean, Biases])
def test_empty_training_data_is_refused(make: Callable[[], Rater]) -> None:
    with pytest.raises(DataError, match="data set 'by hand' has no ratings to learn from"):
        make().fit(_dataset([], [], []))


@pytest.mark.parametrize("value", [0, -1, np.inf, np.nan])
def test_settings_must_be_positive_numbers(value: float) -> None:
    with pytest.raises(SettingsError, match="smoothing of UserMean must be a positive number"):
        UserMean(smoothing=value)
    with pytest.raises(SettingsError, match="reg_item of Biases must be a positive number"):
        Biases(reg_item=value)


def test_histograms_by_hand() -> None:
    dataset = _dataset(user=[0, 0, 1], item=[0, 1, 0], rating=[1, 3, 3])
    everything = np.array([1 + 1 / 3, 1 / 3, 2 + 1 / 3]) / 4
    asked = _pairs((0, 0), (1, 2), (2, 1), (-1, -1))
    np.testing.assert_allclose(GlobalMean().fit(dataset).rate(asked).probs, np.tile(everything, (4, 1)))
    by_user = UserMean(smoothing=2).fit(dataset).rate(asked).probs
    np.testing.assert_allclose(by_user[0], (np.array([1, 0, 1]) + 2 * everything) / 4)
    np.testing.assert_allclose(by_user[1], (np.array([0, 0, 1]) + 2 * everything) / 3)
    assert np.isnan(by_user[2:]).all()
    by_item = ItemMean(smoothing=2).fit(dataset).rate(asked).probs
    np.testing.assert_allclose(by_item[0], (np.array([1, 0, 1]) + 2 * everything) / 4)
    np.testing.assert_allclose(by_item[2], (np.array([0, 0, 1]) + 2 * everything) / 3)
    assert np.isnan(by_item[[1, 3]]).all()


def test_biases_solve_the_penalised_least_squares_problem() -> None:
    dataset = tiny_dataset()
    rater = Biases(reg_user=3.0, reg_item=7.0).fit(dataset)
    design = np.zeros((len(dataset), dataset.n_users + dataset.n_items))
    design[np.arange(len(dataset)), dataset.user] = 1
    design[np.arange(len(dataset)), dataset.n_users + dataset.item] = 1
    penalty = np.diag(np.repeat([3.0, 7.0], [dataset.n_users, dataset.n_items]))
    target = dataset.rating - dataset.rating.mean()
    exact = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    np.testing.assert_allclose(np.concatenate([rater.user_bias_, rater.item_bias_]), exact, atol=1e-8)


def test_biases_answer_with_what_is_known() -> None:
    dataset = _dataset(user=[0, 0, 1], item=[0, 1, 0], rating=[1, 3, 2])
    rater = Biases().fit(dataset)
    answer = rater.rate(_pairs((0, 1), (0, -1), (0, 2), (-1, 1), (2, 1), (2, 2), (-1, -1), (2, -1)))
    mean, user, item = rater.global_mean_, rater.user_bias_[0], rater.item_bias_[1]
    np.testing.assert_allclose(
        answer.mean()[:5], [mean + user + item, mean + user, mean + user, mean + item, mean + item], atol=1e-9
    )
    assert not answer.answered[5:].any()


def test_known_figures_on_the_genuine_folds_of_movielens_100k(
    ml100k_fold: Callable[[int, str], tuple[Dataset, Dataset]],
) -> None:
    for protocol, known in (("A", 0.973), ("B", 0.942)):
        errors = []
        for fold in range(1, 6):
            train, test = ml100k_fold(fold, protocol)
            mean = Biases().fit(train).rate(test.pairs).mean()
            errors.append(np.sqrt(np.mean((np.nan_to_num(mean, nan=train.rating.mean()) - test.rating) ** 2)))
        assert np.mean(errors) == pytest.approx(known, abs=0.002)
