"""Why a rating is predicted: parts that sum to it, the user's ratings that speak for and against it, and a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.history import Histories
from hybrid_sim.core.types import Pairs
from hybrid_sim.ensemble.contributions import Contributions
from hybrid_sim.retrieval.content_gp import ContentGP
from hybrid_sim.retrieval.evidence import Evidence, EvidenceFinder, Grounds
from hybrid_sim.simulation.explanation_text import Facts, plain_reason
from hybrid_sim.simulation.simulator import Prediction, Simulator

LEAST_SHIFT = 1e-9
"""By less than this, in rating units, two ways of adding up the same prediction may differ."""

NOTHING = 1e-12
"""A smaller part is rounding and is not shown."""


@dataclass(frozen=True)
class Explanation:
    """Why one rating is predicted.

    `reason` is the language model's where it gave one (`by` is then "llm"), else a few plain sentences made from the
    numbers ("statistics"). `contributions`, in rating units, sum to the expected rating; parts that are nothing are
    left out (names as in `hybrid_sim.ensemble.contributions.Contributions`). `evidence` cites the user's own ratings,
    `keywords` and `against` are what their items share with this one, liked and disliked.
    """

    user_id: str
    item_id: str
    reason: str
    by: Literal["llm", "statistics"]
    contributions: dict[str, float]
    evidence: tuple[Evidence, ...] = ()
    keywords: tuple[str, ...] = ()
    against: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; row numbers, which mean nothing outside the program, are left out."""
        evidence = [{key: part for key, part in asdict(cited).items() if key != "item"} for cited in self.evidence]
        return {**vars(self), "evidence": evidence, "keywords": list(self.keywords), "against": list(self.against)}


def explain(
    simulator: Simulator, prediction: Prediction, dataset: Dataset | None, reasons: Sequence[str] = ()
) -> list[Explanation]:
    """One explanation per row of `prediction`.

    The prediction is the simulator's own, or one that a language model's word has corrected: what the means then differ
    by is the contribution `llm`. `dataset` is what the simulator was fitted to; without it (None) no ratings are cited,
    nor are they if the ensemble has no member of the kind `content_gp`. `reasons` are the language model's, one per
    row, "" where it gave none.

    Raises:
        SettingsError: the simulator was fitted to other data.
    """
    if dataset is not None:
        simulator.require_fitted_to(dataset)
    pairs = _pairs(simulator, prediction)
    contributions = account(simulator, prediction)
    grounds = _grounds(simulator, dataset, pairs)
    facts = _facts(simulator, prediction, dataset, pairs)
    explanations = []
    for row, (user_id, item_id) in enumerate(zip(prediction.user_ids, prediction.item_ids, strict=True)):
        parts = {name: part for name, part in contributions.of_row(row).items() if abs(part) > NOTHING}
        reason = str(reasons[row]) if len(reasons) else ""
        told = reason or plain_reason(facts[row], parts, grounds[row])
        cited = (grounds[row].evidence, grounds[row].keywords, grounds[row].against)
        explanations.append(Explanation(user_id, item_id, told, "llm" if reason else "statistics", parts, *cited))
    return explanations


def account(simulator: Simulator, prediction: Prediction) -> Contributions:
    """Contributions that sum to the means of `prediction`; the last column, `llm`, is what corrected them.

    Where the simulator's fallback answers, its mean is the whole `base`.
    """
    pairs = _pairs(simulator, prediction)
    given = simulator.ensemble_.contributions(pairs)
    known = simulator.item_known_[pairs.item] | simulator.user_known_[pairs.user]
    alone = np.isnan(given.amounts[:, 0]) | ~known
    amounts = np.where(alone[:, None], 0.0, given.amounts)
    base, remainder = given.names.index("base"), given.names.index("calibration")
    amounts[alone, base] = simulator.fallback_.rate(pairs.take(alone)).mean()
    gap = prediction.distribution.mean() - amounts.sum(axis=1)
    moved = np.abs(gap) > LEAST_SHIFT
    amounts[:, remainder] += np.where(moved, 0.0, gap)
    return Contributions(given.names, amounts).with_column("llm", np.where(moved, gap, 0.0))


def _pairs(simulator: Simulator, prediction: Prediction) -> Pairs:
    return Pairs(
        simulator.user_ids_.get_indexer(pd.Index(prediction.user_ids, dtype=object)).astype(np.int64),
        simulator.item_ids_.get_indexer(pd.Index(prediction.item_ids, dtype=object)).astype(np.int64),
    )


def _facts(simulator: Simulator, prediction: Prediction, dataset: Dataset | None, pairs: Pairs) -> list[Facts]:
    """What is known of each pair beside the parts of its prediction."""
    titles = list(prediction.item_ids)
    if dataset is not None and "title" in dataset.items:
        known = np.append(dataset.items["title"].to_numpy(dtype=object), "")[pairs.item]
        titles = [title or item_id for title, item_id in zip(known, titles, strict=True)]
    support = simulator.ensemble_.support_
    columns = (
        titles,
        prediction.distribution.mean().tolist(),
        prediction.low.tolist(),
        prediction.high.tolist(),
        (support.n_user_[pairs.user] > 0).tolist(),
        (support.n_item_[pairs.item] > 0).tolist(),
        simulator.item_known_[pairs.item].tolist(),
    )
    return [Facts(prediction.distribution.scale, *row) for row in zip(*columns, strict=True)]


def _grounds(simulator: Simulator, dataset: Dataset | None, pairs: Pairs) -> list[Grounds]:
    """What each user's ratings say about the item; nothing about unknown ones."""
    process = next((m for m in simulator.ensemble_.members_.values() if isinstance(m, ContentGP)), None)
    found = [Grounds()] * len(pairs)
    if process is None or dataset is None:
        return found
    finder, histories = EvidenceFinder(process, dataset), Histories(dataset)
    known = np.flatnonzero((pairs.user >= 0) & (pairs.item >= 0))
    known = known[np.argsort(pairs.user[known], kind="stable")]
    users, starts = np.unique(pairs.user[known], return_index=True)
    for user, rows in zip(users.tolist(), np.split(known, starts[1:]), strict=False):
        for row, grounds in zip(rows.tolist(), finder.about(histories.of(user), pairs.item[rows]), strict=True):
            found[row] = grounds
    return found
