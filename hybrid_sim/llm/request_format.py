"""The body of a request: names of fields differ between servers, and some servers lack structured output."""

from __future__ import annotations

import logging
from typing import Any

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.question import Question

_FORMATS = {"schema": "json_schema", "json": "json_object", "none": None}
_MODES = tuple(_FORMATS)
_log = logging.getLogger(__name__)
_FIELDS = ("max_tokens", "max_completion_tokens")


class RequestFormat:
    """Makes the bodies of requests to one server; adapted once for the whole run when the server rejects a field.

    With `structured = "auto"` replies are requested by JSON schema, else in JSON mode, else by the prompt alone. They
    are validated in any case.
    """

    def __init__(self, settings: LLMSettings, *, takes_new_token_field: bool) -> None:
        self._settings = settings
        self._mode: str = "schema" if settings.structured == "auto" else settings.structured
        self._field = _FIELDS[takes_new_token_field]
        self._has_changed_field = False

    @property
    def structured(self) -> str:
        """How JSON replies are requested now: "schema", "json" or "none"."""
        return self._mode

    def body(self, question: Question, max_tokens: int) -> dict[str, Any]:
        """The body of the request for this question and a reply of at most so many tokens."""
        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in question.messages],
            self._field: max_tokens,
        }
        for name in ("temperature", "top_p", "seed"):
            value = getattr(settings, name)
            if value is not None:
                body[name] = value + question.sample if name == "seed" else value
        if self._mode == "schema":
            schema = {"name": "reply", "strict": True, "schema": question.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._mode == "json":
            body["response_format"] = {"type": "json_object"}
        return body

    def adapt(self, field: str, body: dict[str, Any], reason: str) -> None:
        """Change the format, since the server has rejected a field of `body`; `reason` is its message.

        Several calls in flight may be rejected for the same field, which changes the format once.

        Raises:
            SettingsError: the format cannot be changed without the user; the message names the setting.
        """
        if field == "response_format":
            if (body.get("response_format") or {}).get("type") != _FORMATS[self._mode]:
                return
            if self._settings.structured != "auto" or self._mode == "none":
                raise SettingsError(f'{reason}; set llm.structured = "auto"')
            self._mode = _MODES[_MODES.index(self._mode) + 1]
            instead = "in JSON mode" if self._mode == "json" else "by the prompt alone"
            _log.info("%s; replies are requested %s instead", reason, instead)
        elif field == "max_tokens":
            if self._field not in body:
                return
            if self._has_changed_field:
                raise SettingsError(f"{reason}; it takes no token limit")
            self._field, self._has_changed_field = _FIELDS[self._field == _FIELDS[0]], True
        else:
            raise SettingsError(f"{reason}; give llm.{field} a value that the model takes, or --set llm.{field}=none")
