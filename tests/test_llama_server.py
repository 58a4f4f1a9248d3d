"""The client against a third-party server: llama.cpp's `llama-server` with a tiny model of random weights.

Opt-in, since the server has to be compiled (eight minutes on two cores). From llama.cpp's sources, or from those inside
the source package of llama-cpp-python (folder vendor/llama.cpp)::

    cmake -S llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF
    cmake --build build --target llama-server
    export HYBRID_SIM_LLAMA_SERVER=$PWD/build/bin/llama-server
    pip install gguf
    pytest tests/test_llama_server.py

The tests make the model: two layers of the llama architecture, a vocabulary of bytes. It knows nothing, but the server
holds it to a JSON schema, so that its replies have the right form. HYBRID_SIM_LLAMA_MODEL names another GGUF file.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.settings import LLMSettings, RatingSettings
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.doctor import examine
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Answer, Failure, Message, Question
from hybrid_sim.llm.replies import read_reply
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template

SERVER = os.environ.get("HYBRID_SIM_LLAMA_SERVER")
MODEL = os.environ.get("HYBRID_SIM_LLAMA_MODEL")
CONTEXT = 16_384
"""A byte is a token of the tiny model, so its prompts are long."""

pytestmark = pytest.mark.skipif(not SERVER, reason="HYBRID_SIM_LLAMA_SERVER names no llama-server")


def make_model(file: Path, width: int = 64, n_layers: int = 2, n_heads: int = 4) -> None:
    """Write a llama of random weights whose tokens are bytes."""
    gguf = pytest.importorskip("gguf", reason="pip install gguf")
    rng = np.random.default_rng(0)
    special = ["<unk>", "<s>", "</s>"]
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_heads)
    writer.add_rope_dimension_count(width // n_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}")

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    writer.add_tensor("token_embd.weight", random(len(tokens), width))
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    writer.add_tensor("output.weight", random(len(tokens), width))
    for layer in range(n_layers):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", random(width, width))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", random(2 * width, width))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", random(width, 2 * width))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a llama-server that has loaded its model."""
    folder = tmp_path_factory.mktemp("llama")
    model = Path(MODEL) if MODEL else folder / "tiny.gguf"
    if not MODEL:
        make_model(model)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("-m", model, "--port", port, "-c", CONTEXT, "-np", 1, "-t", 1, "--alias", "tiny")
    log = folder / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen([str(SERVER), *map(str, options)], stdout=output, stderr=output) as process,
    ):
        try:
            wait_until_loaded(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def wait_until_loaded(health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"llama-server did not start: {log.read_text(errors='replace')[-2000:]}")


def settings(url: str, **more: object) -> LLMSettings:
    return LLMSettings.model_validate({"model": "tiny", "base_url": url, "seed": 1, "concurrency": 2, **more})


def test_the_doctor_finds_all_well(url: str, tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in examine(settings(url), tmp_path, environment={})}
    assert [finding.sentence for finding in findings.values() if finding.state == "bad"] == []
    assert findings["reply"].sentence == "replies are requested by a JSON schema; they keep to it"
    assert findings["context"].sentence == f"{CONTEXT:,} tokens, as the server says"
    assert findings["model"].state == "ok"


class Verdict(BaseModel):
    """A reply without free text, which a model without sense might never end."""

    model_config = ConfigDict(extra="forbid")

    rating: Literal[1, 2, 3, 4, 5]
    certain: bool


def test_forty_replies_keep_to_the_schema_and_are_kept(url: str, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"rating": {"type": "integer", "enum": [1, 2, 3, 4, 5]}, "certain": {"type": "boolean"}},
        "required": ["rating", "certain"],
        "additionalProperties": False,
    }
    asked = [
        Question(
            "verdict@1",
            (Message("system", "Answer in JSON."), Message("user", f"How good is film {number}?")),
            schema,
            lambda text: read_reply(text, Verdict),
            max_tokens=200,
        )
        for number in range(40)
    ]
    with Journal(tmp_path / "journal.sqlite") as journal, LLM(settings(url), journal, Budget()) as llm:
        outcomes = llm.ask(asked)
        assert llm.stopped is None
        assert [type(outcome) for outcome in outcomes] == [Answer] * 40
        assert journal.ledger().prompt_tokens > 0
        n_calls = llm.counts.calls
        assert [answer.text for answer in llm.ask(asked) if isinstance(answer, Answer)] == [
            answer.text for answer in outcomes if isinstance(answer, Answer)
        ]
        assert llm.counts.calls == n_calls == 40


def test_a_rating_question_ends_in_a_rating_or_in_a_named_failure(url: str, tiny: Dataset, tmp_path: Path) -> None:
    words, histories = load_template("rate"), Histories(tiny)
    asked = [
        rating_question(words, tiny, UserState(user, histories.of(user)), np.array([user]), RatingSettings(n_history=2))
        for user in range(4)
    ]
    with Journal(tmp_path / "journal.sqlite") as journal, LLM(settings(url), journal, Budget()) as llm:
        outcomes = llm.ask(asked)
        assert llm.stopped is None
    for outcome in outcomes:  # a model without sense may never end a text, or rate no item at all
        if isinstance(outcome, Answer):
            assert tiny.scale.contains(outcome.value.ratings).all()
        else:
            assert outcome.kind in ("cut", "invalid")


def test_a_prompt_beyond_the_context_fails_alone(url: str, tiny: Dataset, tmp_path: Path) -> None:
    words, histories = load_template("rate"), Histories(tiny)
    state = UserState(0, histories.of(0))
    small = rating_question(words, tiny, state, np.array([1]), RatingSettings(n_history=0))
    large = rating_question(words, tiny, state, np.arange(1, 51).repeat(4), RatingSettings(n_history=10))
    with Journal(tmp_path / "journal.sqlite") as journal, LLM(settings(url), journal, Budget()) as llm:
        first, second = llm.ask([large, small])
        assert isinstance(first, Failure)
        assert first.kind == "context"
        assert not (isinstance(second, Failure) and second.kind in ("not_asked", "context"))
        assert llm.stopped is None
