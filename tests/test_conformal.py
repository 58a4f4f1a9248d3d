"""Intervals cover what they promise, in every support bucket, whatever the distributions are worth."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid_sim.core.types import FloatArray, RatingDistribution, RatingScale
from hybrid_sim.ensemble.conformal import MIN_ROWS, Conformal
from hybrid_sim.models.support import Support

SCALE = RatingScale((1, 2, 3, 4, 5))
BUCKETS = (0, 3, 10, 100)
"""Ratings of the item, one number in each support bucket."""


def support(n_item: FloatArray) -> Support:
    flat, shares = np.ones(len(n_item)), np.full((len(n_item), 5), 0.2, dtype=np.float32)
    return Support(10 * flat, n_item, flat, flat, shares, shares)


def draw(n_pairs: int, sharpness: float, seed: int) -> tuple[RatingDistribution, FloatArray]:
    """Distributions that are overconfident (sharpness > 1) or timid, and the ratings that came true."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(5), n_pairs)
    said = truth**sharpness
    opinion = RatingDistribution(SCALE, said / said.sum(axis=1, keepdims=True))
    return opinion, RatingDistribution(SCALE, truth).sample(rng)


def covered(conformal: Conformal, opinion: RatingDistribution, ratings: FloatArray, n_item: FloatArray) -> float:
    found = conformal.interval(opinion, support(n_item))
    return float(((found.low <= ratings) & (ratings <= found.high)).mean())


@pytest.mark.parametrize("coverage", [0.5, 0.9])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_coverage_is_what_was_promised_in_every_bucket(sharpness: float, coverage: float) -> None:
    """Buckets are wrong in different ways: the thresholds must differ, and each must hold."""
    parts = [draw(4000, sharpness * (1 + k) / 2, seed=k) for k in range(4)]
    held = RatingDistribution(SCALE, np.concatenate([opinion.probs for opinion, _ in parts]))
    ratings = np.concatenate([rating for _, rating in parts])
    conformal = Conformal(coverage).fit(held, ratings, support(np.repeat(np.array(BUCKETS, dtype=float), 4000)))
    for k, n_item in enumerate(BUCKETS):
        opinion, truth = draw(8000, sharpness * (1 + k) / 2, seed=100 + k)
        found = covered(conformal, opinion, truth, np.full(8000, float(n_item)))
        assert found > coverage - 0.025
        assert found < max(coverage + 0.025, 0.65)


def test_the_guarantee_holds_on_average_even_for_a_few_held_out_ratings() -> None:
    """Split conformal prediction covers at least the promised share over draws of any size (here 15)."""
    found = []
    for seed in range(300):
        held, ratings = draw(15, 2.0, seed)
        conformal = Conformal(0.8).fit(held, ratings, support(np.full(15, 50.0)))
        opinion, truth = draw(60, 2.0, 10_000 + seed)
        found.append(covered(conformal, opinion, truth, np.full(60, 50.0)))
    assert np.mean(found) > 0.8 - 3 * np.std(found) / np.sqrt(len(found))


def test_too_few_ratings_for_any_promise_give_the_whole_scale() -> None:
    held, ratings = draw(8, 1.0, 0)
    conformal = Conformal(0.9).fit(held, ratings, support(np.full(8, 50.0)))
    found = conformal.interval(held, support(np.full(8, 50.0)))
    assert (found.low == 1).all()
    assert (found.high == 5).all()
    nothing = Conformal().fit(RatingDistribution.abstain(SCALE, 5), np.full(5, 3.0), support(np.full(5, 1.0)))
    assert (nothing.interval(held, support(np.full(8, 50.0))).high == 5).all()


def test_a_small_bucket_uses_the_threshold_of_all() -> None:
    opinion, ratings = draw(MIN_ROWS + MIN_ROWS - 1, 3.0, 0)
    n_item = np.repeat([100.0, 3.0], [MIN_ROWS, MIN_ROWS - 1])
    conformal = Conformal().fit(opinion, ratings, support(n_item))
    alone = Conformal().fit(opinion, ratings, support(np.zeros(len(ratings))))
    large = Conformal().fit(opinion.take(n_item == 100), ratings[n_item == 100], support(np.full(MIN_ROWS, 100.0)))
    assert conformal.thresholds_[:3] == pytest.approx(alone.thresholds_[0])
    assert conformal.thresholds_[3] == large.thresholds_[3]


def test_intervals_hold_the_mode_and_grow_with_coverage() -> None:
    opinion, ratings = draw(3000, 1.0, 1)
    n_item = np.full(3000, 50.0)
    before = None
    for coverage in (0.05, 0.5, 0.9, 0.99):
        found = Conformal(coverage).fit(opinion, ratings, support(n_item)).interval(opinion, support(n_item))
        mode = SCALE.values[opinion.probs.argmax(axis=1)]
        assert ((found.low <= mode) & (mode <= found.high)).all()
        assert SCALE.contains(np.concatenate([found.low, found.high])).all()
        if before is not None:
            assert ((found.low <= before.low) & (found.high >= before.high)).all()
        before = found


def test_the_likelier_neighbour_joins_first() -> None:
    """From the mode 3 upwards to 4 (.2) before 2 (.15): the mass of 3 and 4 is needed before 2 is added."""
    opinion = RatingDistribution(SCALE, np.array([[0.05, 0.15, 0.5, 0.2, 0.1]]))
    conformal = Conformal()
    bounds = {}
    for threshold in (0.49, 0.5, 0.69, 0.7, 0.85, 0.95):
        conformal.thresholds_ = np.full(4, threshold)
        found = conformal.interval(opinion, support(np.ones(1)))
        bounds[threshold] = (float(found.low[0]), float(found.high[0]))
    assert bounds == {0.49: (3, 3), 0.5: (3, 4), 0.69: (3, 4), 0.7: (2, 4), 0.85: (2, 5), 0.95: (1, 5)}


def test_who_abstains_has_no_interval() -> None:
    opinion, ratings = draw(500, 1.0, 2)
    conformal = Conformal().fit(opinion, ratings, support(np.full(500, 9.0)))
    found = conformal.interval(RatingDistribution.abstain(SCALE, 2), support(np.full(2, 9.0)))
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_weights_make_up_for_held_out_ratings_that_are_not_like_those_to_come() -> None:
    """Overconfident distributions are one row in ten of the held-out ratings, but all of those to come."""
    timid, easy = draw(9000, 1.0, seed=0)
    bold, hard = draw(1000, 6.0, seed=1)
    held = RatingDistribution(SCALE, np.concatenate([timid.probs, bold.probs]))
    ratings, n_item = np.concatenate([easy, hard]), np.full(10_000, 50.0)
    weights = np.concatenate([np.full(9000, 1e-6), np.ones(1000)])
    opinion, truth = draw(4000, 6.0, seed=2)
    blind = covered(Conformal().fit(held, ratings, support(n_item)), opinion, truth, np.full(4000, 50.0))
    weighted = covered(Conformal().fit(held, ratings, support(n_item), weights), opinion, truth, np.full(4000, 50.0))
    assert blind < 0.85
    assert weighted == pytest.approx(0.9, abs=0.03)
