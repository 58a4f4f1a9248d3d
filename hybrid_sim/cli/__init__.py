"""The command line: `hybrid-sim bench | simulate | fit | predict | data | ...`.

Nothing heavy is imported before a command runs, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from hybrid_sim import __version__
from hybrid_sim.cli import (
    ablate,
    bench,
    cold,
    compare,
    data,
    doctor,
    fit,
    predict,
    profile,
    prompt,
    report,
    settings,
    simulate,
    validate,
    why,
)
from hybrid_sim.cli.parsing import Parser, parse
from hybrid_sim.cli.terminal import messages, say
from hybrid_sim.core.errors import HybridSimError

COMMANDS = (
    *(bench, ablate, validate),
    *(simulate, cold, fit, predict),
    *(why, report, compare, profile, prompt),
    *(settings, doctor, data),
)
"""The modules of the commands: judging, doing, looking, setting up."""

EPILOG = """\
Exit status: 0 done, 1 a defect of the program, 2 bad input or settings, 3 an endpoint or the network,
4 a budget or quota, 5 the disk, 6 done but some pairs failed, 130 interrupted. Try first: hybrid-sim bench
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; errors are one line on stderr.

    `--debug`, or the environment variable HYBRID_SIM_DEBUG, adds the traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or bool(os.environ.get("HYBRID_SIM_DEBUG"))
    try:
        options = parse(_parser(), words)
        options.words = words
        with messages(options.quiet):
            status: int = options.run(options)
        sys.stdout.flush()
        return status
    except HybridSimError as error:
        if debug:
            traceback.print_exc()
        say(f"hybrid-sim: {error}", sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        say("hybrid-sim: interrupted", sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough; nothing may be flushed into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> Parser:
    parser = Parser(
        prog="hybrid-sim",
        description="Simulate how users would rate items: a calibrated ensemble with a statistical fallback.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"hybrid-sim {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for module in COMMANDS:
        module.add_parser(commands)
    return parser
