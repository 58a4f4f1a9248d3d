"""Explanations of predictions: contributions that sum to the expected rating, cited ratings of the user, a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.frames import Framed
from hybrid_sim.core.history import Histories
from hybrid_sim.core.types import Pairs
from hybrid_sim.ensemble.contributions import Contributions
from hybrid_sim.retrieval.content_gp import ContentGP
from hybrid_sim.retrieval.evidence import Evidence, EvidenceFinder, Grounds
from hybrid_sim.simulation.explanation_text import Facts, plain_reason
from hybrid_sim.simulation.simulator import Prediction, Simulator

ROUNDING = 1e-9
"""Two ways of adding up the same prediction may differ by this much, in rating units."""

MIN_PART = 1e-12
"""A smaller contribution is rounding and is left out."""


@dataclass(frozen=True)
class Explanation:
    """The explanation of one prediction.

    `reason` is the language model's where it gave one (`by` is then "llm"), else a few sentences made from the numbers
    ("statistics"). `contributions`, in rating units, sum to the expected rating; those of zero are left out (names as
    in `hybrid_sim.ensemble.contributions.Contributions`). `evidence` cites the user's own ratings; `keywords` and
    `against` are what their items share with this one, liked and disliked.
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


class Explanations(Framed, tuple[Explanation, ...]):
    """Explanations, one per row of a prediction."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Explanations({len(self):,} pairs)"

    def to_frame(self) -> pd.DataFrame:
        """A row per pair: user_id, item_id, reason, by, and a column of rating units per contribution."""
        plain = ("user_id", "item_id", "reason", "by")
        rows = [{**{name: getattr(one, name) for name in plain}, **one.contributions} for one in self]
        return pd.DataFrame(rows)


def explain(
    simulator: Simulator, prediction: Prediction, dataset: Dataset | None = None, reasons: Sequence[str] = ()
) -> Explanations:
    """The explanation of each row of `prediction`.

    The prediction is the simulator's own, or one that a language model's ratings have corrected: the difference of the
    means is then the contribution `llm`. `dataset` is what the simulator was fitted to; without it no ratings are
    cited, nor are they if the ensemble has no member of the kind `content_gp`. `reasons` are the language model's, one
    per row, "" where it gave none.

        hs.explain(simulator, simulator.predict(["u0001"], ["f0001"]), data)[0].reason

    Raises:
        SettingsError: the simulator was fitted to other data.
    """
    if dataset is not None:
        simulator.require_fitted_to(dataset)
    pairs = _pairs(simulator, prediction)
    contributions = contributions_of(simulator, prediction)
    grounds = _grounds(simulator, dataset, pairs)
    facts = _facts(simulator, prediction, dataset, pairs)
    explanations = []
    for row, (user_id, item_id) in enumerate(zip(prediction.user_ids, prediction.item_ids, strict=True)):
        parts = {name: part for name, part in contributions.of_row(row).items() if abs(part) > MIN_PART}
        reason = str(reasons[row]) if len(reasons) else ""
        text = reason or plain_reason(facts[row], parts, grounds[row])
        cited = (grounds[row].evidence, grounds[row].keywords, grounds[row].against)
        explanations.append(Explanation(user_id, item_id, text, "llm" if reason else "statistics", parts, *cited))
    return Explanations(explanations)


def contributions_of(simulator: Simulator, prediction: Prediction) -> Contributions:
    """Contributions that sum to the means of `prediction`; the last column, `llm`, is what corrected them.

    Where the simulator's fallback answers, its mean is the whole `base`.
    """
    pairs = _pairs(simulator, prediction)
    ensemble = simulator.ensemble_.contributions(pairs)
    known = simulator.item_known_[pairs.item] | simulator.user_known_[pairs.user]
    by_fallback = np.isnan(ensemble.amounts[:, 0]) | ~known
    amounts = np.where(by_fallback[:, None], 0.0, ensemble.amounts)
    base, remainder = ensemble.names.index("base"), ensemble.names.index("calibration")
    amounts[by_fallback, base] = simulator.fallback_.rate(pairs.take(by_fallback)).mean()
    gap = prediction.distribution.mean() - amounts.sum(axis=1)
    corrected = np.abs(gap) > ROUNDING
    amounts[:, remainder] += np.where(corrected, 0.0, gap)
    return Contributions(ensemble.names, amounts).with_column("llm", np.where(corrected, gap, 0.0))


def _pairs(simulator: Simulator, prediction: Prediction) -> Pairs:
    return Pairs(
        simulator.user_ids_.get_indexer(pd.Index(prediction.user_ids, dtype=object)).astype(np.int64),
        simulator.item_ids_.get_indexer(pd.Index(prediction.item_ids, dtype=object)).astype(np.int64),
    )


def _facts(simulator: Simulator, prediction: Prediction, dataset: Dataset | None, pairs: Pairs) -> list[Facts]:
    """Mean, interval and support of each pair."""
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
    """The evidence of each user's ratings about the item; none about unknown users and items."""
    process = next((m for m in simulator.ensemble_.members_.values() if isinstance(m, ContentGP)), None)
    grounds = [Grounds()] * len(pairs)
    if process is None or dataset is None:
        return grounds
    finder, histories = EvidenceFinder(process, dataset), Histories(dataset)
    known = np.flatnonzero(pairs.known)
    known = known[np.argsort(pairs.user[known], kind="stable")]
    users, starts = np.unique(pairs.user[known], return_index=True)
    for user, rows in zip(users.tolist(), np.split(known, starts[1:]), strict=False):
        for row, about in zip(rows.tolist(), finder.about(histories.of(user), pairs.item[rows]), strict=True):
            grounds[row] = about
    return grounds
