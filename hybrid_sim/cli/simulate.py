"""`hybrid-sim simulate` and `hybrid-sim plan`: users rate items; what asking a language model about it would cost."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hybrid_sim.cli.data_options import add_data_options, add_run_options, new_simulator, read_data
from hybrid_sim.cli.llm_options import add_budget_options, ahead, exit_status, open_llm, what_was_asked
from hybrid_sim.cli.pair_options import add_pair_choice, add_pairs_file, choose_pairs, report_sources
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, one_of
from hybrid_sim.cli.settings import add_settings_options, read_settings, require_model
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.core.settings import RunSettings
    from hybrid_sim.core.user_state import Timeline, UserState
    from hybrid_sim.llm.client import LLM
    from hybrid_sim.llm.journal import Journal
    from hybrid_sim.profiles.llm_writer import Asks
    from hybrid_sim.simulation.run_folder import RunFolder
    from hybrid_sim.simulation.simulate import Simulation
    from hybrid_sim.simulation.simulator import Simulator

DESCRIPTION = """\
How users rate items. Writes into RUN_DIR: ratings.csv (for every pair a rating that is drawn, the expected one, its
interval, distribution and source), explanations.jsonl (why), profiles.jsonl (all versions of the users' profiles)
and run.json (settings and provenance). Without a language model this needs no key and no network:

  hybrid-sim simulate --dataset world --user random:5 --item random:10 -o run

With --model, a language model is asked about some known ratings, to learn what its word is worth, and then about the
pairs; `hybrid-sim plan` with the same options says beforehand what that takes. Every answer is kept in RUN_DIR: the
same command goes on where a run ended, and asks nothing twice that was answered.

  hybrid-sim simulate --dataset world --user random:5 --item random:10 --model gpt-4o-mini --budget 1usd -o run
"""

PLAN = """\
What `hybrid-sim simulate` with the same options would ask a language model: calls, tokens, money and minutes. Nothing
is sent. Once the run has some answers (let it begin with --max-calls 100), what is left is told from these.

  hybrid-sim plan --dataset world --user random:5 --item random:10 --model gpt-4o-mini -o run
"""

MANY = 20_000
"""Pairs up to which explanations are written unless they are asked for."""

_log = logging.getLogger("hybrid_sim")


def add_options(parser: Parser) -> None:
    """Add the options of both commands."""
    parser.add_argument("-o", "--output", metavar="RUN_DIR", type=Path, required=True, help="the folder of the run")
    pairs = parser.add_argument_group("who rates what: a file of pairs, or chosen users times chosen items")
    add_pairs_file(pairs, required=False)
    add_pair_choice(pairs)
    add_settings_options(parser)
    add_budget_options(parser)
    how = parser.add_argument_group("how the run goes")
    how.add_argument("--replay", action="store_true", help="send nothing: a missing answer is an error")
    how.add_argument("--batch", action="store_true", help="by the Batch API: cheaper, within a day")
    how.add_argument("--dry-run", action="store_true", help="the same as `hybrid-sim plan`")
    how.add_argument(
        "--fitted", metavar="MODEL_DIR", type=Path, help="what `fit` saved from this data; else fitted now"
    )
    how.add_argument(
        "--profiles",
        metavar="FILE|RUN_DIR",
        type=Path,
        help="profiles that users have already: of an earlier run, or a table with user_id, version, summary, ...",
    )
    how.add_argument(
        "--advance", action="store_true", help="let the simulated ratings change the profiles (with --model: asks it)"
    )
    how.add_argument(
        "--explain",
        type=one_of(("auto", "all", "none")),
        default="auto",
        metavar="auto|all|none",
        help=f"write explanations; auto: up to {MANY:,} pairs",
    )
    add_run_options(how)
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Simulate, write the files and say what came of it; the exit status tells what could not be had."""
    if options.dry_run:
        return plan(options)
    from hybrid_sim.simulation.interviewer import USERS_AT_A_TIME
    from hybrid_sim.simulation.run_folder import interviewer
    from hybrid_sim.simulation.simulate import simulate

    job = _Job.of(options)
    if not job.asks:
        if job.folder.journal.exists():
            raise SettingsError(
                f"{job.folder.path} holds a run with a language model; name the model again, or another folder"
            )
        _log.info("no language model is asked (--model NAME asks one): the answers are statistical")
        return job.finish(simulate(*job.question, seed=options.seed), None)
    try:
        with (
            job.journal(read_only=options.replay) as journal,
            open_llm(options, job.settings.llm, journal, replay=options.replay, batch=options.batch) as llm,
        ):
            at_a_time = job.dataset.n_users if options.batch else USERS_AT_A_TIME  # a batch may take a day
            puts = interviewer(job.dataset, job.settings, llm, at_a_time, job.without)
            return job.finish(simulate(*job.question, puts, options.seed, job.timelines), llm)
    except KeyboardInterrupt:
        _log.warning("what was answered is kept; go on with: %s", job.command)
        raise


def plan(options: argparse.Namespace) -> int:
    """Say how many calls, tokens, dollars and minutes the simulation would take, and send nothing."""
    from hybrid_sim.llm.planning import Planner
    from hybrid_sim.simulation.run_folder import interviewer
    from hybrid_sim.simulation.simulate import simulate

    job = _Job.of(options)
    if not job.asks:
        raise SettingsError("there is nothing to plan: no language model is asked; add --model NAME")
    with job.journal(read_only=True) if job.folder.journal.is_file() else nullcontext() as journal:
        planner = Planner(job.settings.llm.sampling, journal)
        simulation = simulate(
            *job.question,
            interviewer(job.dataset, job.settings, planner, without=job.without),
            options.seed,
            job.timelines,
        )
        if options.advance:
            job.users(simulation, planner)
        sys.stdout.write(ahead(options, planner, job.settings.llm, journal, options.batch))
    _log.info("go on with: %s", job.command)
    return 0


@dataclass(frozen=True)
class _Job:
    """What the command line asks for, read and checked."""

    options: argparse.Namespace
    settings: RunSettings
    dataset: Dataset
    folder: RunFolder
    wanted: Simulator
    user_ids: NDArray[np.object_]
    item_ids: NDArray[np.object_]
    timelines: dict[str, Timeline]

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Read settings, data and pairs."""
        from hybrid_sim.ensemble.components import WITH_LLM
        from hybrid_sim.simulation.run_folder import RunFolder
        from hybrid_sim.simulation.simulator import Simulator

        settings = read_settings(options)
        if options.base_url or options.replay or options.batch or options.budget:
            require_model(settings)
        RunFolder(options.output).require_kind("simulate")
        dataset = read_data(options, default="world")
        users, items = choose_pairs(options, dataset)
        wanted = new_simulator(options, settings.ensemble)
        if options.fitted is not None:
            if wanted.members is not None or set(wanted.without) - set(WITH_LLM):
                raise SettingsError("--fitted: what is saved has its members; leave --members and --without out")
            without = wanted.without
            wanted = Simulator.load(options.fitted)
            wanted.require_fitted_to(dataset)
            wanted.without, wanted.n_jobs = (*wanted.without, *without), options.jobs
        profiles = _read_profiles(options.profiles)
        return cls(options, settings, dataset, RunFolder(options.output), wanted, users, items, profiles)

    @property
    def without(self) -> Sequence[str]:
        """Components that are switched off."""
        return self.wanted.without

    @property
    def asks(self) -> bool:
        """Whether a language model is asked."""
        return bool(self.settings.llm.model) and "llm" not in self.without

    @cached_property
    def simulator(self) -> Simulator:
        """The fitted simulator: the one that was named, else one of the run folder."""
        return self.wanted if self.options.fitted is not None else self.folder.fitted(self.wanted, self.dataset)

    @property
    def question(self) -> tuple[Simulator, Dataset, list[str], list[str]]:
        """Who is asked about what."""
        return self.simulator, self.dataset, self.user_ids.tolist(), self.item_ids.tolist()

    @property
    def command(self) -> str:
        """The command that goes on with this run."""
        words = [word for word in self.options.words[1:] if word != "--dry-run"]
        return shlex.join(["hybrid-sim", "simulate", *words])

    @contextmanager
    def journal(self, read_only: bool = False) -> Iterator[Journal]:
        """The journal of the run folder."""
        from hybrid_sim.llm.journal import Journal
        from hybrid_sim.simulation.run_folder import identity

        pairs = self.user_ids.tolist(), self.item_ids.tolist()
        who = identity(self.dataset, self.settings, self.wanted, *pairs, self.timelines, self.options.seed)
        with Journal(self.folder.journal, settings=who, replay=read_only) as journal:
            yield journal

    def users(self, simulation: Simulation, model: Asks | None) -> list[UserState]:
        """The users of the simulation; with `--advance` as the simulated ratings leave them."""
        from hybrid_sim.simulation.run_folder import authors
        from hybrid_sim.simulation.simulate import advance, users_before

        settings = self.settings.profile
        author = authors(self.dataset, self.settings, None)
        if "profile" in self.without:
            model = None
        states = users_before(simulation, self.dataset, author, settings, self.timelines)
        if not self.options.advance:
            return states
        return advance(states, simulation, self.dataset, authors(self.dataset, self.settings, model), settings)

    def finish(self, simulation: Simulation, llm: LLM | None) -> int:
        """Write the files and report; returns the exit status."""
        import numpy as np

        users, known = self.users(simulation, llm), self.dataset.rating_of(simulation.pairs)
        self.folder.make()
        self.folder.write_ratings(simulation, known)
        self.folder.write_profiles(users)
        written = [self.folder.ratings, self.folder.profiles]
        if self._explains(len(simulation.pairs)):
            from hybrid_sim.simulation.explain import explain

            prediction, reasons = simulation.prediction, simulation.reasons.tolist()
            self.folder.write_explanations(explain(self.simulator, prediction, self.dataset, reasons))
            written.append(self.folder.explanations)
        self.folder.write_about(self._about(simulation, llm))
        sources = Counter(simulation.prediction.source.tolist())
        parts = ", ".join(f"{source} {count:,}" for source, count in sources.most_common())
        sys.stdout.write(f"{len(simulation.pairs):,} pairs rated, from: {parts}\n")
        report_sources(simulation.prediction.source)
        if n_known := int(np.isfinite(known).sum()):
            _log.warning(
                "%d of the pairs are rated in the data already (known_rating), and the simulator learned from that: "
                "what it says of them is no forecast",
                n_known,
            )
        if llm is not None:
            sys.stdout.write(what_was_asked(simulation, llm))
        _log.info("written: %s", ", ".join(map(str, [*written, self.folder.about])))
        return exit_status(simulation, llm, self.command)

    def _explains(self, n_pairs: int) -> bool:
        wanted: str = self.options.explain
        if wanted == "auto" and n_pairs > MANY:
            _log.info("no explanations are written of more than %s pairs; --explain all writes them", f"{MANY:,}")
        return wanted == "all" or (wanted == "auto" and n_pairs <= MANY)

    def _about(self, simulation: Simulation, llm: LLM | None) -> dict[str, Any]:
        from hybrid_sim.core.provenance import provenance

        words, embedder = ["hybrid-sim", *self.options.words], self.simulator.embedder_name_
        made = provenance(words, self.options.seed, self.dataset, embedder)
        return {
            "provenance": asdict(made),
            "kind": "simulate",
            "settings": self.settings.model_dump(mode="json"),
            "members": list(self.simulator.ensemble_.members),
            "sources": dict(Counter(simulation.prediction.source.tolist())),
            "asked": int(simulation.asked.sum()),
            "answered": int(simulation.said.answered.sum()),
            "ledger": None if llm is None else asdict(llm.journal.ledger()),
            "failures": None if llm is None else llm.journal.failures(),
        }


def _read_profiles(place: Path | None) -> dict[str, Timeline]:
    if place is None:
        return {}
    if place.is_dir():
        from hybrid_sim.profiles.timelines import PROFILES_FILE, read_timelines

        return read_timelines(place / PROFILES_FILE)
    from hybrid_sim.profiles.recorded import read_recorded_profiles

    return read_recorded_profiles(place)


COMMANDS.add(
    "simulate",
    Command("let users rate items, with or without a language model", DESCRIPTION, add_options, run, "simulate"),
)
COMMANDS.add(
    "plan",
    Command("what a simulation would ask a language model, and what that costs", PLAN, add_options, plan, "simulate"),
)
