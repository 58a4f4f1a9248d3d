"""HTTP GET for downloads and small APIs: retried, bounded in size and time; errors name the address."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import BinaryIO

import tenacity

from hybrid_sim.core.errors import NetworkError
from hybrid_sim.core.progress import track
from hybrid_sim.llm.outcomes import retry_after

_MAX_WAIT = 60.0


class _TransientError(NetworkError):
    """A fault that may be over at the next attempt; `after` is the pause in seconds that the server asks for."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class RetryPolicy:
    """At most `attempts` of `deadline` seconds each, with exponential back-off from `first_wait` seconds."""

    attempts: int = 5
    first_wait: float = 0.5
    deadline: float = 60.0


def fetch(
    address: str,
    policy: RetryPolicy,
    max_bytes: int,
    file: BinaryIO,
    *,
    label: str = "",
    shown: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Write the body of a GET request into `file`, with progress under `label` where one is given.

    Messages name the address as `shown`, which holds no secret.

    Raises:
        NetworkError: the last attempt failed too, or the server refuses or sends too much.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "hybrid-sim", **(headers or {})})
    backoff = tenacity.wait_random_exponential(multiplier=policy.first_wait, max=_MAX_WAIT)

    def wait(state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        asked = fault.after if isinstance(fault, _TransientError) else None
        return backoff(state) if asked is None else min(asked, _MAX_WAIT)

    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TransientError),
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=wait,
        reraise=True,
    ):
        with attempt:
            file.seek(0)
            file.truncate()
            _attempt(request, shown or address, policy.deadline, max_bytes, file, label)


def fetch_bytes(
    address: str,
    policy: RetryPolicy,
    max_bytes: int,
    *,
    shown: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The body of a GET request; as `fetch`."""
    content = BytesIO()
    fetch(address, policy, max_bytes, content, shown=shown, headers=headers)
    return content.getvalue()


def _attempt(
    request: urllib.request.Request, shown: str, deadline: float, max_bytes: int, file: BinaryIO, label: str
) -> None:
    try:
        with urllib.request.urlopen(request, timeout=deadline) as response:
            return _copy(response, shown, deadline, max_bytes, file, label)
    except urllib.error.HTTPError as error:
        with error:
            message = f"{shown} answered {error.code} {error.reason}"
            is_transient = error.code in (408, 429) or error.code >= 500
            after = retry_after({name.lower(): value for name, value in error.headers.items()})
            fault = _TransientError(message, after) if is_transient else NetworkError(message)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        fault = _TransientError(f"{shown} cannot be reached: {reason or type(error).__name__}")
    # Raised out here, without the cause: an HTTPError holds the whole address, and with it a key.
    raise fault


def _copy(response: HTTPResponse, shown: str, deadline: float, max_bytes: int, file: BinaryIO, label: str) -> None:
    started, size, total = time.monotonic(), 0, int(response.headers.get("Content-Length") or 0)
    with track(label, total) if label else nullcontext() as task:
        while piece := response.read1(1 << 16):
            size += len(piece)
            if size > max_bytes:
                raise NetworkError(f"{shown} sends more than the {max_bytes} bytes that are expected")
            if time.monotonic() - started > deadline:
                raise _TransientError(f"{shown} is too slow: {size} bytes in {deadline:g} s")
            file.write(piece)
            if task is not None:
                task.advance(len(piece))
    if size < total:
        raise _TransientError(f"{shown} broke off after {size} of {total} bytes")
