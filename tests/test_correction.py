"""The LLM's correction helps where it can, harms nowhere, and is nothing at all where there is no LLM rating."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hybrid_sim.data.dataset import Dataset
from hybrid_sim.models.correction import MIN_ROWS, Correction, cross_fitted_correction
from hybrid_sim.types import FloatArray, RatingDistribution, RatingScale

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


def squared(opinion: RatingDistribution, ratings: FloatArray) -> FloatArray:
    return (opinion.mean() - ratings) ** 2


def test_where_the_llm_says_nothing_nothing_changes_to_the_last_bit() -> None:
    given = case(knows=1.0)
    missing = ~given.llm.answered
    crossed = cross_fitted_correction(given.statistical, given.llm, given.held, seed=0)
    plain = Correction().fit(given.statistical, given.llm, given.ratings).apply(given.statistical, given.llm)
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
    correction = Correction().fit(given.statistical, RatingDistribution(SCALE, few), given.ratings)
    found = correction.apply(given.statistical, given.llm)
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
    found = (
        Correction().fit(given.statistical, given.llm, given.ratings).apply(RatingDistribution(SCALE, probs), given.llm)
    )
    assert np.isnan(found.probs[:10]).all()
    assert found.answered[10:].all()
