"""Progress of long work, reported to a listener.

The library never prints: the command line installs a listener that does. Without one, nothing is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Protocol


class Task(Protocol):
    """One piece of work that advances step by step."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report `steps` more steps as done; `note` describes the last one."""


Listener = Callable[[str, int], AbstractContextManager[Task]]
"""Opens a task of that label and that number of steps (0 where it is unknown)."""


@dataclass
class _Counter:
    callback: Callable[[str, int, int], object]
    label: str
    total: int
    done: int = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.callback(self.label, self.done, self.total)


@contextmanager
def _counted(callback: Callable[[str, int, int], object], label: str, total: int) -> Iterator[Task]:
    yield _Counter(callback, label, total)


def _unreported(label: str, total: int) -> AbstractContextManager[Task]:
    return _counted(lambda *_: None, label, total)


_listener: ContextVar[Listener] = ContextVar("hybrid_sim_progress", default=_unreported)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Report all work done inside the `with` block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def track(label: str, total: int) -> AbstractContextManager[Task]:
    """Report work of `total` steps under the name `label`."""
    return _listener.get()(label, total)


def report_to(callback: Callable[[str, int, int], object]) -> AbstractContextManager[None]:
    """Call `callback(label, steps done, all steps)` as work inside the `with` advances; 0: their number is unknown.

    >>> with report_to(lambda label, done, total: print(label, done, total)), track("members fitted", 2) as task:
    ...     task.advance()
    members fitted 1 2
    """
    return listen(partial(_counted, callback))
