"""How a question is put into a request: what servers call things, and what this one does not understand."""

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


class Dialect:
    """The body of requests to one server. It changes when the server says what it lacks, once for the whole run.

    With `structured = "auto"` replies are requested by JSON schema, else in JSON mode, else by the words of the prompt.
    They are checked in any case.
    """

    def __init__(self, settings: LLMSettings, *, takes_new_token_field: bool) -> None:
        self._settings = settings
        self._mode: str = "schema" if settings.structured == "auto" else settings.structured
        self._field = _FIELDS[takes_new_token_field]
        self._has_changed_field = False

    @property
    def structured(self) -> str:
        """How replies are requested now: "schema", "json" or "none"."""
        return self._mode

    def body(self, question: Question, max_tokens: int) -> dict[str, Any]:
        """The request for this question with a reply of at most so many tokens."""
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

    def adapt(self, lacks: str, body: dict[str, Any], said: str) -> None:
        """Ask otherwise from now on, since the server has refused `body` for what it lacks; `said` are its words.

        Several calls in flight may be refused for the same lack, which changes the dialect once.

        Raises:
            SettingsError: only the user can decide to ask otherwise; the message names the setting.
        """
        if lacks == "response_format":
            if (body.get("response_format") or {}).get("type") != _FORMATS[self._mode]:
                return
            if self._settings.structured != "auto" or self._mode == "none":
                raise SettingsError(f'{said}; set llm.structured = "auto"')
            self._mode = _MODES[_MODES.index(self._mode) + 1]
            _log.info("%s; replies are requested by %s instead", said, "JSON mode" if self._mode == "json" else "words")
        elif lacks == "max_tokens":
            if self._field not in body:
                return
            if self._has_changed_field:
                raise SettingsError(f"{said}; it takes no token limit")
            self._field, self._has_changed_field = _FIELDS[self._field == _FIELDS[0]], True
        else:
            raise SettingsError(f"{said}; give llm.{lacks} a value that the model takes, or --set llm.{lacks}=none")
