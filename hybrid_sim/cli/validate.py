"""`hybrid-sim validate`: whether a simulator may be believed, with verdicts in plain words."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.cli.data_options import add_data_options, add_run_options, new_simulator, read_data
from hybrid_sim.cli.llm_options import add_budget_options, limits
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output, one_of
from hybrid_sim.cli.protocol_options import add_protocol_options, add_recording_options, read_protocol, read_recording
from hybrid_sim.cli.settings import add_settings_options, read_settings
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.evaluation.protocols import Fold, Protocol
    from hybrid_sim.evaluation.validity.inputs import Answers, Cost, Probe
    from hybrid_sim.simulation.simulator import Simulator

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


def add_options(parser: Parser) -> None:
    """Add the options of the command."""
    what = parser.add_argument_group("what is held out (see `hybrid-sim bench --help`)")
    add_protocol_options(what, folds="1")
    what.add_argument(
        "--truth", metavar="FILE", type=Path, help="instead of a protocol: held-out ratings, user_id,item_id,rating"
    )
    judged = parser.add_argument_group("what is judged")
    judged.add_argument("--fitted", metavar="MODEL_DIR", type=Path, help="a saved simulator")
    add_recording_options(judged)
    judged.add_argument("--run", metavar="RUN_DIR", type=Path, dest="run_folder", help="a run of `simulate`")
    judged.add_argument("--simulated", metavar="FILE", type=Path, help="ratings of any simulator")
    judged.add_argument(
        "--planted", metavar="NAME", type=one_of(NEGATIVE_CONTROLS), help=f"one of {', '.join(NEGATIVE_CONTROLS)}"
    )
    judged.add_argument(
        "--probe",
        metavar="DIR",
        type=Path,
        help="with --model: also ask it whether it recalls the data set, about some held-out pairs with real and with "
        "invented titles; its answers are kept in DIR",
    )
    add_run_options(parser.add_argument_group("how it is fitted"))
    add_settings_options(parser)
    add_budget_options(parser)
    add_data_options(parser)
    out = parser.add_argument_group("what is written")
    out.add_argument("--json", metavar="OUT", type=Path, help="the whole report with its provenance")
    out.add_argument("--html", metavar="OUT", type=Path, help="the same as a page")


def run(options: argparse.Namespace) -> int:
    """Validate, print the verdicts and write the files."""
    _check(options)
    from hybrid_sim.evaluation.validity.report import validity_text, write_validity
    from hybrid_sim.evaluation.validity.validate import validate_fold

    dataset = read_data(options, default="world")
    protocol, fold = _fold(options, dataset)
    answers = _answers(options, fold)
    probe = None if options.probe is None else _probe(options, fold)
    report = validate_fold(protocol, fold, answers, options.seed, ["hybrid-sim", *options.words], probe)
    sys.stdout.write(f"{validity_text(report)}\n")
    if options.json is not None:
        write_validity(report, options.json)
    if options.html is not None:
        from hybrid_sim.report.html import write_page
        from hybrid_sim.report.validity import validity_page

        write_page(validity_page(report), options.html)
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
        found = probe(
            fold.train,
            fold.held_out,
            lambda data, inquiries: interviewer(data, settings, llm).ask(inquiries),
            options.seed,
        )
        if llm.stopped is not None:
            raise llm.stopped
    return found


def _check(options: argparse.Namespace) -> None:
    """Refuse at once what contradicts itself, and what would fail after minutes of work."""
    named = [name for name in ("run_folder", "simulated", "planted", "llm_ratings") if getattr(options, name)]
    if len(named) > 1:
        words = [f"--{name.removesuffix('_folder').replace('_', '-')}" for name in named]
        raise SettingsError(f"{' and '.join(words)} name different simulators; judge one at a time")
    if options.fitted is not None and (options.run_folder is not None or options.simulated is not None):
        raise SettingsError("--fitted names a simulator, but the ratings of another one are judged; leave it out")
    if (options.probe is not None) != bool(read_settings(options).llm.model):
        raise SettingsError("--probe DIR and --model NAME go together: the model is asked whether it recalls the data")
    check_output("--json", options.json)
    check_output("--html", options.html)


def _fold(options: argparse.Namespace, dataset: Dataset) -> tuple[Protocol, Fold]:
    """Training and held-out ratings."""
    from hybrid_sim.evaluation.protocols import Fold, Protocol
    from hybrid_sim.evaluation.validity.inputs import read_truth

    if options.truth is not None:
        return Protocol("truth of a file", dataset, ()), Fold(1, dataset, read_truth(options.truth, dataset))
    protocol = read_protocol(options, dataset)
    if len(protocol.splits) != 1:
        raise SettingsError(f"--folds {options.folds}: one fold is validated at a time; name one")
    return protocol, next(protocol.folds())


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
    answers = inputs.fitted(simulator, fold.held_out, options.seed, _clock(seconds))
    recording = read_recording(options, fold.held_out)
    if recording is None:
        return answers
    return inputs.with_recording(answers, recording, options.seed, fold.groups)


def _simulator(options: argparse.Namespace, fold: Fold) -> tuple[Simulator, float | None]:
    """The simulator, and the seconds of fitting it, None where it was fitted before."""
    from hybrid_sim.simulation.simulator import Simulator

    if options.fitted is not None:
        saved = Simulator.load(options.fitted)
        saved.require_fitted_to(fold.train)
        return saved, None
    started = time.perf_counter()
    simulator = new_simulator(options).fit(fold.train)
    return simulator, time.perf_counter() - started


def _clock(fit_seconds: float | None) -> Any:
    """A stopwatch that starts now and makes a `Cost` when it is called."""
    from hybrid_sim.evaluation.validity.inputs import Cost

    started = time.perf_counter()

    def stop() -> Cost:
        return Cost(fit_seconds, time.perf_counter() - started, dollars=0.0, calls=0)

    return stop


COMMANDS.add("validate", Command("judge a simulator by held-out ratings", DESCRIPTION, add_options, run, "evaluate"))
