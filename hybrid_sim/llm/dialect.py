"""The dialect of a server: which fields requests may have, what is negotiated when it rejects one, and request bodies.

Negotiated are how a JSON reply is requested and the name of the token limit; other fields are left to the user.
"""

from __future__ import annotations

import logging
from typing import Any

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.question import Question

_log = logging.getLogger(__name__)
_MODES = ("schema", "json", "none")
_MODE_OF_TYPE = {"json_schema": "schema", "json_object": "json", None: "none"}
_FORMAT_WORDS = ("response_format", "json_schema", "json_object")
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
_OPTIONS = ("temperature", "top_p", "seed")
_UNSUPPORTED = ("unsupported", "not support", "unrecognized", "unknown parameter", "not allowed", "extra_forbidden")


class Dialect:
    """What one server supports, as far as it is known; changed for the whole run when the server rejects a field.

    With `llm.structured = "auto"` replies are requested by JSON schema, else in JSON mode, else by the prompt alone
    (`structured` is "schema", "json" or "none"). They are validated in any case. `is_openai`: the token limit is called
    `max_completion_tokens` at first.
    """

    def __init__(self, settings: LLMSettings, *, is_openai: bool) -> None:
        self._settings = settings
        self.structured: str = "schema" if settings.structured == "auto" else settings.structured
        self._token_limit = _TOKEN_LIMITS[is_openai]
        self._has_renamed_limit = False

    def body(self, question: Question, max_tokens: int) -> dict[str, Any]:
        """The body of the request for this question and a reply of at most so many tokens."""
        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in question.messages],
            self._token_limit: max_tokens,
        }
        body |= {name: value for name in _OPTIONS if (value := getattr(settings, name)) is not None}
        if settings.seed is not None:
            body["seed"] += question.sample
        if self.structured == "schema":
            schema = {"name": "reply", "strict": True, "schema": question.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.structured == "json":
            body["response_format"] = {"type": "json_object"}
        return body

    def adapt(self, field: str, body: dict[str, Any], reason: str) -> None:
        """Negotiate, since the server has rejected a field of `body` (see `rejected_field`); `reason` is its message.

        Several calls in flight may be rejected for the same field, which changes the dialect once.

        Raises:
            SettingsError: nothing else can be tried without the user; the message names the setting.
        """
        if field == "response_format":
            if _MODE_OF_TYPE[(body.get("response_format") or {}).get("type")] != self.structured:
                return
            if self._settings.structured != "auto" or self.structured == "none":
                raise SettingsError(f'{reason}; set llm.structured = "auto"')
            self.structured = _MODES[_MODES.index(self.structured) + 1]
            instead = "in JSON mode" if self.structured == "json" else "by the prompt alone"
            _log.info("%s; replies are requested %s instead", reason, instead)
        elif field == "max_tokens":
            if self._token_limit not in body:
                return
            if self._has_renamed_limit:
                raise SettingsError(f"{reason}; it takes no token limit")
            self._token_limit = _TOKEN_LIMITS[self._token_limit == _TOKEN_LIMITS[0]]
            self._has_renamed_limit = True
        else:
            raise SettingsError(f"{reason}; give llm.{field} a value that the model takes, or --set llm.{field}=none")


def rejected_field(param: Any, clues: str) -> str:
    """The field of the request that a 400 says is not supported; "" where it names none that can be adapted.

    `param` is the field that the error names, `clues` its code, type and message in lower case.
    """
    named = str(param or "").lower()
    is_unsupported = any(word in clues for word in _UNSUPPORTED)
    if "response_format" in named or any(word in clues for word in _FORMAT_WORDS):
        return "response_format"
    if is_unsupported and any(name in clues for name in _TOKEN_LIMITS):
        return "max_tokens"
    for option in _OPTIONS:
        if option == named or (is_unsupported and f"'{option}'" in clues):
            return option
    return ""
