"""`hybrid-sim train`: agents of Stable-Baselines3 in an environment."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, one_of, whole_number, words_list
from hybrid_sim.cli.terminal import show

NAMES = ("a2c", "dqn", "ppo", "trpo", "maskable-ppo")

DESCRIPTION = """\
Train agents whose policy scores items by their vectors: DIR/ALGORITHM-SEED.zip and DIR/result.json. A training that was
killed goes on where its last checkpoint is. Needs the extra `agents`; `hybrid-sim rank` tries the agents on the log.
"""


def _seeds(text: str) -> list[int]:
    return [whole_number(0)(word) for word in words_list(text)]


def _add_options(parser: Parser) -> None:
    parser.option(f"algorithm {'|'.join(NAMES)}", "the algorithm", one_of(NAMES))
    parser.option("folder ENV_DIR", "an environment that `env build` wrote", Path)
    parser.option("--steps N", "steps of training (default 60000)", whole_number(1), default=60_000)
    parser.option("--seeds 0,1,2", "an agent per seed (default 0)", _seeds, default=[0])
    every = "steps between checkpoints (default 20000)"
    parser.option("--checkpoint-every N", every, whole_number(1), default=20_000)
    parser.option("-o --output DIR", "the folder of the agents", Path, required=True)


def run(options: argparse.Namespace) -> int:
    """Train, judge and write."""
    from hybrid_sim.environments.extras import require

    require("gymnasium", "rl")
    require("stable_baselines3", "agents")
    require("sb3_contrib", "agents")
    from hybrid_sim.environments.folder import open_population
    from hybrid_sim.environments.train import train

    agents = train(
        options.algorithm,
        open_population(options.folder),
        options.output,
        steps=options.steps,
        seeds=options.seeds,
        checkpoint_every=options.checkpoint_every,
    )
    for agent in agents:
        show(f"{agent.file}: reward {agent.reward:.3f} per step, {agent.liking_ratio:.0%} of steps with at least .5")
    return 0


COMMANDS.add("train", Command("train agents in an environment", DESCRIPTION, _add_options, run, "evaluate"))
