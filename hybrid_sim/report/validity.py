"""The page of a validity report: verdicts first, then every kind of evidence with its charts and tables."""

from __future__ import annotations

from dataclasses import replace

from hybrid_sim.core.document import KeyFigure, Page, Section, slug
from hybrid_sim.evaluation.validity.report import ValidityReport
from hybrid_sim.report.provenance import provenance_facts


def validity_page(report: ValidityReport) -> Page:
    """The page of a validity report."""
    context = (
        f"{report.subject}; protocol {report.protocol}, folds {report.folds}, seed {report.seed}; "
        f"{report.n_ratings:,} held-out ratings, learned from {report.n_train:,}; intervals resample "
        f"{report.groups or 'users'}"
    )
    evidence = [replace(section, name=slug("evidence", section.name)) for section in report.sections]
    return Page(
        title=report.title,
        context=context,
        sections=(_overview(report, evidence), *evidence),
        synthetic=report.synthetic,
        notes=report.notes,
        provenance={} if report.provenance is None else provenance_facts(report.provenance),
    )


def _overview(report: ValidityReport, evidence: list[Section]) -> Section:
    states = [verdict.state for verdict in report.verdicts]
    counts = (("pass", "verdicts pass"), ("fail", "verdicts fail"), ("unknown", "cannot be told"))
    figures = (KeyFigure(name, str(states.count(state))) for state, name in counts if state in states)
    verdicts = (replace(v, reason="", to=f"#{section.name}") for section in evidence for v in section.verdicts)
    return Section("verdicts", "Verdicts", report.summary, (*figures, *verdicts))
