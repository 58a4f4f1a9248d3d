"""The gate: one cut per episode, one call alone after a pause, slow recovery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from hybrid_sim.llm.rate_limiter import Gate, Ticket


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(5):
            await story()

    asyncio.run(limited())


async def entered(gate: Gate) -> Ticket:
    ticket = await gate.enter()
    assert ticket is not None
    return ticket


async def opened(gate: Gate) -> None:
    ticket = await entered(gate)
    gate.succeeded(ticket)
    gate.leave()


def test_the_first_call_goes_alone_and_the_others_follow_its_success() -> None:
    async def story() -> None:
        gate = Gate(10)
        first = await entered(gate)
        others = [asyncio.create_task(gate.enter()) for _ in range(20)]
        await asyncio.sleep(0.02)
        assert gate.in_flight == 1
        gate.succeeded(first)
        gate.leave()
        await asyncio.sleep(0.02)
        assert gate.in_flight == 10
        gate.close()
        assert [await task for task in others].count(None) == 10

    in_loop(story)


def test_row_04_one_cut_per_episode_however_many_are_refused() -> None:
    async def story() -> None:
        gate = Gate(16)
        await opened(gate)
        tickets = [await entered(gate) for _ in range(16)]
        for ticket in tickets:
            gate.refused(ticket, 0.05)
            gate.leave()
        assert gate.limit == 8
        assert gate.episodes == 1

    in_loop(story)


def test_row_04_after_a_pause_one_call_goes_alone() -> None:
    async def story() -> None:
        gate = Gate(16)
        await opened(gate)
        start = time.monotonic()
        gate.refused(await entered(gate), 0.2)
        gate.leave()
        waiting = [asyncio.create_task(gate.enter()) for _ in range(16)]
        await asyncio.sleep(0.1)
        assert gate.in_flight == 0
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert time.monotonic() - start >= 0.2
        await asyncio.sleep(0.05)
        assert gate.in_flight == 1
        ticket = await done.pop()
        assert ticket is not None
        gate.succeeded(ticket)
        gate.leave()
        await asyncio.sleep(0.02)
        assert gate.in_flight == 8
        gate.close()
        await asyncio.gather(*waiting)

    in_loop(story)


def test_row_04_a_success_from_before_the_pause_does_not_end_it() -> None:
    async def story() -> None:
        gate = Gate(4)
        await opened(gate)
        early, refused = await entered(gate), await entered(gate)
        gate.refused(refused, 0.0)
        gate.leave()
        gate.succeeded(early)
        gate.leave()
        await entered(gate)
        other = asyncio.create_task(gate.enter())
        await asyncio.sleep(0.05)
        assert gate.in_flight == 1
        gate.close()
        assert await other is None

    in_loop(story)


def test_row_04_a_longer_wait_of_the_same_episode_counts() -> None:
    async def story() -> None:
        gate = Gate(4)
        await opened(gate)
        first, second = await entered(gate), await entered(gate)
        start = time.monotonic()
        gate.refused(first, 0.05)
        gate.leave()
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        gate.refused(second, 0.3)
        gate.leave()
        await waiting
        assert time.monotonic() - start >= 0.3

    in_loop(story)


def test_row_04_pauses_that_the_server_does_not_name_grow() -> None:
    async def story() -> None:
        gate = Gate(4, first_wait=0.02)
        await opened(gate)
        waits = []
        for _ in range(4):
            ticket = await entered(gate)
            start = time.monotonic()
            gate.refused(ticket, None)
            gate.leave()
            await entered(gate)
            waits.append(time.monotonic() - start)
            gate.leave()
        assert gate.in_a_row == 4
        assert waits[0] < 0.05 < 0.08 <= waits[3]

    in_loop(story)


def test_recovery_is_one_more_per_round() -> None:
    async def story() -> None:
        gate = Gate(16)
        await opened(gate)
        gate.refused(await entered(gate), 0.0)
        gate.leave()
        for _ in range(8):
            await opened(gate)
        assert 8.5 < gate.limit < 9.5
        for _ in range(200):
            await opened(gate)
        assert gate.limit == 16

    in_loop(story)


def test_no_place_is_lost_while_many_come_and_go() -> None:
    async def story() -> None:
        gate, most = Gate(5), 0
        left = 300

        async def work() -> None:
            nonlocal left, most
            while left > 0:
                left -= 1
                ticket = await entered(gate)
                most = max(most, gate.in_flight)
                await asyncio.sleep(0)
                if left in (250, 100):
                    gate.refused(ticket, 0.01)
                else:
                    gate.succeeded(ticket)
                gate.leave()

        await asyncio.gather(*[work() for _ in range(20)])
        assert gate.in_flight == 0
        assert most == 5

    in_loop(story)
