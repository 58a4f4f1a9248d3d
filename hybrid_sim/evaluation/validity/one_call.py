"""Validation as one call of the Python API; `bench` and `ablate` are such calls themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.provenance import provenance
from hybrid_sim.evaluation.protocols import make_protocol
from hybrid_sim.evaluation.validity.report import ValidityReport
from hybrid_sim.evaluation.validity.simulator_sources import fitted, from_run
from hybrid_sim.evaluation.validity.validate import validate as judged
from hybrid_sim.evaluation.validity.validate import validation_data
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.simulation.simulator import Simulator


def validate(
    dataset: Dataset,
    *,
    run: Path | str | None = None,
    members: Sequence[str] | None = None,
    without: Sequence[str] = (),
    protocol: str = "user-temporal",
    fold: int = 1,
    seed: int = 0,
    n_jobs: int | None = None,
) -> ValidityReport:
    """Whether simulated ratings can stand for real ones: verdicts with thresholds; as `hybrid-sim validate`.

    A simulator with `members` and without `without` is fitted to the training ratings of the fold and judged by the
    held-out ones; or `run` names the folder of a run that was made from these training ratings.

    Raises:
        SettingsError: a name is not known, or the run is of other data.
        DataError: the run predicts too few held-out ratings.
    """
    chosen = make_protocol(protocol, dataset, folds=[fold], seed=seed)
    part = next(iter(chosen.folds()))
    if run is None:
        simulator = Simulator(seed, members, n_jobs=n_jobs, without=without).fit(part.train)
        answers = fitted(simulator, part.held_out, seed)
    elif members is None and not without:
        answers = from_run(Path(run), part.train, part.held_out)
    else:
        raise SettingsError("a run has its members already; leave members and without out")
    embedder = embedder_for(dataset)
    made = provenance((), seed, dataset, embedder.name)
    return judged(validation_data(part, answers, chosen, embedder, seed), chosen.name, str(fold), made)
