"""The client of a language model: answers questions through the journal, so that no answer is paid for twice."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Self

from hybrid_sim.core.errors import HybridSimError, RunError
from hybrid_sim.core.progress import track
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.batch import BatchSender, Polling
from hybrid_sim.llm.budget import Budget, dollars
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import Price, check_price, price_of
from hybrid_sim.llm.question import Answer, Failure, Question
from hybrid_sim.llm.sending import Backoff, Counts, DirectSender, Sender
from hybrid_sim.llm.transport import Endpoint, EndpointClient

_Deliver = Callable[[str, Answer | Failure], None]


class LLM:
    """Asks a language model, through the journal. Close it, or use it in a `with` block; the journal stays open.

    `counts` says what was sent. With `replay` nothing is sent: a missing answer is an error. With `batch` questions are
    sent through the Batch API. The key is read from the environment variable OPENAI_API_KEY when the first question has
    to be sent.
    """

    def __init__(
        self,
        settings: LLMSettings,
        journal: Journal,
        budget: Budget,
        *,
        replay: bool = False,
        batch: bool = False,
        backoff: Backoff | None = None,
        polling: Polling | None = None,
    ) -> None:
        self.settings, self.journal, self.budget, self.replay, self.batch = settings, journal, budget, replay, batch
        self.counts = Counts()
        self._backoff, self._polling = backoff or Backoff(), polling or Polling()
        self._sender: Sender | None = None
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LLM({self.settings.model!r}, {self.counts})"

    @property
    def stopped(self) -> HybridSimError | None:
        """Why no more questions are sent (budget, quota, endpoint, disk), else None; gives the run its exit status."""
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
                spent = f", {dollars(self.budget.spent)}" if self.budget.spent else ""
                task.advance(n_places[key], f"{self.counts.calls:,} calls{spent}")

            for key, answer in self.journal.answers(distinct):
                self.counts.from_journal += 1
                self.counts.answered += 1
                deliver(key, answer)
            missing = {key: question for key, question in distinct.items() if key not in results}
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
        if self._runner is not None and self._sender is not None:
            _outside_loops(self._runner.run, self._sender.client.close())
            _outside_loops(self._runner.close)
            self._runner = None

    def _send(self, questions: Mapping[str, Question], deliver: _Deliver) -> None:
        sender = self._connected()
        runner = self._runner = self._runner or asyncio.Runner(loop_factory=asyncio.new_event_loop)
        in_loop = runner.get_loop().call_soon_threadsafe
        with _on_interrupt(partial(in_loop, sender.interrupt), partial(in_loop, sender.cancel)):
            try:
                _outside_loops(runner.run, sender.send(questions, deliver))
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
        if sender.interrupted:
            raise KeyboardInterrupt

    def _connected(self) -> Sender:
        """The sender, made when the first question has to be sent."""
        if self._sender is None:
            endpoint, price = endpoint_and_price(self.settings, self.budget, self.batch)
            client = EndpointClient(endpoint, self.settings.concurrency, self.settings.deadline)
            shared = (self.settings, client, self.journal, self.budget, price, self.counts)
            self._sender = BatchSender(*shared, self._polling) if self.batch else DirectSender(*shared, self._backoff)
        return self._sender


def endpoint_and_price(settings: LLMSettings, budget: Budget, batch: bool = False) -> tuple[Endpoint, Price | None]:
    """The endpoint that is asked and its price, None where that is not known.

    Raises:
        SettingsError: the address, the key or the price that a call needs is missing.
    """
    endpoint = Endpoint.of(settings)
    price = price_of(settings.model, endpoint.address, settings.prices, batch=batch)
    if budget.max_money is not None:
        check_price(price, settings.model, settings.prices)
    return endpoint, price


@contextmanager
def _on_interrupt(first: Callable[[], object], second: Callable[[], object]) -> Iterator[None]:
    """Inside the `with`, call `first` at the first signal, `second` at the second; a third raises KeyboardInterrupt.

    Outside the main thread, where Python takes no signals, this does nothing. A signal that the process ignores, as
    under nohup, stays ignored. The handlers from before come back at the end.
    """
    steps = iter((first, second))

    def handle(number: int, frame: FrameType | None) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outside_loops(work: Callable[..., None], *values: Any) -> None:
    """Call `work`, which runs an event loop: in a thread where another loop is running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work(*values)
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(work, *values).result()
