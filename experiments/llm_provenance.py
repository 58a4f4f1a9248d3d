"""Where the figures of the LLM side come from: command, commit, seed, machine and versions; there is no data set."""

from __future__ import annotations

import sys
from dataclasses import asdict
from importlib import metadata
from typing import Any

from hybrid_sim.core.provenance import provenance
from hybrid_sim.testing import tiny_dataset

_KEPT = ("command", "commit", "seed", "python", "platform")
_PACKAGES = ("hybrid-sim", "openai", "aiohttp", "pydantic", "tenacity")


def source_of(seed: int) -> dict[str, Any]:
    """The provenance of this process's command."""
    source = asdict(provenance(sys.argv, seed, tiny_dataset()))
    return {name: source[name] for name in _KEPT} | {"versions": {name: metadata.version(name) for name in _PACKAGES}}
