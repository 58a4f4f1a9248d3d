"""`hybrid-sim report`: a run or a stored result as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, read_named_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output, refuse_options
from hybrid_sim.cli.terminal import show

DESCRIPTION = """\
One HTML file that opens from disk and asks for nothing from outside: charts with the numbers behind them.

  hybrid-sim report run                       what `simulate` wrote: sources, ratings, a user, calls and money
  hybrid-sim report run --truth held.csv      ... against real ratings (user_id, item_id, rating[, timestamp])
  hybrid-sim report result.json               what `bench`, `ablate` or `validate` wrote with --json

Name the data that a run is about (--dataset, --ratings), and items are shown by title.
"""


def _add_options(parser: Parser) -> None:
    parser.option("source RUN_DIR|RESULT.json", "a run folder or a stored result", Path)
    parser.option("--html OUT.html", "default RUN_DIR/report.html, or RESULT.html beside RESULT.json", Path)
    about = parser.group("of a run")
    about("--truth FILE", "real ratings of the simulated pairs", Path)
    about("--user ID", "whose profile and ratings are shown (default: who has most)")
    about("--fitted MODEL_DIR", "what `fit` saved, for the map of items", Path)
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, draw and write the page."""
    source: Path = options.source
    target = options.html or (source / "report.html" if source.is_dir() else source.with_suffix(".html"))
    check_output("--html", target, source)
    if not source.is_dir():
        names = ("truth", "user", "fitted", "dataset", "ratings", "items", "users")
        refuse_options(options, names, f"belongs to the folder of a run, and {source} is none")
    from hybrid_sim.simulation.run_folder import read_run

    result = read_run(source) if source.is_dir() else source
    dataset = read_named_data(options) if source.is_dir() else None
    hs.write_report(result, target, truth=options.truth, dataset=dataset, user=options.user, fitted=options.fitted)
    show(str(target))
    return 0


COMMANDS.add("report", Command("a run or a stored result as an HTML page", DESCRIPTION, _add_options, run, "inspect"))
