"""Where a language model is asked, what its word is found to be worth, and that guessing is worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_minds import item_quality, rating_mind
from llm_server import LoopbackLLM
from small_worlds import N_NEW, world_with_new_items

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.settings import LLMSettings, ProfileSettings, RatingSettings, RunSettings
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data import load
from hybrid_sim.data.recordings import read_recordings, shuffle_within_users
from hybrid_sim.ensemble.correction import MIN_ROWS, Correction, cross_fitted_correction, largest_gain
from hybrid_sim.evaluation.protocols import make_protocol
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.models import make_rater
from hybrid_sim.models.recorded import Recorded, RecordedRatings
from hybrid_sim.simulation.interviewer import LLMRatings, interviewer
from hybrid_sim.simulation.llm_value import (
    LLM_ITEM_SOURCE,
    LLM_SOURCE,
    MIN_GAIN,
    LLMValue,
    best_calls,
    expected_gain,
    pairs_to_ask,
)
from hybrid_sim.simulation.simulate import UserStates, calibration_requests, simulate
from hybrid_sim.simulation.simulator import Simulator

SCALE = RatingScale((1, 2, 3, 4, 5))


@pytest.fixture(scope="module")
def world() -> tuple[Dataset, Dataset]:
    return world_with_new_items(seed=5)


@pytest.fixture(scope="module")
def fitted(world: tuple[Dataset, Dataset]) -> Simulator:
    return Simulator(members=("biases", "content_gp")).fit(world[0])


def statistics(n: int, seed: int) -> tuple[RatingDistribution, FloatArray, np.random.Generator]:
    """Statistical answers of many widths, and true ratings that are spread as the answers say."""
    rng = np.random.default_rng(seed)
    answer = RatingDistribution.from_mean(SCALE, rng.uniform(2.2, 4.2, n), rng.uniform(0.6, 1.6, n))
    return answer, answer.sample(rng), rng


def apart(n: int) -> Pairs:
    """Pairs of which no two share a user or an item."""
    return Pairs(np.arange(n), np.arange(n))


def said(mean: FloatArray) -> RatingDistribution:
    return RatingDistribution.from_mean(SCALE, mean, 0.3)


def test_what_statistics_held_already_is_no_surprise() -> None:
    answer, truth, _ = statistics(4000, seed=0)
    echo = said(1.0 + 0.6 * answer.mean())
    pairs = apart(4000)
    found = Correction().fit(answer, echo, pairs, truth).apply(answer, echo, pairs)
    assert np.abs(found.mean() - answer.mean()).max() < 1e-6


def test_on_average_no_answer_is_moved() -> None:
    """Generous or harsh, an LLM's level teaches nothing: what it says of some against others does."""
    answer, truth, rng = statistics(4000, seed=1)
    generous = said(SCALE.round(1.0 + 0.3 * truth + 0.4 * answer.mean() + rng.normal(0, 0.7, 4000)))
    pairs = apart(4000)
    correction = Correction().fit(answer, generous, pairs, truth)
    shift = correction.shift(answer, generous, pairs)
    assert np.abs(shift).mean() > 0.1
    assert abs(shift.mean()) < 0.02
    kinder = said(np.minimum(generous.mean() + 0.5, 4.9))
    assert np.abs(Correction().fit(answer, kinder, pairs, truth).shift(answer, kinder, pairs).mean()) < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_a_contrary_llm_is_worth_nothing_and_changes_no_bit(seed: int) -> None:
    answer, truth, rng = statistics(2000, seed)
    contrary = said(SCALE.round(6.0 - truth + rng.normal(0, 0.5, 2000)))
    pairs = Pairs(np.arange(2000), np.arange(2000) % 100)
    for correction in (Correction(), Correction(new_items=True)):
        correction.fit(answer, contrary, pairs, truth)
        assert not correction.worth_.any()
        assert (correction.apply(answer, contrary, pairs).probs == answer.probs).all()


def test_the_planted_worth_is_found() -> None:
    """Truth = expectation + 0.2 · surprise + noise; over ten samples the mean of what is found is right."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        answer = RatingDistribution.from_mean(SCALE, rng.uniform(2.5, 3.8, 20_000), rng.uniform(0.6, 1.6, 20_000))
        llm = RatingDistribution.from_mean(SCALE, SCALE.round(rng.uniform(0.6, 5.4, 20_000)), 0.01)
        surprise = llm.mean() - llm.mean().mean()
        truth = answer.mean() + 0.2 * surprise + rng.normal(0, 0.8, 20_000)
        found.append(Correction().fit(answer, llm, apart(20_000), truth).worth_)
    shrunk = 20_000 / (20_000 + Correction().strength)
    assert np.mean(found) == pytest.approx(0.2 * shrunk, abs=0.003)


@pytest.mark.parametrize(("n", "is_excluded"), [(132, False), (136, True)])
def test_ratings_unrelated_to_the_errors_exclude_a_gain_from_136_on(n: int, is_excluded: bool) -> None:
    """1.645² / MIN_GAIN = 135.3; negatively correlated ones do so earlier, and columns of zero at once."""
    surprise, error = np.tile([[1.0], [-1.0]], (n // 2, 1)), np.repeat([1.0, -1.0], n // 2)
    assert (largest_gain(surprise, error) < MIN_GAIN) == is_excluded
    assert largest_gain(surprise, error) == pytest.approx(1.645**2 / n)
    assert largest_gain(surprise[:60], -surprise[:60, 0]) == 0.0
    assert largest_gain(0.0 * surprise, error) == 0.0


@pytest.mark.parametrize("n", [80, 140, 400])
def test_of_models_that_are_worth_their_calls_at_most_one_in_twenty_is_given_up(n: int) -> None:
    """Their ratings explain `MIN_GAIN` of the squared error; given up are those of weight 0 and a limit below it."""
    given_up = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        answer = RatingDistribution.from_mean(SCALE, rng.uniform(2.5, 3.8, n), 1.0)
        llm = said(rng.uniform(1.5, 4.5, n))
        slope = np.sqrt(MIN_GAIN / (1.0 - MIN_GAIN)) / np.sqrt(0.75)
        truth = answer.mean() + slope * (llm.mean() - 3.0) + rng.normal(0, 1.0, n)
        correction = Correction().fit(answer, llm, apart(n), truth)
        given_up += correction.worth_[0] == 0.0 and correction.largest_gain_ < MIN_GAIN
    assert given_up / 1000 < 0.05 + 3.0 * np.sqrt(0.05 * 0.95 / 1000)


def test_a_model_that_rates_everything_alike_explains_nothing_and_too_few_ratings_exclude_nothing() -> None:
    answer, truth, _ = statistics(MIN_ROWS, seed=5)
    alike = said(np.full(MIN_ROWS, 4.0))
    assert Correction().fit(answer, alike, apart(MIN_ROWS), truth).largest_gain_ == 0.0
    few = np.arange(MIN_ROWS - 1)
    assert Correction().fit(answer.take(few), alike.take(few), apart(MIN_ROWS - 1), truth[few]).largest_gain_ == 1.0


def test_a_correction_on_another_scale_is_the_same_correction() -> None:
    wide_scale = RatingScale(tuple(range(10, 60, 10)))
    answer, truth, rng = statistics(3000, seed=3)
    llm = said(SCALE.round(0.5 * truth + 1.5 + rng.normal(0, 0.7, 3000)))
    tenfold = [RatingDistribution(wide_scale, opinion.probs) for opinion in (answer, llm)]
    pairs = apart(3000)
    small, large = Correction().fit(answer, llm, pairs, truth), Correction().fit(*tenfold, pairs, 10.0 * truth)
    assert large.worth_ == pytest.approx(small.worth_, rel=1e-6)
    assert large.shift(*tenfold, pairs) == pytest.approx(10.0 * small.shift(answer, llm, pairs), abs=1e-6)


def test_learned_by_item_no_rating_of_an_item_reaches_its_own_correction() -> None:
    answer, truth, rng = statistics(3000, seed=4)
    llm = said(SCALE.round(0.5 * truth + 1.5 + rng.normal(0, 0.7, 3000)))
    frames = [pd.DataFrame(index=pd.Index([f"{c}{k}" for k in range(50)], dtype=object)) for c in "ui"]
    user, item = rng.integers(0, 50, (2, 3000))
    held = Dataset("held", SCALE, frames[0], frames[1], user, item, truth)
    own = item == 7
    altered = Dataset("held", SCALE, frames[0], frames[1], user, item, np.where(own, 6 - truth, truth))
    before, after = (cross_fitted_correction(answer, llm, h, 0, new_items=True) for h in (held, altered))
    assert (before.probs[own] == after.probs[own]).all()
    assert (before.probs[~own] != after.probs[~own]).any()


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 9)), max_size=60),
    share=st.floats(0, 1),
    size=st.integers(1, 12),
)
def test_the_calls_chosen_are_a_share_of_all_and_the_best(
    rows: list[tuple[int, float]], share: float, size: int
) -> None:
    users, help_ = np.array([u for u, _ in rows], dtype=np.int64), np.array([h for _, h in rows], dtype=float)
    chosen = best_calls(users, help_, share, size)
    n_all, n_chosen = (int(np.ceil(np.bincount(u, minlength=6) / size).sum()) for u in (users, users[chosen]))
    assert n_chosen == (max(round(share * n_all), min(n_all, 1)) if share > 0 else 0)
    assert (np.diff(chosen) > 0).all()
    left = np.setdiff1d(np.arange(len(users)), chosen)
    for user in set(users[chosen]):  # of each user the pairs that need it most
        assert min(help_[chosen][users[chosen] == user]) >= max(help_[left][users[left] == user], default=0.0)
    if share == 1:
        assert len(chosen) == len(users)


def test_the_choice_does_not_depend_on_the_order_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    users, help_ = rng.integers(0, 20, 300), rng.random(300)
    mixed = rng.permutation(300)
    rows = best_calls(users, help_, 0.2, 7)
    assert set(mixed[best_calls(users[mixed], help_[mixed], 0.2, 7)]) == set(rows)


def test_one_item_per_call_takes_the_pairs_with_the_most_help() -> None:
    help_ = np.random.default_rng(1).random(200)
    rows = best_calls(np.arange(200) % 9, help_, 0.2, 1)
    assert set(rows) == set(np.argsort(-help_)[:40])


def test_wide_answers_and_new_items_come_first() -> None:
    same = RatingDistribution.from_mean(SCALE, np.full(6, 3.0), 1.0)
    first, counts = np.zeros(6, dtype=np.int64), np.array([0.0, 1.0, 3.0, 10.0, 100.0, 1000.0])
    assert (np.diff(expected_gain(same, counts, first)) < 0).all()
    assert (np.diff(expected_gain(same, np.zeros(6), np.arange(6))) < 0).all()
    assert expected_gain(same, np.full(6, 1000.0), np.arange(6)) == pytest.approx(same.std() ** 2, rel=0.02)
    late = expected_gain(same.take(np.arange(3)), np.array([0.0, 0.0, 1e6]), np.array([100, 10_000, 0]))
    assert (np.diff(late) < 0).all()  # what it adds for a user is never worth less than with an item that is known
    widths = RatingDistribution.from_mean(SCALE, np.full(6, 3.0), np.linspace(0.5, 2.0, 6))
    assert (np.diff(expected_gain(widths, np.zeros(6), first)) > 0).all()


def test_all_new_items_get_some_answers_before_one_gets_many(world: tuple[Dataset, Dataset], fitted: Simulator) -> None:
    dataset = world[0]
    user, item = np.divmod(np.arange(100 * N_NEW), N_NEW)
    pairs = Pairs(user, item + dataset.n_items - N_NEW)
    doubts = RatingDistribution.from_mean(dataset.scale, np.full(len(pairs), 3.0), 0.9 + 0.005 * item)
    for items_per_call in (1, 10):
        rows = pairs_to_ask(fitted, dataset, pairs, doubts, share=0.1, items_per_call=items_per_call)
        assert len(rows) == 300
        assert np.bincount(item[rows], minlength=N_NEW).min() >= 2


def test_only_what_can_be_asked_about_is_chosen(world: tuple[Dataset, Dataset], fitted: Simulator) -> None:
    dataset = world[0]
    users, items = [*dataset.users.index[:6], "stranger", dataset.users.index[0]], [*dataset.items.index[:7]] * 2
    pairs = dataset.encode(users, [*items[:6], items[0], items[0]])
    statistical = fitted.predict_pairs(pairs).distribution
    assert pairs_to_ask(fitted, dataset, pairs, statistical, 1.0, 10).tolist() == [0, 1, 2, 3, 4, 5]
    blank = dataset.items.assign(title=["", *dataset.items["title"][1:]], overview=["", *dataset.items["overview"][1:]])
    blank["genres"] = [(), *dataset.items["genres"][1:]]
    without_text = replace(dataset, items=blank)
    assert pairs_to_ask(fitted, without_text, pairs, statistical, 1.0, 10).tolist() == [1, 2, 3, 4, 5]


def answers_about(dataset: Dataset, n_users: int, model: Callable[[FloatArray], FloatArray]) -> LLMRatings:
    """Ratings `model(true ratings)` of the last ratings of users."""
    answers = LLMRatings.none_yet(calibration_requests(UserStates(dataset, {}), n_users, 10, seed=0), 1)
    answers.ratings[0] = dataset.scale.round(dataset.scale.clip(model(dataset.rating_of(answers.pairs))))
    return answers


def test_a_model_that_knows_is_believed_and_one_that_guesses_is_not(
    world: tuple[Dataset, Dataset], fitted: Simulator
) -> None:
    dataset, held = world
    rng = np.random.default_rng(3)
    knows = LLMValue.learn(
        fitted, dataset, answers_about(dataset, 100, lambda truth: truth + rng.normal(0, 0.8, len(truth)))
    )
    guesses = LLMValue.learn(
        fitted, dataset, answers_about(dataset, 100, lambda truth: rng.uniform(0.5, 5.5, len(truth)))
    )
    assert min(*knows.warm.worth_, *knows.cold.worth_) > 0.1
    prediction = fitted.predict_pairs(held.pairs)
    guessed = held.scale.round(rng.uniform(0.5, 5.5, len(held)))
    for kind in (guesses.warm, guesses.cold):
        assert np.abs(kind.shift(prediction.distribution, said(guessed), held.pairs)).mean() < 0.04
    word = said(held.scale.round(held.scale.clip(held.rating + rng.normal(0, 0.8, len(held)))))
    better = knows.correct(prediction, fitted, held.pairs, word).distribution
    errors = [np.mean((d.mean() - held.rating) ** 2) for d in (better, prediction.distribution)]
    assert errors[0] < 0.8 * errors[1]


def test_new_items_have_a_worth_of_their_own(world: tuple[Dataset, Dataset], fitted: Simulator) -> None:
    """The model knows only what it is asked about ratings that were also held out with all others of user or item."""
    dataset = world[0]
    answers = answers_about(dataset, 120, lambda truth: truth)
    knows = fitted.ensemble_.out_of_fold(answers.pairs, cold=True).answered
    guess = dataset.scale.round(np.random.default_rng(6).uniform(0.5, 5.5, answers.ratings.shape))
    worth = LLMValue.learn(fitted, dataset, replace(answers, ratings=np.where(knows, answers.ratings, guess)))
    assert worth.cold.worth_.min() > 2.0 * worth.warm.worth_[0] > 0.0


def test_a_contrary_model_is_found_to_be_worth_nothing_and_said_so(
    world: tuple[Dataset, Dataset], fitted: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, held = world
    contrary = LLMValue.learn(fitted, dataset, answers_about(dataset, 100, lambda truth: 6.0 - truth))
    assert not contrary.may_help(fitted, held.pairs).any()
    rows = contrary.about()
    assert [(row["is_useless"], row["ratings"] >= 50) for row in rows] == [(True, True)] * 2
    assert rows[0]["sentence"].endswith("; worth nothing, so it is not asked about them")
    assert rows[0]["sentence"] in caplog.text
    unknown = LLMValue.learn(fitted, dataset, LLMRatings.none_yet([], 1))
    assert unknown.may_help(fitted, held.pairs).all()
    assert "fewer than 50 known ratings to learn from" in unknown.about()[0]["sentence"]


def test_worth_that_was_not_learned_changes_no_bit(world: tuple[Dataset, Dataset], fitted: Simulator) -> None:
    dataset, held = world
    nothing = LLMValue.learn(fitted, dataset, LLMRatings.none_yet([], 1))
    prediction = fitted.predict_pairs(held.pairs)
    after = nothing.correct(prediction, fitted, held.pairs, said(held.rating))
    assert (after.distribution.probs == prediction.distribution.probs).all()
    assert (after.source == prediction.source).all()


def test_each_pair_is_corrected_by_the_worth_of_its_kind(world: tuple[Dataset, Dataset], fitted: Simulator) -> None:
    dataset = world[0]
    knows = LLMValue.learn(fitted, dataset, answers_about(dataset, 100, lambda truth: truth))
    nothing = LLMValue.learn(fitted, dataset, LLMRatings.none_yet([], 1))
    pairs = Pairs(*(np.concatenate([getattr(d, side)[:200] for d in world]) for side in ("user", "item")))
    prediction, word = fitted.predict_pairs(pairs), said(np.tile([1.5, 4.5], 200))
    new = dataset.item_counts[pairs.item] == 0
    for worth, moved in ((LLMValue(knows.warm, nothing.cold), ~new), (LLMValue(nothing.warm, knows.cold), new)):
        after = worth.correct(prediction, fitted, pairs, word)
        assert ((after.source == LLM_SOURCE) == moved).all()
        assert ((after.distribution.probs != prediction.distribution.probs).any(axis=1) == moved).all()
        interval = fitted.ensemble_.interval(pairs, after.distribution)
        assert (after.low[moved] == interval.low[moved]).all()
        assert (after.high[moved] == interval.high[moved]).all()
        assert (after.low[~moved] == prediction.low[~moved]).all()


def test_a_fifth_of_the_calls_goes_to_new_items_and_sends_no_more(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    """Each of 40 users meets 20 known items and 5 new ones: with 5 items per call, that is 200 calls."""
    dataset, held = world
    rng = np.random.default_rng(4)
    rated = np.flatnonzero(dataset.item_counts)
    items = np.concatenate([np.r_[rng.choice(rated, 20, False), 120 + rng.choice(30, 5, False)] for _ in range(40)])
    users = np.repeat(np.arange(40), 25)
    with LoopbackLLM(mind=rating_mind(noise=0.3, opinion=item_quality(dataset, held))) as server:
        run = RunSettings(
            llm=LLMSettings(model="loopback", base_url=server.url),
            profile=ProfileSettings(writer="statistics"),
            rating=RatingSettings(items_per_call=5, share=0.2, learn_from=60),
        )
        with Journal(tmp_path / "journal.sqlite") as journal, LLM(run.llm, journal, Budget()) as llm:
            puts = interviewer(dataset, run, llm)
            simulation = simulate(fitted, dataset, dataset.users.index[users], dataset.items.index[items], puts)
        assert server.n_requests == 60 + 40
    assert simulation.asked.sum() == 200
    assert (dataset.item_counts[items][simulation.asked] == 0).mean() > 0.6
    before, after = simulation.statistical.probs, simulation.prediction.distribution.probs
    moved, new, source = (before != after).any(axis=1), dataset.item_counts[items] == 0, simulation.prediction.source
    assert (moved == (simulation.asked | new)).all()  # every new item was asked about for somebody
    assert (source[simulation.asked] == LLM_SOURCE).all()
    assert (source[new & ~simulation.asked] == LLM_ITEM_SOURCE).all()


def test_recorded_ratings_help_with_new_items_and_shuffled_ones_do_not(real_data: Callable[[str], Path]) -> None:
    """A real LLM about items that user means cannot tell apart; learned from other items alone."""
    root = real_data("ml-100k").parent
    dataset = load("ml-100k", root)
    recording = read_recordings([real_data("lusifer") / "ml-100k"], dataset)
    fold = next(make_protocol("cold-items", dataset, folds=[2], data=root).folds())
    llm = Recorded(recording).fit(fold.train).rate(fold.held_out.pairs)
    held, llm = fold.held_out.take(llm.answered), llm.take(llm.answered)
    here = RecordedRatings(held.users.index[held.user], held.items.index[held.item], llm.mean())
    mixed = Recorded(shuffle_within_users(here, seed=0)).fit(fold.train).rate(held.pairs)
    answer = make_rater("biases").fit(fold.train).rate(held.pairs)
    gains = []
    for words in (llm, mixed):
        after = cross_fitted_correction(answer, words, held, seed=0, new_items=True)
        gains.append(np.mean((answer.mean() - held.rating) ** 2 - (after.mean() - held.rating) ** 2))
    assert gains[0] > 0.01
    assert abs(gains[1]) < 0.2 * gains[0]


def test_knowing_how_generous_a_user_is_is_worth_nothing_on_new_items(
    world: tuple[Dataset, Dataset], fitted: Simulator
) -> None:
    """Statistics know that too, unless the user was kept from them: such rows must not teach what new items need."""
    dataset = world[0]
    requests = calibration_requests(UserStates(dataset, {}), 120, 10, seed=0)
    rng, answers = np.random.default_rng(8), LLMRatings.none_yet(requests, 1)
    means = np.repeat([one.state.history.rating.mean() for one in requests], [len(one.items) for one in requests])
    answers.ratings[0] = dataset.scale.round(dataset.scale.clip(means + rng.normal(0, 0.3, len(means))))
    # .11 with users that statistics did not know
    assert LLMValue.learn(fitted, dataset, answers).cold.worth_.max() < 0.07
