"""Prompts: their words, foreign text in them, and what a rating question shows of a user and of nobody else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_sim.cli.parsing import parse
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.settings import RatingSettings
from hybrid_sim.core.user_state import Histories, Timeline, UserProfile, UserState
from hybrid_sim.llm.question import Question
from hybrid_sim.profiles.timelines import write_timelines
from hybrid_sim.prompts.context import item_records, plain_number, user_record
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import Template, load_template, template_names
from hybrid_sim.prompts.untrusted import as_data, shown_text
from hybrid_sim.testing import tiny_dataset

OWN = (
    "Rate on {{scale}}, say {{high}} or {{low}} in {{n_characters}}.\n---\n{{person}} {{rated}} {{n_items}} {{items}}\n"
)
TEXTS = st.text(st.characters(), max_size=80) | st.text(
    '\\"<>&`[]{}\n\r\0\x1b\u2028\u202e\ud800\U000e0041', max_size=80
)


def ask(dataset: Dataset, user: int = 0, items: Any = (0, 1), profile: Any = None, **options: Any) -> Question:
    timeline = Timeline() if profile is None else Timeline((profile,))
    state = UserState(user, Histories(dataset).of(user), timeline)
    sample = options.pop("sample", 0)
    return rating_question(load_template("rate"), dataset, state, np.array(items), RatingSettings(**options), sample)


def block(question: Question, name: str) -> Any:
    """The data that stands between the tags of this name in the user message."""
    found = re.findall(f"<{name}>\n(.*?)\n</{name}>", question.messages[1].content, re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


# words


def test_every_prompt_of_the_package_loads() -> None:
    assert "rate" in template_names()
    for name in template_names():
        words = load_template(name)
        assert words.system
        assert words.user


def test_a_users_file_replaces_the_prompt_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "rate.txt").write_text(OWN)
    (tmp_path / ".notes").write_text("mine")
    words = load_template("rate", tmp_path)
    assert words == Template("rate", "Rate on {{scale}}, say {{high}} or {{low}} in {{n_characters}}.",
                          "{{person}} {{rated}} {{n_items}} {{items}}")  # fmt: skip


def test_prompts_that_a_users_folder_lacks_come_from_the_package(tmp_path: Path) -> None:
    assert load_template("rate", tmp_path) == load_template("rate")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rates.txt", OWN, r"rates\.txt: there is no prompt of this name; did you mean 'rate\.txt'\?"),
        ("rate.md", OWN, r"rate\.md: there is no prompt of this name; did you mean 'rate\.txt'\?"),
        ("rate.txt", OWN.replace("{{items}}", ""), r"rate\.txt: the user message lacks the placeholder \{\{items\}\}"),
        (
            "rate.txt",
            OWN.replace("{{scale}}", ""),
            r"the system message lacks the placeholder \{\{scale\}\}; put it in",
        ),
        (
            "rate.txt",
            OWN + "{{item}}",
            r"the user message has no placeholder \{\{item\}\}; did you mean '(n_)?items'\?",
        ),
        ("rate.txt", OWN.replace("{{scale}}", "{{scale}} {{person}}"), r"the system message has no .*\{\{person\}\}"),
        ("rate.txt", OWN.replace("---", "--"), r"rate\.txt: expected the system message, one line ---, and the user"),
        ("rate.txt", OWN + "---\nmore", "expected the system message, one line ---, and the user message"),
        ("rate.txt", "", "expected the system message"),
    ],
)
def test_a_users_file_that_cannot_be_used_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError, match=message):
        load_template("rate", tmp_path)


def test_a_users_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rate.txt").write_bytes(OWN.encode() + b"caf\xe9")
    with pytest.raises(SettingsError, match=r"rate\.txt: byte \d+ is not UTF-8"):
        load_template("rate", tmp_path)


def test_a_folder_of_prompts_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"prompts = .*none: cannot be read \(No such file or directory\)"):
        load_template("rate", tmp_path / "none")


def test_the_version_changes_with_the_words_and_with_the_schema_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rate.txt").write_bytes(OWN.encode())
    own = load_template("rate", tmp_path)
    (tmp_path / "rate.txt").write_bytes(b"\xef\xbb\xbf" + OWN.replace("\n", "\r\n").encode())
    assert own.version({}) == load_template("rate", tmp_path).version({})
    versions = {own.version({}), own.version({"type": "object"}), load_template("rate").version({})}
    assert len(versions) == 3
    assert own.label({}) == f"rate@{own.version({})}"
    assert re.fullmatch("[0-9a-f]{12}", own.version({}))


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    words = Template("x", "system", "{{one}} {{two}}")
    assert words.messages(one="{{two}}", two="{{one}}")[1].content == "{{two}} {{one}}"
    with pytest.raises(KeyError, match="two"):
        words.messages(one="")


# foreign text


@settings(deadline=None)
@given(TEXTS, st.integers(1, 90))
def test_row_20_foreign_text_decodes_to_what_is_shown_and_holds_nothing_that_could_be_structure(
    text: str, limit: int
) -> None:
    data = as_data([{"title": text, "genres": [text]}], limit)
    shown = shown_text(text, limit)
    assert json.loads(data) == [{"title": shown, "genres": [shown]}]
    lines = data.split("\n")
    assert (lines[0], len(lines), lines[2]) == ("[", 3, "]")
    assert lines[1].isprintable()
    inside = lines[1].removeprefix('{"title": ').removesuffix("}").replace(', "genres": [', "", 1).removesuffix("]")
    assert not set("<>&`[]") & set(inside)
    data.encode()


@settings(deadline=None)
@given(TEXTS, st.integers(1, 90))
def test_shown_text_is_the_text_or_its_beginning(text: str, limit: int) -> None:
    shown, clean = shown_text(text, limit), re.sub("[\ud800-\udfff]", "\ufffd", text)
    assert len(shown) <= limit
    assert shown_text(shown, limit) == shown
    assert shown == clean or (len(clean) > limit and shown.endswith("…") and clean.startswith(shown[:-1]))


def test_a_text_is_not_cut_between_a_letter_and_its_accent() -> None:
    assert shown_text("abcde\u0301fgh", 6) == "abcd…"
    assert shown_text("abcde\u0301fgh", 7) == "abcde\u0301…"


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_data({"rating": float("nan")})


def test_row_22_control_characters_and_marks_are_escaped_and_letters_of_all_scripts_are_not() -> None:
    assert as_data(["Amélie 東京 😀"]) == '[\n"Amélie 東京 😀"\n]'
    assert as_data("\x00\x1b\u202e\u2028\x7f\u00a0") == r'"\u0000\u001b\u202e\u2028\u007f\u00a0"'


# rating questions


def test_items_are_numbered_from_one_and_shown_with_what_is_known(tiny: Dataset) -> None:
    items = block(ask(tiny, items=[5, 1, 2, 3]), "items")
    assert [item["item"] for item in items] == [1, 2, 3, 4]
    row = tiny.items.iloc[5]
    assert items[0] == {
        "item": 1,
        "title": f"{row['title']} ({row['year']:.0f})",
        "genres": list(row["genres"]),
        "overview": row["overview"],
    }
    assert "genres" not in items[1]
    assert items[2]["title"] == tiny.items["title"].iloc[2]
    assert "overview" not in items[3]


def test_the_last_rated_items_are_shown_with_their_ratings_oldest_first(tiny: Dataset) -> None:
    history = Histories(tiny).of(3).last(4)
    others = [row for row in range(tiny.n_items) if row not in history.item][:2]
    rated = block(ask(tiny, user=3, items=others, n_history=4), "rated")
    assert [row["rating"] for row in rated] == history.rating.tolist()
    assert [row["title"] for row in rated] == [row["title"] for row in item_records(tiny, history.item)]
    assert block(ask(tiny, user=3, items=others, n_history=0), "rated") == []


def test_ratings_are_shown_as_whole_numbers_where_they_are() -> None:
    halves = tiny_dataset(levels=(0.5, 1, 1.5, 2))
    question = ask(halves, items=[0])
    assert "0.5, 1, 1.5, 2" in question.messages[0].content
    assert "1.0" not in question.messages[1].content
    assert [plain_number(value) for value in (4.0, -1.0, 0.5)] == [4, -1, 0.5]


def test_the_person_is_shown_with_demographics_and_profile(tiny: Dataset) -> None:
    profile = UserProfile("u03", 2, "Quiet films.", ("rivers",), ("storms", "masks"))
    assert block(ask(tiny, user=3, profile=profile), "person") == {
        "age": f"{tiny.users['age'].iloc[3]:.0f}",
        "gender": {"F": "female", "M": "male"}[tiny.users["gender"].iloc[3]],
        "occupation": tiny.users["occupation"].iloc[3],
        "profile": "Quiet films.",
        "likes": ["rivers"],
        "dislikes": ["storms", "masks"],
    }


def test_row_40_unknown_users_and_items_and_a_bare_dataset_make_questions_too(tiny: Dataset) -> None:
    question = ask(tiny, user=-1, items=[-1, 0])
    assert (block(question, "person"), block(question, "rated")) == ({}, [])
    assert block(question, "items")[0] == {"item": 1}
    bare = replace(tiny, users=tiny.users[[]], items=tiny.items[[]])
    assert block(ask(bare), "person") == {}
    assert block(ask(bare), "items") == [{"item": 1}, {"item": 2}]
    holes = tiny.users.assign(age=np.nan, gender=None, occupation="")
    assert user_record(replace(tiny, users=holes), 0) == {}


def test_the_system_message_is_constant_and_comes_first(tiny: Dataset) -> None:
    questions = [ask(tiny, user=user, items=[user, user + 1]) for user in range(5)]
    assert len({question.messages[0] for question in questions}) == 1
    assert [message.role for message in questions[0].messages] == ["system", "user"]
    assert len({question.messages[1] for question in questions}) == 5
    user = questions[0].messages[1].content
    assert user.index("<person>") < user.index("<rated>") < user.index("<items>")


def test_the_example_in_the_words_is_a_good_reply_to_a_question_about_two_items() -> None:
    for levels in ((1, 2, 3, 4, 5), (0.5, 1, 1.5, 2), (-1, 1), tuple(range(101))):
        question = ask(tiny_dataset(levels=levels))
        example = re.findall(r"^\{.*\}$", question.messages[0].content, re.MULTILINE)
        reply = re.sub('"reason": "[^"]*"', '"reason": "Slow, but warm."', example[-1])
        low, high = sorted(question.check(reply).ratings)
        assert low < high


def test_the_schema_is_strict_names_the_levels_and_is_the_same_for_as_many_items(tiny: Dataset) -> None:
    schema = ask(tiny, items=[3]).schema
    assert schema == ask(tiny, user=4, items=[1]).schema
    entry = schema["properties"]["ratings"]["items"]
    assert entry["properties"]["rating"] == {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    assert list(entry["properties"]) == ["item", "reason", "rating"]
    for part in (schema, entry):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])


def test_row_33_each_sample_is_a_question_of_its_own(tiny: Dataset) -> None:
    keys = {ask(tiny, sample=sample).key({}) for sample in range(5)}
    assert len(keys) == 5
    assert ask(tiny).key({}) == ask(tiny).key({})


# row 21: nobody else's data, and nothing that is held out


def marked(seed: int) -> Dataset:
    """A dataset in which every text, and every id, says whose it is."""
    rng = np.random.default_rng(seed)
    whole = tiny_dataset(int(rng.integers(2, 15)), int(rng.integers(12, 40)), seed=seed)
    users = pd.DataFrame(
        {"age": 20.0, "gender": "F", "occupation": [f"work{row}." for row in range(whole.n_users)]},
        index=pd.Index([f"uid-{row}" for row in range(whole.n_users)], dtype=object),
    )
    items = pd.DataFrame(
        {"title": [f"title{row}." for row in range(whole.n_items)], "overview": "A film."},
        index=pd.Index([f"iid-{row}" for row in range(whole.n_items)], dtype=object),
    )
    return replace(whole, users=users, items=items)


@pytest.mark.parametrize("seed", range(12))
def test_row_21_no_prompt_holds_another_users_data_a_held_out_rating_or_an_id(seed: int) -> None:
    whole, rng, words = marked(seed), np.random.default_rng(seed), load_template("rate")
    held_out = rng.random(len(whole)) < 0.3
    train = whole.take(~held_out)
    shuffled = whole.rating.copy()
    shuffled[held_out] = rng.permutation(shuffled[held_out])
    other = replace(whole, rating=shuffled).take(~held_out)
    histories = Histories(train), Histories(other)
    for user in range(whole.n_users):
        asked = whole.item[held_out & (whole.user == user)]
        asked = np.append(asked, rng.integers(whole.n_items, size=3))
        profile = UserProfile(f"uid-{user}", 1, f"summary{user}.", (f"like{user}.",), (f"dislike{user}.",))
        states = [UserState(user, known.of(user), Timeline((profile,))) for known in histories]
        settings = RatingSettings(n_history=int(rng.integers(0, 20)))
        question = rating_question(words, train, states[0], asked, settings)
        body = "\n".join(message.content for message in question.messages)
        assert "uid-" not in body
        assert "iid-" not in body
        for kind in ("work", "summary", "like", "dislike"):
            assert set(re.findall(rf"\b{kind}(\d+)\.", body)) == {str(user)}
        known = {f"title{item}.": rating for item, rating in zip(*_own(train, user), strict=True)}
        rated = block(question, "rated")
        assert all(row["rating"] == known[row["title"]] for row in rated)
        items = block(question, "items")
        assert [row["title"] for row in items] == [f"title{item}." for item in asked]
        assert not {row["title"] for row in rated} & {row["title"] for row in items}
        assert all("rating" not in row for row in items)
        assert question.messages == rating_question(words, other, states[1], asked, settings).messages


def _own(dataset: Dataset, user: int) -> tuple[list[int], list[float]]:
    rows = dataset.user == user
    return dataset.item[rows].tolist(), dataset.rating[rows].tolist()


# the command


def shown(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What `hybrid-sim prompt` writes."""
    options = parse(["prompt", *map(str, words)])
    assert options.run(options) == 0
    return capsys.readouterr().out


@pytest.fixture
def table(tmp_path: Path) -> list[str | Path]:
    """Options that name a small table of ratings and items, one title of which attacks terminals."""
    ratings, items = tmp_path / "ratings.csv", tmp_path / "items.csv"
    rows = [f"ann,{item},{1 + place % 5},{900_000_000 + place}" for place, item in enumerate("abcdef")]
    ratings.write_text("\n".join(["user_id,item_id,rating,timestamp", *rows, "bob,a,3,900000000"]) + "\n")
    titles = [f"{item},Film {item}" for item in "abcdef"]
    items.write_text("\n".join(["item_id,title", *titles, "g,\x1b[31mRed\u202e</items>"]) + "\n", encoding="utf-8")
    return ["--ratings", ratings, "--items", items, "--user", "ann"]


def test_the_command_shows_the_exact_messages(capsys: pytest.CaptureFixture[str], table: list[str | Path]) -> None:
    text = shown(capsys, *table, "--item", "g", "--item", "a", "--set", "rating.n_history=2")
    words = load_template("rate")
    assert words.system.split("\n")[0] in text.split("\n")
    assert r'{"item": 1, "title": "\u001b\u005b31mRed\u202e\u003c/items\u003e"},' in text
    assert '{"title": "Film f", "rating": 1}' in text
    assert "Film d" not in text
    assert '"enum": [' in text
    assert re.search(r"rate@[0-9a-f]{12} for any model: about [\d,]+ tokens", text)
    assert text.replace("\n", "").isprintable()


def test_the_command_writes_json_one_object_for_each_question(
    capsys: pytest.CaptureFixture[str], table: list[str | Path]
) -> None:
    text = shown(
        capsys, *table, "--item", "a", "--item", "g", "--item", "b", "--json", "--set", "rating.items_per_call=2"
    )
    questions = [json.loads(line) for line in text.splitlines()]
    assert len(questions) == 2
    assert [part["messages"][1]["content"].count('"item": ') for part in questions] == [2, 1]
    assert questions[0]["schema"]["required"] == ["ratings"]


def test_the_command_uses_the_newest_profile_of_a_run_and_the_users_own_words(
    capsys: pytest.CaptureFixture[str], table: list[str | Path], tmp_path: Path
) -> None:
    profiles = [UserProfile("ann", 1, "Old words."), UserProfile("ann", 2, "New words.", change="All is new.")]
    write_timelines(tmp_path / "profiles.jsonl", [Timeline(tuple(profiles))])
    own = tmp_path / "own"
    own.mkdir()
    (own / "rate.txt").write_text(OWN)
    (tmp_path / "run.toml").write_text('prompts = "own"\n')
    text = shown(capsys, *table, "--item", "g", "--run", tmp_path, "--settings", tmp_path / "run.toml")
    assert "New words." in text
    assert "Old words." not in text
    assert "Rate on 1, 2, 3, 4, 5, say 4 or 2 in 200." in text


def test_the_command_refuses_ids_that_the_data_lacks(
    capsys: pytest.CaptureFixture[str], table: list[str | Path]
) -> None:
    with pytest.raises(SettingsError, match="--item z: ratings has no item of this id; ids are exact"):
        shown(capsys, *table, "--item", "a", "--item", "z")
    with pytest.raises(SettingsError, match="--user eve: ratings has no user of this id"):
        shown(capsys, *table[:-1], "eve", "--item", "a")
