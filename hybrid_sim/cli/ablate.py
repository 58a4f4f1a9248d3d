"""`hybrid-sim ablate`: what each component of the ensemble is worth, over all subsets of them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.cli.bench import PROTOCOLS
from hybrid_sim.cli.options import add_data_options, add_run_options, read_data
from hybrid_sim.cli.parsing import add_common, one_of, whole_number, words_list
from hybrid_sim.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.data.dataset import Dataset
    from hybrid_sim.models.recorded import RecordedRatings

DESCRIPTION = """\
Leaves out every subset of the ensemble's components and compares what is left on the same held-out ratings:
  embeddings     facets, content_gp, kernel_gp, levels_content
  neighbours     knn, svd, neighbours
  factorization  factorization_1, factorization_2, levels
  combiner       learned weights of the members (else their plain average)
  boosted        small trees on what the weights leave over
  calibration    learned shares of the levels (else the members' average distribution)
  llm            the correction by recorded LLM ratings (--llm-ratings)
The member biases always stays. Members are asked once per fold and their answers kept (--answers), so that another
run of the same folds takes seconds. Without options: the synthetic world.
"""

_log = logging.getLogger("hybrid_sim")


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("ablate", help="what each component is worth", description=DESCRIPTION)
    parser.set_defaults(run=run)
    what = parser.add_argument_group("what is run")
    what.add_argument(
        "--protocol",
        type=one_of(PROTOCOLS),
        default="user-temporal",
        metavar="NAME",
        help="as in bench (default user-temporal)",
    )
    what.add_argument("--folds", metavar="1,2", help="only these folds (default all)")
    what.add_argument(
        "--known",
        metavar="N",
        type=whole_number(0),
        default=0,
        help="cold-users: ratings known of a held-out user (default 0)",
    )
    what.add_argument(
        "--components", metavar="boosted,...", type=words_list, help="switch only these, the others stay (default all)"
    )
    add_run_options(what)
    what.add_argument(
        "--answers", metavar="DIR|none", help="where members' answers are kept (default: in the user's cache)"
    )
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
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """Take the ensemble apart, print the tables and write the file."""
    if options.json is not None and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise SettingsError(f"--json {options.json}: cannot be written; name a file in a folder that exists")
    if options.without is not None:
        raise SettingsError("--without: ablate leaves out every subset by itself; --components says of what")
    from hybrid_sim.ablation import Ablation, ablation_text, write_ablation
    from hybrid_sim.protocols import make_protocol, parse_folds
    from hybrid_sim.report import provenance

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
    ablation = Ablation(
        _recording(options, dataset),
        tuple(options.components) if options.components else None,
        tuple(options.members) if options.members else None,
        options.seed,
        shelf=_shelf(options.answers),
        n_jobs=options.jobs,
    )
    command = ["hybrid-sim", *options.words]
    report = ablation.run(protocol, lambda embedder: provenance(command, options.seed, dataset, embedder))
    if options.json is not None:
        write_ablation(report, options.json)
    sys.stdout.write(f"{ablation_text(report)}\n")
    return 0


def _recording(options: argparse.Namespace, dataset: Dataset) -> RecordedRatings | None:
    if not options.llm_ratings:
        return None
    from hybrid_sim.recordings import RecordingColumns, read_recordings

    columns = RecordingColumns(options.llm_user_col, options.llm_item_col, options.llm_rating_col, options.llm_model)
    return read_recordings(options.llm_ratings, dataset, columns)


def _shelf(named: str | None) -> Path | None:
    """The folder of members' answers: the one that is named, else one in HYBRID_SIM_CACHE or the user's cache."""
    if named is not None:
        return None if named == "none" else Path(named)
    import platformdirs

    folder = Path(os.environ.get("HYBRID_SIM_CACHE") or platformdirs.user_cache_dir("hybrid-sim")) / "answers"
    _log.info("members' answers are kept in %s", folder)
    return folder
