"""A validation: a simulator answers about held-out pairs, every kind of evidence is computed and judged."""

from __future__ import annotations

from collections.abc import Callable

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Section
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.progress import track
from hybrid_sim.core.provenance import Provenance
from hybrid_sim.core.types import Pairs, RatingDistribution
from hybrid_sim.evaluation.protocols import Fold, Protocol
from hybrid_sim.evaluation.validity.accuracy import accuracy, information
from hybrid_sim.evaluation.validity.calibration import calibration
from hybrid_sim.evaluation.validity.contamination import contamination
from hybrid_sim.evaluation.validity.cost import cost
from hybrid_sim.evaluation.validity.discrimination import discrimination
from hybrid_sim.evaluation.validity.groups import drift, groups
from hybrid_sim.evaluation.validity.inputs import Probe, ValidationData
from hybrid_sim.evaluation.validity.negative_controls import Filled
from hybrid_sim.evaluation.validity.partial_correlation import signal
from hybrid_sim.evaluation.validity.realism import diversity, histogram, realism
from hybrid_sim.evaluation.validity.recommenders import recommenders, scores
from hybrid_sim.evaluation.validity.report import ValidityReport, summarise
from hybrid_sim.evaluation.validity.simulator_sources import Answers
from hybrid_sim.models import RATERS

EVIDENCE: tuple[Callable[[ValidationData], Section], ...] = (
    accuracy, information, calibration, histogram, realism, diversity, signal, discrimination, recommenders, groups,
    drift, contamination, cost,
)  # fmt: skip
"""All kinds of evidence, in the order of the report. To add one, write a function and name it here."""

BASELINES = ("global_mean", "user_mean", "item_mean", "biases", "knn", "svd", "nmf")
"""Histograms of all, of the user's and of the item's ratings; biases; and the three models of Lusifer's paper."""


def validation_data(
    fold: Fold, answers: Answers, protocol: Protocol, embedder: Embedder, seed: int = 0, probe: Probe | None = None
) -> ValidationData:
    """Fit baselines and recommenders to the training part and ask them about the pairs that the simulator answered."""
    pairs = answers.held_out.pairs
    return ValidationData(
        fold.train,
        answers.held_out,
        answers.simulator,
        baseline_answers(fold.train, pairs, seed),
        scores(fold.train, pairs, embedder, seed),
        protocol.groups,
        seed,
        probe,
    )


def baseline_answers(train: Dataset, pairs: Pairs, seed: int = 0) -> dict[str, RatingDistribution]:
    """The answers of the `BASELINES` about the pairs; where one abstains, the histogram of all training ratings."""
    raters = {name: RATERS[name].suited_to(train.scale, None, seed) for name in BASELINES}
    return {name: Filled(rater).fit(train).rate(pairs) for name, rater in raters.items()}


def validate(data: ValidationData, protocol: str, folds: str, provenance: Provenance | None = None) -> ValidityReport:
    """All evidence about the simulator of a data, and the verdicts.

    Raises:
        InputError: nothing is held out, or the simulator does not answer about everything.
    """
    sections: list[Section] = []
    with track("validate", len(EVIDENCE)) as task:
        for evidence in EVIDENCE:
            sections.append(evidence(data))
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
