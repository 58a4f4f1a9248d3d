"""Which dialects of servers are understood: python experiments/dialects.py [FILE].

A loopback server of each dialect, which answers rightly underneath, is asked about 36 pairs over HTTP. Counted are the
pairs that have a rating in the end, the calls that this took, rejected ones included, and those of a second run with
the same journal. Writes experiments/results/dialects.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from llm_provenance import source_of

from hybrid_sim.core.files import write_whole
from hybrid_sim.testing import tiny_dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from llm_dialects import DIALECTS
from llm_pairs import pairs_answered

OUT = Path(__file__).parent / "results" / "dialects.json"


def main(out: Path = OUT) -> None:
    """Ask, count, print and write."""
    rows, dataset = [], tiny_dataset()
    for name, dialect in DIALECTS.items():
        with tempfile.TemporaryDirectory() as folder:
            first, second = (pairs_answered(dialect, dataset, Path(folder)) for _ in range(2))
        counts = {"pairs": first.pairs, "answered": first.answered, "calls": first.calls}
        rows.append({"dialect": name, **counts, "calls_with_the_journal": second.calls})
    share = sum(row["answered"] for row in rows) / sum(row["pairs"] for row in rows)
    report = {"dialects": rows, "share_of_pairs_answered": share, "provenance": source_of(0)}
    write_whole(out, json.dumps(report, indent=1).encode())
    sys.stdout.write(f"{len(rows)} dialects: {share:.1%} of the pairs are answered\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
