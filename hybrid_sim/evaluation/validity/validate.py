"""The story of a validation: a simulator answers about held-out pairs, evidence is gathered, verdicts are given."""

from __future__ import annotations

from collections.abc import Callable

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
from hybrid_sim.evaluation.validity.judged import Trial
from hybrid_sim.evaluation.validity.llm_evidence import contamination, cost
from hybrid_sim.evaluation.validity.personal_signal import signal
from hybrid_sim.evaluation.validity.realism import diversity, histogram, realism
from hybrid_sim.evaluation.validity.recommenders import recommenders, scores
from hybrid_sim.evaluation.validity.report import Section, ValidityReport, summarise
from hybrid_sim.evaluation.validity.simulators import Answers

EVIDENCE: tuple[Callable[[Trial], Section], ...] = (
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


def make_trial(
    fold: Fold, answers: Answers, protocol: Protocol, embedder: Embedder, seed: int = 0, probe: Probe | None = None
) -> Trial:
    """Fit baselines and recommenders to the training part and ask them about the pairs that the simulator answered."""
    pairs = answers.held_out.pairs
    return Trial(
        fold.train,
        answers.held_out,
        answers.subject,
        references(fold.train, pairs, seed),
        scores(fold.train, pairs, embedder, seed),
        protocol.groups,
        seed,
        probe,
    )


def validate(trial: Trial, protocol: str, folds: str, provenance: Provenance | None = None) -> ValidityReport:
    """All evidence about the simulator of a trial, and the verdicts.

    Raises:
        InputError: nothing is held out, or the simulator does not answer about everything.
    """
    sections: list[Section] = []
    with track("validate", len(EVIDENCE)) as task:
        for gather in EVIDENCE:
            sections.append(gather(trial))
            task.advance(1, sections[-1].name)
    found = tuple(sections)
    return ValidityReport(
        title=f"Validity of a simulator on {trial.train.name}",
        subject=trial.subject.name,
        protocol=protocol,
        folds=folds,
        groups=trial.groups,
        n_ratings=len(trial.held_out),
        n_train=len(trial.train),
        seed=trial.seed,
        synthetic=trial.train.synthetic,
        summary=summarise(found),
        sections=found,
        provenance=provenance,
        notes=trial.subject.notes,
    )
