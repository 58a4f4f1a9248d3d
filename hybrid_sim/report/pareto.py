"""Cost against loss: models, and those of the Pareto front that no other beats on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_sim.core.document import Chart, Column, Table, interval_columns


@dataclass(frozen=True)
class Candidate:
    """A model: what it costs, and its loss with an interval where there is one."""

    name: str
    cost: float
    loss: float
    low: float | None = None
    high: float | None = None


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates for which no other is both as cheap and better, from cheap to dear.

    >>> [c.name for c in pareto_front([Candidate("a", 1, 0.9), Candidate("b", 2, 0.95), Candidate("c", 3, 0.8)])]
    ['a', 'c']
    """
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.cost, one.loss)):
        if not front or candidate.loss < front[-1].loss:
            front.append(candidate)
    return front


def pareto_chart(
    title: str, caption: str, candidates: Sequence[Candidate], cost: str, loss: str, name: str = "cost"
) -> tuple[Chart, Table]:
    """Cost (logarithmic) against loss with the Pareto front joined, and the table `name` behind it."""
    front = pareto_front(candidates)
    columns = (
        Column("model", ""), Column("cost", cost, 3), Column("loss", loss, 4), *interval_columns(4),
        Column("front", "on the Pareto front"),
    )  # fmt: skip
    rows = tuple(
        (one.name, one.cost, one.loss, one.low, one.high, one in front)
        for one in sorted(candidates, key=lambda one: one.cost)
    )
    chart = Chart("scatter", title, name, "cost", ("loss",), label="model", front="front", log_x=True, caption=caption)
    return chart, Table(name, title, columns, rows)
