"""Progress of long work, reported to a listener.

The library never prints: the command line installs a listener that does. Without one nothing is reported, but in
notebooks, where bars are drawn.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol


class Task(Protocol):
    """One piece of work that advances step by step."""

    def advance(self, steps: int = 1, note: str = "", left: float | None = None) -> None:
        """Report `steps` more steps as done; `note` describes the last one.

        `left` are the seconds that the others will take, infinite while that cannot be told; None: as long as those
        before, each.
        """


Listener = Callable[[str, int], AbstractContextManager[Task]]
"""Opens a task of that label and that number of steps (0 where it is unknown)."""


class TimeLeft:
    """The time that work will still take, learned from what steps of the same kind took.

    >>> time_left = TimeLeft(["quick", "slow", "quick", "slow"], n_workers=1)
    >>> time_left.after("quick", 1.0), time_left.after("slow", 9.0), time_left.after("quick", 1.0)
    (inf, 10.0, 9.0)
    """

    def __init__(self, kinds: Iterable[str], n_workers: int = 1) -> None:
        self._remaining, self._n_workers = Counter(kinds), n_workers
        self._seconds: dict[str, list[float]] = {}

    def after(self, kind: str, seconds: float) -> float:
        """The seconds left, now that a step of this kind has taken `seconds`; infinite while a kind was never seen."""
        self._seconds.setdefault(kind, []).append(seconds)
        self._remaining[kind] -= 1
        left = 0.0
        for other, count in self._remaining.items():
            known = self._seconds.get(other)
            left += 0.0 if not count else inf if known is None else count * sum(known) / len(known)
        return left / self._n_workers


@dataclass
class _Counter:
    callback: Callable[[str, int, int], object]
    label: str
    total: int
    done: int = 0

    def advance(self, steps: int = 1, note: str = "", left: float | None = None) -> None:
        self.done += steps
        self.callback(self.label, self.done, self.total)


@contextmanager
def _counted(callback: Callable[[str, int, int], object], label: str, total: int) -> Iterator[Task]:
    yield _Counter(callback, label, total)


def _unreported(label: str, total: int) -> AbstractContextManager[Task]:
    return _counted(lambda *_: None, label, total)


_listener: ContextVar[Listener | None] = ContextVar("hybrid_sim_progress", default=None)


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
    listener = _listener.get()
    if listener is None and "ipykernel" in sys.modules:  # in a notebook nothing else shows that work is going on
        from hybrid_sim.core.bars import bar

        return bar(sys.stderr, label, total)
    return (listener or _unreported)(label, total)


def report_to(callback: Callable[[str, int, int], object]) -> AbstractContextManager[None]:
    """Call `callback(label, steps done, all steps)` as work inside the `with` advances; 0: their number is unknown.

    >>> with report_to(lambda label, done, total: print(label, done, total)), track("members fitted", 2) as task:
    ...     task.advance()
    members fitted 1 2
    """
    return listen(partial(_counted, callback))
