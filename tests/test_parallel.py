"""The parallel map: results in order whatever the workers, one BLAS thread each, failures stop what has not begun."""

from __future__ import annotations

import threading
import time

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hybrid_sim.core.parallel import as_done, parallel_map


@pytest.mark.parametrize("n_jobs", [1, 3, None])
def test_results_come_in_the_order_of_the_tasks(n_jobs: int | None) -> None:
    def work(k: int, m: int) -> int:
        time.sleep(0.002 * (10 - k))
        return k * m

    assert parallel_map(work, [(k, 2) for k in range(10)], n_jobs, "doubling") == [2 * k for k in range(10)]


def test_each_result_is_there_as_soon_as_it_is_done() -> None:
    first_may_end = threading.Event()

    def work(k: int) -> int:
        if k == 0:
            assert first_may_end.wait(20)
        return k

    order = []
    for place, _ in as_done(work, [(0,), (1,), (2,)], 2, "waiting"):
        order.append(place)
        if len(order) == 2:
            first_may_end.set()
    assert order[-1] == 0


def test_numerical_libraries_use_one_thread_meanwhile() -> None:
    def threads(_: int) -> set[int]:
        return {library["num_threads"] for library in threadpool_info()}

    with threadpool_limits(2):
        alone, several = parallel_map(threads, [(0,)], 2, "asking"), parallel_map(threads, [(0,), (1,)], 2, "asking")
        assert alone + several == [{1}] * 3
        assert {library["num_threads"] for library in threadpool_info()} == {2}


def test_a_failure_is_raised_and_what_has_not_begun_is_dropped() -> None:
    begun = []

    def work(k: int) -> None:
        begun.append(k)
        if k == 0:
            raise ValueError("task 0")
        time.sleep(0.02)

    with pytest.raises(ValueError, match="task"):
        parallel_map(work, [(k,) for k in range(1000)], 1, "failing")
    assert len(begun) < 1000


def test_without_tasks_there_are_no_results() -> None:
    assert parallel_map(lambda: 1, [], 2, "nothing") == []
