"""Replies read strictly: one JSON value, refused by size and depth before it is used, and nothing is repaired."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from hybrid_sim.core.errors import ReplyError
from hybrid_sim.core.files import first_mistake

MAX_BYTES = 200_000
"""A reply longer than this is refused; fifty ratings with reasons take about a tenth of it."""

MAX_DEPTH = 8
"""Objects and lists may be nested this deep; the replies that prompts ask for need three."""

_MAX_DIGITS = 20
_REASONING = re.compile(r"(?!\[[^T]).*?(</(think|thinking|thought|reasoning)>|\[/THINK\])", re.DOTALL)
"""Its end alone counts, since the chat templates of some models put the beginning into the prompt."""

_FENCE_TAG = re.compile(r"\A(?:[A-Za-z][\w.+-]*(?=\s)|json)")
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_R = TypeVar("_R", bound=BaseModel)


def read_json(text: str) -> Any:
    """The one JSON value that the reply consists of; it may stand in a Markdown fence, but not in prose.

    A block of reasoning before it (`<think>...</think>`) is set aside. Numbers are finite, no object names a key twice,
    and strings are valid Unicode.

    >>> read_json('```json\\n{"rating": 4}\\n```')
    {'rating': 4}
    >>> read_json('{"rating": NaN}')
    Traceback (most recent call last):
    hybrid_sim.core.errors.ReplyError: the reply holds NaN, which is no JSON number

    Raises:
        ReplyError: it is anything else, or is longer or nested deeper than allowed.
    """
    content = _content(text)
    _refuse_depth(content)
    try:
        value = _DECODER.decode(content)
        if "\\u" in content:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        start = f"{content[:60]!r}{'…' if len(content) > 60 else ''}"
        raise ReplyError(f"the reply is not JSON at character {error.pos} ({error.msg}): {start}") from None
    except UnicodeEncodeError:
        raise ReplyError("the reply holds half of a surrogate pair, which is no character") from None
    return value


def read_reply(text: str, model: type[_R]) -> _R:
    """The reply as this pydantic model, read as strictly as by `read_json`, with the model's keys and types alone.

    Declare a number by its bounds: a `Literal` of numbers takes `true` for 1 and 4.0 for 4, since they are equal.

    Raises:
        ReplyError: the reply is not JSON or not what the model asks for.
    """
    read_json(text)
    try:
        # Read from the text again because only there pydantic's strict mode takes a list for a tuple.
        return model.model_validate_json(_content(text), strict=True, extra="forbid")
    except ValidationError as error:
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ReplyError(f"the reply is not what was asked for: {first_mistake(error, 'the whole')}{more}") from None


def _content(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ReplyError("the reply is not valid Unicode") from None
    if size > MAX_BYTES:
        raise ReplyError(f"the reply is longer than {MAX_BYTES:,} bytes")
    return _unwrapped(text.strip())


def _unwrapped(text: str) -> str:
    """The reply without a leading block of reasoning, a Markdown fence, and the mark that ends a stream."""
    if text[:1] not in ("{", "`") and (reasoning := _REASONING.match(text)):
        text = text[reasoning.end() :].lstrip()
    text = text.removesuffix("data: [DONE]").rstrip()
    if text.startswith("```") and text.endswith("```"):
        return _FENCE_TAG.sub("", text[3:-3], count=1).strip()
    return text


def _refuse_depth(content: str) -> None:
    """Count brackets outside strings; the pattern takes an unclosed string to its end, so that time stays linear."""
    depth = 0
    for mark in _MARKS.findall(content):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark, 0)
        if depth > MAX_DEPTH:
            raise ReplyError(f"the reply is nested deeper than {MAX_DEPTH} levels")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ReplyError(f"the reply names the key {twice[:40]!r} twice in one object")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ReplyError(f"the reply holds {name}, which is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ReplyError(f"the reply holds {digits[:40]}, which is too large for a number")
    return number


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ReplyError(f"the reply holds an integer of {len(digits)} digits")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
)
