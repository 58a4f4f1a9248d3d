"""A validation: a simulator answers about held-out pairs, every kind of evidence is computed and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Section, Verdict
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.progress import track
from hybrid_sim.core.provenance import Provenance, provenance
from hybrid_sim.evaluation.bootstrap import MIN_GROUPS
from hybrid_sim.evaluation.protocols import Fold, Protocol, make_protocol
from hybrid_sim.evaluation.validity.accuracy import accuracy, calibration, cost, information
from hybrid_sim.evaluation.validity.contamination import contamination
from hybrid_sim.evaluation.validity.discrimination import discrimination, signal
from hybrid_sim.evaluation.validity.groups import drift, groups
from hybrid_sim.evaluation.validity.inputs import Answers, Probe, ValidationData, fitted, from_run
from hybrid_sim.evaluation.validity.realism import diversity, histogram, realism
from hybrid_sim.evaluation.validity.recommenders import recommenders, scores
from hybrid_sim.evaluation.validity.references import baseline_answers
from hybrid_sim.evaluation.validity.report import ValidityReport, summarise
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.simulation.simulator import Simulator

EVIDENCE: tuple[Callable[[ValidationData], Section], ...] = (
    accuracy, information, calibration, histogram, realism, diversity, signal, discrimination, recommenders, groups,
    drift, contamination, cost,
)  # fmt: skip
"""All kinds of evidence, in the order of the report. To add one, write a function and name it here."""


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
    made = make_protocol(protocol, dataset, folds=[fold], seed=seed)
    part = next(iter(made.folds()))
    if run is None:
        simulator = Simulator(seed, members, n_jobs=n_jobs, without=without).fit(part.train)
        answers = fitted(simulator, part.held_out, seed)
    elif members is None and not without:
        answers = from_run(Path(run), part.train, part.held_out)
    else:
        raise SettingsError("a run has its members already; leave members and without out")
    return validate_fold(made, part, answers, seed)


def validate_fold(
    protocol: Protocol,
    fold: Fold,
    answers: Answers,
    seed: int = 0,
    command: Sequence[str] = (),
    probe: Probe | None = None,
) -> ValidityReport:
    """All evidence about the answers of a simulator for one fold; `command` is kept in the provenance.

    Raises:
        InputError: nothing is held out, or the simulator does not answer about everything.
    """
    embedder = embedder_for(protocol.dataset)
    data = validation_data(fold, answers, protocol, embedder, seed, probe)
    made = provenance(command, seed, protocol.dataset, embedder.name)
    return validate_data(data, protocol.name, str(fold.number), made)


def validation_data(
    fold: Fold, answers: Answers, protocol: Protocol, embedder: Embedder, seed: int = 0, probe: Probe | None = None
) -> ValidationData:
    """Fit baselines and recommenders to the training part and ask them about the pairs that the simulator answered."""
    train, pairs = fold.train, answers.held_out.pairs
    baselines, recommended = baseline_answers(train, pairs, seed), scores(train, pairs, embedder, seed)
    return ValidationData(
        train, answers.held_out, answers.simulator, baselines, recommended, protocol.groups, seed, probe
    )


def _if_enough(section: Section, data: ValidationData) -> Section:
    """The section; with fewer than `MIN_GROUPS` users (or items) to resample none of its verdicts is decided."""
    n = min(len(np.unique(data.held_out.user)), len(np.unique(data.group)))
    if n >= MIN_GROUPS:
        return section
    noun = "users" if n == len(np.unique(data.held_out.user)) else data.groups
    why = f"It cannot be told: {n} {noun} have held-out ratings, at least {MIN_GROUPS} are needed."
    blocks = [replace(b, state="unknown", sentence=why) if isinstance(b, Verdict) else b for b in section.blocks]
    return replace(section, blocks=tuple(blocks))


def validate_data(
    data: ValidationData, protocol: str, folds: str, provenance: Provenance | None = None
) -> ValidityReport:
    """All evidence about a simulator, and the verdicts."""
    sections: list[Section] = []
    with track("validate", len(EVIDENCE)) as task:
        for evidence in EVIDENCE:
            sections.append(_if_enough(evidence(data), data))
            task.advance(1, sections[-1].name)
    return ValidityReport(
        title=f"Validity of a simulator on {data.train.name}",
        subject=data.simulator.name,
        protocol=protocol,
        folds=folds,
        groups=data.groups,
        n_ratings=len(data.held_out),
        n_train=len(data.train),
        seed=data.seed,
        synthetic=data.train.synthetic,
        summary=summarise(tuple(sections)),
        sections=tuple(sections),
        provenance=provenance,
        notes=data.simulator.notes,
    )
