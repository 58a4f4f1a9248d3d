"""A fitted simulator learns of new items without a whole new fit."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from hybrid_sim.data.dataset import Dataset
from hybrid_sim.data.text import item_texts
from hybrid_sim.errors import SettingsError
from hybrid_sim.models.held import HeldOpinions, HeldTable
from hybrid_sim.models.support import SupportTable
from hybrid_sim.progress import track
from hybrid_sim.rater import Rater
from hybrid_sim.simulator import Simulator


def with_new_items(simulator: Simulator, dataset: Dataset, n_jobs: int | None = None) -> Simulator:
    """A copy that knows the items at the end of `dataset`, whose beginning is what the simulator was fitted to.

    Members are fitted again, since texts and features of all items are measured against each other; what they say is
    then the same as after a whole fit. How they are combined and calibrated stays as it was learned on the first items:
    that is an approximation, and saves the inner hold-outs, seven eighths of the work.

    Raises:
        SettingsError: the simulator was fitted to something else, or an item at the end has ratings.
    """
    n_known = len(simulator.item_ids_)
    if len(dataset) and dataset.item.max() >= n_known:
        raise SettingsError(f"a new item of {dataset.name} has ratings; fit the simulator to them instead")
    simulator.require_fitted_to(replace(dataset, items=dataset.items.iloc[:n_known]))
    texts = item_texts(dataset)
    ensemble = copy.copy(simulator.ensemble_)
    ensemble.members_ = _fitted(ensemble.members, dataset, texts, n_jobs or simulator.n_jobs)
    ensemble.support_ = SupportTable().fit(dataset)
    ensemble.held_ = _of_longer_catalogue(ensemble.held_, dataset.n_items)
    found = copy.copy(simulator)
    found.ensemble_ = ensemble
    found.item_ids_ = dataset.items.index
    found.item_known_ = np.append((dataset.item_counts > 0) | (np.array(texts, dtype=object) != ""), False)
    found.dataset_digest_ = dataset.digest
    return found


def _fitted(members: dict[str, Rater], dataset: Dataset, texts: Sequence[str], n_jobs: int | None) -> dict[str, Rater]:
    """Copies of the members, fitted to the dataset; embedders learn from all its texts first."""
    copies = copy.deepcopy(members)
    for member in copies.values():
        embedder = getattr(member, "embedder", None)
        if embedder is not None:
            embedder.fit(texts)
    with (
        threadpool_limits(1),
        track("fitting members to the new items", len(copies)) as task,
        ThreadPoolExecutor(n_jobs or os.cpu_count() or 1) as pool,
    ):
        jobs = {name: pool.submit(member.fit, dataset) for name, member in reversed(copies.items())}
        for name, job in jobs.items():
            copies[name] = job.result()
            task.advance(note=name)
    return copies


def _of_longer_catalogue(held: HeldOpinions, n_items: int) -> HeldOpinions:
    """The same opinions, found by the row numbers of a longer catalogue."""
    tables = [
        HeldTable(table.keys // held.n_items * n_items + table.keys % held.n_items, table.probs)
        for table in (held.warm, held.cold)
    ]
    return HeldOpinions(held.scale, n_items, *tables)
