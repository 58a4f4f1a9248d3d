"""The outcome of one call: a reply, or a fault and its remedy. Only here HTTP statuses are interpreted."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hybrid_sim.core import files
from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError
from hybrid_sim.llm.dialect import rejected_fields
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
_INVALID_JSON = ("json_validate_failed", "failed to generate json", "generated json does not match")
"""What Groq says when the model's reply has not the form that was requested, which comes now and then."""

_SHORTEST_LOOP = 200
_OPENED = re.compile(r"\s*(<(think|thinking|thought|reasoning)>|\[THINK\])")
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
    the server may have charged for the call, at a cost that is not known. `is_reasoning`: the reasoning alone has used
    up the token limit. `rejected_fields` are those of the request that the server does not support, `error` is
    what the run ends with.
    """

    remedy: Remedy
    message: str
    kind: FailureKind = "passing"
    usage: Usage = field(default_factory=Usage)
    after: float | None = None
    unreached: bool = False
    possibly_paid: bool = False
    is_reasoning: bool = False
    rejected_fields: tuple[str, ...] = ()
    error: HybridSimError | None = None

    @classmethod
    def stop(cls, error: HybridSimError) -> Fault:
        """The fault that ends the run with this error."""
        return cls("stop", str(error), "rejected", error=error)

    @property
    def failure(self) -> Failure:
        """The fault as the result of its question."""
        return Failure(self.kind, self.message, self.usage)


def read_outcome(
    status: int, headers: Mapping[str, str], body: bytes, address: str, clean: Callable[[str], str] = str
) -> Reply | Fault:
    """The outcome that an HTTP reply of the endpoint at `address` means; `clean` removes the key from a text."""
    try:
        content = _cleaned(_parsed(body.decode(json.detect_encoding(body), "surrogatepass")), clean)
    except (ValueError, RecursionError):
        content = None
    start = shortened(clean(body[:5000].decode(errors="replace"))[:1000])
    if 200 <= status < 300:
        if isinstance(content, dict):
            return _read_completion(content, address)
        message = f"{address} answered {status} with what is no chat completion: {start}"
        return Fault("retry", message, possibly_paid=True)
    if 300 <= status < 400:
        where = shortened(clean(headers.get("location", "somewhere else")))
        return Fault.stop(NetworkError(f"{address} has moved to {where}; put that into llm.base_url"))
    error = _error_in(content)
    return read_error(status, error if error.get("message") else {**error, "message": start}, address, headers)


def _parsed(text: str) -> Any:
    """The JSON value in a body, or the chat completion that its server-sent events make together.

    Raises:
        ValueError: it is neither, or the events end before their end is announced.
    """
    text = text.strip()
    if not text.startswith(("data:", "event:", ":")):
        return json.loads(text.removesuffix("data: [DONE]"))
    lines = [line.removeprefix("data:").strip() for line in text.split("\n") if line.startswith("data:")]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    failed = [event for event in events if "error" in event or "message" in _first_choice(event)]
    return failed[0] if failed else _joined(events, is_complete="[DONE]" in lines)


def _joined(events: list[dict[str, Any]], *, is_complete: bool) -> dict[str, Any]:
    """The chat completion of which the events hold the pieces."""
    choices = [_first_choice(event) for event in events]
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    if not reasons and not is_complete:
        raise ValueError("the events have no end")
    deltas = [choice.get("delta") or {} for choice in choices]
    names = ("content", "reasoning_content", "reasoning", "refusal")
    pieces = {name: "".join(delta.get(name) or "" for delta in deltas) for name in names}
    usages = [event["usage"] for event in events if event.get("usage")]
    return {
        "choices": [{"message": pieces, "finish_reason": reasons[-1] if reasons else "stop"}],
        "usage": usages[-1] if usages else None,
        "model": next((event["model"] for event in events if event.get("model")), ""),
    }


def _first_choice(event: Any) -> dict[str, Any]:
    choices = event.get("choices") if isinstance(event, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """The JSON value with every text in it cleaned."""
    match value:
        case str():
            return clean(value)
        case list():
            return [_cleaned(part, clean) for part in value]
        case dict():
            return {clean(name): _cleaned(part, clean) for name, part in value.items()}
    return value


def _read_completion(content: Mapping[str, Any], address: str) -> Reply | Fault:
    """The outcome that a chat completion, or an error in its place, means."""
    usage, choices = _usage(content.get("usage")), content.get("choices")
    if not choices and "error" in content:
        error = _error_in(content)
        code = error.get("code")
        return read_error(code if type(code) is int and code >= 400 else 500, error, address)

    def bad(remedy: Remedy, kind: FailureKind, message: str, *, is_reasoning: bool = False) -> Fault:
        unknown = not usage.is_complete
        return Fault(remedy, message, kind, usage, possibly_paid=unknown, is_reasoning=is_reasoning)

    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return bad("again", "empty", "the reply holds no choices")
    text, reason = _text_of(message.get("content")), choice.get("finish_reason")
    if message.get("refusal"):
        return bad("skip", "refused", f"the model refused: {shortened(str(message['refusal']))}")
    if reason == "content_filter":
        return bad("skip", "filtered", "the endpoint's content filter withheld the reply")
    reasoning = _text_of(message.get("reasoning_content") or message.get("reasoning"))
    if reason == "length":
        if is_loop(text or reasoning):
            return bad("skip", "cut", "the reply repeats itself up to the token limit")
        if not text or (_OPENED.match(text) and "</" not in text):
            return bad("again", "cut", "the model's reasoning used up the token limit", is_reasoning=True)
        return bad("again", "cut", "the reply was cut off at the token limit")
    text = text or reasoning  # Some servers take a reply without a mark of its end for reasoning.
    if not text:
        return bad("again", "empty", "the reply is empty")
    return Reply(text, usage, str(content.get("model") or ""))


def _text_of(content: Any) -> str:
    """The text of a message's content, which may be a list of parts; "" where there is nothing but space."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
        content = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return content if isinstance(content, str) and content.strip() else ""


def is_loop(text: str) -> bool:
    """Whether the text ends in one passage four times over, at least 200 characters in all; numbers count as equal.

    >>> is_loop('{"ratings": [' + "".join(f'{{"item": {k}, "rating": 4}}, ' for k in range(1, 30)))
    True
    """
    end = re.sub(r"[0-9]+", "0", text[-4000:])[-2000:]
    for period in range(1, len(end) // 4 + 1):
        span = max(4 * period, _SHORTEST_LOOP)
        if len(end) >= span and end[-span:-period] == end[-span + period :]:
            return True
    return False


def read_error(status: int, error: Mapping[str, Any], address: str, headers: Mapping[str, str] = {}) -> Fault:
    """The fault that an HTTP status of 400 or more with OpenAI's error object means."""
    reason = str(error.get("message") or "no reason given")
    shown = f"{address} answered {status}: {shortened(reason)}"
    raw = error["metadata"].get("raw") if isinstance(error.get("metadata"), dict) else ""  # a gateway's upstream error
    clues = f"{error.get('code')} {error.get('type')} {error.get('status')} {reason} {raw}".lower()
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
    if status in (400, 422) and any(word in clues for word in _INVALID_JSON):
        return Fault("again", shown, "invalid", possibly_paid=True, rejected_fields=("response_format",))
    if status in (400, 422, 500, 501):
        fields = rejected_fields(error.get("param"), clues, own_fault=status >= 500)
        if fields or status < 500:
            return Fault("adapt" if fields else "skip", shown, "rejected", rejected_fields=fields)
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
    content = content[0] if isinstance(content, list) and content else content  # as Gemini wraps it
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
