"""Agents of Stable-Baselines3 whose policy scores items by their vectors, and what they score in an episode.

A zip file of an agent is read for its parameters only; nothing in it can run code.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import DQNPolicy, MultiInputPolicy, QNetwork

from hybrid_sim.core.errors import ModelFileError
from hybrid_sim.core.types import FloatArray
from hybrid_sim.environments.episodes import Episodes
from hybrid_sim.environments.folder import Population
from hybrid_sim.environments.gym import RecommenderVectorEnv, observations_of
from hybrid_sim.environments.policies import Policy, item_means
from hybrid_sim.environments.sb3 import SB3VecEnv

Vectors = dict[str, FloatArray]
"""`users`, `(n_users, width)`: each user's mean of (rating - item mean) times item features in training; `items`,
`(n_items, width + 2)`: features, item mean and log popularity, the latter two standardised; `item_mean`, in [0, 1]."""


def vectors_of(population: Population) -> Vectors:
    """Vectors of users and items from training ratings; nothing of the simulator's predictions is in them."""
    train, scale, features = population.train, population.scale, population.features
    means = item_means(train)
    surprise = train.rating - means[train.item]
    sums = np.zeros((train.n_users, features.shape[1]))
    np.add.at(sums, train.user, surprise[:, None] * features[train.item])
    columns = np.column_stack([means, np.log1p(train.item_counts)])
    columns = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)
    return {
        "users": sums / np.sqrt(train.user_counts + 1.0)[:, None],
        "items": np.hstack([features, columns]),
        "item_mean": (means - scale.low) / (scale.high - scale.low),
    }


class StateFeatures(BaseFeaturesExtractor):
    """The person's vector, the mean of (answer - item mean) times features over what is shown, and the step."""

    users: torch.Tensor
    items: torch.Tensor
    means: torch.Tensor

    def __init__(self, observation_space: spaces.Dict, vectors: Vectors) -> None:
        width = vectors["users"].shape[1]
        super().__init__(observation_space, 2 * width + 1)
        self.top = float(observation_space["answers"].high.max())  # type: ignore[attr-defined]  # it is a Box
        self.n_steps = float(observation_space["step"].high.max())  # type: ignore[attr-defined]  # it is a Box
        nothing = np.zeros((1, width))
        self.register_buffer("users", _tensor(vectors["users"]), persistent=False)
        self.register_buffer("items", _tensor(np.vstack([nothing, vectors["items"][:, :width]])), persistent=False)
        self.register_buffer("means", _tensor(np.append(0.0, vectors["item_mean"])), persistent=False)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features of a batch; the user is one-hot, as Stable-Baselines3 prepares it."""
        shown = observations["shown"].long()
        surprise = (observations["answers"] / self.top - self.means[shown]) * (shown > 0)
        session = (surprise[..., None] * self.items[shown]).sum(dim=1)
        user = observations["user"].reshape(len(shown), -1) @ self.users
        return torch.cat([user, session, observations["step"] / self.n_steps], dim=1)


class ItemScores(torch.nn.Module):
    """Scores of items: a linear map of the state, times the vector of each item."""

    items: torch.Tensor

    def __init__(self, width: int, vectors: Vectors) -> None:
        super().__init__()
        self.weights = torch.nn.Linear(width, vectors["items"].shape[1])
        self.register_buffer("items", _tensor(vectors["items"]), persistent=False)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Scores, shape `(n_states, n_items)`."""
        return torch.as_tensor(self.weights(state) @ self.items.T)


class _ActorCritic(MultiInputActorCriticPolicy):
    """An actor-critic policy with `ItemScores` for its actions."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        _score_items(self, lr_schedule)


class _MaskableActorCritic(MaskableMultiInputActorCriticPolicy):
    """The same, of which closed items are masked."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        _score_items(self, lr_schedule)


def _score_items(policy: Any, lr_schedule: Any) -> None:
    policy.action_net = ItemScores(policy.mlp_extractor.latent_dim_pi, policy.features_extractor_kwargs["vectors"])
    policy.optimizer = policy.optimizer_class(policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs)


class _DeepQ(MultiInputPolicy):
    """A Q network with `ItemScores` for its actions."""

    def make_q_net(self) -> QNetwork:
        """The network, its last layer replaced."""
        network = DQNPolicy.make_q_net(self)
        layers = list(network.q_net)[:-1]
        width = self.net_arch[-1]
        network.q_net = torch.nn.Sequential(*layers, ItemScores(width, self.features_extractor_kwargs["vectors"]))
        return network.to(self.device)


ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], type[Any], dict[str, Any]]] = {
    "a2c": (A2C, _ActorCritic, {"n_steps": 8, "learning_rate": 1e-3}),
    "dqn": (
        DQN,
        _DeepQ,
        {"learning_starts": 2000, "buffer_size": 50_000, "train_freq": 4, "exploration_fraction": 0.3, "gamma": 0.5},
    ),
    "ppo": (PPO, _ActorCritic, {"n_steps": 32, "batch_size": 256, "n_epochs": 5, "learning_rate": 1e-3}),
    "trpo": (TRPO, _ActorCritic, {"n_steps": 32, "batch_size": 256}),
    "maskable-ppo": (
        MaskablePPO,
        _MaskableActorCritic,
        {"n_steps": 32, "batch_size": 256, "n_epochs": 5, "learning_rate": 1e-3},
    ),
}
"""Algorithm, policy and settings by name."""


N_ROWS = 16
"""Rows of the vector environment that agents learn in."""


def new_agent(name: str, population: Population, seed: int) -> BaseAlgorithm:
    """An untrained agent in an environment of `N_ROWS` rows."""
    algorithm, policy, settings = ALGORITHMS[name]
    env = SB3VecEnv(RecommenderVectorEnv(N_ROWS, folder=population))
    kwargs = {
        "features_extractor_class": StateFeatures,
        "features_extractor_kwargs": {"vectors": vectors_of(population)},
    }
    torch.set_num_threads(1)  # a small network is slower on several
    return algorithm(policy, env, seed=seed, policy_kwargs=kwargs, device="cpu", **settings)


def read_parameters(agent: BaseAlgorithm, path: Path) -> None:
    """Read an agent's parameters from its zip file.

    Raises:
        ModelFileError: it is no such file, or of another algorithm or population.
    """
    try:
        if path.stat().st_size > 1e9:
            raise ValueError("larger than any agent")
        agent.set_parameters(str(path), device="cpu")
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(
            f"{path} is not an agent of this environment ({reason[:120]}); name a file that `hybrid-sim train` wrote "
            "for it"
        ) from error


def read_agent(path: Path, population: Population) -> Policy:
    """The policy of an agent that `hybrid-sim train` wrote; the name of the file says the algorithm.

    Raises:
        ModelFileError: it is no such file, or of another population.
    """
    name = next((name for name in sorted(ALGORITHMS, key=len, reverse=True) if path.name.startswith(f"{name}-")), None)
    if name is None:
        raise ModelFileError(
            f"{path} does not begin with the name of an algorithm, such as ppo-0.zip; name a file that "
            "`hybrid-sim train` wrote"
        )
    agent = new_agent(name, population, 0)
    read_parameters(agent, path)
    return policy_of(agent)


def policy_of(agent: BaseAlgorithm) -> Policy:
    """The scores of an agent: logits of its actions, or Q values."""
    policy: Any = agent.policy

    def scores(episodes: Episodes) -> FloatArray:
        state = episodes.state
        observation, _ = policy.obs_to_tensor(observations_of(state.counters, state.shown, state.answers))
        with torch.no_grad():
            if isinstance(agent, DQN):
                values = policy.q_net(observation)
            else:
                values = policy.get_distribution(observation).distribution.logits
        return np.asarray(values.numpy(), dtype=float)

    return scores


def _tensor(values: FloatArray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
