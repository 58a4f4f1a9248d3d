"""Questions to a language model, their answers, and failures: the reasons why there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]

FailureKind = Literal[
    "empty", "refused", "filtered", "cut", "invalid", "copied", "too_large", "context", "rejected", "passing",
    "not_asked",
]  # fmt: skip
"""Why there is no answer: an empty reply; the model refused; a content filter; cut off at the token limit; an invalid
reply; a copy of the prompt's example; a reply beyond the size limit; a prompt beyond the context window; a 400 for
another reason; a transient fault at every attempt; not sent, because the run had stopped (budget, quota, endpoint,
disk, interruption)."""


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True)
class Question:
    """One request to a language model for a JSON reply.

    `prompt` names its template, with the version. `schema` is the JSON schema of the reply; its `BOUNDS` are for
    servers that keep to them. `check` parses a reply text and returns its value, or raises `ReplyError`. `sample`
    numbers repeated questions: each has an answer of its own.
    """

    prompt: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any]
    check: Callable[[str], Any] = field(compare=False, repr=False)
    max_tokens: int = 1000
    sample: int = 0

    def key(self, sampling: Mapping[str, Any]) -> str:
        """The idempotency key: SHA-256 over messages, schema, token limit, sample, and `sampling` with the model.

        Bounds in the schema are left out, as they depend on the server's dialect in any case.
        """
        content = {
            "messages": [[message.role, message.content] for message in self.messages],
            "schema": without(self.schema, BOUNDS),
            "max_tokens": self.max_tokens,
            "sample": self.sample,
            "sampling": dict(sampling),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Usage:
    """Token counts that the server reported; None where it reported none, which is not zero."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the server counted both prompt and reply."""
        return self.prompt_tokens is not None and self.completion_tokens is not None


@dataclass(frozen=True)
class Answer:
    """A reply that passed its question's check: its text, and the `value` that `check` returned."""

    text: str
    value: Any = field(compare=False)
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True)
class Failure:
    """Why a question has no answer. `message` is one line for people; it holds no secret."""

    kind: FailureKind
    message: str
    usage: Usage = Usage()


class LanguageModel(Protocol):
    """A client of a language model, or what stands in for one."""

    def ask(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        """The answer of each question, in order, or why there is none."""


BOUNDS = frozenset({"minItems", "maxItems", "maxLength", "minimum", "maximum"})
"""Keywords of a JSON schema that bound lengths and numbers, which some servers do not know."""


def without(schema: Any, keywords: Set[str]) -> Any:
    """The JSON schema without these keywords, whose values are no schemas; a property may have such a name.

    >>> without({"type": "object", "properties": {"minimum": {"type": "integer", "minimum": 1}}}, BOUNDS)
    {'type': 'object', 'properties': {'minimum': {'type': 'integer'}}}
    """
    if not isinstance(schema, Mapping):
        return schema
    kept = {name: part for name, part in schema.items() if name not in keywords or isinstance(part, Mapping)}
    return {name: without(part, keywords) for name, part in kept.items()}


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that has exactly these properties, as strict structured output wants it."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
