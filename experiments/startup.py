"""How long `import hybrid_sim` and `hybrid-sim --help` take, above a bare interpreter.

    python experiments/startup.py [REPEATS]     write experiments/results/startup.json

The median of paired differences: each repeat runs a bare interpreter, the import and the help one after the other, so
that other work on the machine disturbs all three alike. Wall-clock and processor seconds. A first round, which is not
counted, leaves the bytecode that an installed package has.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

RESULT = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "bare": ("-c", "pass"),
    "import hybrid_sim": ("-c", "import hybrid_sim"),
    "hybrid-sim --help": ("-m", "hybrid_sim", "--help"),
}


def main(words: list[str]) -> int:
    """Measure, print and store."""
    repeats = int(words[0]) if words else 15
    with TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        rounds = [{name: seconds(words, environment) for name, words in COMMANDS.items()} for _ in range(repeats + 1)]
    measured = rounds[1:]
    above = {
        name: {
            kind: round(statistics.median(one[name][place] - one["bare"][place] for one in measured), 3)
            for place, kind in enumerate(("wall_seconds", "cpu_seconds"))
        }
        for name in COMMANDS
        if name != "bare"
    }
    source = {"python": platform.python_version(), "platform": platform.platform(), "repeats": repeats}
    RESULT.write_text(json.dumps({"provenance": source, "above_a_bare_interpreter": above}, indent=1) + "\n")
    sys.stdout.write(f"{json.dumps(above, indent=1)}\n")
    return 0


def seconds(command: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one run."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
