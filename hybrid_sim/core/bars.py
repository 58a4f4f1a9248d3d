"""Progress as bars: on terminals, and in notebooks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from math import isfinite
from typing import Any, TextIO

from hybrid_sim.core.files import printable
from hybrid_sim.core.progress import Task, listen

DELAY = 2.0
"""Seconds that work takes before its progress is shown."""

BEAT = 1.0
"""Seconds between two looks at work that may not have advanced."""


def show_progress() -> AbstractContextManager[None]:
    """Inside the `with`, long work draws bars on stderr with the time that is left; in notebooks it does so anyway.

    with hs.show_progress():
        simulator = hs.fit(data)
    """
    return listen(partial(bar, sys.stderr))


@contextmanager
def beating(beat: Callable[[], object]) -> Iterator[None]:
    """Inside the `with`, call `beat` every second: also work that does not advance shows that it is going on."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(BEAT):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def bar(stream: TextIO, label: str, total: int) -> Iterator[Task]:
    """A bar that appears when the work has taken `DELAY` seconds and goes when it is done."""
    from tqdm import tqdm

    drawn = tqdm(
        total=total or None,
        desc=printable(label),
        file=stream,
        delay=DELAY,
        leave=False,
        dynamic_ncols=True,
        unit_scale=total > 100_000,
    )
    with drawn, beating(lambda: time.time() - drawn.start_t > DELAY and drawn.refresh()):
        yield _BarTask(drawn)


class _BarTask:
    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def advance(self, steps: int = 1, note: str = "", left: float | None = None) -> None:
        """Move the bar."""
        if left is not None:
            self.bar.bar_format = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
            note = ", ".join(filter(None, (time_left(left), note)))
        if note:
            self.bar.set_postfix_str(printable(note), refresh=False)
        self.bar.update(steps)


def time_left(seconds: float) -> str:
    """The time left in words, nothing while it cannot be told."""
    return f"{duration(seconds)} left" if isfinite(seconds) else ""


def duration(seconds: float) -> str:
    """Minutes and seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
