"""Mutation check: takes guards out of the package one at a time and says which of them no test notices.

    python experiments/mutation.py                   all mutants, into experiments/results/mutation.json
    python experiments/mutation.py llm simulation    those of experiments/mutants/llm.py and simulation.py alone
    python experiments/mutation.py --check           only whether every snippet occurs once in its file

A mutant is a guard of the package: a refusal, an exclusion, a bound, a rule of reuse. Each module of
`experiments/mutants` lists some as `(file, snippet, replacement, test files)`; the snippet occurs exactly once in the
file, the replacement takes the guard out. A mutant is killed if its test files fail on a copy of the checkout with the
replacement made, and survives if they pass. Test files pass on the unchanged copy, or the run is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from runpy import run_path

ROOT = Path(__file__).parents[1]
LISTS = Path(__file__).parent / "mutants"
OUT = Path(__file__).parent / "results" / "mutation.json"
COPIED = (
    "hybrid_sim",
    "tests",
    "experiments",
    "pyproject.toml",
    "README.md",
    "ARCHITECTURE.md",
    "constraints.txt",
    "docs",
    "CHANGELOG.md",
)
COMMAND = "python experiments/mutation.py"
WORKERS = 2
TIMEOUT = 900
"""Seconds after which a mutant counts as killed: the guard was what kept the work finite."""


@dataclass(frozen=True)
class Mutant:
    """A guard that can be taken out: `snippet` in `file` becomes `replacement`; `tests` should notice."""

    subject: str
    file: str
    snippet: str
    replacement: str
    tests: tuple[str, ...]

    def problem(self) -> str | None:
        """Why it cannot be applied, if it cannot."""
        path = ROOT / self.file
        count = path.read_text().count(self.snippet) if path.is_file() else 0
        return None if count == 1 else f"{self.file}: the snippet occurs {count} times: {self.snippet!r}"


def main(words: Sequence[str]) -> int:
    """Run what the words say; the status is 1 where a mutant survives or cannot be applied."""
    subjects = [word for word in words if not word.startswith("-")]
    mutants = read_mutants(subjects)
    problems = [problem for mutant in mutants if (problem := mutant.problem())]
    if problems or "--check" in words:
        sys.stdout.write("".join(f"{problem}\n" for problem in problems) or f"{len(mutants)} mutants apply\n")
        return 1 if problems else 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        copies: Queue[Path] = Queue()
        for number in range(WORKERS):
            copies.put(_copy(Path(folder) / str(number)))
        _require_green(Path(folder) / "0", sorted({test for mutant in mutants for test in mutant.tests}))
        killed = list(pool.map(lambda mutant: _is_killed(mutant, copies), mutants))
    rows = [{**asdict(mutant), "killed": dead} for mutant, dead in zip(mutants, killed, strict=True)]
    survivors = [row for row in rows if not row["killed"]]
    result = {
        "command": "python experiments/mutation.py",
        "mutants": len(rows),
        "survivors": len(survivors),
        "rows": rows,
    }
    if not subjects:
        OUT.write_text(json.dumps(result, indent=1) + "\n")
    for row in survivors:
        sys.stdout.write(f"survives: {row['file']}: {row['snippet']!r}\n")
    sys.stdout.write(f"{len(survivors)} of {len(rows)} survive\n")
    return 1 if survivors else 0


def read_mutants(subjects: Sequence[str] = ()) -> list[Mutant]:
    """The mutants of these modules of `experiments/mutants`, by default of all."""
    return [
        Mutant(path.stem, file, snippet, replacement, tuple(tests))
        for path in sorted(LISTS.glob("*.py"))
        if not subjects or path.stem in subjects
        for file, snippet, replacement, tests in run_path(str(path))["MUTANTS"]
    ]


def _is_killed(mutant: Mutant, copies: Queue[Path]) -> bool:
    place = copies.get()
    path = place / mutant.file
    original = path.read_text()
    mutated = original.replace(mutant.snippet, mutant.replacement)
    compile(mutated, mutant.file, "exec")
    path.write_text(mutated)
    killed = not _passes(place, mutant.tests)
    path.write_text(original)
    copies.put(place)
    sys.stdout.write(f"{'killed' if killed else 'SURVIVES'}: {mutant.file}: {mutant.snippet.splitlines()[0].strip()}\n")
    sys.stdout.flush()
    return killed


def _require_green(place: Path, tests: Sequence[str]) -> None:
    if not _passes(place, tests):
        raise SystemExit(f"the tests fail before any guard is taken out: {', '.join(tests)}")


def _copy(place: Path) -> Path:
    place.mkdir()
    for source in (ROOT / name for name in COPIED if (ROOT / name).exists()):
        if source.is_dir():
            shutil.copytree(source, place / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / source.name)
    return place


def _passes(place: Path, tests: Sequence[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1, 2):
        raise SystemExit(f"pytest {' '.join(tests)} ended with {done.returncode}:\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
