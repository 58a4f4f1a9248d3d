"""Does a bad reply ever become a rating, or foreign text part of a prompt: python experiments/llm_fuzz.py [N] [FILE].

Sends N (default 10,000) replies that were good and then damaged, one to three times each, through the check of a real
rating question, and compares what became a rating with a judge that is written in another way: exact decimals,
repeated keys kept, the contract read entry by entry. Then puts 40 strings into every place of a prompt that holds text
of others. Writes experiments/results/llm_fuzz.json.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from llm_damage import damaged_reply
from llm_injections import ATTACKS, MARKER, is_broken

from hybrid_sim.core.errors import ReplyError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.settings import ProfileSettings, RatingSettings
from hybrid_sim.core.user_state import Histories, Timeline, UserProfile, UserState
from hybrid_sim.llm.question import Message
from hybrid_sim.prompts.profile import ProfilePrompts
from hybrid_sim.prompts.rating import RatingsReply, rating_question
from hybrid_sim.prompts.templates import load_template
from hybrid_sim.testing import tiny_dataset

OUT = Path(__file__).parent / "results" / "llm_fuzz.json"
SEED = 0
SCALES = ((1, 2, 3, 4, 5), (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5), (-1, 1), tuple(range(101)), (0.1, 0.2, 0.3))


def main(n_replies: int = 10_000, out: Path = OUT) -> None:
    """Fuzz, inject, print and write."""
    replies, injections = fuzz(n_replies), inject()
    source = provenance(sys.argv, SEED, WORLD)
    report = {"replies": replies, "injections": injections, "provenance": asdict(source)}
    write_whole(out, json.dumps(report, indent=1).encode())
    sys.stdout.write(
        f"{n_replies:,} replies, {replies['ratings']:,} ratings, of these off contract: "
        f"{replies['off_contract_values_that_became_ratings']}; {injections['prompts']} prompts with injected text, "
        f"of these broken: {injections['prompts_broken']}\n"
    )


def fuzz(n_replies: int) -> dict[str, Any]:
    """Counts over damaged replies."""
    rng = random.Random(SEED)
    counts: Counter[str] = Counter()
    damages: Counter[str] = Counter()
    worlds = [tiny_dataset(n_users=8, n_items=20, levels=levels) for levels in SCALES]
    words, histories = load_template("rate"), [Histories(world).of(0) for world in worlds]
    for _ in range(n_replies):
        at, n_items = rng.randrange(len(worlds)), rng.randint(1, 10)
        items = np.array(rng.sample(range(20), n_items))
        question = rating_question(words, worlds[at], UserState(0, histories[at]), items, RatingSettings())
        text, done = damaged_reply(rng, SCALES[at], n_items)
        damages.update(done)
        judged = on_contract(text, SCALES[at], n_items)
        counts["off_contract_values_that_a_lenient_reader_takes"] += _differing(lenient(text), judged)
        try:
            reply: RatingsReply = question.check(text)
        except ReplyError:
            counts["replies_refused_whole"] += 1
            counts["good_ratings_lost"] += len(judged)
            continue
        given = {k: Decimal(repr(float(r))) for k, r in enumerate(reply.ratings, 1) if not np.isnan(r)}
        counts["ratings"] += len(given)
        counts["entries_rejected"] += reply.rejected
        counts["off_contract_values_that_became_ratings"] += _differing(given, judged)
        counts["good_ratings_lost"] += len(judged.keys() - given.keys())
    names = ("ratings", "off_contract_values_that_became_ratings", "good_ratings_lost", "replies_refused_whole",
             "entries_rejected", "off_contract_values_that_a_lenient_reader_takes")  # fmt: skip
    return {"replies": n_replies, **{name: counts[name] for name in names}, "damages": dict(sorted(damages.items()))}


def _differing(given: dict[int, Decimal], judged: dict[int, Decimal]) -> int:
    return sum(item not in judged or abs(rating - judged[item]) > Decimal("1e-9") for item, rating in given.items())


class Number(NamedTuple):
    """A number as written: exactly, and whether it has neither point nor exponent."""

    value: Decimal
    whole: bool


class Pairs(NamedTuple):
    """An object with all its keys, the repeated ones too."""

    items: list[tuple[str, Any]]


def on_contract(text: str, levels: tuple[float, ...], n_items: int) -> dict[int, Decimal]:
    """The judge: which items of a reply have a rating by the contract, and which."""
    try:
        reply = _parsed(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(reply, Pairs) or [key for key, _ in reply.items] != ["ratings"]:
        return {}
    entries = reply.items[0][1]
    judged: dict[int, Decimal] = {}
    numbers = [_item(entry) for entry in entries if isinstance(entry, Pairs)] if isinstance(entries, list) else []
    if any(isinstance(number, Number) and not 1 <= number.value <= n_items for number in numbers):
        return {}
    for item in range(1, n_items + 1) if isinstance(entries, list) else ():
        stated = [
            _stated(dict(entry.items), levels)
            for entry in entries
            if isinstance(entry, Pairs) and _item(entry) == Number(Decimal(item), True)
        ]
        if stated and None not in stated and len(set(stated)) == 1 and stated[0] is not None:
            judged[item] = stated[0]
    return judged


def _item(entry: Pairs) -> Any:
    """What an entry names as its item, a whole number in plain digits as that number."""
    item = dict(entry.items).get("item")
    is_number = isinstance(item, str) and item.isascii() and item.removeprefix("-").isdigit() and len(item) < 10
    return Number(Decimal(item), True) if is_number and str(int(item)) == item else item


def _parsed(text: str) -> Any:
    """The JSON value of a reply, exactly as written; ValueError where a reply is to be refused whole."""
    if len(text.encode()) > 200_000:
        raise ValueError
    text = re.sub(r"^<think>.*?</think>", "", text.strip(), flags=re.DOTALL).strip()
    fence = re.fullmatch(r"```(?:json)?\n(.*)\n```", text, re.DOTALL)
    reply = json.loads(
        fence[1] if fence else text,
        object_pairs_hook=Pairs,
        parse_int=lambda digits: Number(Decimal(digits), True),
        parse_float=lambda digits: Number(Decimal(digits), False),
        parse_constant=Decimal,
    )
    for part, depth in _parts(reply, 1):
        if isinstance(part, str):
            part.encode()  # half of a surrogate pair is a UnicodeEncodeError, which is a ValueError
        repeated = isinstance(part, Pairs) and len(dict(part.items)) < len(part.items)
        endless = isinstance(part, Decimal) or (isinstance(part, Number) and abs(part.value) > Decimal("1e308"))
        long = isinstance(part, Number) and part.whole and len(str(part.value)) > 20
        if repeated or endless or long or (isinstance(part, Pairs | list) and depth > 8):
            raise ValueError
    return reply


def _parts(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    yield value, depth
    inner = [part for _, part in value.items] if isinstance(value, Pairs) else value if isinstance(value, list) else []
    for part in inner:
        yield from _parts(part, depth + 1)


def _stated(entry: dict[str, Any], levels: tuple[float, ...]) -> Decimal | None:
    """The level that an entry states, None where it breaks the contract."""
    if sorted(entry) != ["item", "rating", "reason"] or not isinstance(entry["reason"], str):
        return None
    value = entry["rating"]
    if isinstance(value, str):
        whole, point, part = value.removeprefix("-").partition(".")
        plain = whole.isdigit() and (whole == "0" or whole[0] != "0") and (part.isdigit() if point else True)
        value = Number(Decimal(value), False) if plain and value.isascii() else None
    if not isinstance(value, Number):
        return None
    exact = [Decimal(repr(level)) for level in levels]
    return next((level for level in exact if abs(value.value - level) <= Decimal("1e-9")), None)


def lenient(text: str) -> dict[int, Decimal]:
    """A reader as found in the wild: the first number after each word rating, whatever stands around it."""
    found = re.findall(
        r'"item"\D{0,4}(\d{1,3}).*?"rating"[^\d-]{0,40}(-?\d{1,3}(?:\.\d{1,9})?)', text[:200_000], re.DOTALL
    )
    return {int(item): Decimal(rating) for item, rating in found}


def inject() -> dict[str, Any]:
    """Counts over prompts with an attack in one of the places that hold text of others."""
    counts: Counter[str] = Counter()
    for place in PLACES:
        plain = prompts(place, MARKER)
        for attack in ATTACKS:
            attacked = prompts(place, attack)
            for name, messages in plain.items():
                if any(MARKER in message.content for message in messages):
                    pasted = [Message(part.role, part.content.replace(MARKER, attack)) for part in messages]
                    counts["prompts"] += 1
                    counts[f"prompts_{name}"] += 1
                    counts["prompts_broken"] += is_broken(attacked[name], messages, attack)
                    counts["pasted_prompts_broken"] += is_broken(pasted, messages, attack)
    counts.setdefault("prompts_broken", 0)
    return {"strings": len(set(ATTACKS)), "places": len(PLACES), **dict(sorted(counts.items()))}


WORLD = tiny_dataset()
PLACES = ("title", "overview", "genres", "occupation", "gender", "age_group", "summary", "likes", "dislikes")


def prompts(place: str, text: str) -> dict[str, tuple[Message, ...]]:
    """A prompt of each kind with `text` in one place of its data: of a rated item, one to be rated, or the user."""
    world, history = WORLD, Histories(WORLD).of(0)
    asked = np.array([row for row in range(world.n_items) if row not in set(history.item.tolist())][:5])
    profile = UserProfile("u00", 1, "Likes quiet films.", ("rivers",), ("storms",))
    if place in ("title", "overview", "genres"):
        rows = [int(asked[2]), int(history.item[-3])]
        world = replace(world, items=_changed(world.items, place, rows, (text,) if place == "genres" else text))
    elif place in ("occupation", "gender", "age_group"):
        world = replace(world, users=_changed(world.users.assign(age_group="25-34"), place, [0], text))
    else:
        profile = replace(profile, **{place: text if place == "summary" else ("rivers", text)})
    state, writing = UserState(0, history, Timeline((profile,))), ProfilePrompts(ProfileSettings())
    return {
        "rate": rating_question(load_template("rate"), world, state, asked, RatingSettings()).messages,
        "profile_first": writing.question(world, 0, history.last(10), None).messages,
        "profile_update": writing.question(world, 0, history.last(10), profile).messages,
    }


def _changed(frame: pd.DataFrame, column: str, rows: list[int], value: Any) -> pd.DataFrame:
    values = frame[column].tolist()
    for row in rows:
        values[row] = value
    return frame.assign(**{column: pd.Series(values, frame.index, dtype=object)})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *map(Path, sys.argv[2:3]))
