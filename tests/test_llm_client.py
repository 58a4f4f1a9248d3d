"""Every fault of the network and the API, over real HTTP; the names carry the rows of the list of faults."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from llm_asking import asking, kinds, question, questions
from llm_server import FaultPlan, LoopbackLLM, Storm, always, dead_address, first
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError, SettingsError
from hybrid_sim.llm.question import Failure

NOT_ASKED = "not_asked"


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


@pytest.mark.parametrize("address", [dead_address(), "http://nobody.invalid/v1"])
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
    address = dead_address()
    with asking(tmp_path, address) as llm:
        with LoopbackLLM(port=int(address.split(":")[2].split("/")[0])):
            assert kinds(llm.ask(questions(20))) == ["answer"] * 20
        results = llm.ask(questions(500))
        assert kinds(results)[:20] == ["answer"] * 20
        assert kinds(results).count(NOT_ASKED) >= 500 - 20 - 8
        assert isinstance(llm.stopped, NetworkError)
        assert llm.counts.calls <= 20 + 8 * 3
        assert kinds(llm.ask(questions(21)))[20] == NOT_ASKED


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_row_02_a_total_deadline_ends_an_attempt(fault: str, tmp_path: Path) -> None:
    with (
        LoopbackLLM(faults=first(1, fault), drip=0.05) as server,
        asking(tmp_path, server.url, deadline=0.3) as llm,
    ):
        start = time.monotonic()
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert time.monotonic() - start < 2
        assert llm.journal.ledger().possibly_paid == 1
        assert llm.counts.possibly_paid_twice == 1


def test_row_02_a_server_that_never_answers_stops_the_run(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("hang")) as server, asking(tmp_path, server.url, deadline=0.1) as llm:
        assert kinds(llm.ask(questions(50))) == ["passing"] + [NOT_ASKED] * 49
        assert "did not answer within 0.1 s (llm.deadline)" in str(llm.stopped)
        assert server.n_requests == 3


@pytest.mark.parametrize("fault", ["drop", "drop_after_work", "short_body", "truncated_body"])
def test_row_03_a_dropped_call_is_retried_and_shown_as_possibly_paid_twice(fault: str, tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(1, fault)) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert server.n_requests == 2
        assert llm.counts.possibly_paid_twice == llm.journal.ledger().possibly_paid == 1


@pytest.mark.parametrize(
    ("fault", "least"), [("429_seconds", 1.0), ("429_ms", 0.05), ("429_date", 0.0), ("429_short", 0.05)]
)
def test_row_04_the_pause_that_the_server_asks_for_is_kept(fault: str, least: float, tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(1, fault)) as server, asking(tmp_path, server.url, attempts=1) as llm:
        assert kinds(llm.ask(questions(3))) == ["answer"] * 3
        times = [received.at for received in server.requests]
        assert least <= times[1] - times[0] < least + 1.5
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
    with (
        LoopbackLLM(faults=always("503")) as server,
        asking(tmp_path, server.url, attempts=4, first_wait=0.1) as llm,
    ):
        llm.ask([question(1)])
        times = [received.at for received in server.requests]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert 0.04 <= gaps[0] < 0.16
        assert 0.18 <= gaps[2] < 0.6


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
        assert set(sent[2:]) <= {"json_object", *formats}
        assert sent[-1:] == formats
        assert server.n_requests <= 32


@pytest.mark.parametrize(
    ("fault", "setting", "options"),
    [("no_schema", "llm.structured", {"structured": "schema"}), ("no_temperature", "llm.temperature", {})],
)
def test_row_11_a_setting_that_the_server_refuses_is_named(
    fault: str, setting: str, options: dict[str, str], tmp_path: Path
) -> None:
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url, **options) as llm:
        assert kinds(llm.ask(questions(30))) == [NOT_ASKED] * 30
        assert isinstance(llm.stopped, SettingsError)
        assert setting in str(llm.stopped)
        assert server.n_requests == 1


def test_the_name_of_the_token_limit_is_found_out_once(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("no_max_tokens")) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(30))) == ["answer"] * 30
        assert server.n_requests == 31


def test_a_server_that_rejects_everything_stops_the_run(tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("400")) as server, asking(tmp_path, server.url) as llm:
        results = llm.ask(questions(300))
        assert kinds(results)[0] == "rejected"
        assert kinds(results)[-1] == NOT_ASKED
        assert server.n_requests <= 20 + 8


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
    prices = tmp_path / "prices.json"
    prices.write_text('{"as_of": "2025-01", "source": "test", "models": {"loopback": {"input": 1000, "output": 1000}}}')
    with LoopbackLLM(faults=always(fault)) as server, asking(tmp_path, server.url, prices=prices) as llm:
        (answer,) = llm.ask([question(1)])
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (None, None)
        ledger = llm.journal.ledger()
        assert (ledger.money, ledger.unknown_cost) == (0, 1)
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
            assert "answer" not in kinds(llm.ask(questions(3)))
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(3))) == ["answer"] * 3
        assert server.n_requests == 3


@pytest.mark.parametrize("limit", ["calls", "minutes"])
def test_row_43_a_used_up_budget_stops_the_run(limit: str, tmp_path: Path) -> None:
    budget = {"max_calls": 10} if limit == "calls" else {"max_minutes": 0.3 / 60}
    with LoopbackLLM(latency=0.05) as server, asking(tmp_path, server.url, budget=budget) as llm:
        results = llm.ask(questions(200))
        stopped: HybridSimError | None = llm.stopped
        assert isinstance(stopped, BudgetError)
        assert 0 < kinds(results).count("answer") == server.n_requests < 100
        assert limit != "calls" or server.n_requests == 10


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
