"""The combiner weighs members by what they are worth, in each regime, without seeing the answer it is judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.ensemble.combiner import MIN_ROWS, Combiner
from hybrid_sim.ensemble.out_of_fold import MemberPredictions
from hybrid_sim.models.support import NEW_USER, REGIMES, Support, SupportTable
from hybrid_sim.testing import tiny_dataset

SCALE = RatingScale((1, 2, 3, 4, 5))


def opinions(means: FloatArray, n_user: FloatArray, n_item: FloatArray, sd: float = 1.0) -> MemberPredictions:
    """Members with these means, shape `(n_pairs, n_members)`, each with a bell around them."""
    bells = [RatingDistribution.from_mean(SCALE, column, sd).probs.astype(np.float32) for column in means.T]
    flat, shares = np.ones(len(means)), np.full((len(means), 5), 0.2, dtype=np.float32)
    return MemberPredictions(means, np.stack(bells, axis=1), Support(n_user, n_item, flat, flat, shares, shares))


def world(n_pairs: int = 3000, seed: int = 0, cold: float = 0.0) -> tuple[MemberPredictions, FloatArray]:
    """A good and a poor member; on cold items they change places."""
    rng = np.random.default_rng(seed)
    liking = rng.normal(3.2, 0.9, n_pairs)
    ratings = SCALE.round(liking + rng.normal(0, 0.5, n_pairs))
    n_item = np.where(rng.random(n_pairs) < cold, 0.0, rng.integers(1, 90, n_pairs))
    good, poor = liking + rng.normal(0, 0.3, n_pairs), liking + rng.normal(0, 1.5, n_pairs)
    means = np.where((n_item > 0)[:, None], np.column_stack([good, poor]), np.column_stack([poor, good]))
    return opinions(means, rng.integers(1, 90, n_pairs).astype(float), n_item), ratings


def rmse(mean: FloatArray, ratings: FloatArray) -> float:
    return float(np.sqrt(np.mean((mean - ratings) ** 2)))


@pytest.mark.parametrize("boosted", [False, True])
def test_each_regime_trusts_its_best_member(boosted: bool) -> None:
    told, ratings = world(cold=0.4)
    combiner = Combiner(boosted)
    crossed = combiner.fit(told, ratings, SCALE)
    asked, truth = world(cold=0.4, seed=1)
    found = combiner.combine(asked)
    best = np.where(asked.support.n_item > 0, asked.means[:, 0], asked.means[:, 1])
    assert rmse(found.mean(), truth) < rmse(SCALE.clip(best), truth)
    for regime in (0, 1):
        rows = asked.support.regime == regime
        assert rmse(found.mean()[rows], truth[rows]) < 0.7
    assert rmse(crossed.mean(), ratings) == pytest.approx(rmse(found.mean(), truth), rel=0.05)


def test_new_users_have_weights_of_their_own_where_there_are_enough() -> None:
    """Of new users the second member knows more, of all others the first."""
    found = {}
    for n_pairs in (6000, 900):
        told, ratings = world(n_pairs)
        new = told.support.n_user <= NEW_USER
        told = replace(told, means=np.where(new[:, None], told.means[:, ::-1], told.means))
        combiner = Combiner(boosted=False)
        combiner.fit(told, ratings, SCALE)
        asked, truth = world(3000, seed=1)
        new = asked.support.n_user <= NEW_USER
        asked = replace(asked, means=np.where(new[:, None], asked.means[:, ::-1], asked.means))
        found[combiner.new_users_] = rmse(combiner.combine(asked).mean()[new], truth[new])
    assert found[True] < 0.7 < found[False]


def test_cross_fitted_answers_know_nothing_of_their_ratings() -> None:
    """Of ratings that are pure chance nothing can be learned; a leak would look like skill.

    On few ratings an honest step pays for what it believes to have learned; one that has seen the answers pays less.
    """
    told, ratings = world()
    chance = np.random.default_rng(5).permutation(ratings)
    crossed = Combiner().fit(told, chance, SCALE)
    shares = np.bincount(SCALE.index(chance), minlength=5) / len(chance)
    assert -np.log(crossed.prob_of(chance)).mean() > -(shares * np.log(shares)).sum() - 0.002
    assert rmse(crossed.mean(), chance) > chance.std() - 0.003
    costs = []
    for seed in range(4):
        told, ratings = world(300, seed)
        chance = np.random.default_rng(seed + 50).permutation(ratings)
        crossed = Combiner(boosted=False).fit(told, chance, SCALE)
        shares = np.bincount(SCALE.index(chance), minlength=5) / len(chance)
        costs.append(-np.log(crossed.prob_of(chance)).mean() + (shares * np.log(shares)).sum())
    assert np.mean(costs) > 0.025


def test_levels_are_shared_as_they_come_true() -> None:
    told, ratings = world(6000)
    combiner = Combiner(boosted=False)
    combiner.fit(told, ratings, SCALE)
    asked, truth = world(6000, seed=2)
    found = combiner.combine(asked)
    came_true = SCALE.index(truth)[:, None] == np.arange(5)
    assert found.probs.mean(axis=0) == pytest.approx(came_true.mean(axis=0), abs=0.02)
    for low, high in ((0.05, 0.2), (0.2, 0.5), (0.5, 0.8)):
        cells = (found.probs > low) & (found.probs < high)
        assert came_true[cells].mean() == pytest.approx(found.probs[cells].mean(), abs=0.03)
    bells = RatingDistribution(SCALE, asked.probs[:, 0].astype(float))
    assert np.log(found.prob_of(truth)).mean() > np.log(np.maximum(bells.prob_of(truth), 1e-6)).mean() + 0.1


def test_a_rare_regime_averages_the_members() -> None:
    told, ratings = world(MIN_ROWS - 1)
    combiner = Combiner()
    crossed = combiner.fit(told, ratings, SCALE)
    average = told.probs.astype(float).mean(axis=1)
    assert combiner.regimes_ == [None] * len(REGIMES)
    for found in (crossed, combiner.combine(told)):
        assert found.probs == pytest.approx(average, abs=1e-6)
        assert found.probs.sum(axis=1) == pytest.approx(1, abs=1e-12)


def test_members_that_abstain_are_filled_in_by_the_others() -> None:
    told, ratings = world()
    rng = np.random.default_rng(6)
    gaps = rng.random((len(ratings), 2)) < [0.3, 0.2]
    gaps[0], gaps[1] = True, False
    means = np.where(gaps, np.nan, told.means)
    holed = opinions(means, told.support.n_user, told.support.n_item)
    combiner = Combiner()
    combiner.fit(holed, ratings, SCALE)
    found = combiner.combine(holed)
    assert (found.answered == ~gaps.all(axis=1)).all()
    assert rmse(found.mean()[found.answered], ratings[found.answered]) < 0.9


def test_members_that_each_answer_a_minority_of_pairs_still_serve() -> None:
    """Three specialists: none answers half of the pairs, and a gap must not be read as a rating of zero."""
    told, ratings = world()
    speciality = np.random.default_rng(7).integers(0, 3, len(ratings))
    means = np.where(speciality[:, None] == np.arange(3), told.means[:, :1], np.nan)
    combiner = Combiner()
    asked = opinions(means, told.support.n_user, told.support.n_item)
    combiner.fit(asked, ratings, SCALE)
    assert rmse(combiner.combine(asked).mean(), ratings) < 0.7


def test_members_that_never_answer_leave_no_answer() -> None:
    told, ratings = world(500)
    nothing = opinions(np.full_like(told.means, np.nan), told.support.n_user, told.support.n_item)
    combiner = Combiner()
    assert not combiner.fit(nothing, ratings, SCALE).answered.any()
    assert not combiner.combine(nothing).answered.any()


def test_the_answer_to_a_pair_does_not_depend_on_its_batch() -> None:
    told, ratings = world(cold=0.4)
    combiner = Combiner()
    combiner.fit(told, ratings, SCALE)
    whole = combiner.combine(told).probs
    order = np.random.default_rng(8).permutation(len(ratings))
    assert combiner.combine(told.take(order)).probs == pytest.approx(whole[order], abs=1e-12)
    assert combiner.combine(told.take(np.arange(1))).probs == pytest.approx(whole[:1], abs=1e-12)


@pytest.mark.parametrize("rating", [1.0, 3.0, 5.0])
def test_equal_ratings_are_foretold(rating: float) -> None:
    told, _ = world(800)
    combiner = Combiner()
    combiner.fit(told, np.full(800, rating), SCALE)
    found = combiner.combine(told)
    assert found.mean() == pytest.approx(rating, abs=0.05)
    assert (found.probs[:, SCALE.index([rating])[0]] > 0.9).all()


def test_support_counts_and_shares_by_hand() -> None:
    dataset = tiny_dataset()
    found = SupportTable(prior=5.0).fit(dataset).of(Pairs(np.array([3, -1, 38]), np.array([58, -1, 4])))
    assert found.n_user.tolist() == [(dataset.user == 3).sum(), 0, 0]
    assert found.n_item.tolist() == [0, 0, (dataset.item == 4).sum()]
    assert [REGIMES[code] for code in found.regime] == ["cold item", "cold both", "cold user"]
    levels = np.arange(1, 6)
    overall = (np.array([(dataset.rating == level).sum() for level in levels]) + 0.5) / (len(dataset) + 2.5)
    own = np.array([(dataset.rating[dataset.user == 3] == level).sum() for level in levels])
    shares = (own + 5 * overall) / (own.sum() + 5)
    assert found.user_shares[0] == pytest.approx(shares, abs=1e-6)
    assert found.user_shares[1] == pytest.approx(overall, abs=1e-6)
    assert found.user_spread[0] == pytest.approx(np.sqrt(shares @ levels**2 - (shares @ levels) ** 2), abs=1e-4)
