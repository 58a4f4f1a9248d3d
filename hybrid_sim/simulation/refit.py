"""Incremental refit: a fitted simulator gets new users, items and ratings without fitting its combiner again."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.fit_cache import fit_cache
from hybrid_sim.core.parallel import parallel_map
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import IntArray
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.models.factorization import BayesianFactorization
from hybrid_sim.models.fold_in import fold_in
from hybrid_sim.models.support import SupportTable
from hybrid_sim.profiles.statistical_writer import statistical_profiles
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.simulation.simulator import Simulator

FOLD_IN_SHARE = 0.15
"""Share of the users with new ratings up to which they are folded into factorizations: as far as was measured."""


def refitted(simulator: Simulator, dataset: Dataset, n_jobs: int | None = None) -> Simulator:
    """A copy whose members are fitted to `dataset`: all data of the first fit, and new users, items and ratings.

    Items that nobody had rated may be missing. The members are then exactly those of a whole fit, but for
    factorizations if no item is new and at most `FOLD_IN_SHARE` of the users have new ratings: these are folded in (see
    `hybrid_sim.models.fold_in`), all others keep their vectors. Combiner, calibration and out-of-fold predictions
    stay those of the first data: an approximation that saves the out-of-fold fits, eight ninths of the work.

    Raises:
        SettingsError: a user, an item or a rating of the first fit is missing, or the scale is another.
        DataError: the dataset has no ratings.
    """
    users = _rows_now("user", simulator.user_ids_, dataset.users.index, dataset.name)
    unrated = simulator.ensemble_.support_.n_item_[:-1] == 0
    items = _rows_now("item", simulator.item_ids_, dataset.items.index, dataset.name, unrated)
    _require_all_ratings(simulator.ensemble_.support_, dataset, users)
    out_of_fold = simulator.ensemble_.out_of_fold_
    if dataset.scale != out_of_fold.scale:
        raise SettingsError(
            f"the simulator was fitted to ratings on the scale {out_of_fold.scale}, those of {dataset.name} are on "
            f"{dataset.scale}; name the same scale, or fit again"
        )
    texts = item_texts(dataset)
    ensemble = copy.copy(simulator.ensemble_)
    unchanged = _users_unchanged(simulator, dataset, users)
    ensemble.members_ = _fitted(simulator.ensemble_, dataset, texts, unchanged, n_jobs or simulator.n_jobs)
    ensemble.support_ = SupportTable().fit(dataset)
    ensemble.out_of_fold_ = out_of_fold.moved(users, items, dataset.n_items)
    updated = copy.copy(simulator)
    updated.ensemble_ = ensemble
    updated.fallback_ = copy.deepcopy(simulator.fallback_).fit(dataset)
    updated.set_catalogue(dataset, texts)
    if simulator.item_index_ is not None and simulator.profile_index_ is not None:
        embedder = embedder_for(dataset, simulator.embedder)
        updated.item_index_ = simulator.item_index_.updated(embedder.embed(texts), items)
        updated.profile_index_ = simulator.profile_index_.updated(statistical_profiles(dataset), embedder, users)
    return updated


def require_same_ratings(simulator: Simulator, dataset: Dataset) -> None:
    """Check that the simulator learned from these ratings; it may know further items that nobody has rated.

    Raises:
        SettingsError: it learned from others.
    """
    support, rows = simulator.ensemble_.support_, simulator.item_ids_.get_indexer(dataset.items.index)
    is_same = (
        dataset.users.index.equals(simulator.user_ids_)
        and bool((rows >= 0).all())
        and np.array_equal(support.n_user_[:-1], dataset.user_counts)
        and np.array_equal(support.n_item_[rows], dataset.item_counts)
    )
    if not is_same:
        simulator.require_fitted_to(dataset)


def _rows_now(
    noun: str, fitted: pd.Index[str], now: pd.Index[str], name: str, may_be_missing: NDArray[np.bool_] | None = None
) -> IntArray:
    """The row in `now` of each id that the simulator was fitted to, -1 where it `may_be_missing` and is."""
    rows = now.get_indexer(fitted)
    missing = np.flatnonzero((rows < 0) if may_be_missing is None else (rows < 0) & ~may_be_missing)
    if len(missing):
        raise SettingsError(
            f"the simulator knows {noun} {fitted[missing[0]]!r}, which {name} does not have ({len(missing)} such "
            f"{noun}s); name data that holds all that it was fitted to, or fit again"
        )
    return rows.astype(np.int64)


def _require_all_ratings(support: SupportTable, dataset: Dataset, users: IntArray) -> None:
    """Members are fitted to this dataset alone, so it must have all ratings of the first fit."""
    before, now = support.n_user_[:-1], dataset.user_counts[users]
    missing = np.maximum(before - now, 0)
    if missing.any():
        user = dataset.users.index[users[missing.argmax()]]
        raise SettingsError(
            f"of the {int(before.sum()):,} ratings that the simulator learned from, {dataset.name} lacks at least "
            f"{int(missing.sum()):,} (for example of user {user!r}), and it would forget them; name all ratings, old "
            "and new, or fit again"
        )


def _users_unchanged(simulator: Simulator, dataset: Dataset, users: IntArray) -> IntArray | None:
    """The row at the first fit of each user without new ratings, -1 for all others; None where too much is new."""
    if not dataset.items.index.equals(simulator.item_ids_):
        return None
    same = np.flatnonzero(dataset.user_counts[users] == simulator.ensemble_.support_.n_user_[:-1])
    rows = np.full(dataset.n_users, -1)
    rows[users[same]] = same
    return rows if np.mean(rows < 0) <= FOLD_IN_SHARE else None


def _fitted(
    ensemble: Ensemble, dataset: Dataset, texts: Sequence[str], unchanged: IntArray | None, n_jobs: int | None
) -> dict[str, Rater]:
    """The members fitted to the dataset, of which the users' rows `unchanged` are known; embedders learn first."""
    copies, cache = copy.deepcopy(ensemble.members), fit_cache()
    for member in copies.values():
        embedder = getattr(member, "embedder", None)
        if embedder is not None:
            embedder.fit(texts)

    def work(name: str) -> Rater:
        before = ensemble.members_[name]
        if unchanged is not None and isinstance(before, BayesianFactorization):
            return fold_in(before, dataset, unchanged)
        return cache.fit(copies[name], dataset).rater

    slowest_first = list(reversed(copies))
    tasks = [(name,) for name in slowest_first]
    fitted = parallel_map(work, tasks, n_jobs, "fitting members to the new data", slowest_first)
    return dict(reversed(list(zip(slowest_first, fitted, strict=True))))
