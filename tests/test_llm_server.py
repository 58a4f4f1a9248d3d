"""The loopback language model itself: it speaks the protocol, its faults are what they are called, its plans repeat."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
from llm_faults import NAMES, STATUSES, WIRE
from llm_minds import json_in, schema_like
from llm_server import (
    DEAD_ADDRESS,
    FaultPlan,
    LoopbackLLM,
    RateLimit,
    Storm,
    always,
    apart,
    echo_schema,
    once_each,
    rating_mind,
)

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.settings import LLMSettings, ProfileSettings, RatingSettings
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.llm.dialect import Dialect
from hybrid_sim.prompts.profile import ProfilePrompts
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template

ITEMS = [
    {"item": n, "title": f"Film {n}", "overview": words} for n, words in enumerate(("robots in space", "a wedding"), 1)
]
SCHEMA = {
    "type": "object",
    "properties": {
        "ratings": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "item": {"type": "integer"},
                    "reason": {"type": "string"},
                    "rating": {"type": "number", "enum": [1, 2, 3, 4, 5]},
                },
            },
        }
    },
}
PROFILE = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "likes": {"type": "array", "items": {"type": "string"}}},
}


def asked(schema: Any = SCHEMA, items: Any = ITEMS, **more: Any) -> dict[str, Any]:
    seen = [
        {"title": "Star Robots", "overview": "robots in space", "rating": 5},
        {"title": "The Bride", "overview": "a wedding", "rating": 1},
    ]
    user = f"User: {json.dumps({'seen': seen})}\nItems: {json.dumps(items)}"
    body = {
        "model": "m",
        "messages": [{"role": "system", "content": "Rate."}, {"role": "user", "content": user}],
        **more,
    }
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    return body


def post(server: LoopbackLLM, body: dict[str, Any], timeout: float = 5.0) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=timeout)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def content(reply: bytes) -> str:
    text: str = json.loads(reply)["choices"][0]["message"]["content"]
    return text


def test_the_openai_client_understands_it() -> None:
    with LoopbackLLM() as server, openai.OpenAI(api_key="none", base_url=server.url, max_retries=0) as client:
        reply = client.chat.completions.create(**asked())
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage is not None
        assert reply.usage.prompt_tokens > 10
        assert [model.id for model in client.models.list()] == ["loopback"]
        assert server.bodies == [asked()]
        assert server.answered[0].reply == reply.choices[0].message.content
        assert server.counts == {"answered": 1}


def test_the_mind_rates_every_item_and_likes_what_was_liked() -> None:
    with LoopbackLLM() as server:
        ratings = json.loads(content(post(server, asked())[1]))["ratings"]
        assert [row["item"] for row in ratings] == [1, 2]
        assert ratings[0]["rating"] > ratings[1]["rating"]
        assert post(server, asked())[1][-200:] == post(server, asked())[1][-200:]


def test_the_mind_fills_other_schemas_and_imitates_an_example_without_one() -> None:
    with LoopbackLLM() as server:
        profile = json.loads(content(post(server, asked(PROFILE))[1]))
        assert set(profile) == {"summary", "likes"}
        bare = asked(None)
        bare["messages"][0]["content"] = 'Reply like this: {"ratings": [{"item": 1, "rating": 4}]}'
        assert len(json.loads(content(post(server, bare)[1]))["ratings"]) == 2


def test_echo_fills_what_pydantic_writes() -> None:
    schema = {
        "$defs": {"One": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 3}}}},
        "properties": {"ones": {"type": "array", "items": {"$ref": "#/$defs/One"}, "minItems": 2, "maxItems": 2},
                       "maybe": {"anyOf": [{"const": "x"}, {"type": "null"}]}},
        "type": "object",
    }  # fmt: skip
    reply = json.loads(echo_schema(asked(schema)))
    assert reply["ones"] == [{"n": 3}, {"n": 3}]
    assert reply["maybe"] in ("x", None)


def test_a_reply_beyond_the_limit_is_cut_and_a_prompt_beyond_the_context_refused() -> None:
    with LoopbackLLM(context_tokens=200) as server:
        choice = json.loads(post(server, asked(max_tokens=5))[1])["choices"][0]
        assert choice["finish_reason"] == "length"
        assert len(choice["message"]["content"]) == 20
        status, reply, _ = post(server, asked(items=ITEMS * 20))
        assert status == 400
        assert json.loads(reply)["error"]["code"] == "context_length_exceeded"
        assert server.counts == {"answered": 1, "context_length": 1}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("hang", "drip", "huge")])
def test_every_fault_strikes(name: str) -> None:
    limit = "max_completion_tokens" if name == "no_max_completion_tokens" else "max_tokens"
    body = asked(PROFILE if name == "quotes_ratings" else SCHEMA, temperature=0.0, **{limit: 1000})
    with LoopbackLLM() as sound, LoopbackLLM(faults=always(name)) as server:
        good = json.loads(post(sound, body)[1])
        if name in ("drop", "drop_after_work", "short_body"):
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                post(server, body)
        else:
            status, reply, headers = post(server, body)
            assert status == (STATUSES[name].status if name in STATUSES else 502 if name == "html_502" else 200)
            wait = {"429_seconds": "1", "429_short": "0.05", "429_hour": "3600"}.get(name)
            assert headers["retry-after"] == wait or name == "429_date"
            if name == "truncated_body":
                with pytest.raises(json.JSONDecodeError):
                    json.loads(reply)
            elif name not in WIRE:
                bad = json.loads(reply)
                parts = [(good.get(part), bad.get(part)) for part in ("choices", "usage")]
                assert any(one != other for one, other in parts)
        assert server.counts == {name: 1}
        assert not server.answered


def test_faults_of_a_rating_change_one_rating_only() -> None:
    with LoopbackLLM(faults=always("rating_nan")) as server:
        reply = content(post(server, asked())[1])
        assert '"rating": NaN' in reply
        assert len(json.loads(reply)["ratings"]) == 2


def test_what_a_server_cannot_do_strikes_only_who_asks_for_it() -> None:
    with LoopbackLLM(faults=always("no_schema")) as server:
        assert post(server, asked())[0] == 400
        assert post(server, asked(None))[0] == 200
        assert post(server, asked(None, response_format={"type": "json_object"}))[0] == 200


def test_hanging_and_dripping_outlast_a_read_timeout() -> None:
    with LoopbackLLM(faults=always("hang")) as server, pytest.raises(TimeoutError):
        post(server, asked(), timeout=0.2)
    with LoopbackLLM(faults=always("drip"), drip=0.05) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=0.2)
        connection.request("POST", "/v1/chat/completions", json.dumps(asked()))
        response, started = connection.getresponse(), time.monotonic()
        assert len(response.read(10)) == 10  # no single read of a byte took as long as the timeout
        assert time.monotonic() - started > 0.2
        connection.close()


def test_huge_and_deep_replies_are_huge_and_deep() -> None:
    with LoopbackLLM(faults=always("huge")) as server:
        assert len(post(server, asked())[1]) > 10_000_000


def test_a_dead_address_refuses() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((urlsplit(DEAD_ADDRESS).hostname, urlsplit(DEAD_ADDRESS).port or 0))


def test_a_plan_strikes_its_share_whatever_the_order() -> None:
    bodies = [asked(seed=n) for n in range(400)]
    first, second = FaultPlan(seed=3, share=0.25), FaultPlan(seed=3, share=0.25)
    struck = [first(n, body) for n, body in enumerate(bodies)]
    assert struck == [second(n, body) for n, body in enumerate(reversed(bodies))][::-1]
    assert 60 < sum(name is not None for name in struck) < 140
    assert struck != [first(n, body) for n, body in enumerate(bodies)]  # the second attempt has luck of its own
    with pytest.raises(ValueError, match="there is no fault '5000'"):
        FaultPlan(kinds=["5000"])


def test_storms_end_and_limits_let_a_share_pass() -> None:
    storm = Storm(start=2, seconds=0.05)
    assert [storm(n, {}) for n in (1, 2, 3)] == [None, "429_short", "429_short"]
    time.sleep(0.06)
    assert storm(4, {}) is None
    limit = RateLimit(per_second=50)
    assert 50 <= [limit(n, {}) for n in range(200)].count(None) <= 60
    strike = once_each("500")
    assert [strike(n, asked(seed=n % 2)) for n in range(4)] == ["500", "500", None, None]


def test_a_client_that_has_left_is_no_answer() -> None:
    with LoopbackLLM(latency=0.3) as server:
        with pytest.raises(TimeoutError):
            post(server, asked(), timeout=0.1)
        assert server.counts == {}
        time.sleep(0.4)
        assert server.counts == {"gone": 1}


def test_it_answers_in_processes_of_its_own_and_ends_with_them() -> None:
    async def ask(url: str) -> None:
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
            replies = await asyncio.gather(*(client.chat.completions.create(**asked()) for _ in range(20)))
            assert all(reply.choices[0].message.content for reply in replies)

    with apart(latency=0.2, workers=2, mind="echo") as url:
        asyncio.run(ask(url))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))


@pytest.mark.parametrize("structured", ["schema", "none"])
def test_the_mind_answers_the_prompts_of_the_product_and_knows_something(tiny: Dataset, structured: str) -> None:
    words, histories, settings = (
        load_template("rate"),
        Histories(tiny),
        LLMSettings.model_validate({"structured": structured}),
    )
    bodies = Dialect(settings, is_openai=False)
    said, truth = [], []
    with LoopbackLLM(rating_mind(noise=0.3)) as server:
        for user in range(30):
            history = histories.of(user)
            if len(history) < 14:
                continue
            asked = history.item[-4:]
            state = UserState(user, history.first(len(history) - 4))
            question = rating_question(words, tiny, state, asked, RatingSettings(n_history=40))
            reply = question.check(content(post(server, bodies.body(question, 1000))[1]))
            assert reply.rejected == 0
            said += list(reply.ratings)
            truth += list(history.rating[-4:])
            profile = ProfilePrompts(ProfileSettings()).question(tiny, user, history.last(10), None)
            assert profile.check(content(post(server, bodies.body(profile, 1000))[1])).summary
    assert len(said) > 40
    assert np.isfinite(said).all()
    assert np.corrcoef(said, truth)[0, 1] > 0.2


def test_objects_are_found_in_prose_and_schemas_in_examples() -> None:
    assert list(json_in('a {"b": 1} [c] {d} [2, {"e": 3}]')) == [{"b": 1}, [2, {"e": 3}]]
    assert schema_like({"rating": 3, "why": "x"})["properties"]["rating"] == {"enum": [1, 2, 3, 4, 5]}
