"""Text to vectors: the default embedder, and the cache: nothing is embedded twice."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.files import cache_folder
from hybrid_sim.core.progress import track
from hybrid_sim.core.serialization import LOCAL
from hybrid_sim.core.texts import item_texts
from hybrid_sim.retrieval.minilm import INSTALL, MiniLM
from hybrid_sim.retrieval.tfidf import TfidfSVD

__all__ = ["CachedEmbedder", "MiniLM", "TfidfSVD", "default_embedder", "embedder_for"]

_log = logging.getLogger("hybrid_sim")
_computing = threading.Lock()
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB, checksum BLOB) WITHOUT ROWID"

T = TypeVar("T")


def default_embedder() -> Embedder:
    """MiniLM behind the cache if its weights are on this machine, else TF-IDF and SVD, said in the log."""
    model = MiniLM()
    if model.locate() is not None:
        return CachedEmbedder(model)
    _warn_once(f"no weights of all-MiniLM-L6-v2 here, texts are embedded by TF-IDF and SVD; better: {INSTALL}")
    return TfidfSVD()


def embedder_for(dataset: Dataset, embedder: Embedder | None = None) -> Embedder:
    """The embedder, fitted to the items' texts; None: the default one, for a synthetic dataset TF-IDF and SVD."""
    chosen = embedder or (TfidfSVD() if dataset.synthetic else default_embedder())
    return chosen.fit(item_texts(dataset))


@dataclass(frozen=True)
class CachedEmbedder:
    """Any embedder, with its vectors kept on disk by SHA-256 of (fingerprint, text): none is computed twice.

    The cache is one SQLite file in `folder` (None: `cache_folder("embeddings")`), shared by processes. Each vector
    carries a checksum; what does not pass is computed again, and a file that SQLite cannot read is replaced.
    Where the disk is full or not writable, work goes on without the cache and the log says so once. While all
    texts are in the cache the embedder itself is never asked.
    """

    embedder: Embedder
    folder: str | None = field(default=None, metadata=LOCAL)

    @property
    def name(self) -> str:
        """The name of the embedder behind the cache."""
        return self.embedder.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the embedder behind the cache."""
        return self.embedder.fingerprint

    def fit(self, texts: Sequence[str]) -> Self:
        """Fit the embedder behind the cache."""
        self.embedder.fit(texts)
        return self

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows of shape `(n_texts, dim)`; equal texts are embedded once, cached ones never."""
        if not texts:
            return self.embedder.embed(texts)
        keys = [self._key(text) for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        file = (Path(self.folder) if self.folder else cache_folder("embeddings")) / "vectors.sqlite"
        with _computing:
            vectors = _read(file, list(text_of))
            missing = sorted(text_of.keys() - vectors.keys(), key=lambda key: (len(text_of[key]), key))
            vectors.update(self._compute(file, {key: text_of[key] for key in missing}))
        return np.stack([vectors[key] for key in keys])

    def _compute(self, file: Path, missing: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
        """Vectors of the texts that the cache lacks; each chunk is kept as soon as it is there."""
        vectors: dict[str, NDArray[np.float32]] = {}
        keys = list(missing)
        with track(f"embedding texts ({self.name})", len(keys)) as task:
            for start in range(0, len(keys), 512):
                chunk = keys[start : start + 512]
                rows = self.embedder.embed([missing[key] for key in chunk])
                fresh = dict(zip(chunk, rows.astype(np.float32, copy=False), strict=True))
                _write(file, fresh)
                vectors.update(fresh)
                task.advance(len(chunk))
        return vectors

    def _key(self, text: str) -> str:
        return hashlib.sha256(f"{self.fingerprint}\x00{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _read(file: Path, keys: list[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors that the cache holds for these keys, each one checked."""

    def fetch(database: sqlite3.Connection) -> list[tuple[str, bytes, bytes]]:
        wanted = (
            "SELECT key, CAST(vector AS BLOB), CAST(checksum AS BLOB) FROM vectors "
            "WHERE key IN (SELECT value FROM json_each(?))"
        )
        return database.execute(wanted, [json.dumps(keys)]).fetchall()

    rows = _try(file, fetch) or []
    sound = {key: vector for key, vector, checksum in rows if vector and _checksum(key, vector) == checksum}
    if len(sound) < len(rows):
        _log.warning("%s: %d damaged vectors are computed again", file, len(rows) - len(sound))
    return {key: np.frombuffer(vector, dtype="<f4") for key, vector in sound.items()}


def _write(file: Path, vectors: Mapping[str, NDArray[np.float32]]) -> None:
    stored = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]
    rows = [(key, vector, _checksum(key, vector)) for key, vector in stored]
    _try(file, lambda database: database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows))


def _checksum(key: str, vector: bytes) -> bytes:
    return hashlib.blake2b(key.encode() + vector, digest_size=16).digest()


def _try(file: Path, action: Callable[[sqlite3.Connection], T]) -> T | None:
    """One transaction on the cache. A failure is logged and gives None: the cache is a help, never needed."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=30)) as database, database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_TABLE)
            return action(database)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            _log.warning("%s is damaged (%s); it is replaced and its vectors are computed again", file, error)
            _remove(file)
        else:
            _warn_once(f"{file}: {error}; going on without keeping vectors")
    except OSError as error:
        _warn_once(f"{error}; going on without keeping vectors")
    return None


def _remove(file: Path) -> None:
    for part in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        try:
            part.unlink(missing_ok=True)
        except OSError as error:
            _warn_once(f"{error}; going on without keeping vectors")


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)
