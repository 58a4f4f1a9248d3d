"""Dialects of servers for the loopback language model: which requests they refuse, and the form of their replies.

Errors are worded as the servers word them. Each answers rightly underneath: a client that negotiates gets every answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
Payload = dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """An error that a request of some form meets: always, or only with the first of every `once_in` such requests."""

    applies: Callable[[Body], bool]
    status: int
    error: Any
    once_in: int = 1


@dataclass(frozen=True)
class ServerDialect:
    """What a server refuses, and how it changes the OpenAI completion that it would send."""

    refusals: tuple[Refusal, ...] = ()
    dress: Callable[[Payload, int], bytes] = lambda payload, limit: json.dumps(payload).encode()
    """Makes the content of a response from the completion and the token limit of the request."""

    def refuse(self, number: int, body: Body) -> tuple[int, bytes] | None:
        """Status and content for request `number` with this body; None where it is answered."""
        for refusal in self.refusals:
            if refusal.applies(body) and number % refusal.once_in == 0:
                return refusal.status, json.dumps(refusal.error).encode()
        return None


def _openai(message: str, **more: Any) -> Any:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


def _vllm(message: str) -> Any:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


def _google(message: str) -> Any:
    return [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]


def _form(body: Body) -> str:
    return str((body.get("response_format") or {}).get("type"))


def _schema(body: Body) -> str:
    return json.dumps((body.get("response_format") or {}).get("json_schema") or {})


def _by_schema(body: Body) -> bool:
    return _form(body) == "json_schema"


def _says_json(body: Body) -> bool:
    return "json" in json.dumps(body["messages"]).lower()


def _has_system(body: Body) -> bool:
    return any(message["role"] == "system" for message in body["messages"])


def _content(change: Callable[[str], Any]) -> Callable[[Payload, int], bytes]:
    """Replies whose content is changed."""

    def dress(payload: Payload, limit: int) -> bytes:
        message = payload["choices"][0]["message"]
        message["content"] = change(message["content"])
        return json.dumps(payload).encode()

    return dress


def _reasoning_beside(name: str) -> Callable[[Payload, int], bytes]:
    def dress(payload: Payload, limit: int) -> bytes:
        payload["choices"][0]["message"][name] = 'They like {"slow": "stories"}.'
        return json.dumps(payload).encode()

    return dress


def _as_reasoning(payload: Payload, limit: int) -> bytes:
    message = payload["choices"][0]["message"]
    message["content"], message["reasoning_content"] = None, message["content"]
    return json.dumps(payload).encode()


def _streamed(payload: Payload, limit: int) -> bytes:
    """Server-sent events, though the request says that there shall be none."""
    choice, common = payload["choices"][0], {"id": payload["id"], "model": payload["model"]}
    text = choice["message"]["content"]
    deltas: list[Payload] = [{"role": "assistant", "content": ""}, {"reasoning_content": "Well, "}]
    deltas += [{"content": text[start : start + 7]} for start in range(0, len(text), 7)]
    events = [{**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({**common, "choices": [], "usage": payload["usage"]})
    lines = [f"data: {json.dumps(event)}" for event in events]
    return "\n\n".join([": keep-alive", *lines, "data: [DONE]", ""]).encode()


def thinks(n_tokens: int) -> Callable[[Payload, int], bytes]:
    """Replies that are cut off within their reasoning unless the token limit is greater than this."""

    def dress(payload: Payload, limit: int) -> bytes:
        choice, text = payload["choices"][0], "I wonder."
        if limit <= n_tokens:
            choice.update(finish_reason="length", message={"role": "assistant", "content": "<think>" + _PROSE})
        else:
            choice["message"]["content"] = f"<think>{text}</think>\n\n{choice['message']['content']}"
        return json.dumps(payload).encode()

    return dress


_PROSE = "They rated slow stories high and loud ones low, so the first film may please them and the second one may not."


def cut(text: str) -> Callable[[Payload, int], bytes]:
    """Replies of this text, cut off at the token limit."""

    def dress(payload: Payload, limit: int) -> bytes:
        payload["choices"][0].update(finish_reason="length", message={"role": "assistant", "content": text})
        return json.dumps(payload).encode()

    return dress


def streamed_in_part(payload: Payload, limit: int) -> bytes:
    """Server-sent events that break off."""
    return _streamed(payload, limit).partition(b'"finish_reason": "stop"')[0].rpartition(b"data:")[0]


_NO_BOUNDS = ("maxLength", "maxItems", "minItems", "maximum")


def _bounded(body: Body) -> bool:
    return any(f'"{name}"' in _schema(body) for name in _NO_BOUNDS)


def _unknown(name: str) -> Callable[[Body], bool]:
    return lambda body: name in body


DIALECTS: Mapping[str, ServerDialect] = {
    "plain": ServerDialect(),
    "vllm, xgrammar knows no bounds": ServerDialect((
        Refusal(_bounded, 400, _vllm("The provided JSON schema contains features not supported by xgrammar.")),
    )),
    "vllm, no guided decoding": ServerDialect((
        Refusal(_by_schema, 400, _vllm("Failed to compile grammar: unsupported schema")),
        Refusal(lambda body: _form(body) == "json_object", 400, _vllm("guided decoding backend is not available")),
    )),
    "vllm, template without system role": ServerDialect((
        Refusal(_has_system, 400, _vllm("System role not supported")),
    )),
    "vllm, roles alternate": ServerDialect((
        Refusal(_has_system, 400, _vllm("Conversation roles must alternate user/assistant/user/assistant/...")),
    )),
    "vllm, reasoning parser": ServerDialect(dress=_reasoning_beside("reasoning_content")),
    "vllm, reasoning parser without an end": ServerDialect(dress=_as_reasoning),
    "llama.cpp, grammar does not parse": ServerDialect((
        Refusal(
            _bounded, 400,
            {"error": {"code": 400, "message": "Failed to parse grammar", "type": "invalid_request_error"}},
        ),
    )),
    "llama.cpp, schema conversion fails": ServerDialect((
        Refusal(
            _by_schema, 500,
            {"error": {"code": 500, "message": "JSON schema conversion failed:\nUnrecognized schema: {}", "type":
                       "server_error"}},
        ),
    )),
    "llama.cpp, template without system role": ServerDialect((
        Refusal(
            _has_system, 500,
            {"error": {"code": 500, "message": "System role not supported at row 1, column 28", "type":
                       "server_error"}},
        ),
    )),
    "ollama, thinking in the content": ServerDialect(
        dress=_content(lambda text: f'<think>\nThey like {{"slow": "stories"}}.\n</think>\n\n{text}')
    ),
    "ollama, reasoning beside": ServerDialect(dress=_reasoning_beside("reasoning")),
    "deepseek, thinking only closed": ServerDialect(dress=_content(lambda text: f"They like it.\n</think>\n\n{text}")),
    "magistral, thinking in brackets": ServerDialect(dress=_content(lambda text: f"[THINK]Hm.[/THINK]{text}")),
    "mistral, parts and unknown fields": ServerDialect(
        (
            Refusal(
                _unknown("seed"), 422,
                {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg":
                 "Extra inputs are not permitted", "input": 7}]}, "type": "invalid_request_error"},
            ),
        ),
        _content(lambda text: [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": text},
        ]),
    ),
    "thinking beyond the token limit": ServerDialect(dress=thinks(3000)),
    "lm studio, no JSON mode": ServerDialect((
        Refusal(lambda body: _form(body) == "json_object", 400,
                {"error": "'response_format.type' must be 'json_schema' or 'text'"}),
        Refusal(_by_schema, 400, {"error": "Error in channel handler: failed to compile JSON schema"}),
    )),
    "sglang, grammar": ServerDialect((
        Refusal(
            _bounded, 400,
            {"object": "error", "message": "Invalid grammar request: minItems is not supported", "type": "BadRequest",
             "param": None, "code": 400},
        ),
    )),
    "gemini, unknown names": ServerDialect((
        Refusal(lambda body: "additionalProperties" in _schema(body), 400, _google(
            'Invalid JSON payload received. Unknown name "additionalProperties" at '
            "'generation_config.response_schema': Cannot find field."
        )),
        Refusal(_unknown("seed"), 400, _google(
            'Invalid JSON payload received. Unknown name "seed": Cannot find field.'
        )),
    )),
    "gemma by gemini, no system": ServerDialect((
        Refusal(_has_system, 400, _google("Developer instruction is not enabled for models/gemma-3-27b-it")),
    )),
    "groq, no schemas": ServerDialect((
        Refusal(_by_schema, 400, _openai(
            "This model does not support response format `json_schema`. See supported models at the documentation",
            param="response_format",
        )),
        Refusal(lambda body: _form(body) == "json_object" and not _says_json(body), 400, _openai(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )),
    )),
    "groq, validation fails now and then": ServerDialect((
        Refusal(lambda body: _form(body) != "None", 400, _openai(
            "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
            code="json_validate_failed", failed_generation='{"ratings": [{"item": 1, "temperature',
        ), once_in=3),
    )),
    "groq, validation always fails by schema": ServerDialect((
        Refusal(_by_schema, 400, _openai(
            "Generated JSON does not match the expected schema. Please adjust your prompt.", code="json_validate_failed"
        )),
    )),
    "openai, reasoning model": ServerDialect((
        Refusal(_unknown("max_tokens"), 400, _openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            param="max_tokens", code="unsupported_parameter",
        )),
        Refusal(lambda body: body.get("temperature") not in (None, 1), 400, _openai(
            "Unsupported value: 'temperature' does not support 0 with this model. "
            "Only the default (1) value is supported.",
            param="temperature", code="unsupported_value",
        )),
        Refusal(_unknown("top_p"), 400, _openai(
            "Unsupported parameter: 'top_p' is not supported with this model.", param="top_p",
            code="unsupported_parameter",
        )),
        Refusal(_bounded, 400, _openai(
            "Invalid schema for response_format 'reply': In context=('properties', 'reason'), "
            "'maxLength' is not permitted.",
            param="response_format",
        )),
    )),
    "litellm, parameters": ServerDialect((
        Refusal(lambda body: "seed" in body or "top_p" in body, 400, _openai(
            "litellm.UnsupportedParamsError: watsonx does not support parameters: ['seed', 'top_p'], for model=granite."
        )),
    )),
    "openrouter, error of a provider": ServerDialect((
        Refusal(_unknown("seed"), 400, {"error": {"message": "Provider returned error", "code": 400, "metadata": {
            "raw": '{"detail":"Unknown parameter: \'seed\'"}', "provider_name": "Somebody"}}}),
    )),
    "gateway, streams all the same": ServerDialect(dress=_streamed),
    "gateway, end of a stream after JSON": ServerDialect(
        dress=lambda payload, limit: json.dumps(payload).encode() + b"\n\ndata: [DONE]\n\n"
    ),
    "fences, any tag": ServerDialect(dress=_content(lambda text: f"```JSON5\n{text}\n```")),
    "end of a stream in the content": ServerDialect(dress=_content(lambda text: f"{text}\ndata: [DONE]")),
    "item numbers as text": ServerDialect(dress=_content(
        lambda text: text.replace('"item": 1', '"item": "1"').replace('"item": 2', '"item": "2"')
    )),
}  # fmt: skip
