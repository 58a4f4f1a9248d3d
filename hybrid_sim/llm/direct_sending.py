"""Questions sent one HTTP request each, many at a time, with retries, back-off and an adaptive concurrency limit."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass

import tenacity

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError
from hybrid_sim.llm.budget import Reservation
from hybrid_sim.llm.outcomes import Fault
from hybrid_sim.llm.question import Answer, Question
from hybrid_sim.llm.rate_limiter import MAX_EPISODES, RateLimiter, Slot
from hybrid_sim.llm.sending import Finish, Request, Sender

MAX_EXHAUSTED = 3
"""Questions in a row that use up all attempts, while no call is answered, before the endpoint counts as dead."""

MAX_REJECTED = 20
"""Requests in a row that are rejected, while no call is answered, before the run stops."""

_REPEATED = ("retry", "wait", "adapt")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts, in seconds: up to `first_wait` after the first fault, doubled after each further one."""

    first_wait: float = 1.0
    longest_wait: float = 60.0


@dataclass(eq=False)
class DirectSender(Sender):
    """Sends questions as calls of the chat endpoint.

    A reply that fails its check is requested once more. An interruption lets calls in flight finish.
    """

    backoff: Backoff

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limiter = RateLimiter(self.settings.concurrency, self.backoff.first_wait)
        self._halt = asyncio.Event()
        self._n_replies = self._n_exhausted = self._n_rejected = 0

    async def _send(self, questions: Mapping[str, Question], finish: Finish) -> None:
        if self.stopped is None:
            self._halt = asyncio.Event()
            self._limiter.reopen()
        queue = iter(questions.items())

        async def work() -> None:
            for key, question in queue:
                finish(key, await self._outcome(key, question))

        n_workers = min(self.settings.concurrency, len(questions))
        workers = [asyncio.create_task(work()) for _ in range(n_workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def interrupt(self) -> None:
        """Send nothing more, and finish what is in flight."""
        self.interrupted = True
        self._close()
        _log.warning("interrupted: %d calls in flight are finished; again to leave at once", self._limiter.in_flight)

    def stop(self, error: HybridSimError) -> None:
        """End the run for this reason; the first reason counts."""
        super().stop(error)
        self._close()

    def _close(self) -> None:
        self._halt.set()
        self._limiter.close()

    async def _outcome(self, key: str, question: Question) -> Answer | Fault:
        """The final outcome of a question; a reply that was cut off is requested again with twice the tokens."""
        outcome = await self._with_retries(key, question, question.max_tokens)
        if isinstance(outcome, Fault) and outcome.remedy == "again" and not self._halt.is_set():
            self.counts.asked_again += 1
            outcome = await self._with_retries(key, question, outcome.next_limit(question.max_tokens))
        return outcome

    async def _with_retries(self, key: str, question: Question, max_tokens: int) -> Answer | Fault:
        """The outcome after as many attempts as are needed or allowed; waits for a rate limit are not counted."""
        n_failed, n_replies, slot = 0, self._n_replies, Slot(self._limiter)

        async def attempt() -> Answer | Fault:
            nonlocal n_failed
            outcome = await self._attempt(slot, key, question, max_tokens)
            n_failed += isinstance(outcome, Fault) and outcome.remedy == "retry"
            return outcome

        def is_over(state: tenacity.RetryCallState) -> bool:
            return n_failed >= self.settings.attempts or self._halt.is_set()

        def pause(state: tenacity.RetryCallState) -> float:
            if _fault(state).remedy != "retry":
                return 0.0
            longest = min(self.backoff.first_wait * 2.0 ** (n_failed - 1), self.backoff.longest_wait)
            return longest * random.Random(f"{key} {n_failed}").uniform(0.5, 1.0)

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda result: isinstance(result, Fault) and result.remedy in _REPEATED),
            stop=is_over,
            wait=pause,
            sleep=self._sleep,
            before_sleep=self._count_retry,
            retry_error_callback=_fault,
        )
        try:
            outcome: Answer | Fault = await retrying(attempt)
        finally:
            slot.release()
        if isinstance(outcome, Fault) and outcome.remedy == "retry" and n_failed >= self.settings.attempts:
            self._count_exhausted(outcome, answered_meanwhile=self._n_replies > n_replies)
        if isinstance(outcome, Fault) and outcome.remedy in ("wait", "adapt"):
            return self._not_asked()  # The run has ended while the question waited.
        return outcome

    def _count_retry(self, state: tenacity.RetryCallState) -> None:
        fault = _fault(state)
        self.counts.retried += 1
        self.counts.possibly_paid_twice += fault.possibly_paid
        _log.info("%s; trying again", fault.message)

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._halt.wait(), seconds)
            except TimeoutError:
                return

    def _count_exhausted(self, fault: Fault, *, answered_meanwhile: bool) -> None:
        """Stop the run if the faults that used up all attempts of a question mean that the endpoint is dead."""
        self._n_exhausted = 0 if answered_meanwhile else self._n_exhausted + 1
        if self._n_exhausted and (fault.unreached or not self._n_replies or self._n_exhausted >= MAX_EXHAUSTED):
            attempts = f"in {self.settings.attempts} attempts"
            self.stop(NetworkError(f"{fault.message}, {attempts}; run the same command again later"))

    async def _attempt(self, slot: Slot, key: str, question: Question, max_tokens: int) -> Answer | Fault:
        """One call, from the reservation to the commit."""
        reservation = await self._reserve(slot, self._worst_cost(question, max_tokens))
        if reservation is None:
            return self._not_asked()
        try:
            request = self._begin(key, question, max_tokens, reservation)
        except HybridSimError as error:
            self.stop(error)
            return self._not_asked()
        body = self._format.body(question, max_tokens)
        try:
            outcome = self._checked(question, await self.client.send(json.dumps(body).encode()))
        except BaseException:
            self._committed(request, Fault("skip", "interrupted in flight", possibly_paid=True))
            raise
        outcome = self._committed(request, outcome)
        if isinstance(outcome, Answer):
            self._count_reply(slot)
            return outcome
        return self._limited(self._apply(outcome, body), slot)

    async def _reserve(self, slot: Slot, worst: int | None) -> Reservation | None:
        """A slot and the worst-case cost of one call; None once nothing more is sent."""
        while await slot.acquire() and not self._halt.is_set():
            try:
                return self.budget.reserve(worst)
            except BudgetError as error:
                is_alone = self._limiter.in_flight == 1
                slot.release()
                if is_alone:
                    self.stop(error)
                else:  # What calls in flight have reserved for the worst case may suffice once they are settled.
                    await self._limiter.next_release()
        return None

    def _committed(self, request: Request, outcome: Answer | Fault) -> Answer | Fault:
        """The outcome once it is committed; an answer that cannot be committed stops the run and is not used."""
        try:
            self._commit(request, outcome)
        except HybridSimError as error:
            self.stop(error)
            return self._not_asked()
        return outcome

    def _limited(self, fault: Fault, slot: Slot) -> Fault:
        """Tell the rate limiter of a fault, and stop the run where such faults have become too many."""
        match fault.remedy:
            case "wait":
                self._limiter.refused(slot, fault.after)
                slot.release()
                self.counts.pauses = self._limiter.episodes
                if self._limiter.in_a_row > MAX_EPISODES:
                    times = f"{MAX_EPISODES} times in a row"
                    self.stop(BudgetError(f"{fault.message}, {times}; run the same command later"))
            case "again":
                self._count_reply(slot)
            case "skip" if fault.kind != "not_asked":
                self._n_rejected += fault.kind == "rejected"
                if self._n_rejected >= MAX_REJECTED:
                    last = f"the last {self._n_rejected} requests were all rejected"
                    self.stop(NetworkError(f"{fault.message}; {last}"))
                self._limiter.succeeded(slot)
        return fault

    def _count_reply(self, slot: Slot) -> None:
        self._n_replies += 1
        self._n_exhausted = self._n_rejected = 0
        self._limiter.succeeded(slot)


def _fault(state: tenacity.RetryCallState) -> Fault:
    outcome = state.outcome
    assert outcome is not None
    fault: Fault = outcome.result()
    return fault
