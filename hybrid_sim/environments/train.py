"""Trains agents in an environment, seed by seed, and goes on where a killed training stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from hybrid_sim.core.errors import RunError, SettingsError
from hybrid_sim.core.files import read_json_file, write_json_file
from hybrid_sim.core.progress import Task, track
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.environments.agents import new_agent, policy_of, read_parameters
from hybrid_sim.environments.episodes import Episodes, Rules
from hybrid_sim.environments.folder import Population
from hybrid_sim.environments.policies import play

N_EPISODES = 256
"""Episodes that a trained agent is judged by."""

PROGRESS = "progress.json"
RESULT = "result.json"


@dataclass(frozen=True)
class TrainedAgent:
    """What a trained agent earns in the environment it was trained in.

    `reward` is the mean per step, `total` that of an episode's sum, `liking_ratio` the share of steps with a reward of
    at least .5, `satisfaction` the mean reward of each step of an episode, `(n_steps,)`.
    """

    seed: int
    file: str
    reward: float
    total: float
    liking_ratio: float
    satisfaction: tuple[float, ...]


def train(
    algorithm: str,
    population: Population,
    folder: Path,
    *,
    steps: int,
    seeds: Sequence[int] = (0,),
    checkpoint_every: int = 20_000,
) -> tuple[TrainedAgent, ...]:
    """An agent per seed, `ALGORITHM-SEED.zip`, and `result.json` in `folder`; finished ones are not trained again.

    After each `checkpoint_every` steps the agent so far is written, and a training that is called again goes on from
    there.

    Raises:
        RunError: `folder` holds the agents of another training.
    """
    _open(folder, {"algorithm": algorithm, "steps": steps, "environment": population.train.digest})
    results = []
    for seed in seeds:
        agent = _trained(algorithm, population, folder, steps, seed, checkpoint_every)
        results.append(_judged(agent, population, seed, f"{algorithm}-{seed}.zip"))
        agents = [vars(result) for result in results]
        content = {"kind": "agents", "algorithm": algorithm, "steps": steps, "agents": agents}
        write_json_file(folder / RESULT, content)
    return tuple(results)


def _open(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / PROGRESS
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        write_json_file(path, {"settings": settings, "done": {}})
        return
    if not path.is_file():
        raise SettingsError(f"{folder} holds something else than agents; choose a new folder")
    if _progress(path)["settings"] != settings:
        raise RunError(
            f"{folder} holds agents of another algorithm, environment or number of steps; choose a new folder"
        )


def _progress(path: Path) -> dict[str, Any]:
    try:
        progress = read_json_file(path)
        if not isinstance(progress["settings"], dict) or not isinstance(progress["done"], dict):
            raise TypeError("no settings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); train in a new folder") from error
    return dict(progress)


def _trained(
    algorithm: str, population: Population, folder: Path, steps: int, seed: int, checkpoint_every: int
) -> BaseAlgorithm:
    agent = new_agent(algorithm, population, seed)
    path, done = folder / f"{algorithm}-{seed}.zip", _progress(folder / PROGRESS)["done"].get(str(seed), 0)
    if done:
        read_parameters(agent, path)
    if done < steps:
        with track(f"training {algorithm}, seed {seed}", steps) as progress:
            progress.advance(done)
            agent.num_timesteps = done

            def keep(n: int) -> None:
                _checkpoint(agent, path, folder, seed, n)

            callback = _Checkpoints(progress, keep, done, checkpoint_every)
            agent.learn(steps - done, reset_num_timesteps=False, callback=callback)
        _checkpoint(agent, path, folder, seed, steps)
    return agent


def _checkpoint(agent: BaseAlgorithm, path: Path, folder: Path, seed: int, done: int) -> None:
    unfinished = path.with_name(f".{path.name}")  # Stable-Baselines3 adds no second suffix
    agent.save(unfinished)
    unfinished.replace(path)
    progress = _progress(folder / PROGRESS)
    progress["done"][str(seed)] = done
    write_json_file(folder / PROGRESS, progress)


class _Checkpoints(BaseCallback):
    """Reports steps as they are done, and calls `keep` with their number after every so many."""

    def __init__(self, progress: Task, keep: Callable[[int], None], done: int, every: int) -> None:
        super().__init__()
        self.progress, self.keep, self.every = progress, keep, every
        self.reported = self.kept = done

    def _on_step(self) -> bool:
        self.progress.advance(self.num_timesteps - self.reported)
        self.reported = self.num_timesteps
        if self.num_timesteps - self.kept >= self.every:
            self.keep(self.num_timesteps)
            self.kept = self.num_timesteps
        return True


def _judged(agent: BaseAlgorithm, population: Population, seed: int, file: str) -> TrainedAgent:
    rules = Rules()
    episodes = Episodes(population, N_EPISODES, rules)
    episodes.reset(range(N_EPISODES), [derive_seed(seed, "judged", row) for row in range(N_EPISODES)])
    n_steps = int(min(rules.max_steps, episodes.action_masks().sum(axis=1).min()))
    rewards = play(episodes, policy_of(agent), n_steps, seed).rewards
    return TrainedAgent(
        seed,
        file,
        float(rewards.mean()),
        float(rewards.sum(axis=1).mean()),
        float(np.mean(rewards >= 0.5)),
        tuple(rewards.mean(axis=0).tolist()),
    )
