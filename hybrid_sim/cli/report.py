"""`hybrid-sim report`: a run or a stored result as one HTML page."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_sim.cli.data_options import add_data_options, read_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output
from hybrid_sim.core.errors import DataError, ModelFileError, SettingsError

if TYPE_CHECKING:
    from hybrid_sim.core.document import Page
    from hybrid_sim.simulation.simulator import Simulator

DESCRIPTION = """\
One HTML file that opens from disk and asks for nothing from outside: charts with the numbers behind them.

  hybrid-sim report run                       what `simulate` wrote: sources, ratings, a user, calls and money
  hybrid-sim report run --truth held.csv      ... against real ratings (user_id, item_id, rating[, timestamp])
  hybrid-sim report result.json               what `bench`, `ablate` or `validate` wrote with --json

Name the data that a run is about (--dataset, --ratings), and items are shown by title.
"""

_log = logging.getLogger("hybrid_sim")


def add_options(parser: Parser) -> None:
    """Add the options of the command."""
    parser.add_argument("source", metavar="RUN_DIR|RESULT.json", type=Path, help="a run folder or a stored result")
    parser.add_argument(
        "--html", metavar="OUT.html", type=Path, help="default RUN_DIR/report.html, or RESULT.html beside RESULT.json"
    )
    about = parser.add_argument_group("of a run")
    about.add_argument("--truth", metavar="FILE", type=Path, help="real ratings of the simulated pairs")
    about.add_argument("--user", metavar="ID", help="whose profile and ratings are shown (default: who has most)")
    about.add_argument("--fitted", metavar="MODEL_DIR", type=Path, help="what `fit` saved, for the map of items")
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, draw and write the page."""
    default = options.source / "report.html" if options.source.is_dir() else options.source.with_suffix(".html")
    target = options.html or default
    check_output("--html", target, options.source)
    page = _page_of_run(options, target) if options.source.is_dir() else _page_of_result(options)
    from hybrid_sim.core.files import printable
    from hybrid_sim.report.html import write_page

    write_page(page, target)
    sys.stdout.write(f"{printable(str(target))}\n")
    return 0


def _page_of_run(options: argparse.Namespace, target: Path) -> Page:
    from hybrid_sim.report.run_page import run_page
    from hybrid_sim.simulation.run_folder import read_run, read_truth

    finished = read_run(options.source)
    truth = None if options.truth is None else read_truth(options.truth, finished)
    dataset = read_data(options) if options.dataset is not None or options.ratings is not None else None
    beside = target.absolute().parent.resolve() == options.source.resolve()
    simulator = _simulator(options)
    return run_page(finished, truth, dataset, simulator, options.user, beside)


def _simulator(options: argparse.Namespace) -> Simulator | None:
    """What the run was fitted with; one that the run has left damaged costs only the map."""
    from hybrid_sim.simulation.run_folder import RunFolder
    from hybrid_sim.simulation.simulator import Simulator

    if options.fitted is not None:
        return Simulator.load(options.fitted)
    folder = RunFolder(options.source).simulator
    if not folder.is_dir():
        return None
    try:
        return Simulator.load(folder)
    except ModelFileError as error:
        _log.warning("the map of items is drawn from the table of ratings: %s", error)
        return None


def _page_of_result(options: argparse.Namespace) -> Page:
    for option in ("truth", "user", "fitted"):
        if getattr(options, option) is not None:
            raise SettingsError(f"--{option} belongs to the folder of a run; {options.source} is a stored result")
    from hybrid_sim.report.stored_results import kind_of, read_ablation, read_bench, read_json, read_validity

    match kind_of(read_json(options.source)):
        case "bench":
            from hybrid_sim.report.bench import bench_page

            return bench_page(read_bench(options.source))
        case "ablation":
            from hybrid_sim.report.ablation import ablation_page

            return ablation_page(read_ablation(options.source))
        case "validity":
            from hybrid_sim.report.validity import validity_page

            return validity_page(read_validity(options.source))
    raise DataError(
        f"{options.source}: is no result that can be drawn; expected what --json of `hybrid-sim bench`, `ablate` or "
        "`validate` writes"
    )


COMMANDS.add("report", Command("a run or a stored result as an HTML page", DESCRIPTION, add_options, run, "inspect"))
