"""`hybrid-sim validate`: whether a simulator may be believed, with verdicts in plain words."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, add_run_options, new_simulator, read_data, truth_columns
from hybrid_sim.cli.llm_options import add_budget_options, limits
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output, one_of, refuse_options
from hybrid_sim.cli.protocol_options import add_protocol_options, add_recording_options, read_fold, read_recording
from hybrid_sim.cli.settings import add_settings_options, read_settings
from hybrid_sim.cli.terminal import report_written, screen_width, show
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.evaluation.protocols import Fold, Protocol
    from hybrid_sim.evaluation.validity.inputs import Answers, Probe

NEGATIVE_CONTROLS = ("constant", "users-shuffled", "item-mean", "over-positive")

DESCRIPTION = """\
Fits the simulator to the training ratings of a fold, lets it rate the held-out pairs, and compares its ratings with
the real ones: accuracy, calibration, realism, personal taste, picking, ranking of recommenders, groups, drift, cost.
Every verdict states its threshold. Without options: the synthetic world.

  hybrid-sim validate --dataset ml-100k --protocol last40 --json validity.json

What is judged is the simulator as it is fitted here, unless one of these is named:
  --fitted MODEL_DIR    what `hybrid-sim fit` saved from the same training ratings
  --llm-ratings FILE    the simulator corrected by recorded LLM ratings
  --run RUN_DIR         a finished run of `hybrid-sim simulate`
  --simulated FILE      any other simulator: a table user_id,item_id,rating about held-out pairs
  --planted NAME        one that is bad on purpose, to see the validation catch it
"""


def _add_options(parser: Parser) -> None:
    what = parser.group("what is held out (see `hybrid-sim bench --help`)")
    add_protocol_options(what, folds="1")
    what("--truth FILE", "instead of a protocol: held-out ratings, user_id, item_id, rating (or --user-col, ...)", Path)
    judged = parser.group("what is judged")
    judged("--fitted MODEL_DIR", "a saved simulator (`hybrid-sim fit --protocol NAME --folds 1` fits a fold)", Path)
    add_recording_options(judged)
    judged("--run RUN_DIR", "a run of `simulate`", Path, dest="run_folder")
    judged("--simulated FILE", "ratings of any simulator", Path)
    judged("--planted NAME", f"one of {', '.join(NEGATIVE_CONTROLS)}", one_of(NEGATIVE_CONTROLS))
    judged(
        "--probe DIR",
        "with --model: also ask it whether it recalls the data set, about some held-out pairs with real and with "
        "invented titles; its answers are kept in DIR",
        Path,
    )
    add_run_options(parser.group("how it is fitted"))
    add_settings_options(parser)
    add_budget_options(parser)
    add_data_options(parser)
    out = parser.group("what is written")
    out("--json OUT", "the whole report with its provenance", Path)
    out("--html OUT", "the same as a page", Path)


def run(options: argparse.Namespace) -> int:
    """Validate, print the verdicts and write the files."""
    _check(options)
    from hybrid_sim.evaluation.validity.report import validity_text, write_validity
    from hybrid_sim.evaluation.validity.validate import validate_fold

    dataset = read_data(options)
    protocol, fold = _fold(options, dataset)
    answers = _answers(options, fold)
    probe = None if options.probe is None else _probe(options, fold)
    report = validate_fold(protocol, fold, answers, options.seed, options.command, probe)
    show(*validity_text(report, screen_width()).split("\n"))
    if options.json is not None:
        write_validity(report, options.json)
    if options.html is not None:
        hs.write_report(report, options.html)
    report_written(options.json, options.html)
    return 0


def _probe(options: argparse.Namespace, fold: Fold) -> Probe:
    """Ask the language model about some held-out pairs with real and with invented titles."""
    from hybrid_sim.evaluation.validity.contamination import probe
    from hybrid_sim.llm.client import LLM
    from hybrid_sim.llm.journal import Journal
    from hybrid_sim.simulation.interviewer import interviewer
    from hybrid_sim.simulation.session import Limits

    settings = read_settings(options)
    asked = {"probe": settings.model_dump(mode="json", exclude={"llm"}), "llm": settings.llm.sampling}
    about = {**asked, "data": fold.train.digest}
    with (
        Journal(options.probe / "journal.sqlite", settings=about) as journal,
        LLM(settings.llm, journal, Limits(**limits(options)).after(journal.ledger())) as llm,
    ):
        probed = probe(
            fold.train,
            fold.held_out,
            lambda data, inquiries: interviewer(data, settings, llm).ask(inquiries),
            options.seed,
        )
        if llm.stopped is not None:
            raise llm.stopped
    return probed


def _check(options: argparse.Namespace) -> None:
    """Refuse at once what contradicts itself, and what would fail after minutes of work."""
    named = [name for name in ("run_folder", "simulated", "planted", "llm_ratings") if getattr(options, name)]
    if len(named) > 1:
        words = [f"--{name.removesuffix('_folder').replace('_', '-')}" for name in named]
        raise SettingsError(f"{' and '.join(words)} name different simulators; judge one at a time")
    if options.fitted is not None and (options.run_folder is not None or options.simulated is not None):
        raise SettingsError("--fitted names a simulator, but the ratings of another one are judged; leave it out")
    if options.truth is not None:
        refuse_options(options, ["protocol", "folds", "known"], "says what is held out, and --truth does already")
    if options.fitted or options.run_folder or options.simulated:
        judged = "--fitted" if options.fitted else "--run" if options.run_folder else "--simulated"
        refuse_options(options, ["members", "without"], f"belongs to a new fit, and {judged} names a simulator")
    if options.probe is None:
        refuse_options(options, ["budget", "max_calls", "max_minutes"], "belongs to --probe DIR")
    if (options.probe is not None) != bool(read_settings(options).llm.model):
        raise SettingsError("--probe DIR and --model NAME go together: the model is asked whether it recalls the data")
    check_output("--json", options.json)
    check_output("--html", options.html)


def _fold(options: argparse.Namespace, dataset: hs.Dataset) -> tuple[Protocol, Fold]:
    """Training and held-out ratings."""
    from hybrid_sim.evaluation.protocols import Fold, Protocol
    from hybrid_sim.evaluation.validity.inputs import read_truth

    if options.truth is not None:
        held_out = read_truth(options.truth, dataset, **truth_columns(options))
        return Protocol("truth of a file", dataset, ()), Fold(1, dataset, held_out)
    return read_fold(options, dataset)


def _answers(options: argparse.Namespace, fold: Fold) -> Answers:
    """The simulator that is judged, with its answers about the held-out pairs."""
    from hybrid_sim.evaluation.validity import inputs
    from hybrid_sim.evaluation.validity.references import negative_control

    if options.run_folder is not None:
        return inputs.from_run(options.run_folder, fold.train, fold.held_out)
    if options.simulated is not None:
        table = inputs.read_simulated(options.simulated, fold.held_out)
        return inputs.from_table(table, fold.held_out, options.simulated.name)
    simulator, seconds = _simulator(options, fold)
    if options.planted is not None:
        subject = negative_control(options.planted, simulator, fold.train, fold.held_out, options.seed)
        return inputs.Answers(subject, fold.held_out)
    started = time.perf_counter()

    def cost() -> inputs.Cost:
        return inputs.Cost(seconds, time.perf_counter() - started, dollars=0.0, calls=0)

    answers = inputs.fitted(simulator, fold.held_out, options.seed, cost)
    recording = read_recording(options, fold.held_out)
    if recording is None:
        return answers
    return inputs.with_recording(answers, recording, options.seed, fold.groups)


def _simulator(options: argparse.Namespace, fold: Fold) -> tuple[hs.Simulator, float | None]:
    """The simulator, and the seconds of fitting it, None where it was fitted before."""
    if options.fitted is not None:
        saved = hs.load(options.fitted)
        saved.require_fitted_to(fold.train)
        return saved, None
    started = time.perf_counter()
    simulator = new_simulator(options).fit(fold.train)
    return simulator, time.perf_counter() - started


COMMANDS.add("validate", Command("judge a simulator by held-out ratings", DESCRIPTION, _add_options, run, "evaluate"))
