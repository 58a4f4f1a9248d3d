"""The simulator: fit it to a dataset, predict how users would rate items, draw ratings, save it.

>>> from hybrid_sim.data.world import make_world
>>> world = make_world(n_users=60, n_items=80, ratings_per_user=20).dataset
>>> simulator = Simulator(members=("biases", "svd")).fit(world)
>>> prediction = simulator.predict(world.users.index[:2], world.items.index[:2])
>>> len(prediction.sample(seed=0))
2
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core import model_files
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import ModelFileError, NotFittedError, SettingsError
from hybrid_sim.core.frames import Framed
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.seeding import pair_uniforms
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.columns import Frame, read_table
from hybrid_sim.data.tables import read_dataset
from hybrid_sim.ensemble.components import LIGHT, default_members, shapes_among, switched, with_sets
from hybrid_sim.ensemble.cost import affordable
from hybrid_sim.ensemble.ensemble import Ensemble
from hybrid_sim.models.means import GlobalMean
from hybrid_sim.models.registry import foreign_modules
from hybrid_sim.profiles.statistical_writer import statistical_profiles
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.retrieval.index import ProfileIndex, VectorIndex, item_index

SOURCES = ("global", "item", "user", "stat")
"""Levels of the fallback hierarchy: neither is known, the item, the user, both (1 * item + 2 * user)."""


@dataclass(frozen=True)
class Prediction(Framed):
    """Rating distributions of pairs, 90% intervals, and what each prediction rests on (`SOURCES`), row by row.

    `known` marks pairs whose ratings the simulator was fitted to: it has seen the answer, so that its prediction says
    nothing of its accuracy.
    """

    user_ids: NDArray[np.object_]
    item_ids: NDArray[np.object_]
    distribution: RatingDistribution
    low: FloatArray
    high: FloatArray
    source: NDArray[np.object_]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def mean(self) -> FloatArray:
        """The expected rating of each pair, shape `(n_pairs,)`."""
        return self.distribution.mean()

    def __repr__(self) -> str:
        return f"Prediction({len(self):,} pairs, scale {self.distribution.scale})"

    def take(self, rows: IntArray) -> Prediction:
        """The rows with these numbers."""
        ids, ends = (self.user_ids[rows], self.item_ids[rows]), (self.low[rows], self.high[rows])
        return Prediction(*ids, self.distribution.take(rows), *ends, self.source[rows], self.known[rows])

    def sample(self, seed: int, replicate: int = 0) -> FloatArray:
        """One rating drawn per pair; it depends on seed, replicate, user and item alone, not on the batch."""
        return self.distribution.quantile(pair_uniforms(seed, self.user_ids, self.item_ids, replicate))

    def to_frame(self) -> pd.DataFrame:
        """A table: `user_id, item_id, mean, sd, p_<level>..., low, high, source, known`."""
        scale = self.distribution.scale
        columns: dict[str, NDArray[np.generic]] = {
            "user_id": self.user_ids,
            "item_id": self.item_ids,
            "mean": self.mean,
            "sd": self.distribution.std(),
            **{f"p_{level:g}": self.distribution.probs[:, k] for k, level in enumerate(scale.levels)},
            "low": self.low,
            "high": self.high,
            "source": self.source,
            "known": self.known,
        }
        return pd.DataFrame(columns)


@dataclass(repr=False)
class Simulator:
    """Learns from a dataset how users rate items, and answers for any user and any item.

    `members` names the raters of the ensemble (None: the `default_members`; "light": few quick ones). `embedder` turns
    item texts into vectors (None: the best on this machine; for a synthetic dataset TF-IDF, which needs no weights).
    `n_jobs` fits run at a time (None: one per core); results do not depend on it. `without` names components, or
    members one by one, that are left out (see `hybrid_sim.ensemble.components`). `indexes` finds items by their texts
    and users by their profiles; a simulator none of whose members reads texts is fitted without embedding any.
    """

    seed: int = 0
    members: Sequence[str] | str | None = None
    embedder: Embedder | None = None
    n_jobs: int | None = None
    without: Sequence[str] = ()
    user_ids_: pd.Index = field(init=False, repr=False)
    item_ids_: pd.Index = field(init=False, repr=False)
    user_known_: NDArray[np.bool_] = field(init=False, repr=False)
    item_known_: NDArray[np.bool_] = field(init=False, repr=False)
    rated_: IntArray = field(init=False, repr=False)
    dataset_name_: str = field(init=False, repr=False)
    dataset_digest_: str = field(init=False, repr=False)
    embedder_name_: str = field(init=False, repr=False)
    ensemble_: Ensemble = field(init=False, repr=False)
    fallback_: GlobalMean = field(init=False, repr=False)
    item_index_: VectorIndex | None = field(init=False, repr=False)
    profile_index_: ProfileIndex | None = field(init=False, repr=False)
    accuracy_: dict[str, float] = field(init=False, repr=False)

    if not TYPE_CHECKING:  # a checker would take any attribute for one that exists

        def __getattr__(self, name: str) -> NoReturn:
            is_property = hasattr(type(self), name)  # whose AttributeError was caught
            if is_property or (name.endswith("_") and not name.startswith("_")):
                raise NotFittedError("the simulator is not fitted; call fit(dataset), or take hs.load(folder)")
            raise AttributeError(f"a Simulator has no attribute {name!r}")

    def __repr__(self) -> str:
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.init}
        given = [f"{name}={value!r}" for name, value in options.items() if name == "seed" or value not in (None, ())]
        state = "not fitted"
        if hasattr(self, "ensemble_"):
            n_users, n_items = len(self.user_ids_), len(self.item_ids_)
            state = f"fitted to {self.dataset_name_}: {self.n_ratings:,} ratings, {n_users:,} users, {n_items:,} items"
        return f"Simulator({', '.join(given)}; {state})"

    @property
    def n_ratings(self) -> int:
        """The number of ratings that it was fitted to."""
        return int(self.ensemble_.support_.n_user_.sum())

    def facts(self) -> dict[str, Any]:
        """What it was fitted to and how, in plain JSON; `accuracy out of fold` is that of the first fit."""
        return {
            "data": self.dataset_name_,
            "data hash": self.dataset_digest_,
            "ratings": self.n_ratings,
            "users": len(self.user_ids_),
            "items": len(self.item_ids_),
            "rating scale": str(self.ensemble_.out_of_fold_.scale),
            "seed": self.seed,
            "members": list(self.ensemble_.members),
            "without": list(self.without),
            "embedder": self.embedder_name_,
            "accuracy out of fold": self.accuracy_,
        }

    def __post_init__(self) -> None:
        self.members = with_sets(self.members)

    def fit(self, dataset: Dataset, memory: float | None = None) -> Self:
        """Fit the ensemble to the ratings of `dataset`; predictions can be about its users and items.

        Members that do not fit into `memory` bytes are left out (see `hybrid_sim.ensemble.cost`).

        Raises:
            DataError: there are no ratings, or too few to hold any out.
            SettingsError: a member's name is not known, or the members need more memory than there is.
        """
        self.set_catalogue(dataset, item_texts(dataset))
        embedder = embedder_for(dataset, self.embedder)
        self.embedder_name_ = embedder.name
        members = self._selected(dataset.scale, embedder)
        remaining = switched(tuple(members), self.without)
        members = affordable({name: members[name] for name in remaining.members}, dataset, self.n_jobs, memory)
        reads_texts = any(getattr(member, "embedder", None) is not None for member in members.values())
        self.item_index_, self.profile_index_ = _indexes(dataset, embedder) if reads_texts else (None, None)
        self.ensemble_ = Ensemble(
            members,
            shapes_among(members),
            boosted=remaining.boosted,
            weighted=remaining.combiner,
            shaped=remaining.calibration,
            seed=self.seed,
            n_jobs=self.n_jobs,
        ).fit(dataset)
        self.fallback_ = GlobalMean().fit(dataset)
        self.accuracy_ = self.ensemble_.out_of_fold_accuracy(dataset)
        return self

    def set_catalogue(self, dataset: Dataset, texts: Sequence[str]) -> None:
        """Set the users and items that predictions can be about, and which pairs are rated; fits no member.

        `texts` are those of the items.
        """
        self.dataset_name_, self.dataset_digest_ = dataset.name, dataset.digest
        self.rated_ = np.unique(dataset.pairs.keys(dataset.n_items))
        self.user_ids_, self.item_ids_ = dataset.users.index, dataset.items.index
        self.__dict__.pop("_rows", None)
        self.user_known_ = np.append(dataset.user_counts > 0, False)
        self.item_known_ = np.append((dataset.item_counts > 0) | (np.array(texts, dtype=object) != ""), False)

    def indexes(self, dataset: Dataset) -> tuple[VectorIndex, ProfileIndex]:
        """Items by their texts and users by their profiles, in the order of `dataset`, which was fitted to.

        They are saved with the simulator where a member reads texts; else each call embeds the texts of `dataset`.
        """
        if self.item_index_ is None or self.profile_index_ is None:
            return _indexes(dataset, embedder_for(dataset, self.embedder))
        return self.item_index_, self.profile_index_

    def require_fitted_to(self, dataset: Dataset) -> None:
        """Check that this is the dataset that the simulator learned from, ratings included.

        Raises:
            SettingsError: it is another.
        """
        if dataset.digest != self.dataset_digest_:
            raise SettingsError(
                f"the simulator was fitted to other data than {dataset.name} as read now (ids, texts, ratings or scale "
                "differ); name the data that it was fitted to, or fit again"
            )

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """A simulator is a rater too, one that always answers."""
        return self.predict_pairs(pairs).distribution

    def predict(self, user_ids: Iterable[str] | str | Frame, item_ids: Iterable[str] | str | None = None) -> Prediction:
        """The predicted rating of each pair; an unknown user or item is predicted from what is known of the other.

        `user_ids` and `item_ids` are two lists of one length, or one of them is a single id, which stands beside every
        id of the other, or the first is a frame (pandas, polars, ...) with the columns `user_id` and `item_id`.

        Raises:
            NotFittedError: the simulator has not learned yet.
            SettingsError: the ids are no such lists, or not texts.
            DataError: an id is missing in the frame.
        """
        users, items = pair_ids(user_ids, item_ids)
        user_rows, item_rows = self._rows
        pairs = Pairs(
            np.array([user_rows.get(user, -1) for user in users.tolist()], dtype=np.int64),
            np.array([item_rows.get(item, -1) for item in items.tolist()], dtype=np.int64),
        )
        return self._predict(users, items, pairs)

    @cached_property
    def _rows(self) -> tuple[dict[str, int], dict[str, int]]:
        """The row numbers of users and of items by id: a single look-up in a pandas index is slow."""
        users, items = self.user_ids_.tolist(), self.item_ids_.tolist()
        return dict(zip(users, range(len(users)), strict=True)), dict(zip(items, range(len(items)), strict=True))

    def predict_pairs(self, pairs: Pairs) -> Prediction:
        """The same for row numbers of the fitted dataset's users and items; the id of -1 is empty."""
        users = np.append(self.user_ids_.to_numpy(dtype=object), "")[pairs.user]
        items = np.append(self.item_ids_.to_numpy(dtype=object), "")[pairs.item]
        return self._predict(users, items, pairs)

    def _predict(self, users: NDArray[np.object_], items: NDArray[np.object_], pairs: Pairs) -> Prediction:
        level = self.item_known_[pairs.item] + 2 * self.user_known_[pairs.user].astype(np.int64)
        ensemble = self.ensemble_.rate(pairs)
        distribution = ensemble.filled(self.fallback_.rate(pairs), keep=level > 0)
        interval = self.ensemble_.interval(pairs, distribution)
        source = np.array(SOURCES, dtype=object)[np.where(ensemble.answered, level, 0)]
        keys = pairs.keys(len(self.item_ids_))
        known = self.rated_[np.searchsorted(self.rated_[:-1], keys)] == keys
        return Prediction(users, items, distribution, interval.low, interval.high, source, known)

    def save(self, folder: str | Path) -> None:
        """Write the fitted simulator into `folder`, without pickle, with checksums.

        Raises:
            SettingsError: `folder` holds something else.
            StorageError: the disk is full or not writable.
        """
        model_files.save(self, folder, trust=foreign_modules())

    @classmethod
    def load(cls, folder: str | Path, embedder: Embedder | None = None) -> Simulator:
        """The fitted simulator that `save`, or `hybrid-sim fit`, wrote into `folder`.

        A simulator whose embedder was in a folder of the user's own needs that `embedder` again to embed further texts.

        Raises:
            ModelFileError: a file is damaged or missing, or holds no simulator.
            SettingsError: `embedder` is not the one that it was fitted with.
        """
        loaded = model_files.load(folder, trust=foreign_modules())
        if not isinstance(loaded, cls):
            raise ModelFileError(f"{folder} holds a {type(loaded).__name__}, not a simulator")
        if embedder is not None:
            loaded._replace_embedder(embedder)
        return loaded

    def _replace_embedder(self, embedder: Embedder) -> None:
        if self.embedder is None or self.embedder.fingerprint != embedder.fingerprint:
            raise SettingsError(f"the simulator was fitted with {self.embedder_name_}, not with this embedder")
        self.embedder = embedder
        for member in (*self.ensemble_.members.values(), *self.ensemble_.members_.values()):
            if hasattr(member, "embedder"):
                member.embedder = embedder

    def _selected(self, scale: RatingScale, embedder: Embedder) -> dict[str, Rater]:
        members = default_members(scale, embedder, self.seed, self.members or ())
        if self.members is None:
            return members
        for name in self.members:
            if name not in members:
                raise SettingsError(f"there is no member {name!r}; members are {', '.join(members)}, or {LIGHT}")
        return {name: members[name] for name in self.members}


def _indexes(dataset: Dataset, embedder: Embedder) -> tuple[VectorIndex, ProfileIndex]:
    return item_index(dataset, embedder), ProfileIndex().fit(statistical_profiles(dataset), embedder)


def fit(
    dataset: Dataset | Frame | Path | str,
    *,
    seed: int = 0,
    members: Sequence[str] | str | None = None,
    without: Sequence[str] = (),
    embedder: Embedder | None = None,
    n_jobs: int | None = None,
    memory: float | None = None,
) -> Simulator:
    """A simulator fitted to all ratings of `dataset`; the options are those of `Simulator` and of its `fit`.

    A frame (pandas, polars, ...) or file of ratings will do too, with the columns user_id, item_id, rating and, where
    it is known, timestamp; `hs.read_dataset` reads other columns, items and users.

    Takes a minute or more per 100,000 ratings with all members; `members="light"` is much quicker.

    >>> import hybrid_sim as hs
    >>> data = hs.make_world(n_users=60, n_items=80, ratings_per_user=20).dataset
    >>> simulator = hs.fit(data, members=["biases"])
    >>> simulator.predict(["u0001", "a stranger"], ["f0001", "f0002"]).to_frame()[["mean", "source"]].round(2)
       mean source
    0  2.18   stat
    1  3.78   item

    Raises:
        DataError: there are no ratings, or too few to hold any out.
        SettingsError: the name of a member or component is not known, or members do not fit into memory.
    """
    whole = dataset if isinstance(dataset, Dataset) else read_dataset(dataset)
    return Simulator(seed, members, embedder, n_jobs, without).fit(whole, memory)


load = Simulator.load


def pair_ids(
    user_ids: Iterable[str] | str | Frame, item_ids: Iterable[str] | str | None = None
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """The ids of users and items, row by row, from two lists of one length or a frame with user_id and item_id.

    One id (a text) in place of a list stands beside every id of the other.

    Raises:
        SettingsError: they are neither, or not texts.
        DataError: an id is missing in the frame.
    """
    if isinstance(user_ids, Frame) and not isinstance(user_ids, pd.Series) and item_ids is None:
        table = read_table(user_ids, wanted=["user_id", "item_id"])
        missing = [name for name in ("user_id", "item_id") if name not in table.names]
        if missing:
            raise SettingsError(
                f"the table of pairs lacks the column {missing[0]!r}; it has {', '.join(map(repr, table.names))}"
            )
        columns = table.ids("user_id"), table.ids("item_id")
        return columns[0].names[columns[0].codes], columns[1].names[columns[1].codes]
    if item_ids is None or isinstance(user_ids, pd.DataFrame):
        raise SettingsError("give two lists of ids of one length, or one DataFrame with user_id and item_id")
    users = _ids("user", [user_ids] if isinstance(user_ids, str) else user_ids)  # type: ignore[arg-type]  # a Series is a frame too
    items = _ids("item", [item_ids] if isinstance(item_ids, str) else item_ids)
    if isinstance(user_ids, str):
        users = np.repeat(users, len(items))
    elif isinstance(item_ids, str):
        items = np.repeat(items, len(users))
    if len(users) != len(items):
        raise SettingsError(f"{len(users)} users cannot stand beside {len(items)} items; give one user per item")
    return users, items


def cross_pairs(user_ids: Iterable[str], item_ids: Iterable[str]) -> pd.DataFrame:
    """Every user with every item, as a table of pairs with the columns user_id and item_id.

    >>> len(cross_pairs(["u1", "u2"], ["i1", "i2", "i3"]))
    6
    """
    users, items = _ids("user", user_ids), _ids("item", item_ids)
    return pd.DataFrame({"user_id": np.repeat(users, len(items)), "item_id": np.tile(items, len(users))})


def _ids(noun: str, ids: Iterable[str]) -> NDArray[np.object_]:
    """The ids as an array. Ids are texts: the number 17 would silently be another id than the text "17"."""
    if isinstance(ids, str):
        raise SettingsError(f"{noun}_ids is the text {ids!r}; give a list of {noun} ids, for example [{ids!r}]")
    names = np.array(list(ids), dtype=object)
    wrong = next((one for one in names.tolist() if not isinstance(one, str)), None)
    if wrong is not None:
        raise SettingsError(
            f"{noun} id {wrong!r} is a {type(wrong).__name__}; ids are texts, for example {str(wrong)!r}"
        )
    return names
