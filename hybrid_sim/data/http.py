"""HTTP for downloads and small APIs: one retry layer, a deadline per attempt, errors that name it."""

from __future__ import annotations

import email.utils
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse
from typing import TypeVar

import tenacity

from hybrid_sim.core.errors import NetworkError

T = TypeVar("T")
_MAX_WAIT = 60.0


class _PassingError(NetworkError):
    """A fault that may be over at the next attempt; `after` is what the server asked to wait, in seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class Patience:
    """How long to bear with a server.

    `attempts` in all, up to `first_wait` seconds of pause after the first failure (twice as many after each
    further one), `deadline` seconds for one whole attempt.
    """

    attempts: int = 5
    first_wait: float = 0.5
    deadline: float = 60.0


def with_retries(work: Callable[[], T], patience: Patience) -> T:
    """The result of `work`, tried again after faults that may pass.

    Raises:
        NetworkError: the last attempt failed too, or a fault cannot pass.
    """
    backoff = tenacity.wait_random_exponential(multiplier=patience.first_wait, max=_MAX_WAIT)

    def wait(state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        asked = fault.after if isinstance(fault, _PassingError) else None
        return backoff(state) if asked is None else min(asked, _MAX_WAIT)

    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_PassingError),
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=wait,
        reraise=True,
    ):
        with attempt:
            result = work()
    return result


@contextmanager
def opened(
    address: str, patience: Patience, *, shown: str | None = None, headers: Mapping[str, str] | None = None
) -> Iterator[HTTPResponse]:
    """The answer to a GET request; messages name the address as `shown`, which holds no secret.

    Raises:
        NetworkError: the server cannot be reached, refuses, or breaks off.
    """
    shown = shown or address
    request = urllib.request.Request(address, headers={"User-Agent": "hybrid-sim", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=patience.deadline) as response:
            yield response
        return
    except urllib.error.HTTPError as error:
        with error:
            answered = f"{shown} answered {error.code} {error.reason}"
            after = _retry_after(error.headers.get("Retry-After"))
            passes = error.code in (408, 429) or error.code >= 500
        fault = _PassingError(answered, after) if passes else NetworkError(answered)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        fault = _PassingError(f"{shown} cannot be reached: {reason or type(error).__name__}")
    # Raised out here, without the cause: an HTTPError holds the whole address, and with it a key.
    raise fault


def chunks(response: HTTPResponse, patience: Patience, shown: str, limit: int) -> Iterator[bytes]:
    """The body in pieces, at most `limit` bytes, all within the deadline.

    Raises:
        NetworkError: the body is too long, too slow, or shorter than announced.
    """
    started, size = time.monotonic(), 0
    announced = response.headers.get("Content-Length")
    while piece := response.read1(1 << 16):
        size += len(piece)
        if size > limit:
            raise NetworkError(f"{shown} sends more than the {limit} bytes that are expected")
        if time.monotonic() - started > patience.deadline:
            raise _PassingError(f"{shown} is too slow: {size} bytes in {patience.deadline:g} s")
        yield piece
    if announced is not None and announced.isdigit() and size < int(announced):
        raise _PassingError(f"{shown} broke off after {size} of {announced} bytes")


def _retry_after(value: str | None) -> float | None:
    """Seconds from a number or an HTTP date; None where neither is understood."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None
