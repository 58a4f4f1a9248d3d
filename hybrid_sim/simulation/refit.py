"""Incremental refit: a fitted simulator gets new users, items and ratings without fitting its combiner again."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.parallel import parallel_map
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import IntArray, Pairs
from hybrid_sim.ensemble.out_of_fold_store import HeldOpinions, HeldTable
from hybrid_sim.models.support import SupportTable
from hybrid_sim.profiles.statistical_writer import statistical_profiles
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.simulation.simulator import Simulator


def refitted(simulator: Simulator, dataset: Dataset, n_jobs: int | None = None) -> Simulator:
    """A copy whose members are fitted to `dataset`: all data of the first fit, and new users, items and ratings.

    The members are then exactly those of a whole fit. Combiner, calibration and out-of-fold predictions stay those of
    the first data: an approximation that saves the out-of-fold fits, eight ninths of the work.

    Raises:
        SettingsError: a user, an item or a rating of the first fit is missing, or the scale is another.
        DataError: the dataset has no ratings.
    """
    users = _rows_now("user", simulator.user_ids_, dataset.users.index, dataset.name)
    items = _rows_now("item", simulator.item_ids_, dataset.items.index, dataset.name)
    _require_all_ratings(simulator.ensemble_.support_, dataset, users)
    held = simulator.ensemble_.held_
    if dataset.scale != held.scale:
        raise SettingsError(
            f"the simulator was fitted to ratings on the scale {held.scale}, those of {dataset.name} are on "
            f"{dataset.scale}; name the same scale, or fit again"
        )
    texts = item_texts(dataset)
    ensemble = copy.copy(simulator.ensemble_)
    ensemble.members_ = _fitted(ensemble.members, dataset, texts, n_jobs or simulator.n_jobs)
    ensemble.support_ = SupportTable().fit(dataset)
    ensemble.held_ = _moved(held, users, items, dataset.n_items)
    updated = copy.copy(simulator)
    updated.ensemble_ = ensemble
    updated.fallback_ = copy.deepcopy(simulator.fallback_).fit(dataset)
    updated.set_catalogue(dataset, texts)
    embedder = embedder_for(dataset, simulator.embedder)
    updated.item_index_ = simulator.item_index_.updated(embedder.embed(texts), items)
    updated.profile_index_ = simulator.profile_index_.updated(statistical_profiles(dataset), embedder, users)
    return updated


def _rows_now(noun: str, fitted: pd.Index[str], now: pd.Index[str], name: str) -> IntArray:
    """The row in `now` of each id that the simulator was fitted to."""
    rows = now.get_indexer(fitted)
    missing = np.flatnonzero(rows < 0)
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


def _fitted(members: dict[str, Rater], dataset: Dataset, texts: Sequence[str], n_jobs: int | None) -> dict[str, Rater]:
    """Copies of the members, fitted to the dataset; embedders learn from all its texts first."""
    copies = copy.deepcopy(members)
    for member in copies.values():
        embedder = getattr(member, "embedder", None)
        if embedder is not None:
            embedder.fit(texts)
    slowest_first = list(reversed(copies))
    parallel_map(
        lambda name: copies[name].fit(dataset),
        [(name,) for name in slowest_first],
        n_jobs,
        "fitting members to the new data",
        slowest_first,
    )
    return copies


def _moved(held: HeldOpinions, users: IntArray, items: IntArray, n_items: int) -> HeldOpinions:
    """The same out-of-fold predictions, by the row numbers that users and items have now."""

    def moved(table: HeldTable) -> HeldTable:
        # Keys depend on the number of items, and look-ups need them sorted.
        keys = Pairs(users[table.keys // held.n_items], items[table.keys % held.n_items]).keys(n_items)
        order = np.argsort(keys)
        return HeldTable(keys[order], table.probs[order])

    return HeldOpinions(held.scale, n_items, moved(held.warm), moved(held.cold))
