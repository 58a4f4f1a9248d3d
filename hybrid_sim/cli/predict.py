"""`hybrid-sim predict`: ratings of pairs from a saved simulator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_sim.cli.pair_options import add_pairs_file, read_pairs, report_sources
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output
from hybrid_sim.cli.terminal import report_formulas
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION = """\
For every row of the pairs file, in order: user_id, item_id, mean, sd, p_<level> for every level of the
scale, low and high (a 90% interval) and source, which says what the answer rests on. Unknown users and
items get an answer too: its source is user, item or global instead of stat. The suffix of a file tells
its format.

Ids are written exactly as they were read, so that they can be joined again. A spreadsheet may take an id
that begins with = + - or @ for a formula: such ids are counted and said.
"""
SUFFIXES = (".csv", ".parquet", ".pq")

_log = logging.getLogger("hybrid_sim")


def add_options(parser: Parser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", metavar="MODEL_DIR", type=Path, help="what `fit` saved")
    add_pairs_file(parser, required=True)
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="a .csv or .parquet file")


def run(options: argparse.Namespace) -> int:
    """Read the pairs, ask the simulator and write the answers, whole or not at all."""
    output: Path = options.output
    if output.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"-o {output}: predictions are saved as .csv or .parquet; change the suffix")
    check_output("-o", output)
    user_ids, item_ids = read_pairs(options)
    from hybrid_sim.simulation.simulator import Simulator

    frame = Simulator.load(options.model).predict(user_ids, item_ids).to_frame()
    _write(frame, output)
    _log.info("%d predictions in %s", len(frame), output)
    report_sources(frame["source"].to_numpy())
    return 0


def _write(frame: pd.DataFrame, path: Path) -> None:
    import io

    from hybrid_sim.core.files import write_whole

    content = io.BytesIO()
    if path.suffix.lower() == ".csv":
        frame.to_csv(content, index=False, encoding="utf-8", lineterminator="\n")
        report_formulas("ids", [*frame["user_id"].unique(), *frame["item_id"].unique()])
    else:
        frame.to_parquet(content, index=False)
    write_whole(path, content.getvalue())


COMMANDS.add("predict", Command("rate pairs with a saved simulator", DESCRIPTION, add_options, run, "simulate"))
