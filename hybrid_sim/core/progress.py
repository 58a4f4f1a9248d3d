"""How far long work has come, told to whoever listens.

The library never prints. A door that has a screen installs a listener with `listen`; without one, `track` costs
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol


class Task(Protocol):
    """One piece of work that advances step by step."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report `steps` more steps as done; `note` says what the last one was."""


class Listener(Protocol):
    """Opens a task for every piece of long work."""

    def start(self, label: str, total: int) -> AbstractContextManager[Task]:
        """A context in which `total` steps of the work called `label` are reported."""


class _Silent:
    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say nothing."""


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
        with listener.start(label, total) as task:
            yield task
