"""Questions by post: a whole wave as batches, at half the price and within a day, through journal and budget."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from hybrid_sim.core.errors import HybridSimError, ReplyError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.batch import BatchRow, Patience, run_batch
from hybrid_sim.llm.budget import Budget, Reservation
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.open_batches import under_way
from hybrid_sim.llm.outcomes import Fault, Reply, read_outcome, shortened
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Question
from hybrid_sim.llm.request_format import Dialect
from hybrid_sim.llm.sending import Counts
from hybrid_sim.llm.tokens import most_prompt_tokens, size_of
from hybrid_sim.llm.transport import Wire
from hybrid_sim.llm.truncation import PromptGuard, beyond_context

_AGAIN = ("again", "retry", "wait", "adapt")
"""Remedies that a second batch may bring."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Letter:
    """A question that is under way, sent by this process or by an earlier one of the run."""

    question: Question
    limit: int
    attempt: int
    reservation: Reservation


Give = Callable[[str, Answer | Failure], None]


class Post:
    """Asks many questions at once by batches; used within one event loop.

    The worst case of a whole batch is set aside before it is submitted, and questions for which there is no room are
    not asked. A reply that is no answer is asked for once more, in a second batch. `price` is that of a batch.
    `stopped` is why the run had to stop; what was submitted by then goes on, and the next run takes it up.
    """

    def __init__(
        self,
        settings: LLMSettings,
        wire: Wire,
        journal: Journal,
        budget: Budget,
        price: Price | None,
        counts: Counts,
        patience: Patience | None = None,
    ) -> None:
        self.stopped: HybridSimError | None = None
        self._context = settings.context_tokens
        self._prompt_guard = PromptGuard(wire.endpoint.address)
        self._wire, self._journal, self._budget = wire, journal, budget
        self._price, self._counts, self._patience = price, counts, patience or Patience()
        self._dialect = Dialect(settings, takes_new_token_field=wire.endpoint.takes_new_token_field)

    async def answer(self, missing: Mapping[str, Question], give: Give) -> None:
        """Give the answer to every question, by its key, or the reason why there is none.

        When this is cancelled, what has come by then is committed, and the batch goes on.
        """
        first = {}
        for key, question in missing.items():
            too_long = beyond_context(question, self._context)
            if too_long:
                self._counts.failed += 1
                give(key, Failure("context", too_long))
            else:
                first[key] = question, question.max_tokens
        second: dict[str, tuple[Question, int]] = {}
        faults: dict[str, Fault] = {}

        def sort(key: str, letter: _Letter, outcome: Answer | Fault) -> None:
            if isinstance(outcome, Fault) and outcome.remedy in _AGAIN and not self.stopped:
                second[key] = letter.question, letter.limit * 2 if outcome.kind == "cut" else letter.limit
                faults[key] = outcome
            else:
                tell(key, _plain(outcome))

        def tell(key: str, outcome: Answer | Failure) -> None:
            self._counts.answered += isinstance(outcome, Answer)
            self._counts.failed += isinstance(outcome, Failure)
            give(key, outcome)

        await self._round(first, sort, tell)
        if second and self.stopped is None:
            _log.info("%d of %d questions are asked again in a second batch", len(second), len(missing))
            self._counts.asked_again += len(second)
            await self._round(second, lambda key, letter, outcome: tell(key, _plain(outcome)), tell)
        else:
            for key in second:
                tell(key, _plain(faults[key]))

    async def _round(
        self,
        questions: Mapping[str, tuple[Question, int]],
        sort: Callable[[str, _Letter, Answer | Fault], None],
        give: Give,
    ) -> None:
        """Send what the budget allows and hand every outcome to `sort`; what is not answered is given as not asked."""
        letters = self._stamped(questions) if self.stopped is None else {}
        bodies = {key: self._dialect.body(letter.question, letter.limit) for key, letter in letters.items()}

        def deliver(row: BatchRow) -> None:
            letter = letters[row.key]
            outcome = self._committed(letter, self._judged(letter.question, row))
            del letters[row.key]
            sort(row.key, letter, self._faced(outcome, bodies[row.key]) if isinstance(outcome, Fault) else outcome)

        unsent = [key for key in questions if key not in letters]
        with self._returned(letters):
            try:
                await run_batch(self._wire.client, bodies, self._journal, deliver, self._patience)
            except HybridSimError as error:
                self._stop(error)
        for key in (*unsent, *letters):
            give(key, Failure("not_asked", str(self.stopped)))

    def _stamped(self, questions: Mapping[str, tuple[Question, int]]) -> dict[str, _Letter]:
        """The questions with their money and their attempts, as far as the budget goes; those under way come first."""
        letters: dict[str, _Letter] = {}
        try:
            sent = under_way(self._journal)
            for key in sorted(questions, key=lambda key: key not in sent):
                question, limit = questions[key]
                open_ = self._journal.resume(key) if key in sent else None
                if open_ is not None:
                    letters[key] = _Letter(question, limit, open_[0], self._budget.adopt(open_[1]))
                    continue
                worst = self._price.worst(most_prompt_tokens(question), limit) if self._price else None
                reservation = self._budget.reserve(worst)
                try:
                    attempt = self._journal.start(key, question.prompt, worst, size=size_of(question))
                except HybridSimError:
                    self._budget.release(reservation)
                    raise
                self._counts.calls += 1
                letters[key] = _Letter(question, limit, attempt, reservation)
        except HybridSimError as error:
            self._stop(error)
        return letters

    @contextmanager
    def _returned(self, letters: Mapping[str, _Letter]) -> Iterator[None]:
        """At the end of a round, settle the letters that were never submitted; those under way stay open."""
        try:
            yield
        finally:
            try:
                sent = under_way(self._journal) if letters else set()
                for key, letter in letters.items():
                    if key not in sent:
                        self._committed(letter, Fault("skip", "the batch was not submitted", "not_asked"))
            except HybridSimError as error:
                self._stop(error)

    def _judged(self, question: Question, row: BatchRow) -> Answer | Fault:
        """The reply as an answer if it passes the question's own check."""
        if not row.status:
            return Fault("retry", row.message)
        body = json.dumps(dict(row.body)).encode()
        outcome: Reply | Fault = read_outcome(row.status, {}, body, self._wire.endpoint.address)
        if isinstance(outcome, Fault):
            return outcome
        cut = self._prompt_guard.find_cut(question, outcome.usage.prompt_tokens)
        if cut is not None:
            return Fault("stop", str(cut), "rejected", outcome.usage, error=cut)
        try:
            value = question.check(outcome.text)
        except ReplyError as error:
            unknown = outcome.usage.prompt_tokens is None or outcome.usage.completion_tokens is None
            return Fault("again", shortened(str(error)), "invalid", outcome.usage, possibly_paid=unknown)
        return Answer(outcome.text, value, outcome.usage, outcome.model)

    def _committed(self, letter: _Letter, outcome: Answer | Fault) -> Answer | Fault:
        """Write down what came of a letter and settle its money."""
        cost: int | None = 0
        if isinstance(outcome, Answer) or outcome.usage.prompt_tokens is not None or outcome.possibly_paid:
            cost = self._price.cost(outcome.usage) if self._price else None
        try:
            if isinstance(outcome, Answer):
                self._journal.finish(letter.attempt, outcome, cost)
            else:
                failure = Failure(outcome.kind, outcome.message, outcome.usage)
                self._journal.fail(letter.attempt, failure, cost, possibly_paid=outcome.possibly_paid)
        finally:
            self._budget.settle(letter.reservation, cost)
        return outcome

    def _faced(self, fault: Fault, body: dict[str, object]) -> Fault:
        """Do what a fault demands of the run."""
        if fault.error is not None:
            self._stop(fault.error)
        if fault.remedy == "adapt":
            try:
                self._dialect.adapt(fault.lacks, body, fault.message)
            except HybridSimError as error:
                self._stop(error)
        return fault

    def _stop(self, error: HybridSimError) -> None:
        if self.stopped is None:
            self.stopped = error
            _log.warning("no more questions are asked: %s", error)


class PostedWave:
    """Questions that are asked together by post; `interrupted` once the user has asked to leave."""

    def __init__(self, post: Post, questions: Mapping[str, Question], give: Give) -> None:
        self.interrupted = False
        self._post, self._questions, self._give = post, questions, give
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Ask all questions, until they are answered or the user wants to leave."""
        self._task = asyncio.ensure_future(self._post.answer(self._questions, self._give))
        try:
            await self._task
        except asyncio.CancelledError:
            if not self.interrupted:
                raise

    def interrupt(self) -> None:
        """Wait no longer: nothing is lost by leaving."""
        self.interrupted = True
        _log.warning("interrupted: the batch goes on, and the same command takes it up again")
        self.cancel()

    def cancel(self) -> None:
        """Wait no longer."""
        if self._task is not None:
            self._task.cancel()


def _plain(outcome: Answer | Fault) -> Answer | Failure:
    """What the caller is told."""
    return outcome if isinstance(outcome, Answer) else Failure(outcome.kind, outcome.message, outcome.usage)
