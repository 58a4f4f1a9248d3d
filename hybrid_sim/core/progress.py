"""Progress of long work, reported to a listener.

The library never prints: the command line installs a listener that does. Without one, `track` costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Task(Protocol):
    """One piece of work that advances step by step."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report `steps` more steps as done; `note` describes the last one."""


Listener = Callable[[str, int], AbstractContextManager[Task]]
"""Opens a task of that label and that number of steps (0 where it is unknown)."""


class _Silent:
    def advance(self, steps: int = 1, note: str = "") -> None:
        """Do nothing."""


_listener: ContextVar[Listener | None] = ContextVar("hybrid_sim_progress", default=None)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Report all work done inside the `with` block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def track(label: str, total: int) -> Iterator[Task]:
    """Report work of `total` steps under the name `label`."""
    listener = _listener.get()
    if listener is None:
        yield _Silent()
    else:
        with listener(label, total) as task:
            yield task


@contextmanager
def report_to(callback: Callable[[str, int, int], None]) -> Iterator[None]:
    """Call `callback(label, steps done, all steps)` as work inside the `with` advances; 0: their number is unknown.

    >>> with report_to(lambda label, done, total: print(label, done, total)), track("members fitted", 2) as task:
    ...     task.advance()
    members fitted 1 2
    """
    with listen(_Callback(callback).start):
        yield


@dataclass
class _Callback:
    callback: Callable[[str, int, int], None]
    label: str = ""
    total: int = 0
    done: int = 0

    @contextmanager
    def start(self, label: str, total: int) -> Iterator[Task]:
        yield _Callback(self.callback, label, total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.callback(self.label, self.done, self.total)
