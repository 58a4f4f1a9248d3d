"""Opinions about held-out ratings are honest, and the ensemble of them is worth more than its members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, HybridSimError, SettingsError
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.world import make_world
from hybrid_sim.ensemble.cold_items import cold_panel
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.ensemble.out_of_fold import fit_members, predict_members
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.factorization import BayesianFactorization
from hybrid_sim.models.hold_outs import HoldOut, hold_outs
from hybrid_sim.models.means import ItemMean, UserMean
from hybrid_sim.models.support import NEW_USER, REGIMES, SupportTable
from hybrid_sim.testing import check_rater, tiny_dataset


@dataclass
class Specialist:
    """Says what the item's mean is, but only of every `every`-th item, and nothing of items without ratings."""

    every: int = 1
    scale_: RatingScale = field(init=False, repr=False)
    means_: FloatArray = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        self.scale_ = dataset.scale
        sums = np.bincount(dataset.item, weights=dataset.rating, minlength=dataset.n_items)
        means = np.where(dataset.item_counts > 0, sums / np.maximum(dataset.item_counts, 1), np.nan)
        means[np.arange(dataset.n_items) % self.every != 0] = np.nan
        self.means_ = np.append(means, np.nan)
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        return RatingDistribution.from_mean(self.scale_, self.means_[pairs.item], 1.0)


@dataclass
class Failing(Specialist):
    """Cannot be fitted."""

    def fit(self, dataset: Dataset) -> Self:
        raise SettingsError("this member cannot be fitted")


def small(**settings: Any) -> BayesianFactorization:
    return BayesianFactorization(**{"n_iterations": 50, "burn_in": 15, "n_draws": 16, "n_factors": 3, **settings})


def members() -> dict[str, Rater]:
    return {
        "biases": Biases(),
        "factors": small(seed=1),
        "levels": small(response="ordinal", exposure=False, seed=2),
    }


def rmse(mean: FloatArray, ratings: FloatArray) -> float:
    return float(np.sqrt(np.mean((mean - ratings) ** 2)))


@dataclass(frozen=True)
class Trial:
    """A fitted ensemble and ratings it has not seen: of known users and items, and of new items."""

    train: Dataset
    warm: Dataset
    cold: Dataset
    ensemble: Ensemble


@pytest.fixture(scope="module")
def trial() -> Trial:
    world = make_world(seed=1, n_users=160, n_items=200, ratings_per_user=45).dataset
    cold = world.item % 8 == 0
    held = ~cold & (np.random.default_rng(0).random(len(world)) < 0.25)
    train = world.take(~held & ~cold)
    ensemble = Ensemble(members(), ("levels",), n_jobs=1).fit(train)
    return Trial(train, world.take(held), world.take(cold), ensemble)


def test_warm_folds_partition_the_ratings() -> None:
    dataset = tiny_dataset()
    plans = hold_outs(dataset, n_warm=5, n_cold=0, cold_share=0.2, seed=3)
    assert sorted(np.concatenate([plan.held_rows for plan in plans])) == list(range(len(dataset)))
    for plan in plans:
        assert sorted([*plan.train_rows, *plan.held_rows]) == list(range(len(dataset)))
        assert len(plan.held_rows) == pytest.approx(len(dataset) / 5, abs=1)


def test_cold_hold_outs_leave_no_rating_of_what_is_cold() -> None:
    dataset = tiny_dataset()
    plans = hold_outs(dataset, n_warm=0, n_cold=3, cold_share=0.15, seed=3)
    regimes = []
    for plan in plans:
        support = SupportTable().fit(dataset.take(plan.train_rows)).of(dataset.pairs.take(plan.held_rows))
        assert (support.regime > 0).all()
        assert len(plan.train_rows) + len(plan.held_rows) == len(dataset)
        regimes.append(set(support.regime.tolist()))
    assert regimes == [{1, 2, 3}] * 3
    held = [
        set(
            dataset.item[plan.held_rows][
                np.bincount(dataset.item[plan.train_rows], minlength=60)[dataset.item[plan.held_rows]] == 0
            ]
        )
        for plan in plans
    ]
    assert not held[0] & held[1] | held[1] & held[2]


def test_new_users_keep_a_few_ratings_and_others_all() -> None:
    dataset = make_world(seed=1, n_users=300, n_items=80, ratings_per_user=30).dataset
    *_, plan = hold_outs(dataset, n_warm=2, n_cold=2, cold_share=0.15, seed=3, n_new=1)
    assert sorted([*plan.train_rows, *plan.held_rows]) == list(range(len(dataset)))
    kept = np.bincount(dataset.user[plan.train_rows], minlength=300)
    new = kept < dataset.user_counts
    assert 40 < new.sum() <= 45
    assert kept[new].min() == 1
    assert kept[new].max() <= NEW_USER
    assert np.median(kept[new]) < 6
    assert dataset.timestamp is not None
    last = np.full(300, -np.inf)
    np.maximum.at(last, dataset.user[plan.train_rows], dataset.timestamp[plan.train_rows])
    assert (dataset.timestamp[plan.held_rows] >= last[dataset.user[plan.held_rows]]).all()
    support = SupportTable().fit(dataset.take(plan.train_rows)).of(dataset.pairs.take(plan.held_rows))
    assert {REGIMES[code] for code in support.regime} <= {"new user", "cold item"}
    before = hold_outs(dataset, n_warm=2, n_cold=2, cold_share=0.15, seed=3)
    cold = {row for one in before[2:] for row in np.flatnonzero(np.isin(dataset.user, _robbed(dataset, one)))}
    assert not cold & set(plan.held_rows)


def _robbed(dataset: Dataset, plan: HoldOut) -> IntArray:
    """Users who lose all ratings."""
    return np.flatnonzero(np.bincount(dataset.user[plan.train_rows], minlength=dataset.n_users) == 0)


def test_few_ratings_have_fewer_hold_outs_and_one_has_none() -> None:
    dataset = tiny_dataset()
    for n_ratings in range(2, 8):
        plans = hold_outs(dataset.take(np.arange(n_ratings)), 5, 2, 0.15, seed=0)
        assert all(len(plan.train_rows) and len(plan.held_rows) for plan in plans)
    with pytest.raises(DataError, match=r"has 1 rating\(s\), too few to learn from some and hold out others"):
        hold_outs(dataset.take(np.arange(1)), 5, 2, 0.15, seed=0)


def told(chosen: Mapping[str, Rater], dataset: Dataset, n_jobs: int = 1) -> FloatArray:
    """What members say about the held-out rows of every plan."""
    plans = hold_outs(dataset, 3, 1, 0.2, seed=0)
    panels = [cold_panel(dataset, plan) for plan in plans]
    return fit_members(chosen, ["levels"], dataset, plans, n_jobs, panels).predictions.means


def test_the_number_of_workers_changes_nothing() -> None:
    dataset = tiny_dataset()
    one, three = told(members(), dataset, n_jobs=1), told(members(), dataset, n_jobs=3)
    assert np.array_equal(one, three, equal_nan=True)


def test_members_never_see_what_they_are_asked_about() -> None:
    """Altered ratings of the first fold leave the opinions about the first fold as they were."""
    dataset = tiny_dataset()
    plan = hold_outs(dataset, 3, 1, 0.2, seed=0)[0]
    altered = dataset.rating.copy()
    altered[plan.held_rows] = 6 - altered[plan.held_rows]
    before, after = told(members(), dataset), told(members(), replace(dataset, rating=altered))
    own = slice(0, len(plan.held_rows))
    assert (before[own] == after[own]).all()
    assert (before[len(plan.held_rows) :] != after[len(plan.held_rows) :]).any()


def test_members_given_are_left_unfitted_and_a_failure_is_raised() -> None:
    given = members()
    ensemble = Ensemble(given, n_jobs=1).fit(tiny_dataset())
    assert not hasattr(given["biases"], "scale_")
    assert ensemble.members_["biases"] is not given["biases"]
    with pytest.raises(SettingsError, match="this member cannot be fitted"):
        Ensemble({**members(), "failing": Failing()}, n_jobs=2).fit(tiny_dataset())


def test_it_is_better_than_its_members_or_within_noise_of_the_best(trial: Trial) -> None:
    for held in (trial.warm, trial.cold):
        error = (trial.ensemble.rate(held.pairs).mean() - held.rating) ** 2
        others = [(expected(m, held.pairs) - held.rating) ** 2 for m in trial.ensemble.members_.values()]
        best = min(others, key=np.mean)
        assert (error - best).mean() < 2.5 * (error - best).std() / np.sqrt(len(held))
        assert error.mean() < 1.03 * best.mean()
        assert error.mean() < 0.97 * max(map(np.mean, others))
    losses = [
        -np.log(opinion.prob_of(trial.warm.rating)).mean()
        for opinion in (
            trial.ensemble.rate(trial.warm.pairs),
            trial.ensemble.members_["levels"].rate(trial.warm.pairs),
        )
    ]
    assert losses[0] < losses[1] + 0.02


def test_intervals_cover_about_nine_in_ten(trial: Trial) -> None:
    for held, slack in ((trial.warm, 0.03), (trial.cold, 0.05)):
        found = trial.ensemble.interval(held.pairs, trial.ensemble.rate(held.pairs))
        covered = ((found.low <= held.rating) & (held.rating <= found.high)).mean()
        assert covered == pytest.approx(0.9, abs=slack)
        assert (found.high - found.low).mean() < 3.6


def test_ratings_drawn_from_it_look_like_the_real_ones(trial: Trial) -> None:
    drawn = trial.ensemble.rate(trial.warm.pairs).sample(np.random.default_rng(0))
    shares = [
        np.bincount(trial.warm.scale.index(ratings), minlength=5) / len(ratings)
        for ratings in (drawn, trial.warm.rating)
    ]
    assert (shares[1] * np.log(shares[1] / shares[0])).sum() < 0.01
    assert drawn.std() == pytest.approx(trial.warm.rating.std(), rel=0.06)


def test_shuffled_held_out_ratings_change_no_answer(trial: Trial) -> None:
    """The same fit from a dataset whose held-out ratings were shuffled answers the same to the last bit."""
    world = make_world(seed=1, n_users=160, n_items=200, ratings_per_user=45).dataset
    unseen = (world.item % 8 == 0) | (np.random.default_rng(0).random(len(world)) < 0.25)
    shuffled = world.rating.copy()
    shuffled[unseen] = np.random.default_rng(1).permutation(shuffled[unseen])
    again = Ensemble(members(), ("levels",), n_jobs=2).fit(replace(world, rating=shuffled).take(~unseen))
    pairs = Pairs(world.user, world.item)
    assert (again.rate(pairs).probs == trial.ensemble.rate(pairs).probs).all()


def test_one_member_alone(trial: Trial) -> None:
    alone = Ensemble({"biases": Biases()}, n_jobs=1).fit(trial.train)
    own = rmse(alone.members_["biases"].rate(trial.warm.pairs).mean(), trial.warm.rating)
    assert rmse(alone.rate(trial.warm.pairs).mean(), trial.warm.rating) < own + 0.01


def test_members_that_abstain(trial: Trial) -> None:
    """Specialists fill no gap with nonsense; where all say nothing, so does the ensemble."""
    pairs = trial.warm.pairs
    lone = Ensemble({"third": Specialist(3)}, n_jobs=1).fit(trial.train).rate(pairs)
    known = (pairs.item % 3 == 0) & (trial.train.item_counts[pairs.item] > 0)
    assert (lone.answered == known).all()
    both: dict[str, Rater] = {"third": Specialist(3), "biases": Biases()}
    found = Ensemble(both, n_jobs=1).fit(trial.train).rate(pairs)
    assert found.answered.all()
    alone = Ensemble({"biases": Biases()}, n_jobs=1).fit(trial.train).rate(pairs)
    assert rmse(found.mean(), trial.warm.rating) < rmse(alone.mean(), trial.warm.rating) + 0.01


def test_opinions_hold_only_the_distributions_asked_for(trial: Trial) -> None:
    pairs = trial.warm.pairs
    predicted = predict_members(trial.ensemble.members_, ["levels"], pairs, trial.ensemble.support_.of(pairs))
    assert predicted.means.shape == (len(pairs), 3)
    assert predicted.probs.shape == (len(pairs), 1, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": {}}, "an ensemble needs at least one member"),
        ({"shapes": ("levles",)}, "shapes names 'levles', which is no member; members are biases"),
        ({"n_warm": 1}, "at least 2 warm folds or 1 cold hold-out, got n_warm=1, n_cold=2 and n_new=1"),
        ({"n_warm": 0, "n_cold": 0}, "got n_warm=0, n_cold=0 and n_new=1"),
        ({"n_cold": -1}, "got n_warm=5, n_cold=-1 and n_new=1"),
        ({"n_new": -1}, "got n_warm=5, n_cold=2 and n_new=-1"),
        ({"cold_share": 1.0}, "cold_share is a share between 0 and 1, got 1.0"),
        ({"n_jobs": 0}, "n_jobs of Ensemble must be a positive number, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Ensemble(**{"members": {"biases": Biases()}, **settings})


ODD = {
    "two ratings": tiny_dataset().take(np.arange(2)),
    "equal ratings": replace(tiny_dataset(), rating=np.full(len(tiny_dataset()), 4.0)),
    "one dissent": replace(tiny_dataset(), rating=np.where(np.arange(len(tiny_dataset())) == 3, 1.0, 4.0)),
    "binary": tiny_dataset(levels=(0, 1)),
    "ten levels": tiny_dataset(levels=range(1, 11)),
    "one item": tiny_dataset(n_users=300, n_items=1, density=1.0),
    "one user": tiny_dataset(n_users=1, n_items=300, density=1.0),
    "each pair ten times": tiny_dataset().take(np.tile(np.arange(50), 10)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data_gives_whole_answers(name: str) -> None:
    dataset = ODD[name]
    ensemble = Ensemble(members() if dataset.scale.n_levels <= 25 else {"biases": Biases()}, n_jobs=1).fit(dataset)
    user, item = np.divmod(np.arange(400), 20)
    pairs = Pairs(user % dataset.n_users, item % dataset.n_items)
    found = ensemble.rate(pairs)
    assert found.probs.sum(axis=1) == pytest.approx(1, abs=1e-9)
    interval = ensemble.interval(pairs, found)
    assert (interval.low <= interval.high).all()


@pytest.mark.parametrize(
    ("members", "boosted"),
    [({"biases": Biases(), "factors": small(n_iterations=12, burn_in=4, n_draws=6)}, False),
     ({"users": UserMean(), "items": ItemMean()}, True)],
    ids=["answering", "abstaining"],
)  # fmt: skip
def test_conforms(members: dict[str, Rater], boosted: bool) -> None:
    check_rater(lambda: Ensemble(members, boosted=boosted, n_warm=2, n_cold=1, n_jobs=1))


def test_a_refusal_is_one_of_the_library() -> None:
    with pytest.raises(HybridSimError, match="has no ratings to learn from"):
        Ensemble(members()).fit(tiny_dataset().take(np.empty(0, dtype=np.int64)))
