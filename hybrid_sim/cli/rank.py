"""`hybrid-sim rank`: policies in an environment and on the log, and whether the environment can be believed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output, whole_number
from hybrid_sim.cli.terminal import show
from hybrid_sim.core.files import write_json_file

if TYPE_CHECKING:
    from hybrid_sim.environments.folder import Population
    from hybrid_sim.environments.policies import Policy
    from hybrid_sim.environments.rank import Ranking
    from hybrid_sim.evaluation.bootstrap import Interval

DESCRIPTION = """\
Let every policy show items from the same choice sets of held-out items, once with simulated and once with the real
answers. Values are mean rewards in [0, 1]; the gap is simulated minus real, with 95% intervals over users. A gap above
that of the random policy is what a policy gains by exploiting errors of the simulator.
"""


def _add_options(parser: Parser) -> None:
    parser.option("folder ENV_DIR", "an environment that `env build` wrote", Path)
    parser.option("--agents FILE.zip", "agents that `train` wrote for this environment", Path, nargs="+", default=[])
    parser.option("--planted NAME", _planted_help)
    parser.option("--seed SEED", "of everything random (default 0)", whole_number(0), default=0)
    parser.option("--json FILE", "also as JSON", Path)


def _planted_help() -> str:
    from hybrid_sim.environments.planted import PLANTED

    return f"put a fault into the environment, which must be found out: {', '.join(PLANTED)}"


def run(options: argparse.Namespace) -> int:
    """Open, try all policies, print and write."""
    check_output("--json", options.json)
    from hybrid_sim.environments.folder import open_population
    from hybrid_sim.environments.rank import rank

    population = open_population(options.folder)
    agents = _agents(options.agents, population)
    ranking = rank(population, agents, planted=options.planted, seed=options.seed)
    show(*_lines(ranking))
    if options.json is not None:
        write_json_file(options.json, ranking.to_json())
    return 0


def _agents(files: Sequence[Path], population: Population) -> dict[str, Policy]:
    """The policies of agents by the names of their files."""
    if not files:
        return {}
    from hybrid_sim.environments.extras import require

    require("gymnasium", "rl")
    require("stable_baselines3", "agents")
    require("sb3_contrib", "agents")
    from hybrid_sim.environments.agents import read_agent

    return {path.stem: read_agent(path, population) for path in files}


def _lines(ranking: Ranking) -> list[str]:
    lines = [f"{'policy':24} simulated   real     gap                       beyond random"]
    for one in ranking.policies:
        lines.append(
            f"{one.name:24} {one.simulated.estimate:9.3f} {one.real.estimate:6.3f}  {_interval(one.gap)}  "
            f"{one.gap_beyond_random.estimate:+.3f}"
        )
    lines.append(f"{ranking.n_users} users, Kendall's tau {_interval(ranking.kendall_tau)}")
    return [
        *lines,
        *(
            f"{'passed' if verdict.passed else 'FAILED'} {verdict.name}: {verdict.finding}"
            for verdict in ranking.verdicts
        ),
    ]


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


COMMANDS.add("rank", Command("policies, simulated against real", DESCRIPTION, _add_options, run, "evaluate"))
