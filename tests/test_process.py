"""The command as a process of a machine that has little: no room for logs, no streams, no folder to write to."""

from __future__ import annotations

import os
import re
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
    done = shell(f"{START} {FIT}", tmp_path, PYTHONPATH=site, **nowhere, HYBRID_SIM_CACHE=str(tmp_path / "cache"))
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


@pytest.mark.parametrize("command", ["fit --members biases -o model", "bench --models global_mean --figure none"])
def test_a_limit_below_what_the_libraries_take_is_refused_before_they_are_loaded(command: str, tmp_path: Path) -> None:
    """Issue 10, point 12: BLAS threads that cannot start ended as "interrupted", in an abort or never."""
    done = shell(f"ulimit -v 1000000; timeout 60 {START} {command}", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "hybrid-sim: the address space is limited to 1.0 GB, less than the 1.2 GB that the libraries alone take; "
        "raise the limit (ulimit -v)\n",
    )


def test_a_limit_of_the_address_space_leaves_room_for_small_tasks(tmp_path: Path) -> None:
    """Issue 10, point 12: 2 GB were too few for any command, most of it reserved by libraries for what never came."""
    done = shell(f"ulimit -v 1200000; timeout 200 {START} bench --models global_mean --figure none", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


LAST_BYTES = """
import resource
from hybrid_sim.cli import main
from hybrid_sim.cli.parsing import COMMANDS, Command
def run(options):
    size = 1024 * int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize")))
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    raise ERROR
COMMANDS.add("grow", Command("", "", lambda parser: None, run))
raise SystemExit(main(["grow"]))
"""


@pytest.mark.parametrize(
    "error", ["MemoryError('rows')", "ImportError('no segment')", "OSError('x')", "RuntimeError('x')"]
)
@pytest.mark.parametrize("room", [10**8, 10**12])
def test_what_fails_for_want_of_memory_is_one_line(error: str, room: int, tmp_path: Path) -> None:
    """Issue 10, point 12: libraries and threads fail in many ways where the address space is used up."""
    (tmp_path / "run.py").write_text(LAST_BYTES.replace("ROOM", str(room)).replace("ERROR", error))
    done = shell(f"{sys.executable} run.py", tmp_path)
    if room == 10**8 or error.startswith("Memory"):
        assert done.returncode == 2
        assert re.fullmatch(r"hybrid-sim: the memory is used up \(.+\); raise its limit, or .*\n", done.stderr)
    else:
        assert (done.returncode, "Traceback" in done.stderr) == (1, True)
