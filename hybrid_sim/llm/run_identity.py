"""What identifies a run, and in which settings two runs differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_ABSENT = object()
_DIGEST = re.compile("[0-9a-f]{64}")


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for each setting that is not the same, in order of names.

    >>> describe_differences({"llm": {"model": "a", "seed": 1}}, {"llm": {"model": "b", "seed": 1}, "data": "x"})
    ["data: not set in the run, 'x' now", "llm.model: 'a' in the run, 'b' now"]
    """
    old, new = dict(_leaves("", before)), dict(_leaves("", now))
    return [
        _phrase(name, old.get(name, _ABSENT), new.get(name, _ABSENT))
        for name in sorted(old.keys() | new.keys())
        if json.dumps(old.get(name, [_ABSENT]), default=str) != json.dumps(new.get(name, [_ABSENT]), default=str)
    ]


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), part)
    elif name:
        yield name, value


def _phrase(name: str, old: Any, new: Any) -> str:
    if all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (old, new)):
        return f"{name}: not those of the run"
    return f"{name}: {_shown(old)} in the run, {_shown(new)} now"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
