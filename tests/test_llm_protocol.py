"""How replies, errors and headers of servers are interpreted, and how requests are adapted; without a server."""

from __future__ import annotations

import email.utils
import json
from typing import Any

import pytest
from llm_asking import question

from hybrid_sim.core.errors import BudgetError, NetworkError, SettingsError
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.budget import PromptUsage
from hybrid_sim.llm.dialect import Dialect
from hybrid_sim.llm.outcomes import Fault, Reply, read_outcome
from hybrid_sim.llm.question import Usage
from hybrid_sim.llm.tokens import TokenEstimates, TruncationCheck, beyond_context
from hybrid_sim.llm.transport import Endpoint

ADDRESS = "http://llm.example/v1"


def fault(status: int, headers: dict[str, str] | None = None, **error: Any) -> Fault:
    body = json.dumps({"error": {"message": "no", **error}}).encode()
    outcome = read_outcome(status, headers or {}, body, ADDRESS)
    assert isinstance(outcome, Fault)
    return outcome


def completion(**parts: Any) -> Reply | Fault:
    content = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], **parts}
    return read_outcome(200, {}, json.dumps(content).encode(), ADDRESS)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": email.utils.formatdate(1060, usegmt=True), "date": email.utils.formatdate(1000)}, 60.0),
        ({"retry-after": email.utils.formatdate(900, usegmt=True), "date": email.utils.formatdate(1000)}, 0.0),
        ({"retry-after": "-3"}, None), ({"retry-after": "inf"}, None), ({"retry-after": "soon"}, None), ({}, None),
    ],
)  # fmt: skip
def test_row_04_the_pause_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    limited = fault(429, headers)
    assert (limited.remedy, limited.after) == ("wait", seconds)


def test_row_04_a_pause_beyond_ten_minutes_ends_the_run() -> None:
    assert fault(429, {"retry-after": "600"}).remedy == "wait"
    ended = fault(429, {"retry-after": "601"})
    assert (ended.remedy, type(ended.error)) == ("stop", BudgetError)


@pytest.mark.parametrize(
    ("status", "possibly_paid"),
    [(408, True), (409, False), (500, False), (502, True), (503, False), (504, True), (524, True)],
)
def test_row_03_a_gateways_error_may_have_been_paid(status: int, possibly_paid: bool) -> None:
    assert (fault(status).remedy, fault(status).possibly_paid) == ("retry", possibly_paid)


@pytest.mark.parametrize(
    ("status", "error", "remedy", "kind"),
    [
        (400, {"code": "context_length_exceeded"}, "skip", "context"),
        (413, {}, "skip", "context"),
        (403, {"message": "flagged by moderation"}, "skip", "filtered"),
        (403, {}, "stop", "rejected"),
        (422, {}, "skip", "rejected"),
        (400, {"param": "seed"}, "adapt", "rejected"),
        (400, {"message": "max_tokens must be less than 4096"}, "skip", "rejected"),
        (418, {}, "skip", "rejected"),
    ],
)
def test_errors_are_told_apart(status: int, error: dict[str, Any], remedy: str, kind: str) -> None:
    assert (fault(status, **error).remedy, fault(status, **error).kind) == (remedy, kind)


@pytest.mark.parametrize("odd", [-5, 0, True, "12", 1.5, None, 1 << 41])
def test_row_13_a_token_count_that_is_none_is_unknown(odd: Any) -> None:
    reply = completion(usage={"prompt_tokens": odd, "completion_tokens": odd})
    assert isinstance(reply, Reply)
    assert reply.usage == Usage()
    assert completion(usage=[1]) == completion()
    refused = completion(choices=[], usage={"prompt_tokens": odd, "completion_tokens": 3})
    assert isinstance(refused, Fault)
    assert refused.possibly_paid


def test_row_09_an_error_in_the_place_of_choices_is_that_error() -> None:
    outcome = completion(choices=None, error={"message": "Overloaded", "code": 503})
    assert isinstance(outcome, Fault)
    assert (outcome.remedy, "answered 503: Overloaded" in outcome.message) == ("retry", True)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_rows_09_10_a_text_that_the_server_calls_incomplete_is_no_reply(reason: str) -> None:
    outcome = completion(choices=[{"message": {"content": "4"}, "finish_reason": reason}])
    assert isinstance(outcome, Fault)
    assert outcome.kind == {"length": "cut", "content_filter": "filtered"}[reason]


# requests


def test_calls_in_flight_that_are_rejected_for_one_field_change_the_format_once() -> None:
    dialect = Dialect(LLMSettings(model="m"), is_openai=False)
    first = dialect.body(question(1), 50)
    for _ in range(3):
        dialect.adapt(["response_format"], first, "no schemas")
        dialect.adapt(["max_tokens"], first, "no max_tokens")
    second = dialect.body(question(1), 50)
    assert (first["max_tokens"], second["max_completion_tokens"], "max_tokens" in second) == (50, 50, False)
    assert (dialect.form, "strict" in second["response_format"]["json_schema"]) == ("simple", False)
    dialect.adapt(["response_format"], second, "no schemas")
    dialect.adapt(["response_format"], first, "no schemas")
    assert dialect.form == "json"


def test_a_server_that_rejects_both_names_of_the_token_limit_is_not_asked_in_turns() -> None:
    dialect = Dialect(LLMSettings(model="m"), is_openai=True)
    dialect.adapt(["max_tokens"], dialect.body(question(1), 50), "no max_completion_tokens")
    with pytest.raises(SettingsError, match="no max_tokens; it takes no token limit"):
        dialect.adapt(["max_tokens"], dialect.body(question(1), 50), "no max_tokens")


def test_a_server_without_json_mode_that_still_complains_names_the_setting() -> None:
    dialect = Dialect(LLMSettings(model="m", structured="none"), is_openai=False)
    with pytest.raises(NetworkError, match=r"odd; the request holds no seed"):
        dialect.adapt(["seed"], {}, "odd")
    with pytest.raises(SettingsError, match=r"set llm\.structured"):
        dialect.adapt(["response_format"], dialect.body(question(1), 50), "odd")


def test_row_33_samples_are_sent_with_seeds_of_their_own() -> None:
    dialect = Dialect(LLMSettings(model="m", seed=7), is_openai=False)
    assert [dialect.body(question(1, sample=sample), 50)["seed"] for sample in range(3)] == [7, 8, 9]


# tokens


def test_row_12_only_long_prompts_are_checked_for_truncation_and_by_what_was_counted_before() -> None:
    check = TruncationCheck(ADDRESS)
    assert check.error(question(1), 1) is None
    assert check.error(question(1, padding=6000), None) is None
    assert isinstance(check.error(question(1, padding=6000), 300), NetworkError)
    for _ in range(4):
        assert check.error(question(1, padding=4000), 1200) is None
    assert check.error(question(1, padding=8000), 1200) is None  # four counts are not enough, and this is the fifth
    assert check.error(question(1, padding=8000), 1200) is None  # half of the lowest density that was counted
    assert isinstance(check.error(question(1, padding=24000), 1200), NetworkError)


def test_row_07_prompt_and_reply_together_must_fit_into_the_context() -> None:
    size = sum(len(message.content) for message in question(1, padding=6000).messages)
    room = size // 10 + 100
    assert beyond_context(question(1, padding=6000), None) == ""
    assert beyond_context(question(1, padding=6000), room + 1) == ""
    assert "do not fit" in beyond_context(question(1, padding=6000), room - 1)


def test_usage_without_an_answer_or_a_count_calibrates_nothing() -> None:
    useless = [PromptUsage("rate@1", 3, 0, 2, 500, 90, 9), PromptUsage("rate@1", 3, 2, 0, 0, 0, 0)]
    for usage in useless:
        estimates = TokenEstimates([usage])
        assert estimates.usage("rate@1") is None
        assert estimates.prompt_tokens(question(1)) == TokenEstimates().prompt_tokens(question(1))


# the key


@pytest.mark.parametrize("key", ["sk-é", "sk-\n12345678", "sk-\x1b12345678"])
def test_row_25_a_key_that_no_header_can_hold_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(SettingsError, match="holds characters that no key has") as refused:
        Endpoint.of(LLMSettings(), {"OPENAI_API_KEY": key})
    assert key not in str(refused.value)


def test_json_mode_is_requested_with_the_word_json() -> None:
    dialect = Dialect(LLMSettings(model="m", structured="json"), is_openai=False)
    body = dialect.body(question(1), 50)
    assert body["messages"][-1]["content"] == '{"item": 1}\n\nReply in JSON.'
    assert body["stream"] is False


def test_a_schema_is_not_simplified_beyond_what_the_user_asks_for() -> None:
    dialect = Dialect(LLMSettings(model="m", structured="schema"), is_openai=False)
    dialect.adapt(["response_format"], dialect.body(question(1), 50), "no schemas")
    assert dialect.form == "simple"  # The question's schema has no bounds to leave out.
    with pytest.raises(SettingsError, match=r"no schemas; set llm\.structured"):
        dialect.adapt(["response_format"], dialect.body(question(1), 50), "no schemas")


def test_auto_that_finds_no_form_does_not_advise_itself() -> None:
    dialect = Dialect(LLMSettings(model="m"), is_openai=False)
    while dialect.form != "none":
        dialect.adapt(["response_format"], dialect.body(question(1), 50), "no forms")
    with pytest.raises(SettingsError, match="no way to request JSON is left") as refused:
        dialect.adapt(["response_format"], dialect.body(question(1), 50), "no forms")
    assert "auto" not in str(refused.value)


def test_row_49_a_key_is_removed_however_it_is_spelled() -> None:
    endpoint = Endpoint(ADDRESS, "sk-a/b-12345")
    escaped = "".join(f"\\u{ord(character):04x}" for character in endpoint.key)
    percent = "".join(f"%{ord(character):02X}" for character in endpoint.key)
    spellings = [endpoint.key, escaped, escaped.replace("\\", "\\\\\\"), endpoint.key.replace("/", "\\/")]
    spellings += [percent, percent.replace("%", "%25"), endpoint.key.replace("-", "%2d"), endpoint.key.upper()]
    for spelling in spellings:
        assert endpoint.without_key(f"my key is {spelling}!") == "my key is [key]!"
    assert endpoint.without_key("a backslash \\ and sk-a/b-12344") == "a backslash \\ and sk-a/b-12344"


def test_row_49_a_short_key_is_removed_as_a_word_but_breaks_no_reply() -> None:
    clean = Endpoint(ADDRESS, "s3cret").without_key
    assert clean('key s3cret, {"reason": "a\\ns3cret"}, s%33cret') == 'key [key], {"reason": "a\\n[key]"}, [key]'
    assert clean("s3crets") == "s3crets"
    assert Endpoint(ADDRESS, "rating").without_key('{"rating": 4}') == '{"rating": 4}'
    assert Endpoint(ADDRESS, "4").without_key('{"rating": 4}') == '{"rating": 4}'
