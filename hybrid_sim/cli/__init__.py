"""The command line: `hybrid-sim bench | simulate | fit | predict | data | ...`.

Nothing heavy is imported before a command runs, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from hybrid_sim.cli.parsing import parse
from hybrid_sim.cli.terminal import messages, say
from hybrid_sim.core.errors import HybridSimError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; errors are one line on stderr.

    `--debug`, or the environment variable HYBRID_SIM_DEBUG, adds the traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or bool(os.environ.get("HYBRID_SIM_DEBUG"))
    try:
        options = parse(words)
        options.command = ["hybrid-sim", *words]
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
