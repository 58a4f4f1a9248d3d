"""`hybrid-sim env`: build an environment for recommender agents."""

from __future__ import annotations

import argparse
from pathlib import Path

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, add_run_options, new_simulator, read_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser
from hybrid_sim.cli.protocol_options import add_protocol_options, read_protocol
from hybrid_sim.cli.terminal import show
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest

DESCRIPTION = """\
build fits a simulator to the training ratings of a protocol and writes an environment: the simulator, its predictions
of all pairs, how answers of one person hang together, and the ratings held out. It is for Gymnasium:

  gymnasium.make("hybrid_sim.env:HybridSim/Recommend-v0", folder=ENV_DIR)

With --protocol none all ratings are learned from, and nothing is held out.
"""

NO_PROTOCOL = "none"


def _add_options(parser: Parser) -> None:
    parser.add_argument("action", metavar="build", help="what to do: build an environment")
    parser.option("-o --output ENV_DIR", "the folder to write; an environment there is replaced", Path, required=True)
    parser.option("--model MODEL_DIR", "a simulator that `fit` saved, fitted to the same training ratings", Path)
    add_protocol_options(parser.option, folds="1", also=[NO_PROTOCOL])
    add_run_options(parser.option)
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, fit, learn the correlation and write."""
    if options.action != "build":
        raise SettingsError(f"env {options.action!r} is not known; {nearest(options.action, ['build'])}")
    if options.model is not None and (options.members is not None or options.without is not None):
        raise SettingsError("--members and --without belong to a new fit; leave them or --model out")
    from hybrid_sim.environments.build import build
    from hybrid_sim.environments.folder import refuse_other_content

    refuse_other_content(options.output)
    dataset = read_data(options)
    train, held_out = dataset, None
    if options.protocol != NO_PROTOCOL:
        protocol = read_protocol(options, dataset)
        fold = next(protocol.folds())
        train, held_out, options.protocol = fold.train, fold.held_out, protocol.name
    simulator = new_simulator(options) if options.model is None else hs.load(options.model)
    population = build(train, options.output, simulator=simulator, held_out=held_out, protocol=options.protocol)
    correlation, n_held_out = population.correlation, len(population.held_out)
    show(
        f"{train.name}: {train.n_users:,} users, {train.n_items:,} items, {n_held_out:,} ratings held out",
        f"beyond prediction, {correlation.level:.0%} of the variance of a person's ratings is their level, "
        f"{correlation.taste:.0%} their taste",
    )
    return 0


COMMANDS.add("env", Command("build an environment for agents", DESCRIPTION, _add_options, run, "evaluate"))
