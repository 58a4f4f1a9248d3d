"""Mutation check: takes guards out of the package one at a time and says which of them no test notices.

    python experiments/mutation.py                   all mutants
    python experiments/mutation.py llm simulation    those of experiments/mutants/llm.py and simulation.py alone
    python experiments/mutation.py --check           only whether every snippet occurs once in its file

A mutant is a guard of the package: a refusal, an exclusion, a bound, a rule of reuse. Each module of
`experiments/mutants` lists some as `(file, snippet, replacement, test files)`; the snippet occurs exactly once in the
file, the replacement takes the guard out. On a copy of the checkout with the replacement made, a mutant is killed by
the first test of its files that fails, and survives if all pass. Every test that killed one must pass on the unchanged
copy, or the run is refused. Results go to experiments/results/mutation.json as they come; the next run tries the test
that killed a mutant before the others.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parents[1]
LISTS = Path(__file__).parent / "mutants"
OUT = Path(__file__).parent / "results" / "mutation.json"
COPIED = (
    *("hybrid_sim", "tests", "experiments", "docs", ".github"),
    *("pyproject.toml", "constraints.txt", "README.md", "ARCHITECTURE.md", "CHANGELOG.md"),
)
PRELOADED = (
    "numpy",
    "pandas",
    "scipy.stats",
    "scipy.optimize",
    "sklearn.decomposition",
    "numba",
    "lightgbm",
    "pydantic",
)
"""What most tests import: loaded once, before the process of each mutant is forked."""
WORKERS = 2
TIMEOUT = 300
"""Seconds after which a mutant counts as killed: the guard was what kept the work finite."""
MEMORY = 6 << 30
"""Bytes that the tests of a mutant may allocate: some guards are what keeps memory finite."""


@dataclass(frozen=True)
class Mutant:
    """A guard that can be taken out: `snippet` in `file` becomes `replacement`; `tests` should notice."""

    subject: str
    file: str
    snippet: str
    replacement: str
    tests: tuple[str, ...]

    def problem(self) -> str | None:
        """Why it cannot be run, if it cannot."""
        path = ROOT / self.file
        count = path.read_text().count(self.snippet) if path.is_file() else 0
        if count != 1:
            return f"{self.file}: the snippet occurs {count} times: {self.snippet!r}"
        missing = [test for test in self.tests if not _exists(test)]
        return f"{self.file}: there is no test {missing[0]}" if missing else None


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    path = ROOT / file
    return path.is_file() and (not name or f"def {name.partition('[')[0]}(" in path.read_text())


def main(words: Sequence[str]) -> int:
    """Run what the words say; the status is 1 where a mutant survives or cannot be applied."""
    mutants = read_mutants([word for word in words if not word.startswith("-")])
    problems = [problem for mutant in mutants if (problem := mutant.problem())]
    if problems or "--check" in words:
        sys.stdout.write("".join(f"{problem}\n" for problem in problems) or f"{len(mutants)} mutants apply\n")
        return 1 if problems else 0
    for name in PRELOADED:
        import_module(name)
    earlier = stored_killers()
    survivors = []
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        tasks = [(mutant, earlier.get((mutant.file, mutant.snippet))) for mutant in mutants]
        for mutant, killer in pool.imap_unordered(partial(run, Path(folder)), tasks):
            sys.stdout.write(f"{killer or 'SURVIVES'}: {mutant.file}: {mutant.snippet.splitlines()[0].strip()}\n")
            sys.stdout.flush()
            store(mutant, killer)
            if killer is None:
                survivors.append(mutant)
        require_green(copy_of(Path(folder) / "unchanged"))
    sys.stdout.write(f"{len(survivors)} of {len(mutants)} survive\n")
    return 1 if survivors else 0


def read_mutants(subjects: Sequence[str] = ()) -> list[Mutant]:
    """The mutants of these modules of `experiments/mutants`, by default of all."""
    return [
        Mutant(path.stem, file, snippet, replacement, tuple(tests))
        for path in sorted(LISTS.glob("*.py"))
        if not subjects or path.stem in subjects
        for file, snippet, replacement, tests in run_path(str(path))["MUTANTS"]
    ]


def run(folder: Path, task: tuple[Mutant, str | None]) -> tuple[Mutant, str | None]:
    """The mutant and the test that kills it, None where it survives; the test that killed it before comes first."""
    mutant, earlier = task
    place = copy_of(folder / str(os.getpid()))
    with mutated(place / mutant.file, mutant):
        killer = first_failure(place, [earlier]) if earlier and "::" in earlier and _exists(earlier) else None
        return mutant, killer or first_failure(place, mutant.tests)


@contextmanager
def mutated(path: Path, mutant: Mutant) -> Iterator[None]:
    """The file with the guard taken out, as long as the context lasts."""
    original = path.read_text()
    changed = original.replace(mutant.snippet, mutant.replacement)
    compile(changed, mutant.file, "exec")
    path.write_text(changed)
    try:
        yield
    finally:
        path.write_text(original)


def copy_of(place: Path) -> Path:
    """A copy of the checkout at `place`, made if it is not there."""
    if not place.exists():
        place.mkdir()
        for source in (ROOT / name for name in COPIED if (ROOT / name).exists()):
            if source.is_dir():
                shutil.copytree(source, place / source.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place / source.name)
    return place


def first_failure(place: Path, tests: Sequence[str]) -> str | None:
    """The id of the first test that fails in the copy, or what else ended the run; None if all pass."""
    report = place / "first_failure"
    report.unlink(missing_ok=True)
    process = os.fork()
    if not process:
        _test(place, tests, report)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # what a test that was stopped has started
    if report.exists():
        return report.read_text()
    if status == -signal.SIGALRM:
        return "timeout"
    return None if status == 0 else f"status {status}"


def _test(place: Path, tests: Sequence[str], report: Path) -> None:
    """Run the tests in this process, which ends with pytest's status."""

    class FirstFailure:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            self._write(report)

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            self._write(report)

        def _write(self, failed: pytest.TestReport | pytest.CollectReport) -> None:
            if failed.failed and not report.exists():
                report.write_text(failed.nodeid or "collection")

    os.setsid()
    signal.alarm(TIMEOUT)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    os.chdir(place)
    sys.path[:0] = [str(place), str(place / "tests")]
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    status = 3
    try:
        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=[FirstFailure()]))
    finally:
        os._exit(status)


def stored_killers() -> dict[tuple[str, str], str | None]:
    """The test that killed each mutant (file and snippet) in the stored results."""
    rows = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    return {(row["file"], row["snippet"]): row["killed_by"] for row in rows}


def store(mutant: Mutant, killer: str | None) -> None:
    """Put a result into the file, where only mutants that are still listed stay."""
    killers, listed = {**stored_killers(), (mutant.file, mutant.snippet): killer}, read_mutants()
    rows = [
        {"subject": one.subject, "file": one.file, "snippet": one.snippet, "killed_by": killers[one.file, one.snippet]}
        for one in listed
        if (one.file, one.snippet) in killers
    ]
    survivors = sum(row["killed_by"] is None for row in rows)
    counts = {"listed": len(listed), "mutants": len(rows), "survivors": survivors}
    result = {"command": "python experiments/mutation.py", **counts, "rows": rows}
    OUT.write_text(json.dumps(result, indent=1) + "\n")


def require_green(place: Path) -> None:
    """Refuse the run if a test that killed a mutant fails without any mutant."""
    killers = sorted({killer for killer in stored_killers().values() if killer and "::" in killer})
    failure = first_failure(place, killers)
    if failure:
        raise SystemExit(f"{failure} fails on the unchanged copy too: what it killed is not judged")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
