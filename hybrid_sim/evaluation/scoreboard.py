"""Collects the opinions of all models on all folds and turns them into a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.provenance import Provenance
from hybrid_sim.core.types import FloatArray, RatingDistribution
from hybrid_sim.evaluation.bench_report import BenchResult
from hybrid_sim.evaluation.protocols import Fold
from hybrid_sim.evaluation.scores import (
    Groups,
    Losses,
    ResultRow,
    SupportRow,
    compare,
    rmse_interval,
    row_losses,
    score,
    score_by_support,
)


@dataclass(frozen=True)
class Opinion:
    """What one model says about the held-out pairs of one fold, and what that took.

    `n_fallback` rows were answered by something simpler than the model. `peak_mb` is the most by which memory
    grew meanwhile (see `hybrid_sim.evaluation.resources`). `embedder` names the text embedder of the model, if it has
    one. An opinion that is not `compared` (a copy of another, for want of LLM ratings) is scored but stays out of
    comparisons.
    """

    model: str
    distribution: RatingDistribution
    seconds: float
    peak_mb: float
    n_fallback: int = 0
    low: FloatArray | None = None
    high: FloatArray | None = None
    embedder: str | None = None
    compared: bool = True


@dataclass
class Scoreboard:
    """The scores of all models on all folds of one protocol; intervals resample `groups`."""

    protocol: str
    groups: Groups = "users"
    seed: int = 0
    embedder: str | None = field(default=None, init=False)
    _results: list[ResultRow] = field(default_factory=list, init=False)
    _support: list[SupportRow] = field(default_factory=list, init=False)
    _losses: dict[str, list[Losses]] = field(default_factory=dict, init=False)

    def add(self, fold: Fold, opinion: Opinion, skip_abstained: bool = False) -> None:
        """Score one opinion; with `skip_abstained` only the rows that it answers.

        Raises:
            InputError: a row abstains and `skip_abstained` is not set, or nothing is left to score.
        """
        model, distribution = opinion.model, opinion.distribution
        self._results.append(
            score(
                model,
                fold.held_out,
                distribution,
                protocol=self.protocol,
                fold=fold.number,
                seed=self.seed,
                low=opinion.low,
                high=opinion.high,
                n_fallback=opinion.n_fallback,
                skip_abstained=skip_abstained,
                seconds=opinion.seconds,
                peak_mb=opinion.peak_mb,
            )
        )
        if opinion.low is not None and opinion.high is not None:
            self._support += score_by_support(
                model,
                fold.held_out,
                distribution,
                fold.train.item_counts[fold.held_out.item],
                protocol=self.protocol,
                fold=fold.number,
                low=opinion.low,
                high=opinion.high,
            )
        self.embedder = opinion.embedder or self.embedder
        if not opinion.compared:
            return
        rows = distribution.answered
        self._losses.setdefault(model, []).append(
            row_losses(
                model,
                fold.held_out.take(rows),
                distribution.take(rows),
                protocol=self.protocol,
                fold=fold.number,
            )
        )

    def report(
        self,
        provenance: Provenance,
        comparisons: Sequence[tuple[str, str, str]],
        notes: Sequence[str],
        order: Sequence[str],
    ) -> BenchResult:
        """All records, the models in `order`; `comparisons` are made where both models have scores."""
        compared = []
        for first, second, metric in comparisons:
            if first in self._losses and second in self._losses:
                a, b = shared_rows(self._losses[first], self._losses[second])
                compared.append(compare(a, b, metric, self.groups, seed=self.seed))
        models = [name for name in order if any(row.model == name for row in self._results)]
        return BenchResult(
            provenance,
            [row for name in models for row in self._results if row.model == name],
            [rmse_interval(self._losses[name], self.groups, seed=self.seed) for name in models if name in self._losses],
            compared,
            self._support,
            tuple(notes),
        )


def shared_rows(a: Sequence[Losses], b: Sequence[Losses]) -> tuple[list[Losses], list[Losses]]:
    """The losses of both models on the folds and held-out pairs that both were scored on."""
    of_b = {losses.fold: losses for losses in b}
    pairs = [(losses, of_b[losses.fold]) for losses in a if losses.fold in of_b]
    kept = [(x, y, _pair_keys(x), _pair_keys(y)) for x, y in pairs]
    return (
        [x.take(np.isin(of_x, of_y)) for x, _, of_x, of_y in kept],
        [y.take(np.isin(of_y, of_x)) for _, y, of_x, of_y in kept],
    )


def _pair_keys(losses: Losses) -> NDArray[np.int64]:
    return losses.user << 32 | losses.item
