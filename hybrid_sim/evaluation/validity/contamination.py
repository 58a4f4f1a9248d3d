"""Whether a language model recalls the data set: the same questions with real titles, and with invented ones.

A model that has read the data in training may recite ratings instead of simulating a taste. Recall needs the title.
So the same users are asked about the same items twice: as they are, and under invented titles without any text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.history import Histories
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs
from hybrid_sim.core.user_state import UserState
from hybrid_sim.data.world_words import TITLE_FIRST, TITLE_SECOND
from hybrid_sim.simulation.interviewer import Inquiry, Opinion, distribution_of

N_USERS, N_ITEMS = 20, 10
"""Users that are asked, and items that each is asked about, of those that were held out."""

MIN_ANSWERS = 50
"""Pairs that must be answered both ways."""

Asker = Callable[[Dataset, list[Inquiry]], list[Opinion]]
"""Puts inquiries about a dataset to the model: `lambda data, inquiries: interviewer(data, ...).opinions(inquiries)`."""


@dataclass(frozen=True)
class Probe:
    """What the model said with real titles and with invented ones, and what people gave; columns of one length."""

    user: IntArray
    truth: FloatArray
    with_title: FloatArray
    without: FloatArray


def masked(dataset: Dataset, seed: int) -> Dataset:
    """The same data under invented titles, without overviews; years and genres stay, so that taste has something to
    go by.

    The histories that a model is shown speak of the same invented titles.
    """
    taken = set(dataset.items["title"]) if "title" in dataset.items else set()
    plain = [f"The {first} {second}" for first in TITLE_FIRST for second in TITLE_SECOND]
    n_rounds = (dataset.n_items + len(taken)) // len(plain) + 1
    sequels = [f"{title}{f' {turn + 1}' if turn else ''}" for turn in range(n_rounds) for title in plain]
    free = [title for title in sequels if title not in taken][: dataset.n_items]
    titles = [free[place] for place in stream(seed, "validity", "titles").permutation(dataset.n_items).tolist()]
    kept = [name for name in ("year", "genres") if name in dataset.items]
    items = dataset.items[kept].assign(title=pd.Series(titles, dataset.items.index, dtype=object))
    return replace(dataset, items=items)


def probe(train: Dataset, held_out: Dataset, ask: Asker, seed: int = 0) -> Probe:
    """Ask about held-out pairs of some users both ways; pairs without both answers are left out.

    `2 * N_USERS` inquiries about `N_ITEMS` items each, beside the profiles that `ask` has written.
    """
    rng = stream(seed, "validity", "probe")
    users = np.flatnonzero((held_out.user_counts > 0) & (train.user_counts > 0))
    chosen = np.sort(rng.permutation(users)[:N_USERS])
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(held_out.user == u))[:N_ITEMS] for u in chosen] or [np.zeros(0, dtype=np.int64)]
    )
    pairs = Pairs(held_out.user[rows], held_out.item[rows])
    said = [_said(data, chosen, pairs, ask) for data in (train, masked(train, seed))]
    both = np.isfinite(said[0]) & np.isfinite(said[1])
    return Probe(pairs.user[both], held_out.rating[rows][both], said[0][both], said[1][both])


def _said(dataset: Dataset, users: IntArray, pairs: Pairs, ask: Asker) -> FloatArray:
    """The level that was said most often about each pair (the lowest of equals), NaN where nothing was said."""
    histories = Histories(dataset)
    inquiries = [Inquiry(UserState(u, histories.of(u)), pairs.item[pairs.user == u]) for u in users.tolist()]
    said = distribution_of(ask(dataset, inquiries), dataset.scale)
    return np.where(said.answered, np.array(dataset.scale.levels)[np.nan_to_num(said.probs).argmax(axis=1)], np.nan)
