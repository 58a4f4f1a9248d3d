"""Every measure against a reference or a case computed by hand; intervals against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from hybrid_sim.core.errors import InputError, ScaleError
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution, RatingScale
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.bootstrap import bootstrap_rmse, paired_bootstrap

FIVE = RatingScale((1, 2, 3, 4, 5))
HALVES = RatingScale(tuple(np.arange(1, 11) / 2))


def made_up(n: int, scale: RatingScale = FIVE, seed: int = 0) -> tuple[FloatArray, RatingDistribution]:
    """Random distributions and ratings drawn from them, so that they are calibrated."""
    rng = np.random.default_rng(seed)
    distribution = RatingDistribution(scale, rng.dirichlet(np.ones(scale.n_levels), size=n))
    return distribution.sample(rng), distribution


def test_errors_and_correlation_equal_the_references() -> None:
    truth, distribution = made_up(500)
    predicted = distribution.mean()
    assert metrics.rmse(truth, predicted) == pytest.approx(sklearn.metrics.root_mean_squared_error(truth, predicted))
    assert metrics.mae(truth, predicted) == pytest.approx(sklearn.metrics.mean_absolute_error(truth, predicted))
    assert metrics.pearson(truth, predicted) == pytest.approx(scipy.stats.pearsonr(truth, predicted).statistic)


@pytest.mark.parametrize("constant", [3.0, 3.52986, 1e-9])
def test_pearson_of_a_constant_is_undefined(constant: float) -> None:
    truth = np.array([1.0, 4.0, 5.0, 2.0, 2.0])
    assert np.isnan(metrics.pearson(truth, np.full(5, constant)))
    assert np.isnan(metrics.pearson(np.full(5, constant), truth))


def test_log_loss_equals_the_reference_and_has_a_floor() -> None:
    truth, distribution = made_up(500)
    expected = sklearn.metrics.log_loss(truth, distribution.probs, labels=FIVE.values)
    assert metrics.log_loss(truth, distribution) == pytest.approx(expected)
    certain = RatingDistribution(FIVE, np.eye(5)[[0]])
    assert metrics.log_loss([5], certain) == pytest.approx(-np.log(1e-12))
    assert metrics.log_loss([1], certain) == 0


def test_ranked_probability_score_by_hand() -> None:
    distribution = RatingDistribution(RatingScale((1, 2, 3)), np.array([[0.2, 0.3, 0.5], [0, 0, 1.0]]))
    # cumulative .2 .5 1 against 0 1 1, and 0 0 1 against 1 1 1
    assert metrics.ranked_probability_scores([2, 1], distribution) == pytest.approx([0.2**2 + 0.5**2, 2.0])


def test_ranked_probability_score_is_the_continuous_one_on_unit_levels() -> None:
    """CRPS = E|X - y| - E|X - X'| / 2 (Gneiting and Raftery 2007) is another route to the same number."""
    truth, distribution = made_up(200)
    distance = np.abs(FIVE.values[:, None] - FIVE.values)
    to_truth = (distribution.probs * np.abs(FIVE.values - truth[:, None])).sum(axis=1)
    spread = np.einsum("ni,ij,nj->n", distribution.probs, distance, distribution.probs)
    assert metrics.ranked_probability_scores(truth, distribution) == pytest.approx(to_truth - spread / 2)


def test_calibration_error_by_hand() -> None:
    distribution = RatingDistribution(RatingScale((1, 2)), np.array([[0.85, 0.15], [0.85, 0.15], [0.25, 0.75]]))
    truth = [1, 2, 2]
    # level 1: bin .8 holds .85 twice, true once; bin .2 holds .25 once, never true. Level 2 mirrors it.
    expected = (2 * 0.35 + 1 * 0.25) / 3
    assert metrics.calibration_error(truth, distribution, "levels") == pytest.approx(expected)
    assert metrics.calibration_error(truth, distribution, "pooled") == pytest.approx(expected)
    assert metrics.calibration_error(truth, distribution, "top") == pytest.approx((2 * 0.35 + 1 * 0.25) / 3)
    top = metrics.reliability(truth, distribution, "top")
    assert top.count.tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 2, 0]]
    assert top.forecast[0, 7:9] == pytest.approx([0.75, 0.85])
    assert top.observed[0, 7:9] == pytest.approx([1.0, 0.5])
    assert np.isnan(top.forecast[0, 0])


def test_errors_of_two_levels_cancel_only_when_pooled() -> None:
    """Levels 1 and 2 get .5 each and always 1 happens: each level is off by .5, both together by nothing."""
    distribution = RatingDistribution(RatingScale((1, 2)), np.full((4, 2), 0.5))
    assert metrics.calibration_error([1, 1, 1, 1], distribution, "levels") == pytest.approx(0.5)
    assert metrics.calibration_error([1, 1, 1, 1], distribution, "pooled") == pytest.approx(0.0)


@pytest.mark.parametrize("events", ["levels", "pooled", "top"])
def test_calibration_error_tells_calibrated_from_overconfident(events: metrics.Events) -> None:
    truth, calibrated = made_up(20_000)
    sharper = calibrated.probs**3
    overconfident = RatingDistribution(FIVE, sharper / sharper.sum(axis=1, keepdims=True))
    assert metrics.calibration_error(truth, calibrated, events) < 0.02
    assert metrics.calibration_error(truth, overconfident, events) > 0.05


def test_certain_forecasts_fall_into_the_last_bin() -> None:
    certain = metrics.reliability([1, 5], RatingDistribution(FIVE, np.eye(5)[[0, 4]]), "pooled")
    assert certain.count.tolist() == [[8, 0, 0, 0, 0, 0, 0, 0, 0, 2]]
    assert certain.error == 0


def test_interval_coverage_counts_the_ends_as_inside() -> None:
    assert metrics.interval_coverage([1, 2, 3, 4], [1, 1, 3.5, 1], [2, 2, 5, 3.9]) == 0.5
    assert metrics.interval_coverage([0.3], [0.1 + 0.2], [1]) == 1
    assert metrics.interval_width([1, 2], [2, 5]) == 2


def test_kl_divergence_has_a_direction_and_half_counts() -> None:
    simulated, real = [3.0] * 6 + [4.0] * 4, [1.0] * 2 + [3.0] * 4 + [5.0] * 4
    q, p = np.array([0, 0, 6, 4, 0]) + 0.5, np.array([2, 0, 4, 0, 4]) + 0.5
    assert metrics.kl_divergence(simulated, real, FIVE) == pytest.approx(scipy.stats.entropy(q, p))
    assert metrics.kl_divergence(simulated, real, FIVE) != pytest.approx(scipy.stats.entropy(p, q))
    assert metrics.kl_divergence(real, real, FIVE) == 0


def test_kl_divergence_of_two_samples_of_one_law_is_what_the_docstring_says() -> None:
    rng = np.random.default_rng(1)
    law, n = [0.06, 0.11, 0.27, 0.34, 0.22], 2000
    samples = rng.choice(FIVE.values, p=law, size=(200, 2, n))
    mean = np.mean([metrics.kl_divergence(a, b, FIVE) for a, b in samples])
    assert mean == pytest.approx(4 / n, rel=0.2)


@pytest.mark.parametrize("scale", [FIVE, HALVES, RatingScale((0, 1, 10, 100))])
def test_wasserstein_equals_the_reference(scale: RatingScale) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.choice(scale.values, size=300), rng.choice(scale.values[1:], size=200)
    assert metrics.wasserstein(a, b, scale) == pytest.approx(scipy.stats.wasserstein_distance(a, b))


def test_within_user_sd_leaves_out_users_with_one_rating() -> None:
    ratings, users = np.array([1, 3, 5, 2, 4, 4]), np.array([7, 7, 9, 8, 8, 8])
    expected = (np.std([1, 3], ddof=1) + np.std([2, 4, 4], ddof=1)) / 2
    assert metrics.within_user_sd(ratings, users) == pytest.approx(expected)
    assert np.isnan(metrics.within_user_sd([3, 4], [0, 1]))


@given(st.lists(st.tuples(st.integers(0, 4), st.lists(st.floats(0.01, 1), min_size=5, max_size=5)), min_size=1))
def test_measures_stay_in_their_range(rows: list[tuple[int, list[float]]]) -> None:
    weights = np.array([row for _, row in rows])
    distribution = RatingDistribution(FIVE, weights / weights.sum(axis=1, keepdims=True))
    truth = FIVE.values[[index for index, _ in rows]]
    assert 0 <= metrics.ranked_probability_score(truth, distribution) <= 4
    assert 0 <= metrics.log_loss(truth, distribution) <= 27.7
    pooled, levels, top = (metrics.calibration_error(truth, distribution, e) for e in ("pooled", "levels", "top"))
    assert 0 <= pooled <= levels + 1e-12 <= 1 + 1e-9
    assert 0 <= top <= 1
    correlation = metrics.pearson(truth, distribution.mean())
    assert np.isnan(correlation) or -1 <= correlation <= 1


def test_nothing_is_skipped_in_silence() -> None:
    with pytest.raises(InputError, match=r"predicted row 1 is nan, .* \(1 of 3 rows\); put a rater that always"):
        metrics.rmse([1, 2, 3], [1, np.nan, 3])
    with pytest.raises(InputError, match=r"low row 0 is -inf"):
        metrics.interval_coverage([1], [-np.inf], [2])
    silent = RatingDistribution(FIVE, np.vstack([np.full(5, 0.2), np.full(5, np.nan)]))
    for measure in (metrics.log_loss, metrics.ranked_probability_score, metrics.calibration_error):
        with pytest.raises(InputError, match=r"row 1 abstains \(1 of 2 rows\)"):
            measure([1, 2], silent)
    with pytest.raises(InputError, match="no ratings to score"):
        metrics.mae([], [])
    with pytest.raises(ScaleError, match=r"rating 2.5 is not on the scale"):
        metrics.log_loss([2.5, 1], silent.take(slice(0, 1)).take(np.array([0, 0])))
    with pytest.raises(ValueError, match="columns of one length"):
        metrics.rmse([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="2 ratings and 1 users"):
        metrics.within_user_sd([1, 2], [1])


def test_misspelt_options_are_errors() -> None:
    truth, distribution = made_up(5)
    with pytest.raises(ValueError, match="events 'classes' must be one of levels, pooled, top"):
        metrics.reliability(truth, distribution, "classes")  # type: ignore[arg-type]  # the misspelling is the test
    with pytest.raises(ValueError, match="statistic 'rmsd' must be one of rmse, mean"):
        paired_bootstrap(truth, truth, truth, "rmsd")  # type: ignore[arg-type]  # the misspelling is the test


def clustered(rng: np.random.Generator, n_users: int = 80) -> tuple[FloatArray, FloatArray, IntArray]:
    """Errors of two models, in part shared by all rows of a user, and the users; RMSE √1.25 and √1.8."""
    users = np.repeat(np.arange(n_users, dtype=np.int64), rng.integers(5, 20, n_users))
    shared, noise = rng.normal(size=n_users)[users], rng.normal(size=(2, len(users)))
    return 0.5 * shared + noise[0], shared + np.sqrt(0.8) * noise[1], users


def test_bootstrap_estimates_are_the_plain_statistics() -> None:
    a, b, users = clustered(np.random.default_rng(3))
    truth = np.zeros_like(a)
    one = bootstrap_rmse(truth, a, users)
    assert one.estimate == pytest.approx(metrics.rmse(truth, a))
    assert one.low < one.estimate < one.high
    paired = paired_bootstrap(a**2, b**2, users)
    assert paired.estimate == pytest.approx(metrics.rmse(truth, a) - metrics.rmse(truth, b))
    absolute = paired_bootstrap(np.abs(a), np.abs(b), users, "mean")
    assert absolute.estimate == pytest.approx(metrics.mae(truth, a) - metrics.mae(truth, b))
    assert paired == paired_bootstrap(a**2, b**2, users)
    assert paired != paired_bootstrap(a**2, b**2, users, seed=1)


def test_bootstrap_resamples_whole_groups() -> None:
    """The same resamples, written out row by row."""
    a, b, users = clustered(np.random.default_rng(4), n_users=12)
    rng, got = np.random.default_rng(0), []
    rows = [np.flatnonzero(users == user) for user in range(12)]
    for drawn in rng.integers(12, size=(300, 12)):
        chosen = np.concatenate([rows[user] for user in drawn])
        got.append(np.sqrt(np.mean(a[chosen] ** 2)) - np.sqrt(np.mean(b[chosen] ** 2)))
    interval = paired_bootstrap(a**2, b**2, users, n_boot=300, seed=0, level=0.9)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(got, [0.05, 0.95]).tolist())


def test_with_folds_the_statistic_is_the_mean_over_folds() -> None:
    rng = np.random.default_rng(5)
    a, b, users = clustered(rng)
    folds = np.where(rng.random(len(a)) < 0.2, "1", "2")
    a[folds == "1"] *= 3
    parts = [np.sqrt(np.mean(a[folds == f] ** 2)) - np.sqrt(np.mean(b[folds == f] ** 2)) for f in ("1", "2")]
    assert paired_bootstrap(a**2, b**2, users, folds=folds).estimate == pytest.approx(np.mean(parts))


def test_bootstrap_of_tiny_data() -> None:
    alone = bootstrap_rmse([1, 2], [2, 2], ["ann", "ann"])
    assert alone.estimate == pytest.approx(np.sqrt(0.5))
    assert np.isnan([alone.low, alone.high]).all()
    two = bootstrap_rmse([1, 2], [2, 4], ["ann", "bob"], folds=[1, 2])  # resamples without one of the folds
    assert (two.low, two.estimate, two.high) == (1.0, 1.5, 2.0)


def test_intervals_cover_what_they_promise_and_rows_alone_would_not() -> None:
    rng, n_simulations = np.random.default_rng(6), 400
    difference, covered, covered_by_rows = np.sqrt(1.25) - np.sqrt(1.8), 0, 0
    for _ in range(n_simulations):
        a, b, users = clustered(rng)
        by_user = paired_bootstrap(a**2, b**2, users, n_boot=400)
        by_row = paired_bootstrap(a**2, b**2, np.arange(len(a)), n_boot=100)
        covered += by_user.low <= difference <= by_user.high
        covered_by_rows += by_row.low <= difference <= by_row.high
    assert 0.91 <= covered / n_simulations <= 0.98
    assert covered_by_rows / n_simulations < 0.85


def test_rankings_are_judged_by_gain_and_by_liked_items() -> None:
    """Against scikit-learn's NDCG, ties averaged; recall by hand."""
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(0)
    scale, user = RatingScale((1, 2, 3, 4, 5)), np.repeat([4, 7, 9], [30, 20, metrics.N_TOP])
    truth, expected = rng.integers(1, 6, 60).astype(float), rng.integers(1, 9, 60) / 2
    shuffled = rng.permutation(60)
    found = metrics.Ranking.of(truth[shuffled], expected[shuffled], user[shuffled], scale)
    parts = [user == 4, user == 7]  # the third has too few items to choose from
    wanted = [ndcg_score([truth[part] - 1], [expected[part]], k=10) for part in parts]
    assert found.ndcg == pytest.approx(np.mean(wanted))
    assert metrics.Ranking.of(truth, truth, user, scale) == metrics.Ranking(1.0, 1.0)
    constant = metrics.Ranking.of(truth, np.ones(60), user, scale)
    liked = np.array([(truth[part] >= 4).sum() for part in parts])
    assert constant.recall == pytest.approx(np.mean(10 / np.array([30, 20]) * liked / np.minimum(liked, 10)))
    assert np.isnan(metrics.Ranking.of(truth[-10:], truth[-10:], user[-10:], scale).ndcg)
