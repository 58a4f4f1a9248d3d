"""Evidence on cost: seconds and money per 1,000 ratings."""

from __future__ import annotations

from hybrid_sim.core.document import Column, Section, Table
from hybrid_sim.evaluation.validity.inputs import ValidationData


def cost(data: ValidationData) -> Section:
    """Seconds, dollars and calls per 1,000 ratings; what is not known is left out of the finding."""
    spent, n = data.simulator.cost, len(data.held_out)
    amounts = {"seconds": spent.rate_seconds, "US dollars": spent.dollars, "calls": spent.calls}
    rows = [("seconds of fitting, once", spent.fit_seconds)]
    rows += [
        (f"{name} per 1,000 ratings", None if amount is None else float(amount * (1000.0 / n)))
        for name, amount in amounts.items()
    ]
    note = "-: not known. Seconds by the wall clock of the machine in the provenance."
    columns = (Column("what", "what"), Column("value", "value", 3))
    table = Table("cost", "What the answers took", columns, tuple(rows), note)
    shown = [f"{value:.3g} {name}" for name, value in rows if value is not None]
    finding = f"{', '.join(shown)}." if shown else "What the ratings took is not known."
    return Section("cost", "Cost", finding, (table,))
