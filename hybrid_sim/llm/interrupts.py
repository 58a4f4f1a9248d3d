"""Ctrl-C and SIGTERM while calls are in flight: the first ends the work in good order, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_interrupt(first: Callable[[], object], second: Callable[[], object]) -> Iterator[None]:
    """Inside the `with`, call `first` at the first signal, `second` at the second; a third raises KeyboardInterrupt.

    Outside the main thread, where Python takes no signals, this does nothing. A signal that the process ignores, as
    under nohup, stays ignored. The handlers from before come back at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    steps = iter((first, second))

    def handle(number: int, frame: FrameType | None) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
