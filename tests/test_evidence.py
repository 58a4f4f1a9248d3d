"""The ratings that are cited for a prediction are those that move it, and what they have in common is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingScale
from hybrid_sim.core.user_state import Histories, History
from hybrid_sim.data.sources import load
from hybrid_sim.data.world import make_world
from hybrid_sim.retrieval.content_gp import N_PLAIN, ContentGP
from hybrid_sim.retrieval.embedder import TfidfSVD
from hybrid_sim.retrieval.evidence import EvidenceFinder, Grounds


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=2, n_users=100, n_items=120, ratings_per_user=30).dataset


@pytest.fixture(scope="module")
def process(world: Dataset) -> ContentGP:
    return ContentGP(TfidfSVD()).fit(world)


def predicted(process: ContentGP, item: IntArray, rating: FloatArray, asked: int) -> float:
    """The process's prediction from a history, by its kernel matrix (Rasmussen and Williams 2006, eq. 2.25)."""
    features = process.features_[item]
    noise = np.diag(process.noise_variance_ + process.unseen_variance_[item])
    weights = np.linalg.solve(features @ features.T + noise, rating - process.item_level_[item])
    return float(process.item_level_[asked] + process.features_[asked] @ features.T @ weights)


def without(process: ContentGP, history: History, places: list[int], asked: int) -> float:
    """By how much the prediction moves, up or down, when some ratings are taken out of the history."""
    kept = ~np.isin(np.arange(len(history)), places)
    left = predicted(process, history.item[kept], history.rating[kept], asked)
    return predicted(process, history.item, history.rating, asked) - left


def effects(process: ContentGP, history: History, asked: IntArray) -> FloatArray:
    """By how much each rating of the history moves each prediction, shape `(n_asked, n_history)`."""
    return process.features_[asked] @ process.influences(history.item, history.rating).weights.T


def test_effects_are_what_taking_the_rating_out_does(world: Dataset, process: ContentGP) -> None:
    history, asked = Histories(world).of(7), np.array([0, 11, 60])
    effect = effects(process, history, asked)
    for row, item in enumerate(asked.tolist()):
        assert process.expect(Pairs(np.array([7]), np.array([item])))[0] == pytest.approx(
            predicted(process, history.item, history.rating, item), abs=1e-9
        )
        moved = [without(process, history, [place], item) for place in range(len(history))]
        assert effect[row] == pytest.approx(moved, abs=1e-9)


def test_cited_ratings_speak_for_or_against(world: Dataset, process: ContentGP) -> None:
    finder, histories = EvidenceFinder(process, world), Histories(world)
    asked = np.arange(world.n_items)
    for user in (0, 31):
        history = histories.of(user)
        rated = dict(zip(history.item.tolist(), history.rating.tolist(), strict=True))
        effect = effects(process, history, asked)
        for item, grounds in zip(asked.tolist(), finder.about(history, asked), strict=True):
            amounts = [evidence.contribution for evidence in grounds.evidence]
            assert sorted(amounts, key=abs, reverse=True) == amounts
            assert max(sum(a > 0 for a in amounts), sum(a < 0 for a in amounts)) <= 3
            for evidence in grounds.evidence:
                place = history.item.tolist().index(evidence.item)
                assert evidence.contribution == pytest.approx(effect[item, place], abs=1e-12)
                assert evidence.rating == rated[evidence.item]
                assert (evidence.item_id, evidence.title) == (
                    world.items.index[evidence.item],
                    world.items["title"].iloc[evidence.item],
                )


def strongest_beats_random(process: ContentGP, dataset: Dataset, users: range, n_items: int) -> float:
    """In which share of rows taking out the strongest rating cited moves more than taking out a random one."""
    finder, histories, rng = EvidenceFinder(process, dataset), Histories(dataset), np.random.default_rng(0)
    won = []
    for user in users:
        history = histories.of(user)
        unrated = np.setdiff1d(np.arange(dataset.n_items), history.item)
        asked = rng.choice(unrated, n_items, replace=False)
        for item, grounds in zip(asked.tolist(), finder.about(history, asked), strict=True):
            places = [history.item.tolist().index(evidence.item) for evidence in grounds.evidence[:1]]
            drawn = [int(rng.integers(len(history)))]
            moved = [abs(without(process, history, chosen, item)) for chosen in (places, drawn)]
            won.append(moved[0] > moved[1])
    return float(np.mean(won))


def test_the_evidence_moves_the_prediction_more_than_a_random_rating(world: Dataset, process: ContentGP) -> None:
    assert strongest_beats_random(process, world, range(0, 100, 5), 8) > 0.8


def test_the_evidence_moves_the_prediction_on_real_data(real_data: Callable[[str], Path]) -> None:
    movies = load("ml-100k", real_data("ml-100k").parent)
    movies = movies.take(np.random.default_rng(1).random(len(movies)) < 0.3)
    assert strongest_beats_random(ContentGP(TfidfSVD()).fit(movies), movies, range(0, 900, 30), 6) > 0.85


def test_what_is_liked_and_disliked_is_named() -> None:
    """The first user loves the first genre and hates the second; all others rate at random."""
    genres = [("western",), ("musical",), ("western", "musical"), ("documentary",)]
    items = pd.DataFrame({"genres": [genres[row % 4] for row in range(80)]}, index=[f"i{row}" for row in range(80)])
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(30), 40)
    item = np.concatenate([rng.choice(80, 40, replace=False) for _ in range(30)])
    rating = rng.integers(1, 6, len(user)).astype(float)
    own = user == 0
    rating[own] = np.choose(item[own] % 4, [5.0, 1.0, 3.0, 3.0])
    users = pd.DataFrame(index=[f"u{row}" for row in range(30)])
    dataset = Dataset("planted", RatingScale((1, 2, 3, 4, 5)), users, items, user, item, rating)
    finder = EvidenceFinder(ContentGP(TfidfSVD()).fit(dataset), dataset)
    unrated = np.setdiff1d(np.arange(80), item[own])
    western, musical = (int(unrated[unrated % 4 == k][0]) for k in (0, 1))
    found = finder.about(Histories(dataset).of(0), np.array([western, musical]))
    assert found[0].keywords[0] == "western"
    assert found[0].evidence[0].contribution > 0
    assert found[0].evidence[0].rating == 5
    assert found[0].evidence[0].title == found[0].evidence[0].item_id
    assert "western" not in found[0].against
    assert found[1].against[0] == "musical"
    assert found[1].evidence[0].contribution < 0
    assert found[1].evidence[0].rating == 1


def test_a_pair_is_answered_alike_alone_and_with_others(world: Dataset, process: ContentGP) -> None:
    finder, history = EvidenceFinder(process, world), Histories(world).of(3)
    together = finder.about(history, np.arange(world.n_items))
    for item, grounds in enumerate(together):
        assert finder.about(history, np.array([item])) == [grounds]


@pytest.mark.parametrize("n_cited", [1, 2])
def test_the_cited_ratings_are_those_of_the_largest_effects_by_content(
    world: Dataset, process: ContentGP, n_cited: int
) -> None:
    """Longer histories go through an index; what it proposes must not hide a rating that is telling."""
    own = np.random.default_rng(0).choice(world.n_items, 90, replace=False)
    history = Histories(world).of(-1).then(own, np.random.default_rng(1).integers(1, 6, 90).astype(float))
    asked = np.setdiff1d(np.arange(world.n_items), own)
    effect, influences = effects(process, history, asked), process.influences(history.item, history.rating)
    by_content = process.features_[asked][:, N_PLAIN:] @ influences.weights[:, N_PLAIN:].T
    least = 0.0025 * (world.scale.high - world.scale.low)
    for row, grounds in enumerate(EvidenceFinder(process, world, n_cited).about(history, asked)):
        for sign in (1.0, -1.0):
            telling = (sign * effect[row] >= least) & (sign * influences.surprise > 0) & (sign * by_content[row] > 0)
            strength = np.where(telling, sign * by_content[row], 0.0)
            best = {int(own[place]) for place in np.argsort(-strength)[:n_cited] if strength[place] > 0}
            assert {evidence.item for evidence in grounds.evidence if sign * evidence.contribution > 0} == best


def test_a_history_of_simulated_ratings_is_cited_too(world: Dataset, process: ContentGP) -> None:
    none = Histories(world).of(-1)
    lived = none.then(np.array([4, 9, 30]), np.array([5.0, 1.0, 5.0]))
    finder = EvidenceFinder(process, world)
    assert finder.about(none, np.array([50, 51])) == [Grounds(), Grounds()]
    cited = {evidence.item for grounds in finder.about(lived, np.arange(40, 60)) for evidence in grounds.evidence}
    assert cited
    assert cited <= {4, 9, 30}


def test_items_without_any_content_have_no_evidence(world: Dataset) -> None:
    bare = replace(world, items=world.items[[]])
    finder = EvidenceFinder(ContentGP(TfidfSVD()).fit(bare), bare)
    assert finder.about(Histories(bare).of(0), np.arange(5)) == [Grounds()] * 5
