"""The dialect of a server: what its requests may hold, negotiated as it rejects fields, and request bodies.

Negotiated are how a JSON reply is requested, the name of the token limit, whether there are system messages, which
options of sampling are left out, and how many times the usual token limit a reasoning model needs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from hybrid_sim.core.errors import NetworkError, SettingsError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.question import BOUNDS, Question, without

MAX_TOKEN_FACTOR = 8
"""How many times the token limit of a question a reply may take whose reasoning has used up smaller limits."""

Form = Literal["bounded", "schema", "simple", "json", "none"]
"""How a JSON reply is requested: by a strict schema with bounds of lengths and numbers, by a strict schema, by a schema
of types alone, in JSON mode, by the prompt alone."""

_FORMS: tuple[Form, ...] = ("bounded", "schema", "simple", "json", "none")
_OF_SETTING: Mapping[str, tuple[Form, Form]] = {
    "auto": ("bounded", "none"), "schema": ("bounded", "simple"), "json": ("json", "json"), "none": ("none", "none"),
}  # fmt: skip
"""The first and the last form that is tried with each value of `llm.structured`."""

_SENTENCES: Mapping[Form, str] = {
    "bounded": "by a JSON schema",
    "schema": "by a JSON schema without bounds",
    "simple": "by a JSON schema of types alone",
    "json": "in JSON mode",
    "none": "by the prompt alone",
}
_TokenLimit = Literal["max_tokens", "max_completion_tokens"]
_TOKEN_LIMITS: tuple[_TokenLimit, _TokenLimit] = ("max_tokens", "max_completion_tokens")
_OPTIONS = ("temperature", "top_p", "seed")
_log = logging.getLogger(__name__)

_UNSUPPORTED = (
    "unsupported", "not support", "unrecognized", "unknown", "not allowed", "not permitted", "extra_forbidden",
    "extra inputs", "extra fields", "unexpected", "cannot find field", "invalid parameter",
)  # fmt: skip
_COMPILED = ("response_format", "response format", "json_schema", "json schema", "json_object", "grammar", "guided")
"""Words about a schema in an error of the server's own (500), as llama.cpp reports a grammar that does not compile."""

_ABOUT_FORM = (*_COMPILED, "schema", "json mode", "structured output", "additionalproperties", *map(str.lower, BOUNDS))
_NO_SYSTEM_ROLE = re.compile(
    r"\b(system|developer)['\"`]? (role|message|prompt|instruction)|\broles?\b.{0,20}\bsystem\b|got '?system\b"
    r"|roles must alternate|only user and assistant"
)
"""What chat templates say that know no system role: Gemma's, those of Llama 2 and Mistral, and Gemini of Gemma."""


class _Negotiated(BaseModel, extra="forbid", validate_assignment=True):
    """What is known of a server, as the journal keeps it."""

    form: Form
    token_limit: _TokenLimit
    has_renamed_limit: bool = False
    has_system_role: bool = True
    left_out: tuple[str, ...] = ()
    token_factor: int = 1


class Dialect:
    """What one server supports, as far as it is known; changed for the whole run when the server rejects a field.

    With `llm.structured = "auto"` replies are requested in the first `Form` that the server takes. They are validated
    in any case. `is_openai`: the token limit is called `max_completion_tokens` at first, and schemas have no bounds,
    which strict schemas of OpenAI may not have. `remembered` is the `note` of an earlier process of the run.
    """

    def __init__(self, settings: LLMSettings, *, is_openai: bool, remembered: str | None = None) -> None:
        self._settings = settings
        first, self._last = _OF_SETTING[settings.structured]
        form: Form = "schema" if is_openai and first == "bounded" else first
        self._now = _Negotiated(form=form, token_limit=_TOKEN_LIMITS[is_openai])
        if remembered:
            try:
                self._now = _Negotiated.model_validate_json(remembered)
            except ValidationError:
                _log.warning("what was negotiated with the server cannot be read and is negotiated again")

    @property
    def form(self) -> Form:
        """How a JSON reply is requested."""
        return self._now.form

    @property
    def note(self) -> str:
        """What was negotiated, as JSON."""
        return self._now.model_dump_json()

    @property
    def sentence(self) -> str:
        """How replies are requested and what is left out, for people."""
        parts = [f"replies are requested {_SENTENCES[self.form]}"]
        parts += [f"llm.{option} is left out" for option in self._now.left_out]
        if not self._now.has_system_role:
            parts.append("system messages are put into the user's")
        if self._now.token_factor > 1:
            parts.append(f"token limits are {self._now.token_factor} times the usual ones, for reasoning")
        return "; ".join(parts)

    def limit(self, max_tokens: int) -> int:
        """The token limit that is sent for a question of this limit."""
        return self._now.token_factor * max_tokens

    def enlarge(self) -> bool:
        """Double the token limits of all questions, which reasoning uses up; False where they are at their most."""
        if self._now.token_factor >= MAX_TOKEN_FACTOR:
            return False
        self._now.token_factor *= 2
        return True

    def body(self, question: Question, max_tokens: int) -> dict[str, Any]:
        """The body of the request for this question and a reply of at most so many tokens."""
        settings, left_out = self._settings, self._now.left_out
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": self._messages(question),
            "stream": False,
            self._now.token_limit: max_tokens,
        }
        options = {name: getattr(settings, name) for name in _OPTIONS if name not in left_out}
        body |= {name: value for name, value in options.items() if value is not None}
        if "seed" in body:
            body["seed"] += question.sample
        match self.form:
            case "bounded" | "schema" as form:
                schema = question.schema if form == "bounded" else without(question.schema, BOUNDS)
                body["response_format"] = _by_schema(schema, strict=True)
            case "simple":
                schema = without(question.schema, {*BOUNDS, "additionalProperties"})
                body["response_format"] = _by_schema(schema)
            case "json":
                body["response_format"] = {"type": "json_object"}
        return body

    def _messages(self, question: Question) -> list[dict[str, str]]:
        """The messages; in JSON mode one of them has to say "JSON"."""
        messages = [{"role": message.role, "content": message.content} for message in question.messages]
        if not self._now.has_system_role and messages[0]["role"] == "system" and len(messages) > 1:
            system = messages.pop(0)
            messages[0] = {**messages[0], "content": f"{system['content']}\n\n{messages[0]['content']}"}
        if self.form == "json" and not any("json" in message["content"].lower() for message in messages):
            messages[-1]["content"] += "\n\nReply in JSON."
        return messages

    def adapt(self, fields: Sequence[str], body: Mapping[str, Any], reason: str) -> None:
        """Negotiate, since the server has rejected `body` for one of these fields (see `rejected_fields`).

        `reason` is its message.

        Several calls in flight may be rejected for the same field, which changes the dialect once.

        Raises:
            SettingsError: nothing else can be tried without the user; the message names the setting.
            NetworkError: the server rejects what the request does not hold.
        """
        before = self.note
        field = next((field for field in fields if field in body or field not in _OPTIONS), fields[0])
        if field == "response_format":
            sent = _FORMS.index(_form_of(body))
            if sent < _FORMS.index(self.form):
                return
            if not self.step_down(sent):
                none_left = "no way to request JSON is left: use another llm.model or llm.base_url"
                cure = none_left if self._settings.structured == "auto" else 'set llm.structured = "auto"'
                raise SettingsError(f"{reason}; {cure}")
        elif field == "max_tokens":
            if self._now.token_limit not in body:
                return
            if self._now.has_renamed_limit:
                raise SettingsError(f"{reason}; it takes no token limit")
            self._now.token_limit = _TOKEN_LIMITS[self._now.token_limit == _TOKEN_LIMITS[0]]
            self._now.has_renamed_limit = True
        elif field == "system" and any(message["role"] == "system" for message in body["messages"]):
            self._now.has_system_role = False
        elif field in body:
            self._now.left_out = tuple(dict.fromkeys((*self._now.left_out, field)))
        else:
            raise NetworkError(f"{reason}; the request holds no {field}")
        if self.note != before:
            _log.warning("%s; %s", reason, self.sentence)

    def step_down(self, sent: int | None = None) -> bool:
        """Request replies in the form after the present one, or after number `sent`; False where there is none."""
        following = (_FORMS.index(self.form) if sent is None else sent) + 1
        if following > _FORMS.index(self._last):
            return False
        self._now.form = _FORMS[following]
        return True


def _by_schema(schema: Mapping[str, Any], **more: bool) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", **more, "schema": schema}}


def _form_of(body: Mapping[str, Any]) -> Form:
    """The least form in which the reply to this body is requested; a schema may have no bounds to leave out."""
    requested = body.get("response_format")
    if requested is None or requested["type"] == "json_object":
        return "json" if requested else "none"
    if "strict" not in requested["json_schema"]:
        return "simple"
    schema = requested["json_schema"]["schema"]
    return "schema" if schema == without(schema, BOUNDS) else "bounded"


def rejected_fields(param: Any, clues: str, *, own_fault: bool = False) -> tuple[str, ...]:
    """The fields of the request that an error may mean, likeliest first; none where it names none that can be adapted.

    `param` is the field that the error names, `clues` its code, type and message in lower case. `own_fault`: the status
    is one of the server's own faults, which count only where they tell of a grammar or of roles. The field "system" is
    the role of a message.
    """
    named = str(param or "").lower()
    if own_fault:
        is_form = any(word in clues for word in _COMPILED)
        return ("response_format",) if is_form else ("system",) if _NO_SYSTEM_ROLE.search(clues) else ()
    if "response_format" in named:
        return ("response_format",)
    words, is_unsupported = set(re.findall("[a-z_]+", clues)), any(word in clues for word in _UNSUPPORTED)
    options = tuple(name for name in _OPTIONS if name == named or (is_unsupported and name in words))
    if options:
        return options
    if any(word in clues for word in _ABOUT_FORM):
        return ("response_format",)
    if _NO_SYSTEM_ROLE.search(clues):
        return ("system",)
    return ("max_tokens",) if is_unsupported and not words.isdisjoint(_TOKEN_LIMITS) else ()
