"""A run folder: the files that a simulation keeps and writes, a finished run read back, and its true ratings."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from hybrid_sim.core.dataset import Dataset, encoded
from hybrid_sim.core.errors import DataError, ModelFileError, SettingsError, StorageError
from hybrid_sim.core.files import MAX_LINE, checked_size, first_mistake, read_json_file, require_writable, write_whole
from hybrid_sim.core.frames import Framed
from hybrid_sim.core.model_files import MANIFEST
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.data.columns import read_table
from hybrid_sim.data.times import read_times
from hybrid_sim.profiles.timelines import PROFILES_FILE
from hybrid_sim.simulation.simulate import ratings_frame
from hybrid_sim.simulation.simulator import Prediction, Simulator

NEEDED = ("user_id", "item_id", "rating", "mean", "low", "high", "source")

_log = logging.getLogger("hybrid_sim")

IN_TRAINING = -2
"""Stands for a pair whose rating the simulator learned from: its prediction cannot be judged by it."""

HEADER_ROWS = 1
"""Rows of `ratings.csv` before the first pair; rows are counted from 1, as in every message about a file."""


MARKS = ("journal.sqlite", "simulator", "refitted-", "run.json", ".")
"""How a name begins that tells that a folder is that of a run: of a file, or of what a killed writer left."""


class RunFolder:
    """The files of one run, whether they exist or not.

    `journal` has all requests to a language model and its answers; `simulator` the fitted simulator, so that a resumed
    run need not fit it again. `ratings` has a row per pair: the rating drawn, the distribution, the source, and the
    language model's rating. `profiles` are all versions of the users' profiles, before the simulated ratings and, where
    asked for, after them. `explanations` has one per pair, `about` settings, provenance and cost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal, self.simulator = path / "journal.sqlite", path / "simulator"
        self.ratings, self.explanations = path / "ratings.csv", path / "explanations.jsonl"
        self.profiles, self.about = path / PROFILES_FILE, path / "run.json"

    def fitted(self, simulator: Simulator, dataset: Dataset) -> Simulator:
        """`simulator` fitted to the dataset: the saved one if data and options are the same, else fitted and saved."""
        saved = load_saved(self.simulator, dataset)
        if saved is not None and _options(saved) == _options(simulator):
            saved.n_jobs = simulator.n_jobs
            return saved
        self.make()
        simulator.fit(dataset).save(self.simulator)
        return simulator

    def require_kind(self, kind: str) -> None:
        """Check that the folder holds no run of another kind (the name of the command that made it) and no model.

        Raises:
            SettingsError: it does.
        """
        if (self.path / MANIFEST).is_file():
            raise SettingsError(f"{self.path}: is a saved model; name another folder")
        try:
            about = read_json_file(self.about)
        except (OSError, ValueError):
            return
        other = about.get("kind", kind) if isinstance(about, dict) else kind
        if other != kind:
            raise SettingsError(f"{self.path}: holds what `hybrid-sim {other}` wrote; name another folder")

    def require_usable(self, kind: str) -> None:
        """Check, before any work, that a run of this kind can be written into the folder.

        Raises:
            SettingsError: it holds something else, or cannot be made.
            StorageError: it is not writable.
        """
        require_writable(self.path)
        self.require_kind(kind)
        entries = sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        if entries and not any(name.startswith(MARKS) for name in entries):
            raise SettingsError(f"{self.path}: holds other things, for example {entries[0]}; name a new folder")

    def finished_identity(self) -> Mapping[str, Any] | None:
        """What the answers of the finished run depend on, {} where it does not say; None where there is no such run."""
        try:
            about = None if self.about.is_symlink() else read_json_file(self.about)
        except OSError:
            return None
        except ValueError:
            return {}
        if about is None:  # a link is replaced
            return None
        identity = about.get("identity") if isinstance(about, dict) else None
        return identity if isinstance(identity, dict) else {}

    def make(self) -> None:
        """Make the folder where it is not there.

        Raises:
            SettingsError: something else has its name.
            StorageError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise SettingsError(f"{self.path}: is a file, or below one; name another folder") from error
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be made ({error.strerror}); name another folder") from error

    @property
    def tables(self) -> tuple[Path, ...]:
        """The tables of a simulation."""
        return self.ratings, self.profiles, self.explanations

    def write_about(self, about: Mapping[str, Any], tables: Iterable[Path]) -> None:
        """Write settings and provenance, with SHA-256 digests of the tables as they are now and of all this."""
        files = {table.name: _sha256(table) for table in tables if table.is_file()}
        about = {**about, "files": files}
        about["digest"] = _digest(about)
        write_whole(self.about, json.dumps(about, indent=1, allow_nan=False).encode() + b"\n")

    def changed(self, about: Mapping[str, Any]) -> list[str]:
        """Names of the files that are not as the run wrote them; none where `about` has no digests."""
        written = about.get("files") or {}
        names = [table.name for table in self.tables if _sha256(table) != written.get(table.name, _sha256(table))]
        return names + ([self.about.name] if about.get("digest", _digest(about)) != _digest(about) else [])


def _sha256(path: Path) -> str | None:
    """None where there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(about: Mapping[str, Any]) -> str:
    """SHA-256 of everything in `run.json` but this digest."""
    return hashlib.sha256(json.dumps({**about, "digest": ""}, sort_keys=True).encode()).hexdigest()


def load_saved(folder: Path, dataset: Dataset) -> Simulator | None:
    """The simulator in this folder; None where there is none, it is damaged, or was fitted to other data.

    Raises:
        SettingsError: a link has this name: a simulator would be saved where it leads.
    """
    if folder.is_symlink():
        raise SettingsError(f"{folder} is a link; remove it, or name another folder")
    try:
        saved = Simulator.load(folder) if folder.is_dir() else None
    except ModelFileError:
        return None
    return saved if saved is not None and saved.dataset_digest_ == dataset.digest else None


def _options(simulator: Simulator) -> tuple[int, tuple[str, ...] | None, tuple[str, ...]]:
    members = None if simulator.members is None else tuple(simulator.members)
    return simulator.seed, members, tuple(simulator.without)


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """The table as CSV in UTF-8, floats with all their digits."""
    return str(frame.to_csv(index=False, lineterminator="\n")).encode()


def json_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """One JSON object per line, in ASCII."""
    return "".join(f"{json.dumps(record, allow_nan=False)}\n" for record in records).encode("ascii")


@dataclass(frozen=True)
class FinishedRun(Framed):
    """The table of a run, row by row; `user` and `item` are places in `user_ids` and `item_ids`.

    `rating` is what was drawn, `llm_rating` the mean of the language model's ratings (NaN: none), `known_rating` the
    rating that the data of the run holds already (NaN: none). `about` is what `run.json` holds, empty where the run has
    not ended.
    """

    folder: RunFolder
    about: Mapping[str, Any]
    user_ids: NDArray[np.object_]
    item_ids: NDArray[np.object_]
    user: IntArray
    item: IntArray
    rating: FloatArray
    prediction: Prediction
    llm_rating: FloatArray
    known_rating: FloatArray

    def __len__(self) -> int:
        return len(self.rating)

    def __repr__(self) -> str:
        return f"FinishedRun({str(self.folder.path)!r}, {len(self):,} ratings, {self.dataset})"

    @property
    def distribution(self) -> RatingDistribution:
        """The predicted distributions."""
        return self.prediction.distribution

    @property
    def low(self) -> FloatArray:
        """Lower ends of the intervals."""
        return self.prediction.low

    @property
    def high(self) -> FloatArray:
        """Upper ends of the intervals."""
        return self.prediction.high

    @property
    def source(self) -> NDArray[np.object_]:
        """What each prediction rests on."""
        return self.prediction.source

    @property
    def scale(self) -> RatingScale:
        """The rating scale of the run."""
        return self.distribution.scale

    @property
    def synthetic(self) -> bool:
        """Whether the run is about synthetic data."""
        return bool(self.about.get("provenance", {}).get("synthetic", False))

    @property
    def dataset(self) -> str:
        """The name of the data."""
        return str(self.about.get("provenance", {}).get("dataset", "data that the run does not name"))

    @property
    def seed(self) -> str:
        """The seed, as far as it is known."""
        return str(self.about.get("provenance", {}).get("seed", "not known"))

    def to_frame(self) -> pd.DataFrame:
        """The table as `simulate` wrote it."""
        return ratings_frame(self.prediction, self.rating, self.llm_rating, self.known_rating)

    def user_of(self, user_id: str) -> int:
        """The place of a user.

        Raises:
            SettingsError: the run has no rating by this user.
        """
        places = np.flatnonzero(self.user_ids == user_id)
        if not len(places):
            raise SettingsError(
                f"the run in {self.folder.path} has no rating by user {user_id!r}; it has {len(self.user_ids)} users, "
                f"for example {self.user_ids[0]!r}"
            )
        return int(places[0])

    def prediction_of(self, user_id: str, item_id: str) -> Prediction:
        """The prediction of one pair.

        Raises:
            SettingsError: the run has no rating of it.
        """
        pair = self.prediction
        rows = np.flatnonzero((pair.user_ids == user_id) & (pair.item_ids == item_id))[:1]
        if not len(rows):
            raise SettingsError(
                f"the run in {self.folder.path} has no rating of item {item_id!r} by user {user_id!r}; its "
                f"{len(self)} pairs are in {self.folder.ratings.name}"
            )
        return pair.take(rows)


def read_run(folder: Path) -> FinishedRun:
    """The run in this folder.

    Raises:
        SettingsError: there is no such folder, or no run in it.
        DataError: a file of the run is damaged.
    """
    files = RunFolder(folder)
    if not files.ratings.is_file():
        raise SettingsError(f"{folder} holds no {files.ratings.name}; name a folder that `hybrid-sim simulate` wrote")
    for file in (*files.tables, files.about):
        try:
            if file.exists():
                checked_size(file)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}; run `hybrid-sim simulate` again") from error
    table = read_table(files.ratings, delimiter=",")
    for column in NEEDED:
        if column not in table.names:
            raise DataError(f"{files.ratings} lacks the column {column!r}; run `hybrid-sim simulate` again")
    levels = [name for name in table.names if name.startswith("p_")]
    scale = RatingScale(tuple(float(name.removeprefix("p_")) for name in levels))
    users, items = table.ids("user_id"), table.ids("item_id")
    numbers = {name: table.numbers(name) for name in ("rating", "low", "high", *levels)}
    for name, amounts in numbers.items():
        bad = np.flatnonzero(~np.isfinite(amounts))
        if len(bad):
            raise DataError(f"{table.where(int(bad[0]), name)}: not a number; run `hybrid-sim simulate` again")
    off = np.flatnonzero(~scale.contains(numbers["rating"]))
    if len(off):
        raise DataError(
            f"{table.where(int(off[0]), 'rating')}: {numbers['rating'][off[0]]:g} is not on the scale {scale}; "
            "run `hybrid-sim simulate` again"
        )
    llm_rating, known_rating = (
        table.numbers(name) if name in table.names else np.full(len(table), np.nan)
        for name in ("llm_rating", "known_rating")
    )
    prediction = Prediction(
        users.names[users.codes],
        items.names[items.codes],
        RatingDistribution(scale, np.column_stack([numbers[name] for name in levels])),
        numbers["low"],
        numbers["high"],
        np.array(table.texts("source"), dtype=object),
        ~np.isnan(known_rating),
    )
    rating, about = scale.round(numbers["rating"]), _about(files.about)
    if changed := files.changed(about):
        _log.warning("%s: %s changed after the run; shown is what stands there now", folder, ", ".join(changed))
    return FinishedRun(
        files, about, users.names, items.names, users.codes, items.codes, rating, prediction, llm_rating, known_rating
    )


class _Cited(BaseModel, extra="forbid"):
    item_id: str
    title: str
    rating: float
    contribution: float


class _StoredExplanation(BaseModel, extra="forbid"):
    user_id: str
    item_id: str
    reason: str
    by: str
    contributions: dict[str, float]
    evidence: list[_Cited]
    keywords: list[str]
    against: list[str]


def read_explanations(path: Path) -> Iterator[dict[str, Any]]:
    """The stored explanations, as dicts (`Explanation.to_json`); none where there is no such file.

    Raises:
        DataError: a line is damaged.
    """
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if len(line) > MAX_LINE:
                raise DataError(
                    f"{path} line {number} has more than {MAX_LINE:,} bytes; run `hybrid-sim simulate` again"
                )
            try:
                yield _StoredExplanation.model_validate_json(line).model_dump()
            except ValidationError as error:
                raise DataError(
                    f"{path} line {number} is not an explanation ({first_mistake(error, 'the line')}); "
                    "run `hybrid-sim simulate` again"
                ) from error


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and values in words; addresses lose user names and passwords.

    >>> flat({"seed": 1, "llm": {"model": "m", "top_p": None}})
    {'seed': '1', 'llm.model': 'm', 'llm.top_p': 'none'}
    """
    texts: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            texts |= flat(value, f"{prefix}{key}.")
        else:
            texts[f"{prefix}{key}"] = "none" if value is None else re.sub(r"(?<=//)[^/@\s]+@", "", str(value))
    return texts


def _about(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = read_json_file(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: is not JSON ({error}); run `hybrid-sim simulate` again") from error
    about = content if isinstance(content, dict) else {}
    if not isinstance(content, dict) or not all(
        isinstance(about.get(name) or {}, dict) for name in ("provenance", "settings", "ledger", "files")
    ):
        raise DataError(f"{file}: holds no table of settings and provenance; run `hybrid-sim simulate` again")
    return about


@dataclass(frozen=True)
class Truth:
    """True ratings of a run's pairs: `rating` is NaN where it is not known, `at` in seconds UTC."""

    name: str
    rating: FloatArray
    at: IntArray | None

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which pairs have a true rating."""
        return ~np.isnan(self.rating)


def read_truth(file: Path, run: FinishedRun) -> Truth:
    """The real ratings of the run's pairs, from a table with user_id, item_id, rating and perhaps timestamp.

    Where a pair stands there twice the last row counts. Pairs whose rating the simulator learned from stay unknown.

    Raises:
        SettingsError: there is no such file.
        DataError: a row is damaged or off the run's scale, or no row is about a pair of the run.
    """
    table = read_table(file)
    for column in ("user_id", "item_id", "rating"):
        table.require(column, "a header that says user_id, item_id, rating")
    users, items, ratings = table.ids("user_id"), table.ids("item_id"), table.numbers("rating")
    off = np.flatnonzero(~run.scale.contains(ratings))
    if len(off):
        raise DataError(
            f"{table.where(int(off[0]), 'rating')}: {ratings[off[0]]:g} is not on the scale of the run, {run.scale}; "
            "fix or remove the row"
        )
    n_items = len(run.item_ids)
    pairs = Pairs(run.user, run.item).keys(n_items)
    judged = np.where(np.isnan(run.known_rating), pairs, IN_TRAINING)
    known_ids = pd.Index(run.user_ids), pd.Index(run.item_ids)
    keys = encoded(*known_ids, users.names[users.codes], items.names[items.codes]).keys(n_items)
    rows = np.flatnonzero(keys >= 0)
    row_of = pd.Series(rows, index=keys[rows])
    row_of = row_of[~row_of.index.duplicated(keep="last")]
    row = row_of.reindex(judged, fill_value=-1).to_numpy()
    if (row < 0).all():
        n_known = int(row_of.index.isin(pairs).sum())
        why = (
            f"the simulator learned from all {n_known} that are about its pairs"
            if n_known
            else "none is about its pairs"
        )
        raise DataError(f"{table.path.name}: no row can judge the run, {why}; name ratings that were held out")
    times = read_times(table, "timestamp") if "timestamp" in table.names else None
    return Truth(table.path.name, np.where(row < 0, np.nan, ratings[row]), None if times is None else times[row])
