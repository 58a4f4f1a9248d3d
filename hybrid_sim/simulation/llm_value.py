"""The value of a language model's ratings: which pairs to ask about, and how far they correct a prediction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.groups import place_in_group
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.ensemble.correction import AGREEMENT, MIN_ROWS, Correction, panel_places
from hybrid_sim.ensemble.out_of_fold import COLD_ITEM, WARM
from hybrid_sim.simulation.interviewer import LLMRatings, RatingRequest
from hybrid_sim.simulation.simulator import Prediction, Simulator

LLM_SOURCE = "llm+stat"
"""Source of a statistical prediction that was corrected by the language model's rating of the same pair."""
LLM_ITEM_SOURCE = "llm-item+stat"
"""Source of a prediction about a new item that was corrected by the model's ratings of the item for other users."""

POOLED_WEIGHT = 200.0
"""Weight of what an answer about a new item brings to all pairs of the item, next to its own pair (see
`expected_gain`): for the first answer 200 / (2.33 · 3.33) = 26 times as much."""

_SMALLEST_WEIGHT = 0.005
"""Below this a correction counts as worth nothing: two full levels of surprise would move a prediction by 0.01."""

MIN_GAIN = 0.02
"""Share of the squared error that a model's ratings must be able to explain to be worth calls: 2% of it are 1% of RMSE
and, for normal errors, .01 nats of log loss.

A weight of zero counts as found once the upper 95% confidence limit of that share is below this (`largest_gain`): of
models that are worth as much, one in twenty is given up by chance. Where ratings and errors are uncorrelated, that
takes n > 1.645² / MIN_GAIN = 135 known ratings; where they are negatively correlated, fewer."""

_log = logging.getLogger("hybrid_sim")


def pairs_to_ask(
    simulator: Simulator,
    dataset: Dataset,
    pairs: Pairs,
    statistical: RatingDistribution,
    share: float,
    items_per_call: int = 1,
) -> IntArray:
    """Rows of the pairs with the largest expected gain, for `share` of the calls that asking about all would take.

    The model can be asked about users with ratings and items with a text, about each pair once. The choice depends on
    no answer of the model, so that a plan and a resumed run choose the same pairs.
    """
    has_text = np.array([bool(text) for text in item_texts(dataset)])
    rows = np.flatnonzero(pairs.known)
    rows = rows[has_text[pairs.item[rows]] & (dataset.user_counts[pairs.user[rows]] > 0)]
    _, first = np.unique(pairs.take(rows).keys(dataset.n_items), return_index=True)
    rows = np.sort(rows[first])
    candidates = pairs.take(rows)
    n_item = simulator.ensemble_.support_.of(candidates).n_item
    gain = expected_gain(statistical.take(rows), n_item, panel_places(candidates))
    return rows[best_calls(candidates.user, gain, share, items_per_call)]


def expected_gain(statistical: RatingDistribution, n_item: FloatArray, turn: IntArray) -> FloatArray:
    """The expected reduction of squared error by an answer about each pair, up to a constant factor.

    With the standard deviation `s` of the statistical prediction, `n` ratings of the item and `t` earlier answers about
    it (`turn`), the gain is

        (s · (1 + 1 / (1 + n)))² · (1 + [n = 0] · POOLED_WEIGHT / ((t + λ) · (t + λ + 1))),   λ = (1 - ρ) / ρ

    The second factor is pooling over a panel: two users' surprises about a new item correlate by ρ = `AGREEMENT`, so
    the shrunken mean of `t` of them explains t / (t + λ) of the item's variance for all users, and one more answer adds
    λ / ((t + λ) · (t + λ + 1)). New items are therefore asked about in turn. On recorded ratings a fifth of the calls
    brought most of the gain for new items and a quarter of it for others, for which learned rules did no better
    (`experiments/selective.py`).
    """
    own = (statistical.std() * (1.0 + 1.0 / (1.0 + n_item))) ** 2
    shrinkage = (1.0 - AGREEMENT) / AGREEMENT
    pooled = POOLED_WEIGHT / ((turn + shrinkage) * (turn + shrinkage + 1.0))
    return np.asarray(own * np.where(n_item == 0, 1.0 + pooled, 1.0))


def best_calls(users: IntArray, gain: FloatArray, share: float, items_per_call: int) -> IntArray:
    """Rows of the calls with the largest total gain: `share` of all calls, at least one if `share` is not zero.

    A call holds up to `items_per_call` rows of one user, those with the largest gain together. It costs nearly the same
    however many it holds, so full calls come before others.

    >>> best_calls(np.array([7, 7, 7, 8]), np.array([0.2, 0.9, 0.8, 1.0]), share=0.34, items_per_call=2)
    array([1, 2])
    """
    # Rows in descending order of gain fill the calls of their user one after the other.
    numbers = np.column_stack([users, place_in_group(users, -gain) // items_per_call])
    calls, call = np.unique(numbers, axis=0, return_inverse=True)
    total = np.bincount(call, gain, minlength=len(calls))
    n = max(round(share * len(total)), min(len(total), 1)) if share > 0 else 0
    return np.flatnonzero(np.isin(call, np.argsort(-total, kind="stable")[:n]))


def can_learn(simulator: Simulator, requests: Sequence[RatingRequest]) -> bool:
    """Whether enough of the requested ratings have an out-of-fold prediction; a warning says so if not.

    Ratings that came later, with `hybrid_sim.simulation.refit`, have none.
    """
    n = int(simulator.ensemble_.out_of_fold(LLMRatings.none_yet(requests, 1).pairs).answered.sum())
    if n < MIN_ROWS:
        _log.warning(
            "to learn what the model's ratings are worth, %d known ratings with an out-of-fold prediction are needed; "
            "there are %d, so the model is not asked about them and changes no prediction (raise rating.learn_from; "
            "fit again if the simulator was refitted to later ratings)",
            MIN_ROWS,
            n,
        )
    return n >= MIN_ROWS


@dataclass(frozen=True)
class LLMValue:
    """How far the model's ratings correct a prediction: one correction for warm pairs, one for new items.

    That for new items is pooled: it holds for all users with ratings, asked about or not (see `Correction`). About
    users without ratings nothing can be learned, since all users of the calibration requests have some; their
    predictions stay statistical. `n_ratings` says from how many known ratings each correction was learned; 0: there
    were too few.
    """

    warm: Correction
    cold: Correction
    n_ratings: tuple[int, int] = (0, 0)

    @classmethod
    def learn(cls, simulator: Simulator, dataset: Dataset, answers: LLMRatings) -> Self:
        """Learn from answers about known ratings, next to the out-of-fold predictions of the same ratings."""
        llm, pairs = answers.distribution(dataset.scale), answers.pairs
        ratings = dataset.rating_of(pairs)
        corrections, n_ratings = [], []
        for cold, what in ((False, "prediction"), (True, "prediction of new items")):
            out_of_fold = simulator.ensemble_.out_of_fold(pairs, cold=cold)
            corrections.append(Correction(new_items=cold).fit(out_of_fold, llm, pairs, ratings))
            n = int((llm.answered & out_of_fold.answered).sum())
            n_ratings.append(n if n >= MIN_ROWS else 0)
            if n < MIN_ROWS and llm.answered.any():
                _log.warning(
                    "the model rated %d known pairs from which its value can be learned, %d are needed: it changes no "
                    "%s (settings rating.learn_from and rating.items_per_call say how many are asked)",
                    n,
                    MIN_ROWS,
                    what,
                )
        value = cls(corrections[0], corrections[1], (n_ratings[0], n_ratings[1]))
        for correction in value.about():
            if correction["is_useless"]:
                _log.warning(correction["sentence"])
        return value

    def about(self) -> list[dict[str, Any]]:
        """The corrections in plain JSON: which predictions, the weights, from how many ratings, and a sentence."""
        rows = []
        kinds = zip(("predictions", "predictions of new items"), (self.warm, self.cold), self.n_ratings, strict=True)
        for kind, correction, n in kinds:
            weights = correction.worth_.tolist()
            is_useless = max(weights) < _SMALLEST_WEIGHT and correction.largest_gain_ < MIN_GAIN
            shown = " and ".join(f"{weight:.2f}" for weight in weights)
            basis = f"learned from {n:,} known ratings" if n else f"fewer than {MIN_ROWS} known ratings to learn from"
            sentence = f"{kind}: weight {shown} of the language model's ratings, {basis}"
            sentence += "; worth nothing, so it is not asked about them" if is_useless else ""
            row = {"of": kind, "weights": weights, "ratings": n, "largest_gain": correction.largest_gain_}
            rows.append({**row, "is_useless": is_useless, "sentence": sentence})
        return rows

    def may_help(self, simulator: Simulator, pairs: Pairs) -> NDArray[np.bool_]:
        """Which pairs the model's ratings may move: not those for which they were found to be worth nothing."""
        regimes = simulator.ensemble_.support_.of(pairs).regime
        helps = np.ones(len(pairs), dtype=bool)
        for kinds, row in zip((WARM, COLD_ITEM), self.about(), strict=True):
            if row["is_useless"]:
                helps &= ~np.isin(regimes, kinds)
        return helps

    def correct(
        self, prediction: Prediction, simulator: Simulator, pairs: Pairs, llm: RatingDistribution
    ) -> Prediction:
        """The corrected prediction; rows without a correction stay as they are, to the last bit."""
        before = prediction.distribution
        regimes = simulator.ensemble_.support_.of(pairs).regime
        probs = before.probs.copy()
        low, high, source = prediction.low.copy(), prediction.high.copy(), prediction.source.copy()
        for correction, kinds in ((self.warm, WARM), (self.cold, COLD_ITEM)):
            here = np.flatnonzero(np.isin(regimes, kinds))
            after = correction.apply(before.take(here), llm.take(here), pairs.take(here))
            # Intervals are computed anew for changed rows only, so that all others keep theirs to the last bit.
            moved = (after.probs != before.probs[here]).any(axis=1)
            rows, after = here[moved], after.take(moved)
            interval = simulator.ensemble_.interval(pairs.take(rows), after)
            probs[rows], low[rows], high[rows] = after.probs, interval.low, interval.high
            source[rows] = np.where(llm.answered[rows], LLM_SOURCE, LLM_ITEM_SOURCE)
        distribution = RatingDistribution(before.scale, probs)
        return replace(prediction, distribution=distribution, low=low, high=high, source=source)
