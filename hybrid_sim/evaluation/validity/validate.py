"""The story of a validation: a simulator answers about held-out pairs, evidence is gathered, verdicts are given."""

from __future__ import annotations

from collections.abc import Callable

from hybrid_sim.core.document import Section
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.progress import track
from hybrid_sim.core.provenance import Provenance
from hybrid_sim.evaluation.protocols import Fold, Protocol
from hybrid_sim.evaluation.validity.accuracy import accuracy, information
from hybrid_sim.evaluation.validity.baselines import references
from hybrid_sim.evaluation.validity.calibration import calibration
from hybrid_sim.evaluation.validity.contamination import Probe
from hybrid_sim.evaluation.validity.discrimination import discrimination
from hybrid_sim.evaluation.validity.groups import drift, groups
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.llm_evidence import contamination, cost
from hybrid_sim.evaluation.validity.partial_correlation import signal
from hybrid_sim.evaluation.validity.realism import diversity, histogram, realism
from hybrid_sim.evaluation.validity.recommenders import recommenders, scores
from hybrid_sim.evaluation.validity.report import ValidityReport, summarise
from hybrid_sim.evaluation.validity.simulator_sources import Answers

EVIDENCE: tuple[Callable[[ValidationData], Section], ...] = (
    accuracy,
    information,
    calibration,
    histogram,
    realism,
    diversity,
    signal,
    discrimination,
    recommenders,
    groups,
    drift,
    contamination,
    cost,
)
"""Everything that is looked at, in the order of the report."""


def validation_data(
    fold: Fold, answers: Answers, protocol: Protocol, embedder: Embedder, seed: int = 0, probe: Probe | None = None
) -> ValidationData:
    """Fit baselines and recommenders to the training part and ask them about the pairs that the simulator answered."""
    pairs = answers.held_out.pairs
    return ValidationData(
        fold.train,
        answers.held_out,
        answers.simulator,
        references(fold.train, pairs, seed),
        scores(fold.train, pairs, embedder, seed),
        protocol.groups,
        seed,
        probe,
    )


def validate(data: ValidationData, protocol: str, folds: str, provenance: Provenance | None = None) -> ValidityReport:
    """All evidence about the simulator of a data, and the verdicts.

    Raises:
        InputError: nothing is held out, or the simulator does not answer about everything.
    """
    sections: list[Section] = []
    with track("validate", len(EVIDENCE)) as task:
        for gather in EVIDENCE:
            sections.append(gather(data))
            task.advance(1, sections[-1].name)
    found = tuple(sections)
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
        summary=summarise(found),
        sections=found,
        provenance=provenance,
        notes=data.simulator.notes,
    )
