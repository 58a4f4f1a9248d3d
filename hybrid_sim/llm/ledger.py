"""Sums over the attempts of a run, and over those of each prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ledger:
    """Sums over the attempts of a run; money is in nano-dollars (10^9 are one US dollar).

    `possibly_paid` counts attempts that may have been paid without an answer: those whose outcome is unknown because
    the run died, and those that failed after the request had been sent. `unknown_cost` counts attempts that are paid or
    may be, at a cost that is not known; `at_worst` is the most that these can have cost, `unpriced` how many of them
    have no such bound, because no price was known. `seconds` is how long the run has worked.
    """

    calls: int = 0
    answered: int = 0
    failed: int = 0
    possibly_paid: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: int = 0
    at_worst: int = 0
    unknown_cost: int = 0
    unpriced: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class PromptUsage:
    """Sums over the attempts with one prompt.

    Bytes sent (`size`), tokens and cost in nano-dollars are those of the `counted` attempts, of which the server
    reported the tokens.
    """

    prompt: str
    attempts: int
    answers: int
    counted: int
    size: int
    prompt_tokens: int
    completion_tokens: int
    cost: int = 0
