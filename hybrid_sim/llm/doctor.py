"""Diagnosis of everything that a run with a language model needs: packages, disk, price, endpoint."""

from __future__ import annotations

import asyncio
import difflib
import importlib.metadata
import json
import os
import platform
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hybrid_sim.core.errors import HybridSimError, NetworkError, ReplyError, SettingsError, StorageError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.dialect import Dialect
from hybrid_sim.llm.outcomes import Fault, Reply, shortened
from hybrid_sim.llm.prices import FREE, price_of
from hybrid_sim.llm.question import Message, Question, object_schema
from hybrid_sim.llm.replies import read_json
from hybrid_sim.llm.transport import Endpoint, EndpointClient

LITTLE_DISK, NO_DISK = 1_000_000_000, 50_000_000
"""Bytes of free disk: a run of 100,000 answers takes some hundred megabytes; below the second, none is begun."""

SMALL_CONTEXT = 4096
"""Tokens below which the default prompts of ten items may not fit with their replies."""

_EXPECTED = 7
_ITEMS = ("The Slow River", "Storm over the Garden", "A Letter in Winter")
_TEXT, _NUMBER = {"type": "string", "maxLength": 300}, {"type": "integer", "minimum": 1, "maximum": len(_ITEMS)}
_ENTRY = object_schema({"item": _NUMBER, "reason": _TEXT, "rating": {"type": "integer", "enum": [_EXPECTED]}})
_QUESTION = Question(
    "doctor",
    (
        Message(
            "system",
            "You act as one person. Rate every item of a list from 1 to 5, and reply with JSON alone, in this form:\n"
            '{"ratings": [{"item": 1, "reason": "I love slow stories.", "rating": 4}]}',
        ),
        Message("user", json.dumps([{"item": k, "title": title} for k, title in enumerate(_ITEMS, 1)])),
    ),
    object_schema({"ratings": {"type": "array", "minItems": 3, "maxItems": 3, "items": _ENTRY}}),
    read_json,
    max_tokens=560,
)
"""Asks as a run does. Only a server that follows schemas gives the rating, which the prompt does not allow."""

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Finding:
    """The result of one check. `sentence` holds no secret; `exit_code` is that of a run that fails for it."""

    name: str
    state: Literal["ok", "warn", "bad"]
    sentence: str
    exit_code: int = 0


def _bad(name: str, sentence: str, error: type[HybridSimError]) -> Finding:
    """A finding for which a run would fail with this error."""
    return Finding(name, "bad", sentence, error.exit_code)


def examine(
    settings: LLMSettings, folder: Path, *, ask: bool = True, environment: Mapping[str, str] = os.environ
) -> list[Finding]:
    """Findings on packages, the disk under `folder`, and, where the settings name a model, on price and endpoint.

    Nothing is raised for what is broken. The endpoint gets a few requests and, with `ask`, a few small questions,
    which may cost a fraction of a cent.
    """
    findings = [*_packages(), _disk(folder)]
    if not settings.model:
        return findings
    try:
        endpoint = Endpoint.of(settings, environment)
    except SettingsError as error:
        return [*findings, _bad("endpoint", str(error), SettingsError)]
    has_key = bool(environment.get("OPENAI_API_KEY", "").strip())
    key = "is set and not shown" if has_key else f"is not set; {endpoint.address} is local and may need none"
    findings += [Finding("key", "ok", f"OPENAI_API_KEY {key}"), _price(settings, endpoint.address)]
    with ThreadPoolExecutor(1) as thread:  # A notebook has a loop of its own, and loops do not nest.
        return [*findings, *thread.submit(lambda: asyncio.run(_endpoint(settings, endpoint, ask=ask))).result()]


async def _endpoint(settings: LLMSettings, endpoint: Endpoint, *, ask: bool) -> list[Finding]:
    """Findings on the endpoint, every request with the limits of time and size of a run's."""
    try:
        client = EndpointClient(endpoint, 1, settings.deadline)
    except SettingsError as error:
        return [_bad("endpoint", str(error), SettingsError)]
    try:
        listed = await _request(client, f"{endpoint.address}/models")
        if isinstance(listed, Finding):
            return [listed]
        data = _at(listed, "data")
        models = [record for record in data if isinstance(record, dict)] if isinstance(data, list) else []
        findings = [Finding("endpoint", "ok", f"{endpoint.address} answers"), _model(settings.model, models)]
        if ask:
            findings.append(await _reply(settings, client))
        return [*findings, _context(settings, [size async for size in _reported_sizes(settings.model, client, models)])]
    finally:
        await client.close()


def _packages() -> Iterator[Finding]:
    """The versions of all packages that the library requires."""
    version, missing, installed = importlib.metadata.version, [], []
    for requirement in importlib.metadata.requires("hybrid-sim") or []:
        name = _REQUIREMENT.match(requirement)
        if name is None or "extra ==" in requirement:
            continue
        try:
            installed.append(f"{name[0]} {version(name[0])}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name[0])
    yield Finding("python", "ok", f"Python {platform.python_version()}, hybrid-sim {version('hybrid-sim')}")
    if missing:
        yield _bad("packages", f"not installed: {', '.join(missing)}; pip install {' '.join(missing)}", SettingsError)
    else:
        yield Finding("packages", "ok", ", ".join(installed))


def _disk(folder: Path) -> Finding:
    """Free space where the run's folder is or would be made."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        return _bad("disk", f"{place} is a file; name another folder", SettingsError)
    if not os.access(place, os.W_OK):
        return _bad("disk", f"{place} is not writable; name another folder", StorageError)
    free = shutil.disk_usage(place).free
    sentence = f"{free / 1e9:.1f} GB are free under {place}"
    if free < NO_DISK:
        return _bad("disk", f"{sentence}; free some space or name another folder", StorageError)
    return Finding("disk", "warn" if free < LITTLE_DISK else "ok", sentence)


def _price(settings: LLMSettings, address: str) -> Finding:
    try:
        price = price_of(settings.model, address, settings.prices)
    except SettingsError as error:
        return _bad("price", str(error), SettingsError)
    if price is None:
        cure = "--budget needs it in llm.prices; --max-calls does not"
        return Finding("price", "warn", f"unknown for {settings.model}: {cure}")
    if price == FREE:
        return Finding("price", "ok", f"{address} is local: nothing is paid")
    rates = (f"${rate / 1e6:g}" for rate in (price.input, price.cached_input, price.output))
    per_token = "{} per million tokens in, {} cached, {} out".format(*rates)
    return Finding("price", "ok", f"{settings.model}: {per_token}, by the dated price file")


async def _request(client: EndpointClient, url: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON under an address, None where there is none, or the finding that the endpoint cannot be used."""
    address, clean = client.endpoint.address, client.endpoint.without_key
    content = None if body is None else json.dumps(body).encode()
    response = await client.fetch("GET" if body is None else "POST", url, content)
    if isinstance(response, Fault):
        return _bad("endpoint", f"{response.message}; is it running?", NetworkError)
    text = shortened(clean(response.body[:5000].decode("utf-8", "replace")))
    if response.status in (401, 403):
        return _bad("endpoint", f"{address} refuses the key: {text}; check OPENAI_API_KEY", NetworkError)
    if response.status >= 500 or response.status == 429:
        return _bad("endpoint", f"{address} answered {response.status}: {text}", NetworkError)
    try:
        return json.loads(clean(response.body.decode())) if response.status == 200 else None
    except (ValueError, RecursionError):
        return _bad("endpoint", f"{address} answers, but not as a language model's server: {text}", NetworkError)


def _model(model: str, records: list[dict[str, Any]]) -> Finding:
    names = [str(record.get("id")) for record in records]
    if not names:
        return Finding("model", "warn", f"the server does not list its models, so {model} may or may not be there")
    if model in names:
        return Finding("model", "ok", f"{model} is one of {len(names)} models of the server")
    close = shortened(", ".join(difflib.get_close_matches(model, names, n=3, cutoff=0.3) or names[:3]))
    return Finding("model", "warn", f"{model} is not listed; the server has {close}: see llm.model")


async def _reply(settings: LLMSettings, client: EndpointClient) -> Finding:
    """How the server can be made to reply in JSON."""
    dialect = Dialect(settings, is_openai=client.endpoint.is_openai)
    try:
        reply = await _negotiate(dialect, client)
    except HybridSimError as error:
        return _bad("reply", str(error), type(error))
    if isinstance(reply, Fault):
        return Finding("reply", "warn", f"a small question got no answer: {reply.message}; {dialect.sentence}")
    if reply.usage.prompt_tokens is None:
        return Finding("reply", "warn", f"{dialect.sentence}, but tokens are not counted: costs stay unknown")
    if dialect.form in ("json", "none"):
        return Finding("reply", "warn", f"no JSON schemas here: {dialect.sentence}; they are checked in any case")
    try:
        is_kept = all(entry["rating"] == _EXPECTED for entry in read_json(reply.text)["ratings"])
    except (ReplyError, KeyError, TypeError):
        is_kept = False
    if is_kept:
        return Finding("reply", "ok", f"{dialect.sentence}; they keep to it")
    return Finding("reply", "warn", f"{dialect.sentence}; they do not keep to it, but are checked in any case")


async def _negotiate(dialect: Dialect, client: EndpointClient) -> Reply | Fault:
    """A reply, or a fault of the question that a run would survive.

    Raises:
        HybridSimError: a fault that would end a run.
    """
    while True:
        body = dialect.body(_QUESTION, dialect.limit(_QUESTION.max_tokens))
        outcome = await client.send(json.dumps(body).encode())
        if isinstance(outcome, Fault) and outcome.remedy in ("stop", "retry"):
            raise outcome.error or NetworkError(outcome.message)
        if isinstance(outcome, Fault) and outcome.remedy == "adapt":
            dialect.adapt(outcome.rejected_fields, body, outcome.message)
        elif isinstance(outcome, Reply) or not (outcome.is_reasoning and dialect.enlarge()):
            return outcome


def _context(settings: LLMSettings, reported: list[Any]) -> Finding:
    """Whether the context window that the server reports, or else that of the settings, is large enough."""
    served = next((size for size in reported if type(size) is int and size > 0), None)
    own = settings.context_tokens
    if served is None and own is None:
        return Finding("context", "ok", "the server does not tell its context size; llm.context_tokens can set it")
    if served is not None and own is not None and own > served:
        sentence = f"llm.context_tokens is {own:,}, the server has {served:,} tokens: lower it"
        return _bad("context", sentence, SettingsError)
    size = served or own or 0
    sentence = f"{size:,} tokens, {'as the server says' if served else 'as llm.context_tokens says'}"
    if size >= SMALL_CONTEXT:
        return Finding("context", "ok", sentence)
    cure = "raise it at the server, or lower rating.items_per_call"
    return Finding("context", "warn", f"{sentence}: prompts may not fit; {cure}")


async def _reported_sizes(model: str, client: EndpointClient, models: list[dict[str, Any]]) -> AsyncIterator[Any]:
    """What stands where servers report their context size: vLLM with its models, llama.cpp under /props, Ollama under
    /api/show; at last the size in training."""
    record = next((record for record in models if record.get("id") == model), models[0] if len(models) == 1 else {})
    yield record.get("max_model_len")
    if client.endpoint.is_openai:  # OpenAI and Azure serve nothing beside `/v1`
        return
    root = client.endpoint.address.removesuffix("/v1")
    yield _at(await _request(client, f"{root}/props"), "default_generation_settings", "n_ctx")
    model_info = _at(await _request(client, f"{root}/api/show", {"model": model}), "model_info")
    for name, value in model_info.items() if isinstance(model_info, dict) else ():
        if str(name).endswith(".context_length"):
            yield value
    yield _at(record, "meta", "n_ctx_train")


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
