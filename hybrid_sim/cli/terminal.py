"""Progress and log lines on stderr."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import TextIO, cast

from hybrid_sim.core.bars import DELAY, bar, beating, duration, time_left
from hybrid_sim.core.files import printable
from hybrid_sim.core.progress import Task, listen

INTERVAL = 10.0
"""Seconds between two lines about the same work where stderr is not a terminal."""

_log = logging.getLogger("hybrid_sim")


@contextmanager
def messages(quiet: bool = False, stream: TextIO | None = None) -> Iterator[None]:
    """Inside the `with`, show the log of `hybrid_sim`, each message once, and the progress of long work.

    On a terminal progress is a bar with the estimated time left, elsewhere plain lines. `quiet` shows only
    warnings and errors.
    """
    stream = _unfailing(stream or sys.stderr)
    log = logging.getLogger("hybrid_sim")
    handler, level, propagates = _LineHandler(stream), log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False
    try:
        if quiet:
            yield
        else:
            with listen(partial(bar if stream.isatty() else _lines, stream)):
                yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates


def warn(text: str) -> None:
    """Write one line to stderr, or nowhere if it cannot be written."""
    say(text, _unfailing(sys.stderr))


def _unfailing(stream: TextIO) -> TextIO:
    return cast(TextIO, _Unfailing(stream))


class _Unfailing(io.TextIOBase):
    """A log: what cannot be written to it (a full disk, a closed pipe) is lost, and work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def silence(stream: TextIO) -> None:
    """Send what is still in the buffer, and all that follows, nowhere: Python would fail on it again when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_standard_streams() -> None:
    """Stand in for standard streams that the caller has closed, so that no file of the run gets their numbers."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  as long as the process


def say(text: str, stream: TextIO) -> None:
    """Write one line, control characters escaped, without tearing a progress bar that is being drawn."""
    line = printable(text)
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(line, file=stream)
    else:
        stream.write(f"{line}\n")
    stream.flush()


def screen_width() -> int:
    """Columns that text is wrapped to: those of the terminal, at most 118."""
    return min(118, shutil.get_terminal_size((118, 24)).columns)


def show(*lines: str) -> None:
    """Write lines of a result to stdout, control characters escaped."""
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))


def report_written(*files: Path | None) -> None:
    """Log the files that a command has written; None stands for one that was not asked for."""
    if names := [str(file) for file in files if file is not None]:
        _log.info("written: %s", ", ".join(names))


def report_formulas(noun: str, texts: Iterable[str]) -> None:
    """Log how many of the texts a spreadsheet would take for formulas when it reads them from a CSV file (CWE-1236)."""
    formulas = [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r"))]
    if formulas:
        _log.warning(
            "%d %s look like formulas to a spreadsheet, for example %r; they are kept as they are",
            len(formulas),
            noun,
            formulas[0],
        )


class _LineHandler(logging.Handler):
    """Each different message as one plain line; warnings say that they are."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self.written: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record unless the same text was written before."""
        text = record.getMessage()
        if text not in self.written:
            self.written.add(text)
            say(f"warning: {text}" if record.levelno >= logging.WARNING else text, self.stream)


@contextmanager
def _lines(stream: TextIO, label: str, total: int) -> Iterator[Task]:
    """Progress in plain lines, for files and pipes; none before the work has taken `DELAY` seconds."""
    task = _LineTask(label, total, stream)
    with beating(task.show):
        yield task
    elapsed = time.monotonic() - task.started
    if elapsed > DELAY:
        say(f"{label}: done in {duration(elapsed)}", stream)


class _LineTask:
    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        self.label, self.total, self.stream = label, total, stream
        self.done, self.started = 0, time.monotonic()
        self.next_line = self.started + DELAY
        self.note = ""
        self.left: float | None = inf

    def advance(self, steps: int = 1, note: str = "", left: float | None = None) -> None:
        """Count the steps; write a line when the last one is `INTERVAL` seconds old."""
        self.done += steps
        self.note, self.left = note, left
        self.show()

    def show(self) -> None:
        """Write a line when the last one is `INTERVAL` seconds old, unless the work is done."""
        now = time.monotonic()
        if now < self.next_line or self.done >= self.total > 0:
            return
        self.next_line = now + INTERVAL
        progress = f"{self.done:,}"
        if self.total:
            left = self.left
            if left is None:
                left = (now - self.started) * (self.total - self.done) / max(self.done, 1)
            share = f"{self.done / self.total:.0%} ({self.done:,} of {self.total:,})"
            progress = ", ".join(filter(None, (share, time_left(left))))
        say(f"{self.label}: {progress}{f' - {self.note}' if self.note else ''}", self.stream)
