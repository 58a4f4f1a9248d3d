"""Memory that this process may still take, and libraries that live within a limit of the address space."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hybrid_sim.core.errors import SettingsError

LIBRARIES = 1_200_000_000
"""Bytes of address space that the libraries take with one thread each, measured: 0.8 to 1.0 GB without any data."""

FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Settings of the libraries under a limit: BLAS reserves address space per thread, Arrow's own allocator 1 GB."""


class Room(NamedTuple):
    """Bytes that can still be taken, and what sets the bound."""

    size: float
    bound: str


def shown_size(size: float) -> str:
    """A size in bytes for messages.

    >>> shown_size(2_100_000_000), shown_size(35_000_000)
    ('2.1 GB', '35 MB')
    """
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def room(root: Path = Path("/")) -> Room:
    """The least of available memory, the rest of the control group's limit and the rest of the address space.

    `root` is where /proc and /sys are. Where a system tells none of them, the room is infinite.
    """
    return min(_rooms(root), default=Room(float("inf"), "nothing"))


def _rooms(root: Path) -> Iterator[Room]:
    with suppress(OSError, KeyError):
        yield Room(_table(root / "proc/meminfo")["MemAvailable"] * 1024, "the machine")
    for folder, limit, current in (
        ("sys/fs/cgroup", "memory.max", "memory.current"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, KeyError, ValueError):  # "max": no limit
            group = root / folder
            cache = _table(group / "memory.stat")["inactive_file"]  # is given back when memory is wanted
            used = int((group / current).read_text()) - cache
            yield Room(max(int((group / limit).read_text()) - used, 0), "the control group (a container's limit)")
    if address_space := address_space_limit():
        with suppress(OSError, KeyError):
            size = _table(root / "proc/self/status")["VmSize"] * 1024
            yield Room(max(address_space - size, 0), "the limit of the address space (ulimit -v)")


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file of lines such as `VmSize:  1024 kB` by their names."""
    lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def address_space_limit() -> int | None:
    """The bytes that `ulimit -v` allows; None: any number."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def fit_libraries_into_limit() -> None:
    """Under a limit of the address space, make the libraries take little of it; must come before they are imported.

    Raises:
        SettingsError: the libraries do not fit: loading them would abort, or never end, without a message.
    """
    limit = address_space_limit()
    if limit is None or "numpy" in sys.modules:
        return
    for name, value in FRUGAL.items():
        os.environ.setdefault(name, value)
    if limit < LIBRARIES:
        raise SettingsError(
            f"the address space is limited to {shown_size(limit)}, less than the {shown_size(LIBRARIES)} that the "
            "libraries alone take; raise the limit (ulimit -v)"
        )


def is_used_up() -> bool:
    """Whether so little of the address space is left that threads and libraries fail."""
    return address_space_limit() is not None and room().size < 300e6
