"""`hybrid-sim compare`: what differs between two runs or two results of benchmarks."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.evaluation.compare import ResultComparison

DESCRIPTION = """\
Only what differs, A minus B, with intervals: of two run folders on the pairs that both have (users are resampled, the
same for both), or of two files that `bench --json` wrote. With --truth two runs are also compared by their errors:

  hybrid-sim compare run_a run_b --truth held_out.csv
"""


def add_options(parser: Parser) -> None:
    """Add the options of the command."""
    parser.add_argument("a", metavar="A", type=Path, help="a run folder, or the JSON of a benchmark")
    parser.add_argument("b", metavar="B", type=Path, help="another of the same kind")
    parser.add_argument("--truth", metavar="FILE", type=Path, help="real ratings: user_id, item_id, rating")
    parser.add_argument("--html", metavar="OUT.html", type=Path, help="also as a page")
    parser.add_argument("--json", metavar="OUT", type=Path, help="also as JSON")


def run(options: argparse.Namespace) -> int:
    """Read both, compare them, print and write."""
    for option, path in (("--html", options.html), ("--json", options.json)):
        check_output(option, path, options.a, options.b)
    if options.a.is_dir() != options.b.is_dir():
        raise SettingsError(f"{options.a} and {options.b}: compare two run folders or two JSON files, not one of each")
    comparison = _of_runs(options) if options.a.is_dir() else _of_benches(options)
    from hybrid_sim.core.files import printable, write_json_file
    from hybrid_sim.evaluation.compare import comparison_text

    lines = comparison_text(comparison).split("\n")
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    if options.json is not None:
        write_json_file(options.json, {"kind": "comparison", **asdict(comparison)})
    if options.html is not None:
        from hybrid_sim.report.comparison import comparison_page
        from hybrid_sim.report.html import write_page

        write_page(comparison_page(comparison), options.html)
    return 0


def _of_runs(options: argparse.Namespace) -> ResultComparison:
    from hybrid_sim.evaluation.compare import compare_runs
    from hybrid_sim.simulation.run_folder import read_run, read_truth

    runs = read_run(options.a), read_run(options.b)
    truth = None
    if options.truth is not None:
        truth = read_truth(options.truth, runs[0]), read_truth(options.truth, runs[1])
    return compare_runs(*runs, _names(options), truth)


def _of_benches(options: argparse.Namespace) -> ResultComparison:
    from hybrid_sim.evaluation.compare import compare_benches
    from hybrid_sim.report.stored_results import read_bench

    if options.truth is not None:
        raise SettingsError("--truth belongs to run folders; what is compared are stored results")
    return compare_benches(read_bench(options.a), read_bench(options.b), _names(options))


def _names(options: argparse.Namespace) -> tuple[str, str]:
    return str(options.a), str(options.b)


COMMANDS.add("compare", Command("what differs between two results", DESCRIPTION, add_options, run, "inspect"))
