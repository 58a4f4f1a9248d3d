"""How every variant did on the held-out ratings of one fold, with and without the correction by an LLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.groups import permute_within_groups
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.ensemble.correction import cross_fitted_correction
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.ablation.combiner_steps import LEARN, Clock
from hybrid_sim.evaluation.ablation.variants import Subset, Variant
from hybrid_sim.evaluation.protocols import Fold
from hybrid_sim.evaluation.scores import Groups, Predictions, ablated_metrics, row_metrics
from hybrid_sim.models.recorded import Recorded, RecordedRatings

LLM, CORRECTION = "llm", "correction"

Key = tuple[Subset, bool]
"""Which components, and whether the LLM's ratings were shuffled within users: the control."""


@dataclass(frozen=True)
class VariantScores:
    """Scores of one variant on one fold.

    `sums` has shape `(n_groups, n_metrics + 1)`: losses by each of `ablated_metrics`, and number of ratings, of each
    user (or item). `seconds` are those of `Variant`, and of the correction.
    """

    n: int
    rmse: float
    log_loss: float
    ece: float
    sums: FloatArray
    seconds: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Scorer:
    """Scores variants on one fold; with a `recording` also as corrected by the LLM, and by its shuffled ratings.

    `switched` says whether the LLM is a component of its own; else its correction is part of every variant.
    """

    fold: Fold
    groups: Groups
    seed: int
    llm: RatingDistribution | None = None
    shuffled: RatingDistribution | None = None
    switched: bool = True

    @classmethod
    def of(cls, fold: Fold, groups: Groups, seed: int, recording: RecordedRatings | None, switched: bool) -> Scorer:
        """A scorer of this fold.

        Raises:
            SettingsError: none of its held-out pairs was recorded.
            ScaleError: a recorded rating is not on the scale.
        """
        if recording is None:
            return cls(fold, groups, seed)
        llm = Recorded(recording).fit(fold.train).rate(fold.held_out.pairs)
        if not llm.answered.any():
            raise SettingsError(
                f"fold {fold.number}: no held-out pair has an LLM rating; choose other folds with --folds, or leave "
                "--llm-ratings out"
            )
        return cls(fold, groups, seed, llm, _shuffled(llm, fold, seed), switched)

    @property
    def n_recorded(self) -> int:
        """Held-out pairs that the LLM has rated."""
        return 0 if self.llm is None else int(self.llm.answered.sum())

    def __call__(self, variant: Variant) -> list[tuple[Key, VariantScores]]:
        """The scores of a variant, under the name of each subset that it stands for."""
        components, plain = variant.components, variant.distribution
        if self.llm is None or self.shuffled is None:
            return [((components, False), self._score(plain, variant.seconds))]
        with_llm = components | ({LLM} if self.switched else set())
        scored = [((with_llm, False), self._corrected(variant, self.llm))]
        if self.switched:
            scored.append(((components, False), self._score(plain, variant.seconds)))
            scored.append(((with_llm, True), self._corrected(variant, self.shuffled)))
        return scored

    def _corrected(self, variant: Variant, llm: RatingDistribution) -> VariantScores:
        clock = Clock()
        with clock.running(CORRECTION, LEARN):
            held_out = self.fold.held_out
            new_items = self.groups == "items"
            corrected = cross_fitted_correction(variant.distribution, llm, held_out, self.seed, new_items=new_items)
        return self._score(corrected, {**variant.seconds, **clock.seconds})

    def _score(self, distribution: RatingDistribution, seconds: Mapping[str, tuple[float, float]]) -> VariantScores:
        held_out = self.fold.held_out
        predictions = Predictions("ensemble", held_out, distribution)
        losses = {name: row_metrics()[name](predictions) for name in ablated_metrics()}
        by_user = self.groups == "users"
        group, n_groups = (held_out.user, held_out.n_users) if by_user else (held_out.item, held_out.n_items)
        columns = (*losses.values(), np.ones(len(held_out)))
        return VariantScores(
            len(held_out),
            float(np.sqrt(losses["rmse"].mean())),
            float(losses["log_loss"].mean()),
            metrics.calibration_error(predictions.truth, distribution, "levels"),
            np.column_stack([np.bincount(group, column, minlength=n_groups) for column in columns]),
            seconds,
        )


def _shuffled(llm: RatingDistribution, fold: Fold, seed: int) -> RatingDistribution:
    """The same answers, dealt out at random among the held-out pairs of each user that have one."""
    rows = np.flatnonzero(llm.answered)
    source = permute_within_groups(fold.held_out.user[rows], derive_seed(seed, "control", fold.number))
    probs = llm.probs.copy()
    probs[rows] = llm.probs[rows[source]]
    return RatingDistribution(llm.scale, probs)
