"""The LLM's correction helps where it can, harms nowhere, and is nothing at all where there is no LLM rating."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.ensemble.correction import MIN_ROWS, N_PANEL, Correction, cross_fitted_correction, panel_places

SCALE = RatingScale((1, 2, 3, 4, 5))


@dataclass(frozen=True)
class Case:
    """Held-out ratings, the statistical opinion about them, and an LLM's."""

    statistical: RatingDistribution
    llm: RatingDistribution
    held: Dataset

    @property
    def ratings(self) -> FloatArray:
        return self.held.rating


def case(knows: float, seed: int = 0, n_pairs: int = 3000, missing: float = 0.3) -> Case:
    """Statistics know half of the story; the LLM knows a share of the other half and errs besides."""
    rng = np.random.default_rng(seed)
    seen, unseen = rng.normal(0, 0.6, (2, n_pairs))
    said = SCALE.round(3.3 + knows * unseen + rng.normal(0, 1.2, n_pairs))
    said[rng.random(n_pairs) < missing] = np.nan
    user = rng.integers(0, 60, n_pairs)
    held = Dataset(
        "held",
        SCALE,
        pd.DataFrame(index=pd.Index([f"u{row}" for row in range(60)], dtype=object)),
        pd.DataFrame(index=pd.Index(["i"], dtype=object)),
        user,
        np.zeros(n_pairs, dtype=np.int64),
        SCALE.round(3.5 + seen + unseen + rng.normal(0, 0.7, n_pairs)),
    )
    statistical = RatingDistribution.from_mean(SCALE, 3.5 + seen, rng.uniform(0.7, 1.3, n_pairs))
    return Case(statistical, RatingDistribution.from_mean(SCALE, said, 0.3), held)


def plainly(given: Case) -> RatingDistribution:
    """Learned from all ratings, applied to all."""
    pairs = given.held.pairs
    correction = Correction().fit(given.statistical, given.llm, pairs, given.ratings)
    return correction.apply(given.statistical, given.llm, pairs)


def squared(opinion: RatingDistribution, ratings: FloatArray) -> FloatArray:
    return (opinion.mean() - ratings) ** 2


def test_where_the_llm_says_nothing_nothing_changes_to_the_last_bit() -> None:
    given = case(knows=1.0)
    missing = ~given.llm.answered
    crossed = cross_fitted_correction(given.statistical, given.llm, given.held, seed=0)
    plain = plainly(given)
    for found in (crossed, plain):
        assert (found.probs[missing] == given.statistical.probs[missing]).all()
        assert (np.abs(found.mean() - given.statistical.mean())[~missing] > 1e-4).mean() > 0.9
    silent = RatingDistribution.abstain(SCALE, len(given.held))
    assert (cross_fitted_correction(given.statistical, silent, given.held, 0).probs == given.statistical.probs).all()


def test_what_the_llm_knows_helps() -> None:
    given = case(knows=1.0)
    found = cross_fitted_correction(given.statistical, given.llm, given.held, seed=0)
    gain = squared(given.statistical, given.ratings) - squared(found, given.ratings)
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_noise_does_no_harm() -> None:
    """Forty LLMs that know nothing: without shrinking, 200 pairs would cost about .007 on average."""
    losses = []
    for seed in range(40):
        given = case(knows=0.0, seed=seed, n_pairs=200)
        found = cross_fitted_correction(given.statistical, given.llm, given.held, seed=seed)
        rmse = [np.sqrt(squared(o, given.ratings).mean()) for o in (found, given.statistical)]
        losses.append(rmse[0] - rmse[1])
    assert np.mean(losses) < 0.002
    assert np.max(losses) < 0.02


def test_a_users_ratings_never_reach_the_users_own_correction() -> None:
    given = case(knows=1.0)
    before = cross_fitted_correction(given.statistical, given.llm, given.held, seed=0)
    own = given.held.user == 7
    altered = given.ratings.copy()
    altered[own] = 6 - altered[own]
    columns = (given.held.users, given.held.items, given.held.user, given.held.item)
    other = Dataset("held", SCALE, *columns, altered)
    after = cross_fitted_correction(given.statistical, given.llm, other, seed=0)
    assert (after.probs[own] == before.probs[own]).all()
    assert (after.probs[~own] != before.probs[~own]).any()


def test_too_few_llm_ratings_teach_nothing() -> None:
    given = case(knows=1.0, missing=0.0)
    few = given.llm.probs.copy()
    few[MIN_ROWS - 1 :] = np.nan
    pairs = given.held.pairs
    correction = Correction().fit(given.statistical, RatingDistribution(SCALE, few), pairs, given.ratings)
    found = correction.apply(given.statistical, given.llm, pairs)
    assert (found.probs == given.statistical.probs).all()


def test_an_llm_that_always_says_the_same_teaches_nothing_wrong() -> None:
    given = case(knows=0.0)
    same = RatingDistribution.from_mean(SCALE, np.full(len(given.held), 4.0), 0.3)
    found = cross_fitted_correction(given.statistical, same, given.held, seed=0)
    assert np.isfinite(found.probs).all()
    assert (
        np.sqrt(squared(found, given.ratings).mean())
        < np.sqrt(squared(given.statistical, given.ratings).mean()) + 0.003
    )


def test_a_statistical_answer_that_is_missing_stays_missing() -> None:
    given = case(knows=1.0)
    probs = given.statistical.probs.copy()
    probs[:10] = np.nan
    pairs = given.held.pairs
    correction = Correction().fit(given.statistical, given.llm, pairs, given.ratings)
    found = correction.apply(RatingDistribution(SCALE, probs), given.llm, pairs)
    assert np.isnan(found.probs[:10]).all()
    assert found.answered[10:].all()


@dataclass(frozen=True)
class NewItems:
    """What an LLM says about new items: it knows how good each one is, and errs about everybody."""

    statistical: RatingDistribution
    llm: RatingDistribution
    pairs: Pairs
    ratings: FloatArray
    quality: FloatArray


def new_items(seed: int = 0, n_items: int = 200, n_users: int = 40) -> NewItems:
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 0.7, n_items)
    user, item = np.divmod(rng.permutation(n_users * n_items), n_items)
    n = len(item)
    statistical = RatingDistribution.from_mean(SCALE, rng.uniform(2.8, 3.6, n), 1.0)
    said = SCALE.round(SCALE.clip(3.2 + quality[item] + rng.normal(0, 1.1, n)))
    truth = statistical.mean() + 0.5 * quality[item] + rng.normal(0, 0.9, n)
    return NewItems(
        statistical, RatingDistribution.from_mean(SCALE, said, 0.2), Pairs(user, item), truth, quality[item]
    )


def shift_of(given: NewItems, heard: NDArray[np.bool_], new: bool = True) -> FloatArray:
    """How far the pairs move if the LLM speaks of some of them; its worth is known from all."""
    correction = Correction(new).fit(given.statistical, given.llm, given.pairs, given.ratings)
    said = RatingDistribution(SCALE, np.where(heard[:, None], given.llm.probs, np.nan))
    return correction.shift(given.statistical, said, given.pairs)


def test_what_is_said_of_a_new_item_to_some_moves_all_its_pairs_and_no_others() -> None:
    given = new_items()
    heard = (panel_places(given.pairs) < 5) & (given.pairs.item % 2 == 0)
    shift = shift_of(given, heard)
    spoken_of = given.pairs.item % 2 == 0
    assert (shift[~spoken_of] == 0).all()
    unheard = spoken_of & ~heard
    assert np.corrcoef(shift[unheard], given.quality[unheard])[0, 1] > 0.7
    assert (shift_of(given, heard, new=False)[~heard] == 0).all()


def test_an_eighth_of_the_answers_about_new_items_does_most_of_what_all_do() -> None:
    given = new_items(seed=1)
    everywhere, some = np.ones(len(given.pairs), dtype=bool), panel_places(given.pairs) < 5
    error = given.ratings - given.statistical.mean()

    def gain(heard: NDArray[np.bool_], new: bool) -> float:
        return float(np.mean(error**2 - (error - shift_of(given, heard, new)) ** 2))

    assert gain(some, new=True) > 0.6 * gain(everywhere, new=True) > 0.0
    assert gain(everywhere, new=True) > 1.3 * gain(everywhere, new=False)


def test_the_voices_are_few_and_the_same_in_any_order() -> None:
    """So that how many users came to rate an item, which nobody knows before, moves nothing."""
    given = new_items(seed=2)
    place = panel_places(given.pairs)
    assert (np.bincount(given.pairs.item[place < N_PANEL]) == N_PANEL).all()
    mixed = np.random.default_rng(0).permutation(len(place))
    assert (panel_places(given.pairs.take(mixed)) == place[mixed]).all()
    late = place >= N_PANEL
    louder = RatingDistribution(SCALE, np.where(late[:, None], np.eye(5)[4], given.llm.probs))
    correction = Correction(new_items=True).fit(given.statistical, given.llm, given.pairs, given.ratings)
    before, after = (correction.shift(given.statistical, said, given.pairs) for said in (given.llm, louder))
    assert (before[~late] == after[~late]).all()
    assert (before[late] != after[late]).mean() > 0.8


def test_a_pair_that_is_asked_for_twice_speaks_once() -> None:
    given = new_items(seed=3, n_items=60)
    correction = Correction(new_items=True).fit(given.statistical, given.llm, given.pairs, given.ratings)
    first = panel_places(given.pairs) < 3
    once = [given.statistical.take(first), given.llm.take(first), given.pairs.take(first)]
    rows = np.r_[np.flatnonzero(first), np.repeat(np.flatnonzero(panel_places(given.pairs) == 0), 5)]
    again = [given.statistical.take(rows), given.llm.take(rows), given.pairs.take(rows)]
    assert correction.shift(*again)[: first.sum()] == pytest.approx(correction.shift(*once), abs=1e-12)


def test_one_voice_about_a_new_item_counts_less_than_ten() -> None:
    given = new_items(seed=4)
    raves = RatingDistribution(SCALE, np.tile(np.eye(5)[4], (len(given.pairs), 1)))
    correction = Correction(new_items=True).fit(given.statistical, given.llm, given.pairs, given.ratings)
    moved = []
    for n_voices in (1, 3, 10):
        heard = (panel_places(given.pairs) < n_voices)[:, None]
        said = RatingDistribution(SCALE, np.where(heard, raves.probs, np.nan))
        moved.append(correction.shift(given.statistical, said, given.pairs)[panel_places(given.pairs) >= 10].mean())
    assert 0.05 < moved[0] < 0.7 * moved[1]
    assert moved[1] < 0.8 * moved[2]
