"""The corrections and the rules that `selective.py` compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, RatingDistribution
from hybrid_sim.ensemble.correction import Correction, cross_fitted_correction, panel_places
from hybrid_sim.simulation.llm_value import expected_gain

N_PARTS = 5
"""Folds of the cross-fit."""


@dataclass(frozen=True)
class Case:
    """The held-out pairs of one fold that the LLM rated; `group` is what the cross-fit and the bootstrap keep whole."""

    protocol: str
    fold: int
    held: Dataset
    group: IntArray
    statistical: RatingDistribution
    llm: RatingDistribution
    shuffled: RatingDistribution
    foreseen: RatingDistribution
    """Corrected by what was learned from the fold's training ratings alone, those that the LLM rated too."""
    disagreement: FloatArray
    """Standard deviation of the members' expected ratings."""
    n_user: FloatArray
    n_item: FloatArray

    @property
    def new_items(self) -> bool:
        """Whether nobody has rated the items."""
        return self.protocol == "cold-items"

    def drawn(self, draw: int) -> Case:
        """The same case with its users numbered anew: chances that rest on numbers (`panel_places`) fall otherwise."""
        numbers = stream(draw, "numbers").permutation(self.held.n_users)
        return replace(self, held=replace(self.held, user=numbers[self.held.user]))


def ours(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """The correction of the package."""
    return cross_fitted_correction(case.statistical, llm, case.held, seed, new_items=case.new_items)


def pair_by_pair(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """Ours without what is said about a new item to others: each answer moves its own pair alone."""
    return crossed(case, Correction(), llm, llm, seed)


def crossed(
    case: Case, correction: Correction, learned_from: RatingDistribution, heard: RatingDistribution, seed: int
) -> RatingDistribution:
    """A cross-fitted correction that is learned from some answers and moves by others."""
    probs, pairs = case.statistical.probs.copy(), case.held.pairs
    part = parts(case, seed)
    for k in range(N_PARTS):
        learn, apply = part != k, part == k
        correction.fit(
            case.statistical.take(learn), learned_from.take(learn), pairs.take(learn), case.held.rating[learn]
        )
        probs[apply] = correction.apply(case.statistical.take(apply), heard.take(apply), pairs.take(apply)).probs
    return RatingDistribution(case.statistical.scale, probs)


def parts(case: Case, seed: int, name: str = "correction") -> IntArray:
    """Which part of the cross-fit each pair is in: whole users, of new items whole items."""
    labels, group = np.unique(case.group, return_inverse=True)
    return np.asarray((stream(seed, name).permutation(len(labels)) % N_PARTS)[group])


def former(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """The correction that this experiment replaced: a ridge on the rating, its distance times doubt, and doubt."""
    mean, doubt = case.statistical.mean(), case.statistical.std() - 1.0
    features = np.column_stack([llm.mean(), (llm.mean() - mean) * doubt, doubt])
    return ridge_correction(case, features, seed, centred=True)


def lenient(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """Ours, with what the LLM says of each user on average told apart from what it says of this item."""
    surprise, user = surprises(case, llm), case.held.user
    own = (np.bincount(user, surprise) / (np.bincount(user) + 3.0))[user]
    return ridge_correction(case, np.column_stack([surprise - own, own]), seed)


def by_support(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """Ours, with a further slope for items with few ratings."""
    surprise = surprises(case, llm)
    return ridge_correction(case, np.column_stack([surprise, surprise / (1.0 + case.n_item)]), seed)


def by_spread(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """Ours, in proportion to the spread of the statistical answer."""
    return ridge_correction(case, (case.statistical.std() * surprises(case, llm))[:, None], seed)


def tempered(case: Case, llm: RatingDistribution, seed: int) -> RatingDistribution:
    """Ours, with surprises beyond one level cut off."""
    return ridge_correction(case, np.clip(surprises(case, llm), -1.0, 1.0)[:, None], seed)


def surprises(case: Case, llm: RatingDistribution) -> FloatArray:
    """What the LLM said beyond a least-squares guess from the statistical answer; needs no true ratings."""
    known = np.column_stack([np.ones(len(llm)), case.statistical.mean(), case.statistical.std()])
    return np.asarray(llm.mean() - known @ np.linalg.lstsq(known, llm.mean())[0])


def ridge_correction(case: Case, features: FloatArray, seed: int, centred: bool = False) -> RatingDistribution:
    """A cross-fitted ridge of the errors on any features, for comparison."""
    part = parts(case, seed)
    error, moved = case.held.rating - case.statistical.mean(), case.statistical.mean()
    for k in range(N_PARTS):
        learn = part != k
        centre = features[learn].mean(axis=0) * centred
        design = features[learn] - centre
        strength = 200.0 if centred else Correction().strength
        penalty = strength * np.diag(np.maximum((design**2).mean(axis=0), 1e-9))
        slopes = np.linalg.solve(design.T @ design + penalty, design.T @ error[learn])
        moved[~learn] += (features[~learn] - centre) @ slopes
    return case.statistical.tilted_to(moved)


VARIANTS: Mapping[str, Callable[..., RatingDistribution]] = {
    "ours": ours,
    "pair by pair": pair_by_pair,
    "former": former,
    "times spread": by_spread,
    "slope by support": by_support,
    "leniency apart": lenient,
    "tempered": tempered,
}


def scores(case: Case, shift: FloatArray) -> dict[str, FloatArray]:
    """How much each rule hopes for from asking about each pair, at least 0; all but the last two know no LLM rating."""
    variance, wobble = case.statistical.std() ** 2, case.disagreement
    error = case.held.rating - case.statistical.mean()
    return {
        "fullest calls": np.ones(len(error)),
        "widest": variance,
        "rarest item": 1.0 / (1.0 + case.n_item),
        "all items in turn": 1.0 / (1.0 + panel_places(case.held.pairs)),
        "members disagree": wobble**2,
        "default: widest, new items in turn": expected_gain(
            case.statistical, case.n_item, panel_places(case.held.pairs)
        ),
        "widest · disagreement": variance * wobble,
        "learned (ridge)": learned(case, shift, trees=False),
        "learned (trees)": learned(case, shift, trees=True),
        "knows the answer": shift**2,
        "knows the truth": error**2 - (error - shift) ** 2,
    }


def learned(case: Case, shift: FloatArray, trees: bool) -> FloatArray:
    """The squared shift as it is expected before asking, learned from the other users (items) of the fold."""
    from lightgbm import LGBMRegressor

    mean, spread = case.statistical.mean(), case.statistical.std()
    rare = 1.0 / (1.0 + case.n_item)
    raw = [spread, spread**2, case.disagreement, mean, mean**2, rare, np.sqrt(rare), np.log1p(case.n_user)]
    features = np.column_stack([(column - column.mean()) / (column.std() + 1e-9) for column in raw])
    part = parts(case, 0, "rule")
    target, found = shift**2, np.empty(len(mean))
    for k in range(N_PARTS):
        learn = part != k
        design, goal = features[learn], target[learn] - target[learn].mean()
        if trees:
            model = LGBMRegressor(
                n_estimators=80, num_leaves=8, learning_rate=0.05, min_child_samples=200, verbose=-1, n_jobs=1
            )
            found[~learn] = np.asarray(model.fit(design, goal).predict(features[~learn]))
        else:
            slopes = np.linalg.solve(design.T @ design + 200.0 * np.eye(design.shape[1]), design.T @ goal)
            found[~learn] = features[~learn] @ slopes
    return found
