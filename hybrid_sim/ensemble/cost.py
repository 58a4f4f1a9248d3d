"""What fitting an ensemble takes, estimated before anything is fitted, and the members that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.memory import room, shown_size
from hybrid_sim.core.parallel import n_workers
from hybrid_sim.core.rater import FitCost, Rater, fit_cost

HOLD_OUTS, LEARNED_FROM, ASKED_ABOUT = 8, 6.3, 1.7
"""Inner hold-outs, the ratings that they learn from and those that they are asked about, in sizes of the data set."""

KEPT = 0.2
"""The part of a member's memory that stays when it is fitted: one of five matrices of KNN, less of the others."""

WORTH_SAYING = FitCost(1e8, 30.0)
"""Less is not said."""

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class EnsembleCost:
    """`members` holds one fit of each member; `total` all fits, out-of-fold predictions and combiner included."""

    members: dict[str, FitCost]
    total: FitCost


def ensemble_cost(members: Mapping[str, Rater], dataset: Dataset, n_jobs: int | None) -> EnsembleCost:
    """The cost of fitting `members` to `dataset` with `n_jobs` fits at a time.

    The largest are counted, a member in all hold-outs at once. Beside the fits there are the parts of the ratings that
    the hold-outs learn from, 32 bytes each, and of each rating asked about: 40 bytes per member, 80 per level.
    """
    costs = {name: fit_cost(member, dataset) for name, member in members.items()}
    fits = sorted((cost.memory for cost in costs.values() for _ in range(1 + HOLD_OUTS)), reverse=True)
    kept = KEPT * sum(cost.memory for cost in costs.values())
    of_rows = 32.0 * LEARNED_FROM + ASKED_ABOUT * (40.0 * len(costs) + 80.0 * dataset.scale.n_levels)
    seconds = (1 + HOLD_OUTS) * sum(cost.seconds for cost in costs.values()) + 2e-4 * len(dataset)
    return EnsembleCost(costs, FitCost(sum(fits[: n_workers(n_jobs)]) + kept + of_rows * len(dataset), seconds))


def affordable(
    members: Mapping[str, Rater], dataset: Dataset, n_jobs: int | None, memory: float | None = None
) -> dict[str, Rater]:
    """The members that can be fitted within `memory` bytes, the largest left out until the rest fits; logs the cost.

    Without `memory` none is left out.

    Raises:
        SettingsError: not even the smallest member fits; without `memory`: the members together do not fit.
    """
    left = dict(members)
    cost = ensemble_cost(left, dataset, n_jobs)
    while memory is not None and cost.total.memory > memory:
        name = max(left, key=lambda one: cost.members[one].memory)
        total, of_member, given = map(shown_size, (cost.total.memory, cost.members[name].memory, memory))
        needs = f"fitting takes about {total} of memory, {of_member} of it each fit of {name}"
        if len(left) == 1:
            raise SettingsError(f"{needs}, more than the {given} of --memory; give more, or use fewer ratings")
        _log.warning("%s is left out: with it %s, more than the %s of --memory", name, needs, given)
        del left[name]
        cost = ensemble_cost(left, dataset, n_jobs)
    largest = sorted(cost.members, key=lambda one: -cost.members[one].memory)[:3]
    names = ", ".join(f"{name} {shown_size(cost.members[name].memory)}" for name in largest)
    takes = f"about {shown_size(cost.total.memory)} of memory (a fit of {names})"
    available = room()
    if memory is None and cost.total.memory > available.size:
        has = shown_size(available.size)
        raise SettingsError(
            f"fitting takes {takes}, but {available.bound} leaves {has}; --memory {has.replace(' ', '')} leaves out "
            "members that do not fit, --members names others, --jobs 1 fits one at a time"
        )
    if cost.total.memory > WORTH_SAYING.memory or cost.total.seconds > WORTH_SAYING.seconds:
        _log.info("fitting takes %s and %s CPU", takes, _duration(cost.total.seconds))
    return left


def _duration(seconds: float) -> str:
    """A rough duration: `12 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(seconds, 1.0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
