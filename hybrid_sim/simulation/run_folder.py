"""A run folder: the files that a simulation keeps and writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ModelFileError, SettingsError, StorageError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.model_files import MANIFEST
from hybrid_sim.profiles.timelines import PROFILES_FILE
from hybrid_sim.simulation.simulator import Simulator


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
        """Check that the folder is free, or holds a run of this kind: the name of the command that made it.

        Raises:
            SettingsError: it holds something else.
        """
        if (self.path / MANIFEST).is_file():
            raise SettingsError(f"{self.path}: is a saved model; name another folder")
        try:
            about = json.loads(self.about.read_bytes())
        except (OSError, ValueError):
            return
        other = about.get("kind", kind) if isinstance(about, dict) else kind
        if other != kind:
            raise SettingsError(f"{self.path}: holds what `hybrid-sim {other}` wrote; name another folder")

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

    def write_about(self, about: Mapping[str, Any]) -> None:
        """Write settings and provenance."""
        write_whole(self.about, json.dumps(about, indent=1, allow_nan=False).encode() + b"\n")


def load_saved(folder: Path, dataset: Dataset) -> Simulator | None:
    """The simulator in this folder; None where there is none, it is damaged, or was fitted to other data."""
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
