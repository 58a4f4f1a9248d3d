"""The vector environment as Stable-Baselines3 wants it; its algorithms refuse that of Gymnasium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from hybrid_sim.environments.gym import RecommenderVectorEnv


class SB3VecEnv(VecEnv):
    """A `RecommenderVectorEnv` for Stable-Baselines3 and sb3-contrib.

    `infos` have `terminal_observation` and `TimeLimit.truncated` where an episode ended, and nothing else: the rest is
    in `last_info`. `env_method("action_masks")` gives what maskable algorithms ask for.
    """

    def __init__(self, vector_env: RecommenderVectorEnv) -> None:
        self.vector_env = vector_env
        self.last_info: dict[str, Any] = {}
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Begin all episodes, with the seeds that `seed` set."""
        seeds = self._seeds if None not in self._seeds else None
        observations, self.last_info = self.vector_env.reset(seed=seeds)  # type: ignore[arg-type]  # no None is in it
        self._reset_seeds()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return observations

    def step_async(self, actions: Any) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows."""
        observations, rewards, terminated, truncated, self.last_info = self.vector_env.step(self._actions)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(dones):
            infos[row] = {
                "terminal_observation": self.last_info["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row]),
            }
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the vector environment, once per row."""
        return [getattr(self.vector_env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Rows have no attributes of their own.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("rows of a compiled environment have no attributes of their own")

    def env_method(self, method_name: str, *arguments: Any, indices: VecEnvIndices = None, **named: Any) -> list[Any]:
        """What a method of the vector environment gives for each row."""
        values: Sequence[Any] = getattr(self.vector_env, method_name)(*arguments, **named)
        return [values[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No row has a wrapper."""
        return [False for _ in self._get_indices(indices)]
