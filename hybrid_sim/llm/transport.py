"""HTTP client of an OpenAI-compatible endpoint: address and key, connection pools, a total timeout for every call.

Calls use openai's own HTTP client with its aiohttp transport and openai's headers, but not its typed methods: these
take 0.7 to 1.5 ms of CPU per call against 0.3 ms without them, would halve the throughput at 200 connections, and every
reply is validated here anyway. It never retries by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hybrid_sim.core.errors import NetworkError, SettingsError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.outcomes import Fault, Reply, read_outcome, shortened
from hybrid_sim.llm.prices import OPENAI, is_local

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
CONNECTIONS_PER_CLIENT = 64
"""With more than about a hundred connections in one pool, finding a free one begins to cost more than the call."""

MAX_BODY = 2_000_000
"""Bytes of an HTTP body; a body that goes on is broken off. Ten times the longest reply that is accepted."""

NO_KEY = "no-key"
"""What is sent as the key to an endpoint that needs none."""

_SHORTEST_SECRET = 8


@dataclass(frozen=True)
class Endpoint:
    """Address and key of an endpoint. No message, log, file or repr shows the key."""

    address: str
    key: str = field(repr=False)

    @classmethod
    def of(cls, settings: LLMSettings, environment: Mapping[str, str] = os.environ) -> Endpoint:
        """The endpoint of the settings, else of OPENAI_BASE_URL, else OpenAI; the key is that of OPENAI_API_KEY.

        An endpoint on this machine or in a private network needs no key.

        Raises:
            SettingsError: the address cannot be used, or there is no key for it.
        """
        address = address_of(settings, environment)
        refuse_address(address, "llm.base_url" if settings.base_url else URL_VARIABLE)
        key = environment.get(KEY_VARIABLE, "").strip()
        if not key and not is_local(address):
            raise SettingsError(f"{address} needs a key: set the environment variable {KEY_VARIABLE}")
        if not (key.isascii() and key.isprintable()):
            raise SettingsError(f"the environment variable {KEY_VARIABLE} holds characters that no key has")
        return cls(address, key or NO_KEY)

    @property
    def is_openai(self) -> bool:
        """Whether this is OpenAI or Azure, whose API is the newest and who serve nothing beside it."""
        return (urlsplit(self.address).hostname or "").endswith((".openai.com", ".azure.com", ".microsoft.com"))

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine, so that no proxy can lead to it."""
        host = urlsplit(self.address).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def without_key(self, text: str) -> str:
        """A text of the server's without the key, which some servers repeat, however its characters are escaped.

        A short key is replaced only as a word of its own, and not where it names a member of a JSON object; one of
        digits alone might be any number and stays.
        """
        return self._pattern.sub("[key]", text) if self._pattern else text

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        """Matches the key, any of its characters escaped as in JSON, also in JSON within JSON, or as in addresses."""
        if self.key == NO_KEY or ((is_short := len(self.key) < _SHORTEST_SECRET) and self.key.isdigit()):
            return None
        # Bounded repetitions keep the time linear.
        codes = [(re.escape(character), f"{ord(character):02x}") for character in self.key]
        pattern = "".join(rf"(?:\\{{0,8}}{c}|\\{{1,8}}u00{code}|%(?:25){{0,3}}{code})" for c, code in codes)
        if is_short:
            pattern = rf'(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])){pattern}(?![A-Za-z0-9])(?!\\{{0,8}}"\s*:)'
        return re.compile(pattern, re.IGNORECASE)


def address_of(settings: LLMSettings, environment: Mapping[str, str] = os.environ) -> str:
    """The address of the endpoint: that of the settings, else OPENAI_BASE_URL, else OpenAI."""
    return (settings.base_url or environment.get(URL_VARIABLE, "").strip() or OPENAI).rstrip("/")


class Response(NamedTuple):
    """An HTTP response, as it came: it may hold the key."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class EndpointClient:
    """Connections to one endpoint, spread over several pools; used within one event loop.

    `openai` is openai's client of the same endpoint, for files and batches; it does not retry either.
    """

    def __init__(self, endpoint: Endpoint, concurrency: int, deadline: float) -> None:
        import httpx2
        import openai

        self.endpoint, self.deadline = endpoint, deadline
        n_pools = -(-concurrency // CONNECTIONS_PER_CLIENT)
        limits = httpx2.Limits(max_connections=CONNECTIONS_PER_CLIENT, max_keepalive_connections=CONNECTIONS_PER_CLIENT)
        new_pool = partial(
            openai.DefaultAioHttpClient,
            limits=limits,
            timeout=None,
            follow_redirects=False,
            trust_env=not endpoint.is_loopback,
        )
        try:
            self._pools = [new_pool() for _ in range(n_pools)]
        except (ValueError, ImportError):  # The address of a proxy may hold a password.
            cure = "set HTTPS_PROXY to an http:// address, or unset ALL_PROXY, HTTPS_PROXY and HTTP_PROXY"
            raise SettingsError(f"the environment names a proxy that cannot be used; {cure}") from None
        self._busy = [0] * n_pools
        self.openai = openai.AsyncOpenAI(
            api_key=endpoint.key, base_url=endpoint.address, max_retries=0, http_client=self._pools[0]
        )
        headers = {**self.openai.default_headers, **self.openai.auth_headers}
        sent = {name: value for name, value in headers.items() if not isinstance(value, openai.Omit)}
        self._headers, self._url = httpx2.Headers(sent), f"{endpoint.address}/chat/completions"

    async def send(self, content: bytes) -> Reply | Fault:
        """The outcome of a chat request with this JSON body."""
        response = await self.fetch("POST", self._url, content)
        if isinstance(response, Fault):
            return response
        return read_outcome(*response, self.endpoint.address, self.endpoint.without_key)

    async def fetch(self, method: str, url: str, content: bytes | None = None) -> Response | Fault:
        """The response to a request, with the limits of time and size that every one has."""
        pool = self._busy.index(min(self._busy))
        self._busy[pool] += 1
        try:
            async with asyncio.timeout(self.deadline):
                return await self._fetch(self._pools[pool], method, url, content)
        except TimeoutError:
            late = f"{self.endpoint.address} did not answer within {self.deadline:g} s (llm.deadline)"
            return Fault("retry", late, possibly_paid=True)
        finally:
            self._busy[pool] -= 1

    async def close(self) -> None:
        """Close all connections."""
        for http in self._pools:
            await http.aclose()

    async def _fetch(self, http: Any, method: str, url: str, content: bytes | None) -> Response | Fault:
        import aiohttp
        import httpx2

        try:
            request = httpx2.Request(method, url, headers=self._headers, content=content)
            async with contextlib.aclosing(await http.send(request, stream=True)) as response:
                pieces, size = [], 0
                async for piece in response.aiter_bytes():
                    size += len(piece)
                    if size > MAX_BODY:
                        too_long = f"the reply is longer than {MAX_BODY:,} bytes"
                        return Fault("skip", too_long, "too_large", possibly_paid=True)
                    pieces.append(piece)
        except (httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError) as error:
            return self._broken(error)
        return Response(response.status_code, dict(response.headers.items()), b"".join(pieces))

    def _broken(self, error: BaseException) -> Fault:
        """A fault of the connection; the chain of causes tells whether the request may have been sent."""
        import aiohttp
        import httpx2

        chain = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
            chain.append(cause)
        unusable = (httpx2.InvalidURL, httpx2.UnsupportedProtocol, aiohttp.InvalidURL)
        if any(isinstance(one, unusable) for one in chain):
            stop = SettingsError(f"{self.endpoint.address} is no address of an endpoint; see llm.base_url")
            return Fault("stop", str(stop), error=stop)
        reasons = [one.strerror for one in chain if isinstance(one, OSError) and one.strerror]
        names = [type(one).__name__ for one in chain if isinstance(one, aiohttp.ClientError | OSError)]
        reason = shortened((reasons + names + [type(error).__name__])[0])
        if any(isinstance(one, aiohttp.ClientSSLError) for one in chain):
            insecure = NetworkError(f"{self.endpoint.address}: no secure connection ({reason}); check the certificate")
            return Fault("stop", str(insecure), error=insecure)
        if any(isinstance(one, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) for one in chain):
            return Fault("retry", f"{self.endpoint.address} cannot be reached: {reason}", unreached=True)
        return Fault("retry", f"{self.endpoint.address} broke the connection: {reason}", possibly_paid=True)


def refuse_address(address: str, source: str) -> None:
    """Refuse an address that cannot be used; the message does not repeat it, since it may hold a secret.

    Raises:
        SettingsError: it is no address, or holds a user name, password or query; `source` says where it stands.
    """
    import httpx2

    try:
        parts = urlsplit(address)
        is_usable = bool(parts.scheme in ("http", "https") and parts.hostname and (parts.port, httpx2.URL(address)))
    except (ValueError, httpx2.InvalidURL):
        is_usable = False
    if not is_usable:
        raise SettingsError(f"{source} is no address; write it like http://127.0.0.1:8080/v1")
    if parts.username is not None or parts.query or parts.fragment:
        cure = f"leave it out and put the key into {KEY_VARIABLE}"
        raise SettingsError(f"{source} holds a user name, password or query; {cure}")
