"""The input of a validation: a simulator's answers about held-out pairs, and the real ratings.

A simulator is fitted here, corrected by recorded LLM ratings, or known by what it said: a run folder, a table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, InputError, SettingsError
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.recordings import SUSPICIOUS, read_recorded
from hybrid_sim.ensemble.correction import cross_fitted_correction
from hybrid_sim.evaluation.bootstrap import Resampler
from hybrid_sim.evaluation.scores import Groups, draw
from hybrid_sim.models.recorded import Recorded, RecordedRatings
from hybrid_sim.simulation.run_folder import FinishedRun, read_run
from hybrid_sim.simulation.simulator import Simulator

_log = logging.getLogger("hybrid_sim")

MIN_ROWS = 100
"""Held-out ratings that a table must have ratings of; fewer tell nothing."""


@dataclass(frozen=True)
class Cost:
    """Seconds of fitting and of rating all held-out pairs, dollars and calls; None is not known."""

    fit_seconds: float | None = None
    rate_seconds: float | None = None
    dollars: float | None = None
    calls: int | None = None


@dataclass(frozen=True)
class SimulatorOutput:
    """The answers of the simulator that is validated, one row per held-out rating.

    `drawn` holds a sampled rating per pair. Where only such ratings are known (`has_distributions` False),
    `distribution` gives each of them all the probability. `low` and `high` are the interval of each row. `rater`
    answers about other pairs, None where none can be asked. `members` holds the members' expected ratings.
    """

    name: str
    distribution: RatingDistribution
    drawn: FloatArray
    has_distributions: bool = True
    low: FloatArray | None = None
    high: FloatArray | None = None
    rater: Rater | None = None
    members: Mapping[str, FloatArray] = field(default_factory=dict)
    cost: Cost = Cost()
    notes: tuple[str, ...] = ()

    def expected(self) -> FloatArray:
        """The expected rating of each pair; where only drawn ratings are known, these."""
        return self.distribution.mean() if self.has_distributions else self.drawn


@dataclass(frozen=True)
class Answers:
    """A simulator and the held-out ratings that it has rated, row by row."""

    simulator: SimulatorOutput
    held_out: Dataset


@dataclass(frozen=True)
class Probe:
    """Real ratings and a language model's with real and with invented titles; columns of one length."""

    user: IntArray
    truth: FloatArray
    with_title: FloatArray
    without: FloatArray


@dataclass(frozen=True)
class ValidationData:
    """Everything the evidence is made from.

    `baselines` are the baselines' answers about the held-out pairs, `recommenders` the scores that recommenders give
    to them, shape `(n_pairs,)`. Nothing here has learned from a held-out rating, unless `simulator.notes` says so.

    Raises:
        InputError: the simulator does not answer for every held-out rating.
    """

    train: Dataset
    held_out: Dataset
    simulator: SimulatorOutput
    baselines: Mapping[str, RatingDistribution]
    recommenders: Mapping[str, FloatArray]
    groups: Groups = "users"
    seed: int = 0
    probe: Probe | None = None

    def __post_init__(self) -> None:
        if not len(self.held_out):
            raise InputError("there are no held-out ratings to validate against; choose another protocol or fold")
        n_rows, n_answers = len(self.held_out), int(self.simulator.distribution.answered.sum())
        if len(self.simulator.drawn) != n_rows or n_answers != n_rows:
            raise InputError(
                f"{self.simulator.name} answers {n_answers} of {n_rows} held-out pairs; it must answer all"
            )

    @property
    def truth(self) -> FloatArray:
        """The real ratings."""
        return self.held_out.rating

    @property
    def scale(self) -> RatingScale:
        """The rating scale."""
        return self.held_out.scale

    @property
    def group(self) -> IntArray:
        """The user or item of each row, which intervals resample."""
        return self.held_out.user if self.groups == "users" else self.held_out.item

    @cached_property
    def by_group(self) -> Resampler:
        """Resamples users, or items where whole items were held out."""
        n_groups = self.held_out.n_users if self.groups == "users" else self.held_out.n_items
        return Resampler(self.group, n_groups, self.seed)

    @cached_property
    def by_user(self) -> Resampler:
        """Resamples users, for what is counted per user."""
        return Resampler(self.held_out.user, self.held_out.n_users, self.seed)

    def drawn_from(self, distribution: RatingDistribution, pairs: Pairs | None = None) -> FloatArray:
        """A rating per pair (None: the held-out ones), sampled with the same random numbers for every simulator."""
        return draw(distribution, self.held_out, self.held_out.pairs if pairs is None else pairs, self.seed)

    def baseline_ratings(self, reference: str) -> FloatArray:
        """A baseline's expected ratings, or drawn ones where only such are known of the simulator."""
        distribution = self.baselines[reference]
        return distribution.mean() if self.simulator.has_distributions else self.drawn_from(distribution)


def fitted(simulator: Simulator, held_out: Dataset, seed: int, cost: Callable[[], Cost] = Cost) -> Answers:
    """A simulator that was fitted to training ratings; `cost` is called when it has answered."""
    prediction = simulator.predict_pairs(held_out.pairs)
    spent, members = cost(), simulator.ensemble_.members_
    output = SimulatorOutput(
        f"simulator ({len(members)} members)",
        prediction.distribution,
        prediction.sample(seed),
        low=prediction.low,
        high=prediction.high,
        rater=simulator,
        members={name: expected(member, held_out.pairs) for name, member in members.items()},
        cost=spent,
    )
    return Answers(output, held_out)


def with_recording(answers: Answers, recording: RecordedRatings, seed: int, groups: Groups = "users") -> Answers:
    """The simulator corrected by recorded LLM ratings; each user's (or item's) correction is learned from the others.

    Raises:
        DataError: none of the held-out pairs was recorded.
    """
    simulator, held_out = answers.simulator, answers.held_out
    recorded = Recorded(recording).fit(held_out).rate(held_out.pairs)
    if not recorded.answered.any():
        raise DataError("no held-out pair has a recorded LLM rating; choose the fold that was recorded")
    new_items = groups == "items"
    distribution = cross_fitted_correction(simulator.distribution, recorded, held_out, seed, new_items=new_items)
    note = (
        f"{int(recorded.answered.sum()):,} of {len(held_out):,} held-out pairs have an LLM rating; how far to trust it "
        f"is learned on ratings of other {groups} of the same fold (cross-fitted). Intervals are those without it."
    )
    corrected = replace(
        simulator,
        name=f"{simulator.name} with recorded LLM ratings",
        distribution=distribution,
        drawn=draw(distribution, held_out, held_out.pairs, seed),
        members={**simulator.members, "LLM": recorded.mean()},
        cost=replace(simulator.cost, dollars=None),
        notes=(*simulator.notes, note),
    )
    return Answers(corrected, held_out)


def read_simulated(path: Path, held_out: Dataset) -> RecordedRatings:
    """A table `user_id, item_id, rating` of a simulator's ratings.

    Raises:
        DataError: a row is refused, or the table repeats the held-out ratings.
    """
    table = read_recorded(path, held_out.scale)
    replayed = Recorded(table).fit(held_out).rate(held_out.pairs)
    known = replayed.answered
    agreed = replayed.take(known).prob_of(held_out.rating[known])
    if known.sum() >= MIN_ROWS and agreed.mean() >= SUSPICIOUS:
        raise DataError(
            f"{path.name}: {agreed.mean():.0%} of its ratings equal the held-out ones, so it holds the truth and not "
            "what a simulator said; write the simulated ratings into the column 'rating'"
        )
    return table


def from_table(recording: RecordedRatings, held_out: Dataset, name: str) -> Answers:
    """Somebody else's simulator, known by the ratings it drew; one of each pair counts as drawn, the first.

    Raises:
        DataError: it speaks about fewer than `MIN_ROWS` held-out pairs.
    """
    rows, of_table = _match(held_out, held_out.encode(recording.user_ids, recording.item_ids), name)
    part, drawn = held_out.take(rows), recording.ratings[of_table]
    probs = np.zeros((len(part), part.scale.n_levels))
    probs[np.arange(len(part)), part.scale.index(drawn)] = 1.0
    notes = (f"The table speaks about {len(part):,} of {len(held_out):,} held-out ratings; only these are judged.",)
    distribution = RatingDistribution(part.scale, probs)
    return Answers(SimulatorOutput(name, distribution, drawn, has_distributions=False, notes=notes), part)


def from_run(folder: Path, train: Dataset, held_out: Dataset) -> Answers:
    """The ratings of a run of `hybrid-sim simulate`, with the distributions that they were drawn from.

    Raises:
        SettingsError: the folder is no finished run, or its simulator learned from other data than `train`, so that
            it may have seen the held-out ratings.
        DataError: it speaks about fewer than `MIN_ROWS` held-out pairs, or its table is damaged.
    """
    run = read_run(folder)
    _require_trained_on(train, run)
    pairs = held_out.encode(run.prediction.user_ids, run.prediction.item_ids)
    rows, of_run = _match(held_out, pairs, run.folder.ratings.name)
    part, prediction, drawn = held_out.take(rows), run.prediction.take(of_run), run.rating[of_run]
    probs = prediction.distribution.probs
    _require_sane(probs, drawn, part, run.folder.ratings)
    ledger = run.about.get("ledger")
    model = run.about.get("settings", {}).get("llm", {}).get("model") if ledger else None
    notes = (f"The run speaks about {len(part):,} of {len(held_out):,} held-out ratings; only these are judged.",)
    simulator = SimulatorOutput(
        f"run of the simulator with {model}" if model else "run of the simulator",
        RatingDistribution(part.scale, probs / probs.sum(axis=1, keepdims=True)),
        drawn,
        low=prediction.low,
        high=prediction.high,
        cost=_cost(ledger, len(part) / len(run)),
        notes=notes,
    )
    return Answers(simulator, part)


def read_truth(path: Path, train: Dataset, **columns: str) -> Dataset:
    """Held-out ratings from a table `user_id, item_id, rating`; rows whose user or item nobody knows are left out.

    `columns` are names of the columns `user`, `item` and `rating`, where they are others.

    Raises:
        DataError: a row is refused, is one of the training ratings, or none is left.
    """
    table = read_recorded(path, train.scale, option="--{}-col", **columns)
    pairs = train.encode(table.user_ids, table.item_ids)
    known, keys = pairs.known, pairs.keys(train.n_items)
    seen = known & np.isin(keys, train.pairs.keys(train.n_items))
    if seen.any():
        row = int(seen.argmax())
        raise DataError(
            f"{path.name}: user {table.user_ids[row]!r} and item {table.item_ids[row]!r} are a training rating too "
            f"({int(seen.sum())} such rows); held-out ratings must not have been learned from"
        )
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    kept = known & first
    if not kept.any():
        raise DataError(f"{path.name}: none of its users and items is in {train.name}; check the ids")
    if not known.all():
        counts = int((~known).sum()), len(known)
        _log.warning("%s: %d of %d rows are left out, their user or item is not in %s", path.name, *counts, train.name)
    return replace(train, user=pairs.user[kept], item=pairs.item[kept], rating=table.ratings[kept], timestamp=None)


def _match(held_out: Dataset, pairs: Pairs, name: str) -> tuple[IntArray, IntArray]:
    """Held-out rows that are among the pairs of a table, and the first row of the table for each."""
    distinct, first = np.unique(pairs.keys(held_out.n_items), return_index=True)
    place = pd.Index(distinct).get_indexer(pd.Index(held_out.pairs.keys(held_out.n_items)))
    rows = np.flatnonzero(place >= 0)
    if len(rows) < MIN_ROWS:
        raise DataError(
            f"{name} speaks about {len(rows)} of {len(held_out)} held-out pairs, at least {MIN_ROWS} are needed; "
            "simulate the held-out pairs, or name the protocol and fold that they are of"
        )
    return rows, first[place[rows]]


def _require_trained_on(train: Dataset, run: FinishedRun) -> None:
    """Check that the run has ended, learned from `train` alone, and has its scale."""
    folder, digest = run.folder.path, run.about.get("provenance", {}).get("data_hash")
    if digest is None:
        about = run.folder.about.name
        raise SettingsError(f"{folder} is no finished run of hybrid-sim simulate: {about} is missing or damaged")
    if digest != train.digest:
        raise SettingsError(
            f"{folder}: its simulator learned from other data than the training ratings of this validation, and may "
            "have seen the held-out ones; name the data that it was run on, and held-out ratings with --truth FILE"
        )
    if [f"{level:g}" for level in run.scale.levels] != [f"{level:g}" for level in train.scale.levels]:
        raise DataError(f"{run.folder.ratings}: its scale is {run.scale}, not {train.scale}; run the simulation again")


def _require_sane(probs: FloatArray, drawn: FloatArray, part: Dataset, path: Path) -> None:
    with np.errstate(invalid="ignore"):
        good = (np.abs(probs.sum(axis=1) - 1.0) < 1e-3) & (probs >= 0.0).all(axis=1) & part.scale.contains(drawn)
    if not good.all():
        row = int((~good).argmax())
        user, item = part.users.index[part.user[row]], part.items.index[part.item[row]]
        raise DataError(
            f"{path}: the row of user {user!r} and item {item!r} holds no distribution, or a rating off the scale "
            f"{part.scale}; run the simulation again"
        )


def _cost(ledger: dict[str, Any] | None, share: float) -> Cost:
    """The part of a run's money and calls that belongs to the judged ratings; money is in nano-dollars."""
    if not ledger:
        return Cost(dollars=0.0, calls=0)
    money = None if ledger.get("unknown_cost") else ledger["money"] * 1e-9 * share
    return Cost(dollars=money, calls=round(ledger["calls"] * share))
