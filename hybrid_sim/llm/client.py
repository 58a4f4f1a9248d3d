"""The door: questions go in, answers come out in the same order, and no answer is paid for twice.

Order inside: journal, budget, call with one layer of retries, check, commit. Nothing else talks to a language model.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from hybrid_sim.core.errors import HybridSimError, ReplyError, RunError
from hybrid_sim.core.progress import track
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.batch import Patience as BatchPatience
from hybrid_sim.llm.batch_sending import Post, PostedWave
from hybrid_sim.llm.budget import Budget, dollars
from hybrid_sim.llm.interrupts import on_interrupt
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import check_price, price_of
from hybrid_sim.llm.question import Answer, Failure, Question
from hybrid_sim.llm.sending import Caller, Counts, Patience
from hybrid_sim.llm.transport import Endpoint, Wire

_AT_ONCE = 2000
_Deliver = Callable[[str, Answer | Failure], None]
_log = logging.getLogger(__name__)


class LLM:
    """Asks a language model, through the journal. Close it, or use it in a `with` block; the journal stays open.

    `stopped` is why the run had to stop asking (budget or quota used up, endpoint dead or refusing, disk full), else
    None. `counts` says what was sent. With `replay` nothing is sent: a missing answer is an error. The environment
    variable OPENAI_API_KEY holds the key; it is read when the first question has to be sent. With `batch` questions go
    by the Batch API.
    """

    def __init__(
        self,
        settings: LLMSettings,
        journal: Journal,
        budget: Budget,
        *,
        replay: bool = False,
        batch: bool = False,
        patience: Patience | None = None,
        batch_patience: BatchPatience | None = None,
    ) -> None:
        self.settings, self.journal, self.budget, self.replay, self.batch = settings, journal, budget, replay, batch
        self.counts = Counts()
        self._patience, self._batch_patience = patience or Patience(), batch_patience
        self._wire: Wire | None = None
        self._sender: Caller | Post | None = None
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LLM({self.settings.model!r}, {self.counts})"

    @property
    def stopped(self) -> HybridSimError | None:
        """Why no more questions are asked; its exit status is that of the run."""
        return self._sender.stopped if self._sender else None

    def ask(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        """An answer to each question, or the reason why there is none, in the order of the questions.

        Equal questions are asked once. Once the run has to stop (`stopped`), those that the journal cannot answer come
        back as failures of the kind "not_asked".

        Raises:
            SettingsError: the address, the key or the price that a call needs is missing.
            RunError: an answer is missing that a replay needs.
            KeyboardInterrupt: Ctrl-C or SIGTERM; what was in flight has been finished and committed.
        """
        keys = [question.key(self.settings.sampling) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        n_places = Counter(keys)
        results: dict[str, Answer | Failure] = {}
        with track(f"asking {self.settings.model}", len(questions)) as task:

            def deliver(key: str, result: Answer | Failure) -> None:
                results[key] = result
                task.advance(n_places[key], self._note())

            missing = self._look_up(distinct, deliver)
            if missing and self.replay:
                first = next(iter(missing.values())).prompt
                raise RunError(
                    f"{self.journal.file} lacks {len(missing)} of the answers that this replay needs, the first to the "
                    f"prompt {first}; run without replay to ask for them"
                )
            if missing:
                self._send(missing, deliver)
        return [results[key] for key in keys]

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        if self._runner is not None:
            if self._wire is not None:
                _apart(self._runner.run, self._wire.close())
            _apart(self._runner.close)
            self._runner = self._wire = None

    def _look_up(self, questions: Mapping[str, Question], deliver: _Deliver) -> dict[str, Question]:
        """Deliver what the journal holds and passes the check of today; what is left has to be sent."""
        missing: dict[str, Question] = {}
        keys = list(questions)
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            stored = self.journal.find(some)
            for key in some:
                kept, question = stored.get(key), questions[key]
                if kept is None:
                    missing[key] = question
                    continue
                try:
                    answer = Answer(kept.text, question.check(kept.text), kept.usage, kept.model)
                except ReplyError as error:
                    _log.warning("a stored answer to the prompt %s is not used: %s", question.prompt, error)
                    missing[key] = question
                else:
                    self.counts.from_journal += 1
                    self.counts.answered += 1
                    deliver(key, answer)
        return missing

    def _send(self, questions: Mapping[str, Question], deliver: _Deliver) -> None:
        sender = self._connected()
        runner = self._runner = self._runner or asyncio.Runner(loop_factory=asyncio.new_event_loop)
        loop = runner.get_loop()
        wave: _Wave | PostedWave
        if isinstance(sender, Post):
            wave = PostedWave(sender, questions, deliver)
        else:
            wave = _Wave(sender, questions, deliver, self.settings.concurrency)
        with on_interrupt(
            lambda: loop.call_soon_threadsafe(wave.interrupt), lambda: loop.call_soon_threadsafe(wave.cancel)
        ):
            try:
                _apart(runner.run, wave.run())
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
        if wave.interrupted:
            raise KeyboardInterrupt

    def _connected(self) -> Caller | Post:
        """What sends questions, made when the first one has to be sent."""
        if self._sender is None:
            endpoint, file = Endpoint.of(self.settings), self.settings.prices
            price = price_of(self.settings.model, endpoint.address, file, batch=self.batch)
            if self.budget.max_money is not None:
                check_price(price, self.settings.model, file)
            self._wire = Wire(endpoint, self.settings.concurrency, self.settings.deadline)
            what = (self.settings, self._wire, self.journal, self.budget, price, self.counts)
            self._sender = Post(*what, self._batch_patience) if self.batch else Caller(*what, self._patience)
        return self._sender

    def _note(self) -> str:
        """Calls and money so far, for the line of progress."""
        spent = f", {dollars(self.budget.spent)}" if self.budget.spent else ""
        return f"{self.counts.calls:,} calls{spent}"


class _Wave:
    """Questions that are asked together, by as many workers as calls may be in flight."""

    def __init__(self, caller: Caller, questions: Mapping[str, Question], deliver: _Deliver, concurrency: int) -> None:
        self.interrupted = False
        self._caller, self._deliver = caller, deliver
        self._queue = iter(questions.items())
        self._n_workers = min(concurrency, len(questions))
        self._workers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Ask all questions; cancelled by `cancel`."""
        if self._caller.stopped is None:
            self._caller.resume()
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._n_workers)]
        try:
            await asyncio.gather(*self._workers)
        finally:
            self.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)

    def interrupt(self) -> None:
        """Send nothing more, and finish what is in flight."""
        self.interrupted = True
        self._caller.interrupt()
        _log.warning(
            "interrupted: %d calls in flight are finished; again to leave at once", self._caller.gate.in_flight
        )

    def cancel(self) -> None:
        """Finish nothing."""
        for worker in self._workers:
            worker.cancel()

    async def _work(self) -> None:
        for key, question in self._queue:
            self._deliver(key, await self._caller.answer(key, question))


def _apart(work: Callable[..., None], *values: Any) -> None:
    """Call `work`, which runs a loop; in a thread of its own where another loop is running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work(*values)
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(work, *values).result()
