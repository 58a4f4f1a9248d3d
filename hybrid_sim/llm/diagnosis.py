"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hybrid_sim.core.errors import HybridSimError

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `sentence` holds no secret; `exit_code` is that of a run that fails for it."""

    name: str
    state: State
    sentence: str
    exit_code: int = 0


def bad(name: str, sentence: str, error: type[HybridSimError]) -> Finding:
    """A finding for which a run would fail with this error."""
    return Finding(name, "bad", sentence, error.exit_code)
