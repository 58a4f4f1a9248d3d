"""Made-up data that several test files share: worlds with new items, tables of a world, recorded ratings."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.data.world import make_world
from hybrid_sim.models.recorded import RecordedRatings

N_NEW = 30
"""New items of `world_with_new_items`."""


def world_with_new_items(seed: int) -> tuple[Dataset, Dataset]:
    """A world of 120 users whose last items of 150 are new, and the ratings of these, which were taken from it."""
    full = make_world(seed=seed, n_users=120, n_items=150, ratings_per_user=25).dataset
    new = full.item >= full.n_items - N_NEW
    return full.take(~new), full.take(new)


def rating_table(dataset: Dataset) -> pd.DataFrame:
    """The columns `user_id`, `item_id`, `rating` (whole numbers) and, where it is known, `timestamp`."""
    times = {} if dataset.timestamp is None else {"timestamp": dataset.timestamp}
    return pd.DataFrame(
        {
            "user_id": dataset.users.index.to_numpy()[dataset.user],
            "item_id": dataset.items.index.to_numpy()[dataset.item],
            "rating": dataset.rating.astype(int),
            **times,
        }
    )


def write_tables(dataset: Dataset, folder: Path) -> list[str]:
    """Write ratings.csv, items.csv and users.csv; returns the options of a command that name them."""
    rating_table(dataset).to_csv(folder / "ratings.csv", index=False)
    items = dataset.items.assign(genres=dataset.items["genres"].map("|".join))
    items.rename_axis("item_id").to_csv(folder / "items.csv")
    dataset.users.rename_axis("user_id").to_csv(folder / "users.csv")
    return [word for name in ("ratings", "items", "users") for word in (f"--{name}", str(folder / f"{name}.csv"))]


def recording_of(dataset: Dataset, ratings: FloatArray, rows: IntArray | slice = slice(None)) -> RecordedRatings:
    """Recorded LLM ratings of the pairs of a data set, or of these rows of it."""
    users, items = (frame.index.to_numpy(dtype=object) for frame in (dataset.users, dataset.items))
    return RecordedRatings(users[dataset.user[rows]], items[dataset.item[rows]], ratings)
