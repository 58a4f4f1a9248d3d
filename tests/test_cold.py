"""New items: protocols that hold them out, refitting a simulator to them, and forecasts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, InputError, SettingsError
from hybrid_sim.core.types import IntArray, Pairs, RatingScale, like_level
from hybrid_sim.data.new_items import add_items, read_new_items
from hybrid_sim.data.world import World, make_world
from hybrid_sim.evaluation.protocols import make_protocol
from hybrid_sim.evaluation.splits import both_out, items_out_once
from hybrid_sim.new_items.forecast import Forecasts, forecast_items
from hybrid_sim.profiles.statistical_writer import statistical_profiles
from hybrid_sim.simulation import refit
from hybrid_sim.simulation.simulator import Simulator

CHEAP = ("biases", "content_gp", "facets")


@pytest.fixture(scope="module")
def whole() -> World:
    return make_world(seed=4, n_users=200, n_items=300, ratings_per_user=50)


@pytest.fixture(scope="module")
def cut(whole: World) -> tuple[Dataset, Dataset]:
    """The world without ratings of its last 60 films, and without the films themselves."""
    data = whole.dataset
    without = data.take(data.item < 240)
    return without, replace(without, items=data.items.iloc[:240])


@pytest.fixture(scope="module")
def fitted(cut: tuple[Dataset, Dataset]) -> Simulator:
    return Simulator(members=CHEAP).fit(cut[1])


@pytest.fixture(scope="module")
def updated(cut: tuple[Dataset, Dataset], fitted: Simulator) -> Simulator:
    return refit.refitted(fitted, cut[0])


@pytest.fixture(scope="module")
def forecasts(cut: tuple[Dataset, Dataset], updated: Simulator) -> Forecasts:
    return forecast_items(updated, cut[0], np.arange(240, 300))


def held_out(whole: World) -> tuple[Pairs, IntArray]:
    data = whole.dataset
    rows = np.flatnonzero(data.item >= 240)
    return data.pairs.take(rows), rows


# Protocols


def test_cold_both_tests_pairs_of_which_neither_side_was_ever_seen(whole: World) -> None:
    data = whole.dataset
    seen: set[int] = set()
    for fold in make_protocol("cold-both", data).folds():
        assert not np.isin(fold.held_out.user, fold.train.user).any()
        assert not np.isin(fold.held_out.item, fold.train.item).any()
        keys = set((fold.held_out.user * data.n_items + fold.held_out.item).tolist())
        assert not keys & seen
        seen |= keys
    assert len({int(key) // data.n_items for key in seen}) > 0.9 * data.n_users


def test_cold_both_leaves_out_ratings_of_which_one_side_is_held_out(whole: World) -> None:
    split = both_out(whole.dataset, 5)[0]
    used = len(split.train_rows) + len(split.test_rows)
    assert 0.6 * len(whole.dataset) < used < 0.76 * len(whole.dataset)


def test_cold_items_tenth_is_the_published_rule(whole: World) -> None:
    data = whole.dataset
    protocol = make_protocol("cold-items-tenth", data)
    (fold,) = protocol.folds()
    rated = sorted(data.items.index[data.item_counts > 0])
    chosen = {rated[place] for place in np.random.default_rng(0).permutation(len(rated))[: int(0.1 * len(rated))]}
    assert set(data.items.index[np.unique(fold.held_out.item)]) == chosen
    assert protocol.groups == "items"
    assert np.array_equal(protocol.splits[0][1].test_rows, items_out_once(data).test_rows)
    with pytest.raises(SettingsError, match="protocol cold-items-tenth has only fold 1"):
        make_protocol("cold-items-tenth", data, folds=[2])


# Reading


def write(tmp_path: Path, text: str, name: str = "new.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_new_items_have_the_columns_of_the_catalogue(
    tmp_path: Path, whole: World, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "item_id,title,genres,director\nn1,Alien,Drama|Comedy,Scott\n007,Up,,\n")
    with caplog.at_level("INFO", logger="hybrid_sim"):
        new = read_new_items(path, whole.dataset)
    assert list(new.columns) == list(whole.dataset.items.columns)
    assert new.index.tolist() == ["n1", "007"]
    assert new["genres"].tolist() == [("Drama", "Comedy"), ()]
    assert new["year"].isna().all()
    assert "'director'" in caplog.text
    assert "nothing is known of the new items' year, overview" in caplog.text
    longer = add_items(whole.dataset, new)
    assert longer.n_items == whole.dataset.n_items + 2
    assert longer.item_counts[-2:].tolist() == [0, 0]
    assert longer.items["year"].dtype == whole.dataset.items["year"].dtype
    named = replace(whole.dataset, items=whole.dataset.items.rename_axis("film"))
    assert replace(add_items(named, new), items=add_items(named, new).items.iloc[:300]).digest == named.digest


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("n1,A,2000,,\nn1,B,2000,,", r"new.csv row 3, column 'item_id': the id 'n1' has a row already"),
        ("n1,A,2000,,\nf0003,B,2000,,", r"new.csv row 3, column 'item_id': item 'f0003' is in world already"),
        ("n1,A,2000,,\nn2,,2000,,", r"new.csv row 3: item 'n2' has no title, genres or overview"),
        ("n1,...,2000,?,!", r"new.csv row 2: item 'n1' has no title, genres or overview"),
        (",A,2000,,", r"new.csv row 2, column 'item_id': the id is"),
        ("n1,A,20011,,", r"new.csv row 2, column 'year': 20011 is not a year from 1000 to 2999"),
        ("n1,A,soon,,", r"new.csv row 2, column 'year': 'soon' is not a number"),
        ("n1,A,inf,,", r"new.csv row 2, column 'year': inf is not a year"),
        ("", r"new.csv holds no items"),
    ],
)
def test_items_that_cannot_be_used_are_refused_with_their_row(
    tmp_path: Path, whole: World, rows: str, message: str
) -> None:
    path = write(tmp_path, f"item_id,title,year,genres,overview\n{rows}\n" if rows else "item_id,title\n")
    with pytest.raises(DataError, match=message):
        read_new_items(path, whole.dataset)


def test_a_file_without_ids_is_refused_with_the_option_that_names_them(tmp_path: Path, whole: World) -> None:
    with pytest.raises(DataError, match=r"column 'item_id' is missing; .* name the right one with --new-item-col"):
        read_new_items(write(tmp_path, "movie,title\n1,A\n"), whole.dataset)
    assert read_new_items(write(tmp_path, "movie,title\n1,A\n"), whole.dataset, "movie").index.tolist() == ["1"]


# Incremental refit


def test_refitted_members_say_the_same_as_after_a_whole_fit_and_the_whole_nearly(
    whole: World, cut: tuple[Dataset, Dataset], updated: Simulator
) -> None:
    refitted = Simulator(members=CHEAP).fit(cut[0])
    pairs, rows = held_out(whole)
    for name in CHEAP:
        said = [one.ensemble_.members_[name].rate(pairs).probs for one in (updated, refitted)]
        np.testing.assert_array_equal(said[0], said[1], err_msg=name)
    quick, slow = (one.predict_pairs(pairs).distribution.mean() for one in (updated, refitted))
    assert np.abs(quick - slow).mean() < 0.2
    truth = whole.dataset.rating[rows]
    error = [float(np.sqrt(np.mean((mean - truth) ** 2))) for mean in (quick, slow)]
    assert abs(error[0] - error[1]) < 0.02


def test_known_pairs_are_answered_as_before(
    cut: tuple[Dataset, Dataset], fitted: Simulator, updated: Simulator
) -> None:
    pairs = cut[1].pairs.take(slice(0, 500))
    before, after = (one.predict_pairs(pairs) for one in (fitted, updated))
    assert np.abs(before.distribution.mean() - after.distribution.mean()).mean() < 0.05
    np.testing.assert_array_equal(before.source, after.source)


def test_the_original_simulator_is_left_as_it_was(cut: tuple[Dataset, Dataset], fitted: Simulator) -> None:
    before = fitted.predict_pairs(cut[1].pairs).distribution.probs
    updated = refit.refitted(fitted, cut[0])
    settings = [name for member in fitted.ensemble_.members.values() for name in vars(member)]
    assert not [name for name in settings if name.endswith("_")]
    assert len(updated.item_ids_) == 300
    assert len(fitted.item_ids_) == 240
    np.testing.assert_array_equal(fitted.predict_pairs(cut[1].pairs).distribution.probs, before)


def test_a_simulator_that_knows_other_new_items_is_used_again(
    cut: tuple[Dataset, Dataset], fitted: Simulator, updated: Simulator
) -> None:
    """Issue 11: what `cold` had saved was refused for the same data with other new items."""
    without, narrow = cut
    other = add_items(narrow, without.items.iloc[270:])
    refit.require_same_ratings(updated, narrow)
    again, direct = refit.refitted(updated, other), refit.refitted(fitted, other)
    pairs = Pairs(np.arange(100), np.arange(169, 269))
    np.testing.assert_array_equal(again.predict_pairs(pairs).mean, direct.predict_pairs(pairs).mean)
    items, _ = again.indexes(other)
    assert len(items.vectors_) == other.n_items
    moved = narrow.item.copy()
    moved[0] = (moved[0] + 1) % 240
    others = (
        narrow.take(np.arange(len(narrow)) > 0),
        replace(narrow, users=narrow.users[::-1]),
        replace(narrow, item=moved),
    )
    for altered in others:
        with pytest.raises(SettingsError, match="fitted to other data"):
            refit.require_same_ratings(updated, altered)


def test_what_was_said_of_held_out_ratings_is_still_found(
    cut: tuple[Dataset, Dataset], fitted: Simulator, updated: Simulator
) -> None:
    for cold in (False, True):
        before, after = (one.ensemble_.out_of_fold(cut[1].pairs, cold).probs for one in (fitted, updated))
        np.testing.assert_array_equal(before, after)
    new = Pairs(np.arange(150), np.full(150, 250))
    assert not updated.ensemble_.out_of_fold(new).answered.any()


def test_a_refitted_simulator_is_saved_and_loaded(
    cut: tuple[Dataset, Dataset], updated: Simulator, tmp_path: Path, whole: World
) -> None:
    updated.save(tmp_path / "updated")
    pairs, _ = held_out(whole)
    loaded = Simulator.load(tmp_path / "updated")
    loaded.require_fitted_to(cut[0])
    np.testing.assert_array_equal(
        loaded.predict_pairs(pairs).distribution.probs, updated.predict_pairs(pairs).distribution.probs
    )


def test_new_users_and_ratings_are_learned_too(whole: World) -> None:
    """Twenty users are new and others have rated more since; whoever was known keeps the answers, nearly."""
    data = whole.dataset
    rng = np.random.default_rng(0)
    data = data.take(rng.random(len(data)) < 0.8)
    late = (data.user >= 180) | (np.arange(len(data)) % 10 == 0)
    early = replace(data.take(~late), users=data.users.iloc[:180])
    mixed = rng.permutation(200)  # new users stand among the others
    now = replace(data, users=data.users.iloc[np.argsort(mixed)], user=mixed[data.user])
    simulator = refit.refitted(Simulator(members=CHEAP).fit(early), now)
    fresh = Simulator(members=CHEAP).fit(now)
    new, old = now.users.index[mixed[180:]], now.users.index[mixed[:20]]
    films = data.items.index[rng.choice(np.flatnonzero(early.item_counts), 20)]
    for users, source in ((new, "stat"), (old, "stat")):
        quick, slow = (one.predict(users, films) for one in (simulator, fresh))
        assert (quick.source == source).all()
        assert np.abs(quick.distribution.mean() - slow.distribution.mean()).mean() < 0.15
    before = Simulator(members=CHEAP).fit(early).predict(new, films)
    assert (before.source == "item").all()
    held = [one.ensemble_.out_of_fold(d.pairs) for one, d in ((simulator, now), (fresh, now))]
    assert (held[0].answered & held[1].answered).mean() > 0.5
    unknown = simulator.predict(["a stranger"], ["a novelty"]).distribution.probs
    np.testing.assert_array_equal(unknown, fresh.predict(["a stranger"], ["a novelty"]).distribution.probs)


def test_what_was_said_while_ratings_were_held_out_moves_with_their_users(whole: World) -> None:
    data = whole.dataset
    fitted = Simulator(members=("biases",)).fit(data)
    order = np.random.default_rng(0).permutation(data.n_users)
    moved = replace(data, users=data.users.iloc[np.argsort(order)], user=order[data.user])
    simulator = refit.refitted(fitted, moved)
    for cold in (False, True):
        before = fitted.ensemble_.out_of_fold(data.pairs, cold).probs
        np.testing.assert_array_equal(simulator.ensemble_.out_of_fold(moved.pairs, cold).probs, before)


def test_a_refit_needs_all_that_is_known_and_the_same_scale(whole: World, fitted: Simulator) -> None:
    data = whole.dataset
    others = data.take(data.user > 0)
    others = replace(others, users=data.users.iloc[1:], user=others.user - 1)
    with pytest.raises(SettingsError, match="knows user 'u0001', which world does not have \\(1 such users\\)"):
        refit.refitted(fitted, others)
    with pytest.raises(SettingsError, match=r"world lacks at least .* and it would forget them"):
        refit.refitted(fitted, data.take(np.arange(len(data)) % 3 > 0))
    with pytest.raises(SettingsError, match="on the scale 1, 2, 3, 4, 5, those of world are on"):
        refit.refitted(fitted, replace(data, scale=RatingScale((0, 1, 2, 3, 4, 5))))


# Forecasts


def test_who_would_like_a_new_item_is_told_apart(whole: World, forecasts: Forecasts) -> None:
    """Expected ratings of new films follow what the users would truly say of them, within users and within films."""
    data = whole.dataset
    assert data.timestamp is not None
    asked = data.encode(forecasts.prediction.user_ids, forecasts.prediction.item_ids)
    middle = np.full(len(asked), np.median(data.timestamp), dtype=np.int64)
    table = pd.DataFrame(
        {
            "user": asked.user,
            "item": asked.item,
            "truth": whole.distribution(asked, middle).mean(),
            "expected": forecasts.prediction.distribution.mean(),
        }
    )
    for group in ("user", "item"):
        within = table[["truth", "expected"]] - table.groupby(group)[["truth", "expected"]].transform("mean")
        assert within.corr().loc["truth", "expected"] > 0.15, group


def test_a_reception_adds_up(forecasts: Forecasts, cut: tuple[Dataset, Dataset]) -> None:
    n_users = int((cut[0].user_counts > 0).sum())
    assert len(forecasts.prediction) == 60 * n_users
    for row, reception in enumerate(forecasts):
        own = forecasts.prediction.distribution.take(slice(row * n_users, (row + 1) * n_users))
        assert sum(reception.probs.values()) == pytest.approx(1.0)
        assert reception.mean == pytest.approx(own.mean().mean())
        assert reception.likes == pytest.approx(reception.probs["4"] + reception.probs["5"])
        assert reception.like_from == 4.0
        assert reception.n_users == n_users


def test_fans_are_likers_above_their_own_usual_with_grounds(forecasts: Forecasts, cut: tuple[Dataset, Dataset]) -> None:
    cited = 0
    for reception in forecasts:
        assert len(reception.fans) == 5
        assert all(fan.likes > 0.5 for fan in reception.fans)
        above = [fan.above_usual for fan in reception.fans]
        assert above == sorted(above, reverse=True)
        for fan in reception.fans:
            assert sum(fan.explanation.contributions.values()) == pytest.approx(fan.mean)
            rated = set(cut[0].item[cut[0].user == cut[0].users.index.get_loc(fan.user_id)].tolist())
            assert {evidence.item for evidence in fan.explanation.evidence} <= rated
            cited += len(fan.explanation.evidence)
    assert cited > 200


def test_similar_items_share_genres_more_than_others_do(forecasts: Forecasts, cut: tuple[Dataset, Dataset]) -> None:
    genres = cut[0].items["genres"]
    shared = []
    for reception in forecasts:
        own = set(genres[reception.item_id])
        assert reception.item_id not in {other.item_id for other in reception.similar}
        assert all(other.n_ratings > 0 for other in reception.similar)
        shared += [bool(own & set(genres[other.item_id])) for other in reception.similar]
    usual = [bool(set(a) & set(b)) for a, b in pairwise(genres)]
    assert np.mean(shared) > np.mean(usual) + 0.2


def test_an_item_fits_profiles_that_like_its_genres(forecasts: Forecasts, cut: tuple[Dataset, Dataset]) -> None:
    genres = cut[0].items["genres"]
    profiles = {profile.user_id: profile for profile in statistical_profiles(cut[0])}
    liked, disliked = 0, 0
    for one in forecasts:
        own = {genre.lower() for genre in genres[one.item_id]}
        scores = [fit.score for fit in one.fits]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= 2 for score in scores)
        liked += sum(bool(own & set(profiles[fit.user_id].likes)) for fit in one.fits)
        disliked += sum(bool(own & set(profiles[fit.user_id].dislikes)) for fit in one.fits)
    assert liked > 2 * disliked


def test_a_segment_with_a_taste_of_its_own_is_found() -> None:
    """Users of one gender like what is marked "action", the others dislike it: for a new action film that is said."""
    rng = np.random.default_rng(0)
    n_users, n_items = 120, 60
    gender = np.tile(["F", "M"], n_users // 2)
    genre = np.where(np.arange(n_items) % 2 == 0, "action", "romance")
    user, item = (grid.ravel() for grid in np.meshgrid(np.arange(n_users), np.arange(n_items - 2), indexing="ij"))
    kept = rng.random(len(user)) < 0.4
    user, item = user[kept], item[kept]
    liked = (gender[user] == "M") == (genre[item] == "action")
    rating = np.clip(np.round(np.where(liked, 4.2, 2.2) + rng.normal(0, 0.7, len(user))), 1, 5)
    data = Dataset(
        name="two tastes",
        scale=RatingScale((1, 2, 3, 4, 5)),
        users=pd.DataFrame({"gender": pd.Series(gender, dtype=object)}).set_index(
            pd.Index([f"u{k}" for k in range(n_users)])
        ),
        items=pd.DataFrame(
            {"title": [f"Film {k}" for k in range(n_items)], "genres": [(str(name),) for name in genre]},
            index=pd.Index([f"i{k}" for k in range(n_items)], dtype=object),
        ),
        user=user,
        item=item,
        rating=rating,
        synthetic=True,
    )
    (action, romance) = forecast_items(Simulator(members=("biases", "content_gp")).fit(data), data, np.array([58, 59]))
    assert (action.segments[0].group, romance.segments[0].group) == ("M", "F")
    for reception in (action, romance):
        assert reception.segments[0].low > 0.5
        assert reception.segments[-1].high < -0.5
        assert "action" in action.keywords


def test_the_audience_can_be_chosen(cut: tuple[Dataset, Dataset], updated: Simulator, forecasts: Forecasts) -> None:
    some = forecast_items(updated, cut[0], np.array([250]), np.array([3, 5]), n_shown=1)
    assert some.prediction.user_ids.tolist() == cut[0].users.index[[3, 5]].tolist()
    (reception,) = some
    assert reception.n_users == 2
    assert len(reception.fans) <= 1
    assert reception.segments == ()
    everyone = forecasts.prediction
    same = np.isin(everyone.user_ids, some.prediction.user_ids) & (everyone.item_ids == reception.item_id)
    np.testing.assert_allclose(everyone.distribution.probs[same], some.prediction.distribution.probs)


def test_what_is_a_like_is_declared_or_the_upper_part_of_the_scale() -> None:
    halves = RatingScale(tuple(np.arange(0.5, 5.1, 0.5)))
    assert like_level(halves) == 3.5
    assert like_level(RatingScale((0, 1))) == 1.0
    assert like_level(RatingScale(tuple(range(1, 11)))) == 7.0
    assert like_level(halves, 4.2) == 4.5
    for wrong in (0.5, 6.0):
        with pytest.raises(SettingsError, match=r"are all or none of the scale"):
            like_level(halves, wrong)


def test_other_data_and_an_empty_audience_are_refused(
    whole: World, cut: tuple[Dataset, Dataset], updated: Simulator
) -> None:
    with pytest.raises(SettingsError, match="the simulator was fitted to other data"):
        forecast_items(updated, whole.dataset, np.array([250]))
    with pytest.raises(InputError, match="there is no user to ask"):
        forecast_items(updated, cut[0], np.array([250]), np.empty(0, dtype=np.int64))


def test_the_interval_of_an_items_mean_holds(whole: World) -> None:
    """On items of other folds about nine means in ten lie within it; without the item's own doubt far fewer would."""
    inside: list[bool] = []
    widths = []
    for fold in make_protocol("cold-items", whole.dataset, folds=[1, 2]).folds():
        simulator = Simulator(members=("content_gp",)).fit(fold.train)
        items = np.flatnonzero(fold.held_out.item_counts >= 30)
        for reception in forecast_items(simulator, fold.train, items, n_shown=1):
            own = fold.held_out.rating[fold.held_out.item == whole.dataset.items.index.get_loc(reception.item_id)]
            assert reception.low is not None
            assert reception.high is not None
            assert reception.level == 0.9
            inside.append(bool(reception.low <= own.mean() <= reception.high))
            widths.append(reception.high - reception.low)
    assert 0.78 <= np.mean(inside) <= 0.98
    assert np.mean(widths) < 2.4


def test_too_few_items_teach_no_interval(tiny: Dataset) -> None:
    simulator = Simulator(members=("biases", "content_gp")).fit(tiny)
    (reception,) = forecast_items(simulator, tiny, np.array([3]))
    assert reception.low is None
    assert reception.high is None
