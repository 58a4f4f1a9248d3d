"""A map of items by principal components: near items are similar, the colour is one user's expected rating."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.document import Chart, Column, Section, Table
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray
from hybrid_sim.retrieval.content_gp import N_PLAIN, ContentGP
from hybrid_sim.retrieval.text_raters import SignedFacets
from hybrid_sim.simulation.run_folder import FinishedRun
from hybrid_sim.simulation.simulator import Simulator

MAX_ITEMS = 1200
"""Items on the map: all of a small catalogue, else those of the user and a random choice of others."""

MIN_ITEMS = 3
"""Items, and users, that a map needs."""


def map_section(
    run: FinishedRun, user: int, simulator: Simulator | None, titles: Mapping[str, str], seed: int = 0
) -> Section:
    """The section with the map; without item vectors, or with too few items, it says that there is none."""
    user_id = str(run.user_ids[user])
    described = None if simulator is None else _vectors(simulator)
    if simulator is not None and described is not None:
        items, expected, vectors = _of_catalogue(run, user, simulator, described[0], seed)
        how = described[1]
    else:
        items, expected, vectors = _of_table(run, user)
        how = "how the users of this run are expected to rate them"
    if len(items) < MIN_ITEMS or not np.ptp(vectors, axis=0).any():
        finding = "No map can be drawn: the run holds too few items, or nothing that says which are alike."
        return Section("map", "Map of items", finding)
    places, share = principal_plane(vectors)
    low, high = float(expected.min()), float(expected.max())
    title = f"Items by {how}, coloured by the expected rating of user {user_id}"
    order = np.argsort(-expected, kind="stable").tolist()
    rows = tuple(
        (items[n], titles.get(items[n], items[n]), float(expected[n]), float(places[n, 0]), float(places[n, 1]))
        for n in order
    )
    columns = (
        Column("item", "item"), Column("title", "title"), Column("expected", "expected rating", 3),
        Column("across", "first principal direction", 3), Column("up", "second principal direction", 3),
    )  # fmt: skip
    caption = (
        f"The two directions hold {share:.0%} of the variance between items; distances on the map are approximate."
    )
    chart = Chart("scatter", title, "items", "across", ("up",), shade="expected", tip="title", caption=caption)
    finding = f"{len(items):,} items; user {user_id} is expected to give {low:.2f} to {high:.2f}."
    return Section("map", "Map of items", finding, (chart, Table("items", title, columns, rows)))


def _vectors(simulator: Simulator) -> tuple[FloatArray, str] | None:
    """Item vectors of a fitted member, shape `(n_items, n_directions)`, and by what they are similar; None without one.

    Of a `ContentGP` they are the item features F in the metric of the user weights W: F V sqrt(L) with W'W = V L V', so
    that distances between items are those between the rows of F W', the parts of the users' ratings due to content.
    """
    members, n_items = simulator.ensemble_.members_.values(), len(simulator.item_ids_)
    for member in members:
        if isinstance(member, ContentGP):
            features, weights = member.features_[:n_items, N_PLAIN:], member.user_weights_[:, N_PLAIN:]
            strengths, directions = np.linalg.eigh(weights.T @ weights)
            return features @ directions * np.sqrt(np.maximum(strengths, 0.0)), "who likes what they are about"
    for member in members:
        if isinstance(member, SignedFacets):
            return member.vectors_[:n_items], "their texts"
    return None


def _of_catalogue(
    run: FinishedRun, user: int, simulator: Simulator, vectors: FloatArray, seed: int
) -> tuple[list[str], FloatArray, FloatArray]:
    known = np.flatnonzero(vectors.any(axis=1))
    ids = simulator.item_ids_.to_numpy(dtype=object)
    own = np.isin(ids[known], run.item_ids[run.item[run.user == user]])
    if len(known) > MAX_ITEMS:
        first, others = known[own][:MAX_ITEMS], known[~own]
        drawn = stream(seed, "map").choice(len(others), min(MAX_ITEMS - len(first), len(others)), replace=False)
        known = np.sort(np.concatenate([first, others[drawn]]))
    items = [str(item) for item in ids[known]]
    expected = simulator.predict([str(run.user_ids[user])] * len(items), items).distribution.mean()
    return items, expected, vectors[known]


def _of_table(run: FinishedRun, user: int) -> tuple[list[str], FloatArray, FloatArray]:
    """The user's items, the user's expected ratings, and as vectors the centred expected ratings of all users."""
    mean = run.distribution.mean()
    rows = np.flatnonzero(run.user == user)[:MAX_ITEMS]
    distinct, first = np.unique(run.item[rows], return_index=True)
    here = np.isin(run.item, distinct)
    table = pd.DataFrame({"user": run.user[here], "item": run.item[here], "mean": mean[here]})
    wide = table.pivot_table(index="item", columns="user", values="mean", aggfunc="mean")
    wide = (wide - wide.mean()).fillna(0.0)
    vectors = wide.to_numpy(dtype=float)
    if vectors.shape[1] < MIN_ITEMS:
        vectors = np.zeros((len(distinct), MIN_ITEMS))
    return [str(item) for item in run.item_ids[distinct]], mean[rows[first]], vectors


def principal_plane(vectors: FloatArray) -> tuple[FloatArray, float]:
    """The two directions in which rows differ most: places of shape `(n, 2)` and the share of the variance they hold.

    Signs are fixed so that the largest place in each direction is positive: equal rows give an equal map.
    """
    centred: NDArray[np.float64] = vectors - vectors.mean(axis=0)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * strengths[:2]
    places *= np.where(places[np.abs(places).argmax(axis=0), np.arange(places.shape[1])] < 0, -1.0, 1.0)
    return places, float((strengths[:2] ** 2).sum() / (strengths**2).sum())
