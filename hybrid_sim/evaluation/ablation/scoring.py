"""How every variant did on the held-out ratings of each fold, and what each component is worth over all folds.

Shapley shares, leaving one out, adding one in: each is a weighted sum of the losses of variants, so that one bootstrap
of these losses serves all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Literal, get_args

import numpy as np

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.groups import permute_within_groups
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.ensemble.correction import cross_fitted_correction
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.ablation.report import EffectRow, FoldRow, SubsetRow, Waterfall, WaterfallStep
from hybrid_sim.evaluation.ablation.variants import LEARN, Clock, Subset, Variant, subsets
from hybrid_sim.evaluation.bootstrap import ResampledLosses
from hybrid_sim.evaluation.protocols import Fold
from hybrid_sim.evaluation.scores import METRICS, Groups, Predictions, row_metrics
from hybrid_sim.models.recorded import Recorded, RecordedRatings

Kind = Literal["shapley", "leave_one_out", "add_one_in"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LLM, PROFILE, CORRECTION = "llm", "profile", "correction"
SHUFFLED, TASTE = "llm_shuffled", "llm - llm_shuffled"
"""Names of the control's gain, and of what the LLM's ratings gain beyond it."""

Key = tuple[Subset, bool]
"""Which components, and whether the LLM's ratings were shuffled within users: the control."""


@dataclass(frozen=True)
class VariantScores:
    """Scores of one variant on one fold.

    `sums` has shape `(n_groups, n_metrics + 1)`: losses by each metric that is ablated, and number of ratings, of each
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
    """Scores variants on one fold; with LLM ratings also as corrected by these, and by these shuffled.

    `llm` and `shuffled` are the LLM's ratings of the held-out pairs and the control. `without_profile` are the same of
    an LLM that saw no profiles: they correct the variants without the component `profile` (None: `llm` corrects all).
    `switched` says whether the LLM is a component of its own; else its correction is part of every variant.
    """

    fold: Fold
    groups: Groups
    seed: int
    llm: RatingDistribution | None = None
    shuffled: RatingDistribution | None = None
    without_profile: tuple[RatingDistribution, RatingDistribution] | None = None
    switched: bool = True

    @classmethod
    def of(
        cls,
        fold: Fold,
        groups: Groups,
        seed: int,
        recording: RecordedRatings | None,
        switched: bool,
        without_profile: RecordedRatings | None = None,
    ) -> Scorer:
        """A scorer of this fold.

        Raises:
            SettingsError: none of its held-out pairs was recorded.
            ScaleError: a recorded rating is not on the scale.
        """
        if recording is None:
            return cls(fold, groups, seed)
        plain = None if without_profile is None else _answers(without_profile, fold, seed)
        return cls(fold, groups, seed, *_answers(recording, fold, seed), plain, switched)

    @property
    def n_recorded(self) -> int:
        """Held-out pairs that the LLM has rated."""
        return 0 if self.llm is None else int(self.llm.answered.sum())

    def __call__(self, variant: Variant) -> list[tuple[Key, VariantScores]]:
        """The scores of a variant, under the name of each subset that it stands for."""
        components, plain = variant.components, variant.distribution
        if self.llm is None or self.shuffled is None:
            return [((components, False), self._score(plain, variant.seconds))]
        llm, shuffled = self.llm, self.shuffled
        if self.without_profile is not None and PROFILE not in components:
            llm, shuffled = self.without_profile
        with_llm = components | ({LLM} if self.switched else set())
        scored = [((with_llm, False), self._corrected(variant, llm))]
        if self.switched:
            scored.append(((components, False), self._score(plain, variant.seconds)))
            scored.append(((with_llm, True), self._corrected(variant, shuffled)))
        return scored

    def _corrected(self, variant: Variant, llm: RatingDistribution) -> VariantScores:
        clock, held_out = Clock(), self.fold.held_out
        new_items = self.groups == "items"
        with clock.running(CORRECTION, LEARN):
            corrected = cross_fitted_correction(variant.distribution, llm, held_out, self.seed, new_items=new_items)
        return self._score(corrected, {**variant.seconds, **clock.seconds})

    def _score(self, distribution: RatingDistribution, seconds: Mapping[str, tuple[float, float]]) -> VariantScores:
        held_out = self.fold.held_out
        predictions = Predictions("ensemble", held_out, distribution)
        losses = {name: of(predictions) for name, of in row_metrics(ablated=True).items()}
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


def _answers(recording: RecordedRatings, fold: Fold, seed: int) -> tuple[RatingDistribution, RatingDistribution]:
    """The recorded ratings of the held-out pairs, and the same permuted among each user's pairs that have one."""
    llm = Recorded(recording).fit(fold.train).rate(fold.held_out.pairs)
    if not llm.answered.any():
        raise SettingsError(
            f"fold {fold.number}: no held-out pair has an LLM rating; choose other folds with --folds, or leave "
            "--llm-ratings out"
        )
    rows = np.flatnonzero(llm.answered)
    source = permute_within_groups(fold.held_out.user[rows], derive_seed(seed, "control", fold.number))
    probs = llm.probs.copy()
    probs[rows] = llm.probs[rows[source]]
    return llm, RatingDistribution(llm.scale, probs)


def key_order(present: Sequence[str]) -> list[Key]:
    """All variants: each subset of the components, then, where the LLM is one, each with its control."""
    of_all = subsets(present)
    return [(chosen, False) for chosen in of_all] + [(chosen, True) for chosen in of_all if LLM in chosen]


def resampled_losses(
    folds: Sequence[Mapping[Key, VariantScores]], order: Sequence[Key], n_boot: int, seed: int
) -> dict[str, ResampledLosses]:
    """The losses of all variants, in `order`, by metric: means over folds on the data and on every resample."""
    sums = np.stack([np.stack([fold[key].sums for key in order], axis=1) for fold in folds])
    count = sums[:, :, :1, -1]
    return {
        metric: ResampledLosses.of_sums(
            np.concatenate([sums[..., column], count], axis=2), METRICS[metric].root, n_boot, seed
        )
        for column, metric in enumerate(row_metrics(ablated=True))
    }


def fold_rows(
    fold: int, scores: Mapping[Key, VariantScores], order: Sequence[Key], present: Sequence[str]
) -> list[FoldRow]:
    """A record per variant on one fold."""
    rows = ((_names(key, present), key[1], scores[key]) for key in order)
    return [FoldRow(names, control, fold, s.n, s.rmse, s.log_loss, s.ece) for names, control, s in rows]


def _names(key: Key, present: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in present if name in key[0])


def subset_rows(
    folds: Sequence[Mapping[Key, VariantScores]],
    order: Sequence[Key],
    present: Sequence[str],
    losses: Mapping[str, ResampledLosses],
    level: float,
) -> list[SubsetRow]:
    """A record per variant: means over folds, with intervals."""
    rows = []
    for key, one in zip(order, np.eye(len(order)), strict=True):
        n, ece = sum(fold[key].n for fold in folds), float(np.mean([fold[key].ece for fold in folds]))
        rmse, log_loss = (losses[metric].interval(one, level) for metric in ("rmse", "log_loss"))
        rows.append(SubsetRow(_names(key, present), key[1], n, *rmse.values, *log_loss.values, ece))
    return rows


def effect_rows(
    metric: str, losses: ResampledLosses, order: Sequence[Key], present: Sequence[str], level: float
) -> list[EffectRow]:
    """The gains of every component in one metric, of all kinds, with intervals."""
    weights: dict[tuple[str, Kind], FloatArray] = {}
    for kind in KINDS:
        weights |= {(name, kind): _weights(name, present, kind, order, control=False) for name in present}
        if LLM in present:
            weights[SHUFFLED, kind] = _weights(LLM, present, kind, order, control=True)
            weights[TASTE, kind] = weights[LLM, kind] - weights[SHUFFLED, kind]
    names = dict.fromkeys(name for name, _ in weights)
    return [
        EffectRow(name, metric, kind, *losses.interval(weights[name, kind], level).values)
        for name in names
        for kind in KINDS
    ]


def gain_weights(component: str, components: Sequence[str], kind: Kind) -> dict[frozenset[str], float]:
    """What to multiply the losses of the variants with, so that they sum to the gain of a component.

    A gain is the loss without the component less the loss with it: to all others (`leave_one_out`), to none
    (`add_one_in`), or averaged over all orders in which the components can be added one after the other (`shapley`,
    Shapley 1953): then the gains of all components sum to that of all together.

    >>> [(sorted(chosen), weight) for chosen, weight in gain_weights("a", ["a", "b"], "leave_one_out").items()]
    [(['b'], 1.0), (['a', 'b'], -1.0)]
    """
    others = [name for name in components if name != component]
    n = len(components)
    weights: dict[frozenset[str], float] = {}
    for mask in range(2 ** len(others)):
        before = frozenset(name for k, name in enumerate(others) if mask >> k & 1)
        size = len(before)
        weight = {
            "shapley": factorial(size) * factorial(n - size - 1) / factorial(n),
            "leave_one_out": float(size == n - 1),
            "add_one_in": float(size == 0),
        }[kind]
        if weight:
            weights[before], weights[before | {component}] = weight, -weight
    return weights


def _weights(name: str, present: Sequence[str], kind: Kind, order: Sequence[Key], control: bool) -> FloatArray:
    """The weight of every variant in a gain; with `control` the LLM is its shuffled self wherever it takes part."""
    weights = np.zeros(len(order))
    for chosen, weight in gain_weights(name, present, kind).items():
        weights[order.index((chosen, control and LLM in chosen))] = weight
    return weights


def waterfall(metric: str, losses: ResampledLosses, order: Sequence[Key], effects: Sequence[EffectRow]) -> Waterfall:
    """The Shapley gains in one metric as steps from the base to the whole ensemble, the largest first."""
    whole = max((key for key in order if not key[1]), key=lambda key: len(key[0]))
    start, end = (float(losses.losses[order.index(key)]) for key in ((frozenset(), False), whole))
    rows = [e for e in effects if e.metric == metric and e.kind == "shapley" and e.component in whole[0]]
    steps, before = [], start
    for row in sorted(rows, key=lambda row: -row.gain):
        share = row.gain / (start - end) if start != end else float("nan")
        steps.append(WaterfallStep(row.component, row.gain, row.low, row.high, share, before, before - row.gain))
        before -= row.gain
    return Waterfall(metric, start, end, tuple(steps))
