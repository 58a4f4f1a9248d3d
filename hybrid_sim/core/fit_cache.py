"""A cache of fits on disk: the same rater is fitted to the same ratings once, whichever command needs it.

An entry is found by a digest of all that it depends on: the rater's class and settings, the embedder, the data and the
training rows, the versions of packages and the code of raters. Nothing is cached outside of `caching_fits`.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hybrid_sim.core import model_files
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ModelFileError, SettingsError, StorageError
from hybrid_sim.core.files import cache_folder, checked_size, write_whole
from hybrid_sim.core.provenance import package_versions
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.serialization import Arrays, read_arrays, settings_digest, write_arrays
from hybrid_sim.core.types import IntArray

FORMAT = "hybrid-sim fits 1"

ENTRY = "entry"
"""In an entry, its own name: a file of another entry in its place is refused."""

MAX_BYTES = 5_000_000_000
"""Size of the cache above which the entries go that were not used for the longest time."""

LEAST_SECONDS = 0.05
"""CPU seconds of a fit below which reading it from the disk would gain nothing."""

SOURCES = ("models", "retrieval", "core")
"""Parts of the package whose code, beside the versions of packages, decides whether cached fits still hold."""

_log = logging.getLogger("hybrid_sim")

T = TypeVar("T")


@dataclass(frozen=True)
class Fit:
    """A fitted rater and the CPU seconds of its fit, which may have been another process's."""

    rater: Rater
    seconds: float


@dataclass
class FitCache:
    """Fitted raters and arrays in `folder`, up to about `max_bytes`; None: nothing is cached.

    A damaged entry is ignored and made again. Where the disk is full or not writable, work goes on without the cache,
    which the log says. `n_read` counts the entries that were used. Fits of less than `least_seconds` are not cached.
    """

    folder: Path | None = None
    max_bytes: int = MAX_BYTES
    least_seconds: float = LEAST_SECONDS
    n_read: int = 0

    def fit(self, rater: Rater, dataset: Dataset) -> Fit:
        """`rater` fitted to `dataset`: the cached fit, whose predictions are equal to the last bit, else a new one."""
        place = self._place("fit", rater, dataset)
        cached = None if place is None else self._read(place, lambda: _load(place, rater))
        if cached is not None:
            return cached
        started = time.thread_time()
        fit = Fit(rater.fit(dataset), time.thread_time() - started)
        if place is not None and fit.seconds >= self.least_seconds:
            with _failures_logged():
                shutil.rmtree(place, ignore_errors=True)
                about = {"entry": place.name, "seconds": fit.seconds}
                model_files.save(fit.rater, place, _trusted(rater), about)
        return fit

    def arrays(
        self, what: str, rater: Rater, dataset: Dataset, rows: Sequence[IntArray], make: Callable[[], Arrays]
    ) -> Arrays:
        """What `make` returns, which depends on `what` it is, the rater, the dataset and `rows` alone."""
        place = self._place(what, rater, dataset, rows)
        if place is None:
            return make()
        file = place.with_suffix(".npz")
        cached = self._read(file, lambda: _read_arrays(file))
        if cached is not None:
            return cached
        made = make()
        with _failures_logged():
            file.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            write_arrays(content, {**made, ENTRY: np.array(file.name)})
            write_whole(file, content.getvalue())
        return made

    def _read(self, place: Path, read: Callable[[], T]) -> T | None:
        """The entry, marked as used now; None where there is none, or a damaged one, which the log says."""
        if not place.exists():
            return None
        try:
            entry = read()
        except (OSError, ModelFileError) as error:
            _log.warning("a cached fit is damaged and made again: %s", error)
            return None
        with suppress(OSError):
            os.utime(place)
        self.n_read += 1
        return entry

    def _place(self, what: str, rater: Rater, dataset: Dataset, rows: Sequence[IntArray] = ()) -> Path | None:
        """The path of an entry; None where the cache is off, or the rater has settings that cannot be saved."""
        if self.folder is None:
            return None
        try:
            settings = settings_digest(rater, _trusted(rater))
        except SettingsError:
            return None
        embedder = getattr(rater, "embedder", None)
        content = {
            "format": FORMAT,
            "what": what,
            "rater": settings,
            "embedder": embedder and embedder.fingerprint,
            "data": dataset.digest,
            "rows": [_hashed(part) for part in rows],
            "packages": _versions(),
            "code": [_code_digest(package) for package in ("hybrid_sim", type(rater).__module__.partition(".")[0])],
        }
        key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return self.folder / f"{type(rater).__name__}-{what}-{key}"

    def make_room(self) -> None:
        """Where the cache is beyond its limit, remove the entries that were not used for the longest time."""
        if self.folder is None or not self.folder.is_dir():
            return
        entries = [(entry.stat().st_mtime, _size(entry), entry) for entry in self.folder.iterdir()]
        total = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries, key=lambda one: one[0]):
            if total <= self.max_bytes:
                return
            total -= size
            with suppress(OSError):  # another process may have removed it
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


_current: ContextVar[FitCache | None] = ContextVar("hybrid_sim_fit_cache", default=None)


def fit_cache() -> FitCache:
    """The cache of the surrounding `caching_fits`, else one that caches nothing; threads do not inherit it."""
    return _current.get() or FitCache()


@contextmanager
def caching_fits(
    folder: Path | str | None = None, max_bytes: int = MAX_BYTES, least_seconds: float = LEAST_SECONDS
) -> Iterator[None]:
    """Inside the `with`, nothing is fitted twice: fits are kept in `folder` (None: the user's cache folder).

    Above `max_bytes` the entries go that were not used for the longest time; fits of less than `least_seconds` of CPU
    time are not kept.

    The commands do this by themselves (`--no-cache` fits anew). HYBRID_SIM_CACHE names another cache folder.

        with hs.caching_fits():
            hs.bench(data)
            hs.validate(data)     # the members are read from the cache

    Raises:
        SettingsError: `folder` is a file.
    """
    place = cache_folder("fits") if folder is None else Path(folder)
    if place.exists() and not place.is_dir():
        raise SettingsError(f"{place} is a file; name another folder for cached fits")
    cache = FitCache(place, max_bytes, least_seconds)
    token = _current.set(cache)
    try:
        yield
    finally:
        _current.reset(token)
        cache.make_room()


@contextmanager
def _failures_logged() -> Iterator[None]:
    """Inside the `with` an entry is written; that it cannot be is logged and ends no fit."""
    try:
        yield
    except (OSError, StorageError, SettingsError) as error:
        _log.warning("fits are not cached: %s", error)


def _load(place: Path, rater: Rater) -> Fit:
    about = model_files.read_manifest(place)["about"]
    loaded: Any = model_files.load(place, _trusted(rater))
    if about.get("entry") != place.name:
        raise ModelFileError(f"{place} holds another entry")
    if (embedder := getattr(rater, "embedder", None)) is not None:
        loaded.embedder = embedder  # the one that the members of an ensemble share
    return Fit(loaded, float(about["seconds"]))


def _read_arrays(file: Path) -> Arrays:
    checked_size(file)
    arrays = read_arrays(io.BytesIO(file.read_bytes()), file)
    if str(arrays.pop(ENTRY, None)) != file.name:
        raise ModelFileError(f"{file} holds another entry")
    return arrays


def _trusted(rater: Rater) -> tuple[str, ...]:
    """The module of a rater of another package: it runs here already."""
    module = type(rater).__module__
    return () if module.startswith("hybrid_sim.") else (module,)


def _size(entry: Path) -> int:
    files = entry.iterdir() if entry.is_dir() else [entry]
    return sum(file.stat().st_size for file in files)


def _hashed(column: IntArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(column).tobytes()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    return package_versions()


@cache
def _code_digest(package: str) -> str:
    """A hash of the code of a package that has raters, as it is in its files: yesterday's fits are not today's.

    Code without files (typed into a console) has another hash in every process.
    """
    module, content = sys.modules.get(package), hashlib.sha256()
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    if package == "hybrid_sim":
        folders = [folder / part for folder in folders for part in SOURCES]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not files and (file := getattr(module, "__file__", None)):
        files = [Path(file)]
    for file in files:
        content.update(file.name.encode() + b"\0" + file.read_bytes())
    return content.hexdigest() if files else os.urandom(16).hex()
