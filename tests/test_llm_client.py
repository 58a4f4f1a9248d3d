"""Every fault of the network and the API, over real HTTP; the names carry the rows of the list of faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from llm_asking import asking, kinds, question, questions
from llm_server import DEAD_ADDRESS, FaultPlan, LoopbackLLM, Storm, always, first
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError, SettingsError
from hybrid_sim.llm.question import Failure

NOT_ASKED = "not_asked"


def priced(folder: Path) -> Path:
    """A price file for the loopback model."""
    file = folder / "prices.json"
    file.write_text('{"as_of": "2025-01", "source": "test", "models": {"loopback": {"input": 1000, "output": 1000}}}')
    return file


def test_all_are_answered_in_their_order(tmp_path: Path) -> None:
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        results = llm.ask(questions(40))
        assert kinds(results) == ["answer"] * 40
        replies = {received.body["messages"][1]["content"]: received.reply for received in server.requests}
        assert [result.text for result in results] == [replies[q.messages[1].content] for q in questions(40)]
        assert llm.counts.calls == server.n_requests == 40
        assert llm.stopped is None


def test_passing_faults_cost_no_answer(tmp_path: Path) -> None:
    with LoopbackLLM(faults=FaultPlan(seed=1, share=0.2)) as server, asking(tmp_path, server.url, attempts=8) as llm:
        assert kinds(llm.ask(questions(80))) == ["answer"] * 80
        ledger = llm.journal.ledger()
        assert ledger.calls == llm.counts.calls == server.n_requests > 85
        assert ledger.answered == 80


@pytest.mark.parametrize("address", [DEAD_ADDRESS, "http://nobody.invalid/v1"])
def test_row_01_a_dead_endpoint_stops_the_run_after_bounded_retries(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    with asking(tmp_path, address) as llm:
        results = llm.ask(questions(500))
        assert kinds(results) == ["passing"] + [NOT_ASKED] * 499
        assert isinstance(llm.stopped, NetworkError)
        assert f"{address} cannot be reached" in str(llm.stopped)
        assert llm.stopped.exit_code == 3
        ledger = llm.journal.ledger()
        assert (ledger.calls, ledger.possibly_paid) == (3, 0)


def test_row_01_an_endpoint_that_dies_stops_the_run_and_answers_are_kept(tmp_path: Path) -> None:
    with ExitStack() as served, asking(tmp_path, served.enter_context(LoopbackLLM()).url) as llm:
        assert kinds(llm.ask(questions(20))) == ["answer"] * 20
        served.close()
        results = llm.ask(questions(500))
        assert kinds(results)[:20] == ["answer"] * 20
        assert kinds(results).count(NOT_ASKED) >= 500 - 20 - 8
        assert isinstance(llm.stopped, NetworkError)
        assert llm.counts.calls <= 20 + 8 * 3
        assert kinds(llm.ask(questions(21)))[20] == NOT_ASKED


def test_row_01_an_endpoint_that_only_fails_any_more_is_noticed_after_three_questions(tmp_path: Path) -> None:
    faults = lambda number, body: "503" if number > 5 else None  # noqa: E731
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url, concurrency=1, attempts=2) as llm:
        assert kinds(llm.ask(questions(60))) == ["answer"] * 5 + ["passing"] * 3 + [NOT_ASKED] * 52
        assert isinstance(llm.stopped, NetworkError)
        assert llm.counts.calls == 5 + 2 * 3


def test_row_01_an_endpoint_where_nobody_listens_any_more_is_noticed_after_one_question(tmp_path: Path) -> None:
    with (
        ExitStack() as served,
        asking(tmp_path, served.enter_context(LoopbackLLM()).url, concurrency=1, attempts=2) as llm,
    ):
        assert kinds(llm.ask(questions(5))) == ["answer"] * 5
        served.close()
        assert kinds(llm.ask(questions(60)))[5:] == ["passing"] + [NOT_ASKED] * 54
        assert llm.counts.calls == 5 + 2


def test_row_01_questions_that_fail_while_others_are_answered_do_not_mean_a_dead_endpoint(tmp_path: Path) -> None:
    faults = lambda number, body: "503" if body["messages"][1]["content"][-2] in "789" else None  # noqa: E731
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url, concurrency=4, first_wait=0.2) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        results = kinds(llm.ask([*map(question, (7, 8, 9)), *questions(6)]))
        assert results == ["passing"] * 3 + ["answer"] * 6
        assert llm.stopped is None


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_row_02_a_total_deadline_ends_an_attempt(fault: str, tmp_path: Path) -> None:
    with (
        LoopbackLLM(faults=first(1, fault), drip=0.05) as server,
        asking(tmp_path, server.url, deadline=0.3) as llm,
    ):
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert llm.journal.ledger().possibly_paid == 1
        assert llm.counts.possibly_paid_twice == 1


def test_row_02_an_answer_after_the_deadline_is_not_awaited(tmp_path: Path) -> None:
    with LoopbackLLM(latency=2) as server, asking(tmp_path, server.url, deadline=0.2) as llm:
        assert kinds(llm.ask([question(1)])) == ["passing"]
        assert llm.journal.ledger().answered == 0


def test_row_02_a_server_that_never_answers_stops_the_run(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("hang")) as server, asking(tmp_path, server.url, deadline=0.1) as llm:
        assert kinds(llm.ask(questions(50))) == ["passing"] + [NOT_ASKED] * 49
        assert "did not answer within 0.1 s (llm.deadline)" in str(llm.stopped)
        assert server.n_requests == 3


@pytest.mark.parametrize("fault", ["drop", "drop_after_work", "short_body", "truncated_body"])
def test_row_03_a_dropped_call_is_retried_and_shown_as_possibly_paid_twice(fault: str, tmp_path: Path) -> None:
    prices = priced(tmp_path)
    with LoopbackLLM(faults=first(1, fault)) as server, asking(tmp_path, server.url, prices=prices) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert server.n_requests == 2
        ledger = llm.journal.ledger()
        assert llm.counts.possibly_paid_twice == ledger.possibly_paid == ledger.unknown_cost == 1
        assert llm.budget.spent == ledger.money + ledger.at_worst > ledger.money > 0


@pytest.mark.parametrize("fault", ["429_seconds", "429_ms", "429_date", "429_short"])
def test_row_04_waiting_for_a_rate_limit_takes_no_attempt(fault: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(1, fault)) as server, asking(tmp_path, server.url, attempts=1) as llm:
        assert kinds(llm.ask(questions(3))) == ["answer"] * 3
        assert (server.n_requests, llm.counts.pauses) == (4, 1)
        assert llm.counts.possibly_paid_twice == llm.journal.ledger().possibly_paid == 0


def test_row_04_a_storm_makes_one_cut_per_episode_and_no_herd(tmp_path: Path) -> None:
    storm = Storm(start=30, seconds=0.4)
    with (
        LoopbackLLM(faults=storm, latency=0.02) as server,
        asking(tmp_path, server.url, concurrency=16, attempts=1, first_wait=0.1) as llm,
    ):
        assert kinds(llm.ask(questions(120))) == ["answer"] * 120
        assert 1 <= llm.counts.pauses <= 4
        assert server.counts["429_short"] <= 16 + llm.counts.pauses - 1


def test_row_04_an_hour_is_no_pause(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("429_hour")) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(9))) == [NOT_ASKED] * 9
        assert "asks to wait 3,600 s" in str(llm.stopped)
        assert server.n_requests == 1


def test_row_04_a_server_that_only_refuses_is_not_borne_with_for_ever(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("429_absent")) as server, asking(tmp_path, server.url, first_wait=0.0005) as llm:
        assert kinds(llm.ask(questions(9))) == [NOT_ASKED] * 9
        assert isinstance(llm.stopped, BudgetError)
        assert server.n_requests == 11


@pytest.mark.parametrize("fault", ["insufficient_quota", "402"])
def test_row_05_a_used_up_quota_is_not_retried(fault: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(50))) == [NOT_ASKED] * 50
        assert server.n_requests == 1
        assert isinstance(llm.stopped, BudgetError)
        assert llm.stopped.exit_code == 4


def test_row_05_a_quota_that_ends_midway_keeps_what_was_answered(tmp_path: Path) -> None:
    faults = lambda number, body: "insufficient_quota" if number > 30 else None  # noqa: E731
    with LoopbackLLM(faults=faults, latency=0.01) as server, asking(tmp_path, server.url) as llm:
        results = llm.ask(questions(100))
        assert kinds(results).count("answer") == 30
        assert server.n_requests <= 30 + 8
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(100))) == ["answer"] * 100
        assert server.n_requests == 70


@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_row_06_a_refused_key_or_model_costs_one_call(fault: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(200))) == [NOT_ASKED] * 200
        assert server.n_requests == 1
        assert isinstance(llm.stopped, NetworkError)
        assert f"answered {fault}" in str(llm.stopped)


@pytest.mark.parametrize("fault", ["context_length", "context_llama"])
def test_row_07_a_prompt_that_is_too_long_fails_alone(fault: str, tmp_path: Path) -> None:
    faults = lambda number, body: fault if '"item": 3}' in str(body) else None  # noqa: E731
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url) as llm:
        results = llm.ask(questions(10))
        assert kinds(results) == ["answer"] * 3 + ["context"] + ["answer"] * 6
        assert server.n_requests == 10


def test_row_07_a_prompt_beyond_the_stated_context_is_not_sent(tmp_path: Path) -> None:
    with LoopbackLLM() as server, asking(tmp_path, server.url, context_tokens=500) as llm:
        assert kinds(llm.ask([question(1), question(2, padding=8000)])) == ["answer", "context"]
        assert server.n_requests == 1


@pytest.mark.parametrize("fault", ["500", "502", "503", "504", "html", "html_502"])
def test_row_08_a_server_in_trouble_is_asked_again(fault: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(2, fault)) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert server.n_requests == 3
        assert llm.counts.retried == 2


@pytest.mark.parametrize("fault", ["500", "html", "html_502"])
def test_row_08_what_a_server_in_trouble_says_is_shortened(fault: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url, attempts=1) as llm:
        (result,) = llm.ask([question(1)])
        assert isinstance(result, Failure)
        assert result.kind == "passing"
        assert len(result.message) < 300
        assert "\n" not in result.message


def test_row_08_pauses_grow(tmp_path: Path) -> None:
    """Each is at least half of `first_wait`, doubled with every fault; `longest_wait` is a second here."""
    server = LoopbackLLM(faults=always("503"))
    with server, asking(tmp_path, server.url, attempts=4, first_wait=0.1) as llm:
        llm.ask([question(1)])
        times = [received.at for received in server.requests]
        assert all(times[k + 1] - times[k] >= 0.05 * 2**k for k in range(3))


def test_row_08_the_attempts_of_a_question_are_limited(tmp_path: Path) -> None:
    faults = lambda number, body: "503" if number > 1 else None  # noqa: E731
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url, attempts=4) as llm:
        assert kinds(llm.ask([question(1)]) + llm.ask([question(2)])) == ["answer", "passing"]
        assert (server.n_requests, llm.stopped) == (5, None)


@pytest.mark.parametrize(
    ("fault", "kind", "calls"),
    [
        ("empty", "empty", 2),
        ("null", "empty", 2),
        ("blank", "empty", 2),
        ("no_choices", "empty", 2),
        ("null_choices", "empty", 2),
        ("refusal", "refused", 1),
        ("content_filter", "filtered", 1),
    ],
)
def test_row_09_a_reply_without_content_is_a_failure(fault: str, kind: str, calls: int, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == [kind]
        assert server.n_requests == calls
        assert llm.journal.failures() == {kind: calls}


def test_row_10_a_cut_reply_gets_twice_the_tokens_once(tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(1, "cut")) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert [body["max_tokens"] for body in server.bodies] == [100, 200]
    with LoopbackLLM(faults=always("cut")) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(2)])) == ["cut"]
        assert server.n_requests == 2


def test_row_10_a_reply_that_is_whole_but_said_to_be_cut_is_no_answer(tmp_path: Path) -> None:
    with LoopbackLLM(mind=lambda body: '{"rating": 4}' + " " * 4000) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["cut"]


@pytest.mark.parametrize(("fault", "kind"), [("fenced", "answer"), ("prose", "invalid"), ("prose_around", "invalid")])
def test_row_11_a_server_that_ignores_response_format(fault: str, kind: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == [kind]
        assert server.n_requests == (1 if kind == "answer" else 2)


def test_row_11_a_reply_that_fails_its_check_is_asked_for_once_more(tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(1, "extra_key")) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert llm.counts.asked_again == 1


@pytest.mark.parametrize(("fault", "formats"), [("no_schema", ["json_object"]), ("no_json", [None])])
def test_row_11_what_the_server_lacks_is_found_out_once(fault: str, formats: list[str | None], tmp_path: Path) -> None:
    with (
        LoopbackLLM(mind=lambda body: '{"rating": 4}', faults=always(fault)) as server,
        asking(tmp_path, server.url, attempts=1) as llm,
    ):
        assert kinds(llm.ask(questions(30))) == ["answer"] * 30
        sent = [(body.get("response_format") or {}).get("type") for body in server.bodies]
        assert sent[0] == "json_schema"
        assert set(sent[3:]) <= {"json_object", *formats}
        assert sent[-1:] == formats
        assert server.n_requests <= 33


def test_row_11_a_form_of_replies_that_the_server_refuses_is_named(tmp_path: Path) -> None:
    server = LoopbackLLM(faults=always("no_schema"))
    with server, asking(tmp_path, server.url, structured="schema") as llm:
        assert kinds(llm.ask(questions(30))) == [NOT_ASKED] * 30
        assert isinstance(llm.stopped, SettingsError)
        assert 'set llm.structured = "auto"' in str(llm.stopped)
        assert server.n_requests == 2


def test_the_name_of_the_token_limit_is_found_out_once(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("no_max_tokens")) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(30))) == ["answer"] * 30
        assert server.n_requests == 31


def test_a_server_that_takes_no_token_limit_stops_the_run(tmp_path: Path) -> None:
    """The two names of the field are not tried in turns for ever."""
    faults = lambda number, body: next(  # noqa: E731
        (f"no_{field}" for field in ("max_tokens", "max_completion_tokens") if field in body and number < 20), None
    )
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(3))) == [NOT_ASKED] * 3
        assert isinstance(llm.stopped, SettingsError)
        assert "it takes no token limit" in str(llm.stopped)
        assert server.n_requests == 2


def test_a_server_that_rejects_everything_stops_the_run(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("400")) as server, asking(tmp_path, server.url) as llm:
        results = llm.ask(questions(300))
        assert kinds(results)[0] == "rejected"
        assert kinds(results)[-1] == NOT_ASKED
        assert 20 <= server.n_requests <= 20 + 8


def test_rejections_between_answers_do_not_stop_the_run(tmp_path: Path) -> None:
    faults = lambda number, body: "400" if number % 3 else None  # noqa: E731
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url, concurrency=1) as llm:
        assert kinds(llm.ask(questions(60))).count("rejected") == 40
        assert llm.stopped is None


def test_row_49_a_redirect_is_not_followed_and_its_target_is_shown_without_the_key(
    tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sentinel-0123456789")
    target = httpserver.url_for("/elsewhere?key=sk-sentinel-0123456789")
    moved = Response("", 308, {"Location": target})
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(lambda request: moved)
    with asking(tmp_path, httpserver.url_for("/v1")) as llm:
        assert kinds(llm.ask(questions(2))) == [NOT_ASKED] * 2
        assert "has moved to" in str(llm.stopped)
        assert "elsewhere?key=[key]; put that into llm.base_url" in str(llm.stopped)
    assert [request.path for request, _ in httpserver.log] == ["/v1/chat/completions"]


@pytest.mark.parametrize("key", ["sk-sentinel-0123456789", "s3cr3t"])
@pytest.mark.parametrize("spell", ["plain", "json", "percent"])
def test_row_49_a_key_in_a_reply_or_an_error_is_neither_stored_nor_shown(
    key: str, spell: str, tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text is cleaned after the JSON around it is parsed, so that no escape hides the key."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    marks = {"plain": "{}", "json": "\\u{:04x}", "percent": "%{:02x}"}
    spelled = "".join(marks[spell].format(c if spell == "plain" else ord(c)) for c in key)
    content = f'{{"rating": 4}}{spelled}'
    reply = json.dumps({"choices": [{"message": {"content": content}}]}).replace("\\\\u", "\\u")
    httpserver.expect_oneshot_request("/v1/chat/completions").respond_with_data(reply)
    error = f'{{"error": {{"message": "who is {spelled}?"}}}}'
    httpserver.expect_request("/v1/chat/completions").respond_with_data(error, status=401)
    with asking(tmp_path, httpserver.url_for("/v1"), concurrency=1) as llm:
        llm.ask([question(1), question(2)])
        assert "who is [key]?" in str(llm.stopped)
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key.encode() not in stored
    assert spelled.encode() not in stored


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY"])
def test_a_proxy_of_the_desktop_does_not_stand_before_this_machine(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "socks://127.0.0.1:1")
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    with (
        asking(tmp_path, "http://nobody.invalid/v1") as llm,
        pytest.raises(SettingsError, match="names a proxy that cannot be used; set HTTPS_PROXY"),
    ):
        llm.ask([question(2)])


def test_row_49_a_key_that_is_spelled_with_escapes_is_not_stored(
    tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sentinel-0123456789")
    spelled = "".join(f"\\u{ord(character):04x}" for character in "sk-sentinel-0123456789")
    body = f'{{"choices": [{{"message": {{"content": "{{\\"rating\\": 4}}"}}}}], "model": "{spelled}"}}'
    httpserver.expect_request("/v1/chat/completions").respond_with_data(body)
    with asking(tmp_path, httpserver.url_for("/v1")) as llm:
        (answer,) = llm.ask([question(1)])
        assert (answer.value, answer.model) == (4, "[key]")


FULL_DISK = """
import resource, sys
from pathlib import Path
from llm_asking import asking, kinds, questions
with asking(Path(sys.argv[1]), sys.argv[2], concurrency=4) as llm:
    llm.ask(questions(2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    results = llm.ask(questions(3000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    keys = [question.key(llm.settings.sampling) for question in questions(3000)]
    print(type(llm.stopped).__name__, kinds(results).count("answer"), len(llm.journal.find(keys)))
    print(llm.budget.committed - llm.budget.spent, llm.budget.calls - llm.counts.calls)
"""


@pytest.mark.parametrize("limit", [1, 200_000], ids=["before sending", "with answers in flight"])
def test_row_29_a_full_disk_stops_the_run_and_no_answer_is_used_that_is_not_kept(limit: int, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="file size limits are a matter of Unix")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with LoopbackLLM(mind=lambda body: '{"rating": 4}' + " " * 300) as server:
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path), server.url, str(limit)]
        child = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert child.returncode == 0, child.stderr
    stopped, n_answers, n_kept, reserved, unsettled = child.stdout.split()
    assert (stopped, reserved, unsettled) == ("StorageError", "0", "0")
    assert 2 <= int(n_answers) == int(n_kept) < 3000
    assert (int(n_answers) == 2) == (limit == 1)


def test_row_12_a_server_that_cuts_prompts_is_named(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("prompt_cut")) as server, asking(tmp_path, server.url) as llm:
        long = [question(number, padding=6000) for number in range(30)]
        assert kinds(llm.ask(long)) == [NOT_ASKED] * 30
        assert isinstance(llm.stopped, NetworkError)
        assert "truncates long prompts" in str(llm.stopped)
        assert "num_ctx" in str(llm.stopped)
        assert server.n_requests == 1
        assert llm.journal.ledger().answered == 0


def test_row_12_a_cut_by_more_than_half_shows_once_the_prompt_is_known(tmp_path: Path, httpserver: HTTPServer) -> None:
    def counting_at_most_900(request: Request) -> Response:
        tokens = min(900, sum(len(message["content"]) for message in request.json["messages"]) * 4 // 10)
        usage = {"prompt_tokens": tokens, "completion_tokens": 4}
        choice = {"message": {"content": '{"rating": 4}'}, "finish_reason": "stop"}
        return Response(json.dumps({"choices": [choice], "usage": usage}), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(counting_at_most_900)
    with asking(tmp_path, httpserver.url_for("/v1"), concurrency=1) as llm:
        assert kinds(llm.ask([question(number, padding=2200) for number in range(6)])) == ["answer"] * 6
        assert kinds(llm.ask([question(7, padding=6000)])) == [NOT_ASKED]
        assert "counted 900 tokens in a prompt of 6," in str(llm.stopped)


@pytest.mark.parametrize("fault", ["usage_missing", "usage_null", "usage_zero"])
def test_row_13_unknown_usage_is_not_zero(fault: str, tmp_path: Path) -> None:
    prices = priced(tmp_path)
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url, prices=prices) as llm:
        (answer,) = llm.ask([question(1)])
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (None, None)
        ledger = llm.journal.ledger()
        assert (ledger.money, ledger.unknown_cost) == (0, 1)
        assert llm.budget.spent == ledger.at_worst > 0


def test_row_13_the_unknown_cost_of_a_reply_that_fails_its_check_is_not_zero(tmp_path: Path) -> None:
    server = LoopbackLLM(mind=lambda body: "four stars", faults=always("usage_missing"))
    with server, asking(tmp_path, server.url, prices=priced(tmp_path)) as llm:
        assert kinds(llm.ask([question(1)])) == ["invalid"]
        ledger = llm.journal.ledger()
        assert (ledger.failed, ledger.possibly_paid, ledger.unknown_cost) == (2, 2, 2)
        assert llm.budget.spent == ledger.at_worst > 0


def test_row_13_a_money_budget_needs_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    with (
        asking(tmp_path, "http://nobody.invalid/v1", budget={"max_money": 10**9}) as llm,
        pytest.raises(SettingsError, match="needs the price of model 'loopback'"),
    ):
        llm.ask([question(1)])


@pytest.mark.parametrize("fault", ["500", "429_short", "drop", "hang", "html", "truncated_body", "503"])
def test_row_14_only_one_layer_retries(fault: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(2, fault)) as server, asking(tmp_path, server.url, deadline=0.2) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert server.n_requests == llm.journal.ledger().calls == llm.counts.calls == 3


@pytest.mark.parametrize(("fault", "kind"), [("huge", "too_large"), ("deep", "invalid")])
def test_row_18_monstrous_replies_are_refused(fault: str, kind: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1, max_tokens=5_000_000)])) == [kind]


def test_row_34_failures_are_never_reused(tmp_path: Path) -> None:
    for fault in ("refusal", "cut", "prose", "empty", "400"):
        with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url) as llm:
            assert "answer" not in kinds(llm.ask(questions(2)))
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(2))) == ["answer"] * 2
        assert server.n_requests == 2


@pytest.mark.parametrize("limit", ["calls", "minutes"])
def test_row_43_a_used_up_budget_stops_the_run(limit: str, tmp_path: Path) -> None:
    """Each request takes a minute of the budget's clock; those in flight when the minutes end are still answered."""
    with LoopbackLLM(latency=0.01) as server:
        minutes = {"max_minutes": 10, "clock": lambda: 60.0 * server.n_requests}
        budget = {"max_calls": 10} if limit == "calls" else minutes
        with asking(tmp_path, server.url, budget=budget, concurrency=4) as llm:
            results = llm.ask(questions(200))
            stopped: HybridSimError | None = llm.stopped
    assert isinstance(stopped, BudgetError)
    assert kinds(results).count("answer") == server.n_requests
    assert 10 <= server.n_requests <= (10 if limit == "calls" else 14)


def test_row_43_calls_wait_for_money_that_others_have_set_aside(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"as_of": "2025-01", "source": "test", "models": {"loopback": {"input": 1, "output": 1000}}}')
    worst_of_three = 3 * 101_000 * 1000
    with (
        LoopbackLLM(latency=0.01) as server,
        asking(tmp_path, server.url, prices=prices, budget={"max_money": worst_of_three}) as llm,
    ):
        results = llm.ask(questions(60))
        assert llm.budget.spent <= worst_of_three
        n_answers = kinds(results).count("answer")
        assert n_answers == server.n_requests
        assert n_answers >= 40 or llm.budget.spent > worst_of_three * 0.6
        assert kinds(results).count(NOT_ASKED) == 60 - n_answers
