"""What a language model is asked and what comes back: a question, its answer, or the reason why there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]

FailureKind = Literal[
    "empty", "refused", "filtered", "cut", "invalid", "too_large", "context", "rejected", "passing", "not_asked"
]
"""Why there is no answer: nothing in the reply; the model refused; a content filter; cut off at the token limit; not
what was asked for; a reply beyond the size limit; a prompt beyond the context size; a 400 for another reason; faults
that outlasted all attempts; never sent, because the run had stopped (budget, quota, endpoint, disk, interruption)."""


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True)
class Question:
    """One request to a language model for a JSON reply.

    `prompt` names the prompt that made it, with its version. `schema` is the JSON schema of the reply. `check` reads a
    reply text and returns what it means; it raises `ReplyError` for a reply that is not what was asked for. `sample`
    numbers repeated questions, so that each draws an answer of its own.
    """

    prompt: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any]
    check: Callable[[str], Any] = field(compare=False, repr=False)
    max_tokens: int = 1000
    sample: int = 0

    def key(self, sampling: Mapping[str, Any]) -> str:
        """SHA-256 over all that the answer may depend on: messages, schema, limit, sample, model and sampling."""
        content = {
            "messages": [[message.role, message.content] for message in self.messages],
            "schema": self.schema,
            "max_tokens": self.max_tokens,
            "sample": self.sample,
            "sampling": dict(sampling),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Usage:
    """Tokens that the server says it has counted; None where it did not say (which is not zero)."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True)
class Answer:
    """A reply that passed its question's check: the text as it came, and what `check` made of it."""

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


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that has exactly these properties, as strict structured output wants it."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
