"""`hybrid-sim bench`: all models on the folds of a protocol; a table, a figure and JSON."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.cli.options import add_data_options, add_run_options, read_data
from hybrid_sim.cli.parsing import add_common, one_of, whole_number, words_list
from hybrid_sim.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from hybrid_sim.data.dataset import Dataset
    from hybrid_sim.models.recorded import RecordedRatings
    from hybrid_sim.report import Report

PROTOCOLS = (
    "last40",
    "full",
    "kfold",
    "user-temporal",
    "cold-items",
    "cold-items-tenth",
    "cold-users",
    "cold-both",
)

DESCRIPTION = """\
Without options: the synthetic world, in about a minute. Protocols:
  last40            learn from each user's latest 40 training ratings
  full              learn from all training ratings
                    (both: the genuine folds u1 to u5 of ml-100k, else five random ones)
  kfold             five random folds, whatever the data
  user-temporal     hold out each user's last fifth, by time
  cold-items        hold out whole items, a fifth per fold
  cold-items-tenth  hold out one tenth of the items, the same for everybody
  cold-users        hold out whole users, a fifth per fold, all but --known ratings
  cold-both         ratings of a fifth of the users for a fifth of the items, neither seen
"""

_log = logging.getLogger("hybrid_sim")


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("bench", help="compare models on held-out ratings", description=DESCRIPTION)
    parser.set_defaults(run=run)
    what = parser.add_argument_group("what is run")
    what.add_argument(
        "--protocol",
        type=one_of(PROTOCOLS),
        default="user-temporal",
        metavar="NAME",
        help="see above (default user-temporal)",
    )
    what.add_argument("--folds", metavar="1,2", help="only these folds (default all)")
    what.add_argument(
        "--known",
        metavar="N",
        type=whole_number(0),
        default=0,
        help="cold-users: ratings known of a held-out user (default 0)",
    )
    what.add_argument("--models", metavar="knn,svd,...", type=words_list, help="only these, for example knn,svd,hybrid")
    add_run_options(what)
    add_data_options(parser)
    llm = parser.add_argument_group("recorded LLM ratings")
    llm.add_argument(
        "--llm-ratings",
        metavar="FILE",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="tables with user_id, item_id and rating, or a folder of ratings_u<k>.csv",
    )
    for column in ("user", "item", "rating"):
        llm.add_argument(f"--llm-{column}-col", metavar="NAME", help="name of the column, where it is not found")
    llm.add_argument("--llm-model", metavar="VALUE", help="only rows with this value in the column model")
    out = parser.add_argument_group("what is written")
    out.add_argument("--json", metavar="OUT", type=Path, help="all figures with their provenance")
    out.add_argument(
        "--figure",
        metavar="OUT.png",
        type=Path,
        help="default bench-<data>-<protocol>.png here; .svg is possible, 'none' for no figure",
    )
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """Run the benchmark, print the table and write the files."""
    _check_outputs(options)
    from hybrid_sim.bench import Benchmark, choose_models
    from hybrid_sim.protocols import make_protocol, parse_folds
    from hybrid_sim.report import provenance, table_text, write_json

    models = choose_models(options.models, bool(options.llm_ratings))
    folds = None if options.folds is None else parse_folds(options.folds)
    dataset = read_data(options, default="world")
    protocol = make_protocol(
        options.protocol,
        dataset,
        folds=folds,
        data=options.data,
        known=options.known,
        seed=options.seed,
        shuffle_untimed=options.ratings is None,
    )
    benchmark = Benchmark(
        models,
        _recording(options, dataset),
        options.seed,
        options.jobs,
        members=tuple(options.members) if options.members else None,
        without=tuple(options.without or ()),
    )
    command = ["hybrid-sim", *options.words]
    report = benchmark.run(protocol, lambda embedder: provenance(command, options.seed, dataset, embedder))
    if options.json is not None:
        write_json(report, options.json)
    sys.stdout.write(f"{table_text(report)}\n")
    _write_figure(report, options.figure)
    return 0


def _recording(options: argparse.Namespace, dataset: Dataset) -> RecordedRatings | None:
    if not options.llm_ratings:
        return None
    from hybrid_sim.recordings import RecordingColumns, read_recordings

    columns = RecordingColumns(options.llm_user_col, options.llm_item_col, options.llm_rating_col, options.llm_model)
    return read_recordings(options.llm_ratings, dataset, columns)


def _write_figure(report: Report, path: Path | None) -> None:
    """A figure that nobody asked for may fail; the table is on the screen already."""
    if path is not None and str(path) == "none":
        return
    from hybrid_sim.figure import save_rmse_figure
    from hybrid_sim.writing import printable

    first = report.results[0]
    target = path or Path(f"bench-{report.provenance.dataset}-{first.protocol}.png".replace("/", "_"))
    try:
        save_rmse_figure(report, target)
    except (SettingsError, StorageError) as error:
        if path is not None:
            raise
        _log.warning("no figure: %s", error)
        return
    sys.stdout.write(f"\nFigure: {printable(str(target))}\n")


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse at once what would fail after minutes of work."""
    for option, path in (("--json", options.json), ("--figure", options.figure)):
        if path is None or str(path) == "none":
            continue
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise SettingsError(f"{option} {path}: cannot be written; name a file in a folder that exists")
    if options.figure is not None and options.figure.suffix.lower() not in (".png", ".svg", ""):
        raise SettingsError(f"--figure {options.figure}: a figure is saved as .png or .svg; change the suffix")
