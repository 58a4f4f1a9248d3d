"""Other packages add commands and data sets: by one module and one entry point, found by name everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def extended(tmp_path: Path) -> Callable[[str, str], Cli]:
    """Install a package outside this one: its entry-point group and its source; returns the command line with it."""

    def install(group: str, source: str) -> Cli:
        info = tmp_path / "extension-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extension\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[hybrid_sim.{group}]\nextension = extension\n")
        (tmp_path / "extension.py").write_text(source)

        def cli(*words: str) -> subprocess.CompletedProcess[str]:
            path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
            return subprocess.run(
                [sys.executable, "-m", "hybrid_sim", *words],
                capture_output=True,
                text=True,
                timeout=120,
                env={**os.environ, "PYTHONPATH": path},
                cwd=tmp_path,
            )

        return cli

    return install


def test_a_command_is_found_in_the_help_and_run(extended: Callable[[str, str], Cli]) -> None:
    cli = extended(
        "commands",
        "from hybrid_sim.cli.parsing import COMMANDS, Command\n"
        "def add_options(parser): parser.add_argument('--times', type=int, default=1)\n"
        "def run(options):\n    print('beep ' * options.times)\n    return 0\n"
        "COMMANDS.add('beep', Command('make a noise', 'Beeps.', add_options, run))\n",
    )
    assert "beep       make a noise" in cli("--help").stdout
    assert cli("beep", "--times", "2").stdout == "beep beep \n"
    assert "did you mean 'beep'?" in cli("bepe").stderr


def test_an_extension_that_cannot_be_imported_is_named(extended: Callable[[str, str], Cli]) -> None:
    done = extended("commands", "import no_such_module\n")("data", "where")
    assert done.returncode == 2
    assert "extension" in done.stderr
    assert "no_such_module" in done.stderr
