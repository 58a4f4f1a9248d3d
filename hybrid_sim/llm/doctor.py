"""Looks at everything that a run with a language model needs, and says in a sentence each what it found."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from hybrid_sim.core.errors import SettingsError, StorageError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.diagnosis import Finding, bad

LITTLE_DISK, NO_DISK = 1_000_000_000, 50_000_000
"""Bytes of free disk: a run of 100,000 answers takes some hundred megabytes; below the second, none is begun."""

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def examine(
    settings: LLMSettings,
    folder: Path,
    *,
    ask: bool = True,
    environment: Mapping[str, str] = os.environ,
) -> list[Finding]:
    """What there is to say about packages, the disk under `folder`, price and endpoint.

    Nothing is raised for what is broken. The endpoint gets a few requests and, with `ask`, up to three tiny questions,
    which may cost a fraction of a cent.
    """
    from hybrid_sim.llm.doctor_endpoint import examine_endpoint
    from hybrid_sim.llm.transport import Endpoint

    findings = [*_packages(), _disk(folder)]
    try:
        endpoint = Endpoint.of(settings, environment)
    except SettingsError as error:
        return [*findings, bad("endpoint", str(error), SettingsError)]
    has_key = bool(environment.get("OPENAI_API_KEY", "").strip())
    said = "is set and not shown" if has_key else f"is not set; {endpoint.address} is local and may need none"
    findings.append(Finding("key", "ok", f"OPENAI_API_KEY {said}"))
    findings.append(_price(settings, endpoint.address))
    return [*findings, *examine_endpoint(settings, endpoint, ask=ask)]


def _packages() -> Iterator[Finding]:
    """The versions of all packages that the library requires."""
    version, lacking, found = importlib.metadata.version, [], []
    for requirement in importlib.metadata.requires("hybrid-sim") or []:
        name = _REQUIREMENT.match(requirement)
        if name is None or "extra ==" in requirement:
            continue
        try:
            found.append(f"{name[0]} {version(name[0])}")
        except importlib.metadata.PackageNotFoundError:
            lacking.append(name[0])
    yield Finding("python", "ok", f"Python {platform.python_version()}, hybrid-sim {version('hybrid-sim')}")
    if lacking:
        yield bad("packages", f"not installed: {', '.join(lacking)}; pip install {' '.join(lacking)}", SettingsError)
    else:
        yield Finding("packages", "ok", ", ".join(found))


def _disk(folder: Path) -> Finding:
    """Free room where the run's folder is or would be made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        return bad("disk", f"{place} is a file; name another folder", SettingsError)
    if not os.access(place, os.W_OK):
        return bad("disk", f"{place} is not writable; name another folder", StorageError)
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB are free under {place}"
    if free < NO_DISK:
        return bad("disk", f"{said}; free some space or name another folder", StorageError)
    return Finding("disk", "warn" if free < LITTLE_DISK else "ok", said)


def _price(settings: LLMSettings, address: str) -> Finding:
    from hybrid_sim.llm.prices import price_of

    try:
        price = price_of(settings.model, address, settings.prices)
    except SettingsError as error:
        return bad("price", str(error), SettingsError)
    if price is None:
        return Finding(
            "price", "warn", f"unknown for {settings.model}: --budget needs it in llm.prices; --max-calls does not"
        )
    if price.is_free:
        return Finding("price", "ok", f"{address} is local: nothing is paid")
    rates = (f"${rate / 1e6:g}" for rate in (price.input, price.cached_input, price.output))
    said = "{} per million tokens in, {} cached, {} out".format(*rates)
    return Finding("price", "ok", f"{settings.model}: {said}, by the dated price file")
