"""Evidence on contamination: whether a language model recalls the data set from its training.

A model that has read the data in training may recite ratings instead of simulating a taste. Recall needs the title.
So the model rates the same pairs twice: with the real titles, and with invented ones and no text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Column, Section
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray, IntArray, Pairs
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.data.world import fictional_titles
from hybrid_sim.evaluation import metrics
from hybrid_sim.evaluation.validity.inputs import Probe, ValidationData
from hybrid_sim.evaluation.validity.verdicts import judge, table, undecided
from hybrid_sim.simulation.interviewer import LLMRatings, RatingRequest

N_USERS, N_ITEMS = 20, 10
"""Users that the model is asked about, and held-out items of each."""

MIN_ANSWERS = 50
"""Pairs that must be answered both ways."""

Asker = Callable[[Dataset, list[RatingRequest]], LLMRatings]
"""Puts inquiries about a dataset to the model: `lambda data, inquiries: interviewer(data, ...).ask(inquiries)`."""


NO_PROBE = (
    "No language model can be asked here: either none was, or only its recorded ratings are known, to which no further "
    "question can be put."
)


def contamination(data: ValidationData) -> Section:
    """Share of exact hits of a language model with real titles minus that with invented ones."""
    title, probe = "Recall of the data set", data.probe
    if probe is None or len(probe.truth) < MIN_ANSWERS:
        why = NO_PROBE if probe is None else f"Only {len(probe.truth)} of {MIN_ANSWERS} pairs were answered both ways."
        return Section("contamination", title, why, (undecided("contamination", why, data.scale),))
    answers = {"real title and text": probe.with_title, "invented title, no text": probe.without}
    exact = {kind: (np.abs(ratings - probe.truth) < 1e-9).astype(float) for kind, ratings in answers.items()}
    rows = (
        (kind, exact[kind].mean(), metrics.mae(probe.truth, ratings), metrics.pearson(probe.truth, ratings))
        for kind, ratings in answers.items()
    )
    columns = (
        Column("asked", "asked with"), Column("exact", "exact hits", 4), Column("mae", "MAE", 4),
        Column("pearson", "Pearson", 4),
    )  # fmt: skip
    heading = f"A language model's ratings of {len(probe.truth)} held-out pairs"
    hits = table("contamination", heading, columns, rows, "Intervals resample users.")
    with_title, without = exact.values()
    gain = data.by_user.mean(with_title - without, probe.user)
    verdict = judge("contamination", gain, data.scale)
    finding = f"{with_title.mean():.1%} of its ratings hit exactly with real titles, {without.mean():.1%} without."
    return Section("contamination", title, finding, (verdict, hits))


def masked(dataset: Dataset, seed: int) -> Dataset:
    """The same data under invented titles, without overviews; years and genres stay, so that taste has something to
    go by.

    The histories that a model is shown speak of the same invented titles.
    """
    taken = set(dataset.items["title"]) if "title" in dataset.items else set()
    plain = fictional_titles()
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
    asked = np.sort(rng.permutation(users)[:N_USERS])
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(held_out.user == u))[:N_ITEMS] for u in asked] or [np.zeros(0, dtype=np.int64)]
    )
    pairs = Pairs(held_out.user[rows], held_out.item[rows])
    real, invented = (_answers(data, asked, pairs, ask) for data in (train, masked(train, seed)))
    both = np.isfinite(real) & np.isfinite(invented)
    return Probe(pairs.user[both], held_out.rating[rows][both], real[both], invented[both])


def _answers(dataset: Dataset, users: IntArray, pairs: Pairs, ask: Asker) -> FloatArray:
    """The most frequent answer about each pair (the lowest of equals), NaN where there is none."""
    histories = Histories(dataset)
    inquiries = [RatingRequest(UserState(u, histories.of(u)), pairs.item[pairs.user == u]) for u in users.tolist()]
    answers = ask(dataset, inquiries).distribution(dataset.scale)
    most_frequent = np.array(dataset.scale.levels)[np.nan_to_num(answers.probs).argmax(axis=1)]
    return np.where(answers.answered, most_frequent, np.nan)
