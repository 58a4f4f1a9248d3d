"""`hybrid-sim predict`: ratings of pairs from a saved simulator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import hybrid_sim as hs
from hybrid_sim.cli.pair_options import add_pairs_file, read_pairs, report_sources
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output
from hybrid_sim.cli.terminal import report_formulas
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import write_whole

DESCRIPTION = """\
For every row of the pairs file, in order: user_id, item_id, mean, sd, p_<level> for every level of the
scale, low and high (a 90% interval), source, which says what the answer rests on, and known, which says
whether the pair is a training rating. Unknown users and items get an answer too: its source is user,
item or global instead of stat. The suffix of a file tells its format.

Ids are written exactly as they were read, so that they can be joined again. A spreadsheet may take an id
that begins with = + - or @ for a formula: such ids are counted and said.
"""
_log = logging.getLogger("hybrid_sim")


def _add_options(parser: Parser) -> None:
    parser.option("model MODEL_DIR", "what `fit` saved", Path)
    add_pairs_file(parser.option, required=True)
    parser.option("-o --output OUT", "a .csv or .parquet file", Path, required=True)


def run(options: argparse.Namespace) -> int:
    """Read the pairs, ask the simulator and write the answers, whole or not at all."""
    suffix = options.output.suffix.lower()
    if suffix not in (".csv", ".parquet", ".pq"):
        raise SettingsError(f"-o {options.output}: predictions are saved as .csv or .parquet; change the suffix")
    check_output("-o", options.output)
    pairs = read_pairs(options)
    from hybrid_sim.simulation.run_folder import csv_bytes

    frame = hs.load(options.model).predict(*pairs).to_frame()
    if suffix == ".csv":
        report_formulas("ids", [*frame["user_id"].unique(), *frame["item_id"].unique()])
    write_whole(options.output, csv_bytes(frame) if suffix == ".csv" else frame.to_parquet(index=False))
    _log.info("%d predictions in %s", len(frame), options.output)
    report_sources(frame["source"].to_numpy())
    if n_known := int(frame["known"].sum()):
        _log.warning(
            "%d of %d pairs are training ratings (column known): the model has seen the answers, which say nothing of "
            "its accuracy",
            n_known,
            len(frame),
        )
    return 0


COMMANDS.add("predict", Command("rate pairs with a saved simulator", DESCRIPTION, _add_options, run, "simulate"))
