"""TF-IDF and truncated SVD: an embedder that needs no weights, for the demo and where MiniLM is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.errors import SettingsError


@dataclass
class TfidfSVD:
    """Latent semantic analysis (Deerwester et al. 1990): TF-IDF weights on leading singular vectors.

    `fit` learns words, weights and projection from the texts of a catalogue. Vectors have `dim` dimensions,
    fewer where the catalogue has fewer texts or words. Fitting on the same texts again keeps what was learnt.

    >>> vectors = TfidfSVD(dim=2).fit(["a quiet drama", "a loud war", "quiet war"]).embed(["quiet drama", ""])
    >>> vectors.shape, float((vectors[0] ** 2).sum().round(6)), float(vectors[1].sum())
    ((2, 2), 1.0, 0.0)
    """

    dim: int = 128
    words_: list[str] = field(init=False, repr=False)
    idf_: NDArray[np.float64] = field(init=False, repr=False)
    components_: NDArray[np.float64] = field(init=False, repr=False)
    texts_digest_: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise SettingsError(f"dim of TfidfSVD is a number of dimensions, at least 1, got {self.dim}")

    @property
    def name(self) -> str:
        """What the vectors are called in provenance."""
        return f"tfidf-svd-{self.dim}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the setting and the training texts: equal fingerprints give equal vectors."""
        return hashlib.sha256(f"{self.name} {self.texts_digest_}".encode()).hexdigest()

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn from a catalogue's texts; a text without any word is allowed."""
        digest = _digest(texts)
        if digest != self.texts_digest_:
            self._learn(texts)
            self.texts_digest_ = digest
        return self

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows of shape `(n_texts, dim)`; a text without a known word has a row of zeros.

        Raises:
            SettingsError: the embedder is not fitted.
        """
        if not self.texts_digest_:
            raise SettingsError("TfidfSVD is not fitted; call fit(texts) with the catalogue's texts first")
        if not self.words_:
            return np.zeros((len(texts), 1), dtype=np.float32)
        vectors = self._weights(texts) @ self.components_.T
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        known = lengths[:, 0] > 1e-12
        vectors[known] /= lengths[known]
        vectors[~known] = 0.0
        return np.asarray(vectors, dtype=np.float32)

    def _learn(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.utils.extmath import randomized_svd

        analyze = TfidfVectorizer().build_analyzer()
        self.words_ = sorted({word for text in texts for word in analyze(text)})
        self.idf_, self.components_ = np.zeros(0), np.zeros((0, 0))
        if self.words_:
            vectorizer = TfidfVectorizer(vocabulary=self.words_)
            weights = vectorizer.fit_transform(texts)
            self.idf_ = vectorizer.idf_
            n_directions = min(self.dim, *weights.shape)
            _, _, self.components_ = randomized_svd(weights, n_directions, n_iter=7, random_state=0)

    def _weights(self, texts: Sequence[str]) -> Any:
        """TF-IDF (smoothed idf, unit rows), sparse, shape `(n_texts, n_words)`."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(vocabulary=self.words_)
        vectorizer.idf_ = self.idf_
        return vectorizer.transform(texts)


def _digest(texts: Sequence[str]) -> str:
    content = hashlib.sha256(str(len(texts)).encode())
    for text in texts:
        content.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return content.hexdigest()
