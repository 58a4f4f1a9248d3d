"""Progress of long work, reported to a listener.

The library never prints: the command line installs a listener that does. Without one, `track` costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
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
