"""Episodes in which people of a population answer about items, many at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.environments import kernel
from hybrid_sim.environments.folder import Population
from hybrid_sim.environments.kernel import People, Results, State

REWARDS = {"rating": kernel.RATING, "like": kernel.LIKE, "cautious": kernel.CAUTIOUS}
MAX_GENRES = 64
LIKED = 0.75
"""Where `like_at` is not named, ratings from this part of the scale's range upwards are likes: 4 of 1 to 5."""


@dataclass(frozen=True)
class Rules:
    """What happens in an episode; the defaults leave every effect out.

    `reward` is the rating moved into [0, 1]; or 1 for a rating of at least `like_at` (None: see `LIKED`); or, with
    "cautious", the expected rating less `caution` times its standard error, both moved into [0, 1]; the standard
    error is what the person's level and taste leave unknown. `repeats="forbid"` closes items rated in training or
    shown before; with "allow" nothing is closed. An episode is truncated after `max_steps`, ends with the
    `patience`-th reward in a row below .5 (None: never) and with probability `leave` after each step. `boredom` is how
    many standard deviations of the latent rating an item falls if all of the last `history` items share a genre with
    it. `drift` is what level and taste lose of their correlation with themselves from step to step. `temperature` is
    that of the choice among a slate's items.
    """

    reward: Literal["rating", "like", "cautious"] = "rating"
    like_at: float | None = None
    caution: float = 1.0
    repeats: Literal["forbid", "allow"] = "forbid"
    max_steps: int = 40
    patience: int | None = None
    boredom: float = 0.0
    drift: float = 0.0
    leave: float = 0.0
    history: int = 10
    temperature: float = 0.2

    def __post_init__(self) -> None:
        for name, choices in (("reward", list(REWARDS)), ("repeats", ["forbid", "allow"])):
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{name}={getattr(self, name)!r} is not known; {nearest(str(getattr(self, name)), choices)}"
                )
        for name, low in (("max_steps", 1), ("history", 1), ("patience", 1)):
            value = getattr(self, name)
            if not (name == "patience" and value is None) and (not isinstance(value, int | np.integer) or value < low):
                raise SettingsError(f"{name}={value!r} is no whole number from {low} upwards")
        for name, high in (
            ("caution", np.inf),
            ("boredom", np.inf),
            ("drift", 1.0),
            ("leave", 1.0),
            ("temperature", np.inf),
        ):
            if not _is_number(getattr(self, name)) or not 0 <= getattr(self, name) <= high:
                raise SettingsError(f"{name}={getattr(self, name)!r} is no number from 0 to {high:g}")
        if self.temperature == 0:
            raise SettingsError("temperature=0 is no number above 0")

    def array(self, population: Population, autoreset: bool) -> FloatArray:
        """The options by their places in `hybrid_sim.environments.kernel`.

        Raises:
            SettingsError: `like_at` is not on the scale.
        """
        scale = population.scale
        like_at = self.like_at
        if like_at is None:
            like_at = next(
                level for level in scale.levels if level >= scale.low + LIKED * (scale.high - scale.low) - 1e-9
            )
        if not _is_number(like_at) or not scale.contains(like_at):
            raise SettingsError(f"like_at={like_at!r} is not on the scale {scale}")
        rules = np.zeros(kernel.AUTORESET + 1)
        rules[kernel.REWARD] = REWARDS[self.reward]
        rules[kernel.LIKE_LEVEL] = scale.index(like_at)
        rules[kernel.CAUTION] = self.caution
        rules[kernel.PATIENCE] = self.patience or 0
        rules[kernel.BOREDOM] = self.boredom
        rules[kernel.RETENTION] = 1.0 - self.drift
        rules[kernel.LEAVE] = self.leave
        rules[kernel.MAX_STEPS] = self.max_steps
        rules[kernel.REPEATS] = self.repeats == "allow"
        rules[kernel.TEMPERATURE] = self.temperature
        rules[kernel.AUTORESET] = autoreset
        return rules


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


class Episodes:
    """`n` episodes side by side; each depends on its own seed alone, whatever stands beside it.

    `users` are the ids of the people that an episode may have (None: all). With `replay` only a user's held-out items
    are open, and answers are the held-out ratings. `slate_size` items are shown in each step. With `autoreset` an
    episode that has ended begins anew in the same step.

    Raises:
        SettingsError: a user is not known, or, with `replay`, none has held-out ratings.
    """

    def __init__(
        self,
        population: Population,
        n: int,
        rules: Rules,
        *,
        users: Iterable[str] | None = None,
        replay: bool = False,
        slate_size: int = 1,
        autoreset: bool = False,
    ) -> None:
        if n < 1 or slate_size < 1:
            raise SettingsError(f"{n} episodes with slates of {slate_size} are not possible; both are 1 or more")
        self.population = population
        self.rules = rules
        self.slate_size = slate_size
        self.replay = replay
        self._people = _people(population, rules, users, replay)
        self._rules = rules.array(population, autoreset)
        self._state = _empty_state(population, n, rules.history, len(self._people.prior))
        self._results = _empty_results(n, population.scale.n_levels, rules.history)

    def __len__(self) -> int:
        return len(self._state.counters)

    @property
    def people(self) -> People:
        """What all episodes share."""
        return self._people

    @property
    def state(self) -> State:
        """The state now; its arrays change with each step."""
        return self._state

    @property
    def results(self) -> Results:
        """What the last step came to; its arrays change with each step."""
        return self._results

    def reset(self, rows: Sequence[int] | IntArray, seeds: Sequence[int] | None, user: str | None = None) -> None:
        """Begin an episode in each of these rows, with this user (None: a random one of each).

        `seeds` are one per row (None: the rows' streams of random numbers go on).

        Raises:
            SettingsError: the user is not known, or, in a replay, has no held-out ratings.
        """
        rows = np.asarray(rows, dtype=np.int64)
        users = np.full(len(rows), -1 if user is None else self._user(user))
        if seeds is not None:
            for row, seed in zip(rows.tolist(), seeds, strict=True):
                self._state.random[row] = derive_seed(seed, "environment")
        kernel.begin_rows(rows, users, tuple(self._state), tuple(self._people))

    def step(self, actions: IntArray) -> None:
        """Show each row the items `actions`, row numbers of shape `(n, slate_size)`; `results` holds what came of it.

        Raises:
            SettingsError: an action names no item; nothing has changed.
        """
        invalid = kernel.step_rows(actions, tuple(self._state), tuple(self._people), self._rules, tuple(self._results))
        if invalid >= 0:
            n_items = len(self.population.item_ids)
            raise SettingsError(
                f"action {actions[invalid].tolist()} of row {invalid} names no item; items are 0 to {n_items - 1}"
            )

    def predict(self, item_ids: Iterable[str], row: int = 0) -> FloatArray:
        """The distribution of the person's rating of each item given all answers so far, `(n_items, n_levels)`.

        Raises:
            SettingsError: an item is not known.
        """
        return self.predict_rows(np.array([self.population.item_row(item) for item in item_ids], dtype=np.int64), row)

    def predict_rows(self, items: IntArray, row: int = 0) -> FloatArray:
        """The same for row numbers of items."""
        return kernel.predict_rows(row, items, tuple(self._state), tuple(self._people), self._rules)

    def restrict(self, masks: NDArray[np.bool_]) -> None:
        """Close all items that are not in `masks`, shape `(n, n_items)`, until a row's next episode."""
        self._state.closed[~masks] = 1
        self._state.counters[:, kernel.N_OPEN] = (self._state.closed == 0).sum(axis=1)

    def observe(self, item_id: str, rating: float, row: int = 0) -> None:
        """Let the belief about the person learn a real answer; it counts as shown, and no step passes.

        Raises:
            SettingsError: the item is not known.
            ScaleError: the rating is not on the scale.
        """
        item, level = self.population.item_row(item_id), int(self.population.scale.index(rating))
        kernel.observe_row(row, item, level, tuple(self._state), tuple(self._people), self._rules)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which items are open in each row, shape `(n, n_items)`."""
        return np.asarray(self._state.closed == 0)

    def snapshot(self) -> bytes:
        """The state of all rows, random numbers included, for `restore`."""
        return self._fingerprint + b"".join(array.tobytes() for array in self._state)

    def restore(self, snapshot: bytes) -> None:
        """Go back to the state of a `snapshot` of episodes of the same population and the same options.

        Raises:
            SettingsError: it is none, or of other episodes.
        """
        arrays: tuple[NDArray[Any], ...] = tuple(self._state)
        sizes = [array.nbytes for array in arrays]
        start = len(self._fingerprint)
        if (
            not isinstance(snapshot, bytes)
            or snapshot[:start] != self._fingerprint
            or len(snapshot) != start + sum(sizes)
        ):
            raise SettingsError("the snapshot is not of this environment with these options; take another")
        for array, size in zip(arrays, sizes, strict=True):
            array[...] = np.frombuffer(snapshot, array.dtype, array.size, start).reshape(array.shape)
            start += size

    @cached_property
    def _fingerprint(self) -> bytes:
        about = repr(
            (
                self.population.train.digest,
                self.population.held_out.digest,
                self._rules.tolist(),
                self.replay,
                len(self),
                self.slate_size,
                self.rules.history,
            )
        )
        return hashlib.sha256(about.encode()).digest()

    def _user(self, user_id: str) -> int:
        row = self.population.user_row(user_id)
        if not self._people.n_open[row]:
            raise SettingsError(f"user {user_id!r} has no item that is open; name another user")
        return row


def _empty_state(population: Population, n: int, history: int, width: int) -> State:
    return State(
        np.zeros((n, width + width * width)),
        np.zeros((n, 4), dtype=np.int64),
        np.zeros(n, dtype=np.uint64),
        np.zeros((n, len(population.item_ids)), dtype=np.uint8),
        np.zeros((n, history), dtype=np.int64),
        np.full((n, history), -1, dtype=np.int64),
    )


def _empty_results(n: int, n_levels: int, history: int) -> Results:
    shown = np.zeros((n, history), dtype=np.int64)
    counters = np.zeros((n, 4), dtype=np.int64)
    return Results(np.zeros(n), np.zeros((n, 5), dtype=np.int64), np.zeros((n, n_levels)), shown, shown - 1, counters)


def _people(population: Population, rules: Rules, users: Iterable[str] | None, replay: bool) -> People:
    n_users, n_items = len(population.user_ids), len(population.item_ids)
    scale, train, held_out = population.scale, population.train, population.held_out
    real = np.empty((0, 0), dtype=np.int16)
    closed = np.zeros((n_users, n_items), dtype=np.uint8)
    if replay:
        real = np.full((n_users, n_items), -1, dtype=np.int16)
        real[held_out.user, held_out.item] = scale.index(held_out.rating)
        closed[:] = real < 0
    elif rules.repeats == "forbid":
        closed[train.user, train.item] = 1
    n_open = (n_items - closed.sum(axis=1, dtype=np.int64)).astype(np.int64)
    rows = (
        np.arange(n_users) if users is None else np.array([population.user_row(user) for user in users], dtype=np.int64)
    )
    rows = rows[n_open[rows] > 0]
    if not len(rows):
        raise SettingsError(
            "no user has an item that is open; "
            + ("a replay needs held-out ratings: build with --protocol user-temporal" if replay else "name other users")
        )
    values = (scale.values - scale.low) / (scale.high - scale.low)
    cuts = population.cutpoints
    return People(cuts, population.features, population.prior, rows, closed, n_open, genre_bits(train), values, real)


def genre_bits(dataset: Dataset) -> NDArray[np.uint64]:
    """The genres of each item as bits of one number; the most frequent `MAX_GENRES` are told apart."""
    bits = np.zeros(dataset.n_items, dtype=np.uint64)
    if "genres" not in dataset.items:
        return bits
    counts: dict[str, int] = {}
    genres: list[Any] = [tuple(entry) for entry in dataset.items["genres"]]
    for entry in genres:
        for genre in entry:
            counts[genre] = counts.get(genre, 0) + 1
    place = {genre: k for k, genre in enumerate(sorted(counts, key=lambda genre: (-counts[genre], genre))[:MAX_GENRES])}
    for row, entry in enumerate(genres):
        for genre in entry:
            if genre in place:
                bits[row] |= np.uint64(1) << np.uint64(place[genre])
    return bits
