"""Explanations in a few plain sentences, made from the contributions and the cited ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid_sim.core.files import shortened
from hybrid_sim.core.types import RatingScale
from hybrid_sim.models.registry import registered_members
from hybrid_sim.retrieval.evidence import Evidence, Grounds

MIN_MENTIONED = 0.075
"""Contributions below this part of a quarter of the scale's range are not mentioned."""

N_CITED, N_KEYWORDS = 2, 3
"""Ratings and keywords that are named for and against the item."""


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

    >>> facts = Facts(RatingScale((1, 2, 3, 4, 5)), "Alien", 4.3, 4.0, 5.0, True, True, True)
    >>> plain_reason(facts, {"base": 3.5, "user mean": 0.5, "svd": 0.3}, Grounds())[:64]
    'Alien: 4.3 is expected, and this is quite sure (4 to 5). The use'
    """
    parts = [
        _expectation(facts),
        _averages(facts, contributions),
        _largest(facts, contributions),
        _cited(grounds.evidence),
        _tags(grounds),
        _source(contributions),
    ]
    return " ".join(part for part in parts if part)


def _expectation(facts: Facts) -> str:
    width = (facts.high - facts.low) / (facts.scale.high - facts.scale.low)
    sure = "quite sure" if width <= 0.3 else "fairly sure" if width <= 0.6 else "not sure"
    span = f"{facts.low:g}" if width == 0 else f"{facts.low:g} to {facts.high:g}"
    return f"{shortened(facts.name)}: {facts.number(facts.mean)} is expected, and this is {sure} ({span})."


def _averages(facts: Facts, contributions: Mapping[str, float]) -> str:
    user = f"The user rates {_compared(contributions.get('user mean', 0.0), facts)}"
    item = f"the item is rated {_compared(contributions.get('item mean', 0.0), facts)}"
    if not facts.user_rated and not facts.item_rated:
        known = "what it is about is all there is to go by" if facts.item_known else "nothing else is known"
        return f"There are no ratings by this user and none of this item; {known}."
    if not facts.user_rated:
        return f"There are no ratings by this user; {item}."
    if not facts.item_rated:
        known = "nobody has rated the item yet" if facts.item_known else "the item is not known"
        return f"{user}; {known}."
    return f"{user}, and {item}."


def _compared(amount: float, facts: Facts) -> str:
    if abs(amount) < MIN_MENTIONED * facts.unit:
        return "about as usual"
    return f"{facts.number(abs(amount))} {'higher' if amount > 0 else 'lower'} than usual"


def _largest(facts: Facts, contributions: Mapping[str, float]) -> str:
    """The two sources that move the prediction most, beyond the averages."""
    source_of = {member.name: entry.explanation for entry, member in registered_members() if entry.explanation}
    source_of["llm"] = "the language model"
    moved: dict[str, float] = {}
    for name, amount in contributions.items():
        if name in source_of:
            moved[source_of[name]] = moved.get(source_of[name], 0.0) + amount
    largest = sorted(moved, key=lambda source: (-abs(moved[source]), source))[:2]
    words = [
        f"{'raised' if moved[source] > 0 else 'lowered'} by {facts.number(abs(moved[source]))} by {source}"
        for source in largest
        if abs(moved[source]) >= MIN_MENTIONED * facts.unit
    ]
    return f"This is {' and '.join(words)}." if words else ""


def _cited(evidence: Sequence[Evidence]) -> str:
    """The strongest ratings on either side, the stronger side first."""
    sides = {"for": [e for e in evidence if e.contribution > 0], "against": [e for e in evidence if e.contribution < 0]}
    order = sorted(sides, key=lambda side: -abs(sum(e.contribution for e in sides[side])))
    return " ".join(_side(side, sides[side][:N_CITED]) for side in order if sides[side])


def _side(side: str, cited: Sequence[Evidence]) -> str:
    ratings = " and ".join(f"{e.rating:g} for {shortened(e.title)}" for e in cited)
    return f"The user's {ratings} {'speaks' if len(cited) == 1 else 'speak'} {side} it."


def _tags(grounds: Grounds) -> str:
    sides = {"liked": grounds.keywords[:N_KEYWORDS], "disliked": grounds.against[:N_KEYWORDS]}
    parts = [f"{', '.join(words)} ({side})" for side, words in sides.items() if words]
    return f"In common with these: {'; '.join(parts)}." if parts else ""


def _source(contributions: Mapping[str, float]) -> str:
    if "llm" in contributions:
        return "Source: statistics, corrected by a language model."
    if set(contributions) == {"base"}:
        return "Source: the mean of all ratings."
    return "Source: statistics."
