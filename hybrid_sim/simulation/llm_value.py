"""What a language model's word is worth: where to ask for it, and how far it moves the statistical answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.ensemble.correction import AGREEMENT, MIN_ROWS, Correction, panel_places
from hybrid_sim.ensemble.out_of_fold_store import COLD_ITEM, WARM
from hybrid_sim.simulation.interviewer import Inquiry, Opinion, distribution_of
from hybrid_sim.simulation.simulator import Prediction, Simulator

LLM_SOURCE = "llm+stat"
"""The top rung of the fallback ladder: a language model's word corrected the statistical answer."""
LLM_ITEM_SOURCE = "llm-item+stat"
"""The next rung, for new items: it was asked about the item for other users, and this corrected the answer."""

FOR_ALL = 200.0
"""What the first answer about a new item is worth to all its pairs, beside what an answer is worth to its own pair: as
`FOR_ALL` divided by doubt times doubt plus one, 26. It falls with the doubt that the answers before it have left."""

_log = logging.getLogger("hybrid_sim")


def worth_asking(
    simulator: Simulator,
    dataset: Dataset,
    pairs: Pairs,
    statistical: RatingDistribution,
    share: float,
    items_per_call: int = 1,
) -> IntArray:
    """Rows of the pairs where a language model is expected to help most, for `share` of the calls that all would take.

    It can be asked about users with ratings and items with a text, about each pair once. The choice depends on no
    answer of the model, so that a plan and a run that is taken up again choose the same pairs.
    """
    has_text = np.array([bool(text) for text in item_texts(dataset)])
    known = np.flatnonzero(pairs.known)
    known = known[has_text[pairs.item[known]] & (dataset.user_counts[pairs.user[known]] > 0)]
    _, first = np.unique(pairs.take(known).keys(dataset.n_items), return_index=True)
    able = np.sort(known[first])
    asked = pairs.take(able)
    n_item = simulator.ensemble_.support_.of(asked).n_item
    help_ = expected_help(statistical.take(able), n_item, panel_places(asked))
    return able[best_calls(pairs.user[able], help_, share, items_per_call)]


def expected_help(statistical: RatingDistribution, n_item: FloatArray, turn: IntArray) -> FloatArray:
    """How much the model is expected to help with each pair, in proportion to the squared error that is left to it.

    That is the variance of the statistical answer, counted more the fewer ratings (`n_item`) the item has. What the
    model thinks of a new item counts for all its pairs, and the first answers tell most of it: new items are asked
    about in turn (`turn`, from 0). With recorded ratings a fifth of the calls brought most of the gain with new items,
    but a quarter of it with others, for which rules that were learned did no better (`experiments/selective.py`).
    """
    own = (statistical.std() * (1.0 + 1.0 / (1.0 + n_item))) ** 2
    doubt = (1.0 - AGREEMENT) / AGREEMENT
    for_all = FOR_ALL / ((turn + doubt) * (turn + doubt + 1.0))
    return np.asarray(own * np.where(n_item == 0, 1.0 + for_all, 1.0))


def best_calls(users: IntArray, help_: FloatArray, share: float, items_per_call: int) -> IntArray:
    """Rows of the calls that help most: `share` of the calls that all rows take, at least one if `share` is not zero.

    A call is about `items_per_call` rows of one user, those that need it most together. It costs nearly the same
    however many it holds, so full calls come before others.

    >>> best_calls(np.array([7, 7, 7, 8]), np.array([0.2, 0.9, 0.8, 1.0]), share=0.34, items_per_call=2)
    array([1, 2])
    """
    numbers = np.column_stack([users, place_in_group(users, -help_) // items_per_call])
    calls, call = np.unique(numbers, axis=0, return_inverse=True)
    total = np.bincount(call, help_, minlength=len(calls))
    n = max(round(share * len(total)), min(len(total), 1)) if share > 0 else 0
    chosen = np.argsort(-total, kind="stable")[:n]
    return np.flatnonzero(np.isin(call, chosen))


def can_teach(simulator: Simulator, known: Sequence[Inquiry]) -> bool:
    """Whether enough of these ratings were kept from the ensemble once, so that they can tell what a word is worth.

    If not, it is said: they may have come later, with `hybrid_sim.simulation.refit.taught`.
    """
    n = int(simulator.ensemble_.held_opinion(_pairs(known)).answered.sum())
    if n < MIN_ROWS:
        _log.warning(
            "to learn what the model's word is worth, %d known ratings are needed about which the simulator has an "
            "opinion from before it knew them; there are %d, so the model is not asked about them and changes no "
            "answer (raise rating.learn_from; fit again if the simulator was taught later ratings)",
            MIN_ROWS,
            n,
        )
    return n >= MIN_ROWS


def _pairs(asked: Sequence[Inquiry | Opinion]) -> Pairs:
    """Who was asked about what, one after the other."""
    users = np.repeat([one.state.user for one in asked], [len(one.items) for one in asked]).astype(np.int64)
    return Pairs(users, np.concatenate([np.zeros(0, dtype=np.int64), *(one.items for one in asked)]))


@dataclass(frozen=True)
class Worth:
    """What the model's word is worth: one correction where user and item were rated before, one for new items.

    Of a new item it holds for users too who were not asked about it (see `Correction`), if they have ratings. About
    users without any nothing can be learned: those that are asked about to learn all have some. Their answers stay
    statistical.
    """

    warm: Correction
    cold: Correction

    @classmethod
    def learn(cls, simulator: Simulator, dataset: Dataset, opinions: Sequence[Opinion]) -> Self:
        """Learn from opinions about known ratings of users, beside what the ensemble said while it missed them."""
        said = distribution_of(opinions, dataset.scale)
        pairs = _pairs(opinions)
        ratings = dataset.rating_of(pairs)
        corrections = []
        for cold, what in ((False, "answer"), (True, "answer about new items")):
            opinion = simulator.ensemble_.held_opinion(pairs, cold=cold)
            corrections.append(Correction(new_items=cold).fit(opinion, said, pairs, ratings))
            n = int((said.answered & opinion.answered).sum())
            if n < MIN_ROWS and said.answered.any():
                _log.warning(
                    "the model rated %d known pairs that tell what its word is worth, %d are needed: it changes no %s "
                    "(settings rating.learn_from and rating.items_per_call say how many are asked)",
                    n,
                    MIN_ROWS,
                    what,
                )
        return cls(*corrections)

    def correct(
        self, prediction: Prediction, simulator: Simulator, pairs: Pairs, said: RatingDistribution
    ) -> Prediction:
        """The prediction moved by what the model said; rows that it is not about stay as they are, to the last bit."""
        before = prediction.distribution
        regimes = simulator.ensemble_.support_.of(pairs).regime
        probs = before.probs.copy()
        low, high, source = prediction.low.copy(), prediction.high.copy(), prediction.source.copy()
        for correction, kinds in ((self.warm, WARM), (self.cold, COLD_ITEM)):
            here = np.flatnonzero(np.isin(regimes, kinds))
            after = correction.apply(before.take(here), said.take(here), pairs.take(here))
            moved = (after.probs != before.probs[here]).any(axis=1)
            rows, after = here[moved], after.take(moved)
            interval = simulator.ensemble_.interval(pairs.take(rows), after)
            probs[rows], low[rows], high[rows] = after.probs, interval.low, interval.high
            source[rows] = np.where(said.answered[rows], LLM_SOURCE, LLM_ITEM_SOURCE)
        distribution = RatingDistribution(before.scale, probs)
        return replace(prediction, distribution=distribution, low=low, high=high, source=source)
