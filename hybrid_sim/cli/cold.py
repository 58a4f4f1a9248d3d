"""`hybrid-sim cold`: how users would receive items that nobody has rated yet."""

from __future__ import annotations

import argparse
import io
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.cli.door import add_budget_options, ahead, exit_status, open_llm, what_was_asked
from hybrid_sim.cli.options import add_data_options, add_run_options, new_simulator, read_data
from hybrid_sim.cli.parsing import add_common, whole_number
from hybrid_sim.cli.settings import add_settings_options, read_settings, require_model
from hybrid_sim.errors import ModelFileError, SettingsError
from hybrid_sim.writing import printable, shortened

if TYPE_CHECKING:
    import pandas as pd

    from hybrid_sim.cold import Fan, Foresight, Reception
    from hybrid_sim.data.dataset import Dataset
    from hybrid_sim.llm.client import LLM
    from hybrid_sim.run import RunFolder
    from hybrid_sim.settings import RunSettings
    from hybrid_sim.simulator import Simulator
    from hybrid_sim.types import IntArray

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

TAUGHT = "taught"
"""Where in DIR a simulator is kept that has learned of the new items."""

MAX_PAIRS = 2_000_000

SHOWN_ITEMS = 20
"""Items that are shown on the screen; the files have them all."""

BAR = 40
"""Characters of a bar that stands for certainty."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_log = logging.getLogger("hybrid_sim")


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("cold", help="how users would receive new items", description=DESCRIPTION)
    parser.set_defaults(run=run)
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
        default=10,
        help="users for whom a language model is asked about every item (default 10)",
    )
    add_budget_options(parser)
    what.add_argument("--replay", action="store_true", help="send nothing: a missing answer is an error")
    what.add_argument("--dry-run", action="store_true", help="say what asking the model would take, and send nothing")
    add_data_options(parser)
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """Read the new items, have the simulator know them, ask it, write the files and show the answers."""
    if options.output.exists() and not options.output.is_dir():
        raise SettingsError(f"-o {options.output} is a file; name a folder")
    dataset = read_data(options, default="world")
    import numpy as np

    from hybrid_sim.cold import foresee, like_level
    from hybrid_sim.data.new_items import add_items, read_new_items
    from hybrid_sim.llm.journal import Journal
    from hybrid_sim.llm.planner import Planner
    from hybrid_sim.run import RunFolder, identity, interviewer

    new = read_new_items(options.new, dataset, options.new_item_col, options.encoding)
    like_from = like_level(dataset.scale, options.like)
    users = _audience(dataset, options)
    if len(new) * len(users) > MAX_PAIRS:
        raise SettingsError(f"{len(new):,} items times {len(users):,} users are too many at once; choose --audience N")
    settings = read_settings(options)
    if options.base_url or options.replay or options.dry_run or options.budget:
        require_model(settings)
    whole = add_items(dataset, new)
    folder = RunFolder(options.output)
    if not settings.llm.model and folder.journal.exists():
        raise SettingsError(f"{folder.path} holds answers of a language model; name it again, or another folder")
    simulator = _simulator(folder, dataset, whole, options, settings)
    ask = partial(
        foresee,
        simulator,
        whole,
        np.arange(dataset.n_items, whole.n_items),
        users,
        like_from=like_from,
        n_shown=options.top,
        n_panel=options.panel,
    )
    if not settings.llm.model:
        return _finish(folder, ask(), whole, options, None)
    named = whole.users.index[users].tolist(), new.index.tolist()
    who = identity(whole, settings, simulator, *named, seed=options.panel)
    if options.dry_run:
        kept = Journal(folder.journal, settings=who, replay=True) if folder.journal.is_file() else nullcontext()
        with kept as journal:
            planner = Planner(settings.llm.sampling, journal)
            ask(interviewer=interviewer(whole, settings, planner))
            sys.stdout.write(ahead(planner, settings.llm, journal))
        return 0
    with (
        Journal(folder.journal, settings=who, replay=options.replay) as journal,
        open_llm(options, settings.llm, journal, replay=options.replay) as llm,
    ):
        found = ask(interviewer=interviewer(whole, settings, llm))
        return _finish(folder, found, whole, options, llm)


def _finish(folder: RunFolder, found: Foresight, whole: Dataset, options: argparse.Namespace, llm: LLM | None) -> int:
    """Write the files and show the answers; returns the exit status."""
    _write(folder, found, whole, options, llm)
    sys.stdout.write(_page(found.receptions, whole))
    if llm is not None:
        sys.stdout.write(what_was_asked(found.simulation, llm))
    return exit_status(found.simulation, llm, shlex.join(["hybrid-sim", *options.words]))


def _audience(dataset: Dataset, options: argparse.Namespace) -> IntArray:
    """The users who are asked: all with ratings, or so many of them by chance."""
    import numpy as np

    from hybrid_sim.random import stream

    users = np.flatnonzero(dataset.user_counts).astype(np.int64)
    if options.audience is not None and options.audience > len(users):
        _log.warning(
            "--audience %d: %s has %d users with ratings; all are asked", options.audience, dataset.name, len(users)
        )
    if options.audience is None or options.audience >= len(users):
        return users
    return np.sort(stream(options.seed, "audience").choice(users, options.audience, replace=False))


def _simulator(
    folder: RunFolder, dataset: Dataset, whole: Dataset, options: argparse.Namespace, settings: RunSettings
) -> Simulator:
    """The simulator that knows the new items: kept from an earlier run, taught, or fitted now."""
    from hybrid_sim.extend import taught
    from hybrid_sim.simulator import Simulator

    if options.fitted is None:
        return folder.fitted(new_simulator(options, settings.ensemble), whole)
    if options.members is not None or options.without is not None:
        raise SettingsError("--members and --without belong to a new fit; leave them or --fitted out")
    fitted = Simulator.load(options.fitted)
    fitted.require_fitted_to(dataset)
    kept = _kept(folder.path / TAUGHT)
    if kept is not None and kept.dataset_digest_ == whole.digest and _settings(kept) == _settings(fitted):
        return kept
    simulator = taught(fitted, whole, options.jobs)
    folder.make()
    simulator.save(folder.path / TAUGHT)
    return simulator


def _kept(folder: Path) -> Simulator | None:
    """The simulator that an earlier run left there, if it did and it is whole."""
    from hybrid_sim.simulator import Simulator

    try:
        return Simulator.load(folder) if folder.is_dir() else None
    except ModelFileError:
        return None


def _settings(simulator: Simulator) -> tuple[int, tuple[str, ...]]:
    return simulator.seed, tuple(simulator.ensemble_.members)


def _write(folder: RunFolder, found: Foresight, whole: Dataset, options: argparse.Namespace, llm: LLM | None) -> None:
    from hybrid_sim.report import provenance
    from hybrid_sim.writing import write_whole

    folder.path.mkdir(parents=True, exist_ok=True)
    items = _table(found.receptions)
    lines = "".join(f"{json.dumps(reception.to_json(), allow_nan=False)}\n" for reception in found.receptions)
    about = {
        "provenance": asdict(provenance(["hybrid-sim", *options.words], options.seed, whole)),
        "kind": "cold",
        "new_items": len(found.receptions),
        "members": "taught the new items" if options.fitted is not None else "fitted with the new items",
        "model": None if llm is None else llm.settings.model,
        "asked": int(found.simulation.asked.sum()),
        "answered": int(found.simulation.said.answered.sum()),
        "ledger": None if llm is None else asdict(llm.journal.ledger()),
    }
    contents = {
        "items.csv": _csv(items),
        "items.jsonl": lines.encode("ascii"),
        "pairs.csv": _csv(found.prediction.to_frame()),
        "run.json": json.dumps(about, indent=1, allow_nan=False).encode() + b"\n",
    }
    for name, content in contents.items():
        write_whole(folder.path / name, content)
    _report_formulas([*items["item_id"], *items["title"]])
    _log.info("written: %s", ", ".join(str(folder.path / name) for name in contents))


def _table(receptions: Sequence[Reception]) -> pd.DataFrame:
    """A row per item."""
    import pandas as pd

    plain = ("item_id", "title", "n_users", "mean", "low", "high", "likes", "like_from", "panel", "shift")
    rows = [
        {
            **{name: getattr(reception, name) for name in plain},
            **{f"p_{level}": prob for level, prob in reception.probs.items()},
            "fans": " ".join(fan.user_id for fan in reception.fans),
            "keywords": " ".join(reception.keywords),
            "similar": " ".join(other.item_id for other in reception.similar),
        }
        for reception in receptions
    ]
    return pd.DataFrame(rows)


def _csv(frame: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.to_csv(content, index=False, encoding="utf-8", lineterminator="\n")
    return content.getvalue()


def _report_formulas(texts: Sequence[str]) -> None:
    formulas = [text for text in texts if text.startswith(FORMULA_STARTS)]
    if formulas:
        _log.warning(
            "%d ids or titles look like formulas to a spreadsheet, for example %r; they are kept as they are",
            len(formulas),
            formulas[0],
        )


def _page(receptions: Sequence[Reception], whole: Dataset) -> str:
    """The answers on a screen; foreign text is escaped."""
    source = f"{whole.name}{' (synthetic data)' if whole.synthetic else ''}"
    lines = [f"{len(receptions)} new items, users of {source}, expected ratings are not rounded"]
    for reception in receptions[:SHOWN_ITEMS]:
        lines += ["", *_item_lines(reception)]
    if len(receptions) > SHOWN_ITEMS:
        lines += ["", f"{len(receptions) - SHOWN_ITEMS} more are in the files"]
    return "".join(f"{printable(line)}\n" for line in lines)


def _item_lines(reception: Reception) -> list[str]:
    span = ""
    if reception.low is not None and reception.high is not None:
        span = f", {reception.level:.0%} sure that its ratings will average {reception.low:.2f} to {reception.high:.2f}"
    lines = [
        f"item {shortened(reception.item_id)}: {shortened(reception.title)}",
        f"  expected {reception.mean:.2f}{span}",
        *_panel_line(reception),
        f"  {reception.likes:.0%} of ratings by {reception.n_users:,} users would be {reception.like_from:g} or more",
    ]
    lines += [f"  {level:>5} {prob:6.1%} {'#' * round(BAR * prob)}".rstrip() for level, prob in reception.probs.items()]
    for fan in reception.fans:
        lines.append(f"  fan {fan.user_id}: {fan.mean:.2f}, {fan.above_usual:+.2f} to the own usual{_because(fan)}")
    if reception.keywords:
        lines.append(f"  in common with what they liked: {', '.join(reception.keywords)}")
    for segment in [*reception.segments[:2], *reception.segments[2:][-1:]]:
        lines.append(
            f"  {segment.column} {segment.group}: {segment.difference:+.2f} to the others "
            f"[{segment.low:+.2f}, {segment.high:+.2f}], {segment.n_users} users"
        )
    if reception.similar:
        alike = ", ".join(f"{shortened(other.title)} ({other.mean_rating:.2f})" for other in reception.similar[:3])
        lines.append(f"  resembles: {alike}")
    return lines


def _panel_line(reception: Reception) -> list[str]:
    moved = f"its word moves the expected rating by {reception.shift:+.2f}"
    return [f"  a language model answered for {reception.panel} users; {moved}"] if reception.panel else []


def _because(fan: Fan) -> str:
    """The ratings of the fan's own that speak most for the item."""
    cited = [cited for cited in fan.explanation.evidence if cited.contribution > 0][:2]
    words = " and ".join(f"{one.rating:g} for {shortened(one.title)}" for one in cited)
    return f", because of {words}" if cited else ""
