"""The contract of text embedders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors whose inner product says how alike the texts are.

    `name` is for people, `fingerprint` for the cache: equal fingerprints must give equal vectors.
    """

    @property
    def name(self) -> str:
        """What the vectors are called in provenance."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the vectors depend on beside the text."""

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn from a catalogue's texts, where there is something to learn; returns the embedder itself."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows of shape `(n_texts, dim)`; a row of zeros where a text says nothing."""


def vector_length(embedder: Embedder) -> int:
    """Numbers of a vector, for estimates of memory: the embedder's `dim` where it has one, else MiniLM's 384."""
    return int(getattr(embedder, "dim", 384))
