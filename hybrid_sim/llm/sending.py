"""How a question gets its answer: reserve the budget, commit the attempt, send it, check the reply, commit the outcome.

`Sender` holds these steps. Its two subclasses differ in transport: `DirectSender` makes one HTTP request per question,
`BatchSender` submits many at once to the Batch API.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hybrid_sim.core.errors import HybridSimError, ReplyError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.budget import Budget, Reservation
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.outcomes import Fault, Reply, shortened
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Question
from hybrid_sim.llm.request_format import RequestFormat
from hybrid_sim.llm.tokens import TruncationCheck, beyond_context, most_prompt_tokens, size_of
from hybrid_sim.llm.transport import EndpointClient

Finish = Callable[[str, Answer | Fault], None]
"""Takes the key of a question and its final outcome."""

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
    """A question that is being asked, with its token limit, attempt in the journal and reservation in the budget."""

    question: Question
    max_tokens: int
    attempt: int
    reservation: Reservation


@dataclass(eq=False)
class Sender(ABC):
    """Sends questions to one endpoint, within one event loop. `price` is None where it is not known.

    `stopped` is why the run had to stop: the first such error. From then on questions end as not asked. `interrupted`:
    the user has interrupted the present call of `send`.
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
        self._format = RequestFormat(self.settings, takes_new_token_field=endpoint.takes_new_token_field)
        self._truncation = TruncationCheck(endpoint.address)
        self._task: asyncio.Task[None] | None = None

    async def send(self, questions: Mapping[str, Question], deliver: Callable[[str, Answer | Failure], None]) -> None:
        """Deliver the answer to every question, by its key, or the reason why there is none; each once.

        Raises:
            asyncio.CancelledError: `cancel` was called.
        """
        self.interrupted, self._task = False, asyncio.current_task()

        def finish(key: str, outcome: Answer | Fault) -> None:
            if isinstance(outcome, Answer):
                self.counts.answered += 1
                deliver(key, outcome)
            else:
                self.counts.failed += 1
                _log.info("prompt %s: %s: %s", questions[key].prompt, outcome.kind, outcome.message)
                deliver(key, outcome.failure)

        fitting = {}
        for key, question in questions.items():
            too_long = beyond_context(question, self.settings.context_tokens)
            if too_long:
                finish(key, Fault("skip", too_long, "context"))
            else:
                fitting[key] = question
        await self._send(fitting, finish)

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

    def stop(self, error: HybridSimError) -> None:
        """End the run for this reason; the first reason counts."""
        if self.stopped is None:
            self.stopped = error
            _log.warning("no more questions are asked: %s", error)

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
        """Do what a fault demands of the whole run: adapt the format of requests, or stop."""
        error = fault.error
        if fault.remedy == "adapt":
            try:
                self._format.adapt(fault.rejected_field, body, fault.message)
            except HybridSimError as refused:
                error = refused
        if error is None:
            return fault
        self.stop(error)
        return self._not_asked()
