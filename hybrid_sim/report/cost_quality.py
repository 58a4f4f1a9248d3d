"""What quality costs: models by what they take and by their error, and those that no other beats on both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_sim.report.page import Cell, Chart, Column, Table
from hybrid_sim.report.plots import Point, scatter_chart


@dataclass(frozen=True)
class Candidate:
    """A model: what it costs, and its loss with an interval where there is one."""

    name: str
    cost: float
    loss: float
    low: float | None = None
    high: float | None = None


def best_buys(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates for which no other is both as cheap and better, from cheap to dear.

    >>> [c.name for c in best_buys([Candidate("a", 1, 0.9), Candidate("b", 2, 0.95), Candidate("c", 3, 0.8)])]
    ['a', 'c']
    """
    found: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.cost, one.loss)):
        if not found or candidate.loss < found[-1].loss:
            found.append(candidate)
    return found


def frontier(
    name: str, title: str, caption: str, candidates: Sequence[Candidate], cost: str, loss: str, named: int = 12
) -> Chart:
    """Cost (logarithmic) against loss; the best buys are joined, and named where there are many candidates."""
    front = best_buys(candidates)
    floor = min((one.cost for one in candidates if one.cost > 0), default=1.0)
    points = [
        Point(
            _log(one.cost, floor),
            one.loss,
            f"{one.name}: {one.cost:.3g} {cost}, {loss} {one.loss:.4f}",
            one.name if one in front or len(candidates) <= named else "",
            series=0 if one in front else 1,
            low=one.low if one in front else None,
            high=one.high if one in front else None,
        )
        for one in candidates
    ]
    drawing = scatter_chart(
        title,
        points,
        f"{cost}, as power of ten",
        loss,
        path=[(_log(one.cost, floor), one.loss) for one in front],
        series=("no other is as cheap and better", "another is"),
    )
    columns = (Column(""), Column(cost, 3), Column(loss, 4), Column("low", 4), Column("high", 4), Column("best buy"))
    rows: list[tuple[Cell, ...]] = [
        (one.name, one.cost, one.loss, one.low, one.high, one in front)
        for one in sorted(candidates, key=lambda one: one.cost)
    ]
    return Chart(title, drawing, Table(name, title, columns, tuple(rows)), caption)


def _log(cost: float, floor: float) -> float:
    return math.log10(max(cost, floor))
