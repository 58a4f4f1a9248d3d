"""Every dialect of a server, over real HTTP: all pairs are answered where the server answers rightly underneath."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from llm_asking import asking, kinds, question, questions
from llm_dialects import DIALECTS, Refusal, ServerDialect, cut, streamed_in_part, thinks
from llm_minds import example_in
from llm_pairs import pairs_answered
from llm_server import LoopbackLLM, always, first

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import NetworkError
from hybrid_sim.core.settings import LLMSettings, RatingSettings
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.llm.doctor import examine
from hybrid_sim.llm.outcomes import is_loop
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template

NOT_ASKED = "not_asked"
LOOP = '{"reason": "' + "I love slow stories. " * 40


@pytest.mark.parametrize("name", DIALECTS)
def test_a_server_that_answers_rightly_underneath_answers_every_pair(name: str, tiny: Dataset, tmp_path: Path) -> None:
    result = pairs_answered(DIALECTS[name], tiny, tmp_path)
    assert (result.answered, result.stopped) == (result.pairs, None)
    again = pairs_answered(DIALECTS[name], tiny, tmp_path)
    assert (again.answered, again.calls) == (again.pairs, 0)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("plain", "replies are requested by a JSON schema; they keep to it"),
        ("sglang, grammar", "by a JSON schema without bounds; they keep to it"),
        ("groq, no schemas", "in JSON mode"),
        ("vllm, roles alternate", "system messages are put into the user's; they keep to it"),
        ("openrouter, error of a provider", "llm.seed is left out; they keep to it"),
        ("thinking beyond the token limit", "token limits are 8 times the usual ones, for reasoning; they keep to it"),
    ],
)
def test_the_doctor_asks_as_a_run_does_and_says_what_was_negotiated(name: str, sentence: str, tmp_path: Path) -> None:
    with LoopbackLLM(dialect=DIALECTS[name]) as server:
        settings = LLMSettings(model="loopback", base_url=server.url, seed=7)
        findings = {finding.name: finding for finding in examine(settings, tmp_path, environment={})}
        asked = server.bodies[-1]
    assert sentence in findings["reply"].sentence
    assert json.dumps(asked).count("title") == 3


def test_what_was_negotiated_is_remembered_for_the_run(tmp_path: Path) -> None:
    with LoopbackLLM(dialect=DIALECTS["gemini, unknown names"]) as server:
        for number, calls in ((1, 3), (2, 4)):
            with asking(tmp_path, server.url, seed=7) as llm:
                assert kinds(llm.ask([question(number)])) == ["answer"]
            assert server.n_requests == calls


def test_reasoning_beyond_the_largest_limit_stops_the_run_after_a_few_calls(tmp_path: Path) -> None:
    server = LoopbackLLM(dialect=ServerDialect(dress=thinks(10**6)))
    with server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(50))) == ["cut"] + [NOT_ASKED] * 49
        assert [body["max_tokens"] for body in server.bodies] == [100, 200, 400, 800]
        assert isinstance(llm.stopped, NetworkError)
        assert "reasoning used up the token limit of 800; raise rating.max_tokens" in str(llm.stopped)


def test_reasoning_enlarges_the_limit_only_within_the_budget(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"as_of": "2025-01", "source": "t", "models": {"loopback": {"input": 0, "output": 1000}}}')
    server = LoopbackLLM(dialect=ServerDialect(dress=thinks(10**6)))
    budget = {"max_money": 300 * 10**6}
    with server, asking(tmp_path, server.url, prices=prices, budget=budget) as llm:
        assert kinds(llm.ask(questions(5))) == [NOT_ASKED] * 5
        assert [body["max_tokens"] for body in server.bodies] == [100, 200]
        assert "the money budget of $0.30 is used up" in str(llm.stopped)


def test_a_reply_that_repeats_itself_is_not_enlarged(tmp_path: Path) -> None:
    server = LoopbackLLM(dialect=ServerDialect(dress=cut(LOOP)))
    with server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(3))) == ["cut"] * 3
        assert [body["max_tokens"] for body in server.bodies] == [100] * 3


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        (LOOP, True),
        ("{" + "\n" * 300, True),
        ('{"ratings": [' + "".join(f'{{"item": {k}, "reason": "Good.", "rating": 4}}, ' for k in range(30)), True),
        ("They like it!!!!", False),
        ("ha ha ha ha ha", False),
        ("".join(chr(97 + k**3 % 23) for k in range(1, 23)) + " and so on and so on and so on", False),
    ],
)
def test_a_loop_is_a_passage_four_times_over(text: str, loops: bool) -> None:
    assert is_loop(text) == loops


def test_a_call_that_outlives_the_deadline_after_a_cut_is_not_repeated(tmp_path: Path) -> None:
    faults = lambda number, body: "hang" if number > 1 else None  # noqa: E731
    server = LoopbackLLM(faults=faults, dialect=ServerDialect(dress=cut('{"rating"')))
    with server, asking(tmp_path, server.url, deadline=0.2, attempts=5) as llm:
        assert kinds(llm.ask([question(1)])) == ["passing"]
        assert server.n_requests == 2


@pytest.mark.parametrize(("fault", "kind"), [("prose", "invalid"), ("empty", "empty"), ("refusal", "refused")])
def test_a_run_in_which_nothing_is_usable_is_paid_for_only_a_little_and_only_once(
    fault: str, kind: str, tmp_path: Path
) -> None:
    with LoopbackLLM(faults=always(fault)) as server:
        for calls in (20, 20):
            with asking(tmp_path, server.url) as llm:
                results = kinds(llm.ask(questions(300)))
                assert results[-1] == NOT_ASKED
                assert isinstance(llm.stopped, NetworkError)
                assert llm.stopped.exit_code == 3
                assert "usable" in str(llm.stopped)
                assert "llm.model" in str(llm.stopped)
            assert server.n_requests == calls
    assert results == [NOT_ASKED] * 300


def test_a_run_with_answers_bears_as_many_useless_replies_in_a_row(tmp_path: Path) -> None:
    faults = lambda number, body: "refusal" if 40 < number <= 70 else None  # noqa: E731
    with LoopbackLLM(faults=faults) as server, asking(tmp_path, server.url, concurrency=1) as llm:
        assert kinds(llm.ask(questions(80))).count("answer") == 50
        assert llm.stopped is None


def test_a_form_in_which_nothing_usable_comes_is_given_up(tmp_path: Path) -> None:
    """Some servers take a schema and then reply with nothing."""
    faults = lambda number, body: "empty" if "response_format" in body else None  # noqa: E731
    mind = lambda body: '{"rating": 4}'  # noqa: E731
    with LoopbackLLM(mind=mind, faults=faults) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(30))).count("answer") >= 20
        assert server.n_requests < 50


def test_a_form_that_brought_answers_is_kept_by_later_processes_of_the_run(tmp_path: Path) -> None:
    with LoopbackLLM() as server, asking(tmp_path, server.url) as llm:
        llm.ask(questions(2))
    with LoopbackLLM(faults=always("empty")) as server, asking(tmp_path, server.url, concurrency=1) as llm:
        llm.ask(questions(12))
        assert all(body["response_format"]["json_schema"]["strict"] for body in server.bodies)


def test_copies_of_the_example_are_neither_asked_for_again_nor_a_fault_of_the_form(
    tiny: Dataset, tmp_path: Path
) -> None:
    """Replies of SmolLM2 have the form, but it repeats them word for word."""
    template, histories = load_template("rate"), Histories(tiny)
    asked = [
        rating_question(template, tiny, UserState(user, histories.of(user)), np.array([1, 2]), RatingSettings())
        for user in range(8)
    ]
    with LoopbackLLM(mind=lambda body: json.dumps(example_in(body))) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(asked)) == ["copied"] * 8
        assert server.n_requests == 8
        assert all("maxItems" in json.dumps(body["response_format"]) for body in server.bodies)


def test_a_stream_that_breaks_off_is_asked_again(tmp_path: Path) -> None:
    server = LoopbackLLM(dialect=ServerDialect(dress=streamed_in_part))
    with server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["passing"]
        assert server.n_requests == 3


def test_a_500_that_tells_of_no_grammar_is_only_tried_again(tmp_path: Path) -> None:
    with LoopbackLLM(faults=first(1, "500")) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask([question(1)])) == ["answer"]
        assert [body["response_format"]["type"] for body in server.bodies] == ["json_schema"] * 2


def test_a_server_that_complains_of_what_is_not_sent_stops_the_run(tmp_path: Path) -> None:
    refusal = Refusal(lambda body: True, 400, {"error": {"message": "unknown parameter top_p"}})
    with LoopbackLLM(dialect=ServerDialect((refusal,))) as server, asking(tmp_path, server.url) as llm:
        assert kinds(llm.ask(questions(9))) == [NOT_ASKED] * 9
        assert "the request holds no top_p" in str(llm.stopped)
        assert server.n_requests == 1
