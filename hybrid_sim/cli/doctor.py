"""`hybrid-sim doctor`: is everything there that a fit, or a run with a language model, needs?"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, refuse_options
from hybrid_sim.cli.settings import add_settings_options, read_settings
from hybrid_sim.cli.terminal import say

if TYPE_CHECKING:
    from hybrid_sim.llm.doctor import Finding

DESCRIPTION = """\
Looks at packages, embedding weights, the cache and the disk; with --model also at the price and the endpoint: whether
it answers, has the model, keeps to a JSON schema, and how large its context is. It is asked up to three tiny questions,
which may cost a fraction of a cent; --no-question leaves them out.

Exit status: 0 all well or nothing worse than a warning, 2 settings, 3 the endpoint, 5 the disk.
"""


def _add_options(parser: Parser) -> None:
    parser.option("-o --output RUN_DIR", "where a run would write", Path, default=Path())
    parser.option("--no-question", "do not ask the model anything")
    parser.option("--json", "print the findings as JSON")
    add_settings_options(parser)


def run(options: argparse.Namespace) -> int:
    """Examine, print a line per finding, and return the exit status of the worst."""
    from hybrid_sim.llm.doctor import examine

    settings = read_settings(options)
    if not settings.llm.model:
        refuse_options(options, ["no_question", "base_url"], "belongs to --model NAME")
    findings = [
        _embedder_finding(),
        _cache_finding(),
        *examine(settings.llm, options.output, ask=not options.no_question),
    ]
    if options.json:
        rows = [{name: part for name, part in asdict(one).items() if name != "exit_code"} for one in findings]
        sys.stdout.write(f"{json.dumps(rows, indent=2)}\n")
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            say(f"{finding.state:<4}  {finding.name:<{width}}  {finding.sentence}", sys.stdout)
    return next((finding.exit_code for finding in findings if finding.state == "bad"), 0)


def _embedder_finding() -> Finding:
    """Whether the weights of the sentence embedder are on this machine."""
    from hybrid_sim.llm.doctor import Finding
    from hybrid_sim.retrieval.minilm import INSTALL, MiniLM

    place = MiniLM().locate()
    if place is not None:
        return Finding("weights", "ok", f"all-MiniLM-L6-v2 is in {place}")
    return Finding("weights", "warn", f"all-MiniLM-L6-v2 will be downloaded (90 MB) when it is needed; or {INSTALL}")


def _cache_finding() -> Finding:
    """Where vectors and fits are kept, and how much that is."""
    from hybrid_sim.core.files import cache_folder
    from hybrid_sim.llm.doctor import Finding

    folder = cache_folder("fits").parent
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Finding("cache", "ok", f"{size / 1e9:.1f} GB of vectors and fits in {folder}; it may be removed at any time")


DOES = "what is missing on this machine, or for a language model"
COMMANDS.add("doctor", Command(DOES, DESCRIPTION, _add_options, run, "set up"))
