"""Replies are read strictly: nothing but one valid JSON value of allowed size and depth comes out."""

from __future__ import annotations

import json
import math
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from hybrid_sim.core.errors import ReplyError
from hybrid_sim.llm.replies import MAX_BYTES, MAX_DEPTH, read_json, read_reply


class Entry(BaseModel):
    item: int
    reason: str
    rating: int = Field(ge=1, le=5)


class Ratings(BaseModel):
    ratings: tuple[Entry, ...]


GOOD = {"ratings": [{"item": n, "reason": f"it's “fine” \\ {n}", "rating": n % 5 + 1} for n in range(1, 6)]}


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("around", ["{}", " \n{}\n ", "```json\n{}\n```", "```\n{}\n```", "```json{}```"])
def test_row_11_json_alone_or_fenced_is_read(around: str, ascii_only: bool) -> None:
    assert read_json(around.replace("{}", json.dumps(GOOD, ensure_ascii=ascii_only))) == GOOD


@pytest.mark.parametrize(
    "around", ["Sure: {}", "{} I hope that helps", "Here:\n```json\n{}\n```", "```json\n{}", "{}{}"]
)
def test_row_11_prose_is_not_read(around: str) -> None:
    with pytest.raises(ReplyError, match="not JSON"):
        read_json(around.replace("{}", json.dumps(GOOD)))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e309", "-1e999", "9" * 5000])
def test_row_15_only_finite_numbers_are_read(number: str) -> None:
    with pytest.raises(ReplyError, match=r"number|integer"):
        read_json(f'{{"rating": {number}}}')


def test_row_17_a_key_named_twice_is_refused() -> None:
    with pytest.raises(ReplyError, match="'rating' twice"):
        read_json('[{"rating": 1, "rating": 5}]')


def test_row_18_deep_nesting_is_refused_before_it_is_parsed() -> None:
    assert read_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    for depth in (MAX_DEPTH + 1, 90_000):
        with pytest.raises(ReplyError, match="deeper than 8"):
            read_json("[" * depth + "]" * depth)


def test_row_18_brackets_in_strings_do_not_count() -> None:
    text = json.dumps({"reason": '[[[[[[[[[["{{{{{{{{{{\\'})
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["x" * (MAX_BYTES + 1), json.dumps("é" * (MAX_BYTES // 2 + 1), ensure_ascii=False)])
def test_row_18_a_long_reply_is_refused(text: str) -> None:
    with pytest.raises(ReplyError, match="longer than 200,000 bytes"):
        read_json(text)


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 90_000, '"' * 190_000, "\\" * 190_000, "```" * 60_000, "```" + " " * 190_000 + "x"]
)
def test_row_18_hostile_text_takes_linear_time(text: str) -> None:
    """In CPU time of this process: quadratic time would be minutes."""
    start = time.process_time()
    with pytest.raises(ReplyError):
        read_json(text)
    assert time.process_time() - start < 10.0


def test_row_22_half_a_surrogate_pair_is_refused() -> None:
    for text in ('{"reason": "\\ud83d"}', '{"\\udc00": 1}', '{"reason": "\ud83d"}'):
        with pytest.raises(ReplyError, match=r"surrogate|Unicode"):
            read_json(text)
    assert read_json('{"reason": "\\ud83d\\ude00"}') == {"reason": "😀"}


def test_a_model_is_read_with_its_own_types() -> None:
    assert read_reply(json.dumps(GOOD), Ratings).ratings[4].rating == 1


@pytest.mark.parametrize("rating", ["6", "0", '"4"', "4.5", "true", "null", "[4]", '"four"'])
def test_row_15_other_values_than_the_models_are_refused(rating: str) -> None:
    with pytest.raises(ReplyError, match=r"ratings\.0\.rating"):
        read_reply(f'{{"ratings": [{{"item": 1, "reason": "", "rating": {rating}}}]}}', Ratings)


@pytest.mark.parametrize("place", ["envelope", "entry"])
def test_row_18_other_keys_than_the_models_are_refused(place: str) -> None:
    reply: dict[str, Any] = {"ratings": [{"item": 1, "reason": "", "rating": 4}]}
    (reply if place == "envelope" else reply["ratings"][0])["confidence"] = 1
    with pytest.raises(ReplyError, match="confidence"):
        read_reply(json.dumps(reply), Ratings)


def test_messages_are_one_short_line() -> None:
    for text in ("no\x1b[31m\nJSON" * 1000, '{"ratings": [' + "{}," * 1000 + "{}]}"):
        with pytest.raises(ReplyError) as caught:
            read_reply(text, Ratings)
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = read_json(text)
    except ReplyError:
        return
    assert read_json(json.dumps(value)) == value


def test_10000_fuzzed_replies_give_nothing_but_valid_ratings() -> None:
    rng = random.Random(0)
    good, accepted = json.dumps(GOOD), 0
    for _ in range(10_000):
        text = mutated(good, rng)
        try:
            reply = read_reply(text, Ratings)
        except ReplyError:
            continue
        accepted += 1
        value = json.loads(text.strip().removeprefix("```json").removesuffix("```"))
        assert set(value) == {"ratings"}
        assert [entry.rating for entry in reply.ratings] == [entry["rating"] for entry in value["ratings"]]
        for entry in value["ratings"]:
            assert set(entry) == {"item", "reason", "rating"}
            assert type(entry["rating"]) is int
            assert 1 <= entry["rating"] <= 5
            assert math.isfinite(entry["item"])
    assert 500 < accepted < 9_500


PIECES = (
    "NaN", "Infinity", "1e309", "true", "null", '"4"', '"4/5"', "4.0", "0", "6", "-1", "[4]", "{}", "[[[[[[[[[[",
    ",", ":", '"', "\\", "\x00", "\ud800", "\\ud800", "```", "```json", '"rating": 3, ', '"extra": 1, ', "9" * 400,
    " ", "\n",
)  # fmt: skip


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        at, until = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + rng.choice(PIECES) + text[min(at + 1, len(text)) :]
            case 2:
                text = text[:at]
            case 3:
                text = text[:until] + text[at:until] + text[until:]
            case 4:
                digits = [place for place, letter in enumerate(text) if letter.isdigit()]
                place = rng.choice(digits) if digits else 0
                text = text[:place] + rng.choice(PIECES[:14]) + text[place + 1 :]
            case 5:
                text = f"```json\n{text}\n```"
        if not text:
            return "{}"
    return text
