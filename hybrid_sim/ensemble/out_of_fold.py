"""Predictions of ratings that the members were not trained on, which is what a combiner may learn from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.parallel import parallel_map
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.types import FloatArray, IntArray, Pairs
from hybrid_sim.models.hold_outs import HoldOut
from hybrid_sim.models.support import Support


@dataclass(frozen=True)
class Opinions:
    """What the members said about some pairs, and how much they had seen of user and item.

    `means` has shape `(n_pairs, n_members)`, NaN where a member abstained. `probs` holds the whole distributions of
    those members that are asked for them, shape `(n_pairs, n_shapes, n_levels)`.
    """

    means: FloatArray
    probs: NDArray[np.float32]
    support: Support

    def take(self, rows: NDArray[np.bool_] | IntArray) -> Opinions:
        """The opinions of these rows."""
        return Opinions(self.means[rows], self.probs[rows], self.support.take(rows))


@dataclass(frozen=True)
class Fitted:
    """Members fitted on everything, and their opinions about held-out rows of the same ratings.

    `of_new` marks the rows that were held out of users who were left a few ratings.
    """

    members: list[Rater]
    rows: IntArray
    opinions: Opinions
    of_new: NDArray[np.bool_]


def fit_members(
    members: Mapping[str, Rater],
    shapes: Sequence[str],
    dataset: Dataset,
    plans: Sequence[HoldOut],
    n_jobs: int | None,
) -> Fitted:
    """Fit every member on every plan's training rows and on all ratings; `n_jobs` at a time.

    Members are copied before they are fitted. The result does not depend on `n_jobs`.
    """
    parts = [dataset.take(plan.train_rows) for plan in plans]
    held = [dataset.pairs.take(plan.held_rows) for plan in plans]

    def work(name: str, plan: int) -> Any:
        """The member fitted on everything (plan -1), or its answer about the rows that the plan holds out."""
        member = copy.deepcopy(members[name])
        if plan < 0:
            return member.fit(dataset)
        return _answer(member.fit(parts[plan]), held[plan], name in shapes)

    slowest_first = [(name, plan) for name in reversed(list(members)) for plan in range(-1, len(plans))]
    results = parallel_map(work, slowest_first, n_jobs, "fitting members", [name for name, _ in slowest_first])
    done = dict(zip(slowest_first, results, strict=True))
    supports = [Support.of(part, pairs) for part, pairs in zip(parts, held, strict=True)]
    by_plan = [_gather([done[name, plan] for name in members], supports[plan]) for plan in range(len(plans))]
    return Fitted(
        [done[name, -1] for name in members],
        np.concatenate([plan.held_rows for plan in plans]),
        Opinions(
            np.concatenate([opinions.means for opinions in by_plan]),
            np.concatenate([opinions.probs for opinions in by_plan]),
            Support.concatenate(supports),
        ),
        np.concatenate([np.full(len(plan.held_rows), plan.of_new) for plan in plans]),
    )


def ask(members: Mapping[str, Rater], shapes: Sequence[str], pairs: Pairs, support: Support) -> Opinions:
    """The opinions of fitted members about `pairs`."""
    return _gather([_answer(member, pairs, name in shapes) for name, member in members.items()], support)


@dataclass(frozen=True)
class Answer:
    """One member's expected ratings, and its distributions if they were asked for."""

    means: FloatArray
    probs: NDArray[np.float32] | None


def _answer(member: Rater, pairs: Pairs, whole: bool) -> Answer:
    if not whole:
        return Answer(expected(member, pairs), None)
    distribution = member.rate(pairs)
    return Answer(distribution.mean(), distribution.probs.astype(np.float32))


def _gather(answers: Sequence[Answer], support: Support) -> Opinions:
    means = np.stack([answer.means for answer in answers], axis=1)
    return Opinions(means, np.stack([a.probs for a in answers if a.probs is not None], axis=1), support)
