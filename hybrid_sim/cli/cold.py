"""`hybrid-sim cold`: how users would receive items that nobody has rated yet."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from pathlib import Path

from hybrid_sim.cli.data_options import add_data_options, add_run_options, chosen_simulator, read_data
from hybrid_sim.cli.forecast_output import page
from hybrid_sim.cli.llm_options import add_budget_options, exit_status, limits, plan_lines, use_lines
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, whole_number
from hybrid_sim.cli.settings import add_settings_options, read_settings, require_model
from hybrid_sim.cli.terminal import report_formulas

DESCRIPTION = """\
How users would rate new items: the distribution of the ratings of each, who would like it most and why, and which known
items it resembles. The file of new items has the columns item_id, title, year, genres and overview (and others that the
data's items have), a row per item:

  hybrid-sim cold --new new.csv --dataset ml-100k -o cold
  hybrid-sim cold --new new.csv --dataset ml-100k --fitted model -o cold

Without --fitted, the simulator is fitted to the data with the new items beside it. With it, the members of what `fit`
saved learn of the new items, and how they are combined stays: quicker, and nearly the same. Either is kept in DIR.

With --model, a language model is asked about every new item for a few users, the panel, and first about some known
ratings, to learn what its word is worth; what it thinks of an item then counts for all users. Its answers are kept in
DIR: the same command goes on where a run ended, and asks nothing twice that was answered.

  hybrid-sim cold --new new.csv --dataset ml-100k --model gpt-4o-mini --dry-run -o cold

Writes into DIR: items.csv (a row per item), items.jsonl (everything about it), pairs.csv (a row per user and item, as
`hybrid-sim predict` has it) and run.json (where this comes from).
"""

_log = logging.getLogger("hybrid_sim")


def add_options(parser: Parser) -> None:
    """Add the options of the command."""
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="the folder to write into")
    what = parser.add_argument_group("what is asked")
    what.add_argument(
        "--new", metavar="FILE", type=Path, required=True, help="the new items: CSV, Parquet or JSON lines"
    )
    what.add_argument("--new-item-col", metavar="NAME", default="item_id", help="their column of ids (default item_id)")
    what.add_argument("--audience", metavar="N", type=whole_number(1), help="ask N random users (default all)")
    what.add_argument(
        "--like",
        metavar="RATING",
        type=float,
        help="ratings from here upwards are likes (default: upper 40%% of scale)",
    )
    what.add_argument(
        "--top", metavar="N", type=whole_number(1), default=5, help="fans and similar items per item (default 5)"
    )
    what.add_argument("--fitted", metavar="MODEL_DIR", type=Path, help="what `fit` saved from this data")
    add_run_options(what)
    add_settings_options(parser)
    what.add_argument(
        "--panel",
        metavar="N",
        type=whole_number(1),
        help="users for whom a language model is asked about every item (default 10; what they say counts for all, and "
        "more than ten for themselves alone)",
    )
    add_budget_options(parser)
    what.add_argument("--replay", action="store_true", help="send nothing: a missing answer is an error")
    what.add_argument("--dry-run", action="store_true", help="say what asking the model would take, and send nothing")
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Forecast the new items, write the files and show the forecasts."""
    from hybrid_sim.new_items.run import NewItemRun

    settings = read_settings(options)
    given = (options.budget, options.max_calls, options.max_minutes, options.panel) != (None,) * 4
    if options.base_url or options.replay or options.dry_run or given:
        require_model(settings)
    new = NewItemRun(
        options.output,
        read_data(options, default="world"),
        options.new,
        simulator=chosen_simulator(options, settings.ensemble),
        saved=options.fitted,
        settings=settings,
        n_users=options.audience,
        n_panel=options.panel,
        like_from=options.like,
        n_shown=options.top,
        seed=options.seed,
        column=options.new_item_col,
        encoding=options.encoding,
    )
    if options.dry_run and new.asks:
        sys.stdout.write(plan_lines(new.plan(), options))
        return 0
    try:
        command = ["hybrid-sim", *options.words]
        forecasts = new.forecast(**limits(options), replay=options.replay, command=command)
    except KeyboardInterrupt:
        _log.warning("what was answered is kept; the same command goes on")
        raise
    sys.stdout.write(page(forecasts, new.dataset) + use_lines(forecasts.simulation))
    report_formulas("ids or titles", [text for one in forecasts for text in (one.item_id, one.title)])
    return exit_status(forecasts.simulation, shlex.join(command))


COMMANDS.add("cold", Command("how users would receive new items", DESCRIPTION, add_options, run, "simulate"))
