"""The budget of a run and its sums: the worst-case cost of a call is reserved before it is sent, and settled after."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from hybrid_sim.core.errors import BudgetError, SettingsError

NANO = 1_000_000_000
"""Nano-dollars in one US dollar. Money is counted in whole nano-dollars: the cheapest token costs several."""

_AMOUNT = re.compile(r"\s*(?:\$\s*|usd\s*)?(\d{1,9}(?:\.\d{1,9})?)\s*(?:\$|usd|dollars?)?\s*", re.IGNORECASE)


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


@dataclass(frozen=True, eq=False)
class Reservation:
    """A part of the budget for one call: its worst-case cost in nano-dollars, None where no price is known."""

    worst: int | None


class Budget:
    """Caps on money (nano-dollars), calls and minutes, each of which may be None; safe to use from many threads.

    At every moment spent and reserved money are together within the cap. A retry is a call of its own. `ledger` sums up
    the earlier processes of the run. `spent` are nano-dollars of settled calls; where a cost is not known the worst
    case counts. The clock gives seconds and only its differences matter; minutes limit when the last call may be
    *sent*.

    >>> budget = Budget(max_money=1000, max_calls=10)
    >>> first = budget.reserve(800)
    >>> budget.reserve(800)
    Traceback (most recent call last):
    hybrid_sim.core.errors.BudgetError: the money budget of $0.000001 is used up: $0.00 spent, $0.0000008 reserved ...
    >>> budget.settle(first, 150)
    >>> budget.reserve(800).worst
    800
    """

    def __init__(
        self,
        *,
        max_money: int | None = None,
        max_calls: int | None = None,
        max_minutes: float | None = None,
        ledger: Ledger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        ledger = ledger or Ledger()
        self.max_money, self.max_calls, self.max_minutes = max_money, max_calls, max_minutes
        self._lock, self._clock = threading.Lock(), clock
        self.spent, self._calls = ledger.money + ledger.at_worst, ledger.calls
        self._began = clock() - ledger.seconds
        self._open: set[Reservation] = set()
        self._reserved = 0
        if max_money is not None and ledger.unpriced:
            raise SettingsError(
                f"{ledger.unpriced} earlier calls of this run may have been paid at a price that is not known, so no "
                "money budget can be kept; leave it out, or use another run folder"
            )

    @property
    def committed(self) -> int:
        """Nano-dollars spent or reserved for calls in flight; never more than the cap."""
        with self._lock:
            return self.spent + self._reserved

    @property
    def calls(self) -> int:
        """Calls sent or about to be."""
        return self._calls + len(self._open)

    def reserve(self, worst: int | None) -> Reservation:
        """Reserve what one call can cost at most, before it is sent.

        Raises:
            BudgetError: it is beyond the budget; the message names what is used up.
            SettingsError: there is a money budget, and the price is not known.
        """
        with self._lock:
            self._refuse(worst)
            return self._opened(worst)

    def adopt(self, worst: int | None) -> Reservation:
        """Reserve again what an earlier process had reserved for a call that is still in progress.

        The ledger counts such a call as made, at its worst; from now on it counts as open.
        """
        with self._lock:
            self.spent -= worst or 0
            self._calls -= 1
            return self._opened(worst)

    def settle(self, reservation: Reservation, cost: int | None) -> None:
        """Replace a reservation by the cost of the call; None: it is not known, and the worst case counts.

        A cost above the worst case means that the price or the bound is wrong. It is counted as it is, so that no
        further call is sent on a wrong assumption.
        """
        with self._lock:
            self._close(reservation)
            self.spent += (reservation.worst or 0) if cost is None else cost
            self._calls += 1

    def release(self, reservation: Reservation) -> None:
        """Cancel the reservation of a call that was never sent."""
        with self._lock:
            self._close(reservation)

    def _opened(self, worst: int | None) -> Reservation:
        reservation = Reservation(worst)
        self._open.add(reservation)
        self._reserved += worst or 0
        return reservation

    def _close(self, reservation: Reservation) -> None:
        self._open.remove(reservation)
        self._reserved -= reservation.worst or 0

    def _refuse(self, worst: int | None) -> None:
        if self.max_calls is not None and self.calls >= self.max_calls:
            raise BudgetError(f"the budget of {self.max_calls} calls is used up; raise --max-calls to go on")
        minutes = (self._clock() - self._began) / 60
        if self.max_minutes is not None and minutes >= self.max_minutes:
            raise BudgetError(f"the budget of {self.max_minutes:g} minutes is used up; raise --max-minutes to go on")
        if self.max_money is None:
            return
        if worst is None:
            raise SettingsError("a money budget needs a price: name a price file, or leave the money budget out")
        if self.spent + self._reserved + worst > self.max_money:
            raise BudgetError(
                f"the money budget of {dollars(self.max_money)} is used up: {dollars(self.spent)} spent, "
                f"{dollars(self._reserved)} reserved for calls in flight, and the next call may cost up to "
                f"{dollars(worst)}; raise --budget to go on"
            )


def parse_budget(text: str) -> int:
    """Nano-dollars from an amount of US dollars: "5usd", "5 USD", "$5", "0.50".

    >>> parse_budget("$2.50")
    2500000000

    Raises:
        SettingsError: it is not such an amount.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise SettingsError(f"budget {text!r} is not an amount of US dollars; write it like 5usd or 0.50usd")
    return int(Decimal(match[1]) * NANO)


def dollars(money: int) -> str:
    """Nano-dollars as an amount of dollars, with cents at least and all significant digits.

    >>> dollars(2_500_000_000), dollars(150), dollars(0)
    ('$2.50', '$0.00000015', '$0.00')
    """
    whole, part = divmod(money, NANO)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"${whole:,}.{decimals}"
