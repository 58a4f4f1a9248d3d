"""The command line: `hybrid-sim bench | simulate | fit | predict | data | ...`.

Nothing heavy is imported before a command runs, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from hybrid_sim.cli.parsing import parse
from hybrid_sim.cli.terminal import messages, open_standard_streams, silence, warn
from hybrid_sim.core.errors import HybridSimError, InputError, StorageError
from hybrid_sim.core.memory import fit_libraries_into_limit, is_used_up

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; errors are one line on stderr.

    `--debug`, or the environment variable HYBRID_SIM_DEBUG, adds the traceback.
    """
    open_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or bool(os.environ.get("HYBRID_SIM_DEBUG"))
    try:
        fit_libraries_into_limit()
        with messages("--quiet" in words):
            options = parse(words)
            options.command = ["hybrid-sim", *words]
            with _cached_fits(options):
                status: int = options.run(options)
        sys.stdout.flush()
        return status
    except HybridSimError as error:
        if debug:
            traceback.print_exc()
        warn(f"hybrid-sim: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        warn("hybrid-sim: interrupted")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        silence(sys.stdout)
        return 0
    except OSError as error:
        if error.errno in FULL:
            warn(f"hybrid-sim: standard output cannot be written ({error.strerror}); free some space")
            silence(sys.stdout)
            return StorageError.exit_code
        return _out_of_memory(error, debug)
    except (MemoryError, ImportError, RuntimeError, SystemError) as error:
        return _out_of_memory(error, debug)


def _out_of_memory(error: Exception, debug: bool) -> int:
    """Say that the memory is used up, if that is why `error` was raised: libraries and threads fail in many ways."""
    if not isinstance(error, MemoryError) and not is_used_up():
        raise error
    if debug:
        traceback.print_exception(error)
    warn(f"hybrid-sim: the memory is used up ({error}); raise its limit, or use fewer ratings or members, or --jobs 1")
    return InputError.exit_code


def _cached_fits(options: argparse.Namespace) -> AbstractContextManager[None]:
    """The cache of fits, for a command that fits and has no --no-cache."""
    if getattr(options, "no_cache", True):
        return nullcontext()
    from hybrid_sim.core.fit_cache import caching_fits

    return caching_fits()
