"""What an endpoint is and can do, found out by asking it: reachable, model, structured replies, context size."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from hybrid_sim.core.errors import HybridSimError, NetworkError, ReplyError, SettingsError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.diagnosis import Finding, bad
from hybrid_sim.llm.outcomes import Fault, Reply, shortened
from hybrid_sim.llm.question import Message, Question
from hybrid_sim.llm.replies import read_json
from hybrid_sim.llm.request_format import Dialect
from hybrid_sim.llm.transport import Endpoint, Wire

SMALL_CONTEXT = 4096
"""Tokens below which the default prompts of ten items may not fit with their replies."""

_PATIENCE = 15.0
_NUMBER = 7
_SCHEMA = {
    "type": "object",
    "properties": {"lucky_number": {"type": "integer", "enum": [_NUMBER]}},
    "required": ["lucky_number"],
    "additionalProperties": False,
}


def examine_endpoint(settings: LLMSettings, endpoint: Endpoint, *, ask: bool = True) -> list[Finding]:
    """What there is to say about an endpoint; with `ask` it also gets a tiny question."""
    with _Visit(endpoint) as visit:
        return _examined(settings, endpoint, visit, ask)


def _examined(settings: LLMSettings, endpoint: Endpoint, visit: _Visit, ask: bool) -> list[Finding]:
    listed = visit.get("models")
    if isinstance(listed, Finding):
        return [listed]
    models = _records(listed)
    found = [Finding("endpoint", "ok", f"{endpoint.address} answers"), _model(settings.model, models)]
    if ask:
        found.append(_structured(settings, endpoint))
    return [*found, _context(settings, visit, models)]


class _Visit:
    """Short requests that tell what a server is."""

    def __init__(self, endpoint: Endpoint) -> None:
        import httpx2

        self._endpoint = endpoint
        headers, is_secure = {"Authorization": f"Bearer {endpoint.key}"}, endpoint.address.startswith("https:")
        self._http = httpx2.Client(headers=headers, timeout=_PATIENCE, verify=is_secure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def is_of_a_provider(self) -> bool:
        """Whether this is OpenAI or Azure, who tell nothing beside `/v1`."""
        return self._endpoint.takes_new_token_field

    def get(self, path: str) -> Any:
        """The JSON under an address below `/v1`, None where the server has none, or why the endpoint is no good."""
        return self._request("GET", f"{self._endpoint.address}/{path}")

    def beside(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON under an address beside `/v1`, None where there is none."""
        root = self._endpoint.address.removesuffix("/v1")
        answer = self._request("GET" if body is None else "POST", f"{root}/{path}", body)
        return None if isinstance(answer, Finding) else answer

    def _request(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        import httpx2

        address = self._endpoint.address
        try:
            reply = self._http.request(method, url, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            why = shortened(str(error)) or type(error).__name__
            return bad("endpoint", f"{address} cannot be reached: {why}; is it running?", NetworkError)
        said = shortened(self._endpoint.without_secret(reply.content).decode("utf-8", "replace"))
        if reply.status_code in (401, 403):
            return bad("endpoint", f"{address} refuses the key: {said}; check OPENAI_API_KEY", NetworkError)
        if reply.status_code >= 500 or reply.status_code == 429:
            return bad("endpoint", f"{address} answered {reply.status_code}: {said}", NetworkError)
        try:
            return reply.json() if reply.status_code == 200 else None
        except (ValueError, RecursionError):
            return bad("endpoint", f"{address} answers, but not as a language model's server: {said}", NetworkError)


def _records(listed: Any) -> list[dict[str, Any]]:
    data = listed.get("data") if isinstance(listed, dict) else None
    return [record for record in data if isinstance(record, dict)] if isinstance(data, list) else []


def _model(model: str, records: list[dict[str, Any]]) -> Finding:
    names = [str(record.get("id")) for record in records]
    if not names:
        return Finding("model", "warn", f"the server does not list its models, so {model} may or may not be there")
    if model in names:
        return Finding("model", "ok", f"{model} is one of {len(names)} models of the server")
    close = difflib.get_close_matches(model, names, n=3, cutoff=0.3) or names[:3]
    return Finding(
        "model", "warn", f"{model} is not listed; the server has {shortened(', '.join(close))}: see llm.model"
    )


def _structured(settings: LLMSettings, endpoint: Endpoint) -> Finding:
    """Ask for a number by schema in words that do not mention it: only who keeps to the schema gives it."""
    try:
        with ThreadPoolExecutor(1) as thread:  # A notebook has a loop of its own, and loops do not nest.
            mode, reply = thread.submit(lambda: asyncio.run(_ask(settings, endpoint))).result()
    except HybridSimError as error:
        return bad("reply", str(error), type(error))
    if isinstance(reply, Fault):
        return Finding("reply", "warn", f"a tiny question got no answer: {reply.message}")
    if reply.usage.prompt_tokens is None:
        return Finding("reply", "warn", f"replies by {mode} come, but tokens are not counted: costs stay unknown")
    keeps = _is_number(reply.text)
    if mode == "schema":
        said = (
            "replies keep to a JSON schema"
            if keeps
            else "a JSON schema is taken but not kept to; replies are checked here"
        )
        return Finding("reply", "ok" if keeps else "warn", said)
    said = "JSON mode" if mode == "json" else "the prompt's words alone"
    return Finding("reply", "warn", f"no JSON schemas here: replies are requested by {said} and checked here")


async def _ask(settings: LLMSettings, endpoint: Endpoint) -> tuple[str, Reply | Fault]:
    """How replies are requested in the end, and one of them, or why there is none that a run would not survive.

    Raises:
        HybridSimError: what would end a run.
    """
    dialect = Dialect(settings, takes_new_token_field=endpoint.takes_new_token_field)
    words = (Message("user", "Reply in JSON with anything you like."),)
    question = Question("doctor", words, _SCHEMA, read_json, max_tokens=300)
    wire = Wire(endpoint, 1, settings.deadline)
    try:
        while True:
            body = dialect.body(question, question.max_tokens)
            outcome = await wire.send(json.dumps(body).encode())
            if isinstance(outcome, Fault) and outcome.remedy in ("stop", "retry"):
                raise outcome.error or NetworkError(outcome.message)
            if isinstance(outcome, Reply) or outcome.remedy != "adapt":
                return dialect.structured, outcome
            dialect.adapt(outcome.lacks, body, outcome.message)
    finally:
        await wire.close()


def _is_number(text: str) -> bool:
    try:
        return bool(read_json(text) == {"lucky_number": _NUMBER})
    except ReplyError:
        return False


def _context(settings: LLMSettings, visit: _Visit, models: list[dict[str, Any]]) -> Finding:
    """The context size that the server tells, each kind of server in a place of its own."""
    told = next((size for size in _told_sizes(settings.model, visit, models)), None)
    mine = settings.context_tokens
    if told is None and mine is None:
        return Finding("context", "ok", "the server does not tell its context size; llm.context_tokens can set it")
    if told is not None and mine is not None and mine > told:
        return bad(
            "context", f"llm.context_tokens is {mine:,}, the server has {told:,} tokens: lower it", SettingsError
        )
    size = told or mine or 0
    said = f"{size:,} tokens, {'as the server says' if told else 'as llm.context_tokens says'}"
    if size < SMALL_CONTEXT:
        return Finding(
            "context", "warn", f"{said}: prompts may not fit; raise it at the server, or lower rating.items_per_call"
        )
    return Finding("context", "ok", said)


def _told_sizes(model: str, visit: _Visit, models: list[dict[str, Any]]) -> Iterator[int]:
    """vLLM tells it with its models, llama.cpp under /props, Ollama under /api/show; else the size in training."""
    record = next((record for record in models if record.get("id") == model), models[0] if len(models) == 1 else {})
    yield from _number(record.get("max_model_len"))
    if visit.is_of_a_provider:
        return
    yield from _number(_at(visit.beside("props"), "default_generation_settings", "n_ctx"))
    shown = _at(visit.beside("api/show", {"model": model}), "model_info")
    for name, value in shown.items() if isinstance(shown, dict) else ():
        if str(name).endswith(".context_length"):
            yield from _number(value)
    yield from _number(_at(record, "meta", "n_ctx_train"))


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> Iterator[int]:
    if type(value) is int and value > 0:
        yield value
