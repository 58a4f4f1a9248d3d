"""`hybrid-sim fit`: learn from ratings and save the simulator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_sim.cli.data_options import add_data_options, add_run_options, new_simulator, read_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.simulation.simulator import Simulator

_log = logging.getLogger("hybrid_sim")


def add_options(parser: Parser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="MODEL_DIR",
        type=Path,
        required=True,
        help="the folder to save in; a model there is replaced, anything else left alone",
    )
    parser.add_argument(
        "--teach",
        metavar="MODEL_DIR",
        type=Path,
        help="begin with this fitted simulator: its members learn from all the data, old and new users, items and "
        "ratings; how they are combined stays. Quicker (a ninth of the work), but approximate",
    )
    add_run_options(parser)
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, fit and save."""
    from hybrid_sim.core.model_files import refuse_other_content

    refuse_other_content(options.output)
    dataset = read_data(options)
    _log.info(
        "%s%s: %d ratings of %d users and %d items on the scale %s",
        dataset.name,
        " (synthetic data)" if dataset.synthetic else "",
        len(dataset),
        dataset.n_users,
        dataset.n_items,
        dataset.scale,
    )
    _simulator(options, dataset).save(options.output)
    _log.info("saved in %s; next: hybrid-sim predict %s --pairs FILE -o OUT", options.output, options.output)
    return 0


def _simulator(options: argparse.Namespace, dataset: Dataset) -> Simulator:
    """A new simulator, or a fitted one that is refitted to the data."""
    from hybrid_sim.simulation.simulator import Simulator

    if options.teach is None:
        return new_simulator(options).fit(dataset)
    from hybrid_sim.simulation.refit import refitted

    if options.members is not None or options.without is not None:
        raise SettingsError("--members and --without belong to a new fit; leave them or --teach out")
    return refitted(Simulator.load(options.teach), dataset, options.jobs)


COMMANDS.add(
    "fit",
    Command(
        "learn from ratings and save the simulator",
        "Learn from all ratings of a data set and save the simulator in a folder.",
        add_options,
        run,
        "simulate",
    ),
)
