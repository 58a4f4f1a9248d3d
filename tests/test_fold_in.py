"""New users among the draws of a fitted factorization: as good as a refit, and drawn from the right law."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core import model_files
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.rater import expected
from hybrid_sim.core.types import Pairs
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation.metrics import rmse
from hybrid_sim.evaluation.splits import users_out
from hybrid_sim.models.factorization import BayesianFactorization
from hybrid_sim.models.fold_in import fold_in
from hybrid_sim.simulation.refit import refitted
from hybrid_sim.simulation.simulator import Simulator
from hybrid_sim.testing import tiny_dataset

RESPONSES = ("gaussian", "ordinal")


def _quick(**settings: Any) -> BayesianFactorization:
    return BayesianFactorization(**{"n_factors": 6, "n_iterations": 60, "burn_in": 20, "n_draws": 32, **settings})


def _only(dataset: Dataset, users: np.ndarray[Any, np.dtype[np.int64]]) -> Dataset:
    """A data set of these users alone; every one of them keeps her ratings."""
    place = np.full(dataset.n_users, -1)
    place[users] = np.arange(len(users))
    part = dataset.take(place[dataset.user] >= 0)
    return replace(part, users=dataset.users.iloc[users], user=place[part.user])


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=1, n_users=200, n_items=200, ratings_per_user=50).dataset


@pytest.fixture(scope="module", params=RESPONSES)
def fitted(request: pytest.FixtureRequest, world: Dataset) -> BayesianFactorization:
    return _quick(response=request.param).fit(world)


def test_users_of_the_fit_are_folded_in_to_where_they_were(fitted: BayesianFactorization, world: Dataset) -> None:
    """More users than fit in one block; the prior alone would be far off."""
    folded = fold_in(fitted, world)
    asked = Pairs(np.repeat(np.arange(200), 10), np.tile(np.arange(10), 200))
    apart = folded.expect(asked) - fitted.expect(asked)
    prior = fold_in(fitted, world.take(np.array([], dtype=np.int64))).expect(asked) - fitted.expect(asked)
    assert np.sqrt(np.mean(apart**2)) < 0.1
    assert np.sqrt(np.mean(prior**2)) > 0.3
    noise = np.corrcoef(fitted.user_precision_[:-1].mean(axis=1), folded.user_precision_[:-1].mean(axis=1))[0, 1]
    assert noise > 0.9


@pytest.mark.parametrize("response", RESPONSES)
def test_held_out_users_are_predicted_as_by_a_refit(response: str, world: Dataset) -> None:
    errors: dict[str, list[float]] = {"folded": [], "refitted": [], "nobody": []}
    for split in users_out(world, n_folds=4, known=20)[:2]:
        train, test = world.take(split.train_rows), world.take(split.test_rows)
        newcomers = np.unique(test.user)
        others = np.setdiff1d(np.arange(world.n_users), newcomers)
        fitted = _quick(response=response).fit(_only(train, others))
        pairs = Pairs(np.searchsorted(newcomers, test.user), test.item)
        folded = fold_in(fitted, _only(train, newcomers))
        refitted = _quick(response=response).fit(train)
        errors["folded"].append(rmse(test.rating, folded.rate(pairs).mean()))
        errors["refitted"].append(rmse(test.rating, refitted.rate(test.pairs).mean()))
        errors["nobody"].append(rmse(test.rating, fitted.rate(Pairs(np.full(len(test), -1), test.item)).mean()))
    assert np.mean(errors["folded"]) < np.mean(errors["refitted"]) + 0.02
    assert np.mean(errors["folded"]) < np.mean(errors["nobody"]) - 0.05


def test_vectors_follow_their_normal_conditional() -> None:
    """With the noise of users all but fixed, squared Mahalanobis distances are chi-square."""
    dataset = tiny_dataset(n_users=60)
    bare = replace(dataset, users=dataset.users[[]])
    rater = _quick(n_factors=3, user_noise=1e9).fit(bare)
    folded = fold_in(rater, bare)
    features = rater.user_features_.scores(bare)
    root, distances = rater.user_precision_[-1], []
    for draw in range(rater.n_draws):
        items = rater.item_vectors_[:, draw].astype(float)
        links = [part @ weights[draw] for part, weights in zip(features, rater.user_prior_weights_, strict=True)]
        means = rater.user_vectors_[-1, draw] + sum(links)
        precision = rater.user_prior_precision_[draw].astype(float)
        for user in range(dataset.n_users):
            rows = dataset.user == user
            item = dataset.item[rows]
            design = np.column_stack([np.ones(len(item)), items[item, 1:]])
            noise = (rater.item_precision_[item, draw].astype(float) * root[draw]) ** 2
            target = (dataset.rating[rows] - rater.centre_) / rater.unit_ - items[item, 0]
            system = precision + design.T @ (noise[:, None] * design)
            mean = np.linalg.solve(system, precision @ means[user] + design.T @ (noise * target))
            apart = folded.user_vectors_[user, draw] - mean
            distances.append(apart @ system @ apart)
    assert np.mean(distances) == pytest.approx(4, rel=0.06)
    assert np.var(distances) == pytest.approx(8, rel=0.2)


def test_a_user_without_ratings_gets_the_prior_of_her_side_information(
    fitted: BayesianFactorization, world: Dataset
) -> None:
    index = pd.Index(["a", "b", "c"], dtype=object)
    users = pd.DataFrame({"age": np.nan, "gender": "", "occupation": ""}, index=index)
    nobody = replace(world.take(np.array([], dtype=np.int64)), users=users)
    folded = fold_in(fitted, nobody)
    items = np.arange(world.n_items)
    known = fitted.rate(Pairs(np.full(len(items), -1), items)).mean()
    for user in range(3):
        assert np.abs(folded.rate(Pairs(np.full(len(items), user), items)).mean() - known).mean() < 0.35
    assert folded.rate(Pairs(np.array([0]), np.array([-1]))).std()[0] > 0.5


def test_nobody_else_matters_nor_the_order_of_ratings(fitted: BayesianFactorization, world: Dataset) -> None:
    together = fold_in(fitted, _only(world, np.arange(30, 50)))
    shuffled = world.take(np.random.default_rng(0).permutation(len(world)))
    alone = fold_in(fitted, _only(shuffled, np.array([37])))
    items = np.arange(world.n_items)
    np.testing.assert_allclose(
        alone.rate(Pairs(np.zeros(len(items), dtype=np.int64), items)).probs,
        together.rate(Pairs(np.full(len(items), 7), items)).probs,
        atol=1e-5,
    )


def test_it_is_a_copy_and_the_same_every_time(fitted: BayesianFactorization, world: Dataset, tmp_path: Path) -> None:
    newcomers = _only(world, np.arange(20, 25))
    asked = Pairs(np.array([0, 1, 4, -1, -1]), np.array([5, 6, 7, 8, -1]))
    before = fitted.rate(asked).probs
    first, again = fold_in(fitted, newcomers), fold_in(fitted, newcomers)
    np.testing.assert_array_equal(first.rate(asked).probs, again.rate(asked).probs)
    np.testing.assert_array_equal(fitted.rate(asked).probs, before)
    np.testing.assert_array_equal(first.rate(asked).probs[3:], before[3:])
    assert not np.allclose(first.rate(asked).probs[:3], before[:3])
    model_files.save(fitted, tmp_path / "fitted")
    loaded = model_files.load(tmp_path / "fitted")
    assert isinstance(loaded, BayesianFactorization)
    np.testing.assert_array_equal(fold_in(loaded, newcomers).rate(asked).probs, first.rate(asked).probs)
    model_files.save(first, tmp_path / "folded")
    np.testing.assert_array_equal(model_files.load(tmp_path / "folded").rate(asked).probs, first.rate(asked).probs)


def test_a_short_history_is_not_taken_for_a_strange_user(fitted: BayesianFactorization, world: Dataset) -> None:
    """Number and time of the first ratings must not carry a newcomer away from everybody else."""
    assert world.timestamp is not None
    one = world.take(np.array([0]))
    early = replace(one, timestamp=world.timestamp[:1] - 10**9)
    items = np.arange(world.n_items)
    pairs = Pairs(np.full(len(items), one.user[0]), items)
    timeless, long_ago = (fold_in(fitted, data).rate(pairs).mean() for data in (replace(one, timestamp=None), early))
    np.testing.assert_array_equal(timeless, long_ago)
    assert abs(long_ago.mean() - fitted.rate(Pairs(np.full(len(items), -1), items)).mean().mean()) < 0.6


def test_users_of_the_fit_may_keep_their_vectors(fitted: BayesianFactorization, world: Dataset) -> None:
    """They answer to the bit as at the fit, wherever they stand now; the others as if folded in alone."""
    now, kept = _only(world, np.arange(49, -1, -1)), np.r_[np.full(20, -1), np.arange(29, -1, -1)]
    items, users = np.arange(50), np.arange(50)
    answer = fold_in(fitted, now, kept).rate(Pairs(users, items)).probs
    alone = fold_in(fitted, _only(world, np.arange(49, 29, -1))).rate(Pairs(users[:20], items[:20])).probs
    np.testing.assert_array_equal(answer[20:], fitted.rate(Pairs(kept[20:], items[20:])).probs)
    np.testing.assert_array_equal(answer[:20], alone)


def test_other_items_or_another_scale_are_refused(fitted: BayesianFactorization, world: Dataset) -> None:
    swapped = world.items.iloc[[1, 0, *range(2, world.n_items)]]
    with pytest.raises(DataError, match=r"item 0 of data set 'world' is 'f0002', .* with 'f0001' there"):
        fold_in(fitted, replace(world, items=swapped))
    with pytest.raises(DataError, match="has 199 items, the factorization was fitted on 200; fold-in needs the same"):
        fold_in(fitted, replace(world.take(np.array([0])), items=world.items.iloc[:199]))
    with pytest.raises(DataError, match="has the scale 0, 1, the factorization was fitted on 1, 2, 3, 4, 5"):
        fold_in(fitted, replace(tiny_dataset(levels=(0, 1)), items=world.items))


def test_a_refit_folds_users_with_new_ratings_into_factorizations() -> None:
    """Everybody else keeps the answers to the last bit; with a new item, or many new users, all is fitted again."""
    world = make_world(seed=2, n_users=60, n_items=50, ratings_per_user=15).dataset
    early = replace(world.take(world.user < 56), users=world.users.iloc[:56])
    simulator = Simulator(members=("biases", "factorization_1"), n_jobs=1).fit(early)
    fitted = simulator.ensemble_.members_["factorization_1"]
    member = refitted(simulator, world).ensemble_.members_["factorization_1"]
    assert isinstance(fitted, BayesianFactorization)
    np.testing.assert_array_equal(member.rate(early.pairs).probs, fitted.rate(early.pairs).probs)
    new = Pairs(np.repeat(np.arange(56, 60), 50), np.tile(np.arange(50), 4))
    again = copy.deepcopy(simulator.ensemble_.members["factorization_1"]).fit(world)
    prior = fold_in(fitted, world.take(np.zeros(0, dtype=np.int64)))
    folded, whole, without = (expected(one, new) for one in (member, again, prior))
    assert np.abs(folded - whole).mean() < 0.7 * np.abs(without - whole).mean()
    late = replace(world.take(world.user < 40), users=world.users.iloc[:40])
    few = Simulator(members=("biases", "factorization_1"), n_jobs=1).fit(late)
    np.testing.assert_array_equal(
        refitted(few, world).ensemble_.members_["factorization_1"].rate(world.pairs).probs,
        again.rate(world.pairs).probs,
    )
