"""Replies to rating questions: only a number on the scale, for an item of the list, becomes a rating."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ReplyError, SettingsError
from hybrid_sim.core.settings import RatingSettings
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.data.world import make_world
from hybrid_sim.llm.question import BOUNDS, Question, without
from hybrid_sim.prompts.rating import RatingsReply, rating_question
from hybrid_sim.prompts.templates import load_template
from hybrid_sim.testing import tiny_dataset

ROOT = Path(__file__).parents[1]
HALVES = (0.5, 1, 1.5, 2, 2.5, 3)


def question(dataset: Dataset, n_items: int = 3, **settings: Any) -> Question:
    state = UserState(0, Histories(dataset).of(0))
    return rating_question(load_template("rate"), dataset, state, np.arange(n_items), RatingSettings(**settings))


def entry(item: Any, rating: Any, **more: Any) -> dict[str, Any]:
    return {"item": item, "reason": f"because of {item}", "rating": rating, **more}


@pytest.fixture
def read(tiny: Dataset) -> Callable[..., RatingsReply]:
    """Reads entries, or a whole reply, as the reply to a question about three items on the scale 1 to 5."""

    def check(*entries: Any, reply: str | None = None, dataset: Dataset = tiny, **settings: Any) -> RatingsReply:
        text = json.dumps({"ratings": entries}) if reply is None else reply
        value = question(dataset, **settings).check(text)
        assert isinstance(value, RatingsReply)
        return value

    return check


def given(reply: RatingsReply) -> list[float | None]:
    return [None if np.isnan(rating) else float(rating) for rating in reply.ratings]


def test_a_good_reply_gives_ratings_and_reasons_in_the_order_of_the_items(read: Callable[..., RatingsReply]) -> None:
    reply = read(entry(1, 5), entry(2, 1), entry(3, 4.0))
    assert given(reply) == [5, 1, 4]
    assert reply.reasons == ("because of 1", "because of 2", "because of 3")
    assert (reply.rejected, reply.notes) == (0, ())


@pytest.mark.parametrize("text", ["4", "4.0", "4.00"])
def test_row_15_the_same_number_as_text_counts(read: Callable[..., RatingsReply], text: str) -> None:
    assert given(read(entry(1, text), entry(2, 2))) == [4, 2, None]


OFF_CONTRACT = ["4/5", "four", "", " 4", "4 ", "+4", "04", "4.", ".4e1", "4e0", "0x4", "٤", "４", "4,0", "1_0",
                "4 stars", None, True, False, [4], {"rating": 4}, [], "NaN", "Infinity", "null", "true"]  # fmt: skip


@pytest.mark.parametrize("rating", OFF_CONTRACT, ids=repr)
def test_row_15_anything_else_is_rejected_and_counted(read: Callable[..., RatingsReply], rating: Any) -> None:
    reply = read(entry(1, rating), entry(2, 2))
    assert given(reply) == [None, 2, None]
    assert reply.rejected == 1
    assert reply.notes[0].startswith("item 1: rating ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1" + "0" * 400, "1e-400"])
def test_row_15_numbers_without_end_never_become_ratings(read: Callable[..., RatingsReply], number: str) -> None:
    text = json.dumps({"ratings": [entry(1, "?"), entry(2, 2)]}).replace('"?"', number)
    with suppress(ReplyError):  # to refuse the whole reply is as good
        assert given(read(reply=text)) == [None, 2, None]


@pytest.mark.parametrize("rating", [0, 6, -4, 400, 3.5, 4.001, 4.00001, 1e300, "6", "3.5", "-4", "4.0001", 2**60])
def test_row_16_off_the_scale_or_between_levels_is_rejected_not_clipped(
    read: Callable[..., RatingsReply], rating: Any
) -> None:
    reply = read(entry(1, rating), entry(2, 2))
    assert given(reply) == [None, 2, None]
    assert reply.rejected == 1
    assert "is not on the scale" in reply.notes[0]


def test_row_16_levels_are_those_of_the_scale_or_its_whole_numbers(read: Callable[..., RatingsReply]) -> None:
    halves = tiny_dataset(levels=HALVES)
    entries = (entry(1, 1.5), entry(2, 2), entry(3, "0.5"))
    assert given(read(*entries, dataset=halves)) == [1.5, 2, 0.5]
    assert given(read(*entries, dataset=halves, levels="integers")) == [None, 2, None]


def test_whole_numbers_are_refused_where_the_scale_has_none() -> None:
    with pytest.raises(SettingsError, match=r'rating.levels = "integers": the scale 0.25, 0.5 .* set it to "scale"'):
        question(tiny_dataset(levels=(0.25, 0.5)), levels="integers")


@pytest.mark.parametrize("number", [0, 4, -1, 99, 4.5, "0", "4"])
def test_row_17_an_item_that_was_not_asked_about_makes_the_whole_reply_unusable(
    read: Callable[..., RatingsReply], number: Any
) -> None:
    """A model that numbers from 0 would have its ratings stored under the wrong items."""
    with pytest.raises(ReplyError, match=r"there is no item .* among the 3 asked about"):
        read(entry(number, 5), entry(1, 4), entry(2, 2))


def test_row_17_the_number_of_an_item_counts_as_text_too(read: Callable[..., RatingsReply]) -> None:
    assert given(read(entry("3", 5), entry(1, 4))) == [4, None, 5]


@pytest.mark.parametrize(
    "reason", ["why the person  likes it.", "WHERE THE PERSON LIKES IT", "WHY THE PERSON DISLIKS IT"]
)
def test_a_reason_copied_from_the_prompts_own_example_is_rejected(
    read: Callable[..., RatingsReply], reason: str
) -> None:
    """SmolLM2 copies it, with spelling mistakes."""
    own = {"item": 3, "reason": "The person likes it since it is slow", "rating": 5}
    reply = read({"item": 1, "reason": reason, "rating": 4}, entry(2, 2), own)
    assert (given(reply), reply.rejected) == ([None, 2, 5], 1)
    assert "item 1: the reason is the prompt's example" in reply.notes[0]


def test_the_schema_bounds_what_a_reply_may_hold_and_the_key_does_not_depend_on_it(tiny: Dataset) -> None:
    """Journals that were written before schemas had bounds are still found."""
    asked = question(tiny)
    entries = asked.schema["properties"]["ratings"]
    assert (entries["minItems"], entries["maxItems"]) == (3, 3)
    assert entries["items"]["properties"]["item"] == {"type": "integer", "minimum": 1, "maximum": 3}
    assert entries["items"]["properties"]["reason"]["maxLength"] == 300
    unbounded = replace(asked, schema=without(asked.schema, BOUNDS))
    assert unbounded.schema["properties"]["ratings"].keys() == {"type", "items"}
    assert unbounded.key({}) == asked.key({})


def test_the_lengths_of_reasons_and_overviews_can_be_set() -> None:
    films = make_world(n_users=12, n_items=20, ratings_per_user=5).dataset
    short = question(films, reason_length=40, overview_length=0)
    assert "overview" in question(films, n_history=0).messages[1].content
    assert "overview" not in short.messages[1].content
    assert "in at most 40 characters" in short.messages[0].content
    assert short.schema["properties"]["ratings"]["items"]["properties"]["reason"]["maxLength"] == 60


def test_the_token_limit_of_a_reply_can_be_set(tiny: Dataset) -> None:
    assert (question(tiny).max_tokens, question(tiny, max_tokens=5000).max_tokens) == (560, 5000)


@pytest.mark.parametrize("number", [1.0, None, True, [1], {"item": 1}, "1.0", " 1"])
def test_row_17_what_names_no_item_is_rejected(read: Callable[..., RatingsReply], number: Any) -> None:
    reply = read(entry(number, 5), entry(2, 2))
    assert given(reply) == [None, 2, None]
    assert reply.rejected == 1
    assert reply.notes[0].startswith("there is no such item: ")


def test_row_17_the_order_of_the_entries_does_not_matter(read: Callable[..., RatingsReply]) -> None:
    assert given(read(entry(3, 1), entry(1, 5), entry(2, 3))) == [5, 3, 1]


def test_row_17_what_is_missing_is_named_so_that_it_can_be_asked_again(read: Callable[..., RatingsReply]) -> None:
    reply = read(entry(3, 1))
    assert (given(reply), reply.rejected) == ([None, None, 1], 0)
    assert reply.reasons == ("", "", "because of 3")


def test_row_17_equal_duplicates_count_once(read: Callable[..., RatingsReply]) -> None:
    reply = read(entry(1, 4), entry(1, "4"), entry(2, 2), entry(1, 4.0))
    assert (given(reply), reply.rejected) == ([4, 2, None], 0)


@pytest.mark.parametrize("other", [5, 9, "four", None])
@pytest.mark.parametrize("turned", [False, True])
def test_row_17_conflicting_duplicates_reject_the_item(
    read: Callable[..., RatingsReply], other: Any, turned: bool
) -> None:
    pair = [entry(1, 4), entry(1, other)]
    reply = read(*(reversed(pair) if turned else pair), entry(2, 2))
    assert (given(reply), reply.rejected) == ([None, 2, None], 2)
    assert reply.reasons[0] == ""


@pytest.mark.parametrize(
    "odd",
    [
        entry(1, 4, confidence=0.9),
        {"item": 1, "rating": 4},
        {"item": 1, "reason": None, "rating": 4},
        {"item": 1, "reason": ["good"], "rating": 4},
        {"item": 1, "reason": "good", "Rating": 4},
        {"item": 1, "reason": "good"},
    ],
    ids=str,
)
def test_row_18_an_entry_of_another_form_is_rejected(read: Callable[..., RatingsReply], odd: dict[str, Any]) -> None:
    reply = read(odd, entry(2, 2))
    assert (given(reply), reply.rejected) == ([None, 2, None], 1)
    assert reply.notes[0].startswith("item 1: expected item, reason (text) and rating, got ")


@pytest.mark.parametrize("odd", [4, "1: 4", None, [1, "good", 4], [entry(1, 4)], {}])
def test_row_18_an_entry_that_is_no_object_is_rejected(read: Callable[..., RatingsReply], odd: Any) -> None:
    assert given(read(odd, entry(2, 2))) == [None, 2, None]


GOOD = json.dumps(entry(1, 4))


@pytest.mark.parametrize(
    "reply",
    [
        f'{{"ratings": [{GOOD}], "comment": "done"}}',
        f'{{"ratings": {GOOD}}}',
        f"[{GOOD}]",
        GOOD,
        f'{{"Ratings": [{GOOD}]}}',
        f'{{"ratings": [{GOOD}], "ratings": [{GOOD}]}}',
        f'{{"ratings": {{"1": {GOOD}}}}}',
        '{"ratings": null}',
        '{"1": 4, "2": 5}',
        "null",
        "4",
        '"4"',
        "",
        "I would rate it 4.",
        f'Here you are: {{"ratings": [{GOOD}]}}',
        f'{{"ratings": [{GOOD}',
        f'{{"ratings": [{GOOD}]}} {{"ratings": []}}',
        '{"ratings": ' + "[" * 60_000 + "]" * 60_000 + "}",
        json.dumps({"ratings": [{**entry(1, 4), "reason": "x" * 10_000_000}]}),
    ],
    ids=lambda reply: reply[:40],
)
def test_row_18_a_reply_of_another_form_is_refused_whole(read: Callable[..., RatingsReply], reply: str) -> None:
    with pytest.raises(ReplyError):
        read(reply=reply)


@pytest.mark.parametrize("entries", [[], [entry(1, 9)], [entry(None, 4)], [entry(1, 4), entry(1, 5)]])
def test_a_reply_of_which_nothing_counts_is_refused_with_the_reason(
    read: Callable[..., RatingsReply], entries: list[Any]
) -> None:
    with pytest.raises(ReplyError, match=r"none of 3 items|not on the scale|no such item|different ratings"):
        read(*entries)


def test_row_11_fenced_json_is_read(read: Callable[..., RatingsReply]) -> None:
    assert given(read(reply=f'```json\n{{"ratings": [{GOOD}]}}\n```')) == [4, None, None]


def test_notes_are_few_short_and_safe_on_a_screen(read: Callable[..., RatingsReply]) -> None:
    reply = read(*[entry(1, f"\x1b[31m\u202e{'x' * 500}")] * 50, entry(2, 2))
    assert reply.rejected == 50
    assert len(reply.notes) == 5
    assert all(note.isprintable() and len(note) < 200 for note in reply.notes)


def test_long_reasons_are_cut(read: Callable[..., RatingsReply]) -> None:
    reply = read({"item": 1, "reason": "good " + "x" * 5000, "rating": 4})
    assert reply.reasons[0] == "good " + "x" * 394 + "…"


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small run of the experiment whose large one is in experiments/results/llm_fuzz.json."""
    out = tmp_path_factory.mktemp("fuzz") / "llm_fuzz.json"
    command = [sys.executable, str(ROOT / "experiments" / "llm_fuzz.py"), "400", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=100, cwd=out.parent)
    report = json.loads(out.read_text())
    assert isinstance(report, dict)
    return report


def test_no_fuzzed_reply_brings_a_rating_that_is_off_contract(fuzz: dict[str, Any]) -> None:
    replies = fuzz["replies"]
    assert replies["off_contract_values_that_became_ratings"] == 0
    assert replies["good_ratings_lost"] == 0
    assert replies["replies"] == 400
    assert replies["ratings"] > 500
    assert replies["replies_refused_whole"] > 50
    assert replies["entries_rejected"] > 50


def test_the_fuzz_finds_a_lenient_reader(fuzz: dict[str, Any]) -> None:
    assert fuzz["replies"]["off_contract_values_that_a_lenient_reader_takes"] > 50


def test_no_injected_string_breaks_the_structure_of_a_prompt(fuzz: dict[str, Any]) -> None:
    injections = fuzz["injections"]
    assert injections["strings"] == 40
    assert injections["prompts_rate"] == 40 * injections["places"]
    assert injections["prompts_profile_update"] > 0
    assert injections["prompts_broken"] == 0


def test_the_injections_break_a_prompt_of_pasted_text(fuzz: dict[str, Any]) -> None:
    assert fuzz["injections"]["pasted_prompts_broken"] > 40
