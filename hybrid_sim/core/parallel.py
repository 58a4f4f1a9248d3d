"""The one parallel map: threads, a single BLAS thread for each, progress. Its results do not depend on the threads."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import lru_cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from hybrid_sim.core.progress import TimeLeft, track

R = TypeVar("R")


def n_workers(n_jobs: int | None) -> int:
    """How many tasks run at a time; None: one per core."""
    return n_jobs or os.cpu_count() or 1


def one_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS and OpenMP use one thread, so that sums do not depend on the number of cores."""
    limits: AbstractContextManager[Any] = _controller(len(sys.modules)).limit(limits=1)
    return limits


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """The libraries that have threads. Looking for them takes milliseconds; new ones come only with new modules."""
    return ThreadpoolController()


def as_done(
    work: Callable[..., R],
    tasks: Sequence[tuple[Any, ...]],
    n_jobs: int | None,
    label: str,
    notes: Sequence[str] = (),
) -> Iterator[tuple[int, R]]:
    """The place of each task and `work(*task)`, as they are done, `n_jobs` at a time in the order of `tasks`.

    Progress is reported under `label`, with a note for each task, which tells its kind: the time left is learned from
    tasks of the same kind. What the tasks track is reported too. When a task fails, or no further result is asked for,
    those that have not begun are dropped.
    """
    kinds = notes or [label] * len(tasks)
    time_left = TimeLeft(kinds, n_workers(n_jobs))
    # OpenMP's limit holds for the thread that sets it, so that each worker sets its own.
    workers = ThreadPoolExecutor(n_workers(n_jobs), initializer=one_thread)
    with one_thread(), track(label, len(tasks)) as progress, workers as pool:
        places = {pool.submit(copy_context().run, _timed, work, task): place for place, task in enumerate(tasks)}
        try:
            for job in as_completed(places):
                place = places[job]
                result, seconds = job.result()
                yield place, result
                progress.advance(1, notes[place] if notes else "", time_left.after(kinds[place], seconds))
        finally:
            pool.shutdown(cancel_futures=True)


def _timed(work: Callable[..., R], task: tuple[Any, ...]) -> tuple[R, float]:
    """The result of a task, and its seconds."""
    started = time.perf_counter()
    return work(*task), time.perf_counter() - started


def parallel_map(
    work: Callable[..., R],
    tasks: Sequence[tuple[Any, ...]],
    n_jobs: int | None,
    label: str,
    notes: Sequence[str] = (),
) -> list[R]:
    """`work(*task)` of each task, in order; a single task runs on the calling thread. Else as `as_done`."""
    if len(tasks) == 1:
        with one_thread():
            return [work(*tasks[0])]
    results = dict(as_done(work, tasks, n_jobs, label, notes))
    return [results[place] for place in range(len(tasks))]
