"""What a piece of work takes: seconds by the wall clock, and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hybrid_sim.core.fit_cache import fit_cache

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Effort:
    """Filled in when the work is done, `peak_mb` in 2**20 bytes; None where a fit was read from the cache."""

    seconds: float | None = 0.0
    peak_mb: float | None = 0.0


@contextmanager
def measured() -> Iterator[Effort]:
    """Measure the body of the `with`.

    `peak_mb` is the most that this process's resident memory stood above where it began. Linux resets its
    high-water mark for that; where it cannot be reset, it is the growth of the mark of the whole process
    (`getrusage`), which misses whatever fits below an earlier peak. Other processes are not counted.
    """
    effort, cache = Effort(), fit_cache()
    n_read = cache.n_read
    with suppress(OSError):
        _RESET.write_text("5")  # proc(5): sets the peak resident size back to the current one
    before, start = _peak_mb(), time.perf_counter()
    try:
        yield effort
    finally:
        is_whole = cache.n_read == n_read
        effort.seconds = time.perf_counter() - start if is_whole else None
        effort.peak_mb = max(_peak_mb() - before, 0.0) if is_whole else None


def _peak_mb() -> float:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024
