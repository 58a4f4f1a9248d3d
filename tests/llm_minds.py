"""What the loopback language model thinks: replies made from nothing but the request, the same for the same request."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a server in a process of its own starts without pandas
    from hybrid_sim.core.dataset import Dataset

Body = dict[str, Any]
Mind = Callable[[Body], str]
"""Makes the text of a reply from the body of a request."""

Opinion = Callable[[Mapping[str, Any], str], float]
"""How much the writer of the second argument (the whole request but the items) likes an item, from 0 to 1."""

_WORD = re.compile(r"[a-z]{3,}")
_JSON_START = re.compile(r"[{\[]")
_SCALE = (1, 2, 3, 4, 5)


def rating_mind(noise: float = 0.5, seed: int = 0, opinion: Opinion | None = None) -> Mind:
    """A mind that rates numbered items and fills any other schema.

    `noise` is the standard deviation that is added to an opinion, in steps of the rating scale. Without `opinion` an
    item is liked as much as the items that the request shows with ratings, above all those that share words with it.
    The schema is the request's, or else the form of the example in the first message.
    """

    def think(body: Body) -> str:
        schema, items = schema_of(body), shown_items(body)
        form = schema if schema is not None else schema_like(example_in(body))
        entry = _rating_entry(form)
        rng = random.Random(f"{seed} {body.get('seed')} {_messages(body)[-1]}")
        if entry is None or not items:
            return json.dumps(fill(form, rng))
        levels = entry["properties"]["rating"].get("enum") or _levels(entry["properties"]["rating"])
        like = opinion or _remembered(body, levels)
        about = "\n".join(_messages(body))
        ratings = []
        for number, item in items:
            at = like(item, about) * (len(levels) - 1) + noise * rng.gauss(0, 1)
            level = levels[min(max(round(at), 0), len(levels) - 1)]
            filled = {**fill(entry, rng), "item": number, "rating": level}
            ratings.append({key: filled[key] for key in entry["properties"]})
        name = next(key for key, part in form["properties"].items() if part.get("items") is entry)
        return json.dumps({**fill(form, rng), name: ratings})

    return think


def item_quality(*parts: Dataset, besides: Mapping[str, float] | None = None) -> Opinion:
    """Likes each item as much as its mean rating over these parts of one data set says, whoever is asked.

    `besides` has what is liked of other items, by their titles as a prompt shows them.
    """
    items, scale = parts[0].items, parts[0].scale
    ratings: dict[int, list[float]] = {row: [] for row in range(len(items))}
    for part in parts:
        for row, rating in zip(part.item.tolist(), part.rating.tolist(), strict=True):
            ratings[row].append(rating)
    liked = {
        f"{title} ({year:g})": (sum(own) / max(len(own), 1) - scale.low) / (scale.high - scale.low)
        for own, title, year in zip(ratings.values(), items["title"], items["year"], strict=True)
    } | dict(besides or {})
    return lambda shown, about: liked[shown["title"]]


def echo_schema(body: Body) -> str:
    """A mind that fills whatever schema it is given, validly and briefly; `{}` where there is none."""
    schema = schema_of(body)
    rng = random.Random(json.dumps(body, sort_keys=True))
    return json.dumps(fill(schema if schema is not None else schema_like(example_in(body)), rng))


def schema_of(body: Body) -> dict[str, Any] | None:
    """The JSON schema that a reply must have, with its references resolved."""
    wrapped = (body.get("response_format") or {}).get("json_schema")
    return None if wrapped is None else _resolved(wrapped["schema"], wrapped["schema"])


def shown_items(body: Body) -> list[tuple[int, Mapping[str, Any]]]:
    """The items to be rated: the last list of JSON objects with a number under "item" in the last message."""
    found: list[tuple[int, Mapping[str, Any]]] = []
    for value in json_in(_messages(body)[-1]):
        for rows in _lists(value):
            if all(isinstance(row.get("item"), int) for row in rows):
                found = [(row["item"], row) for row in rows]
    return found


def json_in(text: str) -> Iterator[Any]:
    """Every JSON object and array in a text, from the front, none inside another."""
    decoder, at = json.JSONDecoder(), 0
    while start := _JSON_START.search(text, at):
        try:
            value, at = decoder.raw_decode(text, start.start())
            yield value
        except (json.JSONDecodeError, RecursionError):
            at = start.start() + 1


def example_in(body: Body) -> Any:
    """The last JSON object in the first message: what a reply is shown to look like."""
    return next((value for value in reversed(list(json_in(_messages(body)[0]))) if isinstance(value, dict)), {})


def schema_like(example: Any) -> dict[str, Any]:
    """A schema of the form of an example; numbers under "rating" are whole ones from 1 to 5."""
    if isinstance(example, dict):
        properties = {key: schema_like(value) for key, value in example.items()}
        if "rating" in properties:
            properties["rating"] = {"enum": list(_SCALE)}
        return {"type": "object", "properties": properties}
    if isinstance(example, list):
        return {"type": "array", "items": schema_like(example[0] if example else "")}
    kinds = {bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return {"type": kinds.get(type(example), "string")}


def fill(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A short value that the schema allows; references must have been resolved."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return fill(rng.choice(schema[several]), rng)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        return {key: fill(part, rng) for key, part in schema.get("properties", {}).items()}
    if kind == "array":
        low = schema.get("minItems", 1)
        return [
            fill(schema.get("items", {}), rng)
            for _ in range(rng.randint(low, min(schema.get("maxItems", 99), low + 2)))
        ]
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + (1 if "exclusiveMinimum" in schema else 0))
        high = schema.get("maximum", low + 4)
        return rng.randint(int(low), int(high)) if kind == "integer" else round(rng.uniform(low, high), 2)
    if kind == "boolean":
        return rng.random() < 0.5
    return None if kind == "null" else _phrase(schema, rng)


_PHRASES = ("likes quiet stories", "warm humour", "slow plots", "bold adventure", "clever dialogue", "dark endings")


def _phrase(schema: Mapping[str, Any], rng: random.Random) -> str:
    text = rng.choice(_PHRASES)
    while len(text) < schema.get("minLength", 0):
        text = f"{text}, {rng.choice(_PHRASES)}"
    return text[: schema.get("maxLength", len(text))]


def _messages(body: Body) -> list[str]:
    return [str(message.get("content") or "") for message in body.get("messages") or [{}]]


def _rating_entry(schema: Mapping[str, Any]) -> Any:
    """The schema of one rated item, where the reply is a list of these."""
    for part in schema.get("properties", {}).values():
        entry = part.get("items")
        if isinstance(entry, dict) and {"item", "rating"} <= set(entry.get("properties", {})):
            return entry
    return None


def _levels(schema: Mapping[str, Any]) -> list[int]:
    low = int(schema.get("minimum", _SCALE[0]))
    return list(range(low, int(schema.get("maximum", low + len(_SCALE) - 1)) + 1))


def _remembered(body: Body, levels: Sequence[float]) -> Opinion:
    """Likes everything as much as the rated items that the request shows, and more what shares words with the best."""
    rated = [row for text in _messages(body) for value in json_in(text) for row in _rated(value)]
    low, width = float(levels[0]), float(levels[-1]) - float(levels[0])
    liked = [(float(row["rating"]) - low) / width for row in rated]
    mean = (sum(liked) + 0.6) / (len(liked) + 1)
    seen = [(_words(row), at - mean) for row, at in zip(rated, liked, strict=True)]

    def like(item: Mapping[str, Any], about: str) -> float:
        words = _words(item)
        shared = [(len(words & others), beyond) for others, beyond in seen]
        return mean + sum(n * beyond for n, beyond in shared) / (3 + sum(n for n, _ in shared))

    return like


def _rated(value: Any) -> Iterator[Mapping[str, Any]]:
    for rows in _lists(value):
        yield from (row for row in rows if isinstance(row.get("rating"), int | float) and "item" not in row)


def _words(row: Mapping[str, Any]) -> set[str]:
    texts = (json.dumps(value) for key, value in row.items() if key not in ("item", "rating"))
    return set(_WORD.findall(" ".join(texts).lower()))


def _lists(value: Any) -> Iterator[list[dict[str, Any]]]:
    """Every list of objects inside a JSON value, from the front."""
    if isinstance(value, list):
        if value and all(isinstance(row, dict) for row in value):
            yield value
        for part in value:
            yield from _lists(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _lists(part)


def _resolved(part: Any, root: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_resolved(one, root) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        target: Any = root
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return _resolved(target, root)
    return {key: _resolved(value, root) for key, value in part.items() if key != "$defs"}
