"""Builds an environment: fits a simulator to the training part, and learns how answers of one person hang together."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.parallel import as_done
from hybrid_sim.core.types import FloatArray, Pairs
from hybrid_sim.environments.belief import cutpoints
from hybrid_sim.environments.correlation import Sequences, item_features, learn_correlation
from hybrid_sim.environments.folder import Population, open_population, refuse_other_content, write_population
from hybrid_sim.evaluation.splits import user_temporal
from hybrid_sim.models.kernel_gp import KernelGP
from hybrid_sim.simulation.simulator import Simulator

_log = logging.getLogger("hybrid_sim")

BLOCK = 50_000
"""Pairs that are predicted at a time."""


def build(
    dataset: Dataset,
    folder: str | Path,
    *,
    simulator: Simulator,
    held_out: Dataset | None = None,
    protocol: str = "none",
) -> Population:
    """Write an environment whose people answer as `simulator` predicts, once it is fitted to `dataset`.

    A copy of the simulator's settings is fitted to each user's earlier four fifths of `dataset` too, and the
    correlation of a person's answers is learned from its predictions of the last fifth. A simulator that is fitted
    already must be fitted to `dataset`. `held_out` are ratings of the same catalogue, named by `protocol`.

    Raises:
        SettingsError: `folder` holds something else, or the simulator was fitted to other ratings.
        DataError: there are too few ratings.
        StorageError: the disk is full or not writable.
    """
    folder = Path(folder)
    refuse_other_content(folder)
    held_out = dataset.take(np.zeros(0, dtype=np.int64)) if held_out is None else held_out
    unfitted = replace(simulator)
    if hasattr(simulator, "ensemble_"):
        simulator.require_fitted_to(dataset)
    else:
        simulator.fit(dataset)
    split = user_temporal(dataset, shuffle_untimed=True)
    earlier, later = dataset.take(split.train_rows), dataset.take(split.test_rows)
    if not len(later):
        raise SettingsError(
            f"{dataset.name}: no user has three ratings, from which it could be learned how a person's answers hang "
            "together; use more data"
        )
    _log.info("fitting to each user's earlier ratings, to learn from the later ones how answers hang together")
    inner = unfitted.fit(earlier)
    sequences = Sequences.of(later, inner.predict_pairs(later.pairs).distribution)
    correlation = learn_correlation(sequences, item_features(_item_vectors(inner, earlier)))
    _log.info(
        "of a rating's variance beyond prediction, %.0f%% is the person's level and %.0f%% taste",
        100 * correlation.level,
        100 * correlation.taste,
    )
    features = item_features(_item_vectors(simulator, dataset))
    unopened = Population(dataset, held_out, np.empty((0, 0, 0), dtype=np.float32), features, correlation, protocol)
    write_population(unopened, simulator, folder, lambda path: _write_cutpoints(simulator, dataset, path))
    return open_population(folder)


def _item_vectors(simulator: Simulator, dataset: Dataset) -> FloatArray:
    """Vectors by which items are alike: those of the simulator's kernel_gp, or of one fitted here."""
    member = simulator.ensemble_.members_.get("kernel_gp")
    rater = member if isinstance(member, KernelGP) else KernelGP().fit(dataset)
    return rater.item_vectors_[:-1].astype(float)


def _write_cutpoints(simulator: Simulator, dataset: Dataset, path: Path) -> None:
    """Write the cutpoints of all pairs of user and item, a block of users at a time."""
    n_users, n_items = dataset.n_users, dataset.n_items
    shape = (n_users, n_items, dataset.scale.n_levels - 1)
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    step = max(1, BLOCK // n_items)
    tasks = [(first, min(first + step, n_users)) for first in range(0, n_users, step)]

    def work(first: int, end: int) -> None:
        users = np.repeat(np.arange(first, end), n_items)
        pairs = Pairs(users, np.tile(np.arange(n_items), end - first))
        table[first:end] = cutpoints(simulator.predict_pairs(pairs).distribution).reshape(-1, *shape[1:])

    for _ in as_done(work, tasks, simulator.n_jobs, "predicting all pairs"):
        pass
    table.flush()
