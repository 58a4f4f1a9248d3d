"""The input of a validation: a simulator's answers about held-out pairs, and the real ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import InputError
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.evaluation.bootstrap import Resampler
from hybrid_sim.evaluation.scores import Groups, draw


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
    def unit(self) -> float:
        """A quarter of the range of the scale: a star from 1 to 5."""
        return (self.held_out.scale.high - self.held_out.scale.low) / 4.0

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
