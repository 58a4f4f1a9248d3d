"""The adaptive concurrency limit: one cut per episode, one call alone after a pause, slow recovery; in virtual time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from hybrid_sim.llm.rate_limiter import RateLimiter, Slot


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        selector = selectors.SelectSelector()
        super().__init__(selector)
        self.now = 0.0
        select = selector.select

        def jump(timeout: float | None = None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        selector.select = jump  # type: ignore[method-assign]  # the one place where asyncio waits

    def time(self) -> float:
        return self.now


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


def now() -> float:
    return asyncio.get_running_loop().time()


async def acquired(limiter: RateLimiter) -> Slot:
    slot = Slot(limiter)
    assert await slot.acquire()
    return slot


async def succeed(limiter: RateLimiter) -> None:
    slot = await acquired(limiter)
    limiter.succeeded(slot)
    slot.release()


async def refuse(limiter: RateLimiter, asked: float | None) -> None:
    slot = await acquired(limiter)
    limiter.refused(slot, asked)
    slot.release()


def waiting(limiter: RateLimiter, n: int) -> tuple[list[Slot], list[asyncio.Task[bool]]]:
    slots = [Slot(limiter) for _ in range(n)]
    return slots, [asyncio.create_task(slot.acquire()) for slot in slots]


def test_the_first_call_goes_alone_and_the_others_follow_its_success() -> None:
    async def story() -> None:
        limiter = RateLimiter(10)
        first = await acquired(limiter)
        _, others = waiting(limiter, 20)
        await asyncio.sleep(1)
        assert limiter.in_flight == 1
        limiter.succeeded(first)
        first.release()
        await asyncio.sleep(1)
        assert limiter.in_flight == 10
        limiter.close()
        assert [await task for task in others].count(False) == 10

    in_loop(story)


def test_row_04_one_cut_per_episode_however_many_are_refused() -> None:
    async def story() -> None:
        limiter = RateLimiter(16)
        await succeed(limiter)
        for slot in [await acquired(limiter) for _ in range(16)]:
            limiter.refused(slot, 0.05)
            slot.release()
        assert limiter.limit == 8
        assert limiter.episodes == limiter.in_a_row == 1
        for _ in range(9):
            await refuse(limiter, 0.0)
        assert limiter.limit == 1

    in_loop(story)


def test_row_04_after_a_pause_one_call_goes_alone() -> None:
    async def story() -> None:
        limiter = RateLimiter(16)
        await succeed(limiter)
        await refuse(limiter, 2.0)
        slots, tasks = waiting(limiter, 16)
        await asyncio.sleep(1.9)
        assert limiter.in_flight == 0
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert now() == 2.0
        await asyncio.sleep(1)
        assert limiter.in_flight == 1
        alone = next(slot for slot, task in zip(slots, tasks, strict=True) if task.done())
        limiter.succeeded(alone)
        alone.release()
        await asyncio.sleep(1)
        assert limiter.in_flight == 8
        limiter.close()
        await asyncio.gather(*tasks)

    in_loop(story)


def test_row_04_a_success_from_before_the_pause_does_not_end_it() -> None:
    async def story() -> None:
        limiter = RateLimiter(4)
        await succeed(limiter)
        early = await acquired(limiter)
        await refuse(limiter, 0.0)
        limiter.succeeded(early)
        early.release()
        await acquired(limiter)
        _, (other,) = waiting(limiter, 1)
        await asyncio.sleep(1)
        assert limiter.in_flight == 1
        limiter.close()
        assert not await other

    in_loop(story)


def test_row_04_a_longer_wait_of_the_same_episode_counts_and_a_shorter_one_does_not() -> None:
    async def story() -> None:
        limiter = RateLimiter(4)
        await succeed(limiter)
        first, second, third = [await acquired(limiter) for _ in range(3)]
        limiter.refused(first, 0.5)
        first.release()
        _, (task,) = waiting(limiter, 1)
        await asyncio.sleep(0)
        for slot, asked in ((second, 3.0), (third, 1.0)):
            limiter.refused(slot, asked)
            slot.release()
        await task
        assert now() == 3.0

    in_loop(story)


def test_row_04_pauses_that_the_server_does_not_name_double_up_to_a_minute() -> None:
    async def story() -> None:
        limiter = RateLimiter(4, first_wait=1.0)
        await succeed(limiter)
        pauses = []
        for _ in range(9):
            await refuse(limiter, None)
            before = now()
            (await acquired(limiter)).release()
            pauses.append(now() - before)
        assert all(2.0**k / 2 <= pause <= 2.0**k for k, pause in enumerate(pauses[:6]))
        assert all(30.0 <= pause <= 60.0 for pause in pauses[6:])
        assert limiter.in_a_row == 9
        await succeed(limiter)
        assert limiter.in_a_row == 0

    in_loop(story)


def test_row_04_a_named_pause_is_kept_exactly_and_grows_only_when_it_did_not_help() -> None:
    async def story() -> None:
        limiter = RateLimiter(4, first_wait=1.0)
        await succeed(limiter)
        await refuse(limiter, 5.0)
        slot = await acquired(limiter)
        assert now() == 5.0
        limiter.refused(slot, 5.0)
        assert not await reacquired_at_once(slot)
        assert 11.0 <= now() <= 12.0

    in_loop(story)


async def reacquired_at_once(slot: Slot) -> bool:
    before = now()
    await slot.acquire()
    return now() == before


def test_a_slot_is_kept_between_attempts_until_a_pause_begins() -> None:
    async def story() -> None:
        limiter = RateLimiter(2)
        await succeed(limiter)
        kept, other = await acquired(limiter), await acquired(limiter)
        assert await reacquired_at_once(kept)
        assert limiter.in_flight == 2
        limiter.refused(other, 1.0)
        other.release()
        assert not await reacquired_at_once(kept)
        assert (limiter.in_flight, kept.episode) == (1, 1)

    in_loop(story)


def test_a_closed_limiter_lets_nobody_in_until_it_is_opened_again() -> None:
    async def story() -> None:
        limiter = RateLimiter(2)
        limiter.close()
        await limiter.next_release()
        assert not await Slot(limiter).acquire()
        limiter.reopen()
        assert await Slot(limiter).acquire()

    in_loop(story)


def test_recovery_is_one_more_per_round() -> None:
    async def story() -> None:
        limiter = RateLimiter(16)
        await succeed(limiter)
        await refuse(limiter, 0.0)
        for _ in range(8):
            await succeed(limiter)
        assert 8.5 < limiter.limit < 9.5
        for _ in range(200):
            await succeed(limiter)
        assert limiter.limit == 16

    in_loop(story)


def test_no_slot_is_lost_while_many_come_and_go() -> None:
    async def story() -> None:
        limiter, most = RateLimiter(5), 0
        left = 300

        async def work() -> None:
            nonlocal left, most
            while left > 0:
                left -= 1
                slot = await acquired(limiter)
                most = max(most, limiter.in_flight)
                await asyncio.sleep(0)
                if left in (250, 100):
                    limiter.refused(slot, 0.01)
                else:
                    limiter.succeeded(slot)
                slot.release()

        await asyncio.gather(*[work() for _ in range(20)])
        assert limiter.in_flight == 0
        assert most == 5

    in_loop(story)
