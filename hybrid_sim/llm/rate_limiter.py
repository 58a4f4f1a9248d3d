"""An adaptive concurrency limit: how many calls may be in flight, and when all of them pause.

Additive increase, multiplicative decrease (AIMD), as in TCP (Chiu and Jain 1989). A rate limit of the server (429) is
an episode: however many calls are refused in it, the limit is halved once, all calls pause for the time that the server
asks, and then one call goes alone; when it succeeds, the others follow, and successes raise the limit again one by one.
The limiter starts with one call alone, so that a wrong key or address costs one call.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

MAX_WAIT = 600.0
"""Longest pause in seconds that a server may ask for; a longer one ends the run."""

MAX_EPISODES = 10
"""Episodes in a row, without a success between them, after which the run ends."""

_LONGEST_GUESS = 60.0


class RateLimiter:
    """Lets at most `concurrency` calls be in flight, fewer while the server refuses more. Used within one event loop.

    A pause lasts as long as the server asks. Where it does not say, and in further episodes without a success between
    them, a back-off is added: up to `first_wait` seconds, doubled with each such episode up to a minute.
    `episodes` counts all episodes, `in_a_row` those since the last success.
    """

    def __init__(self, concurrency: int, first_wait: float = 0.5, seed: int = 0) -> None:
        self.concurrency, self.first_wait = concurrency, first_wait
        self.limit = float(concurrency)
        self.in_flight = self.episodes = self.in_a_row = 0
        self._alone, self._closed, self._open_at = True, False, 0.0
        self._random = random.Random(seed)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._released = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def next_release(self) -> None:
        """Wait until a slot is released or the limiter is closed."""
        await self._released.wait()

    def close(self) -> None:
        """Grant no slot any more, also to those who wait."""
        self._closed = True
        self._released.set()
        self._wake(len(self._waiting))

    def reopen(self) -> None:
        """Grant slots again."""
        self._closed, self._released = False, asyncio.Event()

    def succeeded(self, slot: Slot) -> None:
        """A call was answered: the limit grows a little, and a pause's single call lets the others follow."""
        if slot.episode != self.episodes:
            return  # Sent before the pause, so it says nothing about now.
        self.in_a_row, self._alone = 0, False
        self.limit = min(self.concurrency, self.limit + 1 / self.limit)

    def refused(self, slot: Slot, retry_after: float | None) -> None:
        """A call met the server's rate limit; `retry_after` is the pause in seconds that the server asks for."""
        pause = retry_after or 0.0
        if slot.episode == self.episodes:
            self.episodes += 1
            self.in_a_row += 1
            self.limit = max(1.0, self.limit / 2)
            self._alone = True
            if retry_after is None or self.in_a_row > 1:
                guess = min(self.first_wait * 2.0 ** (self.in_a_row - 1), _LONGEST_GUESS)
                pause += guess * self._random.uniform(0.5, 1.0)
        self._open_at = max(self._open_at, asyncio.get_running_loop().time() + pause)

    async def _enter(self) -> bool:
        while not self._closed:
            if self._n_free() > 0 and not self._is_pause():
                self.in_flight += 1
                return True
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        return False

    def _leave(self) -> None:
        self.in_flight -= 1
        self._released.set()
        self._released = asyncio.Event()
        self._wake(self._n_free())

    def _n_free(self) -> int:
        return (1 if self._alone else int(self.limit)) - self.in_flight

    def _is_pause(self) -> bool:
        """Whether all calls pause; sets the timer that ends the pause."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._open_at:
            return False
        if self._timer is None:
            self._timer = loop.call_at(self._open_at, self._end_pause)
        return True

    def _end_pause(self) -> None:
        """End the pause, or set the timer again where the pause has become longer."""
        self._timer = None
        if not self._is_pause():
            self._wake(self._n_free())

    def _wake(self, n: int) -> None:
        while n > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                n -= 1


class Slot:
    """The right to have one call in flight, in the `episode` in which it was acquired.

    A question keeps its slot between attempts, so that a server in trouble is sent fewer questions.
    """

    def __init__(self, limiter: RateLimiter) -> None:
        self.episode = -1
        self._limiter, self._is_held = limiter, False

    async def acquire(self) -> bool:
        """Wait for a slot, unless one is held and no pause has begun since; False once the limiter is closed."""
        if not (self._is_held and self.episode == self._limiter.episodes):
            self.release()
            self._is_held = await self._limiter._enter()
            self.episode = self._limiter.episodes
        return self._is_held

    def release(self) -> None:
        """Give the slot back, if it is held."""
        if self._is_held:
            self._is_held = False
            self._limiter._leave()
