"""One step of many episodes at once, compiled. What happens in an episode depends on its own row alone.

Random numbers are those of SplitMix64 (Steele et al. 2014), with a state per row.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.compiled import compiled
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.environments.belief import CutArray, forget, learn, level_probabilities, own_noise, project

Flags = NDArray[np.uint8]
RandomStates = NDArray[np.uint64]
Arrays = tuple[Any, ...]
"""A `People`, `State` or `Results` as a plain tuple, which is passed to compiled code twice as fast."""


class People(NamedTuple):
    """What episodes share and never change, in arrays.

    `cuts`, `features` and `prior` are those of `hybrid_sim.environments.belief`. `users` are the rows of users that
    episodes may have, `closed_to` and `n_open` say which items are closed to each user from the start, and how many
    are not. `genres` are bits, `values` the levels of the scale moved into [0, 1]. `real` holds the position on the
    scale of the real answer of each user about each item; it is empty where answers are drawn.
    """

    cuts: CutArray
    features: FloatArray
    prior: FloatArray
    users: IntArray
    closed_to: Flags
    n_open: IntArray
    genres: NDArray[np.uint64]
    values: FloatArray
    real: NDArray[np.int16]


class State(NamedTuple):
    """The state of episodes, a row each.

    `beliefs` holds mean and covariance one behind the other, `counters` the columns below, `closed` which items are
    closed now; `shown` (item row + 1, 0: none) and `answers` (position on the scale, -1: none) are the latest, newest
    last.
    """

    beliefs: FloatArray
    counters: IntArray
    random: RandomStates
    closed: Flags
    shown: IntArray
    answers: IntArray


class Results(NamedTuple):
    """What a step of each row came to; the last three show how an episode ended that began anew in the same step."""

    rewards: FloatArray
    outcomes: IntArray
    probs: FloatArray
    final_shown: IntArray
    final_answers: IntArray
    final_counters: IntArray


USER, STEP, STREAK, N_OPEN = range(4)
"""Columns of `counters`: row of the user, steps done, rewards below .5 in a row, items still open."""

TAKEN, LEVEL, REPEATED, TERMINATED, TRUNCATED = range(5)
"""Columns of `outcomes`: row of the item (-1: none was taken), position of the answer (-1: none), and flags."""

RATING, LIKE, CAUTIOUS = range(3)
"""What a reward is made from."""

(REWARD, LIKE_LEVEL, CAUTION, PATIENCE, BOREDOM, RETENTION, LEAVE, MAX_STEPS, REPEATS, TEMPERATURE, AUTORESET) = range(
    11
)
"""Places of the options among the `rules`."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@compiled()
def step_rows(
    actions: IntArray,
    state: Arrays,
    people: Arrays,
    rules: FloatArray,
    results: Arrays,
) -> int:
    """Show each row its items, `actions` of shape `(n_rows, slate_size)`.

    Gives the first row whose action names no item, before anything has changed; -1 where all do. With
    `rules[AUTORESET]` rows whose episode has ended begin a new one.
    """
    now, given, out = State(*state), People(*people), Results(*results)
    for row in range(len(actions)):
        for place in range(actions.shape[1]):
            if not 0 <= actions[row, place] < len(given.features):
                return row
    gain = np.empty(len(given.prior))
    for row in range(len(actions)):
        item = actions[row, 0]
        if actions.shape[1] > 1:
            item = chosen_item(row, actions[row], now, given, rules, gain, out.probs[row])
        out.rewards[row] = 0.0
        out.outcomes[row, TAKEN], out.outcomes[row, LEVEL], out.outcomes[row, REPEATED] = item, -1, 0
        if item < 0 or now.closed[row, item]:
            out.outcomes[row, REPEATED] = item >= 0
            out.probs[row] = np.nan
        else:
            answer(row, item, now, given, rules, out, gain)
        now.counters[row, STEP] += 1
        if rules[RETENTION] < 1.0:
            mean, covariance = belief_of(row, now, given)
            forget(mean, covariance, given.prior, rules[RETENTION])
        end_of_step(row, now, rules, out)
        if rules[AUTORESET] and (out.outcomes[row, TERMINATED] or out.outcomes[row, TRUNCATED]):
            out.final_shown[row] = now.shown[row]
            out.final_answers[row] = now.answers[row]
            out.final_counters[row] = now.counters[row]
            begin(row, -1, now, given)
    return -1


@compiled()
def begin_rows(rows: IntArray, users: IntArray, state: Arrays, people: Arrays) -> None:
    """Begin an episode in each of these rows, with these users (-1: a random one)."""
    now, given = State(*state), People(*people)
    for k in range(len(rows)):
        begin(rows[k], users[k], now, given)


@compiled()
def predict_rows(
    row: int,
    items: IntArray,
    state: Arrays,
    people: Arrays,
    rules: FloatArray,
) -> FloatArray:
    """The distributions of items for the person in a row, given all answers so far, shape `(n_items, n_levels)`."""
    now, given = State(*state), People(*people)
    probs, gain = np.empty((len(items), len(given.values))), np.empty(len(given.prior))
    for k in range(len(items)):
        predict_item(row, items[k], now, given, rules, gain, probs[k])
    return probs


@compiled()
def observe_row(
    row: int,
    item: int,
    level: int,
    state: Arrays,
    people: Arrays,
    rules: FloatArray,
) -> None:
    """Let the belief of a row learn an answer that the person gave, without a step."""
    now, given = State(*state), People(*people)
    probs, gain = np.empty(len(given.values)), np.empty(len(given.prior))
    centre, variance, _, shift = predict_item(row, item, now, given, rules, gain, probs)
    learn_answer(row, item, level, centre, variance, shift, now, given, gain)
    take_note(row, item, level, now, rules)


@compiled(forceinline=True)
def uniform(states: RandomStates, row: int) -> float:
    """The next number in [0, 1) of a row's stream."""
    states[row] += _GOLDEN
    mixed = states[row]
    mixed = (mixed ^ (mixed >> _S30)) * _MIX_1
    mixed = (mixed ^ (mixed >> _S27)) * _MIX_2
    return float((mixed ^ (mixed >> _S31)) >> _S11) * 2.0**-53


@compiled(forceinline=True)
def belief_of(row: int, state: State, people: People) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance of a row's belief, to be changed in place."""
    width = len(people.prior)
    return state.beliefs[row, :width], state.beliefs[row, width:].reshape(width, width)


@compiled(forceinline=True)
def begin(row: int, user: int, state: State, people: People) -> None:
    """Begin an episode with this user (-1: a random one)."""
    drawn = people.users[int(uniform(state.random, row) * len(people.users))]
    user = drawn if user < 0 else user
    state.counters[row, USER] = user
    state.counters[row, STEP] = 0
    state.counters[row, STREAK] = 0
    state.counters[row, N_OPEN] = people.n_open[user]
    state.beliefs[row] = 0.0
    width = len(people.prior)
    for a in range(width):
        state.beliefs[row, width + a * width + a] = people.prior[a]
    state.closed[row] = people.closed_to[user]
    state.shown[row] = 0
    state.answers[row] = -1


@compiled(forceinline=True)
def answer(
    row: int, item: int, state: State, people: People, rules: FloatArray, results: Results, gain: FloatArray
) -> None:
    """Draw the person's answer about an open item, or look it up, and learn from it."""
    probs = results.probs[row]
    centre, variance, shared, shift = predict_item(row, item, state, people, rules, gain, probs)
    if len(people.real):
        level = int(people.real[state.counters[row, USER], item])
    else:
        level = drawn_level(probs, uniform(state.random, row))
    learn_answer(row, item, level, centre, variance, shift, state, people, gain)
    take_note(row, item, level, state, rules)
    results.outcomes[row, LEVEL] = level
    results.rewards[row] = reward_of(level, probs, people.values, shared / variance, rules)


@compiled(forceinline=True)
def predict_item(
    row: int, item: int, state: State, people: People, rules: FloatArray, gain: FloatArray, probs: FloatArray
) -> tuple[float, float, float, float]:
    """Fill `probs` with the distribution of an item given all answers so far, and `gain` with Σ h.

    Gives mean and variance of the latent rating, the person's part of the variance, and the shift of the cutpoints
    that boredom makes.
    """
    mean, covariance = belief_of(row, state, people)
    centre, shared = project(mean, covariance, people.features[item], gain)
    variance = shared + own_noise(people.features[item], people.prior)
    shift = boredom_shift(item, state.shown[row], people.genres, rules[BOREDOM]) if rules[BOREDOM] > 0 else 0.0
    level_probabilities(people.cuts[state.counters[row, USER], item], centre - shift, variance, probs)
    return centre, variance, shared, shift


@compiled(forceinline=True)
def learn_answer(
    row: int,
    item: int,
    level: int,
    centre: float,
    variance: float,
    shift: float,
    state: State,
    people: People,
    gain: FloatArray,
) -> None:
    """Update a row's belief with an answer."""
    mean, covariance = belief_of(row, state, people)
    cuts = people.cuts[state.counters[row, USER], item]
    low = cuts[level - 1] + shift if level > 0 else -np.inf
    high = cuts[level] + shift if level < len(cuts) else np.inf
    learn(mean, covariance, gain, centre, variance, low, high)


@compiled(forceinline=True)
def take_note(row: int, item: int, level: int, state: State, rules: FloatArray) -> None:
    """Append an item and its answer to what is shown, and close the item."""
    last = state.shown.shape[1] - 1
    for place in range(last):
        state.shown[row, place] = state.shown[row, place + 1]
        state.answers[row, place] = state.answers[row, place + 1]
    state.shown[row, last] = item + 1
    state.answers[row, last] = level
    if rules[REPEATS] == 0 and state.closed[row, item] == 0:
        state.closed[row, item] = 1
        state.counters[row, N_OPEN] -= 1


@compiled(forceinline=True)
def boredom_shift(item: int, shown: IntArray, genres: NDArray[np.uint64], boredom: float) -> float:
    """`boredom` times the share of the history that has a genre in common with the item."""
    alike = 0
    for place in range(len(shown)):
        if shown[place] > 0 and genres[shown[place] - 1] & genres[item]:
            alike += 1
    return boredom * alike / len(shown)


@compiled(forceinline=True)
def drawn_level(probs: FloatArray, at: float) -> int:
    """The smallest level whose cumulative probability exceeds `at`."""
    below = 0.0
    level = 0
    for k in range(len(probs)):
        if probs[k] > 0:
            level = k
            below += probs[k]
            if at < below:
                break
    return level


@compiled(forceinline=True)
def mean_and_sd(probs: FloatArray, values: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation of a distribution over `values`."""
    mean, square = 0.0, 0.0
    for k in range(len(probs)):
        mean += probs[k] * values[k]
        square += probs[k] * values[k] * values[k]
    return mean, math.sqrt(max(square - mean * mean, 0.0))


@compiled(forceinline=True)
def reward_of(level: int, probs: FloatArray, values: FloatArray, share: float, rules: FloatArray) -> float:
    """The reward of an answer; `share` is the person's part of the latent variance."""
    if rules[REWARD] == LIKE:
        return 1.0 if level >= rules[LIKE_LEVEL] else 0.0
    if rules[REWARD] == CAUTIOUS:
        mean, sd = mean_and_sd(probs, values)
        return float(min(max(mean - rules[CAUTION] * sd * math.sqrt(share), 0.0), 1.0))
    return float(values[level])


@compiled(forceinline=True)
def end_of_step(row: int, state: State, rules: FloatArray, results: Results) -> None:
    """Say whether the episode ends: by impatience, by chance, for want of open items, or at the last step."""
    counters = state.counters[row]
    counters[STREAK] = counters[STREAK] + 1 if results.rewards[row] < 0.5 else 0
    ends = rules[PATIENCE] > 0 and counters[STREAK] >= rules[PATIENCE]
    if rules[LEAVE] > 0:
        ends = uniform(state.random, row) < rules[LEAVE] or ends
    ends = ends or counters[N_OPEN] <= 0
    results.outcomes[row, TERMINATED] = ends
    results.outcomes[row, TRUNCATED] = not ends and counters[STEP] >= rules[MAX_STEPS]


@compiled(forceinline=True)
def chosen_item(
    row: int, slate: IntArray, state: State, people: People, rules: FloatArray, gain: FloatArray, probs: FloatArray
) -> int:
    """The item of a slate that the person takes, -1 for none: a multinomial logit (McFadden 1974).

    The utility of an item is its expected rating, moved into [0, 1], that of taking none .5; both are divided by
    `rules[TEMPERATURE]`. Closed items are not taken, and an item that stands twice counts once.
    """
    weights = np.zeros(len(slate))
    total = math.exp(0.5 / rules[TEMPERATURE])
    for place in range(len(slate)):
        item = slate[place]
        is_open = state.closed[row, item] == 0
        for earlier in range(place):
            is_open = is_open and slate[earlier] != item
        if is_open:
            predict_item(row, item, state, people, rules, gain, probs)
            weights[place] = math.exp(mean_and_sd(probs, people.values)[0] / rules[TEMPERATURE])
            total += weights[place]
    at = uniform(state.random, row) * total
    for place in range(len(slate)):
        if at < weights[place]:
            return int(slate[place])
        at -= weights[place]
    return -1
