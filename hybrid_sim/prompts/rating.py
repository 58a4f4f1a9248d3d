"""Questions that ask a language model to rate items as a user would (Lusifer's second phase, Ebrat et al. 2024).

The prompt shows the user's profile and last ratings and a numbered list of items. Replies are validated: only a number
on the scale, for an item of the list, becomes a rating.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from typing import Any

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import CopiedReplyError, ReplyError, SettingsError
from hybrid_sim.core.files import printable
from hybrid_sim.core.settings import RatingSettings
from hybrid_sim.core.types import FloatArray, IntArray, RatingScale, describe_levels
from hybrid_sim.core.user_state import History, UserState
from hybrid_sim.llm.question import Question, object_schema
from hybrid_sim.llm.replies import read_json
from hybrid_sim.prompts.context import MAX_SUMMARY, item_records, plain_number, rated_records, user_record
from hybrid_sim.prompts.templates import Template
from hybrid_sim.prompts.untrusted import as_data, shown_text
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.retrieval.index import VectorIndex, item_index
from hybrid_sim.retrieval.products import nearest

MAX_REASON = 400
"""Characters that are kept of a reason; the model is asked for about half as many."""

MAX_NOTES = 5

_ALIKE = 0.85
"""Share of characters in common (`difflib`) from which a reason is a copy of the example: small models misspell it."""

_SLACK = 1.5
"""How many times the length that is asked for a reason may have in the schema, since models count characters badly."""

_REASON = re.compile(r'"reason": *("(?:[^"\\]|\\.)*")')
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?")


@dataclass(frozen=True)
class RatingsReply:
    """The ratings in a reply to one question, in the order of its items.

    `ratings` has shape `(n_items,)`, NaN where the reply gives none that counts; `reasons` are "" there. `rejected`
    counts the entries of the reply that are not used, and `notes` says of the first few why.
    """

    ratings: FloatArray
    reasons: tuple[str, ...]
    rejected: int = 0
    notes: tuple[str, ...] = ()


def rating_question(
    template: Template,
    dataset: Dataset,
    state: UserState,
    items: IntArray,
    settings: RatingSettings,
    sample: int = 0,
    index: VectorIndex | None = None,
) -> Question:
    """The question how the user of `state` would rate `items`, row numbers of the dataset's items.

    Its answer's value is a `RatingsReply` in the order of `items`. The prompt shows the state's own profile and some of
    its own ratings, chosen as `settings.history` says (by the `index` of `history_index`); a past rating of one of
    `items` is left out, so that no prompt holds what it asks for. Users and items are named by no id: items have the
    numbers 1, 2, ... of their place.

    Raises:
        SettingsError: integers are wanted, and the rating scale has fewer than two; or the index is missing.
    """
    levels = allowed_levels(dataset.scale, settings)
    schema = rating_schema(levels, len(items), round(_SLACK * settings.reason_length))
    records = item_records(dataset, items, settings.overview_length)
    history = _shown_history(state.history, items, settings, index)
    messages = template.messages(
        scale=describe_levels(levels),
        high=str(levels[-1 - len(levels) // 4]),
        low=str(levels[len(levels) // 4]),
        n_characters=str(settings.reason_length),
        person=as_data(user_record(dataset, state.user, state.profile), MAX_SUMMARY),
        rated=as_data(rated_records(dataset, history, settings.overview_length)),
        n_items="1 item" if len(items) == 1 else f"{len(items)} items",
        items=as_data([{"item": k, **item} for k, item in enumerate(records, 1)]),
    )
    return Question(
        prompt=template.label(schema),
        messages=messages,
        schema=schema,
        check=partial(read_ratings, levels=levels, n_items=len(items), examples=_reasons_in(messages[0].content)),
        # A reason of 200 characters has about 60 tokens; other scripts have more.
        max_tokens=settings.max_tokens or 200 + 120 * len(items),
        sample=sample,
    )


def history_index(dataset: Dataset, settings: RatingSettings) -> VectorIndex | None:
    """The index of item texts by which past ratings are chosen; None where the last ones are shown."""
    return None if settings.history == "recent" else item_index(dataset, embedder_for(dataset))


def allowed_levels(scale: RatingScale, settings: RatingSettings) -> tuple[int | float, ...]:
    """The ratings that a reply may hold, ascending: all levels of the scale, or those that are whole numbers.

    Raises:
        SettingsError: integers are wanted, and the rating scale has fewer than two.
    """
    levels = tuple(plain_number(level) for level in scale.levels)
    if settings.levels == "scale":
        return levels
    whole = tuple(level for level in levels if isinstance(level, int))
    if len(whole) < 2:
        raise SettingsError(f'rating.levels = "integers": the scale {scale} has fewer than two; set it to "scale"')
    return whole


def rating_schema(levels: Sequence[int | float], n_items: int, longest_reason: int) -> dict[str, Any]:
    """The JSON schema of a reply about so many items, for strict structured output."""
    entry = {
        "item": {"type": "integer", "minimum": 1, "maximum": n_items},
        "reason": {"type": "string", "maxLength": longest_reason},
        "rating": {
            "type": "integer" if all(isinstance(level, int) for level in levels) else "number",
            "enum": list(levels),
        },
    }
    entries = {"type": "array", "minItems": n_items, "maxItems": n_items, "items": object_schema(entry)}
    return object_schema({"ratings": entries})


def _reasons_in(prompt: str) -> frozenset[str]:
    """The reasons in the example of a prompt, as `_folded`."""
    return frozenset(_folded(json.loads(reason)) for reason in _REASON.findall(prompt))


def _folded(reason: str) -> str:
    return " ".join(reason.split()).strip(" .").casefold()


def _is_copy(reason: str, examples: Set[str]) -> bool:
    matches = (SequenceMatcher(None, _folded(reason), example, autojunk=False) for example in examples)
    return any(match.real_quick_ratio() > _ALIKE and match.ratio() > _ALIKE for match in matches)


def read_ratings(
    text: str, levels: Sequence[int | float], n_items: int, examples: Set[str] = frozenset()
) -> RatingsReply:
    """The ratings in a reply about items 1 to `n_items`.

    A rating is a number that equals one of `levels` to within 1e-9, or the same number as text. An entry counts if it
    has exactly the keys item, reason and rating, names an item of the list by its number, also as text, and gives no
    copy of a reason in the prompt's own example (`examples`). An item has a rating only if all entries that name it
    count and agree. Nothing is repaired: what does not count is rejected.

    Raises:
        CopiedReplyError: all of its entries copy the example.
        ReplyError: the reply is not one JSON object with the list `ratings` alone, none of its entries counts, or one
            has the number of an item that was not asked about, so that the others may be numbered otherwise, too.
    """
    reply = read_json(text)
    if not isinstance(reply, dict) or list(reply) != ["ratings"] or not isinstance(reply["ratings"], list):
        raise ReplyError(f"expected one JSON object with the list ratings and no other key, got {_short(reply)}")
    values = {round(level, 9): float(level) for level in levels}
    entries = [_read_entry(entry, values, n_items, examples) for entry in reply["ratings"]]
    of_item: defaultdict[int, list[_Entry]] = defaultdict(list)
    for entry in entries:
        of_item[entry.item].append(entry)
    ratings, reasons = np.full(n_items, np.nan), [""] * n_items
    n_counted, notes = 0, [entry.problem for entry in entries if entry.problem]
    for item, group in of_item.items():
        if any(entry.problem for entry in group):
            continue
        if len({entry.rating for entry in group}) > 1:
            notes.append(f"item {item} has different ratings")
            continue
        ratings[item - 1], reasons[item - 1] = group[0].rating, group[0].reason
        n_counted += len(group)
    if not n_counted:
        is_copied = bool(entries) and all(entry.is_copy for entry in entries)
        message = notes[0] if notes else f"the reply rates none of {n_items} items"
        raise CopiedReplyError(message) if is_copied else ReplyError(message)
    return RatingsReply(ratings, tuple(reasons), len(entries) - n_counted, tuple(notes[:MAX_NOTES]))


@dataclass(frozen=True)
class _Entry:
    """One element of the list `ratings`: the number of its item (0 where it names none), and what is wrong with it."""

    item: int
    problem: str = ""
    rating: float = float("nan")
    reason: str = ""
    is_copy: bool = False


def _read_entry(entry: Any, values: Mapping[float, float], n_items: int, examples: Set[str]) -> _Entry:
    number = entry.get("item") if isinstance(entry, dict) else None
    if isinstance(number, str) and _NUMBER.fullmatch(number) and "." not in number:
        number = int(number)
    if isinstance(number, int | float) and type(number) is not bool and not 1 <= number <= n_items:
        raise ReplyError(f"there is no item {_short(number)} among the {n_items} asked about: no number can be trusted")
    if type(number) is not int:
        return _Entry(0, f"there is no such item: {_short(entry)}")
    if entry.keys() != {"item", "reason", "rating"} or not isinstance(entry["reason"], str):
        return _Entry(number, f"item {number}: expected item, reason (text) and rating, got {_short(entry)}")
    value = entry["rating"]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    rating = values.get(round(value, 9)) if type(value) in (int, float) else None
    if rating is None:
        return _Entry(number, f"item {number}: rating {_short(entry['rating'])} is not on the scale")
    if _is_copy(entry["reason"], examples):
        problem = f"item {number}: the reason is the prompt's example, {_short(entry['reason'])}"
        return _Entry(number, problem, is_copy=True)
    return _Entry(number, "", rating, shown_text(entry["reason"], MAX_REASON))


def _shown_history(history: History, items: IntArray, settings: RatingSettings, index: VectorIndex | None) -> History:
    """Ratings of a user, oldest first, without those of `items`: the last, those of similar items, or half of each."""
    others = np.flatnonzero(~np.isin(history.item, items))
    n = min(settings.n_history, len(others))
    n_last = {"recent": n, "similar": 0, "both": n // 2}[settings.history]
    older, rows = np.split(others, [len(others) - n_last])
    if n > n_last:
        if index is None:
            raise SettingsError(f'rating.history = "{settings.history}" needs the index of item texts; pass index=')
        rows = np.concatenate([np.sort(older[_most_similar(index, history.item[older], items, n - n_last)]), rows])
    return History(history.item[rows], history.rating[rows], None, history.simulated[rows])


def _most_similar(index: VectorIndex, rated: IntArray, items: IntArray, n: int) -> IntArray:
    """Places of the `n` of `rated` whose texts are most similar to that of any of `items`; items without text last."""
    in_index = np.flatnonzero(rated >= 0)
    similarity = np.full(len(rated), -np.inf)
    rows, products = nearest(index.vectors_[items[items >= 0]], index.vectors_[rated[in_index]], n)
    np.maximum.at(similarity, in_index[rows], products)
    return np.argsort(-similarity, kind="stable")[:n]


def _short(value: Any) -> str:
    return printable(shown_text(repr(value), 80))
