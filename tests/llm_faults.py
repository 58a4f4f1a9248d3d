"""Every way in which the loopback language model can misbehave, by name, and plans that say when."""

from __future__ import annotations

import email.utils
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
Faults = Callable[[int, Body], str | None]
"""Names the fault for a request from its number (1, 2, ...) and its body; None answers it properly."""

HTML = "<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad Gateway</h1>" + "<p>nginx</p>" * 400
NUMBERS = (0.01, 1, 2)


@dataclass(frozen=True)
class Status:
    """A reply with an HTTP status other than 200."""

    status: int
    message: str
    code: str | None = None
    type: str = "invalid_request_error"
    headers: Callable[[], dict[str, str]] = dict
    applies: Callable[[Body], bool] = lambda body: True
    """A body that this is no answer to is answered properly."""

    def content(self) -> bytes:
        """The error as OpenAI writes it."""
        error = {"message": self.message, "type": self.type, "param": None, "code": self.code}
        return json.dumps({"error": error}).encode()


def _format(body: Body) -> str | None:
    kind: str | None = (body.get("response_format") or {}).get("type")
    return kind


def _limited(headers: Callable[[], dict[str, str]]) -> Status:
    return Status(429, "Rate limit reached for requests", "rate_limit_exceeded", "requests", headers)


STATUSES: dict[str, Status] = {
    "429_seconds": _limited(lambda: {"retry-after": "1"}),
    "429_short": _limited(lambda: {"retry-after": "0.05"}),
    "429_ms": _limited(lambda: {"retry-after-ms": "50"}),
    "429_date": _limited(lambda: {"retry-after": email.utils.formatdate(time.time() + 1, usegmt=True)}),
    "429_absent": _limited(dict),
    "429_hour": _limited(lambda: {"retry-after": "3600"}),
    "insufficient_quota": Status(
        429, "You exceeded your current quota, please check your plan", "insufficient_quota", "insufficient_quota"
    ),
    "402": Status(402, "Insufficient balance", "invalid_request_error", "unknown_error"),
    "401": Status(401, "Incorrect API key provided: sk-no***key.", "invalid_api_key"),
    "403": Status(403, "You are not allowed to use this model", "forbidden", "permission_error"),
    "404": Status(404, "The model `nobody` does not exist or you do not have access to it.", "model_not_found"),
    "context_length": Status(
        400,
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.",
        "context_length_exceeded",
    ),
    "context_llama": Status(
        400,
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        type="exceed_context_size_error",
    ),
    "400": Status(400, "Something in this request is not right"),
    "no_schema": Status(
        400,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        applies=lambda body: _format(body) == "json_schema",
    ),
    "no_json": Status(
        400, "'response_format' is not supported by this server", applies=lambda body: _format(body) is not None
    ),
    "no_temperature": Status(
        400,
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) is supported.",
        "unsupported_value",
        applies=lambda body: body.get("temperature") not in (None, 1),
    ),
    "no_max_tokens": Status(
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "unsupported_parameter",
        applies=lambda body: "max_tokens" in body,
    ),
    "no_max_completion_tokens": Status(
        400, "Unknown parameter: 'max_completion_tokens'", applies=lambda body: "max_completion_tokens" in body
    ),
    **{str(status): Status(status, "The server had an error", type="server_error") for status in (500, 502, 503, 504)},
}
"""Faults that are a status and an error; those of `no_...` only strike a body that asks for what is not there."""

WIRE = ("hang", "drip", "drop", "drop_after_work", "short_body", "truncated_body", "html", "html_502")
"""Faults of the connection: never an answer; a byte at a time; closed at once; closed when the work was done; closed
before the announced length; a whole reply whose JSON is cut; HTML with status 200 and with status 502."""

RATINGS: dict[str, str] = {
    "rating_text": '"4"',
    "rating_fraction": '"4/5"',
    "rating_word": '"four"',
    "rating_null": "null",
    "rating_nan": "NaN",
    "rating_infinity": "Infinity",
    "rating_overflow": "1e309",
    "rating_true": "true",
    "rating_list": "[4]",
    "rating_off_scale": "999",
    "rating_between": "3.141",
}
"""What stands in the place of the first rating of a reply, as JSON text."""

_MARK = "@@rating@@"


def spoil(name: str, payload: Body, number: int) -> bool:
    """Change the completion that request `number` gets; False when the fault is none in a completion."""
    rng = random.Random(f"{name} {number}")
    choice, usage = payload["choices"][0], payload["usage"]
    message = choice["message"]
    content: str = message["content"]
    change: dict[str, Callable[[], Any]] = {
        "empty": lambda: message.update(content=""),
        "null": lambda: message.update(content=None),
        "blank": lambda: message.update(content=" \n\t"),
        "refusal": lambda: message.update(content=None, refusal="I cannot help with that."),
        "content_filter": lambda: (message.update(content=None), choice.update(finish_reason="content_filter")),
        "no_choices": lambda: payload.update(choices=[]),
        "null_choices": lambda: payload.update(choices=None),
        "cut": lambda: (
            message.update(content=content[: rng.randrange(len(content))]),
            choice.update(finish_reason="length"),
        ),
        "usage_missing": lambda: payload.pop("usage"),
        "usage_null": lambda: payload.update(usage=None),
        "usage_zero": lambda: usage.update(prompt_tokens=0, completion_tokens=0, total_tokens=0),
        "prompt_cut": lambda: usage.update(prompt_tokens=min(usage["prompt_tokens"], 64)),
    }
    if name in change:
        change[name]()
        return True
    if name in REPLIES:
        message.update(content=REPLIES[name](content, rng))
        return True
    return False


PAYLOADS = (
    "empty", "null", "blank", "refusal", "content_filter", "no_choices", "null_choices", "cut",
    "usage_missing", "usage_null", "usage_zero", "prompt_cut",
)  # fmt: skip
"""Faults in what surrounds the reply's text."""


def _in_ratings(change: Callable[[list[Body], random.Random], None]) -> Callable[[str, random.Random], str]:
    """A reply whose list of ratings is changed; any other reply stays as it is."""

    def spoil(content: str, rng: random.Random) -> str:
        try:
            reply = json.loads(content)
        except json.JSONDecodeError:
            return content
        entries = reply.get("ratings") if isinstance(reply, dict) else None
        if not entries:
            return content
        change(entries, rng)
        return json.dumps(reply)

    return spoil


def _rating_as(text: str) -> Callable[[str, random.Random], str]:
    marked = _in_ratings(lambda entries, rng: entries[0].update(rating=_MARK))
    return lambda content, rng: marked(content, rng).replace(f'"{_MARK}"', text)


def _one_extra(content: str, rng: random.Random) -> str:
    reply = json.loads(content)
    reply["confidence"] = "high"
    return json.dumps(reply)


def _quoting(content: str, rng: random.Random) -> str:
    reply = json.loads(content)
    if "summary" in reply:
        reply["summary"] = "Loves comedies and rated Toy Story (1995) 5 out of 5 stars. " + reply["summary"]
    return json.dumps(reply)


REPLIES: dict[str, Callable[[str, random.Random], str]] = {
    "prose": lambda content, rng: "Sure! I would say that this user likes most of these films, about four stars.",
    "prose_around": lambda content, rng: f"Sure! Here it is:\n{content}\nI hope that this helps.",
    "fenced": lambda content, rng: f"```json\n{content}\n```",
    "not_json": lambda content, rng: content[: max(1, len(content) // 2)],
    "extra_key": _one_extra,
    "extra_key_in_entry": _in_ratings(lambda entries, rng: entries[0].update(confidence=0.9)),
    "deep": lambda content, rng: "[" * 100_000 + "]" * 100_000,
    "huge": lambda content, rng: json.dumps({"padding": "x" * 10_000_000}),
    "item_invented": _in_ratings(lambda entries, rng: entries.append({**entries[0], "item": len(entries) + 98})),
    "item_missing": _in_ratings(lambda entries, rng: entries.__delitem__(rng.randrange(len(entries)))),
    "item_duplicate": _in_ratings(lambda entries, rng: entries.append(dict(entries[0]))),
    "item_conflict": _in_ratings(
        lambda entries, rng: entries.append(
            {**entries[0], "rating": next(r for r in NUMBERS[1:] if r != entries[0]["rating"])}
        )
    ),
    "items_reordered": _in_ratings(lambda entries, rng: entries.reverse()),
    "quotes_ratings": _quoting,
    **{name: _rating_as(text) for name, text in RATINGS.items()},
}
"""Faults in the reply's text. Those of ratings leave replies without ratings alone, `quotes_ratings` those without a
summary."""

PASSING = (
    "500", "502", "503", "504", "429_short", "429_ms", "429_absent", "html", "html_502",
    "drop", "drop_after_work", "short_body", "truncated_body",
)  # fmt: skip
"""Faults that another attempt may cure, without the slow ones."""

NAMES = (*WIRE, *STATUSES, *PAYLOADS, *REPLIES)
"""All faults."""


@dataclass
class FaultPlan:
    """A share of the requests is struck, each by one of `kinds`, as decided by the seed.

    The decision rests on the body and on how often it has come, not on the order in which requests arrive, so that one
    worker and sixty-four meet the same faults.
    """

    seed: int = 0
    share: float = 0.2
    kinds: Sequence[str] = PASSING
    _seen: Counter[int] = field(default_factory=Counter, repr=False)

    def __post_init__(self) -> None:
        check_names(self.kinds)

    def __call__(self, number: int, body: Body) -> str | None:
        """The fault for this request."""
        which = hash_of(body)
        self._seen[which] += 1
        rng = random.Random(f"{self.seed} {which} {self._seen[which]}")
        return rng.choice(self.kinds) if rng.random() < self.share else None


def always(name: str) -> Faults:
    """Every request meets this fault."""
    check_names([name])
    return lambda number, body: name


def first(n: int, name: str) -> Faults:
    """The first `n` requests meet this fault."""
    check_names([name])
    return lambda number, body: name if number <= n else None


def once_each(name: str) -> Faults:
    """Every body meets this fault when it comes for the first time."""
    check_names([name])
    seen: set[int] = set()

    def strike(number: int, body: Body) -> str | None:
        which = hash_of(body)
        new = which not in seen
        seen.add(which)
        return name if new else None

    return strike


@dataclass
class Storm:
    """From request `start` on, everything is refused for `seconds` with the fault `name`."""

    start: int = 1
    seconds: float = 0.5
    name: str = "429_short"
    _since: float | None = field(default=None, repr=False)

    def __call__(self, number: int, body: Body) -> str | None:
        """The fault while the storm lasts."""
        if number < self.start:
            return None
        self._since = time.monotonic() if self._since is None else self._since
        return self.name if time.monotonic() - self._since < self.seconds else None


@dataclass
class RateLimit:
    """A server that takes `per_second` requests a second and refuses the others with the fault `name`."""

    per_second: float
    name: str = "429_short"
    _free: float | None = field(default=None, repr=False)
    _at: float = field(default=0.0, repr=False)

    def __call__(self, number: int, body: Body) -> str | None:
        """None while there is room: a bucket that holds a second's worth."""
        now = time.monotonic()
        free = self.per_second if self._free is None else self._free + (now - self._at) * self.per_second
        self._free, self._at = min(free, self.per_second), now
        if self._free < 1:
            return self.name
        self._free -= 1
        return None


def check_names(names: Sequence[str]) -> None:
    """Refuse a fault that does not exist, which would otherwise strike nobody."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"there is no fault {unknown[0]!r}; choose from {', '.join(NAMES)}")


def hash_of(body: Body) -> int:
    """A number for a body, the same whenever it comes again."""
    text = json.dumps(body, sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
