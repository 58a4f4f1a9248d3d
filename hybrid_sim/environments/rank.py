"""Whether an environment can be believed: policies on the same choice sets, with simulated and with real answers.

Each user with enough held-out ratings has a choice set of them. A policy shows some of these items, first in the
environment, then in a replay of the log; what differs is only who answers. The gap of a policy is its simulated value
minus its real one. That of the random policy is how generous the environment is; a larger gap of another policy is what
it gains by exploiting errors of the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.progress import track
from hybrid_sim.core.seeding import derive_seed, stream
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.environments.episodes import Episodes, Rules
from hybrid_sim.environments.folder import Population
from hybrid_sim.environments.kernel import USER
from hybrid_sim.environments.off_policy import PROPENSITY_MODEL, OffPolicyEstimate, off_policy_estimate
from hybrid_sim.environments.planted import PLANTED
from hybrid_sim.environments.policies import Policy, play, standard_policies
from hybrid_sim.evaluation.bootstrap import Interval, Resampler
from hybrid_sim.evaluation.validity.recommenders import kendall

N_CHOICES, N_STEPS = 20, 10
"""Held-out items in a choice set, and how many of them are shown."""

N_REPLICATES = 10
"""Simulated episodes per user."""

MIN_USERS = 20

N_FIRST = 3
"""The first choices of the greedy policy, among which errors of the simulator in its favour are most frequent."""

TAU, SPREAD, LEVEL_GAP, EXPLOITATION = 0.85, (0.75, 1.25), 0.03, 0.05
"""Thresholds of the verdicts; gaps are on the reward scale [0, 1]."""


@dataclass(frozen=True)
class PolicyResult:
    """What a policy is worth: mean reward per step in [0, 1], and their difference, on the same choice sets.

    `coverage` is the share of the catalogue that it shows to anybody, `novelty` the mean -log2 of the share of users
    who rated what is shown, `diversity` one minus the mean cosine of the vectors of two items of an episode. `groups`
    has simulated and real values by how many training ratings users have.
    """

    name: str
    simulated: Interval
    real: Interval
    gap: Interval
    gap_beyond_random: Interval
    coverage: float
    novelty: float
    diversity: float
    groups: Mapping[str, tuple[float, float]]
    off_policy: OffPolicyEstimate | None


@dataclass(frozen=True)
class Verdict:
    """Whether a figure is within its threshold."""

    name: str
    passed: bool
    finding: str


@dataclass(frozen=True)
class Ranking:
    """Results of all policies, Kendall's tau of simulated and real values, and the spread of episodes.

    `spread_ratio` is the standard deviation over users of the mean surprise (answer minus expectation) of a random
    policy's episode, simulated over real. `exploitation` is the gap of the greedy policy's first `N_FIRST` choices
    beyond that of the random policy's.
    """

    policies: tuple[PolicyResult, ...]
    kendall_tau: Interval
    spread_ratio: Interval
    exploitation: Interval
    verdicts: tuple[Verdict, ...]
    n_users: int
    planted: str | None
    propensity_model: str = PROPENSITY_MODEL

    @property
    def believable(self) -> bool:
        """Whether all verdicts are passed."""
        return all(verdict.passed for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"kind": "ranking", **asdict(self), "believable": self.believable}


def rank(
    population: Population,
    agents: Mapping[str, Policy] | None = None,
    *,
    planted: str | None = None,
    seed: int = 0,
    n_boot: int = 1000,
) -> Ranking:
    """Try the standard policies, and `agents` by name, in the environment and on the log.

    `planted` names a fault, one of `PLANTED`, that is put into the environment first.

    Raises:
        SettingsError: the fault is not known, or too few users have enough held-out ratings.
    """
    if planted is not None:
        if planted not in PLANTED:
            raise SettingsError(f"there is no planted fault {planted!r}; {nearest(planted, PLANTED)}")
        population = PLANTED[planted](population, seed)
    trial = _Trial(population, seed)
    policies = {**standard_policies(population, seed), **(agents or {})}
    with track("trying policies", len(policies)) as progress:
        played = {}
        for name, policy in policies.items():
            played[name] = trial.of(name, policy)
            progress.advance(note=name)
    resampler = Resampler(np.arange(len(trial.users)), len(trial.users), seed, n_boot)
    weights = resampler.weights / resampler.weights.sum(axis=1, keepdims=True)
    means = {name: weights @ np.column_stack([one.simulated, one.real]) for name, one in played.items()}
    gaps = {name: mean[:, 0] - mean[:, 1] for name, mean in means.items()}
    own = {"random", "adaptive", *(agents or {})}
    results = tuple(
        PolicyResult(
            name,
            resampler.interval(means[name][:, 0]),
            resampler.interval(means[name][:, 1]),
            resampler.interval(gaps[name]),
            resampler.interval(gaps[name] - gaps["random"]),
            *trial.catalogue(one.items),
            trial.by_group(one),
            None if name in own else off_policy_estimate(population, trial.scores_of_all(policies[name])),
        )
        for name, one in played.items()
    )
    standard = [name for name in played if name != "cautious" and name not in (agents or {})]
    tau = resampler.interval(
        kendall(*(np.column_stack([means[name][:, kind] for name in standard]) for kind in (0, 1)))
    )
    spread = trial.spread(played["random"], resampler)
    exploitation = resampler.interval(weights @ (played["greedy"].first_gap - played["random"].first_gap))
    verdicts = _verdicts(tau, spread, results[0].gap, exploitation)
    return Ranking(results, tau, spread, exploitation, verdicts, len(trial.users), planted)


@dataclass(frozen=True)
class _Values:
    """Mean reward per user, `(n_users,)`, the gap of the first choices, items shown in the simulation, and mean
    surprises per episode.
    """

    simulated: FloatArray
    real: FloatArray
    first_gap: FloatArray
    items: IntArray
    surprises: tuple[FloatArray, FloatArray]


class _Trial:
    """The users and their choice sets."""

    def __init__(self, population: Population, seed: int) -> None:
        held_out = population.held_out
        self.users = np.flatnonzero(held_out.user_counts >= N_CHOICES)
        if len(self.users) < MIN_USERS:
            raise SettingsError(
                f"{len(self.users)} users have {N_CHOICES} held-out ratings, and {MIN_USERS} are needed; build the "
                "environment with --protocol user-temporal and more data"
            )
        self.population, self.seed = population, seed
        self.masks = np.zeros((len(self.users), len(population.item_ids)), dtype=bool)
        order = stream(seed, "choice sets").permutation(len(held_out))
        for row, user in enumerate(self.users):
            own = order[held_out.user[order] == user][:N_CHOICES]
            self.masks[row, held_out.item[own]] = True

    def of(self, name: str, policy: Policy) -> _Values:
        """Let a policy show items in the environment, `N_REPLICATES` times, and in the replay."""
        seed = derive_seed(self.seed, "rank", name)
        simulated, real = self._played(policy, False, seed), self._played(policy, True, seed)
        means, first = ([one[0][:, :n].mean(axis=1) for one in (simulated, real)] for n in (N_STEPS, N_FIRST))
        return _Values(means[0], means[1], first[0] - first[1], simulated[1], (simulated[2], real[2]))

    def _played(self, policy: Policy, replay: bool, seed: int) -> tuple[FloatArray, IntArray, FloatArray]:
        """Mean rewards, `(n_users, n_steps)`; items shown, `(n_episodes, n_steps)`; mean surprises of episodes,
        `(n_users, n_replicates)`.
        """
        episodes = Episodes(self.population, len(self.users), Rules(max_steps=N_STEPS + 1), replay=replay)
        scale, shown, rewards, surprises = self.population.scale, [], [], []
        for replicate in range(N_REPLICATES):
            for row, user in enumerate(self.users.tolist()):
                number = derive_seed(seed, "episode", replicate, row)
                episodes.reset([row], [number], self.population.user_ids[user])
            episodes.restrict(self.masks)
            one = play(episodes, policy, N_STEPS, derive_seed(seed, "ties", replicate))
            expected = self.population.means[self.users[:, None], one.items]
            shown.append(one.items)
            rewards.append(one.rewards)
            surprises.append((one.rewards - (expected - scale.low) / (scale.high - scale.low)).mean(axis=1))
        return np.mean(rewards, axis=0), np.concatenate(shown), np.stack(surprises, axis=1)

    def catalogue(self, items: IntArray) -> tuple[float, float, float]:
        """Coverage, novelty and diversity of the items shown."""
        train, tastes = self.population.train, self.population.features[:, 1:]
        shares = (train.item_counts + 1.0) / (train.n_users + 1.0)
        vectors = tastes[items]
        sums = vectors.sum(axis=1)
        n = items.shape[1]
        cosine = ((sums**2).sum(axis=1) - (vectors**2).sum(axis=(1, 2))) / (n * (n - 1))
        return len(np.unique(items)) / train.n_items, float(-np.log2(shares[items]).mean()), float(1 - cosine.mean())

    def by_group(self, one: _Values) -> dict[str, tuple[float, float]]:
        """Simulated and real values of users with few, middling and many training ratings."""
        counts = self.population.train.user_counts[self.users]
        thirds = np.searchsorted(np.quantile(counts, [1 / 3, 2 / 3]), counts)
        return {
            name: (float(one.simulated[thirds == k].mean()), float(one.real[thirds == k].mean()))
            for k, name in enumerate(("few ratings", "middling", "many ratings"))
            if (thirds == k).any()
        }

    def scores_of_all(self, policy: Policy) -> FloatArray:
        """The policy's scores of all items for all users, before any answer."""
        episodes = Episodes(self.population, len(self.population.user_ids), Rules())
        episodes.state.counters[:, USER] = np.arange(len(episodes))
        return policy(episodes)

    def spread(self, random: _Values, resampler: Resampler) -> Interval:
        """The standard deviation over users of an episode's mean surprise, simulated over real."""
        weights = resampler.weights / resampler.weights.sum(axis=1, keepdims=True)
        sds = []
        for surprise in random.surprises:
            mean = weights @ surprise.mean(axis=1)
            sds.append(np.sqrt(np.maximum(weights @ (surprise**2).mean(axis=1) - mean**2, 0.0)))
        return resampler.interval(sds[0] / np.maximum(sds[1], 1e-12))


def _verdicts(tau: Interval, spread: Interval, level: Interval, exploitation: Interval) -> tuple[Verdict, ...]:
    low, high = SPREAD
    low, high = SPREAD
    return (
        Verdict("ranking", tau.estimate >= TAU, f"Kendall's tau is {tau.estimate:.2f}; at least {TAU} is asked for"),
        Verdict(
            "spread",
            low <= spread.estimate <= high,
            f"episodes spread {spread.estimate:.2f} times as much as real ones; {low} to {high} is asked for",
        ),
        Verdict(
            "level",
            abs(level.estimate) <= LEVEL_GAP,
            f"random choices have a gap of {level.estimate:+.3f}; at most {LEVEL_GAP} either way is asked for",
        ),
        Verdict(
            "exploitation",
            exploitation.estimate <= EXPLOITATION,
            f"the greedy policy's first choices gain {exploitation.estimate:+.3f} that is not real; at most "
            f"{EXPLOITATION:.2f} is asked for",
        ),
    )
