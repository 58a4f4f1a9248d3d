"""`hybrid-sim compare`: what differs between two runs or two results of benchmarks."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output
from hybrid_sim.cli.terminal import report_written, show
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import write_json_file

if TYPE_CHECKING:
    from hybrid_sim.evaluation.compare import ResultComparison

DESCRIPTION = """\
Only what differs, A minus B, with intervals: of two run folders on the pairs that both have (users are resampled, the
same for both), or of two files that `bench --json` wrote. With --truth two runs are also compared by their errors:

  hybrid-sim compare run_a run_b --truth held_out.csv
"""


def _add_options(parser: Parser) -> None:
    parser.option("a A", "a run folder, or the JSON of a benchmark", Path)
    parser.option("b B", "another of the same kind", Path)
    parser.option("--truth FILE", "real ratings: user_id, item_id, rating", Path)
    parser.option("--html OUT.html", "also as a page", Path)
    parser.option("--json OUT", "also as JSON", Path)


def run(options: argparse.Namespace) -> int:
    """Read both, compare them, print and write."""
    for option, path in (("--html", options.html), ("--json", options.json)):
        check_output(option, path, options.a, options.b)
    if options.a.is_dir() != options.b.is_dir():
        raise SettingsError(f"{options.a} and {options.b}: compare two run folders or two JSON files, not one of each")
    comparison = _compared(options.a, options.b, options.truth)
    from hybrid_sim.evaluation.compare import comparison_text

    show(*comparison_text(comparison).split("\n"))
    if options.json is not None:
        write_json_file(options.json, {"kind": "comparison", **asdict(comparison)})
    if options.html is not None:
        hs.write_report(comparison, options.html)
    report_written(options.html, options.json)
    return 0


def _compared(a: Path, b: Path, truth: Path | None) -> ResultComparison:
    from hybrid_sim.evaluation.compare import compare_benches, compare_runs
    from hybrid_sim.report.results import read_bench
    from hybrid_sim.simulation.run_folder import read_run, read_truth

    names = str(a), str(b)
    if a.is_dir():
        runs = read_run(a), read_run(b)
        truths = None if truth is None else (read_truth(truth, runs[0]), read_truth(truth, runs[1]))
        return compare_runs(*runs, names, truths)
    if truth is not None:
        raise SettingsError("--truth belongs to run folders; what is compared are stored results")
    return compare_benches(read_bench(a), read_bench(b), names)


COMMANDS.add("compare", Command("what differs between two results", DESCRIPTION, _add_options, run, "inspect"))
