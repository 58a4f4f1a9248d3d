"""`hybrid-sim simulate` and `hybrid-sim plan`: users rate items; what asking a language model about it would cost."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections import Counter
from pathlib import Path

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
from hybrid_sim.cli.pair_options import add_pair_choice, add_pairs_file, choose_pairs, report_sources
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, one_of
from hybrid_sim.cli.settings import add_settings_options, read_settings, require_model

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

_log = logging.getLogger("hybrid_sim")


def _add_options(parser: Parser) -> None:
    add_folder_options(parser.option)
    pairs = parser.group("who rates what: a file of pairs, or users times items")
    add_pairs_file(pairs, required=False)
    add_pair_choice(pairs)
    add_settings_options(parser)
    add_budget_options(parser)
    how = parser.group("how the run goes")
    how("--replay", "send nothing: a missing answer is an error")
    how("--batch", "by the Batch API: cheaper, within a day")
    how("--dry-run", "the same as `hybrid-sim plan`")
    how("--fitted MODEL_DIR", "what `fit` saved from this data; else fitted now", Path)
    profiles = "profiles that users have already: of an earlier run, or a table with user_id, version, summary, ..."
    how("--profiles FILE|RUN_DIR", profiles, Path)
    how("--advance", "let the simulated ratings change the profiles (with --model: asks it)")
    explain = "write explanations; auto: up to 20,000 pairs"
    how("--explain auto|all|none", explain, one_of(("auto", "all", "none")), default="auto")
    add_run_options(how)
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Simulate, write the files and report; the exit status says what is missing."""
    if options.dry_run:
        return plan(options)
    simulated, pairs = _run(options)
    if not simulated.asks:
        _log.info("no language model is asked (--model NAME asks one): the predictions are statistical")
    try:
        simulation = simulated.simulate(
            *pairs,
            **limits(options),
            advance=options.advance,
            explained={"auto": None, "all": True, "none": False}[options.explain],
            replay=options.replay,
            batch=options.batch,
            command=options.command,
        )
    except KeyboardInterrupt:
        _log.warning("what was answered is kept; go on with: %s", _command(options))
        raise
    sources = simulation.prediction.source
    parts = ", ".join(f"{source} {count:,}" for source, count in Counter(sources.tolist()).most_common())
    sys.stdout.write(f"{len(sources):,} pairs rated, from: {parts}\n")
    report_sources(sources)
    sys.stdout.write(use_lines(simulation))
    folder = simulated.folder
    written = [folder.ratings, folder.profiles, folder.explanations, folder.about]
    _log.info("written: %s", ", ".join(str(file) for file in written if file.is_file()))
    return exit_status(simulation, _command(options))


def plan(options: argparse.Namespace) -> int:
    """Show how many calls, tokens, dollars and minutes the simulation would take, and send nothing."""
    planned, pairs = _run(options)
    expected = planned.plan(*pairs, advance=options.advance, batch=options.batch)
    sys.stdout.write(plan_lines(expected, options))
    _log.info("go on with: %s", _command(options))
    return 0


def _run(options: argparse.Namespace) -> tuple[hs.Run, tuple[list[str], list[str]]]:
    """The run that the options describe, and its pairs."""
    from hybrid_sim.simulation.run_folder import RunFolder

    settings = read_settings(options)
    given = any(limit is not None for limit in limits(options).values())
    if options.base_url or options.replay or options.batch or given:
        require_model(settings)
    RunFolder(options.output).require_usable("simulate")
    dataset = read_data(options)
    users, items = choose_pairs(options, dataset)
    simulator = chosen_simulator(options, settings.ensemble)
    made_from = {
        "settings": settings,
        "seed": options.seed,
        "profiles": options.profiles,
        "overwrite": options.overwrite,
    }
    return hs.Run(options.output, dataset, simulator=simulator, **made_from), (users.tolist(), items.tolist())


def _command(options: argparse.Namespace) -> str:
    """The command that goes on with this run."""
    return shlex.join(["hybrid-sim", "simulate", *(word for word in options.command[2:] if word != "--dry-run")])


RUNS = "let users rate items, with or without a language model"
COMMANDS.add("simulate", Command(RUNS, DESCRIPTION, _add_options, run, "simulate"))
PLANS = "what a simulation would ask a language model, and what that costs"
COMMANDS.add("plan", Command(PLANS, PLAN, _add_options, plan, "simulate"))
