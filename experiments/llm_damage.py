"""Good replies to rating questions, damaged in the ways of language models, networks and chance."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Entry = list[tuple[str, str]]
"""Keys of one entry with their values, both as written."""


def damaged_reply(rng: random.Random, levels: tuple[float, ...], n_items: int) -> tuple[str, list[str]]:
    """A good reply, damaged in none to three ways; the ways by name."""
    entries: list[Entry] = [
        [("item", str(k)), ("reason", '"it is like others that I love"'), ("rating", f"{rng.choice(levels):g}")]
        for k in range(1, n_items + 1)
    ]
    ways = rng.choices([*OF_ENTRIES, *OF_TEXT], k=rng.choice((0, 1, 1, 1, 2, 3)))
    for way in ways:
        if way in OF_ENTRIES and entries:
            OF_ENTRIES[way](rng, entries, levels)
    written = ("{" + ", ".join(f'"{key}": {value}' for key, value in entry) + "}" for entry in entries)
    text = '{"ratings": [' + ", ".join(written) + "]}"
    for way in ways:
        if way in OF_TEXT:
            text = OF_TEXT[way](rng, text)
    return text, ways


ODD_VALUES = ("null", "true", "false", "NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1e400", "[4]", "{}", "[]",
              '"4/5"', '"four"', '""', '" 4"', '"4 stars"', '"+4"', '"04"', '"4e0"', '"\u0664"', '"NaN"', '"1e309"',
              '"null"', "4e0", "40e-1", "4.0", "4.00000", "-0", "04", "+4", "0x4", "4.", ".5", "1_0", "4 5", "9" * 30,
              "9" * 5000, "1e-400", "4.0000001", '"4.0000001"', "3.999999", '{"value": 4}')  # fmt: skip


def _odd_rating(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    _put(rng.choice(entries), "rating", rng.choice(ODD_VALUES))


def _off_scale(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    off = (levels[0] - 1, levels[-1] + 1, levels[-1] * 10 + 7, rng.uniform(levels[0], levels[-1]), -levels[-1] - 0.5)
    _put(rng.choice(entries), "rating", rng.choice(("{}", '"{}"')).format(rng.choice(off)))


def _as_text(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    for entry in entries:
        _put(entry, "rating", f'"{rng.choice(levels):g}"')


def _odd_item(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    odd = ("0", "-1", "11", "99", '"1"', "1.0", "1e0", "null", "true", "[1]", str(rng.randint(1, 10)))
    _put(rng.choice(entries), "item", rng.choice(odd))


def _repeat(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    again = list(rng.choice(entries))
    if rng.random() < 0.7:
        _put(again, "rating", rng.choice((*ODD_VALUES, *(f"{level:g}" for level in levels[:10]))))
    entries.insert(rng.randint(0, len(entries)), again)


def _lose(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    if rng.random() < 0.5:
        entries.remove(rng.choice(entries))
    else:
        entry = rng.choice(entries)
        entry.remove(rng.choice(entry))


def _add_key(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    entry = rng.choice(entries)
    key = rng.choice(("confidence", "Rating", "rating ", "item", "rating", "reason", ""))
    entry.insert(rng.randint(0, len(entry)), (key, rng.choice((*ODD_VALUES, "1", "4", '"text"'))))


def _odd_reason(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    odd = ("null", "4", "[]", '""', '"\\ud83d\\ude00 \\u0000"', '"{\\"rating\\": 5}"', '"' + "x" * 3000 + '"')
    _put(rng.choice(entries), "reason", rng.choice(odd))


def _shuffle(rng: random.Random, entries: list[Entry], levels: tuple[float, ...]) -> None:
    rng.shuffle(entries)
    for entry in entries:
        rng.shuffle(entry)


def _put(entry: Entry, key: str, value: str) -> None:
    entry[:] = [(own, value if own == key else before) for own, before in entry]


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _change_characters(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 4)):
        at, width = rng.randrange(len(text) + 1), rng.randint(0, 2)
        text = text[:at] + "".join(rng.choices('"{}[]:,.-+eE0123456789 \\nulNa/\u0664\u200b', k=width)) + text[at + 1 :]
    return text


def _change_digits(rng: random.Random, text: str) -> str:
    return re.sub(r"\d", lambda digit: rng.choice("0123456789") if rng.random() < 0.1 else digit[0], text)


def _wrap(rng: random.Random, text: str) -> str:
    around = ("```json\n{}\n```", "```\n{}\n```", "Sure! {}", "{}\nDone.", "[{}]", '{{"ratings": {}}}', "\ufeff{}",
              " {}\n", "// {}", "{} {}", "```json\n{}", "<think>4</think>{}", '{{"reply": {}}}')  # fmt: skip
    return rng.choice(around).replace("{{", "{").replace("}}", "}").replace("{}", text)


def _widen(rng: random.Random, text: str) -> str:
    return text.replace("{", '{"note": "4", ', 1) if rng.random() < 0.5 else text[:-1] + ', "confidence": 4}'


def _deepen(rng: random.Random, text: str) -> str:
    depth = rng.choice((3, 9, 2000))
    return text.replace('"rating": ', f'"rating": {"[" * depth}4{"]" * depth}, "was": ', 1)


def _lengthen(rng: random.Random, text: str) -> str:
    return text + " " * 300_000 if rng.random() < 0.5 else text.replace("others", "x" * 300_000, 1)


OF_ENTRIES: dict[str, Callable[[random.Random, list[Entry], tuple[float, ...]], None]] = {
    "rating of another kind": _odd_rating,
    "rating off the scale": _off_scale,
    "ratings as text": _as_text,
    "item of another kind": _odd_item,
    "entry repeated": _repeat,
    "entry or key lost": _lose,
    "key added": _add_key,
    "reason of another kind": _odd_reason,
    "order changed": _shuffle,
}
OF_TEXT: dict[str, Callable[[random.Random, str], str]] = {
    "cut": _cut,
    "characters changed": _change_characters,
    "digits changed": _change_digits,
    "wrapped": _wrap,
    "envelope widened": _widen,
    "deeply nested": _deepen,
    "far too long": _lengthen,
}
