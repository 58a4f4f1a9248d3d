"""The Bayesian factorization draws from the posterior that it says, and finds what was planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.types import FloatArray, Pairs, RatingScale
from hybrid_sim.models import gibbs
from hybrid_sim.models.factorization import BayesianFactorization
from hybrid_sim.models.features import FeatureBlock
from hybrid_sim.models.gibbs import LinkedPrior
from hybrid_sim.testing import check_odd_data, check_rater, tiny_dataset

FINE = RatingScale(tuple(np.round(np.arange(-8, 8.05, 0.1), 1)))
"""A scale fine enough for ratings to be numbers, with room for all of them."""


def small(**settings: Any) -> BayesianFactorization:
    return BayesianFactorization(**{"n_iterations": 60, "burn_in": 15, "n_draws": 20, "n_factors": 3, **settings})


@dataclass(frozen=True)
class Planted:
    """Ratings of known expectation, and how noisy each user is."""

    train: Dataset
    held: Dataset
    held_expectation: FloatArray
    noise: FloatArray


def planted(scale: RatingScale = FINE, spread: float = 0.7, seed: int = 0) -> Planted:
    """120 users and 80 items with two factors; half of the users are three times as noisy as the others."""
    rng = np.random.default_rng(seed)
    n_users, n_items = 120, 80
    taste = rng.normal(0, 0.8, (n_users, 2)) @ rng.normal(0, 0.8, (n_items, 2)).T
    liking = taste + rng.normal(0, 0.5, (n_users, 1)) + rng.normal(0, 0.5, (1, n_items))
    noise = np.where(np.arange(n_users) % 2, 1.5, 0.5) * spread
    user, item = np.nonzero(rng.random((n_users, n_items)) < 0.45)
    said = scale.round(liking[user, item] + noise[user] * rng.normal(size=len(user)))
    people = pd.DataFrame(index=pd.Index([f"u{row}" for row in range(n_users)], dtype=object))
    films = pd.DataFrame(index=pd.Index([f"i{row}" for row in range(n_items)], dtype=object))
    whole = Dataset("planted", scale, people, films, user.astype(np.int64), item.astype(np.int64), said)
    held = rng.random(len(whole)) < 0.2
    return Planted(whole.take(~held), whole.take(held), liking[user, item][held], noise)


def rmse(one: FloatArray, other: FloatArray) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


def test_draws_have_the_mean_and_covariance_of_the_posterior() -> None:
    """Many copies of one user: bias and two factors given five ratings, against the closed form."""
    rng = np.random.default_rng(0)
    n_copies, dim, n_items = 40_000, 3, 5
    items, targets, weights = (
        rng.normal(size=(n_items, dim)),
        rng.normal(size=n_items),
        rng.uniform(0.5, 3, n_items),
    )
    root = rng.normal(size=(dim, dim))
    precision, prior_mean = root @ root.T + np.eye(dim), rng.normal(size=dim)
    vectors = np.empty((n_copies, dim))
    gibbs.draw_vectors(
        vectors,
        np.arange(n_copies + 1) * n_items,
        np.tile(np.arange(n_items), n_copies),
        np.tile(targets, n_copies),
        np.tile(weights, n_copies),
        items,
        np.tile(prior_mean, (n_copies, 1)),
        precision,
        rng.standard_normal((n_copies, dim)),
    )
    design = np.column_stack([np.ones(n_items), items[:, 1:]])
    covariance = np.linalg.inv(precision + design.T @ (weights[:, None] * design))
    mean = covariance @ (precision @ prior_mean + design.T @ (weights * (targets - items[:, 0])))
    error = np.sqrt(np.diag(covariance) / n_copies)
    assert (np.abs(vectors.mean(axis=0) - mean) < 4 * error).all()
    assert np.cov(vectors.T) == pytest.approx(covariance, abs=0.03 * covariance.max())


def test_a_row_without_ratings_is_drawn_from_its_prior() -> None:
    rng = np.random.default_rng(1)
    precision = np.array([[2.0, 0.5], [0.5, 1.0]])
    means = np.tile([3.0, -1.0], (20_000, 1))
    vectors, none = np.empty((20_000, 2)), np.empty(0)
    starts, nobody = np.zeros(20_001, dtype=np.int64), np.empty(0, dtype=np.int64)
    normals = rng.standard_normal(vectors.shape)
    gibbs.draw_vectors(vectors, starts, nobody, none, none, np.ones((1, 2)), means, precision, normals)
    assert vectors.mean(axis=0) == pytest.approx([3, -1], abs=0.05)
    assert np.cov(vectors.T) == pytest.approx(np.linalg.inv(precision), abs=0.05)


def test_the_normal_table_is_exact_to_a_hundred_thousandth() -> None:
    reach = 6.5
    table = ndtr(np.linspace(-reach, reach, 4097))
    x = np.concatenate([np.linspace(-9, 9, 10_001), [-np.inf, np.inf]])
    found = np.array([gibbs.normal_cdf(value, table, reach) for value in x])
    assert np.abs(found - ndtr(x)).max() < 1e-5


def test_the_linked_prior_finds_planted_weights() -> None:
    rng = np.random.default_rng(2)
    n_rows, dim = 1500, 2
    features, flags = rng.normal(size=(n_rows, 3)), (rng.random((n_rows, 2)) < 0.3).astype(float)
    weights = rng.normal(size=(3, dim))
    theta = np.array([1.0, -2.0]) + features @ weights + 0.3 * rng.normal(size=(n_rows, dim))
    blocks = [FeatureBlock.of(features, 10), FeatureBlock.of(flags, 10)]
    prior = LinkedPrior(blocks, n_rows, dim, strength=0.1)
    kept, noise = [], []
    for sweep in range(120):
        prior.update(theta, rng)
        if sweep >= 40:
            kept.append([block.axes @ found for block, found in zip(blocks, prior.weights, strict=True)])
            noise.append(np.linalg.inv(prior.precision))
    planted_block, idle_block = (np.mean([draw[b] for draw in kept], axis=0) for b in range(2))
    assert planted_block == pytest.approx(weights, abs=0.04)
    assert idle_block == pytest.approx(0, abs=0.06)
    assert np.mean(noise, axis=0) == pytest.approx(0.09 * np.eye(dim), abs=0.02)
    assert prior.means == pytest.approx(theta, abs=1.6)


def test_feature_blocks_keep_inner_products_and_apply_to_other_rows() -> None:
    features = np.random.default_rng(3).normal(size=(50, 4))
    block = FeatureBlock.of(features, 10)
    centred = features - features.mean(axis=0)
    assert block.scores @ block.scores.T == pytest.approx(centred @ centred.T)
    assert block.scores.T @ block.scores == pytest.approx(np.diag(block.energies))
    assert (features - block.centre) @ block.axes == pytest.approx(block.scores)
    assert FeatureBlock.of(np.ones((300, 250)), 100).scores.shape == (300, 0)


def test_planted_factors_and_noise_are_found() -> None:
    world = planted()
    rater = small(n_iterations=120, burn_in=40, n_draws=40).fit(world.train)
    assert rmse(rater.expect(world.held.pairs), world.held_expectation) < 0.4 < 0.4 * world.held_expectation.std()
    assert rmse(rater.expect(world.held.pairs), world.held.rating) < 1.1 * np.sqrt(np.mean(world.noise**2))
    found = (1.0 / rater.user_precision_[:-1]).mean(axis=1)
    assert np.corrcoef(found, world.noise)[0, 1] > 0.9
    assert found[world.noise > 1].mean() > 1.8 * found[world.noise < 1].mean()


@pytest.mark.parametrize("response", ["gaussian", "ordinal"])
def test_probabilities_are_calibrated(response: str) -> None:
    """Where a level was given probability p it is the answer in a share p of the held-out ratings."""
    world = planted(RatingScale((-2, -1, 0, 1, 2)), spread=1.0, seed=4)
    opinion = small(response=response, n_iterations=120, burn_in=40).fit(world.train).rate(world.held.pairs)
    truth = world.held.scale.index(world.held.rating)[:, None] == np.arange(5)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 1.0)):
        cells = (opinion.probs >= low) & (opinion.probs < high)
        error = 4 * np.sqrt(0.25 / cells.sum()) if low else 0.02
        assert abs(truth[cells].mean() - opinion.probs[cells].mean()) < max(error, 0.03)
    shares = np.bincount(world.train.scale.index(world.train.rating), minlength=5) / len(world.train)
    assert -np.log(opinion.prob_of(world.held.rating)).mean() < -(shares * np.log(shares)).sum() - 0.1


@pytest.mark.parametrize(
    "levels",
    [(0, 1), tuple(np.arange(0.5, 5.5, 0.5)), tuple(range(101))],
    ids=["binary", "half stars", "0 to 100"],
)
@pytest.mark.parametrize("response", ["gaussian", "ordinal"])
def test_other_scales(levels: Sequence[float], response: str) -> None:
    dataset = tiny_dataset(levels=levels, density=0.6)
    if response == "ordinal" and len(levels) > 25:
        with pytest.raises(SettingsError, match="at most 25 levels, the scale has 101; use response='gaussian'"):
            small(response=response).fit(dataset)
        return
    held = np.arange(len(dataset)) % 5 == 0
    test = dataset.take(held)
    rater = small(response=response).fit(dataset.take(~held))
    assert rmse(rater.expect(test.pairs), test.rating) < 0.9 * test.rating.std()


def test_without_exposure_a_new_item_depends_on_users_and_side_information_alone() -> None:
    """Two unrated items of the same side information are told apart by exposure or text, never by chance."""
    dataset = tiny_dataset()
    kept = dataset.take(~np.isin(dataset.item, [7, 8]))
    items = kept.items.copy()
    for column in ("year", "genres"):
        items[column] = [items[column].iloc[7 if row == 8 else row] for row in range(len(items))]
    alike = replace(kept, items=items)
    rater = small(exposure=False, n_iterations=260, burn_in=20, n_draws=240).fit(alike)
    users = np.arange(alike.n_users)
    seven, eight = (rater.expect(Pairs(users, np.full(len(users), item))) for item in (7, 8))
    assert np.abs(seven - eight).max() < 0.35
    assert np.corrcoef(seven, eight)[0, 1] > 0.95


def test_exposure_is_what_the_switch_turns_off() -> None:
    """Who rated an item tells of it only when exposure is on: here the popular half is the better half."""
    rng = np.random.default_rng(5)
    n_users, n_items = 80, 100
    good = np.arange(n_items) % 2 == 0
    met = rng.random((n_users, n_items)) < np.where(good, 0.5, 0.04)
    user, item = np.nonzero(met)
    rating = RatingScale((1, 2, 3, 4, 5)).round(np.where(good[item], 4.2, 1.8) + 0.5 * rng.normal(size=len(item)))
    people = pd.DataFrame(index=pd.Index([f"u{row}" for row in range(n_users)], dtype=object))
    films = pd.DataFrame(index=pd.Index([f"i{row}" for row in range(n_items)], dtype=object))
    columns = (user.astype(np.int64), item.astype(np.int64), rating)
    dataset = Dataset("popular", RatingScale((1, 2, 3, 4, 5)), people, films, *columns)
    pairs = Pairs(np.arange(n_users), np.full(n_users, -1))
    for exposure in (True, False):
        unknown = small(exposure=exposure).fit(dataset).expect(pairs)
        assert ((unknown > 1) & (unknown < 5)).all()
    rare = np.flatnonzero(dataset.item_counts == 1)[:10]
    asked = Pairs(np.zeros(len(rare), dtype=np.int64), rare)
    with_exposure, without = (small(exposure=exposure).fit(dataset).expect(asked).mean() for exposure in (True, False))
    assert with_exposure < without - 0.2


def test_unknown_users_and_items_are_answered_from_the_other_side() -> None:
    dataset = tiny_dataset()
    for response in ("gaussian", "ordinal"):
        rater = small(response=response).fit(dataset)
        some = np.arange(10)
        for pairs in (Pairs(np.full(10, -1), some), Pairs(some, np.full(10, -1))):
            assert rater.rate(pairs).answered.all()
            assert rater.expect(pairs).std() > 0.1
        nobody = Pairs(np.array([-1]), np.array([-1]))
        assert not rater.rate(nobody).answered.any()
        assert np.isnan(rater.expect(nobody)).all()


def test_expectation_is_the_mean_of_the_distribution() -> None:
    dataset = tiny_dataset()
    for response in ("gaussian", "ordinal"):
        rater = small(response=response).fit(dataset)
        assert rater.expect(dataset.pairs) == pytest.approx(rater.rate(dataset.pairs).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_factors": 0}, "n_factors of BayesianFactorization must be a positive number, got 0"),
        ({"user_noise": -1.0}, "user_noise of BayesianFactorization must be a positive number"),
        ({"n_draws": 50}, "60 iterations less 15 of burn-in do not give 50 draws"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        small(**settings)


def test_no_ratings_are_refused() -> None:
    with pytest.raises(DataError, match="has no ratings to learn from"):
        small().fit(tiny_dataset().take(np.empty(0, dtype=np.int64)))


@pytest.mark.parametrize("response", ["gaussian", "ordinal"])
def test_conforms(response: str) -> None:
    check_rater(lambda: small(response=response, n_iterations=20, burn_in=5, n_draws=8))


def test_odd_data_without_exposure() -> None:
    check_odd_data(lambda: small(exposure=False, n_iterations=12, burn_in=4, n_draws=6))


def test_catalogues_without_side_information_or_times() -> None:
    dataset = tiny_dataset()
    bare = replace(dataset, users=dataset.users[[]], items=dataset.items[[]], timestamp=None)
    opinion = small().fit(bare).rate(bare.pairs)
    assert rmse(opinion.mean(), bare.rating) < 0.9 * bare.rating.std()
