"""The language model of a command: budget options, the forecast of a plan, what was asked, and the exit status."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hybrid_sim.cli.parsing import Parser, whole_number
from hybrid_sim.cli.terminal import say
from hybrid_sim.core.errors import BudgetError

if TYPE_CHECKING:
    from hybrid_sim.core.settings import LLMSettings
    from hybrid_sim.llm.client import LLM
    from hybrid_sim.llm.journal import Journal
    from hybrid_sim.llm.planning import Planner
    from hybrid_sim.llm.prices import Price
    from hybrid_sim.simulation.simulate import Simulation

SOME_FAILED = 6
"""Exit status of a run that is done, but in which some pairs have no rating by the language model."""

_log = logging.getLogger("hybrid_sim")


def add_budget_options(parser: Parser) -> None:
    """Options of everything that may send requests."""
    group = parser.add_argument_group("what may be spent")
    group.add_argument(
        "--budget", metavar="5usd", type=_money, help="money that the run may cost in all, resumed or not"
    )
    group.add_argument("--max-calls", metavar="N", type=whole_number(0), help="requests that may be sent in all")
    group.add_argument("--max-minutes", metavar="N", type=_minutes, help="minutes that may be spent asking in all")


def _money(text: str) -> int:
    """Nano-dollars."""
    from hybrid_sim.llm.budget import parse_budget

    return parse_budget(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes")
    return minutes


@contextmanager
def open_llm(
    options: argparse.Namespace,
    settings: LLMSettings,
    journal: Journal,
    *,
    replay: bool = False,
    batch: bool = False,
) -> Iterator[LLM]:
    """The language model of the settings, with the budget of the options and what the journal says was spent."""
    from hybrid_sim.llm.budget import Budget
    from hybrid_sim.llm.client import LLM

    budget = Budget(
        max_money=options.budget,
        max_calls=options.max_calls,
        max_minutes=options.max_minutes,
        ledger=journal.ledger(),
    )
    with LLM(settings, journal, budget, replay=replay, batch=batch) as llm:
        yield llm


def price(settings: LLMSettings, batch: bool = False) -> Price | None:
    """The price of the model, None where it is not known."""
    from hybrid_sim.llm.prices import price_of
    from hybrid_sim.llm.transport import address_of

    return price_of(settings.model, address_of(settings), settings.prices, batch=batch)


def ahead(
    options: argparse.Namespace, planner: Planner, settings: LLMSettings, journal: Journal | None, batch: bool = False
) -> str:
    """The forecast of the planner's questions in words, calibrated on the calls of the journal."""
    from hybrid_sim.llm.planning import SECONDS_PER_CALL, forecast
    from hybrid_sim.llm.tokens import TokenEstimates

    usages, ledger = ([], None) if journal is None else (journal.usage_by_prompt(), journal.ledger())
    pace = ledger.seconds * settings.concurrency / ledger.calls if ledger and ledger.calls else SECONDS_PER_CALL
    expected = forecast(
        planner.questions,
        TokenEstimates(usages),
        price(settings, batch),
        concurrency=settings.concurrency,
        seconds_per_call=pace,
    )
    basis = "calibrated on the answers that the run has" if usages else "a guess from the length of the texts"
    kinds = Counter(question.prompt.partition("@")[0] for question in planner.questions)
    parts = ", ".join(f"{name} {count:,}" for name, count in kinds.most_common())
    lines = [f"{settings.model}: {expected}", f"({basis}; questions: {parts or 'none'}; nothing was sent)"]
    limits = (
        ("--budget", options.budget, expected.money),
        ("--max-calls", options.max_calls, expected.calls),
        ("--max-minutes", options.max_minutes, None if batch else expected.minutes),
    )
    for option, limit, needed in limits:
        if limit is not None and needed is not None and needed > limit:
            lines.append(f"{option} would end the run before it is done")
    return "".join(f"{line}\n" for line in lines)


def what_was_asked(simulation: Simulation, llm: LLM) -> str:
    """Answers, calls, tokens and money in a few lines; warns where no answer could change a prediction."""
    from hybrid_sim.llm.budget import dollars

    asked, answered, ledger = simulation.asked, simulation.said.answered, llm.journal.ledger()
    if not asked.any():
        _log.warning("the model was asked about no pair: it can be asked about known users and items with a text")
    elif answered.any() and not (simulation.prediction.distribution.probs != simulation.statistical.probs).any():
        _log.warning("on known ratings the model was no better than statistics alone; its answers changed nothing")
    lines = [
        f"{llm.settings.model}: {answered.sum():,} of {asked.sum():,} pairs answered; in all {ledger.calls:,} calls "
        f"({llm.counts.calls:,} of them now), {ledger.prompt_tokens:,} tokens in and {ledger.completion_tokens:,} out, "
        f"{dollars(ledger.money)}"
    ]
    if ledger.unknown_cost:
        most = f", at most {dollars(ledger.at_worst)}" if not ledger.unpriced else ""
        lines.append(f"{ledger.unknown_cost:,} of the calls have an unknown cost{most}")
    if ledger.possibly_paid:
        lines.append(f"{ledger.possibly_paid:,} calls without an answer may have been paid")
    return "".join(f"{line}\n" for line in lines)


def exit_status(simulation: Simulation, llm: LLM | None, command: str) -> int:
    """0 done, 6 done but some pairs have no rating by the model, else that of what stopped the run; says which."""
    if llm is None:
        return 0
    if llm.stopped is not None:
        say(f"hybrid-sim: {llm.stopped}", sys.stderr)
        how = (
            "the same command with a higher limit goes on"
            if isinstance(llm.stopped, BudgetError)
            else f"go on with: {command}"
        )
        say(f"hybrid-sim: what it was not asked stays statistical; {how}", sys.stderr)
        return llm.stopped.exit_code
    unrated, n_failed = simulation.asked & ~simulation.said.answered, llm.counts.failed
    if n_failed:
        _log.warning("%d questions have no answer; the same command asks them again, and what rests on them", n_failed)
    if unrated.any():
        _log.warning(
            "the model gave no usable rating of %d of %d pairs; their answers are statistical (%s)",
            unrated.sum(),
            simulation.asked.sum(),
            ", ".join(f"{kind} {n}" for kind, n in llm.journal.failures().items()),
        )
    return SOME_FAILED if unrated.any() or n_failed else 0
