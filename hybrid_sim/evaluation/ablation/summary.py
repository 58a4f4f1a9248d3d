"""From the scores of all variants on all folds to what each component is worth, with intervals over users or items.

Shapley shares, leaving one out, adding one in: each is a weighted sum of the losses of variants, so that one bootstrap
of these losses serves all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import factorial
from typing import Literal, get_args

import numpy as np

from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation.ablation.report import EffectRow, FoldRow, SubsetRow, Waterfall, WaterfallStep
from hybrid_sim.evaluation.ablation.scoring import LLM, Key, VariantScores
from hybrid_sim.evaluation.ablation.variants import subsets
from hybrid_sim.evaluation.bootstrap import ResampledLosses
from hybrid_sim.evaluation.scores import METRICS, ablated_metrics

Kind = Literal["shapley", "leave_one_out", "add_one_in"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SHUFFLED, TASTE = "llm_shuffled", "llm - llm_shuffled"
"""Names of the control's gain, and of what the LLM's ratings gain beyond it."""


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
        for column, metric in enumerate(ablated_metrics())
    }


def fold_row(fold: int, key: Key, scores: VariantScores, present: Sequence[str]) -> FoldRow:
    """The record of one variant on one fold."""
    names = tuple(name for name in present if name in key[0])
    return FoldRow(names, key[1], fold, scores.n, scores.rmse, scores.log_loss, scores.ece)


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
        names = tuple(name for name in present if name in key[0])
        n, ece = sum(fold[key].n for fold in folds), float(np.mean([fold[key].ece for fold in folds]))
        rmse, log_loss = (losses[metric].interval(one, level) for metric in ("rmse", "log_loss"))
        rows.append(SubsetRow(names, key[1], n, *rmse.values, *log_loss.values, ece))
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
