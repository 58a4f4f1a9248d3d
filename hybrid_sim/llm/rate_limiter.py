"""The gate that all calls pass: how many may be in flight, and when all of them wait.

A refusal for too many requests (429) is an episode: however many calls meet it, the number in flight is halved once,
all wait for the time that the server asks, and then one call goes alone; when it succeeds, the others follow. Successes
win the number back one by one, as in TCP (additive increase, multiplicative decrease: Chiu and Jain 1989). The gate
starts the same way, with one call alone, so that a wrong key or address costs one call.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass

MAX_WAIT = 600.0
"""Seconds that a server may ask us to wait; more is no pause but the end of this run."""

MAX_EPISODES = 10
"""Episodes one after the other, without a success between them, after which a server is no longer borne with."""

_LONGEST_GUESS = 60.0


@dataclass(frozen=True)
class Ticket:
    """The right to make one call; it remembers in which episode it was given."""

    episode: int


class Gate:
    """Lets at most `concurrency` calls be in flight, fewer while the server refuses more. Used within one event loop.

    A first pause lasts as long as the server asks. Where it does not say, and in further episodes without a success
    between them, up to `first_wait` seconds are added, doubled with each such episode up to a minute.
    `episodes` counts all episodes, `in_a_row` those since the last success.
    """

    def __init__(self, concurrency: int, first_wait: float = 0.5, seed: int = 0) -> None:
        self.concurrency, self.first_wait = concurrency, first_wait
        self.limit = float(concurrency)
        self.in_flight = self.episodes = self.in_a_row = 0
        self._alone, self._closed, self._open_at = True, False, 0.0
        self._random = random.Random(seed)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._departure = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    async def enter(self) -> Ticket | None:
        """Wait for a place and take it; None once the gate is closed."""
        while not self._closed:
            if self._places() > 0 and not self._is_pause():
                self.in_flight += 1
                return Ticket(self.episodes)
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        return None

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self._departure.set()
        self._departure = asyncio.Event()
        self._wake(self._places())

    async def next_departure(self) -> None:
        """Wait until somebody leaves or the gate is closed."""
        await self._departure.wait()

    def close(self) -> None:
        """Let nobody in any more; those who wait are told at once."""
        self._closed = True
        self._departure.set()
        self._wake(len(self._waiting))

    def reopen(self) -> None:
        """Let calls in again, in a later wave of the same run."""
        self._closed, self._departure = False, asyncio.Event()

    def succeeded(self, ticket: Ticket) -> None:
        """A call was answered: after a pause the others may follow, and the number in flight grows a little."""
        if ticket.episode != self.episodes:
            return  # Sent before the pause, so it says nothing about now.
        self.in_a_row, self._alone = 0, False
        self.limit = min(self.concurrency, self.limit + 1 / self.limit)

    def refused(self, ticket: Ticket, asked: float | None) -> None:
        """A call was refused for too many requests; `asked` is the pause in seconds that the server wants."""
        pause = asked or 0.0
        if ticket.episode == self.episodes:
            self.episodes += 1
            self.in_a_row += 1
            self.limit = max(1.0, self.limit / 2)
            self._alone = True
            if asked is None or self.in_a_row > 1:
                guess = min(self.first_wait * 2.0 ** (self.in_a_row - 1), _LONGEST_GUESS)
                pause += guess * self._random.uniform(0.5, 1.0)
        self._open_at = max(self._open_at, asyncio.get_running_loop().time() + pause)

    def _places(self) -> int:
        return (1 if self._alone else int(self.limit)) - self.in_flight

    def _is_pause(self) -> bool:
        """Whether all wait; sets the alarm that ends the pause."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._open_at:
            return False
        if self._alarm is None:
            self._alarm = loop.call_at(self._open_at, self._ring)
        return True

    def _ring(self) -> None:
        """End the pause, or set the alarm again where the pause has become longer."""
        self._alarm = None
        if not self._is_pause():
            self._wake(self._places())

    def _wake(self, n: int) -> None:
        while n > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                n -= 1


class Turn:
    """A question's place at the gate, which it keeps between attempts: a server in trouble is sent fewer questions."""

    def __init__(self, gate: Gate) -> None:
        self.ticket = Ticket(-1)
        self._gate, self._is_in = gate, False

    async def begin(self) -> bool:
        """Wait for a place, unless it is still held and no pause has begun since; False once the gate is closed."""
        if self._is_in and self.ticket.episode == self._gate.episodes:
            return True
        self.end()
        ticket = await self._gate.enter()
        if ticket is not None:
            self.ticket, self._is_in = ticket, True
        return self._is_in

    def end(self) -> None:
        """Give the place back, if it is held."""
        if self._is_in:
            self._is_in = False
            self._gate.leave()
