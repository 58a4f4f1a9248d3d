"""Environments for Gymnasium. Importing this module registers them: `HybridSim/Recommend-v0`, `Slate-v0`, `Replay-v0`.

    import gymnasium, hybrid_sim.env

    env = gymnasium.make("HybridSim/Recommend-v0", folder="ENV_DIR")
    many = gymnasium.make_vec("HybridSim/Recommend-v0", num_envs=64, folder="ENV_DIR")

Needs the extra `rl`; `SB3VecEnv` needs `agents`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybrid_sim.environments.extras import require

require("gymnasium", "rl")

import gymnasium  # noqa: E402  after the check that it is there

from hybrid_sim.environments.folder import Population, open_population  # noqa: E402
from hybrid_sim.environments.gym import RecommenderEnv, RecommenderVectorEnv  # noqa: E402

if TYPE_CHECKING:
    from hybrid_sim.environments.sb3 import SB3VecEnv

__all__ = ["Population", "RecommenderEnv", "RecommenderVectorEnv", "SB3VecEnv", "open_population"]

for _name in ("Recommend", "Slate", "Replay"):
    gymnasium.register(
        f"HybridSim/{_name}-v0",
        "hybrid_sim.environments.gym:RecommenderEnv",
        vector_entry_point="hybrid_sim.environments.gym:RecommenderVectorEnv",
        kwargs={"kind": _name.lower()},
        order_enforce=False,
    )


def __getattr__(name: str) -> Any:
    if name != "SB3VecEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("stable_baselines3", "agents")
    from hybrid_sim.environments.sb3 import SB3VecEnv

    return SB3VecEnv
