"""The command as a process of a machine that has little: no room for logs, no streams, no folder to write to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid_sim

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

START = f"{sys.executable} -m hybrid_sim"
FIT = "fit --members biases --jobs 1 -o model"
SIMULATE = "simulate --members biases --user random:2 --item random:2 -o run"


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line of a shell, run in a folder."""
    root = str(Path(hybrid_sim.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, **environment}
    return subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("stream", ["2>/dev/full", "2>&-", ">&-", "<&-", ">&- 2>&- <&-"])
def test_a_log_that_cannot_be_written_ends_no_run(stream: str, tmp_path: Path) -> None:
    done = shell(f"{START} {SIMULATE} {stream}", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_full_standard_output_ends_in_one_line_when_the_run_is_written(tmp_path: Path) -> None:
    done = shell(f"{START} {SIMULATE} --quiet >/dev/full", tmp_path)
    assert done.returncode == 5
    assert "\nhybrid-sim: standard output cannot be written (No space left on device); free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_closed_pipe_is_silent(tmp_path: Path) -> None:
    done = shell(f"{START} settings 2>&1 | true", tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


def installed_without_a_cache(folder: Path) -> Path:
    """A copy of the package beside whose modules nothing can be written, not even by root."""
    package = folder / "site" / "hybrid_sim"
    shutil.copytree(Path(hybrid_sim.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for place in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (place / "__pycache__").write_text("no folder")
    return package.parent


def test_compiled_code_need_not_be_kept(tmp_path: Path) -> None:
    """Case readonly_install: every command that fits ended in "no locator available"."""
    site = str(installed_without_a_cache(tmp_path))
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    done = shell(f"{START} {FIT}", tmp_path, PYTHONPATH=site, **nowhere)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("compiled code is not kept") == 1


def test_damaged_compiled_code_is_compiled_again(tmp_path: Path) -> None:
    """A damaged index ended every start in a traceback."""
    cache = tmp_path / "cache"
    script = tmp_path / "twice.py"
    script.write_text(
        "from hybrid_sim.core.compiled import compiled\n\n"
        "@compiled()\ndef twice(x):\n    return 2 * x\n\n"
        "print(twice(21), sum(twice.stats.cache_hits.values()))\n"
    )
    start = f"{sys.executable} {script}"
    kept = {"NUMBA_CACHE_DIR": str(cache)}
    assert [shell(start, tmp_path, **kept).stdout for _ in range(2)] == ["42 0\n", "42 1\n"]
    for suffix in ("nbi", "nbc"):
        for file in cache.rglob(f"*.{suffix}"):
            file.write_bytes(b"damaged")
        assert [shell(start, tmp_path, **kept).stdout for _ in range(2)] == ["42 0\n", "42 1\n"]
