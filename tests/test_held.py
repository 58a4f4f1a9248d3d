"""What the ensemble said about its own training ratings is honest: it did not know them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybrid_sim.core import model_files
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.world import make_world
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.ensemble.out_of_fold import OutOfFoldTable
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.factorization import BayesianFactorization

SCALE = RatingScale((1, 2, 3, 4, 5))


def members() -> dict[str, Rater]:
    short = BayesianFactorization(n_iterations=40, burn_in=10, n_draws=12, n_factors=3)
    return {"biases": Biases(), "factors": short}


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=3, n_users=120, n_items=150, ratings_per_user=40).dataset


@pytest.fixture(scope="module")
def known(world: Dataset) -> Dataset:
    """Four fifths of the ratings."""
    return world.take(np.arange(len(world)) % 5 != 0)


@pytest.fixture(scope="module")
def ensemble(known: Dataset) -> Ensemble:
    return Ensemble(members(), n_jobs=1).fit(known)


def log_loss(opinion: RatingDistribution, dataset: Dataset) -> float:
    return float(-np.log(opinion.prob_of(dataset.rating)).mean())


def test_held_opinions_err_as_much_as_on_new_ratings(world: Dataset, known: Dataset, ensemble: Ensemble) -> None:
    new = world.take(np.arange(len(world)) % 5 == 0)
    opinion = ensemble.out_of_fold(known.pairs)
    held = log_loss(opinion.take(opinion.answered), known.take(opinion.answered))
    assert held == pytest.approx(log_loss(ensemble.rate(new.pairs), new), abs=0.05)
    assert held > log_loss(ensemble.rate(known.pairs), known) + 0.02


def test_an_altered_rating_leaves_its_own_held_opinion_and_moves_others(known: Dataset, ensemble: Ensemble) -> None:
    """Only its fold and the combiner's crossing fold must not know it; 40 altered ratings would show in any leak."""
    rows = np.arange(0, len(known), len(known) // 40)
    altered = known.rating.copy()
    altered[rows] = 6 - altered[rows]
    again = Ensemble(members(), n_jobs=1).fit(replace(known, rating=altered))
    before, after = ensemble.out_of_fold(known.pairs), again.out_of_fold(known.pairs)
    own = np.abs(before.mean() - after.mean())[rows]
    knowing = np.abs(ensemble.rate(known.pairs).mean() - again.rate(known.pairs).mean())[rows]
    assert own.mean() < 0.5 * knowing.mean()


def test_every_training_rating_beside_others_has_one_and_nothing_else(known: Dataset, ensemble: Ensemble) -> None:
    held = ensemble.out_of_fold(known.pairs)
    alone = (known.user_counts[known.user] < 2) | (known.item_counts[known.item] < 2)
    assert held.answered.mean() > 0.97
    assert not held.answered[alone].any()
    assert held.probs[held.answered].sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    rated = np.zeros((known.n_users, known.n_items), dtype=bool)
    rated[known.user, known.item] = True
    user, item = np.nonzero(~rated)
    strangers = Pairs(np.append(user, [-1, 0, -1]), np.append(item, [0, -1, -1]))
    assert not ensemble.out_of_fold(strangers).answered.any()


def test_cold_opinions_are_of_a_part_and_know_less(known: Dataset, ensemble: Ensemble) -> None:
    cold = ensemble.out_of_fold(known.pairs, cold=True)
    warm = ensemble.out_of_fold(known.pairs)
    assert 0.1 < cold.answered.mean() < 0.4
    both = cold.answered & warm.answered
    part = known.take(both)
    warm_loss = log_loss(warm.take(both), part)
    assert log_loss(cold.take(both), part) > warm_loss + 0.05


def test_saved_and_loaded(known: Dataset, ensemble: Ensemble, tmp_path: Path) -> None:
    model_files.save(ensemble, tmp_path / "model")
    loaded = model_files.load(tmp_path / "model")
    assert isinstance(loaded, Ensemble)
    for cold in (False, True):
        before, after = (one.out_of_fold(known.pairs, cold).probs for one in (ensemble, loaded))
        assert np.array_equal(before, after, equal_nan=True)


def test_of_a_repeated_pair_the_first_counts() -> None:
    held = RatingDistribution.from_mean(SCALE, np.array([2.0, 4.0, np.nan, 3.0]), 1.0)
    pairs = Pairs(np.array([1, 1, 2, 0]), np.array([5, 5, 3, 0]))
    opinions = OutOfFoldTable.gather(held, pairs, np.array([0, 1, 0, 0]), n_items=6)
    assert opinions.of(pairs).mean() == pytest.approx([2.0, 2.0, np.nan, 3.0], abs=1e-6, nan_ok=True)
    assert opinions.of(pairs, cold=True).mean() == pytest.approx([4.0, 4.0, np.nan, np.nan], abs=1e-6, nan_ok=True)
