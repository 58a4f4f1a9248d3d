"""The outcome of one call: a reply, or a fault and its remedy. Only here HTTP statuses are interpreted."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hybrid_sim.core import files
from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError
from hybrid_sim.llm.dialect import rejected_field
from hybrid_sim.llm.question import Failure, FailureKind, Usage
from hybrid_sim.llm.rate_limiter import MAX_WAIT

Remedy = Literal["retry", "wait", "adapt", "again", "skip", "stop"]
"""Retry after a back-off; pause all calls (rate limit); adapt the dialect; request the reply once more; give up this
question; end the run."""

_MAYBE_WORKED = frozenset({408, 502, 504, *range(520, 528)})
"""Statuses that a gateway gives, so that the server behind it may have done the work, and charge for it."""

_QUOTA = (
    "insufficient_quota", "exceeded your current quota", "insufficient balance", "insufficient credits", "billing",
)  # fmt: skip
_CONTEXT = (
    "context_length_exceeded", "exceed_context_size", "maximum context length", "available context size",
    "context window", "context length", "prompt is too long",
)  # fmt: skip
_FILTERED = ("content_filter", "content management policy", "content_policy", "moderation", "flagged")


@dataclass(frozen=True)
class Reply:
    """A chat completion: its text, the tokens that the server counted, and the model that it names."""

    text: str
    usage: Usage
    model: str


@dataclass(frozen=True)
class Fault:
    """Why a call brought no reply, and the remedy.

    `after` is the pause in seconds that the server asks for. `unreached`: the request was not sent. `possibly_paid`:
    the server may have charged for the call, at a cost that is not known. `rejected_field` names the field of the
    request that the server does not support, `error` is what the run ends with.
    """

    remedy: Remedy
    message: str
    kind: FailureKind = "passing"
    usage: Usage = field(default_factory=Usage)
    after: float | None = None
    unreached: bool = False
    possibly_paid: bool = False
    rejected_field: str = ""
    error: HybridSimError | None = None

    @classmethod
    def stop(cls, error: HybridSimError) -> Fault:
        """The fault that ends the run with this error."""
        return cls("stop", str(error), "rejected", error=error)

    @property
    def failure(self) -> Failure:
        """The fault as the result of its question."""
        return Failure(self.kind, self.message, self.usage)

    def next_limit(self, max_tokens: int) -> int:
        """The token limit of the next request: twice as many for a reply that was cut off."""
        return 2 * max_tokens if self.kind == "cut" else max_tokens


def read_outcome(status: int, headers: Mapping[str, str], body: bytes, address: str) -> Reply | Fault:
    """The outcome that an HTTP reply of the endpoint at `address` means."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    start = shortened(body[:1000].decode(errors="replace"))
    if 200 <= status < 300:
        if isinstance(content, dict):
            return _read_completion(content, address)
        message = f"{address} answered {status} with what is no chat completion: {start}"
        return Fault("retry", message, possibly_paid=True)
    if 300 <= status < 400:
        where = shortened(headers.get("location", "somewhere else"))
        return Fault.stop(NetworkError(f"{address} has moved to {where}; put that into llm.base_url"))
    error = _error_in(content)
    return read_error(status, error if error.get("message") else {**error, "message": start}, address, headers)


def _read_completion(content: Mapping[str, Any], address: str) -> Reply | Fault:
    """The outcome that a chat completion, or an error in its place, means."""
    usage, choices = _usage(content.get("usage")), content.get("choices")
    if not choices and "error" in content:
        error = _error_in(content)
        code = error.get("code")
        return read_error(code if type(code) is int and code >= 400 else 500, error, address)

    def bad(remedy: Remedy, kind: FailureKind, message: str) -> Fault:
        return Fault(remedy, message, kind, usage, possibly_paid=not usage.is_complete)

    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return bad("again", "empty", "the reply holds no choices")
    text, reason = message.get("content"), choice.get("finish_reason")
    if message.get("refusal"):
        return bad("skip", "refused", f"the model refused: {shortened(str(message['refusal']))}")
    if reason == "content_filter":
        return bad("skip", "filtered", "the endpoint's content filter withheld the reply")
    if reason == "length":
        return bad("again", "cut", "the reply was cut off at the token limit")
    if not isinstance(text, str) or not text.strip():
        return bad("again", "empty", "the reply is empty")
    return Reply(text, usage, str(content.get("model") or ""))


def read_error(status: int, error: Mapping[str, Any], address: str, headers: Mapping[str, str] = {}) -> Fault:
    """The fault that an HTTP status of 400 or more with OpenAI's error object means."""
    reason = str(error.get("message") or "no reason given")
    shown = f"{address} answered {status}: {shortened(reason)}"
    clues = f"{error.get('code')} {error.get('type')} {reason}".lower()
    if status == 402 or (status == 429 and is_quota(clues)):
        cure = "the quota of the account is used up: raise it and run the same command again"
        return Fault.stop(BudgetError(f"{shown}; {cure}"))
    if status == 429:
        after = retry_after(headers)
        if after is not None and after > MAX_WAIT:
            cure = f"it asks to wait {after:,.0f} s: run the same command again then"
            return Fault.stop(BudgetError(f"{shown}; {cure}"))
        return Fault("wait", shown, after=after)
    if status in (400, 413, 422, 500) and (status == 413 or any(word in clues for word in _CONTEXT)):
        return Fault("skip", shown, "context")
    if status in (400, 403, 422) and any(word in clues for word in _FILTERED):
        return Fault("skip", shown, "filtered")
    if status in (400, 422):
        field = rejected_field(error.get("param"), clues)
        return Fault("adapt" if field else "skip", shown, "rejected", rejected_field=field)
    if status in (401, 403):
        return Fault.stop(NetworkError(f"{shown}; the key is refused: check OPENAI_API_KEY"))
    if status in (404, 405):
        return Fault.stop(NetworkError(f"{shown}; check llm.model and llm.base_url"))
    if status in (408, 409, 425) or status >= 500:
        return Fault("retry", shown, possibly_paid=status in _MAYBE_WORKED)
    return Fault("skip", shown, "rejected")


def is_quota(clues: str) -> bool:
    """Whether an error's code or message, in lower case, says that the account's quota or credit is used up."""
    return any(word in clues for word in _QUOTA)


def shortened(text: str) -> str:
    """The beginning of a server's message, on one line and safe to show."""
    return files.shortened(" ".join(text.split()), 200)


def _error_in(content: Any) -> Mapping[str, Any]:
    error = content.get("error", content) if isinstance(content, dict) else None
    return error if isinstance(error, dict) else {"message": error} if isinstance(error, str) else {}


def _usage(content: Any) -> Usage:
    """The counted tokens; a count of zero is none, since no reply takes none."""
    if not isinstance(content, dict):
        return Usage()
    details = content.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    counts = (content.get("prompt_tokens"), content.get("completion_tokens"), cached)
    prompt, completion, cached = (n if type(n) is int and 0 <= n < 1 << 40 else None for n in counts)
    return Usage(prompt or None, completion or None, cached)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms`, or from `retry-after` in seconds or as a date; None where none is understood."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        end = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
        now = email.utils.parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, end - now)
