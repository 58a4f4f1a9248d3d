"""Questions sent through the Batch API: at a batch's price, and answered within a day."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from hybrid_sim.core.errors import HybridSimError
from hybrid_sim.llm.batch import OpenBatches, Polling, run_batch
from hybrid_sim.llm.outcomes import Fault, Reply
from hybrid_sim.llm.question import Question
from hybrid_sim.llm.sending import Finish, Request, Sender

_REPEATED = ("again", "retry", "wait", "adapt")
"""Remedies that a second batch may bring."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class BatchSender(Sender):
    """Sends many questions at once in batches.

    The worst-case cost of a whole batch is reserved before it is submitted, and questions beyond the budget are not
    asked. What brought no answer is sent once more, in a second batch. A batch goes on when the run is stopped or
    interrupted, and the next run waits for it.
    """

    polling: Polling

    def interrupt(self) -> None:
        """Wait no longer."""
        _log.warning("interrupted: the batch goes on, and the same command takes it up again")
        self.cancel()

    async def _send(self, questions: Mapping[str, Question], finish: Finish) -> None:
        limits = {key: question.max_tokens for key, question in questions.items()}
        faults = await self._send_batch(questions, limits, finish)
        if faults and self.stopped is None:
            _log.info("%d of %d questions are asked again in a second batch", len(faults), len(questions))
            self.counts.asked_again += len(faults)
            again = {key: questions[key] for key in faults}
            limits = {key: fault.next_limit(limits[key]) for key, fault in faults.items()}
            faults = await self._send_batch(again, limits, finish)
        for key, fault in faults.items():
            finish(key, fault)

    async def _send_batch(
        self, questions: Mapping[str, Question], limits: Mapping[str, int], finish: Finish
    ) -> dict[str, Fault]:
        """Send what the budget allows; the faults that a second batch may cure, everything else is finished."""
        requests = self._begin_all(questions, limits)
        bodies = {key: self._format.body(request.question, request.max_tokens) for key, request in requests.items()}
        faults: dict[str, Fault] = {}
        unsent = [key for key in questions if key not in requests]

        def deliver(key: str, reply: Reply | Fault) -> None:
            outcome = self._checked(requests[key].question, reply)
            self._commit(requests[key], outcome)
            del requests[key]
            if isinstance(outcome, Fault):
                outcome = self._apply(outcome, bodies[key])
            if isinstance(outcome, Fault) and outcome.remedy in _REPEATED:
                faults[key] = outcome
            else:
                finish(key, outcome)

        try:
            await run_batch(self.client, bodies, self.journal, deliver, self.polling)
        except HybridSimError as error:
            self.stop(error)
        finally:
            self._settle_unsubmitted(requests)
        for key in (*unsent, *requests):
            finish(key, self._not_asked())
        return faults

    def _begin_all(self, questions: Mapping[str, Question], limits: Mapping[str, int]) -> dict[str, Request]:
        """Begin as many questions as the budget allows; those that are in a batch already come first."""
        requests: dict[str, Request] = {}
        if self.stopped is not None:
            return requests
        try:
            submitted = OpenBatches(self.journal).keys()
            for key in sorted(questions, key=lambda key: key not in submitted):
                question, limit = questions[key], limits[key]
                attempt = self.journal.resume(key) if key in submitted else None
                if attempt is not None:
                    requests[key] = Request(question, limit, attempt[0], self.budget.adopt(attempt[1]))
                    continue
                reservation = self.budget.reserve(self._worst_cost(question, limit))
                requests[key] = self._begin(key, question, limit, reservation)
        except HybridSimError as error:
            self.stop(error)
        return requests

    def _settle_unsubmitted(self, requests: Mapping[str, Request]) -> None:
        """Commit that requests were never submitted; those in an open batch stay open."""
        try:
            submitted = OpenBatches(self.journal).keys() if requests else set()
            for key, request in requests.items():
                if key not in submitted:
                    self._commit(request, Fault("skip", "the batch was not submitted", "not_asked"))
        except HybridSimError as error:
            self.stop(error)
