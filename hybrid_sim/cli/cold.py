"""`hybrid-sim cold`: how users would rate items that nobody has rated yet."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, add_run_options, chosen_simulator, read_data
from hybrid_sim.cli.llm_options import (
    add_budget_options,
    add_folder_options,
    exit_status,
    limits,
    plan_lines,
    use_lines,
)
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output, whole_number
from hybrid_sim.cli.settings import add_settings_options, read_settings, require_model
from hybrid_sim.cli.terminal import report_formulas, show
from hybrid_sim.core.document import aligned
from hybrid_sim.core.files import shortened

if TYPE_CHECKING:
    from hybrid_sim.new_items.forecast import Forecasts, ItemForecast

DESCRIPTION = """\
How users would rate new items: the distribution of the ratings of each, who would rate it highest, who would like it
more than they usually like items and why, which groups of users differ, and which known items have similar texts. The
file of new items has the columns item_id, title, year, genres and overview (and others that the data's items have), a
row per item:

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
SHOWN_ITEMS = 5
"""Items of which all is shown on the screen; the table before has all items, and so have the files."""

MAX_TITLE = 30
"""Letters of a title in the table of all items."""

BAR = 40
"""Characters of the bar of a probability of 1."""

_log = logging.getLogger("hybrid_sim")


def _add_options(parser: Parser) -> None:
    add_folder_options(parser.option)
    parser.option("--html OUT.html", "also as a page", Path)
    what, number = parser.group("what is asked"), whole_number(1)
    what("--new FILE", "the new items: CSV, Parquet or JSON lines", Path, required=True)
    what("--new-item-col NAME", "their column of ids (default item_id)", default="item_id")
    what("--audience N", "ask N random users (default all)", number)
    what("--like RATING", "ratings from here upwards are likes (default: upper 40%% of scale)", float)
    what("--top N", "fans and similar items per item (default 5)", number, default=5)
    what("--fitted MODEL_DIR", "what `fit` saved from this data, or `cold` (DIR/simulator)", Path)
    add_run_options(what)
    add_settings_options(parser)
    what(
        "--panel N",
        "users for whom a language model is asked about every item (default 10; what they say counts for all, and "
        "more than ten for themselves alone)",
        number,
    )
    add_budget_options(parser)
    what("--replay", "send nothing: a missing answer is an error")
    what("--dry-run", "say what asking the model would take, and send nothing")
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Forecast the new items, write the files and show the forecasts."""
    check_output("--html", options.html, options.new)
    settings = read_settings(options)
    given = (*limits(options).values(), options.panel) != (None,) * 4
    if options.base_url or options.replay or options.dry_run or given:
        require_model(settings)
    from hybrid_sim.simulation.run_folder import RunFolder

    RunFolder(options.output).require_usable("cold")
    new = hs.NewItemRun(
        options.output,
        read_data(options),
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
        overwrite=options.overwrite,
    )
    if options.dry_run and new.asks:
        sys.stdout.write(plan_lines(new.plan(), options))
        return 0
    try:
        forecasts = new.forecast(**limits(options), replay=options.replay, command=options.command)
    except KeyboardInterrupt:
        _log.warning("what was answered is kept; the same command goes on")
        raise
    from hybrid_sim.new_items.forecast import LIMITS

    show(*_overview(forecasts))
    for item in sorted(forecasts, key=lambda item: -item.mean)[:SHOWN_ITEMS]:
        show("", *_item_lines(item))
    show("", LIMITS)
    if options.html is not None:
        hs.write_report(forecasts, options.html)
    sys.stdout.write(use_lines(forecasts.simulation))
    report_formulas("ids or titles", [text for one in forecasts for text in (one.item_id, one.title)])
    return exit_status(forecasts.simulation, shlex.join(options.command))


def _overview(forecasts: Forecasts) -> Iterator[str]:
    """A line per item, the highest expected rating first."""
    first, scale = forecasts[0], forecasts.prediction.distribution.scale
    source = f"{forecasts.dataset}{' (synthetic data)' if forecasts.synthetic else ''}"
    yield f"{len(forecasts)} new items, {first.n_users:,} users of {source}, ratings {scale.low:g} to {scale.high:g}"
    yield f"interval: holds the mean of the ratings of {first.level:.0%} of items; liked: {first.like_from:g} or more"
    rows = [
        (
            *(shortened(item.item_id, MAX_TITLE), shortened(item.title, MAX_TITLE), f"{item.mean:.2f}"),
            *("not known" if item.low is None else f"{item.low:.2f} to {item.high:.2f}", f"{item.likes:.0%}"),
        )
        for item in sorted(forecasts, key=lambda item: -item.mean)
    ]
    yield from ("", *aligned(("item", "title", "expected", "interval", "liked"), rows).split("\n"))
    if len(forecasts) > SHOWN_ITEMS:
        yield from ("", f"More about the first {SHOWN_ITEMS}; the files have the same of all {len(forecasts)}")


def _item_lines(item: ItemForecast) -> Iterator[str]:
    yield f"item {shortened(item.item_id)}: {shortened(item.title)}"
    if item.panel:
        moved = f"its correction moves the expected rating by {item.shift:+.2f}"
        yield f"  a language model answered for {item.panel} users; {moved}"
    yield f"  {item.likes:.0%} of ratings by {item.n_users:,} users would be {item.like_from:g} or more"
    for level, prob in item.probs.items():
        yield f"  {level:>5} {prob:6.1%} {'#' * round(BAR * prob)}".rstrip()
    highest = ", ".join(f"{user.user_id} {user.mean:.2f}" for user in item.highest)
    yield f"  would rate it highest: {highest}"
    for fan in item.fans:
        because = f", because of {fan.own_ratings}" if fan.own_ratings else ""
        usual = f"{fan.mean:.2f}, {fan.above_usual:+.2f} to the own usual"
        yield f"  would like it more than usual: {fan.user_id} {usual}{because}"
    if item.keywords:
        yield f"  in common with what they liked: {', '.join(item.keywords)}"
    for segment in item.segments:
        interval = f"[{segment.low:+.2f}, {segment.high:+.2f}], {segment.n_users} users"
        yield f"  {segment.column} {segment.group}: {segment.difference:+.2f} to the others {interval}"
    for other in item.similar[:3]:
        rated = f"mean rating {other.mean_rating:.2f} of {other.n_ratings}"
        yield f"  similar text ({other.similarity:.2f}): {shortened(other.title)}, {rated}"
    if item.fits:
        yield f"  fits the profiles of: {', '.join(fit.user_id for fit in item.fits)}"


COMMANDS.add("cold", Command("how users would receive new items", DESCRIPTION, _add_options, run, "simulate"))
