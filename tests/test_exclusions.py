"""What simulations, explanations and forecasts leave out without a word: each exclusion has a test that needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from llm_server import LoopbackLLM

import hybrid_sim as hs
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.types import RatingScale
from hybrid_sim.core.user_state import Timeline, UserProfile
from hybrid_sim.data.world import make_world
from hybrid_sim.ensemble.cold_items import MIN_RATINGS, ColdItems, cold_panel
from hybrid_sim.models.hold_outs import HoldOut
from hybrid_sim.new_items.audience import Segments
from hybrid_sim.new_items.forecast import forecast_items
from hybrid_sim.new_items.leakage import LeakCheck
from hybrid_sim.new_items.uncertainty import ItemMeanInterval
from hybrid_sim.simulation.refit import refitted
from hybrid_sim.simulation.simulate import UserStates, calibration_requests
from hybrid_sim.testing import tiny_dataset

SCALE = RatingScale((1, 2, 3, 4, 5))


@pytest.fixture(scope="module")
def data() -> hs.Dataset:
    """A small world whose last ten items nobody has rated."""
    world = make_world(seed=3, n_users=60, n_items=80, ratings_per_user=15).dataset
    return world.take(world.item < 70)


@pytest.fixture(scope="module")
def fitted(data: hs.Dataset) -> hs.Simulator:
    return hs.fit(data, members=["biases", "content_gp"])


@pytest.fixture(scope="module")
def quick(data: hs.Dataset) -> hs.Simulator:
    return hs.fit(data, members=["biases"])


# The language model's value


def test_too_few_known_ratings_teach_nothing_and_are_not_asked_about(
    data: hs.Dataset, fitted: hs.Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = hs.cross_pairs(data.users.index[:2], data.items.index[:3])
    with LoopbackLLM() as server:
        settings = {"llm": {"base_url": server.url}, "rating": {"learn_from": 3}, "profile": {"writer": "statistics"}}
        run = hs.Run(tmp_path, data, simulator=fitted, settings=settings, model="loopback")
        simulation = run.simulate(pairs)
        assert server.n_requests == 2
    assert "50 known ratings with an out-of-fold prediction are needed" in caplog.text
    assert (simulation.prediction.distribution.probs == simulation.statistical.probs).all()
    assert simulation.llm.answered.all()


def test_nothing_is_asked_where_the_share_is_nothing(data: hs.Dataset, fitted: hs.Simulator, tmp_path: Path) -> None:
    with LoopbackLLM() as server:
        settings = {"llm": {"base_url": server.url}, "rating": {"share": 0.0}}
        run = hs.Run(tmp_path, data, simulator=fitted, settings=settings, model="loopback")
        assert not run.simulate(["u0001"], ["f0001"]).asked.any()
        assert server.n_requests == 0


def test_a_profile_of_the_second_of_a_hidden_rating_is_not_shown(data: hs.Dataset) -> None:
    user = str(data.users.index[0])
    times = UserStates(data, {}).now(0).history.timestamp
    assert times is not None
    start = int(times[-3])
    versions = [UserProfile(user, k + 1, "", at=at) for k, at in enumerate((start - 1, start, start + 1))]
    versions.append(UserProfile(user, 4, "", at=None))
    state, hidden = UserStates(data, {user: Timeline(tuple(versions))}).before_last(0, 3)
    assert [version.version for version in state.timeline.versions] == [1]
    assert len(hidden) == 3
    assert not set(hidden.item) & set(state.history.item)
    untimed = replace(data, timestamp=None)
    state, _ = UserStates(untimed, {user: Timeline(tuple(versions))}).before_last(0, 3)
    assert state.timeline == Timeline()


def test_profiles_of_users_that_the_data_lacks_are_ignored(data: hs.Dataset) -> None:
    states = UserStates(data, {"a stranger": Timeline((UserProfile("a stranger", 1, "x"),))})
    assert all(states.now(user).timeline == Timeline() for user in range(data.n_users))


def test_calibration_leaves_each_user_half_of_the_ratings_and_skips_items_without_text(data: hs.Dataset) -> None:
    blank = data.items.assign(title="", overview="", genres=[()] * data.n_items)
    blank.iloc[::2] = data.items.iloc[::2]
    texts = replace(data, items=blank)
    requests = calibration_requests(UserStates(texts, {}), 60, 50, seed=0)
    assert len(requests) > 50
    for request in requests:
        assert (request.items % 2 == 0).all()
        assert len(request.state.history) >= data.user_counts[request.state.user] // 2
    few = data.take(np.r_[np.flatnonzero(data.user == 0)[:1], np.flatnonzero(data.user == 1)])
    assert {request.state.user for request in calibration_requests(UserStates(few, {}), 60, 5, seed=0)} == {1}


# Explanations


def test_pairs_with_an_unknown_side_have_no_evidence(data: hs.Dataset, fitted: hs.Simulator) -> None:
    users, items = data.users.index, data.items.index
    full = data.take(np.argsort(data.item != 69, kind="stable"))  # the same ratings
    assert full.digest != data.digest
    prediction = fitted.predict(
        [users[0], "a stranger", "a stranger", users[0]], ["a novelty", items[0], "x", items[1]]
    )
    told = hs.explain(fitted, prediction, data)
    assert [bool(one.evidence) for one in told] == [False, False, False, True]
    assert not any(one.keywords or one.against for one in told[:3])


def test_contributions_of_nothing_are_left_out(data: hs.Dataset, fitted: hs.Simulator) -> None:
    for one in hs.explain(fitted, fitted.predict(["a stranger", "u0001"], ["x", "f0001"])):
        assert all(abs(part) > 1e-12 for part in one.contributions.values())
        assert "llm" not in one.contributions


def test_many_pairs_are_explained_only_if_asked_for(data: hs.Dataset, quick: hs.Simulator, tmp_path: Path) -> None:
    pairs = pd.concat([hs.cross_pairs(data.users.index, data.items.index)] * 5)
    run = hs.Run(tmp_path, data, simulator=quick, overwrite=True)
    run.simulate(pairs.iloc[:20_001])
    assert run.explanations.empty
    run.simulate(pairs.iloc[:40])
    assert len(run.explanations) == 40


# Incremental refit


def test_a_refit_to_fewer_users_or_ratings_or_another_scale_is_refused(data: hs.Dataset, quick: hs.Simulator) -> None:
    without_one = data.take(np.arange(len(data)) > 0)
    rated = data.items.index[data.item[0]]
    for other, message in (
        (without_one, "lacks at least 1"),
        (replace(data, scale=RatingScale((1, 2, 3, 4, 5, 6))), "name the same scale"),
        (replace(data, items=data.items.rename(index={rated: "new"})), f"knows item {rated!r}"),
    ):
        with pytest.raises(SettingsError, match=message):
            refitted(quick, other)


# Forecasts of new items


def test_no_fan_is_below_the_own_usual_and_no_unrated_item_is_similar(data: hs.Dataset, fitted: hs.Simulator) -> None:
    for one in forecast_items(fitted, data, np.arange(70, 80), n_shown=60):
        assert all(fan.above_usual > 0 for fan in one.fans)
        if any(fan.likes > 0.5 for fan in one.fans):
            assert all(fan.likes > 0.5 for fan in one.fans)
        assert 0 < len(one.similar) <= 60
        assert all(other.n_ratings > 0 and other.similarity > 0 for other in one.similar)
        assert one.item_id not in {other.item_id for other in one.similar}


def test_too_many_pairs_at_once_are_refused(data: hs.Dataset, tmp_path: Path) -> None:
    new = pd.DataFrame({"item_id": [f"n{k}" for k in range(33_400)], "title": "A"})
    with pytest.raises(SettingsError, match="33,400 items times 60 users are too many at once"):
        hs.NewItemRun(tmp_path, data, new)


def _rated(n_items: int, n_ratings: int) -> hs.Dataset:
    tiny = tiny_dataset()
    item = np.repeat(np.arange(n_items), n_ratings)
    user = np.tile(np.arange(n_ratings), n_items)
    rating = np.where(item % 2 == 0, 5.0, 4.0)
    return replace(tiny, user=user, item=item, rating=rating, timestamp=None)


@pytest.mark.parametrize(("n_items", "learned"), [(20, True), (19, False)])
def test_the_interval_of_a_new_item_is_learned_from_enough_items_that_were_held_out(
    n_items: int, learned: bool
) -> None:
    features, rng = np.tile([3.0, 1.0], (n_items, 1)), np.random.default_rng(0)
    gaps = rng.permutation(np.linspace(-1.0, 0.5, n_items))
    interval = ItemMeanInterval.learn(ColdItems(features, 3.0 + gaps), SCALE)
    assert (interval is not None) == learned
    if interval is not None:
        means = np.array([3.0, 4.9, 1.0])
        low, high = interval.interval(means, np.tile(features[0], (3, 1)), SCALE, 0.9).T
        assert low == pytest.approx([2.0, 3.9, 1.0], abs=0.1)
        assert high == pytest.approx([3.5, 5.0, 1.5], abs=0.1)  # never beyond the scale


def test_items_that_are_hard_to_forecast_get_wider_intervals() -> None:
    rng = np.random.default_rng(1)
    spread = rng.uniform(0.5, 1.5, 400)
    features = np.column_stack([np.full(400, 3.0), spread])
    gaps = rng.normal(0.0, 0.4 * spread**2)
    learned = ItemMeanInterval.learn(ColdItems(features[:300], 3.0 + gaps[:300]), SCALE)
    assert learned is not None
    low, high = learned.interval(features[300:, 0], features[300:], SCALE, 0.9).T
    inside, width = (gaps[300:] >= low - 3.0) & (gaps[300:] <= high - 3.0), high - low
    assert 0.8 < inside.mean() < 0.98
    assert width[spread[300:] > 1.3].mean() > 1.8 * width[spread[300:] < 0.7].mean()


@pytest.mark.parametrize(("n_ratings", "n_items"), [(MIN_RATINGS, 2), (MIN_RATINGS - 1, 0)])
def test_items_with_few_ratings_are_not_among_those_that_were_held_out(n_ratings: int, n_items: int) -> None:
    data = _rated(6, n_ratings)
    panel = cold_panel(data, HoldOut(np.flatnonzero(data.item < 4), np.flatnonzero(data.item >= 4)))
    assert np.unique(panel.item).tolist() == [4, 5][:n_items]
    assert np.unique(panel.user).tolist() == list(range(n_ratings))[: len(panel)]


def test_small_groups_and_names_are_no_segments() -> None:
    users = pd.DataFrame(
        {
            "gender": ["F"] * 9 + ["M"] * 41,
            "name": [f"name {k}" for k in range(50)],
            "age": [17.0] * 10 + [30.0] * 40,
            "height": np.arange(50.0),
            "all": ["x"] * 50,
            "city": ["Ulm"] * 20 + [""] * 30,
        }
    )
    amounts = np.where(np.arange(50) < 25, -1.0, 1.0) + np.linspace(-0.01, 0.01, 50)
    segments = Segments(users, seed=0).of(amounts, amounts, amounts)
    groups = {(segment.column, segment.group) for segment in segments}
    assert groups == {("gender", "M"), ("age", "under 18"), ("age", "25-34"), ("city", "Ulm")}


def test_a_column_of_more_than_forty_values_has_no_segments() -> None:
    for n_names, n_segments in ((40, 40), (41, 0)):
        town = np.arange(4100) % n_names
        users = pd.DataFrame({"town": [f"town {k}" for k in town]})
        amounts = np.where(town % 2 == 0, 1.0, -1.0) + np.linspace(-0.01, 0.01, 4100)
        assert len(Segments(users, seed=0).of(amounts, amounts, amounts)) == n_segments


def test_groups_that_differ_by_chance_are_no_segments() -> None:
    """Twenty groups of users without any taste: at 95% each, one would be found for most items."""
    rng = np.random.default_rng(3)
    users = pd.DataFrame({"town": [f"town {k % 20}" for k in range(400)]})
    segments = Segments(users, seed=0)
    n_found = [len(segments.of(*np.tile(rng.normal(size=400), (3, 1)))) for _ in range(60)]
    assert np.mean(np.array(n_found) > 0) < 0.15


# Leakage


@pytest.mark.parametrize(
    ("scatter", "raters", "sigmas", "leaks"),
    [
        (-0.13, 0.09, 3.0, True),  # two weak signs together
        (-0.13, 0.01, 3.0, False),
        (-0.01, 0.09, 3.0, False),
        (-0.13, 0.09, 1.0, False),
        (-0.21, 0.0, 0.0, True),
        (0.0, 0.15, 3.6, True),
        (0.0, 0.15, 3.0, False),
        (0.21, -0.15, -4.0, False),
    ],
)
def test_weak_signs_of_a_leak_count_together(scatter: float, raters: float, sigmas: float, leaks: bool) -> None:
    assert LeakCheck("c", 500, 0.0, scatter, raters, sigmas).found == leaks


@pytest.mark.parametrize("count", [0.66, -0.66])
def test_following_the_number_of_ratings_either_way_is_a_leak(count: float) -> None:
    assert LeakCheck("c", 500, count, 0.0, 0.0, 0.0).found
    assert not LeakCheck("c", 500, 0.9 * count, 0.0, 0.0, 0.0).found
    assert not LeakCheck("c", 500, *[float("nan")] * 4).found
