"""Figures of an environment: is the person believable, is the environment, and how fast is it.

    hybrid-sim env build --dataset ml-100k -o ENV_DIR
    python experiments/environment.py ENV_DIR [PART ...]    writes experiments/results/environment-NAME.json

PART is one of next_rating, second_half, shift, ranking, planted, agents, speed; all by default. Intervals resample
users.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_sim.core.files import write_json_file
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray
from hybrid_sim.environments.correlation import Correlation, Sequences
from hybrid_sim.environments.episodes import Episodes, Rules
from hybrid_sim.environments.folder import Population, open_population
from hybrid_sim.environments.planted import PLANTED
from hybrid_sim.environments.policies import play, standard_policies
from hybrid_sim.environments.rank import rank
from hybrid_sim.evaluation.bootstrap import bootstrap_rmse, paired_bootstrap

RESULTS = Path(__file__).parent / "results"
NONE = Correlation(0.0, 0.0)
STEPS_TIMED = 300_000
ALGORITHMS, SEEDS, N_TRAINING_STEPS = ("ppo", "a2c"), (0, 1, 2), 60_000


def next_rating(population: Population) -> dict[str, Any]:
    """Each held-out rating given the user's earlier held-out ones, against the static prediction and a stranger's."""
    held_out, sequences = population.held_out, sequences_of(population)
    static, own = (sequences.predicted(population.features, c) for c in (NONE, population.correlation))
    return {
        "n": len(held_out),
        "static": losses(population, static),
        "own history": losses(population, own),
        "stranger's history": losses(population, stranger_predicted(population, sequences)),
        "own minus static": differences(population, own, static),
    }


def second_half(population: Population) -> dict[str, Any]:
    """The second half of each user's held-out ratings, where the belief has learned from the first half only."""
    sequences = sequences_of(population)
    half = np.diff(sequences.starts) // 2
    place = np.arange(len(sequences.rows)) - np.repeat(sequences.starts[:-1], np.diff(sequences.starts))
    later = np.zeros(len(sequences.rows), dtype=bool)
    later[sequences.rows] = place >= np.repeat(half, np.diff(sequences.starts))
    probs = np.empty((len(later), population.scale.n_levels))
    for n in np.unique(half):  # a belief that is frozen after n ratings
        predicted = sequences.predicted(population.features, population.correlation, int(n))
        chosen = later & (half[population.held_out.user] == n)
        probs[chosen] = predicted[chosen]
    static = sequences.predicted(population.features, NONE)
    return {
        "n": int(later.sum()),
        "static": losses(population, static, later),
        "frozen": losses(population, probs, later),
    }


def shift(population: Population, n_users: int = 20, n_episodes: int = 2000, n_steps: int = 20) -> dict[str, Any]:
    """How far the mean belief about unseen items moves in simulated episodes, in rating units; it should not."""
    rng = stream(0, "shift")
    users = rng.choice(np.flatnonzero(population.train.user_counts), n_users, replace=False)
    largest, errors = [], []
    for user in users.tolist():
        episodes = Episodes(population, n_episodes, Rules(max_steps=n_steps + 1))
        episodes.reset(range(n_episodes), range(n_episodes), population.user_ids[user])
        order = rng.permutation(np.flatnonzero(episodes.action_masks()[0]))
        shown, unseen = order[:n_steps], order[n_steps : n_steps + 50]
        for item in shown:
            episodes.step(np.full((n_episodes, 1), item))
        after = np.array([episodes.predict_rows(unseen, row) @ population.scale.values for row in range(n_episodes)])
        moved = after.mean(axis=0) - population.means[user, unseen]
        largest.append(float(np.abs(moved).max()))
        errors.append(float(after.std(axis=0).max() / np.sqrt(n_episodes)))
    return {
        "users": n_users,
        "episodes": n_episodes,
        "steps": n_steps,
        "largest": max(largest),
        "mean of users' largest": float(np.mean(largest)),
        "standard error": max(errors),
    }


def ranking(population: Population) -> dict[str, Any]:
    """All policies, simulated against real."""
    return rank(population).to_json()


def planted(population: Population) -> dict[str, Any]:
    """The verdicts on environments with a planted fault."""
    return {name: [asdict(v) for v in rank(population, planted=name, n_boot=200).verdicts] for name in PLANTED}


def agents(population: Population) -> dict[str, Any]:
    """Reward of trained agents and other policies in episodes of 40 steps over the whole catalogue, and on the log."""
    from hybrid_sim.environments.agents import read_agent
    from hybrid_sim.environments.train import train

    trained, policies = {}, {}
    for algorithm in ALGORITHMS:
        folder = Path("build") / "agents" / population.train.name / algorithm
        for agent in train(algorithm, population, folder, steps=N_TRAINING_STEPS, seeds=SEEDS):
            name = f"{algorithm}-{agent.seed}"
            trained[name], policies[name] = agent.reward, read_agent(folder / agent.file, population)
    others = {}
    for name, policy in standard_policies(population).items():
        if name in ("random", "popularity", "item mean", "greedy"):
            episodes = Episodes(population, 256, Rules())
            episodes.reset(range(256), range(256))
            others[name] = float(play(episodes, policy, 40, 0).rewards.mean())
    on_log = [one for one in rank(population, policies).to_json()["policies"] if one["name"] in (*policies, *others)]
    values = {one["name"]: [one[kind][end] for kind in ("simulated", "real") for end in ("estimate", "low", "high")]
              for one in on_log}  # fmt: skip
    return {"steps": N_TRAINING_STEPS, "reward": trained | others, "simulated and real, choice sets": values}


def speed(population: Population) -> dict[str, Any]:
    """Steps per CPU second of one process, Gymnasium's interface included."""
    from hybrid_sim.env import RecommenderEnv, RecommenderVectorEnv

    effects: dict[str, Any] = {"boredom": 0.3, "drift": 0.02, "leave": 0.025, "patience": 8}
    n_items, result = len(population.item_ids), {}
    actions = stream(0, "speed").integers(n_items, size=(1000, 1024))
    single = RecommenderEnv(folder=population)
    single.reset(seed=0)
    result["single"] = per_second(lambda k: ends(single.step(int(actions[k % 1000, 0]))) and single.reset(), 1)
    for name, n, options in (("64 rows", 64, {}), ("1024 rows, all effects", 1024, effects)):
        many = RecommenderVectorEnv(n, folder=population, **options)
        many.reset(seed=0)
        result[name] = per_second(lambda k, many=many, n=n: many.step(actions[k % 1000, :n]), n)  # type: ignore[misc]  # defaults bind the loop's variables
    return result


def ends(step: tuple[Any, ...]) -> bool:
    """Whether a step ended its episode."""
    return bool(step[2] or step[3])


def per_second(step: Any, n: int) -> float:
    """Rows stepped per CPU second."""
    step(0)
    started, calls = time.process_time(), max(STEPS_TIMED // n, 50) // (8 if n == 1 else 1)
    for k in range(calls):
        step(k)
    return calls * n / (time.process_time() - started)


def sequences_of(population: Population) -> Sequences:
    """The held-out ratings, user by user."""
    return Sequences.of(population.held_out, population.distribution(population.held_out.pairs))


def stranger_predicted(population: Population, sequences: Sequences) -> FloatArray:
    """Each rating given as many ratings of the next user as the user gave before it, taken for the user's own."""
    starts = sequences.starts
    rated = np.flatnonzero(np.diff(starts))
    probs = np.empty((len(sequences.rows), population.scale.n_levels))
    episodes = Episodes(population, 1, Rules(repeats="allow", max_steps=10**6))
    for place, user in enumerate(rated.tolist()):
        stranger = int(rated[(place + 1) % len(rated)])
        episodes.reset([0], [0], population.user_ids[user])
        theirs = range(int(starts[stranger]), int(starts[stranger + 1]))
        for k, row in enumerate(range(int(starts[user]), int(starts[user + 1]))):
            probs[sequences.rows[row]] = episodes.predict_rows(sequences.item[row : row + 1])[0]
            if k < len(theirs):
                other = theirs[k]
                rating = float(population.scale.levels[int(sequences.level[other])])
                episodes.observe(population.item_ids[int(sequences.item[other])], rating)
    return probs


def losses(population: Population, probs: FloatArray, rows: Any = slice(None)) -> dict[str, Any]:
    """RMSE with its interval, and log loss."""
    held_out = population.held_out
    truth, user = held_out.rating[rows], held_out.user[rows]
    level = population.scale.index(truth)
    return {
        "rmse": bootstrap_rmse(truth, probs[rows] @ population.scale.values, user).values,
        "log loss": float(-np.log(np.maximum(probs[rows][np.arange(len(level)), level], 1e-12)).mean()),
    }


def differences(population: Population, a: FloatArray, b: FloatArray) -> dict[str, Any]:
    """Those of two predictions, with intervals."""
    held_out, values = population.held_out, population.scale.values
    level = population.scale.index(held_out.rating)
    squares = [(p @ values - held_out.rating) ** 2 for p in (a, b)]
    logs = [-np.log(np.maximum(p[np.arange(len(level)), level], 1e-12)) for p in (a, b)]
    return {
        "rmse": paired_bootstrap(*squares, held_out.user).values,
        "log loss": paired_bootstrap(*logs, held_out.user, "mean").values,
    }


PARTS = (next_rating, second_half, shift, ranking, planted, agents, speed)


def main(words: list[str]) -> int:
    """Make the named parts for an environment, all by default."""
    if not words:
        sys.stderr.write(__doc__ or "")
        return 2
    population = open_population(words[0])
    path = RESULTS / f"environment-{population.train.name}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    results["provenance"] = asdict(provenance(["python", "experiments/environment.py", words[0]], 0, population.train))
    results["protocol"] = population.protocol
    results["correlation"] = asdict(population.correlation)
    for part in PARTS:
        if part.__name__ in words[1:] or not words[1:]:
            results[part.__name__] = part(population)
            write_json_file(path, results)
            sys.stdout.write(f"{part.__name__}: {json.dumps(results[part.__name__], default=str)[:1500]}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
