"""The last two kinds of evidence: what a language model may have recalled, and what the answers cost."""

from __future__ import annotations

import numpy as np

from hybrid_sim.core.document import Cell, Column, Section, Table
from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.validity import verdicts
from hybrid_sim.evaluation.validity.contamination import MIN_ANSWERS
from hybrid_sim.evaluation.validity.inputs import ValidationData
from hybrid_sim.evaluation.validity.verdicts import describe, finite_or_none

NO_PROBE = (
    "No language model can be asked here: either none was, or only its recorded ratings are known, to which no further "
    "question can be put."
)


def contamination(data: ValidationData) -> Section:
    """How much better a language model rates items whose titles it is told than the same items without."""
    title, probe = "Recall of the data set", data.probe
    if probe is None or len(probe.truth) < MIN_ANSWERS:
        why = NO_PROBE if probe is None else f"Only {len(probe.truth)} of {MIN_ANSWERS} pairs were answered both ways."
        return Section("contamination", title, why, (verdicts.undecided(verdicts.CONTAMINATION, why),))
    exact = [(np.abs(said - probe.truth) < 1e-9).astype(float) for said in (probe.with_title, probe.without)]
    kinds = ("real title and text", "invented title, no text")
    rows: list[tuple[Cell, ...]] = []
    for name, said, hits in zip(kinds, (probe.with_title, probe.without), exact, strict=True):
        correlation = finite_or_none(metrics.pearson(probe.truth, said))
        rows.append((name, float(hits.mean()), metrics.mae(probe.truth, said), correlation))
    table = Table(
        "contamination",
        f"A language model's ratings of {len(probe.truth)} held-out pairs",
        (Column("asked", "asked with"), Column("exact", "exact hits", 4), Column("mae", "MAE", 4),
         Column("pearson", "Pearson", 4)),
        tuple(rows),
        "Intervals resample users.",
    )  # fmt: skip
    gain = data.by_user.mean(exact[0] - exact[1], probe.user)
    verdict = verdicts.judge(verdicts.CONTAMINATION, gain, "exact hits gained by the real title:")
    return Section(
        "contamination",
        title,
        f"Real titles add {describe(gain)} to the share of exact hits.",
        (verdict, table),
    )


def cost(data: ValidationData) -> Section:
    """Seconds and money per 1,000 ratings."""
    spent, n = data.simulator.cost, len(data.held_out)
    per_thousand = 1000.0 / n
    rows: tuple[tuple[Cell, ...], ...] = (
        ("seconds of fitting, once", spent.fit_seconds),
        ("seconds per 1,000 ratings", _scaled(spent.rate_seconds, per_thousand)),
        ("US dollars per 1,000 ratings", _scaled(spent.dollars, per_thousand)),
        ("calls per 1,000 ratings", _scaled(spent.calls, per_thousand)),
    )
    table = Table("cost", "What the answers took", (Column("what", "what"), Column("value", "value", 3)), rows,
                  "-: not known. Seconds by the wall clock of the machine in the provenance.")  # fmt: skip
    shown = [f"{row[1]:.3g} {row[0]}" for row in rows if row[1] is not None]
    finding = f"{', '.join(shown)}." if shown else "What the ratings took is not known."
    return Section("cost", "Cost", finding, (table,))


def _scaled(value: FloatArray | float | None, factor: float) -> float | None:
    return None if value is None else float(value * factor)
