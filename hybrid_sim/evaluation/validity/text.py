"""A validity report as text for a screen: the verdicts, and under them what was found."""

from __future__ import annotations

from textwrap import fill

from hybrid_sim.core.files import printable
from hybrid_sim.evaluation.validity.report import ValidityReport

WIDTH = 118
MARKS = {"pass": "pass", "fail": "FAIL", "unknown": "  ? "}


def validity_text(report: ValidityReport) -> str:
    """Verdicts in plain words with their thresholds, then one finding per kind of evidence."""
    data = " (synthetic data)" if report.synthetic else ""
    head = (
        f"{report.title}{data}: {report.subject}; protocol {report.protocol}, fold {report.folds}, seed {report.seed}, "
        f"{report.n_train:,} training and {report.n_ratings:,} held-out ratings; intervals are 95%, over "
        f"{report.groups} unless the section says otherwise."
    )
    lines = [_wrapped("", head), ""]
    for verdict in report.verdicts:
        lines.append(_wrapped(f"{MARKS[verdict.state]}  {verdict.name:<16}  ", verdict.sentence))
    lines += ["", "Findings", ""]
    lines += [_wrapped(f"{section.name:<16}  ", section.finding) for section in report.sections]
    lines += ["", _wrapped("", report.summary), *(_wrapped("Note: ", note) for note in report.notes)]
    return "\n".join(lines)


def _wrapped(start: str, text: str) -> str:
    """The text behind its start, further lines indented to where it begins."""
    return fill(printable(text), WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
