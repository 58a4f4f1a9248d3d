"""Which ratings each part of the ensemble learns from and which it never sees; what is left out is left out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.ensemble.cold_items import cold_panel
from hybrid_sim.ensemble.combiner import BOOSTED, Combiner
from hybrid_sim.ensemble.conformal import Conformal
from hybrid_sim.ensemble.correction import Correction, cross_fitted_correction, panel_places
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.ensemble.out_of_fold import MemberPredictions, OutOfFoldTable, fit_members
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.hold_outs import hold_outs
from hybrid_sim.models.means import GlobalMean, ItemMean, UserMean
from hybrid_sim.models.recorded import Recorded, RecordedRatings
from hybrid_sim.models.support import NEW_USER, REGIMES, Support
from hybrid_sim.models.surprise_raters import KNN, NMF, SVD

SCALE = RatingScale((1, 2, 3, 4, 5))
COLD_ITEM = REGIMES.index("cold item")


def ratings_of(user: IntArray, item: IntArray, rating: FloatArray, **columns: Any) -> Dataset:
    """A data set of these ratings, its users and items named by their numbers."""
    users, items = (
        pd.DataFrame(index=pd.Index([f"{n}" for n in range(k.max() + 1)], dtype=object)) for k in (user, item)
    )
    return Dataset("made up", SCALE, users, items, user, item, rating.astype(float), **columns)


def random_ratings(n_users: int, n_items: int, n: int, seed: int = 0) -> Dataset:
    """Each pair at most once; the last user and the last item have ratings."""
    rng = np.random.default_rng(seed)
    user, item = np.divmod(rng.permutation(n_users * n_items)[:n], n_items)
    return ratings_of(user, item, SCALE.round(3 + rng.normal(0, 1, n)))


def opinions(
    means: FloatArray, n_user: float | FloatArray = 50.0, n_item: float | FloatArray = 50.0
) -> MemberPredictions:
    """Members with these means, shape `(n_pairs, n_members)`, each with a bell around them."""
    n = len(means)
    bells = [RatingDistribution.from_mean(SCALE, column, 1.0).probs.astype(np.float32) for column in means.T]
    flat, shares = np.ones(n), np.full((n, 5), 0.2, dtype=np.float32)
    support = Support(np.broadcast_to(n_user, n), np.broadcast_to(n_item, n), flat, flat, shares, shares)
    return MemberPredictions(means, np.stack(bells, axis=1), support)


def two_members(n: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Means of an exact and of a useless member, and the ratings."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1.5, 4.5, n)
    return np.column_stack([truth, rng.uniform(1.5, 4.5, n)]), SCALE.round(truth)


def linear(**settings: Any) -> Combiner:
    """A combiner of weights alone."""
    return Combiner(boosted=False, shaped=False, **settings)


def learned(told: MemberPredictions, ratings: FloatArray, of_new: NDArray[np.bool_] | None = None) -> Combiner:
    combiner = linear()
    combiner.fit(told, ratings, SCALE, of_new)
    return combiner


def test_warm_pairs_learn_nothing_from_users_whose_ratings_were_removed() -> None:
    means, ratings = two_members(900)
    of_new = np.arange(900) >= 600
    told = opinions(means, np.where(of_new, 3.0, 50.0))
    altered = np.where(of_new, 6 - ratings, ratings)
    before, after = learned(told, ratings, of_new), learned(told, altered, of_new)
    warm, new = told.take(~of_new), told.take(of_new)
    assert (before.combine(warm).probs == after.combine(warm).probs).all()
    assert (before.combine(new).probs != after.combine(new).probs).any()


def test_warm_pairs_learn_from_all_ratings_of_warm_folds_however_few_the_user_has() -> None:
    means, ratings = two_members(900)
    few = np.arange(900) >= 600
    told = opinions(means, np.where(few, float(NEW_USER), 50.0))
    before, after = learned(told, ratings), learned(told, np.where(few, 6 - ratings, ratings))
    warm = told.take(~few)
    assert (before.combine(warm).probs != after.combine(warm).probs).any()


def test_too_few_new_users_are_answered_as_all_others_are() -> None:
    means, ratings = two_members(700)
    told = opinions(means, np.where(np.arange(700) < 40, 5.0, 50.0))
    answer = learned(told, ratings).combine(told).mean()[:40]
    assert np.abs(answer - means[:40, 0]).max() < 0.25 < np.abs(answer - means[:40].mean(axis=1)).max()


def test_a_rare_kind_of_pairs_has_no_weights_of_its_own() -> None:
    means, ratings = two_members(199)
    told = opinions(means)
    assert learned(told, ratings).combine(told).probs == pytest.approx(told.probs.mean(axis=1), abs=1e-6)


def test_trees_never_correct_cold_items() -> None:
    assert BOOSTED == ("warm", "new user")
    means, ratings = two_members(500)
    told = opinions(means, n_item=0.0)
    with_trees, without = Combiner(boosted=True, shaped=False), linear()
    assert (with_trees.fit(told, ratings, SCALE).probs == without.fit(told, ratings, SCALE).probs).all()


def test_the_cross_fitted_answer_about_a_rating_has_not_seen_it() -> None:
    means, ratings = two_members(400)
    altered = ratings.copy()
    altered[17] = 6 - altered[17] + (altered[17] == 3)
    before, after = (linear().fit(opinions(means[:, :1]), given, SCALE).probs for given in (ratings, altered))
    assert (before[17] == after[17]).all()
    assert (before != after).any(axis=1).sum() > 200


def test_pairs_without_a_distribution_are_not_learned_from() -> None:
    means, ratings = two_members(500)
    silent = np.arange(500) < 100
    means[silent] = np.nan
    combiner = linear()
    crossed = combiner.fit(opinions(means), ratings, SCALE)
    assert (crossed.answered == ~silent).all()
    assert np.isfinite(combiner.combine(opinions(means)).probs[~silent]).all()


def test_a_member_that_abstains_is_filled_in_by_the_others() -> None:
    means, ratings = two_members(900)
    means[:, 1] = means[:, 0] + 0.01
    means[::3, 0] = np.nan
    combiner = learned(opinions(means), ratings)
    assert np.abs(combiner.combine(opinions(means)).mean() - ratings)[::3].mean() < 0.5


def test_a_member_that_answers_seldom_steps_in_where_no_other_answers() -> None:
    means, ratings = two_members(900)
    means = np.column_stack([means[:, 0], np.where(np.arange(900) < 100, means[:, 0], np.nan)])
    means[:50, 0] = np.nan
    answer = learned(opinions(means), ratings).combine(opinions(means))
    assert answer.answered.all()
    assert np.abs(answer.mean() - ratings)[:50].mean() < 0.6


def test_members_that_each_answer_a_minority_are_all_used() -> None:
    rng = np.random.default_rng(3)
    truth, who = rng.uniform(1.5, 4.5, 1200), np.arange(1200) % 3
    means = np.where(who[:, None] == np.arange(3), truth[:, None], np.nan)
    told = opinions(means)
    answer = learned(told, SCALE.round(truth)).combine(told)
    assert np.abs(answer.mean() - truth).max() < 0.5


def test_a_gap_in_the_best_distribution_is_filled_with_the_others() -> None:
    means, ratings = two_members(600)
    means[:30, 0] = np.nan
    told = opinions(means)
    combiner = Combiner(boosted=False)
    assert combiner.fit(told, ratings, SCALE).answered.all()
    assert combiner.combine(told).answered.all()


@dataclass
class Recall:
    """Answers with the very ratings that it was fitted to, and abstains elsewhere."""

    scale_: RatingScale = field(init=False, repr=False)
    known_: dict[tuple[int, int], float] = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        self.scale_ = dataset.scale
        self.known_ = {(u, i): r for u, i, r in zip(dataset.user, dataset.item, dataset.rating, strict=True)}
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        means = [self.known_.get((u, i), np.nan) for u, i in zip(pairs.user, pairs.item, strict=True)]
        return RatingDistribution.from_mean(self.scale_, np.array(means), 0.5)


def test_no_member_has_seen_a_rating_that_it_is_asked_about() -> None:
    dataset = random_ratings(12, 20, 150)
    plans = hold_outs(dataset, 3, 1, 0.2, seed=0, n_new=1)
    given = Recall()
    panels = [cold_panel(dataset, plan) for plan in plans]
    fitted = fit_members({"recall": given}, ["recall"], dataset, plans, 1, panels)
    assert np.isnan(fitted.predictions.means).all()
    assert np.isnan(fitted.panel.means).all()
    assert len(fitted.panel.means) == sum(map(len, panels)) > 0
    assert fitted.members[0].rate(dataset.pairs).answered.all()
    assert not hasattr(given, "known_"), "the member that was given is left as it was"


def histories(n_users: int = 40, n_each: int = 30, seed: int = 0) -> Dataset:
    """Users with many ratings each, in the order of their times."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), n_each)
    item = np.concatenate([rng.permutation(60)[:n_each] for _ in range(n_users)])
    rating = SCALE.round(3 + rng.normal(0, 1.2, len(user)))
    return ratings_of(user, item, rating, timestamp=np.tile(np.arange(n_each)[::-1].copy(), n_users))


def test_ratings_removed_from_users_do_not_set_the_width_of_intervals() -> None:
    """No user is new here but those of the further hold-outs, so that these may change no threshold."""
    dataset = histories()
    settings: dict[str, Any] = {"n_warm": 3, "n_cold": 1, "boosted": False, "shaped": False, "n_jobs": 1}
    one, other = (Ensemble({"users": UserMean()}, n_new=n, **settings).fit(dataset) for n in (0, 3))
    assert (one.conformal_.thresholds_ == other.conformal_.thresholds_).all()


def test_a_popular_item_counts_once_among_cold_items() -> None:
    """300 items with two ratings of 4 each, and a popular one that is rated anyhow."""
    few_users, few_items = (np.arange(600) * 7) % 100, np.arange(600) // 2
    rating = np.r_[np.full(600, 4.0), np.tile([1.0, 2.0, 3.0, 5.0], 25), np.full(50, 3.0)]
    user = np.r_[few_users, np.arange(100), np.arange(50)]
    item = np.r_[few_items, np.full(100, 300), np.full(50, 301)]
    dataset = ratings_of(user, item, rating)
    ensemble = Ensemble(
        {"all": GlobalMean()}, n_warm=0, n_cold=2, n_new=0, cold_share=0.5, boosted=False, weighted=False, shaped=False
    ).fit(dataset)
    new = Pairs(np.arange(5), np.full(5, -1))
    found = ensemble.interval(new, ensemble.rate(new))
    assert found.low.tolist() == found.high.tolist() == [4.0] * 5


def test_hold_outs_of_new_users_keep_their_earliest_ratings_and_are_marked() -> None:
    dataset = histories()
    *others, plan = hold_outs(dataset, 2, 2, 0.2, seed=1, n_new=1)
    assert [one.of_new for one in (*others, plan)] == [False] * 4 + [True]
    asked = np.unique(dataset.user[plan.held_rows])
    assert len(asked) == 8
    assert dataset.timestamp is not None
    for user in asked:
        kept, held = (dataset.timestamp[rows[dataset.user[rows] == user]] for rows in (plan.train_rows, plan.held_rows))
        assert 1 <= len(kept) <= NEW_USER
        assert kept.max() < held.min()
    robbed = [set(np.setdiff1d(dataset.item, dataset.item[one.train_rows])) for one in others[2:]]
    assert robbed[0]
    assert not robbed[0] & robbed[1], "each draw of cold items is another one"


def test_a_hold_out_without_ratings_on_one_side_is_dropped_and_none_at_all_refused() -> None:
    few = random_ratings(3, 3, 3)
    assert all(len(plan.train_rows) and len(plan.held_rows) for plan in hold_outs(few, 5, 2, 0.2, 0, n_new=1))
    with pytest.raises(DataError, match="too few to learn from some and hold out others"):
        hold_outs(few.take(np.arange(1)), 5, 2, 0.15, seed=0)


def test_opinions_about_cold_items_are_kept_apart_and_only_about_held_out_pairs() -> None:
    pairs = Pairs(np.array([0, 0, 1]), np.array([0, 1, 1]))
    held = RatingDistribution.from_mean(SCALE, np.array([2.0, 3.0, 4.0]), 0.5)
    kept = OutOfFoldTable.gather(held, pairs, np.array([0, COLD_ITEM, 0]), 2)
    assert kept.of(pairs).answered.tolist() == [True, False, True]
    assert kept.of(pairs, cold=True).answered.tolist() == [False, True, False]
    assert not kept.of(Pairs(np.array([1]), np.array([0]))).answered.any()
    unknown = Pairs(np.array([1]), np.array([-1]))
    assert not kept.of(unknown, cold=True).answered.any(), "its key would be that of user 0 and item 1"


def test_rows_that_abstain_widen_and_narrow_no_interval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.ones(5), 400)
    held, drawn = RatingDistribution(SCALE, truth), RatingDistribution(SCALE, truth).sample(rng)
    support = opinions(np.full((800, 1), 3.0)).support
    silent = RatingDistribution(SCALE, np.concatenate([truth, np.full((400, 5), np.nan)]))
    alone = Conformal().fit(held, drawn, support.take(np.arange(400)))
    beside = Conformal().fit(silent, np.r_[drawn, np.ones(400)], support)
    assert (alone.thresholds_ == beside.thresholds_).all()
    assert np.isnan(beside.interval(silent, support).low[400:]).all()
    assert np.isnan(beside.interval(silent, support).high[400:]).all()


def test_one_more_rating_is_taken_to_be_outside_the_interval() -> None:
    """Of 9 ratings none can promise 90%: the tenth may be anything."""
    flat = RatingDistribution(SCALE, np.tile([0.6, 0.1, 0.1, 0.1, 0.1], (9, 1)))
    support = opinions(np.full((9, 1), 3.0)).support
    for n, high in ((8, 5.0), (9, 1.0)):
        rows = np.arange(n)
        found = Conformal().fit(flat.take(rows), np.ones(n), support.take(rows))
        assert found.interval(flat.take(rows), support.take(rows)).high.tolist() == [high] * n


@dataclass(frozen=True)
class Heard:
    """Held-out ratings of 40 users, statistics that know nothing of them, and an LLM that knows them nearly."""

    held_out: Dataset
    statistical: RatingDistribution
    llm: RatingDistribution


def heard(n: int = 400, knows: float = 1.0) -> Heard:
    held_out = random_ratings(40, 40, n, seed=4)
    rng = np.random.default_rng(5)
    statistical = RatingDistribution.from_mean(SCALE, rng.uniform(2.5, 3.5, n), 1.0)
    said = 3 + knows * (held_out.rating - 3) + rng.normal(0, 0.3, n)
    return Heard(held_out, statistical, RatingDistribution.from_mean(SCALE, SCALE.clip(said), 0.3))


@pytest.mark.parametrize(("n", "moves"), [(49, False), (50, True)])
def test_a_correction_is_not_learned_from_too_few_known_ratings(n: int, moves: bool) -> None:
    given, rows = heard(), np.arange(n)
    pairs = given.held_out.pairs
    correction = Correction().fit(
        given.statistical.take(rows), given.llm.take(rows), pairs.take(rows), given.held_out.rating[rows]
    )
    found = correction.apply(given.statistical, given.llm, pairs)
    assert (found.probs != given.statistical.probs).any() == moves


def test_only_rows_with_both_answers_count_as_known() -> None:
    given, both = heard(), np.arange(400) < 49
    llm = RatingDistribution(SCALE, np.where(both[:, None], given.llm.probs, np.nan))
    correction = Correction().fit(given.statistical, llm, given.held_out.pairs, given.held_out.rating)
    assert not correction.worth_.any()


def test_an_llm_that_points_the_wrong_way_is_ignored() -> None:
    given = heard(knows=-1.0)
    found = cross_fitted_correction(given.statistical, given.llm, given.held_out, seed=0)
    assert (found.probs == given.statistical.probs).all()


def test_a_row_without_an_llm_rating_keeps_its_bits() -> None:
    given, silent = heard(), np.arange(400) % 2 == 0
    llm = RatingDistribution(SCALE, np.where(silent[:, None], np.nan, given.llm.probs))
    found = cross_fitted_correction(given.statistical, llm, given.held_out, seed=0)
    assert (found.probs[silent] == given.statistical.probs[silent]).all()
    assert (found.probs[~silent] != given.statistical.probs[~silent]).any()


@pytest.mark.parametrize("new_items", [False, True])
def test_a_correction_is_learned_on_other_users_or_on_other_items(new_items: bool) -> None:
    given = heard(1200)
    group = given.held_out.item if new_items else given.held_out.user
    own = group == 7
    altered = replace(given.held_out, rating=np.where(own, 6 - given.held_out.rating, given.held_out.rating))
    before, after = (
        cross_fitted_correction(given.statistical, given.llm, held_out, seed=0, new_items=new_items).probs
        for held_out in (given.held_out, altered)
    )
    assert (before[own] == after[own]).all()
    assert (before[~own] != after[~own]).any()


def test_the_llms_view_of_an_item_is_that_of_ten_users_each_asked_once() -> None:
    """With more answers, or one that counts twice, the mean would say how many rated the item."""
    n_users, n_items = 40, 30
    user, item = np.divmod(np.arange(n_users * n_items), n_items)
    rng = np.random.default_rng(6)
    liking = rng.normal(0, 1, n_items)[item]
    pairs = Pairs(user, item)
    statistical = RatingDistribution.from_mean(SCALE, np.full(len(user), 3.0), 1.0)
    llm = RatingDistribution.from_mean(SCALE, SCALE.clip(3 + liking + rng.normal(0, 0.3, len(user))), 0.3)
    correction = Correction(new_items=True).fit(statistical, llm, pairs, 3 + 0.5 * liking)
    assert correction.worth_[0] > 0
    before = correction.shift(statistical, llm, pairs)
    raves = RatingDistribution.from_mean(SCALE, np.full(len(user), 5.0), 0.3)
    n_moving = 0
    for one in range(n_users):
        row = np.flatnonzero((user == one) & (item == 3))[0]
        probs = llm.probs.copy()
        probs[row] = raves.probs[row]
        after = correction.shift(statistical, RatingDistribution(SCALE, probs), pairs)
        others = (item == 3) & (user != one)
        n_moving += bool((before[others] != after[others]).any())
    assert n_moving == 10
    twice = np.r_[np.arange(len(user)), np.flatnonzero((item == 3) & (panel_places(pairs) == 0)).repeat(7)]
    again = correction.shift(statistical.take(twice), llm.take(twice), pairs.take(twice))
    assert again[: len(user)] == pytest.approx(before, abs=1e-12)


def test_unknown_users_and_items_are_not_taken_for_the_last_ones() -> None:
    dataset = random_ratings(10, 10, 60)
    nobody = Pairs(np.array([-1]), np.array([-1]))
    for rater in (Biases(), SVD(n_epochs=2), KNN(), NMF(n_epochs=2), UserMean(), ItemMean()):
        assert not rater.fit(dataset).rate(nobody).answered.any(), rater
    loved = replace(dataset, rating=np.where(dataset.user == 9, 5.0, dataset.rating))
    hated = replace(dataset, rating=np.where(dataset.user == 9, 1.0, dataset.rating))
    for rater in (Biases(), SVD(n_epochs=2)):
        stranger = Pairs(np.array([-1]), np.array([0]))
        last = Pairs(np.array([9]), np.array([0]))
        gaps = [rater.fit(d).rate(stranger).mean() - rater.rate(last).mean() for d in (loved, hated)]
        assert gaps[0] < 0 < gaps[1], rater


def test_a_user_or_an_item_without_ratings_has_no_mean_of_its_own() -> None:
    dataset = random_ratings(10, 10, 60)
    kept = dataset.take((dataset.user != 4) & (dataset.item != 6))
    assert not UserMean().fit(kept).rate(Pairs(np.array([4]), np.array([0]))).answered.any()
    assert not ItemMean().fit(kept).rate(Pairs(np.array([0]), np.array([6]))).answered.any()
    for pair in ((4, 0), (0, 6)):
        one = Pairs(*(np.array([number]) for number in pair))
        assert not NMF(n_epochs=2).fit(kept).rate(one).answered.any()


def test_a_recording_speaks_of_no_unknown_item_and_of_no_unknown_user() -> None:
    """The key of user 1 and an unknown item would be that of user 0 and the last item."""
    dataset = random_ratings(5, 6, 20)
    table = RecordedRatings(
        np.array(["0", "9", "1"], dtype=object), np.array(["5", "5", "77"], dtype=object), np.array([4.0, 1.0, 1.0])
    )
    rater = Recorded(table).fit(dataset)
    asked = Pairs(np.array([0, 1, -1]), np.array([5, -1, 5]))
    assert rater.rate(asked).answered.tolist() == [True, False, False]
    assert rater.rate(asked).mean()[0] == 4.0
    assert rater.n_unknown_ == 2
