"""The way of one question to its answer: budget, journal, call, check, commit, and what is done about every fault."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from dataclasses import dataclass

import tenacity

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError, ReplyError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.budget import Budget, Reservation
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.outcomes import Fault, Reply, shortened
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Question
from hybrid_sim.llm.rate_limiter import MAX_EPISODES, Gate, Turn
from hybrid_sim.llm.request_format import Dialect
from hybrid_sim.llm.tokens import most_prompt_tokens, size_of
from hybrid_sim.llm.transport import Wire
from hybrid_sim.llm.truncation import PromptGuard, beyond_context

MAX_EXHAUSTED = 3
"""Questions in a row that use up all attempts, while no call is answered, before the endpoint counts as dead."""

MAX_REJECTED = 20
"""Requests in a row that are rejected, while no call is answered, before that counts as the answer to all."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """Pauses between attempts, in seconds: up to `first_wait` after the first fault, doubled after each further one."""

    first_wait: float = 1.0
    longest_wait: float = 60.0


@dataclass
class Counts:
    """What happened so far: questions `answered`, of them `from_journal` without a call, and `failed`.

    `calls` were sent: `retried` of them after a fault, of which `possibly_paid_twice` after one that may have been
    paid, and `asked_again` of them after a reply that was no answer. `pauses` were made since the server wanted fewer.
    """

    from_journal: int = 0
    answered: int = 0
    failed: int = 0
    calls: int = 0
    retried: int = 0
    asked_again: int = 0
    possibly_paid_twice: int = 0
    pauses: int = 0


class Caller:
    """Asks one question after the other of one endpoint, many at a time; used within one event loop.

    `stopped` is why the run had to stop; from then on, and after `interrupt`, questions are not asked any more.
    """

    def __init__(
        self,
        settings: LLMSettings,
        wire: Wire,
        journal: Journal,
        budget: Budget,
        price: Price | None,
        counts: Counts,
        patience: Patience,
    ) -> None:
        self.stopped: HybridSimError | None = None
        self.gate = Gate(settings.concurrency, patience.first_wait)
        self._settings, self._wire, self._journal, self._budget = settings, wire, journal, budget
        self._price, self._counts, self._patience = price, counts, patience
        self._dialect = Dialect(settings, takes_new_token_field=wire.endpoint.takes_new_token_field)
        self._prompt_guard = PromptGuard(wire.endpoint.address)
        self._halt = asyncio.Event()
        self._well = self._exhausted = self._rejected = 0

    def resume(self) -> None:
        """Ask again after an interruption."""
        self._halt = asyncio.Event()
        self.gate.reopen()

    def interrupt(self) -> None:
        """Send nothing more; what is in flight is finished."""
        self._halt.set()
        self.gate.close()

    def stop(self, error: HybridSimError) -> None:
        """End the run for this reason; the first reason counts."""
        if self.stopped is None:
            self.stopped = error
            _log.warning("no more questions are asked: %s", error)
        self.interrupt()

    async def answer(self, key: str, question: Question) -> Answer | Failure:
        """The answer to a question, or why there is none. A reply that is no answer is asked for once more."""
        too_long = beyond_context(question, self._settings.context_tokens)
        if too_long:
            self._counts.failed += 1
            return Failure("context", too_long)
        limit = question.max_tokens
        outcome = await self._persist(key, question, limit)
        if isinstance(outcome, Fault) and outcome.remedy == "again" and not self._halt.is_set():
            self._counts.asked_again += 1
            outcome = await self._persist(key, question, 2 * limit if outcome.kind == "cut" else limit)
        if isinstance(outcome, Answer):
            self._counts.answered += 1
            return outcome
        self._counts.failed += 1
        _log.info("prompt %s: %s: %s", question.prompt, outcome.kind, outcome.message)
        return Failure(outcome.kind, outcome.message, outcome.usage)

    async def _persist(self, key: str, question: Question, limit: int) -> Answer | Fault:
        """The outcome of as many attempts as it takes, or as are allowed. Waiting for others (429) takes no attempt."""
        used, well, turn = 0, self._well, Turn(self.gate)

        async def attempt() -> Answer | Fault:
            nonlocal used
            outcome = await self._attempt(turn, key, question, limit)
            used += isinstance(outcome, Fault) and outcome.remedy == "retry"
            return outcome

        def is_over(state: tenacity.RetryCallState) -> bool:
            return used >= self._settings.attempts or self._halt.is_set()

        def pause(state: tenacity.RetryCallState) -> float:
            if _fault(state).remedy != "retry":
                return 0.0
            longest = min(self._patience.first_wait * 2.0 ** (used - 1), self._patience.longest_wait)
            return longest * random.Random(f"{key} {used}").uniform(0.5, 1.0)

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda got: isinstance(got, Fault) and got.remedy in _REPEATED),
            stop=is_over,
            wait=pause,
            sleep=self._sleep,
            before_sleep=self._note_retry,
            retry_error_callback=_fault,
        )
        try:
            outcome: Answer | Fault = await retrying(attempt)
        finally:
            turn.end()
        if isinstance(outcome, Fault) and outcome.remedy == "retry" and used >= self._settings.attempts:
            self._give_up(outcome, answered_meanwhile=self._well > well)
        if isinstance(outcome, Fault) and outcome.remedy in ("wait", "adapt"):
            return self._not_asked()  # The run has ended while the question waited.
        return outcome

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        fault = _fault(state)
        self._counts.retried += 1
        self._counts.possibly_paid_twice += fault.possibly_paid
        _log.info("%s; trying again", fault.message)

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._halt.wait(), seconds)
            except TimeoutError:
                return

    def _give_up(self, fault: Fault, *, answered_meanwhile: bool) -> None:
        """Decide whether faults that outlast all attempts of a question mean that the endpoint is dead."""
        self._exhausted = 0 if answered_meanwhile else self._exhausted + 1
        if self._exhausted and (fault.unreached or not self._well or self._exhausted >= MAX_EXHAUSTED):
            self.stop(
                NetworkError(
                    f"{fault.message}, in {self._settings.attempts} attempts; run the same command again later"
                )
            )

    async def _attempt(self, turn: Turn, key: str, question: Question, limit: int) -> Answer | Fault:
        """One call from the reservation to the commit."""
        reservation = await self._reserved(turn, question, limit)
        if reservation is None:
            return self._not_asked()
        try:
            attempt = self._journal.start(key, question.prompt, reservation.worst, size=size_of(question))
        except HybridSimError as error:
            self._budget.release(reservation)
            self.stop(error)
            return self._not_asked()
        body = self._dialect.body(question, limit)
        self._counts.calls += 1
        try:
            outcome = self._judged(question, await self._wire.send(json.dumps(body).encode()))
        except BaseException:
            self._commit(attempt, reservation, Fault("skip", "interrupted in flight", possibly_paid=True))
            raise
        outcome = self._commit(attempt, reservation, outcome)
        if isinstance(outcome, Fault):
            return self._faced(outcome, turn, body)
        self._prosper(turn)
        return outcome

    async def _reserved(self, turn: Turn, question: Question, limit: int) -> Reservation | None:
        """The money for one call, and a place at the gate; None once nothing more is sent."""
        worst = self._price.worst(most_prompt_tokens(question), limit) if self._price else None
        while await turn.begin() and not self._halt.is_set():
            try:
                return self._budget.reserve(worst)
            except BudgetError as error:
                is_alone = self.gate.in_flight == 1
                turn.end()
                if is_alone:
                    self.stop(error)
                else:  # What calls in flight have set aside for the worst case may suffice once they are settled.
                    await self.gate.next_departure()
        return None

    def _judged(self, question: Question, outcome: Reply | Fault) -> Answer | Fault:
        """The reply as an answer if it passes the question's own check."""
        if isinstance(outcome, Fault):
            return outcome
        cut = self._prompt_guard.find_cut(question, outcome.usage.prompt_tokens)
        if cut:
            return Fault("stop", str(cut), "rejected", outcome.usage, error=cut)
        try:
            value = question.check(outcome.text)
        except ReplyError as error:
            unknown = outcome.usage.prompt_tokens is None or outcome.usage.completion_tokens is None
            return Fault("again", shortened(str(error)), "invalid", outcome.usage, possibly_paid=unknown)
        return Answer(outcome.text, value, outcome.usage, outcome.model)

    def _commit(self, attempt: int, reservation: Reservation, outcome: Answer | Fault) -> Answer | Fault:
        """Write down what came of an attempt and settle its money; an answer that cannot be kept is none."""
        cost: int | None = 0
        if isinstance(outcome, Answer) or outcome.usage.prompt_tokens is not None or outcome.possibly_paid:
            cost = self._price.cost(outcome.usage) if self._price else None
        try:
            if isinstance(outcome, Answer):
                self._journal.finish(attempt, outcome, cost)
            else:
                failure = Failure(outcome.kind, outcome.message, outcome.usage)
                self._journal.fail(attempt, failure, cost, possibly_paid=outcome.possibly_paid)
        except HybridSimError as error:
            self.stop(error)
            return self._not_asked()
        finally:
            self._budget.settle(reservation, cost)
        return outcome

    def _faced(self, fault: Fault, turn: Turn, body: dict[str, object]) -> Fault:
        """Do what a fault demands of the run; what it demands of the question is up to the caller."""
        match fault.remedy:
            case "wait":
                self.gate.refused(turn.ticket, fault.after)
                turn.end()
                self._counts.pauses = self.gate.episodes
                if self.gate.in_a_row > MAX_EPISODES:
                    self.stop(
                        BudgetError(f"{fault.message}, {MAX_EPISODES} times in a row; run the same command later")
                    )
            case "adapt":
                try:
                    self._dialect.adapt(fault.lacks, body, fault.message)
                except HybridSimError as error:
                    self.stop(error)
                    return self._not_asked()
            case "stop" if fault.error is not None:
                self.stop(fault.error)
                return self._not_asked()
            case "again":
                self._prosper(turn)
            case "skip" if fault.kind != "not_asked":
                self._rejected += fault.kind == "rejected"
                if self._rejected >= MAX_REJECTED:
                    self.stop(NetworkError(f"{fault.message}; the last {self._rejected} requests were all rejected"))
                self.gate.succeeded(turn.ticket)
        return fault

    def _prosper(self, turn: Turn) -> None:
        self._well += 1
        self._exhausted = self._rejected = 0
        self.gate.succeeded(turn.ticket)

    def _not_asked(self) -> Fault:
        return Fault("skip", str(self.stopped or "interrupted"), "not_asked")


_REPEATED = ("retry", "wait", "adapt")


def _fault(state: tenacity.RetryCallState) -> Fault:
    outcome = state.outcome
    assert outcome is not None
    fault: Fault = outcome.result()
    return fault
