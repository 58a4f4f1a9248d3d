"""Prices of tokens: a dated price file, which the user can replace; a local endpoint costs nothing.

A price file is JSON: `as_of` and `source` say when and where the prices were read, `hosts` for which endpoints they
hold (left out: for all), `batch_factor` what a batch costs of the usual price, `models` the US dollars per million
tokens::

    {"as_of": "2026-01", "source": "the provider's price page", "batch_factor": 0.5,
     "models": {"my-model": {"input": 0.15, "cached_input": 0.075, "output": 0.6}}}
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import first_mistake
from hybrid_sim.llm.question import Usage

OPENAI = "https://api.openai.com/v1"
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_LOCAL_ENDINGS = (".local", ".localhost", ".internal")
_PICO_PER_TOKEN = 1_000_000
"""A dollar per million tokens is this many pico-dollars per token, so that all known prices are whole numbers."""


@dataclass(frozen=True)
class Price:
    """The price of one token, in pico-dollars (10^12 are one US dollar).

    >>> gpt_4o_mini = Price(input=150_000, cached_input=75_000, output=600_000)
    >>> gpt_4o_mini.cost(Usage(prompt_tokens=1000, completion_tokens=100))
    210000
    """

    input: int
    cached_input: int
    output: int

    def cost(self, usage: Usage) -> int | None:
        """Nano-dollars of a call, rounded up; None where the server did not say what it counted (zero says nothing)."""
        if self == FREE:
            return 0
        if not usage.prompt_tokens or usage.completion_tokens is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        fresh = usage.prompt_tokens - cached
        pico = fresh * self.input + cached * self.cached_input + usage.completion_tokens * self.output
        return -(-pico // 1000)

    def worst(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Nano-dollars of a call of at most so many tokens, none of them cached."""
        return -(-(prompt_tokens * max(self.input, self.cached_input) + completion_tokens * self.output) // 1000)


FREE = Price(0, 0, 0)


def price_of(model: str, address: str | None = None, file: Path | None = None, *, batch: bool = False) -> Price | None:
    """The price of a model at an endpoint (None: OpenAI's); None where it is not known.

    `file` is a price file of the user. What it does not list is free at local addresses and of unknown price elsewhere.
    Names that end in a date, such as gpt-4o-mini-2024-07-18, have the price of the name without it, unless they are
    listed. `batch` asks for the price in a batch.

    Raises:
        SettingsError: the price file cannot be read.
    """
    prices, address = read_prices(file), address or OPENAI
    host = _host(address)
    rates = prices.models.get(model) or prices.models.get(_DATE.sub("", model))
    if rates is None or (prices.hosts is not None and host not in prices.hosts):
        return FREE if is_local(address) else None
    cached = rates.input if rates.cached_input is None else rates.cached_input
    factor = _PICO_PER_TOKEN * (prices.batch_factor if batch else 1.0)
    return Price(*(round(dollars * factor) for dollars in (rates.input, cached, rates.output)))


def check_price(price: Price | None, model: str, file: Path | None = None) -> None:
    """Refuse to keep a money budget for a model whose price is not known.

    Raises:
        SettingsError: there is no price.
    """
    if price is None:
        where = f"{file} does" if file else "at this endpoint the price file of the package does"
        raise SettingsError(
            f"a money budget needs the price of model {model!r}, and {where} not list it; "
            "name a price file that does (setting llm.prices), or limit the calls instead"
        )


def is_local(address: str) -> bool:
    """Whether an endpoint is on this machine or network: loopback and private addresses, `*.local`, bare names.

    >>> is_local("http://127.0.0.1:8080/v1"), is_local("http://ollama:11434/v1"), is_local("https://api.openai.com/v1")
    (True, True, False)
    """
    host = _host(address)
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_LOCAL_ENDINGS))
    return number.is_loopback or number.is_private or number.is_link_local


class Rates(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """US dollars per million tokens; cached input costs the same as other input where it is not given."""

    input: float = Field(ge=0.0, le=1e6)
    cached_input: float | None = Field(default=None, ge=0.0, le=1e6)
    output: float = Field(ge=0.0, le=1e6)


class PriceFile(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What a price file holds; see the module."""

    as_of: str = Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")
    source: str
    hosts: list[str] | None = None
    batch_factor: float = Field(default=1.0, gt=0.0, le=1.0)
    models: dict[str, Rates]


def read_prices(file: Path | None = None) -> PriceFile:
    """The prices in `file`, by default those of the package.

    Raises:
        SettingsError: the file cannot be read or is no price file; the message names the field.
    """
    try:
        content = (file or resources.files("hybrid_sim.llm") / "prices.json").read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a price file that can be read") from error
    try:
        return PriceFile.model_validate_json(content)
    except ValidationError as error:
        mistake = first_mistake(error, "the file")
        raise SettingsError(f"{file}: {mistake}; see hybrid_sim/llm/prices.json for the form") from error


def _host(address: str) -> str:
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""
