"""From the scores of all variants on all folds to gains with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_sim.core.types import FloatArray
from hybrid_sim.evaluation.ablation.report import METRICS, EffectRow, SubsetRow, Waterfall, WaterfallStep
from hybrid_sim.evaluation.ablation.scoring import LLM, Judged, Key
from hybrid_sim.evaluation.ablation.shapley import KINDS, Kind, Resampled, gain_weights, resample
from hybrid_sim.evaluation.ablation.variants import subsets

SHUFFLED, TASTE = "llm_shuffled", "llm - llm_shuffled"
"""Names of the control's gain, and of what the LLM's ratings gain beyond it."""


@dataclass(frozen=True)
class Summary:
    """What an `AblationReport` holds beyond folds and costs."""

    subsets: list[SubsetRow]
    effects: list[EffectRow]
    waterfalls: list[Waterfall]
    n_groups: int


def key_order(present: Sequence[str]) -> list[Key]:
    """All variants: each subset of the components, then, where the LLM is one, each with its control."""
    of_all = subsets(present)
    return [(chosen, False) for chosen in of_all] + [(chosen, True) for chosen in of_all if LLM in chosen]


def summarise(
    folds: Sequence[Mapping[Key, Judged]], present: Sequence[str], n_boot: int, seed: int, level: float
) -> Summary:
    """Means over folds, and gains, with intervals from one bootstrap per metric that all variants share."""
    order = key_order(present)
    count = [next(iter(fold.values())).sums[:, 2] for fold in folds]
    drawn = {
        metric: resample(
            np.stack([np.column_stack([*(fold[key].sums[:, column] for key in order), n])
                      for fold, n in zip(folds, count, strict=True)]),
            metric == "rmse", n_boot, seed,
        )
        for column, metric in enumerate(METRICS)
    }  # fmt: skip
    effects = [row for metric in METRICS for row in _effects(metric, drawn[metric], order, present, level)]
    n_groups = int((np.sum(count, axis=0) > 0).sum())
    falls = [_waterfall(metric, drawn[metric], order, effects) for metric in METRICS]
    return Summary(_subset_rows(folds, order, present, drawn, level), effects, falls, n_groups)


def _subset_rows(
    folds: Sequence[Mapping[Key, Judged]],
    order: Sequence[Key],
    present: Sequence[str],
    drawn: Mapping[str, Resampled],
    level: float,
) -> list[SubsetRow]:
    rows = []
    for key, one in zip(order, np.eye(len(order)), strict=True):
        names = tuple(name for name in present if name in key[0])
        n, ece = sum(fold[key].n for fold in folds), float(np.mean([fold[key].ece for fold in folds]))
        rmse, log_loss = (drawn[metric].of(one, level) for metric in METRICS)
        rows.append(SubsetRow(names, key[1], n, *rmse, *log_loss, ece))
    return rows


def _effects(
    metric: str, drawn: Resampled, order: Sequence[Key], present: Sequence[str], level: float
) -> list[EffectRow]:
    rows = []
    for name in present:
        weights = {kind: _weights(name, present, kind, order, control=False) for kind in KINDS}
        rows += [EffectRow(name, metric, kind, *drawn.of(weights[kind], level)) for kind in KINDS]
        if name != LLM:
            continue
        control = {kind: _weights(name, present, kind, order, control=True) for kind in KINDS}
        rows += [EffectRow(SHUFFLED, metric, kind, *drawn.of(control[kind], level)) for kind in KINDS]
        rows += [EffectRow(TASTE, metric, kind, *drawn.of(weights[kind] - control[kind], level)) for kind in KINDS]
    return rows


def _weights(name: str, present: Sequence[str], kind: Kind, order: Sequence[Key], control: bool) -> FloatArray:
    """The weight of every variant in a gain; with `control` the LLM is its shuffled self wherever it takes part."""
    weights = np.zeros(len(order))
    for chosen, weight in gain_weights(name, present, kind).items():
        weights[order.index((chosen, control and LLM in chosen))] = weight
    return weights


def _waterfall(metric: str, drawn: Resampled, order: Sequence[Key], effects: Sequence[EffectRow]) -> Waterfall:
    whole = max((key for key in order if not key[1]), key=lambda key: len(key[0]))
    start, end = (float(drawn.losses[order.index(key)]) for key in ((frozenset(), False), whole))
    rows = [e for e in effects if e.metric == metric and e.kind == "shapley" and e.component in whole[0]]
    steps, before = [], start
    for row in sorted(rows, key=lambda row: -row.gain):
        share = row.gain / (start - end) if start != end else float("nan")
        steps.append(WaterfallStep(row.component, row.gain, row.low, row.high, share, before, before - row.gain))
        before -= row.gain
    return Waterfall(metric, start, end, tuple(steps))
