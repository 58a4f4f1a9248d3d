"""The nouns: rating scales and distributions keep their laws for any scale, mean and weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_sim.core.errors import ScaleError
from hybrid_sim.core.types import MAX_LEVELS, Pairs, RatingDistribution, RatingScale

FIVE = RatingScale((1, 2, 3, 4, 5))

scales = st.lists(st.integers(-400, 400), min_size=2, max_size=30, unique=True).map(
    lambda quarters: RatingScale(tuple(quarter / 4 for quarter in sorted(quarters)))
)
seeds = st.integers(0, 2**32 - 1)


@given(scales, seeds)
def test_levels_are_found_and_nothing_else_is(scale: RatingScale, seed: int) -> None:
    place = np.random.default_rng(seed).integers(0, scale.n_levels, 20)
    assert (scale.index(scale.values[place]) == place).all()
    assert scale.contains(scale.values).all()
    assert not scale.contains(scale.values + 0.1).any()
    assert not scale.contains([np.nan, np.inf, -np.inf]).any()


@given(scales, st.lists(st.floats(-200, 200), min_size=1, max_size=20))
def test_rounding_goes_to_a_nearest_level_and_stays_there(scale: RatingScale, numbers: list[float]) -> None:
    rounded = scale.round(numbers)
    assert scale.contains(rounded).all()
    distances = np.abs(np.array(numbers)[:, None] - scale.values)
    assert np.abs(rounded - numbers) == pytest.approx(distances.min(axis=1))
    assert (scale.round(rounded) == rounded).all()
    clipped = scale.clip(numbers)
    assert (clipped >= scale.low).all()
    assert (clipped <= scale.high).all()


def test_halves_are_rounded_up() -> None:
    assert FIVE.round([1.5, 2.5, 4.5, -7, 9]).tolist() == [2, 3, 5, 1, 5]


@pytest.mark.parametrize("rating", [0, 1.5, 6, np.nan, np.inf])
def test_a_rating_off_the_scale_is_named(rating: float) -> None:
    with pytest.raises(ScaleError, match=f"rating {rating:g} is not on the scale 1, 2, 3, 4, 5"):
        FIVE.index([3, rating])


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((1,), "2 to 201 levels, got 1"),
        (tuple(range(MAX_LEVELS + 1)), "got 202; bin the ratings first"),
        ((2, 1), "finite and ascending"),
        ((1, 1), "finite and ascending"),
        ((1, np.nan), "finite and ascending"),
        ((1, np.inf), "finite and ascending"),
    ],
)
def test_levels_that_are_no_scale_are_refused(levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(ScaleError, match=message):
        RatingScale(levels)


def test_long_scales_are_shortened_in_words() -> None:
    assert str(RatingScale(tuple(range(101)))) == "0, 1, 2, ..., 99, 100"


@settings(deadline=None)
@given(scales, seeds, st.floats(0.01, 50))
def test_from_mean_has_exactly_these_means(scale: RatingScale, seed: int, sd: float) -> None:
    mean = np.random.default_rng(seed).uniform(scale.low, scale.high, 12)
    mean[:4] = scale.low, scale.high, scale.low - 1, scale.high + 3
    found = RatingDistribution.from_mean(scale, mean, sd)
    assert found.mean() == pytest.approx(scale.clip(mean), abs=1e-9 * (scale.high - scale.low + 100))
    assert found.probs.sum(axis=1) == pytest.approx(1)
    assert (found.probs >= 0).all()


def test_from_mean_has_about_the_spread_asked_for() -> None:
    scale = RatingScale(tuple(range(101)))
    assert RatingDistribution.from_mean(scale, np.array([50.0]), 7.0).std() == pytest.approx(7, rel=1e-3)


@settings(deadline=None)
@given(scales, seeds)
def test_tilting_reaches_the_mean_and_again_changes_nothing(scale: RatingScale, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = RatingDistribution(scale, rng.dirichlet(np.ones(scale.n_levels), 10))
    mean = scale.low + rng.uniform(0.01, 0.99, 10) * (scale.high - scale.low)
    tilted = start.tilted_to(mean)
    assert tilted.mean() == pytest.approx(mean, abs=1e-9 * (scale.high - scale.low + 100))
    assert tilted.tilted_to(mean).probs == pytest.approx(tilted.probs, abs=1e-9)


def test_tilting_to_its_own_mean_changes_nothing() -> None:
    start = RatingDistribution(FIVE, np.array([[0.1, 0.2, 0.4, 0.2, 0.1], [0.5, 0.0, 0.0, 0.0, 0.5]]))
    assert start.tilted_to(start.mean()).probs == pytest.approx(start.probs, abs=1e-11)


def test_tilting_keeps_odds_exponential() -> None:
    """The tilted law is p exp(λx): the logarithms of its ratios to p lie on a straight line over the levels."""
    start = np.array([[0.3, 0.1, 0.2, 0.25, 0.15]])
    tilted = RatingDistribution(FIVE, start).tilted_to(np.array([3.7])).probs
    assert np.diff(np.log(tilted / start), n=2) == pytest.approx(0, abs=1e-9)


def test_quantile_draws_the_law() -> None:
    law = np.array([0.05, 0.3, 0.0, 0.4, 0.25])
    drawn = RatingDistribution(FIVE, np.tile(law, (40_000, 1))).sample(np.random.default_rng(0))
    shares = np.bincount(FIVE.index(drawn), minlength=5) / len(drawn)
    assert shares == pytest.approx(law, abs=4 * 0.5 / 200)
    assert shares[2] == 0


def test_quantile_at_the_steps() -> None:
    law = RatingDistribution(FIVE, np.tile([0.25, 0.25, 0.0, 0.25, 0.25], (6, 1)))
    assert law.quantile(np.array([0.0, 0.2499, 0.25, 0.5, 0.75, 1 - 2**-53])).tolist() == [1, 1, 2, 4, 5, 5]


def test_a_row_that_abstains_has_no_statistics() -> None:
    opinion = RatingDistribution(FIVE, np.array([[np.nan] * 5, [0.1, 0.2, 0.3, 0.2, 0.2]]))
    assert opinion.answered.tolist() == [False, True]
    statistics = [
        opinion.mean(),
        opinion.std(),
        opinion.sample(np.random.default_rng(0)),
        opinion.prob_of([1, 1]),
    ]
    for column in [*statistics, opinion.cdf()[:, -1], opinion.tilted_to(np.array([3.0, 3.0])).mean()]:
        assert np.isnan(column).tolist() == [True, False]
    assert np.isnan(opinion.tilted_to(np.array([3.0, np.nan])).probs).all()
    assert not RatingDistribution.abstain(FIVE, 3).answered.any()
    assert not RatingDistribution.from_mean(FIVE, np.array([np.nan]), 1.0).answered.any()


def test_statistics_by_hand() -> None:
    opinion = RatingDistribution(RatingScale((0, 10)), np.array([[0.75, 0.25]]))
    assert opinion.mean() == pytest.approx(2.5)
    assert opinion.std() == pytest.approx(10 * np.sqrt(0.75 * 0.25))
    assert opinion.cdf().tolist() == [[0.75, 1.0]]
    assert opinion.prob_of([10]) == pytest.approx(0.25)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"probs has shape \(2, 4\), the scale 5 levels"):
        RatingDistribution(FIVE, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="columns of one length"):
        Pairs(np.zeros(2, dtype=np.int64), np.zeros(3, dtype=np.int64))


def test_a_fallback_answers_where_a_row_abstains_or_is_not_kept() -> None:
    opinion = RatingDistribution(FIVE, np.array([[np.nan] * 5, [0, 0, 0, 0, 1.0], [0, 0, 0, 1.0, 0]]))
    fallback = RatingDistribution(FIVE, np.tile([1.0, 0, 0, 0, 0], (3, 1)))
    assert opinion.filled(fallback).mean().tolist() == [1.0, 5.0, 4.0]
    assert opinion.filled(fallback, keep=np.array([True, True, False])).mean().tolist() == [1.0, 5.0, 1.0]


def test_a_pair_that_is_not_known_has_the_key_of_none() -> None:
    pairs = Pairs(np.array([0, 2, -1, 1]), np.array([3, 0, 2, -1]))
    assert pairs.known.tolist() == [True, True, False, False]
    assert pairs.keys(n_items=4).tolist() == [3, 8, -1, -1]
