"""A map of items: near ones are alike, the colour is what one user is expected to give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.seeding import stream
from hybrid_sim.core.types import FloatArray
from hybrid_sim.report.page import Chart, Column, Section, Table, limited
from hybrid_sim.report.plots import Point, scatter_chart
from hybrid_sim.retrieval.content_gp import N_PLAIN, ContentGP
from hybrid_sim.retrieval.facets import SignedFacets
from hybrid_sim.simulation.run_results import FinishedRun
from hybrid_sim.simulation.simulator import Simulator

MAX_ITEMS = 1200
"""Items on the map: all of a small catalogue, else those of the user and a random choice of others."""

LEAST = 3
"""Items and users from which on a map says anything."""


def map_section(
    run: FinishedRun, user: int, simulator: Simulator | None, titles: Mapping[str, str], seed: int = 0
) -> Section:
    """The section with the map; where nothing says which items are alike, it says so."""
    user_id = str(run.user_ids[user])
    known = None if simulator is None else _vectors(simulator)
    if simulator is not None and known is not None:
        items, expected, vectors = _of_catalogue(run, user, simulator, known[0], seed)
        how = known[1]
    else:
        items, expected, vectors = _of_table(run, user)
        how = "how the users of this run are expected to rate them"
    if len(items) < LEAST or not np.ptp(vectors, axis=0).any():
        finding = "No map can be drawn: the run holds too few items, or nothing that says which are alike."
        return Section("map", "Map of items", finding, ())
    places, share = principal_plane(vectors)
    low, high = float(expected.min()), float(expected.max())
    points = [
        Point(x, y, f"{titles.get(item, item)}: {value:.2f}", shade=value)
        for item, value, (x, y) in zip(items, expected.tolist(), places.tolist(), strict=True)
    ]
    title = f"Items by {how}, coloured by the expected rating of user {user_id}"
    order = np.argsort(-expected, kind="stable").tolist()
    rows = tuple(
        (items[n], titles.get(items[n], ""), float(expected[n]), float(places[n, 0]), float(places[n, 1]))
        for n in order
    )
    columns = (Column("item"), Column("title"), Column("expected", 3), Column("across", 3), Column("up", 3))
    drawing = scatter_chart(
        title, points, "first principal direction", "second principal direction", shades=(low, high, "expected rating")
    )
    caption = f"The two directions hold {share:.0%} of what tells items apart; distances on the map are rough."
    chart = Chart(title, drawing, limited(Table("table-map", title, columns, rows)), caption)
    finding = f"{len(items):,} items; user {user_id} is expected to give {low:.2f} to {high:.2f}."
    return Section("map", "Map of items", finding, (chart,))


def _vectors(simulator: Simulator) -> tuple[FloatArray, str] | None:
    """What the fitted members know of items, shape `(n_items, n_directions)`, and what that is.

    With a `ContentGP` items are near each other if its users like or dislike them together for what they are about:
    their features are measured by the users' weights, which keeps all distances between rows of features × weights.
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
    """The items that the user was asked about, and how all users of the run are expected to rate them."""
    mean = run.distribution.mean()
    rows = np.flatnonzero(run.user == user)[:MAX_ITEMS]
    chosen, first = np.unique(run.item[rows], return_index=True)
    here = np.isin(run.item, chosen)
    table = pd.DataFrame({"user": run.user[here], "item": run.item[here], "mean": mean[here]})
    wide = table.pivot_table(index="item", columns="user", values="mean", aggfunc="mean")
    wide = (wide - wide.mean()).fillna(0.0)
    vectors = wide.to_numpy(dtype=float)
    if vectors.shape[1] < LEAST:
        vectors = np.zeros((len(chosen), LEAST))
    return [str(item) for item in run.item_ids[chosen]], mean[rows[first]], vectors


def principal_plane(vectors: FloatArray) -> tuple[FloatArray, float]:
    """The two directions in which rows differ most: places of shape `(n, 2)` and the share of the variance they hold.

    Signs are fixed so that the largest place in each direction is positive: equal rows give an equal map.
    """
    centred: NDArray[np.float64] = vectors - vectors.mean(axis=0)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * strengths[:2]
    places *= np.where(places[np.abs(places).argmax(axis=0), np.arange(places.shape[1])] < 0, -1.0, 1.0)
    return places, float((strengths[:2] ** 2).sum() / (strengths**2).sum())
