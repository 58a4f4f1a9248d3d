"""`hybrid-sim cold`: how users would receive items that nobody has rated yet."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import shlex
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hybrid_sim.cli.data_options import add_data_options, add_run_options, new_simulator, read_data
from hybrid_sim.cli.forecast_output import page, table
from hybrid_sim.cli.llm_options import add_budget_options, ahead, exit_status, open_llm, what_was_asked
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, whole_number
from hybrid_sim.cli.settings import add_settings_options, read_settings, require_model
from hybrid_sim.cli.terminal import report_formulas
from hybrid_sim.core.errors import ModelFileError, SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.core.settings import RunSettings
    from hybrid_sim.core.types import IntArray
    from hybrid_sim.llm.client import LLM
    from hybrid_sim.llm.journal import Journal
    from hybrid_sim.new_items.forecast import Foresight
    from hybrid_sim.profiles.llm_writer import Asks
    from hybrid_sim.simulation.run_folder import RunFolder
    from hybrid_sim.simulation.simulator import Simulator

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
"""Where in DIR a simulator is kept that has learned of the new items; the fingerprint of what was taught follows."""

MAX_PAIRS = 2_000_000


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
    """Read the new items, have the simulator know them, ask it, write the files and show the answers."""
    job = _Job.of(options)
    if not job.asks:
        return job.finish(job.answer(), None)
    if options.dry_run:
        return job.plan()
    try:
        with (
            job.journal(replay=options.replay) as journal,
            open_llm(options, job.settings.llm, journal, replay=options.replay) as llm,
        ):
            return job.finish(job.answer(llm), llm)
    except KeyboardInterrupt:
        _log.warning("what was answered is kept; the same command goes on")
        raise


@dataclass(frozen=True)
class _Job:
    """What the command line asks for, read and checked; `whole` has the new items at the end of the catalogue."""

    options: argparse.Namespace
    settings: RunSettings
    folder: RunFolder
    dataset: Dataset
    whole: Dataset
    users: IntArray
    like_from: float
    wanted: Simulator

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Read settings, data and new items."""
        from hybrid_sim.data.new_items import add_items, read_new_items
        from hybrid_sim.new_items.forecast import like_level
        from hybrid_sim.simulation.run_folder import RunFolder

        settings, folder = read_settings(options), RunFolder(options.output)
        limited = (options.budget, options.max_calls, options.max_minutes)
        if options.base_url or options.replay or options.dry_run or options.panel or limited != (None, None, None):
            require_model(settings)
        folder.require_kind("cold")
        dataset = read_data(options, default="world")
        new = read_new_items(options.new, dataset, options.new_item_col, options.encoding)
        like_from, users = like_level(dataset.scale, options.like), _audience(dataset, options)
        if len(new) * len(users) > MAX_PAIRS:
            raise SettingsError(
                f"{len(new):,} items times {len(users):,} users are too many at once; choose --audience N"
            )
        wanted = _wanted(options, settings, dataset)
        job = cls(options, settings, folder, dataset, add_items(dataset, new), users, like_from, wanted)
        if not job.asks and folder.journal.exists():
            raise SettingsError(f"{folder.path} holds answers of a language model; name it again, or another folder")
        return job

    @property
    def asks(self) -> bool:
        """Whether a language model is asked."""
        return bool(self.settings.llm.model) and "llm" not in self.wanted.without

    @property
    def items(self) -> IntArray:
        """The new items."""
        import numpy as np

        return np.arange(self.dataset.n_items, self.whole.n_items)

    @property
    def panel(self) -> int:
        """Users for whom the model is asked about every item."""
        from hybrid_sim.ensemble.correction import N_PANEL

        return self.options.panel or N_PANEL

    def journal(self, replay: bool) -> Journal:
        """The journal of the folder."""
        from hybrid_sim.llm.journal import Journal
        from hybrid_sim.simulation.run_folder import identity

        ids = (self.whole.users.index[self.users].tolist(), self.whole.items.index[self.items].tolist())
        who = identity(self.whole, self.settings, self.wanted, *ids, seed=self.options.seed)
        return Journal(self.folder.journal, settings={**who, "panel": self.panel}, replay=replay)

    def plan(self) -> int:
        """Say what asking the model would take."""
        from hybrid_sim.llm.planning import Planner

        with self.journal(replay=True) if self.folder.journal.is_file() else nullcontext() as journal:
            planner = Planner(self.settings.llm.sampling, journal)
            self.answer(planner)
            sys.stdout.write(ahead(self.options, planner, self.settings.llm, journal))
        return 0

    def answer(self, model: Asks | None = None) -> Foresight:
        """Ask the simulator about all users, and the language model, if there is one, about the panel."""
        from hybrid_sim.new_items.forecast import foresee
        from hybrid_sim.simulation.run_folder import interviewer

        without = self.wanted.without
        asks = None if model is None else interviewer(self.whole, self.settings, model, without=without)
        return foresee(
            self.simulator,
            self.whole,
            self.items,
            self.users,
            like_from=self.like_from,
            n_shown=self.options.top,
            interviewer=asks,
            n_panel=self.panel,
            seed=self.options.seed,
        )

    @cached_property
    def simulator(self) -> Simulator:
        """The simulator that knows the new items: kept from an earlier run, taught, or fitted now."""
        from hybrid_sim.core.model_files import MANIFEST
        from hybrid_sim.simulation.refit import taught

        if self.options.fitted is None:
            return self.folder.fitted(self.wanted, self.whole)
        fingerprint = hashlib.sha256((self.options.fitted / MANIFEST).read_bytes()).hexdigest()
        place = self.folder.path / f"{TAUGHT}-{fingerprint[:8]}"
        kept = _kept(place)
        if kept is not None and kept.dataset_digest_ == self.whole.digest:
            return kept
        simulator = taught(self.wanted, self.whole, self.options.jobs)
        if not self.options.dry_run:
            self.folder.make()
            simulator.save(place)
        return simulator

    def finish(self, found: Foresight, llm: LLM | None) -> int:
        """Write the files and show the answers; returns the exit status."""
        self._write(found, llm)
        sys.stdout.write(page(found.receptions, self.whole))
        if llm is not None:
            sys.stdout.write(what_was_asked(found.simulation, llm))
        return exit_status(found.simulation, llm, shlex.join(["hybrid-sim", *self.options.words]))

    def _write(self, found: Foresight, llm: LLM | None) -> None:
        from hybrid_sim.core.files import write_whole
        from hybrid_sim.core.provenance import provenance

        self.folder.make()
        items, words = table(found.receptions), ["hybrid-sim", *self.options.words]
        lines = "".join(f"{json.dumps(reception.to_json(), allow_nan=False)}\n" for reception in found.receptions)
        about = {
            "provenance": asdict(provenance(words, self.options.seed, self.whole, self.simulator.embedder_name_)),
            "kind": "cold",
            "new_items": len(found.receptions),
            "members": "taught the new items" if self.options.fitted is not None else "fitted with the new items",
            "settings": None if llm is None else self.settings.model_dump(mode="json"),
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
            write_whole(self.folder.path / name, content)
        report_formulas("ids or titles", [*items["item_id"], *items["title"]])
        _log.info("written: %s", ", ".join(str(self.folder.path / name) for name in contents))


def _wanted(options: argparse.Namespace, settings: RunSettings, dataset: Dataset) -> Simulator:
    """What is to be taught, or fitted."""
    from hybrid_sim.ensemble.components import WITH_LLM
    from hybrid_sim.simulation.simulator import Simulator

    if options.fitted is None:
        return new_simulator(options, settings.ensemble)
    named = new_simulator(options, settings.ensemble)
    if named.members is not None or set(named.without) - set(WITH_LLM):
        raise SettingsError("--fitted: what is saved has its members; leave --members and --without out")
    fitted = Simulator.load(options.fitted)
    fitted.require_fitted_to(dataset)
    fitted.without = (*fitted.without, *named.without)
    return fitted


def _audience(dataset: Dataset, options: argparse.Namespace) -> IntArray:
    """The users who are asked: all with ratings, or so many of them by chance."""
    import numpy as np

    from hybrid_sim.core.seeding import stream

    users = np.flatnonzero(dataset.user_counts).astype(np.int64)
    if options.audience is not None and options.audience > len(users):
        _log.warning(
            "--audience %d: %s has %d users with ratings; all are asked", options.audience, dataset.name, len(users)
        )
    if options.audience is None or options.audience >= len(users):
        return users
    return np.sort(stream(options.seed, "audience").choice(users, options.audience, replace=False))


def _kept(folder: Path) -> Simulator | None:
    """The simulator that an earlier run left there, if it did and it is whole."""
    from hybrid_sim.simulation.simulator import Simulator

    try:
        return Simulator.load(folder) if folder.is_dir() else None
    except ModelFileError:
        return None


def _csv(frame: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.to_csv(content, index=False, encoding="utf-8", lineterminator="\n")
    return content.getvalue()


COMMANDS.add("cold", Command("how users would receive new items", DESCRIPTION, add_options, run, "simulate"))
