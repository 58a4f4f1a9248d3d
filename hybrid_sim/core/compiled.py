"""numba's compiler. Machine code is kept on disk where that can be done, and compiled again where it cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger("hybrid_sim")


def compiled(**options: Any) -> Callable[[F], F]:
    """A decorator that compiles a function at its first call; `options` as for `numba.njit`.

    The code is kept beside the source or in the user's cache folder; where neither can be written, as in many
    containers, each process compiles anew.
    """

    def decorate(function: F) -> F:
        dispatcher: Any = numba.njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]  # numba has no types
        except RuntimeError:
            _log.info("compiled code is not kept, no folder for it can be written (NUMBA_CACHE_DIR names one)")
        return cast(F, dispatcher)

    return decorate


class _Cache(FunctionCache):
    """numba's cache of a function, which is a help and never needed."""

    def load_overload(self, *args: Any) -> Any:
        """The compiled code for a signature; None where there is none, or it is damaged."""
        try:
            return super().load_overload(*args)  # type: ignore[no-untyped-call]  # numba has no types
        except Exception:  # noqa: BLE001  damaged pickles raise errors of any class
            _log.info("%s is damaged and compiled again", self._cache_file._index_path)
            self._discard()
            return None

    def save_overload(self, *args: Any) -> None:
        """Keep compiled code, unless the disk is full or the index is damaged."""
        try:
            super().save_overload(*args)  # type: ignore[no-untyped-call]  # numba has no types
        except Exception:  # noqa: BLE001  as above: the index is read first
            self._discard()

    def _discard(self) -> None:
        try:
            self.flush()  # type: ignore[no-untyped-call]  # numba has no types
        except OSError as error:
            _log.info("compiled code cannot be kept: %s", error)
