"""What `doctor` finds, over real HTTP: it names what is wrong, shows no key, and survives every broken endpoint."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llm_server import DEAD_ADDRESS, LoopbackLLM, always
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hybrid_sim.cli.parsing import parse
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.doctor import Finding, examine

KEY = "sk-sentinel-0123456789"


def found(url: str | None, folder: Path, *, ask: bool = True, key: str = "", **settings: Any) -> dict[str, Finding]:
    """The findings by name; the machine's own environment plays no part."""
    chosen = LLMSettings(**{"model": "loopback", "base_url": url, "deadline": 2.0, **settings})
    findings = examine(chosen, folder, ask=ask, environment={"OPENAI_API_KEY": key} if key else {})
    assert KEY not in repr(findings)
    return {finding.name: finding for finding in findings}


def command_line(*words: str) -> int:
    options = parse(["doctor", *words])
    status: int = options.run(options)
    return status


def test_all_is_well_with_a_good_server(tmp_path: Path) -> None:
    with LoopbackLLM(context_tokens=8192, flavour="vllm") as server:
        findings = found(server.url, tmp_path / "not" / "yet", key=KEY)
        assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert [finding.sentence for finding in findings.values() if finding.state == "bad"] == []
    assert findings["key"].sentence == "OPENAI_API_KEY is set and not shown"
    assert findings["model"].sentence == "loopback is one of 1 models of the server"
    assert findings["reply"] == Finding("reply", "ok", "replies are requested by a JSON schema; they keep to it")
    assert findings["context"].sentence == "8,192 tokens, as the server says"
    assert "openai" in findings["packages"].sentence
    assert f"GB are free under {tmp_path}" in findings["disk"].sentence
    assert "nothing is paid" in findings["price"].sentence


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp", "ollama"])
def test_every_kind_of_server_tells_its_context_in_its_own_place(flavour: Any, tmp_path: Path) -> None:
    with LoopbackLLM(context_tokens=2048, flavour=flavour) as server:
        finding = found(server.url, tmp_path, ask=False)["context"]
        assert (finding.state, finding.sentence[:12]) == ("warn", "2,048 tokens")
        assert server.n_requests == 0
        too_much = found(server.url, tmp_path, ask=False, context_tokens=4096)["context"]
        assert (too_much.state, too_much.exit_code) == ("bad", 2)
        assert "llm.context_tokens is 4,096, the server has 2,048" in too_much.sentence


def test_a_silent_server_leaves_the_context_to_the_settings(tmp_path: Path) -> None:
    with LoopbackLLM() as server:
        assert "does not tell" in found(server.url, tmp_path, ask=False)["context"].sentence
        told = found(server.url, tmp_path, ask=False, context_tokens=5000)["context"]
        assert told.sentence == "5,000 tokens, as llm.context_tokens says"


@pytest.mark.parametrize(
    ("fault", "state", "sentence"),
    [
        ("no_schema", "warn", "no JSON schemas here: replies are requested in JSON mode"),
        ("no_json", "warn", "no JSON schemas here: replies are requested by the prompt alone"),
        ("prose", "warn", "they do not keep to it"),
        ("usage_missing", "warn", "tokens are not counted"),
        ("cut", "warn", "a small question got no answer: the reply was cut off"),
        ("refusal", "warn", "the model refused"),
        ("429_absent", "warn", "Rate limit reached"),
        ("no_temperature", "ok", "llm.temperature is left out; they keep to it"),
        ("401", "bad", "check OPENAI_API_KEY"),
        ("404", "bad", "check llm.model and llm.base_url"),
        ("insufficient_quota", "bad", "exceeded your current quota"),
        ("500", "bad", "answered 500: The server had an error"),
        ("hang", "bad", "did not answer within 0.5 s"),
        ("drop_after_work", "bad", "broke the connection"),
    ],
)
def test_what_a_question_meets_is_said(fault: str, state: str, sentence: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always(fault)) as server:
        finding = found(server.url, tmp_path, deadline=0.5 if fault == "hang" else 5.0)["reply"]
        assert (finding.state, sentence in finding.sentence) == (state, True), finding.sentence
        assert server.n_requests <= 5


def test_another_model_is_named(tmp_path: Path) -> None:
    with LoopbackLLM(models=("llama-3.2-3b", "qwen")) as server:
        finding = found(server.url, tmp_path, ask=False, model="llama3.2")["model"]
    assert finding.state == "warn"
    assert finding.sentence == "llama3.2 is not listed; the server has llama-3.2-3b: see llm.model"


def test_a_dead_or_wrong_endpoint_is_bad_and_nothing_is_raised(tmp_path: Path, httpserver: HTTPServer) -> None:
    dead = found(DEAD_ADDRESS, tmp_path)["endpoint"]
    assert (dead.state, dead.exit_code) == ("bad", 3)
    assert DEAD_ADDRESS in dead.sentence
    httpserver.expect_request("/v1/models").respond_with_data("<html>It works!</html>")
    assert "not as a language model's server" in found(httpserver.url_for("/v1"), tmp_path)["endpoint"].sentence
    httpserver.clear()
    httpserver.expect_request("/v1/models").respond_with_data(f"who is {KEY}?", status=401)
    refused = found(httpserver.url_for("/v1"), tmp_path, key=KEY)["endpoint"]
    assert "refuses the key: who is [key]?" in refused.sentence
    httpserver.clear()
    for odd in (
        "null",
        "[1, 2]",
        '{"data": 3}',
        '{"data": [null, {"id": 7}]}',
        '{"data": [{"meta": {"n_ctx_train": "x"}}]}',
    ):
        httpserver.expect_oneshot_request("/v1/models").respond_with_data(odd)
        assert found(httpserver.url_for("/v1"), tmp_path, ask=False)["model"].state == "warn"


@pytest.mark.parametrize("kind", ["endless", "drip"])
def test_the_doctor_has_the_limits_of_a_run(kind: str, tmp_path: Path, httpserver: HTTPServer) -> None:
    """A body without end is broken off by its size, one that drips by the deadline."""

    def body(request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            for _ in range(100_000 if kind == "endless" else 40):
                yield b"x" * (100_000 if kind == "endless" else 1)
                if kind == "drip":
                    time.sleep(0.1)

        return Response(pieces())

    httpserver.expect_request("/v1/models").respond_with_handler(body)
    finding = found(httpserver.url_for("/v1"), tmp_path, deadline=20.0 if kind == "endless" else 0.3)["endpoint"]
    assert finding.state == "bad"
    assert ("longer than 2,000,000 bytes" if kind == "endless" else "within 0.3 s (llm.deadline)") in finding.sentence


def test_a_proxy_of_the_desktop_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1")
    with LoopbackLLM() as server:
        assert found(server.url, tmp_path)["reply"].state == "ok"
    far = found("http://llm.example/v1", tmp_path, key=KEY)["endpoint"]
    assert (far.state, far.exit_code, "names a proxy that cannot be used" in far.sentence) == ("bad", 2, True)


def test_settings_that_cannot_work_are_bad(tmp_path: Path) -> None:
    no_key = found(None, tmp_path)["endpoint"]
    assert (no_key.state, no_key.exit_code) == ("bad", 2)
    assert "set the environment variable OPENAI_API_KEY" in no_key.sentence
    assert found("ftp://somewhere", tmp_path)["endpoint"].exit_code == 2
    prices = tmp_path / "prices.json"
    prices.write_text("{}")
    assert found(DEAD_ADDRESS, tmp_path, prices=prices)["price"].exit_code == 2


def test_a_folder_that_cannot_hold_a_run_is_bad(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert "is a file" in found(DEAD_ADDRESS, file / "run")["disk"].sentence
    if os.geteuid() != 0:
        file.parent.chmod(0o500)
        assert found(DEAD_ADDRESS, tmp_path / "run")["disk"].exit_code == 5
        file.parent.chmod(0o700)
    assert shutil.disk_usage(tmp_path).free > 0


def test_the_command_prints_a_line_per_finding_and_the_worst_is_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackLLM(context_tokens=8192, flavour="vllm") as server:
        options = ("--model", "loopback", "--base-url", server.url, "-o", str(tmp_path))
        assert command_line(*options) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["ok"] * len(lines)
        assert len(lines) == 11
        assert command_line(*options, "--no-question", "--json") == 0
        assert {row["name"] for row in json.loads(capsys.readouterr().out)} >= {"disk", "price", "endpoint", "context"}
        assert server.n_requests == 1
    assert command_line("--model", "loopback", "--base-url", DEAD_ADDRESS) == 3
    assert "bad" in capsys.readouterr().out
