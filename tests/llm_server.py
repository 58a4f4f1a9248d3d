"""A language model's server on this machine, spoken to over real HTTP, with an adjustable mind and every fault by name.

In a test, in a thread of its own::

    with LoopbackLLM(faults=FaultPlan(seed=1, share=0.2)) as server:
        ... server.url, server.requests, server.counts ...

In an experiment, in processes of its own: `with apart(latency=0.2, workers=2) as url`, or from a shell
`python tests/llm_server.py --latency 0.2`, which prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiohttp import web
from llm_batches import Batches
from llm_dialects import ServerDialect
from llm_faults import (
    HTML,
    NAMES,
    PASSING,
    STATUSES,
    WIRE,
    Body,
    FaultPlan,
    Faults,
    RateLimit,
    Storm,
    always,
    first,
    once_each,
    spoil,
)
from llm_minds import Mind, echo_schema, rating_mind

__all__ = [
    "DEAD_ADDRESS", "NAMES", "PASSING", "FaultPlan", "LoopbackLLM", "RateLimit", "Received", "Storm", "always", "apart",
    "echo_schema", "first", "once_each", "rating_mind",
]  # fmt: skip

DEAD_ADDRESS = "http://127.0.0.1:1/v1"
"""Where nobody listens, so that connections are refused; a free port might be taken by a server of another test."""

Flavour = Literal["openai", "vllm", "llama.cpp", "ollama"]


@dataclass
class Received:
    """A chat request as it came, and what became of it.

    `at` is the monotonic time of arrival. `outcome` is "answered", the name of the fault, "gone" (the client had closed
    the connection before the reply was written) or, until one of these holds, "waiting". `reply` is the text in the
    message that was sent, None where none was; the whole reply then had been handed to the kernel.
    """

    number: int
    body: Body
    headers: Mapping[str, str]
    at: float
    outcome: str = "waiting"
    reply: str | None = None


@dataclass
class LoopbackLLM:
    """The server; a context manager that is up inside the `with` block.

    `mind` makes the text of a reply, `faults` names what goes wrong with a request (None: nothing), `latency` is the
    seconds that every reply takes, `drip` those between two bytes of the fault of that name. A prompt and reply beyond
    `context_tokens` are refused, a reply beyond the request's own limit is cut, as real servers do; a token is four
    characters. `flavour` says where, besides, the server tells its context size, `dialect` what it refuses and how its
    replies look. `batches` holds files and batches.
    """

    mind: Mind = field(default_factory=rating_mind)
    faults: Faults | None = None
    latency: float = 0.0
    drip: float = 1.0
    models: Sequence[str] = ("loopback",)
    context_tokens: int | None = None
    flavour: Flavour = "openai"
    dialect: ServerDialect = field(default_factory=ServerDialect)
    keep: bool = True
    port: int = 0
    shared_port: bool = False

    def __post_init__(self) -> None:
        self._requests: list[Received] = []
        self._counts: Counter[str] = Counter()
        self.visits: Counter[str] = Counter()
        self.batches = Batches(self._result)
        self._number = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="loopback", daemon=True)

    @property
    def url(self) -> str:
        """The address up to `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> list[Received]:
        """All chat requests, in order of arrival."""
        self._catch_up()
        return list(self._requests)

    @property
    def counts(self) -> Counter[str]:
        """How many chat requests had which outcome."""
        self._catch_up()
        return Counter(self._counts)

    @property
    def bodies(self) -> list[Body]:
        """The bodies of all chat requests, in order of arrival."""
        return [received.body for received in self.requests]

    @property
    def answered(self) -> list[Received]:
        """The chat requests whose proper answer was sent whole."""
        return [received for received in self.requests if received.outcome == "answered"]

    @property
    def n_requests(self) -> int:
        """How many chat requests have come."""
        return self._number

    def __enter__(self) -> LoopbackLLM:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the loopback server did not start")
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _catch_up(self) -> None:
        """Let the server's loop note what it has just sent: a client may hold a reply a moment before."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            noted = threading.Event()
            self._loop.call_soon_threadsafe(noted.set)
            noted.wait(1)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        handler = web.Server(self._handle, access_log=None, keepalive_timeout=600)
        listener = await self._loop.create_server(
            handler, "127.0.0.1", self.port, backlog=4096, reuse_port=self.shared_port or None
        )
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        listener.close()
        await handler.shutdown(0.05)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.rstrip("/")
        self.visits[f"{request.method} {path}"] += 1
        if path == "/v1/chat/completions" and request.method == "POST":
            return await self._chat(request)
        if path.startswith(("/v1/files", "/v1/batches")):
            return await self.batches.handle(request, path)
        said = self._said_of_itself(path)
        return web.json_response(
            {"error": {"message": f"no {path} here"}} if said is None else said, status=404 if said is None else 200
        )

    def _said_of_itself(self, path: str) -> Body | None:
        """What the server tells about itself, each flavour in its own place."""
        context = self.context_tokens
        if path == "/v1/models":
            entry: Body = {"object": "model", "created": 0, "owned_by": "loopback"}
            if self.flavour == "vllm":
                entry["max_model_len"] = context
            if self.flavour == "llama.cpp":
                entry["meta"] = {"n_ctx_train": context}
            return {"object": "list", "data": [{"id": name, **entry} for name in self.models]}
        if path == "/props" and self.flavour == "llama.cpp":
            return {"default_generation_settings": {"n_ctx": context}, "total_slots": 1}
        if path == "/api/show" and self.flavour == "ollama":
            return {"model_info": {"general.architecture": "llama", "llama.context_length": context}}
        return {"counts": dict(self._counts), "n_requests": self._number} if path == "/counts" else None

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body = json.loads(await request.read())
        self._number += 1
        received = Received(self._number, body, request.headers, time.monotonic())
        if self.keep:
            self._requests.append(received)
        fault = self.faults(received.number, body) if self.faults else None
        if fault == "hang":
            self._settle(received, fault)
            await self._stop.wait()
        if fault == "drop":
            return self._dropped(request, received, fault)
        if self.latency:
            await asyncio.sleep(self.latency)
        status, headers, content, reply, struck = self._result(received.number, body, fault)
        if struck in WIRE:
            return await self._spoilt(request, received, struck, content)
        response = web.Response(status=status, headers=headers, body=content, content_type="application/json")
        return await self._sent(request, received, response, struck or "answered", reply)

    async def _sent(
        self, request: web.BaseRequest, received: Received, response: web.Response, outcome: str, reply: str | None
    ) -> web.Response:
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            self._settle(received, "gone")
        else:
            received.reply = reply
            self._settle(received, outcome)
        return response

    async def _spoilt(
        self, request: web.BaseRequest, received: Received, fault: str, content: bytes
    ) -> web.StreamResponse:
        """What the faults of the connection make of a reply that was ready."""
        transport = request.transport
        if fault == "drop_after_work" or transport is None:
            return self._dropped(request, received, fault)
        if fault in ("html", "html_502"):
            page = web.Response(status=200 if fault == "html" else 502, text=HTML, content_type="text/html")
            return await self._sent(request, received, page, fault, None)
        if fault == "truncated_body":
            cut = web.Response(body=content[: len(content) // 2], content_type="application/json")
            return await self._sent(request, received, cut, fault, None)
        self._settle(received, fault)
        transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
        )
        if fault == "short_body":
            transport.write(content[: len(content) // 2])
            transport.close()
        for byte in content if fault == "drip" else b"":
            if transport.is_closing() or self._stop.is_set():
                break
            transport.write(bytes([byte]))
            await asyncio.sleep(self.drip)
        return self._dropped(request, None, fault)

    def _dropped(self, request: web.BaseRequest, received: Received | None, fault: str) -> web.StreamResponse:
        """Close the connection without another byte."""
        if received is not None:
            self._settle(received, fault)
        if request.transport is not None and not request.transport.is_closing():
            request.transport.abort()
        return web.Response()

    def _settle(self, received: Received, outcome: str) -> None:
        received.outcome = outcome
        self._counts[outcome] += 1

    def _result(
        self, number: int, body: Body, fault: str | None
    ) -> tuple[int, Mapping[str, str], bytes, str | None, str | None]:
        """Status, headers, content, the text in it, and the fault that struck: None where it did not apply."""
        status = STATUSES.get(fault or "")
        if status is not None and not status.applies(body):
            status = fault = None
        prompt = sum(len(str(message.get("content") or "")) for message in body["messages"]) // 4 + 4
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 100_000
        if status is None and self.context_tokens is not None and prompt > self.context_tokens:
            fault, status = "context_length", STATUSES["context_length"]
        if status is not None:
            return status.status, status.headers(), status.content(), None, fault
        refusal = self.dialect.refuse(number, body)
        if refusal is not None:
            return refusal[0], {}, refusal[1], None, "refused"
        text = self.mind(body)
        payload = _completion(number, body, text[: 4 * limit], prompt, len(text) > 4 * limit)
        if fault is not None and fault not in WIRE and not spoil(fault, payload, number):
            raise ValueError(f"there is no fault {fault!r}")
        choices = payload["choices"] or [{"message": {"content": None}}]
        reply = choices[0]["message"]["content"]
        return 200, {}, self.dialect.dress(payload, limit), reply, fault


def _completion(number: int, body: Body, text: str, prompt_tokens: int, cut: bool) -> Body:
    tokens = len(text) // 4 + 1
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", "loopback"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": "length" if cut else "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


@contextmanager
def apart(
    latency: float = 0.0,
    workers: int = 1,
    *,
    mind: Literal["rating", "echo"] = "rating",
    share: float = 0.0,
    kinds: Sequence[str] = PASSING,
    seed: int = 0,
    port: int = 0,
) -> Iterator[str]:
    """A server in `workers` processes of its own, up inside the `with` block; its address up to `/v1`.

    It ends with this process, however that ends. `GET /counts` beside `/v1` tells how many requests one worker had.
    """
    options = {"latency": latency, "workers": workers, "mind": mind, "share": share, "seed": seed, "port": port}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with _child([*words, "--kinds", ",".join(kinds), "--with-parent"]) as (_, url):
        yield url


@contextmanager
def _child(words: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, str(Path(__file__)), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"the loopback server did not start: {' '.join(command)}")
            yield process, url
        finally:
            process.stdin.close()


def main() -> None:
    """Serve until interrupted, or until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every reply takes")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the port")
    parser.add_argument("--mind", choices=["rating", "echo"], default="rating")
    parser.add_argument("--noise", type=float, default=0.5, help="of ratings, in steps of the scale")
    parser.add_argument("--share", type=float, default=0.0, help="of requests that meet a fault")
    parser.add_argument("--kinds", default=",".join(PASSING), help="faults, between commas")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and of the noise")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    parser.add_argument("--shared-port", action="store_true", help="others may listen on the same port")
    options = parser.parse_args()
    if options.workers == 1:
        _serve_one(options)
        return
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", options.port))
        _serve_many(options, held.getsockname()[1])


def _serve_one(options: argparse.Namespace) -> None:
    mind = echo_schema if options.mind == "echo" else rating_mind(options.noise, options.seed)
    plan = FaultPlan(options.seed, options.share, options.kinds.split(",")) if options.share else None
    server = LoopbackLLM(mind, plan, options.latency, keep=False, port=options.port, shared_port=options.shared_port)
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        _wait(options)


def _serve_many(options: argparse.Namespace, port: int) -> None:
    kept = ("latency", "mind", "noise", "share", "kinds", "seed")
    words = [word for name in kept for word in (f"--{name}", str(getattr(options, name)))]
    with ExitStack() as stack:
        for _ in range(options.workers):
            worker = _child([*words, "--port", str(port), "--shared-port", "--with-parent"])
            _, url = stack.enter_context(worker)
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        _wait(options)


def _wait(options: argparse.Namespace) -> None:
    if options.with_parent:
        sys.stdin.read()
    else:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
