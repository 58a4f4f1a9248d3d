"""Explanations of predictions: contributions that sum to the expected rating, cited ratings of the user, a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset, encoded
from hybrid_sim.core.files import shortened
from hybrid_sim.core.frames import Framed
from hybrid_sim.core.types import Pairs, RatingScale
from hybrid_sim.core.user_state import Histories
from hybrid_sim.ensemble.contributions import LEVEL, LLM, QUALITY, REST, SENTENCES, Contributions
from hybrid_sim.retrieval.content_gp import ContentGP
from hybrid_sim.retrieval.evidence import Evidence, EvidenceFinder, Grounds
from hybrid_sim.simulation.simulator import Prediction, Simulator

ROUNDING = 1e-9
"""Two ways of adding up the same prediction may differ by this much, in rating units."""

MIN_PART = 1e-12
"""A smaller contribution is rounding and is left out."""


MIN_MENTIONED = 0.075
"""Contributions below this part of a quarter of the scale's range are not mentioned."""

AVERAGES = ("base", LEVEL, QUALITY, REST)
"""Groups of contributions that are not named beside the averages of user and item."""

N_CITED, N_KEYWORDS = 2, 3
"""Ratings and keywords that are named for and against the item."""


@dataclass(frozen=True)
class Explanation:
    """The explanation of one prediction.

    `reason` is the language model's where it gave one (`by` is then "llm"), else a few sentences made from the numbers
    ("statistics"). `contributions` of groups of members, in rating units, sum to the expected rating; those of zero are
    left out (see `Contributions.grouped`; `Ensemble.contributions` has those of each member). `evidence` cites the
    user's own ratings; `keywords` and `against` are what their items share with this one, liked and disliked.
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
    means is then the contribution `language model`. `dataset` is what the simulator was fitted to; without it no
    ratings are cited, nor are they if the ensemble has no member of the kind `content_gp`. `reasons` are the language
    model's, one per row, "" where it gave none.

        hs.explain(simulator, simulator.predict(["u0001"], ["f0001"]), data)[0].reason

    Raises:
        SettingsError: the simulator was fitted to other data.
    """
    if dataset is not None:
        simulator.require_fitted_to(dataset)
    pairs = encoded(simulator.user_ids_, simulator.item_ids_, prediction.user_ids, prediction.item_ids)
    contributions = _contributions(simulator, prediction, pairs)
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


def _contributions(simulator: Simulator, prediction: Prediction, pairs: Pairs) -> Contributions:
    """Contributions of groups that sum to the means of `prediction`.

    Where the simulator's fallback answers, its mean is the whole `base`.
    """
    ensemble = simulator.ensemble_.contributions(pairs)
    known = simulator.item_known_[pairs.item] | simulator.user_known_[pairs.user]
    by_fallback = np.isnan(ensemble.amounts[:, 0]) | ~known
    amounts = np.where(by_fallback[:, None], 0.0, ensemble.amounts)
    base, remainder = ensemble.names.index("base"), ensemble.names.index("calibration")
    amounts[by_fallback, base] = simulator.fallback_.rate(pairs.take(by_fallback)).mean()
    gap = prediction.distribution.mean() - amounts.sum(axis=1)
    # A larger gap is the language model's correction; what is below is rounding, and counts as calibration.
    corrected = np.abs(gap) > ROUNDING
    amounts[:, remainder] += np.where(corrected, 0.0, gap)
    whole = Contributions(ensemble.names, amounts).with_column("llm", np.where(corrected, gap, 0.0))
    support = simulator.ensemble_.support_
    item = np.where(support.n_item_[pairs.item] > 0, 2, simulator.item_known_[pairs.item])
    return whole.grouped(support.n_user_[pairs.user] > 0, item)


def _facts(simulator: Simulator, prediction: Prediction, dataset: Dataset | None, pairs: Pairs) -> list[Facts]:
    """Mean, interval and support of each pair."""
    titles = list(prediction.item_ids)
    if dataset is not None and "title" in dataset.items:
        of_items = np.append(dataset.items["title"].to_numpy(dtype=object), "")[pairs.item]
        titles = [title or item_id for title, item_id in zip(of_items, titles, strict=True)]
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
    for user, rows in pairs.rows_by_user().items():
        for row, about in zip(rows.tolist(), finder.about(histories.of(user), pairs.item[rows]), strict=True):
            grounds[row] = about
    return grounds


@dataclass(frozen=True)
class Facts:
    """One prediction: its mean and interval, and whether user and item have ratings, or the item a text."""

    scale: RatingScale
    name: str
    mean: float
    low: float
    high: float
    user_rated: bool
    item_rated: bool
    item_known: bool

    @property
    def unit(self) -> float:
        """A quarter of the scale's range: one star of five."""
        return (self.scale.high - self.scale.low) / 4.0

    def number(self, amount: float) -> str:
        """With as many decimals as the scale deserves: a tenth of a star of five, a whole point of a hundred."""
        decimals = 0 if self.unit > 10 else 1 if self.unit >= 0.5 else 2
        return f"{amount:.{decimals}f}"


def plain_reason(facts: Facts, contributions: Mapping[str, float], grounds: Grounds) -> str:
    """The sentences, the main point first and the source last.

    >>> from hybrid_sim.models.registry import OTHERS
    >>> facts = Facts(RatingScale((1, 2, 3, 4, 5)), "Alien", 4.3, 4.0, 5.0, True, True, True)
    >>> plain_reason(facts, {"base": 3.5, LEVEL: 0.5, OTHERS: 0.3}, Grounds())[:64]
    'Alien: 4.3 is expected, and this is quite sure (4 to 5). The use'
    """
    parts = [
        _expectation(facts),
        _averages(facts, contributions),
        _largest(facts, contributions),
        _cited(grounds.evidence),
        _keywords(grounds),
        _source(contributions),
    ]
    return " ".join(part for part in parts if part)


def _expectation(facts: Facts) -> str:
    width = (facts.high - facts.low) / (facts.scale.high - facts.scale.low)
    sure = "quite sure" if width <= 0.3 else "fairly sure" if width <= 0.6 else "not sure"
    span = f"{facts.low:g}" if width == 0 else f"{facts.low:g} to {facts.high:g}"
    return f"{shortened(facts.name)}: {facts.number(facts.mean)} is expected, and this is {sure} ({span})."


def _averages(facts: Facts, contributions: Mapping[str, float]) -> str:
    user = f"The user rates {_compared(contributions.get(LEVEL, 0.0), facts)}"
    item = f"the item is rated {_compared(contributions.get(QUALITY, 0.0), facts)}"
    if not facts.user_rated and not facts.item_rated:
        basis = "what it is about is all there is to go by" if facts.item_known else "nothing else is known"
        return f"There are no ratings by this user and none of this item; {basis}."
    if not facts.user_rated:
        return f"There are no ratings by this user; {item}."
    if not facts.item_rated:
        basis = "nobody has rated the item yet" if facts.item_known else "the item is not known"
        return f"{user}; {basis}."
    return f"{user}, and {item}."


def _compared(amount: float, facts: Facts) -> str:
    if abs(amount) < MIN_MENTIONED * facts.unit:
        return "about as usual"
    return f"{facts.number(abs(amount))} {'higher' if amount > 0 else 'lower'} than usual"


def _largest(facts: Facts, contributions: Mapping[str, float]) -> str:
    """The two sources that move the prediction most, beyond the averages."""
    moved = {group: amount for group, amount in contributions.items() if group not in AVERAGES}
    largest = sorted(moved, key=lambda group: (-abs(moved[group]), group))[:2]
    changes = [
        f"{'raised' if moved[group] > 0 else 'lowered'} by {facts.number(abs(moved[group]))} by "
        f"{SENTENCES.get(group, group)}"
        for group in largest
        if abs(moved[group]) >= MIN_MENTIONED * facts.unit
    ]
    return f"This is {' and '.join(changes)}." if changes else ""


def _cited(evidence: Sequence[Evidence]) -> str:
    """The strongest ratings on either side, the stronger side first."""
    sides = {"for": [e for e in evidence if e.contribution > 0], "against": [e for e in evidence if e.contribution < 0]}
    order = sorted(sides, key=lambda side: -abs(sum(e.contribution for e in sides[side])))
    return " ".join(_side(side, sides[side][:N_CITED]) for side in order if sides[side])


def _side(side: str, cited: Sequence[Evidence]) -> str:
    ratings = " and ".join(f"{e.rating:g} for {shortened(e.title)}" for e in cited)
    return f"The user's {ratings} {'speaks' if len(cited) == 1 else 'speak'} {side} it."


def _keywords(grounds: Grounds) -> str:
    sides = {"liked": grounds.keywords[:N_KEYWORDS], "disliked": grounds.against[:N_KEYWORDS]}
    parts = [f"{', '.join(keywords)} ({side})" for side, keywords in sides.items() if keywords]
    return f"In common with these: {'; '.join(parts)}." if parts else ""


def _source(contributions: Mapping[str, float]) -> str:
    if LLM in contributions:
        return "Source: statistics, corrected by a language model."
    if set(contributions) == {"base"}:
        return "Source: the mean of all ratings."
    return "Source: statistics."
