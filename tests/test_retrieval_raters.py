"""Raters on text: the conformance suite, planted tastes that must be found, and figures on real folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.types import FloatArray, Pairs, RatingScale
from hybrid_sim.data import load
from hybrid_sim.ensemble.components import default_members
from hybrid_sim.models.biases import Biases
from hybrid_sim.retrieval.content import centred, genre_block, year_block
from hybrid_sim.retrieval.content_gp import ContentGP
from hybrid_sim.retrieval.embedder import MiniLM, TfidfSVD, default_embedder
from hybrid_sim.retrieval.text_raters import HistoryNeighbours, ProfileNeighbours, SignedFacets
from hybrid_sim.simulation.simulator import Simulator
from hybrid_sim.testing import check_rater

TextRater = ContentGP | HistoryNeighbours | SignedFacets | ProfileNeighbours
MakeRater = Callable[..., TextRater]
every_rater = pytest.mark.parametrize("make", [ContentGP, HistoryNeighbours, SignedFacets, ProfileNeighbours])
of_new_items = pytest.mark.parametrize("make", [ContentGP, HistoryNeighbours, SignedFacets])
needs_weights = pytest.mark.skipif(MiniLM().locate() is None, reason="the weights of MiniLM are not here")

SUBJECTS = ("ghost haunted castle", "wedding romance kiss", "rocket planet orbit", "cowboy desert duel")


def planted(n_users: int = 60, n_items: int = 80, noise: float = 0.3, seed: int = 0) -> Dataset:
    """Films on four subjects; each user likes two of them (rating 4) and dislikes two (rating 2), plus noise.

    The rating scale is fine, so that rounding adds nothing; every user has rated half of the films.
    """
    rng = np.random.default_rng(seed)
    subject = np.arange(n_items) % 4
    likes = rng.permuted(np.tile([True, True, False, False], (n_users, 1)), axis=1)
    user, item = np.nonzero(rng.permuted(np.tile(np.arange(n_items) % 2 == 0, (n_users, 1)), axis=1))
    scale = RatingScale(tuple(np.arange(0, 61) / 10))
    rating = scale.round(np.where(likes[user, subject[item]], 4.0, 2.0) + noise * rng.normal(size=len(user)))
    films = pd.DataFrame(
        {
            "title": [f"Film {number}" for number in range(n_items)],
            "overview": [SUBJECTS[place] for place in subject],
        },
        index=pd.Index([f"i{number}" for number in range(n_items)], dtype=object),
    )
    people = pd.DataFrame(index=pd.Index([f"u{number}" for number in range(n_users)], dtype=object))
    return Dataset("planted", scale, people, films, user, item, rating)


def split(dataset: Dataset, part: float = 0.2) -> tuple[Dataset, Dataset]:
    held_out = np.random.default_rng(1).random(len(dataset)) < part
    return dataset.take(~held_out), dataset.take(held_out)


def rmse(mean: FloatArray, truth: Dataset) -> float:
    return float(np.sqrt(np.mean((truth.scale.clip(mean) - truth.rating) ** 2)))


@every_rater
def test_raters_conform(make: MakeRater) -> None:
    check_rater(lambda: make(embedder=TfidfSVD(dim=16)))


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One cache for the tests with the real embedder, so that it runs once."""
    return str(tmp_path_factory.mktemp("cache"))


@needs_weights
@every_rater
def test_raters_conform_with_the_real_embedder(
    make: MakeRater, shared_cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_SIM_CACHE", shared_cache)
    check_rater(lambda: make(embedder=default_embedder()))


@every_rater
def test_planted_tastes_are_found(make: MakeRater) -> None:
    train, test = split(planted())
    biases = rmse(Biases().fit(train).expect(test.pairs), test)
    found = rmse(make(embedder=TfidfSVD()).fit(train).expect(test.pairs), test)
    assert biases > 0.95
    assert found < 0.75 * biases


@of_new_items
def test_an_item_without_ratings_is_rated_by_its_text(make: MakeRater) -> None:
    dataset = planted()
    train, test = dataset.take(dataset.item >= 20), dataset.take(dataset.item < 20)
    mean = make(embedder=TfidfSVD()).fit(train).expect(test.pairs)
    assert np.corrcoef(mean, test.rating)[0, 1] > 0.8


@every_rater
def test_who_or_what_is_unknown_is_abstained_from(make: MakeRater) -> None:
    dataset = planted()
    rater = make(embedder=TfidfSVD()).fit(dataset.take(dataset.user > 0))
    answer = rater.rate(Pairs(np.array([-1, 0, 1, 1]), np.array([0, 0, -1, 0])))
    assert answer.answered.tolist() == [False, False, False, True]


@pytest.mark.parametrize("make", [HistoryNeighbours, SignedFacets])
def test_an_item_without_text_is_abstained_from(make: MakeRater) -> None:
    dataset = planted()
    bare = np.arange(dataset.n_items) == 3
    items = dataset.items.assign(**{name: dataset.items[name].mask(bare, "") for name in ("title", "overview")})
    answer = (
        make(embedder=TfidfSVD()).fit(replace(dataset, items=items)).rate(Pairs(np.zeros(2, int), np.array([3, 4])))
    )
    assert answer.answered.tolist() == [False, True]


@every_rater
def test_tastes_are_found_on_any_scale(make: MakeRater) -> None:
    train, test = split(planted())
    mean = make(embedder=TfidfSVD()).fit(train).expect(test.pairs)
    stretched = RatingScale(tuple(20 * level for level in train.scale.levels))
    wide = replace(train, scale=stretched, rating=20 * train.rating)
    np.testing.assert_allclose(make(embedder=TfidfSVD()).fit(wide).expect(test.pairs), 20 * mean, rtol=1e-6)


@every_rater
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_row_stands_alone(make: MakeRater, n_threads: int) -> None:
    """The bits of an answer depended on the rows asked together (22 of 6,000 cut into 7 files)."""
    train, test = split(planted(n_items=200))
    settings = {"k": 7} if make is HistoryNeighbours else {}
    rater = make(embedder=TfidfSVD(), **settings).fit(train)
    with threadpool_limits(1):
        together = rater.rate(test.pairs).probs
    rows = np.random.default_rng(4).permutation(len(test))
    with threadpool_limits(n_threads):
        parts = [rater.rate(test.pairs.take(part)).probs for part in np.array_split(rows, 7)]
        np.testing.assert_array_equal(np.concatenate(parts), together[rows])
        for row in rows[:20].tolist():
            alone = rater.rate(test.pairs.take(np.array([row]))).probs[0]
            np.testing.assert_array_equal(alone, together[row])


def test_neighbours_count_all_that_equal_the_kth() -> None:
    """Many items of one text: which of them are counted must not depend on their places."""
    dataset = planted(n_users=20, n_items=200)
    dataset = replace(dataset, items=dataset.items.assign(title=""))
    rater = HistoryNeighbours(embedder=TfidfSVD(), k=5).fit(dataset.take(dataset.item >= 4))
    pairs = Pairs(np.repeat(np.arange(20), 4), np.tile(np.arange(4), 20))
    residuals = dataset.rating - rater.biases_.expect(dataset.pairs)
    residual = rater.residual(pairs)
    for row in range(len(pairs)):
        alike = (dataset.user == pairs.user[row]) & (dataset.item % 4 == pairs.item[row] % 4) & (dataset.item >= 4)
        assert alike.sum() > 13
        assert residual[row] == pytest.approx(residuals[alike].sum() / (0.5 + alike.sum()), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ContentGP(noise=0.0), "noise of ContentGP"),
        (lambda: ContentGP(text=-1.0), "text of ContentGP"),
        (lambda: ContentGP(text_dim=0), "text_dim of ContentGP"),
        (lambda: HistoryNeighbours(k=0), "k of HistoryNeighbours"),
        (lambda: HistoryNeighbours(shrink=np.nan), "shrink of HistoryNeighbours"),
        (lambda: SignedFacets(shrink=0.0), "shrink of SignedFacets"),
        (lambda: ProfileNeighbours(k=0), "k of ProfileNeighbours"),
        (lambda: ProfileNeighbours(shrink=0.0), "shrink of ProfileNeighbours"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: Callable[[], TextRater], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()


def test_gp_intervals_cover_what_they_promise() -> None:
    train, test = split(planted(n_users=150, noise=0.5))
    gp = ContentGP(embedder=TfidfSVD()).fit(train)
    error = np.abs(test.rating - gp.expect(test.pairs)) / gp.spread(test.pairs)
    assert 0.87 < np.mean(error < 1.6449) < 0.94


def test_gp_knows_which_users_are_noisy() -> None:
    dataset = planted(noise=0.1)
    noisy = dataset.user % 2 == 0
    jitter = np.random.default_rng(2).normal(size=len(dataset))
    rating = np.where(noisy, dataset.scale.round(dataset.rating + 1.2 * jitter), dataset.rating)
    gp = ContentGP(embedder=TfidfSVD()).fit(replace(dataset, rating=rating))
    users = np.arange(dataset.n_users)
    spread = gp.spread(Pairs(users, np.zeros_like(users)))
    assert spread[0::2].min() > spread[1::2].max()


def test_gp_is_less_sure_of_an_item_without_text() -> None:
    dataset = planted()
    texts = dataset.items["overview"].where(np.arange(dataset.n_items) != 3, "")
    titles = dataset.items["title"].where(np.arange(dataset.n_items) != 3, "")
    gp = ContentGP(embedder=TfidfSVD()).fit(replace(dataset, items=dataset.items.assign(overview=texts, title=titles)))
    users = np.arange(dataset.n_users)
    assert (gp.spread(Pairs(users, users * 0 + 3)) > gp.spread(Pairs(users, users * 0 + 7))).all()


def test_gp_equals_the_textbook() -> None:
    train, test = split(planted(n_users=5, n_items=30))
    gp = ContentGP(embedder=TfidfSVD()).fit(train)
    for user in range(5):
        rows, asked = train.user == user, test.take(test.user == user)
        x, new = gp.features_[train.item[rows]], gp.features_[asked.item]
        covariance = x @ x.T + np.diag(gp.noise_variance_ + gp.unseen_variance_[train.item[rows]])
        residual = train.rating[rows] - gp.item_level_[train.item[rows]]
        mean = gp.item_level_[asked.item] + new @ x.T @ np.linalg.solve(covariance, residual)
        doubt = np.einsum("if,if->i", new, new) - np.einsum(
            "ir,ri->i", new @ x.T, np.linalg.solve(covariance, x @ new.T)
        )
        np.testing.assert_allclose(gp.expect(asked.pairs), mean, atol=1e-9)
        own_noise = gp.unseen_variance_[asked.item] + gp.noise_variance_ * gp.user_noise_[user]
        np.testing.assert_allclose(gp.spread(asked.pairs) ** 2, doubt + own_noise, atol=1e-9)


def test_neighbours_leave_the_item_itself_out() -> None:
    dataset = planted()
    texts = [f"word{number} only{number}" for number in range(dataset.n_items)]
    alone = replace(dataset, items=dataset.items.assign(title="", overview=texts))
    residual = HistoryNeighbours(embedder=TfidfSVD()).fit(alone).residual(alone.pairs)
    np.testing.assert_allclose(residual, 0.0, atol=1e-6)


def test_neighbours_equal_the_formula() -> None:
    train, test = split(planted(n_users=6, n_items=40))
    rater = HistoryNeighbours(embedder=TfidfSVD(), k=5, shrink=0.7).fit(train)
    residuals = train.rating - Biases().fit(train).expect(train.pairs)
    residual = rater.residual(test.pairs)
    for row, (user, item) in enumerate(zip(test.user, test.item, strict=True)):
        own = (train.user == user) & (train.item != item)
        cosines = np.maximum(rater.vectors_[train.item[own]] @ rater.vectors_[item], 0.0)
        weights = np.where(cosines >= np.sort(cosines)[-5] - 1e-12, cosines, 0.0) ** 2
        expected = weights @ residuals[own] / (0.7 + weights.sum())
        np.testing.assert_allclose(residual[row], expected, atol=1e-9)


def test_profile_neighbours_equal_the_formula() -> None:
    train, test = split(planted(n_users=30, n_items=40))
    pairs = Pairs(*(np.append(getattr(test, side)[:200], getattr(train, side)[:100]) for side in ("user", "item")))
    rater = ProfileNeighbours(embedder=TfidfSVD(), k=8, shrink=0.7).fit(train)
    facets = SignedFacets(embedder=TfidfSVD()).fit(train)
    profiles = centred(np.concatenate([facets.likes_, -facets.dislikes_], axis=1))
    residuals = train.rating - Biases().fit(train).expect(train.pairs)
    moved = rater.expect(pairs) - Biases().fit(train).expect(pairs)
    for row, (user, item) in enumerate(zip(pairs.user, pairs.item, strict=True)):
        cosines = profiles @ profiles[user]
        cosines[user] = -1.0
        nearest = np.argsort(-cosines)[:8]
        given = np.isin(train.user, nearest) & (train.item == item)
        weights = np.maximum(cosines[train.user[given]], 0.0) ** 2
        if train.item_counts[item]:
            assert moved[row] == pytest.approx(weights @ residuals[given] / (0.7 + weights.sum()), abs=1e-6)
        else:
            assert np.isnan(moved[row])


def test_profile_neighbours_are_a_member_only_where_they_are_named() -> None:
    """Not a default member; `without` takes it out again."""
    dataset = planted(n_users=40, n_items=40)
    scale, embedder = dataset.scale, TfidfSVD()
    assert "profile_neighbours" not in default_members(scale, embedder, 0)
    members = default_members(scale, embedder, 0, ["profile_neighbours"])
    assert isinstance(members["profile_neighbours"], ProfileNeighbours)
    named = ("biases", "profile_neighbours")
    assert tuple(Simulator(members=named).fit(dataset).ensemble_.members_) == named
    left = Simulator(members=named, without=["profile_neighbours"]).fit(dataset)
    assert tuple(left.ensemble_.members_) == ("biases",)


def test_facets_tell_likes_from_dislikes() -> None:
    dataset = planted()
    facets = SignedFacets(embedder=TfidfSVD()).fit(dataset)
    liked = dataset.rating > 3
    scores = facets.score(dataset.pairs)
    assert facets.slope_ > 0
    assert scores[liked].min() > scores[~liked].max()
    against = replace(dataset, rating=dataset.scale.round(6.0 - dataset.rating))
    np.testing.assert_allclose(SignedFacets(embedder=TfidfSVD()).fit(against).score(dataset.pairs), -scores, atol=1e-6)


def test_facets_find_no_slope_in_noise() -> None:
    dataset = planted()
    noise = np.random.default_rng(3).choice(dataset.scale.values, size=len(dataset))
    train, test = split(replace(dataset, rating=noise))
    facets = SignedFacets(embedder=TfidfSVD()).fit(train)
    moves = facets.expect(test.pairs) - Biases().fit(train).expect(test.pairs)
    assert np.abs(moves).max() < 0.25 * noise.std()


def test_blocks_of_content_have_unit_rows_or_none() -> None:
    items = pd.DataFrame({"year": [1990.0, 2000.0, np.nan, 1950.0], "genres": [("A", "B"), ("B",), (), ("A",)]})
    years, genres = year_block(items), genre_block(items)
    np.testing.assert_allclose(np.linalg.norm(years, axis=1), [1, 1, 0, 1])
    np.testing.assert_allclose(
        genres @ genres.T, [[1, 0.5**0.5, 0, 0.5**0.5], [0.5**0.5, 1, 0, 0], [0] * 4, [0.5**0.5, 0, 0, 1]]
    )
    np.testing.assert_allclose(years[0] @ years[1], np.exp(-0.5), atol=0.02)
    assert years[0] @ years[3] < 0.01
    assert year_block(items[["genres"]]).shape == (4, 0)
    assert genre_block(items[["year"]]).shape == (4, 0)
    assert centred(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))[2].tolist() == [0.0, 0.0]
    assert not centred(np.array([[1.0, 0.0]])).any()


@pytest.mark.parametrize(("protocol", "most"), [("A", 0.9745), ("B", 0.934)])
def test_gp_reaches_its_figure_on_a_genuine_fold(
    protocol: str,
    most: float,
    real_data: Callable[[str], object],
    ml100k_fold: Callable[[int, str], tuple[Dataset, Dataset]],
) -> None:
    catalogue = load("ml-100k", str(real_data("ml-100k")))
    train, test = ml100k_fold(1, protocol)
    gp = ContentGP(embedder=TfidfSVD()).fit(replace(train, items=catalogue.items))
    assert rmse(gp.expect(test.pairs), test) < most
    error = np.abs(test.rating - gp.expect(test.pairs)) / gp.spread(test.pairs)
    assert 0.87 < np.mean(error < 1.6449) < 0.93
