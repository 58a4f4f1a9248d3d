"""How a question gets its answer: reserve the budget, commit the attempt, send it, check the reply, commit the outcome.

`Sender` holds these steps. `DirectSender` makes one HTTP request per question, many at a time, with retries, back-off
and an adaptive concurrency limit; `BatchSender` in `batch` submits many questions at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import tenacity

from hybrid_sim.core.errors import BudgetError, CopiedReplyError, HybridSimError, NetworkError, ReplyError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.budget import Budget, Reservation
from hybrid_sim.llm.dialect import Dialect
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.outcomes import Fault, Reply, shortened
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, FailureKind, Question
from hybrid_sim.llm.rate_limiter import MAX_EPISODES, RateLimiter, Slot
from hybrid_sim.llm.tokens import TruncationCheck, beyond_context, most_prompt_tokens, size_of
from hybrid_sim.llm.transport import EndpointClient

MAX_EXHAUSTED = 3
"""Questions in a row that use up all attempts, while no call is answered, before the endpoint counts as dead."""

MAX_USELESS = 20
"""Calls in a row without a usable reply before the run stops, or as many as were answered before, if these are more."""

_CALLS_PER_FORM = 4
"""Such calls in a row, at the beginning of a run, before JSON is requested in another form."""

_CURES: Mapping[FailureKind, str] = {
    "empty": "see the server's log, or use another llm.model",
    "refused": "use another llm.model",
    "filtered": "use another llm.model or llm.base_url",
    "cut": "raise rating.max_tokens, turn the model's reasoning off, or use another llm.model",
    "invalid": "use a model that follows instructions (llm.model)",
    "copied": "use a model that follows instructions (llm.model)",
    "too_large": "use another llm.model",
    "context": "raise the context size of the server, or lower rating.items_per_call and rating.n_history",
    "rejected": "see the server's log, and what `hybrid-sim doctor` says",
}
_USELESS_REPLIES: tuple[FailureKind, ...] = ("empty", "refused", "filtered", "cut", "invalid", "copied", "too_large")

Finish = Callable[[str, Answer | Fault], None]
"""Takes the key of a question and its final outcome."""

_REPEATED = ("retry", "wait", "adapt")
_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What happened so far: questions `answered`, of them `from_journal` without a call, and `failed`.

    `calls` were sent: `retried` of them after a fault, of which `possibly_paid_twice` after one that may have been
    paid, and `asked_again` of them after a reply that failed its check. `pauses` counts those for a rate limit (429).
    """

    from_journal: int = 0
    answered: int = 0
    failed: int = 0
    calls: int = 0
    retried: int = 0
    asked_again: int = 0
    possibly_paid_twice: int = 0
    pauses: int = 0


@dataclass(frozen=True)
class Request:
    """A question in flight, with its token limit, attempt in the journal and reservation in the budget."""

    question: Question
    max_tokens: int
    attempt: int
    reservation: Reservation


@dataclass(eq=False)
class Sender(ABC):
    """Sends questions to one endpoint, within one event loop. `price` is None where it is not known.

    `stopped` is why the run had to stop: the first such error. From then on questions end as "not_asked".
    `interrupted`: the user has interrupted the present call of `send`.
    """

    settings: LLMSettings
    client: EndpointClient
    journal: Journal
    budget: Budget
    price: Price | None
    counts: Counts
    stopped: HybridSimError | None = field(default=None, init=False)
    interrupted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        endpoint = self.client.endpoint
        self._note = f"dialect:{endpoint.address}"
        remembered = self.journal.note(self._note)
        self._dialect = Dialect(self.settings, is_openai=endpoint.is_openai, remembered=remembered)
        self._n_answers = self._n_useless = 0
        self._had_answers = self.journal.ledger().answered > 0
        self._truncation = TruncationCheck(self.client.endpoint.address)
        self._task: asyncio.Task[None] | None = None

    async def send(self, questions: Mapping[str, Question], deliver: Callable[[str, Answer | Failure], None]) -> None:
        """Deliver the answer to every question, by its key, or the reason why there is none; each once.

        Raises:
            asyncio.CancelledError: `cancel` was called.
        """
        self.interrupted, self._task = False, asyncio.current_task()
        if not self.counts.calls and self.stopped is None:
            self._refuse_useless_run()

        def finish(key: str, outcome: Answer | Fault) -> None:
            if isinstance(outcome, Answer):
                self.counts.answered += 1
                deliver(key, outcome)
            else:
                self.counts.failed += 1
                _log.info("prompt %s: %s: %s", questions[key].prompt, outcome.kind, outcome.message)
                deliver(key, outcome.failure)

        context = self.settings.context_tokens
        too_long = {key: reason for key, q in questions.items() if (reason := beyond_context(q, context))}
        for key, reason in too_long.items():
            finish(key, Fault("skip", reason, "context"))
        await self._send({key: q for key, q in questions.items() if key not in too_long}, finish)

    @abstractmethod
    async def _send(self, questions: Mapping[str, Question], finish: Finish) -> None:
        """Finish every question."""

    @abstractmethod
    def interrupt(self) -> None:
        """Send nothing more; called at the first Ctrl-C or SIGTERM."""

    def cancel(self) -> None:
        """End the present call of `send` at once; called at the second Ctrl-C or SIGTERM."""
        if self._task is not None:
            self._task.cancel()

    def stop(self, error: HybridSimError) -> Fault:
        """End the run for this reason (the first one counts); the outcome of a question that is not sent for it."""
        if self.stopped is None:
            self.stopped = error
            _log.warning("no more questions are asked: %s", error)
        return self._not_asked()

    def _refuse_useless_run(self) -> None:
        """Stop where earlier processes of the run have had nothing but useless replies, so that none is paid again."""
        failures = {kind: n for kind, n in self.journal.failures().items() if kind in _USELESS_REPLIES}
        n_useless = sum(failures.values())
        if n_useless >= MAX_USELESS and not self.journal.ledger().answered:
            kinds = ", ".join(f"{kind} {n}" for kind, n in failures.items())
            cure = f"{_CURES[max(failures, key=failures.__getitem__)]}, with another run folder"
            self.stop(NetworkError(f"none of the {n_useless} replies of this run is usable ({kinds}); {cure}"))

    def _count_useless(self, fault: Fault, n_calls: int = 1) -> None:
        """Count calls in a row without a usable reply, and stop where they are too many."""
        self._n_useless += n_calls
        if self._n_useless >= max(MAX_USELESS, self._n_answers):
            cure = _CURES.get(fault.kind, "run the same command again later")
            self.stop(NetworkError(f"{fault.message}; the last {self._n_useless} calls brought nothing usable: {cure}"))

    def _next_limit(self, max_tokens: int, fault: Fault) -> int:
        """The token limit at which a question is asked again: twice as many tokens for a reply that was cut off."""
        return 2 * max_tokens if fault.kind == "cut" else max_tokens

    def _not_asked(self) -> Fault:
        return Fault("skip", str(self.stopped or "interrupted"), "not_asked")

    def _worst_cost(self, question: Question, max_tokens: int) -> int | None:
        return self.price.worst(most_prompt_tokens(question), max_tokens) if self.price else None

    def _begin(self, key: str, question: Question, max_tokens: int, reservation: Reservation) -> Request:
        """Commit that a question is about to be sent.

        Raises:
            HybridSimError: it cannot be committed, so it must not be sent; the reservation is released.
        """
        try:
            attempt = self.journal.start(key, question.prompt, reservation.worst, size=size_of(question))
        except HybridSimError:
            self.budget.release(reservation)
            raise
        self.counts.calls += 1
        return Request(question, max_tokens, attempt, reservation)

    def _checked(self, question: Question, outcome: Reply | Fault) -> Answer | Fault:
        """The reply as an answer if it passes the question's own check."""
        if isinstance(outcome, Fault):
            return outcome
        truncated = self._truncation.error(question, outcome.usage.prompt_tokens)
        if truncated is not None:
            return Fault("stop", str(truncated), "rejected", outcome.usage, error=truncated)
        try:
            value = question.check(outcome.text)
        except ReplyError as error:
            message, unknown = shortened(str(error)), not outcome.usage.is_complete
            if isinstance(error, CopiedReplyError):
                return Fault("skip", message, "copied", outcome.usage, possibly_paid=unknown)
            return Fault("again", message, "invalid", outcome.usage, possibly_paid=unknown)
        return Answer(outcome.text, value, outcome.usage, outcome.model)

    def _commit(self, request: Request, outcome: Answer | Fault) -> None:
        """Commit the outcome of an attempt and settle its cost.

        Raises:
            HybridSimError: it cannot be committed, so an answer must not be used.
        """
        cost: int | None = 0
        if isinstance(outcome, Answer) or outcome.usage.prompt_tokens is not None or outcome.possibly_paid:
            cost = self.price.cost(outcome.usage) if self.price else None
        try:
            if isinstance(outcome, Answer):
                self.journal.finish(request.attempt, outcome, cost)
            else:
                self.journal.fail(request.attempt, outcome.failure, cost, possibly_paid=outcome.possibly_paid)
        finally:
            self.budget.settle(request.reservation, cost)

    def _apply(self, fault: Fault, body: dict[str, object]) -> Fault:
        """Do what a fault demands of the whole run: adapt the dialect, or stop."""
        error = fault.error
        if fault.remedy == "adapt":
            try:
                self._dialect.adapt(fault.rejected_fields, body, fault.message)
                self._remember()
            except HybridSimError as refused:
                error = refused
        return fault if error is None else self.stop(error)

    def _remember(self) -> None:
        """Commit what was negotiated, for later processes of the run; stop where it cannot be committed."""
        try:
            if self.journal.note(self._note) != self._dialect.note:
                self.journal.write_note(self._note, self._dialect.note)
        except HybridSimError as error:
            self.stop(error)


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
        self._n_replies = self._n_exhausted = 0

    async def _send(self, questions: Mapping[str, Question], finish: Finish) -> None:
        if self.stopped is None:
            self._halt = asyncio.Event()
            self._limiter.reopen()
        queue = iter(questions.items())

        async def work() -> None:
            for key, question in queue:
                finish(key, await self._outcome(key, question))

        workers = [asyncio.create_task(work()) for _ in range(min(self.settings.concurrency, len(questions)))]
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

    def stop(self, error: HybridSimError) -> Fault:
        """As for every sender; calls that wait for their turn are not sent either."""
        outcome = super().stop(error)
        self._close()
        return outcome

    def _close(self) -> None:
        self._halt.set()
        self._limiter.close()

    async def _outcome(self, key: str, question: Question) -> Answer | Fault:
        """The final outcome of a question: a useless reply is requested again, a cut one with more tokens."""
        limit, n_replies = self._dialect.limit(question.max_tokens), 1
        outcome = await self._with_retries(key, question, limit)
        while (
            isinstance(outcome, Fault)
            and outcome.remedy == "again"
            and not self._halt.is_set()
            and self._deserves_another(question, limit, outcome, n_replies)
        ):
            was_cut = outcome.kind == "cut"
            limit, n_replies = self._next_limit(limit, outcome), n_replies + 1
            self.counts.asked_again += 1
            outcome = await self._with_retries(key, question, limit, is_patient=not was_cut)
        return outcome

    def _deserves_another(self, question: Question, limit: int, fault: Fault, n_replies: int) -> bool:
        """Whether a question is asked again after so many useless replies, the last with this fault.

        Once as a rule; with more tokens for reasoning up to the largest limit; and where the server finds its own
        model's replies invalid, up to the attempts of a call, until the first answer in ever simpler forms.
        """
        if fault.is_reasoning:
            return self._has_more_tokens(question, limit, fault)
        if fault.rejected_fields and self._n_answers:
            return n_replies < self.settings.attempts
        return n_replies == 1 or bool(fault.rejected_fields and self._step_down(fault))

    def _has_more_tokens(self, question: Question, limit: int, fault: Fault) -> bool:
        """Enlarge the token limits of the run; the run ends where the largest does not suffice for its first reply."""
        if self._dialect.limit(question.max_tokens) > limit or self._dialect.enlarge():
            self._remember()
            return True
        if not self._n_answers:
            self.stop(NetworkError(f"{fault.message} of {limit:,}; {_CURES['cut']}"))
        return False

    async def _with_retries(
        self, key: str, question: Question, max_tokens: int, *, is_patient: bool = True
    ) -> Answer | Fault:
        """The outcome after as many attempts as are needed or allowed; waits for a rate limit are not counted.

        Unless `is_patient`, no call is repeated that may have been paid, such as one that outlived the deadline.
        """
        n_failed, n_replies, slot = 0, self._n_replies, Slot(self._limiter)

        async def attempt() -> Answer | Fault:
            nonlocal n_failed
            outcome = await self._attempt(slot, key, question, max_tokens)
            n_failed += isinstance(outcome, Fault) and outcome.remedy == "retry"
            return outcome

        def pause(state: tenacity.RetryCallState) -> float:
            if _fault(state).remedy != "retry":
                return 0.0
            longest = min(self.backoff.first_wait * 2.0 ** (n_failed - 1), self.backoff.longest_wait)
            return longest * random.Random(f"{key} {n_failed}").uniform(0.5, 1.0)

        def is_enough(state: tenacity.RetryCallState) -> bool:
            is_hopeless = not is_patient and _fault(state).possibly_paid
            return n_failed >= self.settings.attempts or self._halt.is_set() or is_hopeless

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda result: isinstance(result, Fault) and result.remedy in _REPEATED),
            stop=is_enough,
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
            with suppress(TimeoutError):
                await asyncio.wait_for(self._halt.wait(), seconds)

    def _count_exhausted(self, fault: Fault, *, answered_meanwhile: bool) -> None:
        """Stop the run if the faults that used up all attempts of a question mean that the endpoint is dead."""
        self._n_exhausted = 0 if answered_meanwhile else self._n_exhausted + 1
        if self._n_exhausted and (fault.unreached or not self._n_replies or self._n_exhausted >= MAX_EXHAUSTED):
            attempts = f"in {self.settings.attempts} attempts"
            self.stop(NetworkError(f"{fault.message}, {attempts}; run the same command again later"))

    async def _attempt(self, slot: Slot, key: str, question: Question, max_tokens: int) -> Answer | Fault:
        """One call, from the reservation to the commit; an answer that cannot be committed is not used."""
        reservation = await self._reserve(slot, self._worst_cost(question, max_tokens))
        if reservation is None:
            return self._not_asked()
        try:
            request = self._begin(key, question, max_tokens, reservation)
            body = self._dialect.body(question, max_tokens)
            try:
                outcome = self._checked(question, await self.client.send(json.dumps(body).encode()))
            except BaseException:
                with suppress(HybridSimError):  # The interruption goes first.
                    self._commit(request, Fault("skip", "interrupted in flight", possibly_paid=True))
                raise
            self._commit(request, outcome)
        except HybridSimError as error:
            return self.stop(error)
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
                self._n_replies += 1
                self._n_exhausted = 0
                self._count_call_in_vain(fault, slot)
            case "skip" if fault.kind != "not_asked":
                self._count_call_in_vain(fault, slot)
        return fault

    def _count_reply(self, slot: Slot) -> None:
        self._n_replies += 1
        self._n_answers += 1
        self._n_exhausted = self._n_useless = 0
        self._limiter.succeeded(slot)

    def _count_call_in_vain(self, fault: Fault, slot: Slot) -> None:
        """Until the first answer calls go one by one; until that of the run a few faults simplify the form of JSON."""
        self._count_useless(fault)
        is_of_form = not self._had_answers and fault.kind in ("empty", "invalid", "cut")
        if self._n_answers:
            self._limiter.succeeded(slot)
        elif is_of_form and self._n_useless % _CALLS_PER_FORM == 0:
            self._step_down(fault)

    def _step_down(self, fault: Fault) -> bool:
        """Request JSON in a simpler form from now on, if there is one."""
        if not self._dialect.step_down():
            return False
        _log.warning("%s, %d times; %s", fault.message, self._n_useless, self._dialect.sentence)
        self._remember()
        return True


def _fault(state: tenacity.RetryCallState) -> Fault:
    assert state.outcome is not None
    fault: Fault = state.outcome.result()
    return fault
