"""What a command may spend on a language model, what that will take, and what it came to."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hybrid_sim as hs
from hybrid_sim.cli.parsing import AddOption, Parser, whole_number
from hybrid_sim.cli.terminal import warn
from hybrid_sim.core.errors import BudgetError

if TYPE_CHECKING:
    from hybrid_sim.simulation.session import Plan

SOME_FAILED = 6
"""Exit status of a run that is done, but in which some pairs lack a rating by the language model."""

_log = logging.getLogger("hybrid_sim")


def add_budget_options(parser: Parser) -> None:
    """Options of everything that may send requests."""
    spent = parser.group("what may be spent")
    spent("--budget 5usd", "money that the run may cost in all, resumed or not", _money)
    spent("--max-calls N", "requests that may be sent in all", whole_number(0))
    spent("--max-minutes N", "minutes that may be spent asking in all", _minutes)


def add_folder_options(option: AddOption) -> None:
    """The option that names the folder of a run, and the one that allows to replace the run in it."""
    option("-o --output DIR", "the folder of the run; the same command again goes on there", Path, required=True)
    option("--overwrite", "replace the finished run of another command in DIR")


def _money(word: str) -> int:
    """Nano-dollars."""
    from hybrid_sim.llm.budget import parse_budget

    return parse_budget(word)


def _minutes(word: str) -> float:
    try:
        minutes = float(word)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no number of minutes")
    return minutes


def limits(options: argparse.Namespace) -> Mapping[str, Any]:
    """What a run may spend, as arguments of `Run.simulate`."""
    return {name: getattr(options, name) for name in ("budget", "max_calls", "max_minutes")}


def plan_lines(plan: Plan, options: argparse.Namespace) -> str:
    """The plan in words, and the limits that would end the run early."""
    needed = {"budget": plan.forecast.money, "max_calls": plan.forecast.calls, "max_minutes": plan.forecast.minutes}
    if getattr(options, "batch", False):
        needed["max_minutes"] = None
    lines = [str(plan)]
    for name, limit in limits(options).items():
        amount = needed[name]
        if limit is not None and amount is not None and amount > limit:
            lines.append(f"--{name.replace('_', '-')} would end the run before it is done")
    return "".join(f"{line}\n" for line in lines)


def use_lines(simulation: hs.Simulation) -> str:
    """Answers, calls, tokens and money in a few lines; a warning where no answer could change anything."""
    from hybrid_sim.llm.budget import dollars

    if simulation.use is None:
        return ""
    use, ledger = simulation.use, simulation.use.ledger
    asked, answered = simulation.asked, simulation.llm.answered
    if not asked.any() and not any(row["is_useless"] for row in simulation.value):
        _log.warning("the model was asked about no pair: it can be asked about known users and items with a text")
    elif answered.any() and not (simulation.prediction.distribution.probs != simulation.statistical.probs).any():
        _log.warning("the model's ratings of known pairs added nothing to the statistics; no prediction changed")
    lines = [
        f"{use.model}: {answered.sum():,} of {asked.sum():,} pairs answered; in all {ledger.calls:,} calls "
        f"({use.calls:,} of them now), {ledger.prompt_tokens:,} tokens in and {ledger.completion_tokens:,} out, "
        f"{dollars(ledger.money)}"
    ]
    if ledger.unknown_cost:
        most = f", at most {dollars(ledger.at_worst)}" if not ledger.unpriced else ""
        lines.append(f"{ledger.unknown_cost:,} of the calls have an unknown cost{most}")
    if ledger.possibly_paid:
        lines.append(f"{ledger.possibly_paid:,} calls without an answer may have been paid")
    return "".join(f"{line}\n" for line in lines)


def exit_status(simulation: hs.Simulation, command: str) -> int:
    """0 done, 6 done but some pairs lack the model's rating, else the status of what stopped the run; says which."""
    use = simulation.use
    if use is None:
        return 0
    if use.stopped is not None:
        warn(f"hybrid-sim: {use.stopped}")
        out_of_budget = isinstance(use.stopped, BudgetError)
        how = "the same command with a higher limit goes on" if out_of_budget else f"go on with: {command}"
        warn(f"hybrid-sim: pairs that it was not asked about stay statistical; {how}")
        return use.stopped.exit_code
    missing = simulation.asked & ~simulation.llm.answered
    if use.failed:
        again = "the same command asks them again, and what rests on them"
        _log.warning("%d questions have no answer; %s", use.failed, again)
    if missing.any():
        _log.warning(
            "the model gave no usable rating of %d of %d pairs; their predictions are statistical (%s)",
            missing.sum(),
            simulation.asked.sum(),
            ", ".join(f"{kind} {n}" for kind, n in use.failures.items()),
        )
    return SOME_FAILED if missing.any() or use.failed else 0
