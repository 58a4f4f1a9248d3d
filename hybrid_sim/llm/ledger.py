"""What a journal tells: stored answers, what the attempts of a run came to, and what each prompt has taken."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid_sim.llm.question import Usage


@dataclass(frozen=True)
class StoredAnswer:
    """An answer as it was committed: the reply text as it came, and its cost in nano-dollars (None: not known)."""

    text: str
    usage: Usage
    model: str
    cost: int | None


@dataclass(frozen=True)
class Ledger:
    """What the attempts of a run came to; money is in nano-dollars (10^9 are one US dollar).

    `possibly_paid` counts attempts that may have been paid without an answer: those whose fate is unknown because the
    run died, and those that failed after the request had been sent. `unknown_cost` counts attempts that are paid or may
    be, at a cost that is not known; `at_worst` is the most that these can have cost, `unpriced` how many of them have
    no such bound, because no price was known. `seconds` is how long the run has worked.
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
class Seen:
    """What the attempts with one prompt came to; the sums are over the `counted` ones, whose tokens the server counted.

    `size` is in bytes sent, `cost` in nano-dollars.
    """

    prompt: str
    attempts: int
    answers: int
    counted: int
    size: int
    prompt_tokens: int
    completion_tokens: int
    cost: int = 0
