"""`hybrid-sim fit`: learn from ratings and save the simulator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, add_run_options, new_simulator, read_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, size_in_bytes
from hybrid_sim.cli.protocol_options import add_protocol_options, read_fold
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import require_writable

DESCRIPTION = """\
Learn from all ratings of a data set and save the simulator in a folder. Without data: the synthetic world. With
--protocol (or --folds) it learns from the training ratings of one fold, for `hybrid-sim validate --fitted MODEL_DIR`.
"""

_log = logging.getLogger("hybrid_sim")


def _add_options(parser: Parser) -> None:
    folder = "the folder to save in; a model there is replaced, anything else left alone"
    parser.option("-o --output MODEL_DIR", folder, Path, required=True)
    parser.option(
        "--teach MODEL_DIR",
        "begin with this fitted simulator: its members learn from all the data, old and new users, items and "
        "ratings; how they are combined stays. Quicker (a ninth of the work), but approximate",
        Path,
    )
    add_run_options(parser.option)
    parser.option("--memory 8GB", "leave out members that do not fit, the largest first", size_in_bytes)
    add_protocol_options(parser.group("the training ratings of a fold (see `bench --help`)"), folds="1")
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, fit and save."""
    if options.teach and any(given is not None for given in (options.members, options.without, options.memory)):
        raise SettingsError("--members, --without and --memory belong to a new fit; leave them or --teach out")
    from hybrid_sim.core.model_files import refuse_other_content

    require_writable(options.output)
    refuse_other_content(options.output)
    dataset = read_data(options)
    if {"protocol", "folds", "known"} & set(options.given):
        dataset = read_fold(options, dataset)[1].train
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


def _simulator(options: argparse.Namespace, dataset: hs.Dataset) -> hs.Simulator:
    """A new simulator, or a fitted one that is refitted to the data."""
    if options.teach is None:
        return new_simulator(options).fit(dataset, options.memory)
    from hybrid_sim.simulation.refit import refitted

    return refitted(hs.load(options.teach), dataset, options.jobs)


COMMANDS.add("fit", Command("learn from ratings and save the simulator", DESCRIPTION, _add_options, run, "simulate"))
