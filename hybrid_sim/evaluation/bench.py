"""The benchmark: every model on every fold of a protocol, scored on the same rows, with intervals.

Models learn from the training ratings and then predict held-out (user, item) pairs; neither ratings
nor times of held-out rows reach them. The exception is `hybrid+llm`: how far to trust recorded LLM ratings is
learned on ratings of *other* users of the same fold (cross-fitted), which the report says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import InputError, SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.fit_cache import fit_cache
from hybrid_sim.core.progress import TimeLeft, track
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.types import RatingDistribution, RatingScale
from hybrid_sim.data.recordings import shuffle_within_users
from hybrid_sim.ensemble.components import with_sets
from hybrid_sim.evaluation.bench_report import BenchResult
from hybrid_sim.evaluation.protocols import Fold, Protocol, make_protocol
from hybrid_sim.evaluation.resources import Effort, measured
from hybrid_sim.evaluation.scores import (
    Losses,
    Predictions,
    ResultRow,
    SupportRow,
    compare,
    rmse_interval,
    row_losses,
    score,
    score_by_support,
    shared_rows,
)
from hybrid_sim.models import RATERS, make_rater
from hybrid_sim.models.recorded import Recorded, RecordedRatings
from hybrid_sim.retrieval.embedder import embedder_for

BASELINES = tuple(name for name in RATERS if name != "recorded")
HYBRID, LLM, HYBRID_LLM, CONTROL = "hybrid", "llm", "hybrid+llm", "hybrid+llm_shuffled"
WITH_LLM = (LLM, HYBRID_LLM, CONTROL)
MODELS = (*BASELINES, HYBRID, *WITH_LLM)
DEFAULT_MODELS = ("global_mean", "user_mean", "item_mean", "biases", "knn", "svd", "nmf", HYBRID)

LLM_NOTES = {
    LLM: "llm is the recorded ratings alone, on the rows that have one; a level gets all the probability.",
    HYBRID_LLM: "hybrid+llm learns how far to trust the LLM on ratings of other users of the test fold "
    "(cross-fitted); rows and folds without LLM ratings are those of hybrid, and such folds are not compared.",
    CONTROL: "hybrid+llm_shuffled is the control: each user's LLM ratings dealt out at random among the "
    "user's items, so that only the user's level is left of them.",
}

_log = logging.getLogger("hybrid_sim")


def choose_models(names: Sequence[str] | None, has_recording: bool) -> tuple[str, ...]:
    """The models to run, in the order of `MODELS`; by default `DEFAULT_MODELS`, and `WITH_LLM` if recorded.

    Raises:
        SettingsError: a name is not known, or its model needs a recording and there is none.
    """
    if names is None:
        return (*DEFAULT_MODELS, *WITH_LLM) if has_recording else DEFAULT_MODELS
    for name in names:
        if name not in MODELS:
            raise SettingsError(f"there is no model {name!r}; {nearest(name, MODELS)}")
        if name in WITH_LLM and not has_recording:
            raise SettingsError(f"model {name!r} needs recorded LLM ratings; add --llm-ratings FILE")
    wanted = {*names, *((HYBRID,) if {HYBRID_LLM, CONTROL} & set(names) else ())}
    return tuple(name for name in MODELS if name in wanted)


def bench(
    dataset: Dataset,
    protocol: str | Protocol = "user-temporal",
    models: Sequence[str] | None = None,
    *,
    folds: Sequence[int] | None = None,
    seed: int = 0,
    recording: RecordedRatings | None = None,
    members: Sequence[str] | str | None = None,
    without: Sequence[str] = (),
    embedder: Embedder | None = None,
    n_jobs: int | None = None,
    command: Sequence[str] = (),
) -> BenchResult:
    """Compare models on held-out ratings: errors, proper scores and calibration on every fold, with intervals.

    `protocol` is a name (see `hybrid_sim.evaluation.protocols.PROTOCOLS`), of which `folds` are the numbers wanted, or
    made already. `models` are names (None: the default ones, and those that use the `recording`). `members`, `without`,
    `embedder` and `n_jobs` are those of `Simulator`, the model "hybrid". `command` is kept in the provenance.

    Raises:
        SettingsError: a name or a fold is not known, or a fold holds nothing out.
        DataError: the data has no times and the protocol needs them.
    """
    chosen = choose_models(models, recording is not None)
    made = make_protocol(protocol, dataset, folds=folds, seed=seed) if isinstance(protocol, str) else protocol
    return Benchmark(chosen, recording, seed, n_jobs, embedder, with_sets(members), tuple(without)).run(made, command)


@dataclass(frozen=True)
class Benchmark:
    """Which models are run, and how; `models` come from `choose_models`.

    `n_jobs`, `embedder`, `members` and `without` are handed to the simulator.
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    recording: RecordedRatings | None = None
    seed: int = 0
    n_jobs: int | None = None
    embedder: Embedder | None = None
    members: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()

    def run(self, protocol: Protocol, command: Sequence[str] = ()) -> BenchResult:
        """Fit, query and score all models on all folds; `command` is kept in the provenance.

        Raises:
            SettingsError: a fold holds nothing out, or leaves nothing to learn from.
            InputError: a model without recorded ratings abstains from a row.
        """
        results: list[ResultRow] = []
        support: list[SupportRow] = []
        losses: dict[str, list[Losses]] = {}
        embedder = None
        time_left, started = TimeLeft(self.models * len(protocol.splits)), time.perf_counter()
        with track(f"bench {protocol.name}", len(protocol.splits) * len(self.models)) as task:
            for fold in protocol.folds():
                for of_model in self.predictions(fold):
                    scored = replace(of_model.answered() if of_model.model == LLM else of_model, protocol=protocol.name)
                    results.append(score(scored))
                    support += score_by_support(scored, fold.train.item_counts[scored.held_out.item])
                    embedder = scored.embedder or embedder
                    if scored.compared:
                        losses.setdefault(scored.model, []).append(row_losses(scored))
                    now = time.perf_counter()
                    left = time_left.after(scored.model, now - started)
                    task.advance(1, f"fold {fold.number}, {scored.model}", left)
                    started = now
        compared = [
            compare(*shared_rows(losses[first], losses[second]), metric, protocol.groups, seed=self.seed)
            for first, second, metric in self._comparisons()
            if first in losses and second in losses
        ]
        results.sort(key=lambda row: MODELS.index(row.model))
        intervals = [
            rmse_interval(losses[name], protocol.groups, seed=self.seed)
            for name in dict.fromkeys(row.model for row in results)
            if name in losses
        ]
        unfitted = [name for name in self.models if name in BASELINES and name not in {row.model for row in results}]
        if not results:
            raise InputError(f"none of the models {', '.join(self.models)} can be fitted to {protocol.dataset.name}")
        notes = [*protocol.notes, *self._notes(protocol.dataset.scale)]
        notes += [f"{name} cannot be fitted to these ratings and is left out." for name in unfitted]
        made = provenance(command, self.seed, protocol.dataset, embedder)
        return BenchResult(made, results, intervals, compared, support, tuple(notes))

    def _comparisons(self) -> list[tuple[str, str, str]]:
        """The hybrid against all others, and what the LLM adds to it: two models and a metric."""
        pairs = [(HYBRID, name, "rmse") for name in (*BASELINES, LLM)]
        pairs += [(HYBRID_LLM, HYBRID, "rmse"), (HYBRID_LLM, HYBRID, "log_loss")]
        pairs += [(CONTROL, HYBRID, "rmse"), (HYBRID_LLM, CONTROL, "rmse")]
        return [pair for pair in pairs if {*pair[:2]} <= set(self.models)]

    def predictions(self, fold: Fold) -> Iterator[Predictions]:
        """Each model's predictions of the held-out pairs of a fold, in the order of `models`; a baseline that cannot be
        fitted is left out, with a warning.

        All but `hybrid+llm` and its control get nothing but the pairs. `llm` predicts nothing on a fold of which no
        pair was recorded.
        """
        hybrid: Predictions | None = None
        for name in self.models:
            if name == HYBRID:
                hybrid = self._hybrid(fold)
                yield hybrid
            elif name not in WITH_LLM:
                try:
                    yield self._baseline(name, fold)
                except InputError as error:
                    _log.warning("fold %d goes on without %s: %s", fold.number, name, error)
        if self.recording is not None and set(self.models) & set(WITH_LLM):
            yield from self._with_llm(self.recording, hybrid, fold)

    def _hybrid(self, fold: Fold) -> Predictions:
        from hybrid_sim.simulation.simulator import SOURCES, Simulator

        with measured() as effort:
            simulator = Simulator(self.seed, self.members, self.embedder, self.n_jobs, self.without).fit(fold.train)
            got = simulator.predict_pairs(fold.held_out.pairs)
        n_fallback, embedder = int((got.source != SOURCES[-1]).sum()), simulator.embedder_name_
        made = self._predictions(HYBRID, fold, got.distribution, effort, n_fallback)
        return replace(made, low=got.low, high=got.high, embedder=embedder)

    def _baseline(self, name: str, fold: Fold) -> Predictions:
        """Where a baseline abstains it gets the distribution of all ratings, as Surprise answers with their mean.

        It has settings that suit the scale, and the benchmark's seed and embedder where it has such.
        """
        train, pairs = fold.train, fold.held_out.pairs
        reads_texts = "embedder" in RATERS[name].setting_names
        embedder = embedder_for(train, self.embedder) if reads_texts else None
        with measured() as effort:
            rater = RATERS[name].suited_to(train.scale, embedder, self.seed)
            distribution = fit_cache().fit(rater, train).rater.rate(pairs)
        filled = distribution.filled(make_rater("global_mean").fit(train).rate(pairs))
        return self._predictions(name, fold, filled, effort, int((~distribution.answered).sum()))

    def _predictions(
        self, model: str, fold: Fold, distribution: RatingDistribution, effort: Effort, n_fallback: int = 0
    ) -> Predictions:
        return Predictions(
            model,
            fold.held_out,
            distribution,
            fold=fold.number,
            seed=self.seed,
            seconds=effort.seconds,
            peak_mb=effort.peak_mb,
            n_fallback=n_fallback,
        )

    def _notes(self, scale: RatingScale) -> list[str]:
        """A sentence per baseline whose default settings do not suit the scale, which is logged, and per LLM model."""
        notes = []
        for name in sorted(set(self.models) & set(BASELINES)):
            if unusual := RATERS[name].unusual_settings(scale):
                settings = ", ".join(f"{setting}={value!r}" for setting, value in unusual.items())
                notes.append(f"{name} is run with {settings}: its default does not suit the rating scale {scale}.")
                _log.warning("%s", notes[-1])
        return notes + [LLM_NOTES[name] for name in self.models if name in LLM_NOTES]

    def _with_llm(self, recording: RecordedRatings, hybrid: Predictions | None, fold: Fold) -> Iterator[Predictions]:
        pairs = fold.held_out.pairs
        llm = Recorded(recording).fit(fold.train).rate(pairs)
        recorded = bool(llm.answered.any())
        if not recorded:
            _log.warning("fold %d: no held-out pair has an LLM rating, so hybrid+llm is hybrid", fold.number)
        elif LLM in self.models:
            yield self._predictions(LLM, fold, llm, Effort())
        if hybrid is not None and HYBRID_LLM in self.models:
            yield replace(self._corrected(HYBRID_LLM, hybrid, llm, fold), compared=recorded)
        if hybrid is not None and CONTROL in self.models:
            mixed = shuffle_within_users(_of_fold(recording, fold), self.seed)
            shuffled = Recorded(mixed).fit(fold.train).rate(pairs)
            yield replace(self._corrected(CONTROL, hybrid, shuffled, fold), compared=recorded)

    def _corrected(self, model: str, hybrid: Predictions, llm: RatingDistribution, fold: Fold) -> Predictions:
        from hybrid_sim.ensemble.correction import cross_fitted_correction

        new_items = fold.groups == "items"
        with measured() as effort:
            distribution = cross_fitted_correction(
                hybrid.distribution, llm, fold.held_out, self.seed, new_items=new_items
            )
        made = replace(hybrid, model=model, distribution=distribution, low=None, high=None)
        if hybrid.seconds is None or hybrid.peak_mb is None or effort.seconds is None or effort.peak_mb is None:
            return made
        return replace(made, seconds=hybrid.seconds + effort.seconds, peak_mb=max(hybrid.peak_mb, effort.peak_mb))


def _of_fold(recording: RecordedRatings, fold: Fold) -> RecordedRatings:
    """The recorded rows about held-out pairs of this fold."""
    pairs = fold.held_out.encode(recording.user_ids, recording.item_ids)
    n_items = fold.held_out.n_items
    here = pairs.known & np.isin(pairs.keys(n_items), fold.held_out.pairs.keys(n_items))
    return RecordedRatings(recording.user_ids[here], recording.item_ids[here], recording.ratings[here])
