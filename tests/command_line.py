"""Runs `hybrid-sim` in this process."""

from __future__ import annotations

from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from hybrid_sim.cli import main


@dataclass(frozen=True)
class Done:
    """The exit status of a command and what it wrote to the screen."""

    status: int
    stdout: str
    stderr: str


def run_command(*words: str | Path, folder: Path | None = None) -> Done:
    """Run the command with these words, in a folder."""
    out, err = StringIO(), StringIO()
    with chdir(folder or Path()), redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Done(status, out.getvalue(), err.getvalue())
