"""The environments for Gymnasium: one at a time, and many in one compiled vector environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.environments.episodes import Episodes, Rules
from hybrid_sim.environments.folder import Population, open_population
from hybrid_sim.environments.kernel import LEVEL, REPEATED, STEP, TAKEN, TERMINATED, TRUNCATED, USER
from hybrid_sim.simulation.simulator import SOURCES

Observation = dict[str, Any]
Kind = Literal["recommend", "slate", "replay"]

SLATE_SIZE = 5
"""Items that `Slate-v0` shows where nothing else is asked for."""


class _Setup:
    """Episodes as the options say, their spaces, and ids by row."""

    def __init__(self, n: int, kind: Kind, autoreset: bool, options: dict[str, Any]) -> None:
        own = {"folder": None, "users": None, "explain": False, "slate_size": SLATE_SIZE if kind == "slate" else None}
        for name in options:
            known = [*Rules.__dataclass_fields__, *own]
            if name not in known:
                raise SettingsError(f"there is no option {name!r}; {nearest(name, known)}")
        own |= {name: value for name, value in options.items() if name in own}
        rules = Rules(**{name: value for name, value in options.items() if name not in own})
        folder: Any = own["folder"]
        if folder is None:
            raise SettingsError("folder=... is missing; name a folder that `hybrid-sim env build` wrote")
        if own["slate_size"] is not None and kind != "slate":
            raise SettingsError("slate_size belongs to HybridSim/Slate-v0; leave it out")
        population = folder if isinstance(folder, Population) else open_population(folder)
        users: Any = own["users"]
        size: Any = own["slate_size"]
        self.kind = kind
        self.explain = bool(own["explain"])
        self.episodes = Episodes(
            population, n, rules, users=users, replay=kind == "replay", slate_size=size or 1, autoreset=autoreset
        )
        self.population = population
        self.levels = np.append(population.scale.values, np.nan)
        self.user_ids = np.array(population.user_ids, dtype=object)
        self.item_ids = np.array([*population.item_ids, ""], dtype=object)
        # The level of the fallback hierarchy that the simulator's predictions rest on, as in `SOURCES`.
        self.user_known = 2 * (population.train.user_counts > 0)
        self.item_known = np.append(population.train.item_counts > 0, False).astype(np.int64)
        self.sources = np.array(SOURCES, dtype=object)

    def action_space(self) -> spaces.Space[Any]:
        n_items = len(self.population.item_ids)
        if self.kind == "slate":
            return spaces.MultiDiscrete(np.full(self.episodes.slate_size, n_items))
        return spaces.Discrete(n_items)

    def observation_space(self) -> spaces.Dict:
        rules = self.episodes.rules
        return spaces.Dict(
            {
                "user": spaces.Discrete(len(self.population.user_ids)),
                "shown": spaces.Box(0, len(self.population.item_ids), (rules.history,), np.int64),
                "answers": spaces.Box(-1, self.population.scale.n_levels - 1, (rules.history,), np.int64),
                "step": spaces.Box(0, rules.max_steps, (1,), np.int64),
            }
        )

    def source(self, user: Any, item: Any) -> Any:
        """What the answers rest on; users and items are row numbers."""
        if self.kind == "replay":
            return "real" if np.ndim(user) == 0 else np.full(len(user), "real", dtype=object)
        return self.sources[self.user_known[user] + self.item_known[item]]


class _Access:
    """Reading and changing the episode of an environment, beside Gymnasium's own methods."""

    _setup: _Setup

    @property
    def episodes(self) -> Episodes:
        """The episodes behind the environment."""
        return self._setup.episodes

    @property
    def population(self) -> Population:
        """The people and items."""
        return self._setup.population

    def snapshot(self) -> bytes:
        """The whole state, for `restore`."""
        return self.episodes.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Go back to a snapshot of an environment of the same folder and options.

        Raises:
            SettingsError: it is no such snapshot.
        """
        self.episodes.restore(snapshot)


class RecommenderEnv(_Access, gymnasium.Env[Observation, Any]):
    """One person to whom items are shown, in `HybridSim/Recommend-v0`, `Slate-v0` and `Replay-v0`.

    Actions are row numbers of items, `population.item_ids` names them. An observation has `user`, the row of the
    person; `shown`, the latest items (row + 1; 0: none) and `answers` (position on the scale; -1: none), newest last;
    and `step`. Options beside `folder`, `users` and `explain` are those of `hybrid_sim.environments.episodes.Rules`.

    Raises:
        SettingsError: an option or a user is not known.
        ModelFileError: the folder is damaged, or no environment.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  declared so by Gymnasium

    def __init__(self, kind: Kind = "recommend", **options: Any) -> None:
        self._setup = _Setup(1, kind, False, options)
        self.action_space = self._setup.action_space()
        self.observation_space = self._setup.observation_space()
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with a random person, or with `options={"user_id": ...}`.

        Raises:
            SettingsError: the user or an option is not known.
        """
        is_first = self._np_random is None
        super().reset(seed=seed)
        for name in options or {}:
            if name != "user_id":
                raise SettingsError(f"reset has no option {name!r}; choose user_id")
        if seed is None and is_first:
            seed = int(self.np_random.integers(2**62))
        self.episodes.reset([0], None if seed is None else [seed], (options or {}).get("user_id"))
        return self._observation(), {"user_id": self.user_id}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show the person an item, or a slate.

        Raises:
            SettingsError: the action names no item, or no episode has begun.
        """
        actions = np.asarray(action)
        if actions.dtype.kind not in "iu" or actions.size != self.episodes.slate_size:
            raise SettingsError(f"action {action!r} is not {self.action_space}")
        if self._np_random is None:
            raise SettingsError("no episode has begun; call reset first")
        self.episodes.step(actions.reshape(1, -1).astype(np.int64))
        results = self.episodes.results
        item, level, repeated, terminated, truncated = results.outcomes[0].tolist()
        setup = self._setup
        info = {
            "user_id": self.user_id,
            "item_id": setup.item_ids[item],
            "rating": float(setup.levels[level]),
            "p": results.probs[0].copy(),
            "source": setup.source(self.episodes.state.counters[0, USER], item),
            "repeat": bool(repeated),
            "cost_usd": 0.0,
        }
        if setup.explain and level >= 0:
            info["explanation"] = self._explanation(item, results.probs[0])
        return self._observation(), float(results.rewards[0]), bool(terminated), bool(truncated), info

    @property
    def user_id(self) -> str:
        """The id of the person in the episode."""
        return self.population.user_ids[int(self.episodes.state.counters[0, USER])]

    def predict(self, item_ids: Iterable[str]) -> FloatArray:
        """Distributions of the person's ratings of these items, given all that happened, `(n_items, n_levels)`.

        Raises:
            SettingsError: an item is not known.
        """
        return self.episodes.predict(item_ids)

    def observe(self, item_id: str, rating: float) -> None:
        """Learn from a rating that the real person gave.

        Raises:
            SettingsError: the item is not known.
            ScaleError: the rating is not on the scale.
        """
        self.episodes.observe(item_id, rating)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which items are open, shape `(n_items,)`; of a slate for each place, `(slate_size * n_items,)`."""
        return np.tile(self.episodes.action_masks()[0], self.episodes.slate_size)

    def _observation(self) -> Observation:
        state = self.episodes.state
        return {
            "user": np.int64(state.counters[0, USER]),
            "shown": state.shown[0].copy(),
            "answers": state.answers[0].copy(),
            "step": state.counters[0, STEP : STEP + 1].copy(),
        }

    def _explanation(self, item: int, probs: FloatArray) -> str:
        """What the answer was drawn from: the simulator's expectation, and what this episode's answers changed."""
        scale, user = self.population.scale, int(self.episodes.state.counters[0, USER])
        before = float(self.population.distributions_of(user).mean()[item])
        now = float(probs @ scale.values)
        titles = self.population.train.items
        name = str(titles["title"].iloc[item]) if "title" in titles else self.population.item_ids[item]
        return f"{name}: {before:.2f} expected from the ratings learned from, {now:.2f} after this episode's answers"


class RecommenderVectorEnv(_Access, VectorEnv[Observation, Any, Any]):
    """Many episodes in one compiled step; one that ends begins anew in the same step.

    Row e of `reset(seed=s)` is the single environment of `reset(seed=s + e)`. Options are those of `RecommenderEnv`;
    `info` has an array per key, a row per episode. Of rows that ended, `info["final_obs"]` and `info["final_info"]`
    hold the last observation and information.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  as above

    def __init__(self, num_envs: int = 1, kind: Kind = "recommend", **options: Any) -> None:
        self._setup = _Setup(num_envs, kind, True, options)
        self.num_envs = num_envs
        self.single_action_space = self._setup.action_space()
        self.single_observation_space = self._setup.observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.render_mode = None

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin all episodes, or those of `options={"reset_mask": ...}`; `user_id` as in the single environment.

        Raises:
            SettingsError: the user or an option is not known, or the seeds are not one per row.
        """
        is_first = self._np_random is None
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, dtype=bool)))
        user = options.pop("user_id", None)
        if options:
            raise SettingsError(f"reset has no option {next(iter(options))!r}; choose user_id or reset_mask")
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise SettingsError(f"reset_mask is no array of {self.num_envs} booleans")
        super().reset(seed=seed if seed is None or isinstance(seed, int) else seed[0])
        if seed is None and is_first:
            seed = self.np_random.integers(2**62, size=self.num_envs).tolist()
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise SettingsError(f"{len(seeds)} seeds are not one for each of {self.num_envs} rows")
        rows = np.flatnonzero(mask)
        self.episodes.reset(rows, None if seeds is None else [seeds[row] for row in rows.tolist()], user)
        state = self.episodes.state
        return observations_of(state.counters, state.shown, state.answers), {
            "user_id": self._setup.user_ids[state.counters[:, USER]]
        }

    def step(
        self, actions: Any
    ) -> tuple[Observation, FloatArray, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Show each person an item, or a slate.

        Raises:
            SettingsError: an action names no item, or no episode has begun.
        """
        actions = np.asarray(actions)
        if actions.dtype.kind not in "iu" or actions.size != self.num_envs * self.episodes.slate_size:
            raise SettingsError(
                f"actions of shape {actions.shape} and type {actions.dtype} are not {self.action_space}"
            )
        if self._np_random is None:
            raise SettingsError("no episode has begun; call reset first")
        episodes, setup = self.episodes, self._setup
        users = episodes.state.counters[:, USER].copy()
        episodes.step(actions.reshape(self.num_envs, -1).astype(np.int64, copy=False))
        state, results = episodes.state, episodes.results
        outcomes = results.outcomes
        item = outcomes[:, TAKEN]
        info: dict[str, Any] = {
            "user_id": setup.user_ids[users],
            "item_id": setup.item_ids[item],
            "rating": setup.levels[outcomes[:, LEVEL]],
            "p": results.probs.copy(),
            "source": setup.source(users, item),
            "repeat": outcomes[:, REPEATED] > 0,
            "cost_usd": np.zeros(self.num_envs),
        }
        terminated, truncated = outcomes[:, TERMINATED] > 0, outcomes[:, TRUNCATED] > 0
        ended = terminated | truncated
        if ended.any():
            last = observations_of(results.final_counters, results.final_shown, results.final_answers)
            info |= {
                "final_obs": _by_row(last, ended),
                "final_info": {name: values.copy() for name, values in info.items()},
                "_final_obs": ended,
                "_final_info": ended.copy(),
            }
        observations = observations_of(state.counters, state.shown, state.answers)
        return observations, results.rewards.copy(), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which items are open in each row, shape `(num_envs, n_items)`."""
        return self.episodes.action_masks()


def observations_of(counters: IntArray, shown: IntArray, answers: IntArray) -> Observation:
    return {
        "user": counters[:, USER].copy(),
        "shown": shown.copy(),
        "answers": answers.copy(),
        "step": counters[:, STEP : STEP + 1].copy(),
    }


def _by_row(observations: Observation, rows: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The observation of each of these rows, None in all others."""
    separate = np.full(len(rows), None, dtype=object)
    for row in np.flatnonzero(rows):
        separate[row] = {name: values[row] for name, values in observations.items()}
    return separate
