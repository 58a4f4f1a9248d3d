"""`hybrid-sim bench`: all models on the folds of a protocol; a table, a figure and JSON."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, add_run_options, read_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output, refuse_options, words_list
from hybrid_sim.cli.protocol_options import (
    add_protocol_options,
    add_recording_options,
    protocols_help,
    read_protocol,
    read_recording,
)
from hybrid_sim.cli.terminal import report_written, show
from hybrid_sim.core.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from hybrid_sim.evaluation.bench_report import BenchResult

_log = logging.getLogger("hybrid_sim")


def describe() -> str:
    """The description of the command, with a line per protocol."""
    return f"Without options: the synthetic world, in about a minute. Protocols:\n{protocols_help()}\n"


def _add_options(parser: Parser) -> None:
    what = parser.group("what is run")
    add_protocol_options(what)
    what("--models knn,svd,...", "only these, for example knn,svd,hybrid", words_list)
    add_run_options(what)
    add_data_options(parser)
    add_recording_options(parser.group("recorded LLM ratings"))
    out = parser.group("what is written")
    out("--json OUT", "all figures with their provenance", Path)
    out("--figure OUT.png", "default bench-<data>-<protocol>.png here; .svg is possible, 'none' for no figure", Path)


def run(options: argparse.Namespace) -> int:
    """Run the benchmark, print the table and write the files."""
    check_output("--json", options.json)
    if options.figure is not None and str(options.figure) != "none":
        check_output("--figure", options.figure)
        if options.figure.suffix.lower() not in (".png", ".svg", ""):
            raise SettingsError(f"--figure {options.figure}: a figure is saved as .png or .svg; change the suffix")
    from hybrid_sim.evaluation.bench import HYBRID, choose_models
    from hybrid_sim.evaluation.bench_report import table_text, write_json

    models = choose_models(options.models, bool(options.llm_ratings))
    if HYBRID not in models:
        refuse_options(options, ["members", "without"], f"belongs to the model {HYBRID}, which is not run")
    dataset = read_data(options)
    report = hs.bench(
        dataset,
        read_protocol(options, dataset),
        models,
        seed=options.seed,
        recording=read_recording(options, dataset),
        members=options.members or None,
        without=options.without or (),
        n_jobs=options.jobs,
        command=options.command,
    )
    if options.json is not None:
        write_json(report, options.json)
    show(*table_text(report).split("\n"))
    if str(options.figure) != "none":
        _write_figure(report, options.figure)
    report_written(options.json)
    return 0


def _write_figure(report: BenchResult, path: Path | None) -> None:
    """A figure that nobody asked for may fail; the table is on the screen already."""
    from hybrid_sim.report.bench import save_rmse_figure

    name = f"bench-{report.provenance.dataset}-{report.results[0].protocol}.png".replace("/", "_")
    target = path or Path(name)
    try:
        save_rmse_figure(report, target)
    except (SettingsError, StorageError) as error:
        if path is not None:
            raise
        _log.warning("no figure: %s", error)
    else:
        show("", f"Figure: {target}")


COMMANDS.add("bench", Command("compare models on held-out ratings", describe, _add_options, run, "evaluate"))
