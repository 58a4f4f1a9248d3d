"""A run folder: what a simulation keeps and writes, and what makes two runs the same."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ModelFileError, SettingsError, StorageError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.model_files import MANIFEST
from hybrid_sim.core.settings import RatingSettings, RunSettings
from hybrid_sim.core.types import FloatArray
from hybrid_sim.core.user_state import Timeline, UserState
from hybrid_sim.profiles.llm_writer import Asks, LLMWriter
from hybrid_sim.profiles.statistical_writer import StatisticalWriter
from hybrid_sim.profiles.timelines import PROFILES_FILE, write_timelines
from hybrid_sim.profiles.writers import Author
from hybrid_sim.prompts.profile import ProfilePrompts
from hybrid_sim.prompts.rating import history_index
from hybrid_sim.prompts.templates import load_template, template_names
from hybrid_sim.simulation.explain import Explanation
from hybrid_sim.simulation.interviewer import USERS_AT_A_TIME, Interviewer
from hybrid_sim.simulation.simulate import Simulation
from hybrid_sim.simulation.simulator import Simulator


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def journal(self) -> Path:
        """All requests to a language model, and its answers."""
        return self.path / "journal.sqlite"

    @property
    def simulator(self) -> Path:
        """The fitted simulator, so that a run that is taken up again need not fit it again."""
        return self.path / "simulator"

    @property
    def ratings(self) -> Path:
        """A row per pair: the rating drawn, the distribution, the source, and what the model said."""
        return self.path / "ratings.csv"

    @property
    def profiles(self) -> Path:
        """All versions of the users' profiles, before the simulated ratings and, where asked for, after them."""
        return self.path / PROFILES_FILE

    @property
    def explanations(self) -> Path:
        """Why, for every pair."""
        return self.path / "explanations.jsonl"

    @property
    def about(self) -> Path:
        """Settings, provenance and what it took."""
        return self.path / "run.json"

    def fitted(self, simulator: Simulator, dataset: Dataset) -> Simulator:
        """The simulator fitted to the dataset: as an earlier process left it here, else fitted now and left here."""
        try:
            saved = Simulator.load(self.simulator) if self.simulator.is_dir() else None
        except ModelFileError:
            saved = None
        if saved is not None and _is_same(saved, simulator) and saved.dataset_digest_ == dataset.digest:
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
        found = about.get("kind", kind) if isinstance(about, dict) else kind
        if found != kind:
            raise SettingsError(f"{self.path}: holds what `hybrid-sim {found}` wrote; name another folder")

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

    def write_ratings(self, simulation: Simulation, known: FloatArray) -> None:
        """Write the table of ratings; `known` are those that the data holds already, NaN for the others."""
        frame = simulation.prediction.to_frame()
        frame.insert(2, "rating", simulation.ratings)
        frame["llm_rating"] = simulation.said.mean()
        frame["known_rating"] = known
        content = io.BytesIO()
        frame.to_csv(content, index=False, encoding="utf-8", lineterminator="\n")
        write_whole(self.ratings, content.getvalue())

    def write_profiles(self, states: Iterable[UserState]) -> None:
        """Write the timelines of these users."""
        write_timelines(self.profiles, [state.timeline for state in states])

    def write_explanations(self, explanations: Iterable[Explanation]) -> None:
        """Write one JSON object per pair."""
        lines = "".join(f"{json.dumps(explanation.to_json())}\n" for explanation in explanations)
        write_whole(self.explanations, lines.encode("ascii"))

    def write_about(self, about: Mapping[str, Any]) -> None:
        """Write settings and provenance."""
        write_whole(self.about, json.dumps(about, indent=1, allow_nan=False).encode() + b"\n")


def _identity_of(settings: RatingSettings) -> dict[str, Any]:
    """All settings; `history` only where it is not the rule of the runs from before there was a choice."""
    return settings.model_dump(exclude={"history"} if settings.history == "recent" else None)


def _is_same(saved: Simulator, wanted: Simulator) -> bool:
    return _made_of(saved) == _made_of(wanted)


def _made_of(simulator: Simulator) -> tuple[int, tuple[str, ...] | None, tuple[str, ...]]:
    members = None if simulator.members is None else tuple(simulator.members)
    return simulator.seed, members, tuple(simulator.without)


def authors(dataset: Dataset, settings: RunSettings, model: Asks | None) -> Author:
    """Who writes profiles: the model if there is one and the settings say so, else statistics."""
    writer = StatisticalWriter().fit(dataset)
    if model is None or settings.profile.writer == "statistics":
        return writer
    return LLMWriter(model, dataset, ProfilePrompts(settings.profile, settings.prompts), writer)


def interviewer(
    dataset: Dataset,
    settings: RunSettings,
    model: Asks,
    users_at_a_time: int = USERS_AT_A_TIME,
    without: Collection[str] = (),
) -> Interviewer:
    """Who puts questions about the dataset to the model; without `profile` it sees no profiles.

    Raises:
        SettingsError: a file of the user's prompts cannot be used.
    """
    words = load_template("rate", settings.prompts)
    author = None if "profile" in without else authors(dataset, settings, model)
    index = history_index(dataset, settings.rating)
    return Interviewer(model, author, words, dataset, settings, users_at_a_time, index)


def identity(
    dataset: Dataset,
    settings: RunSettings,
    simulator: Simulator,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    timelines: Mapping[str, Timeline] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What a run's answers depend on, in plain JSON; two runs that differ in it are not mixed in one folder.

    The simulator need not be fitted yet. The address of the endpoint is no part of it: a server may move.
    """
    pairs = hashlib.sha256(json.dumps([list(user_ids), list(item_ids)]).encode())
    given = hashlib.sha256(
        repr(sorted((timelines or {}).items(), key=itemgetter(0))).encode("utf-8", "backslashreplace")
    )
    return {
        "llm": settings.llm.sampling,
        "profile": settings.profile.model_dump(),
        "rating": _identity_of(settings.rating),
        "prompts": {name: load_template(name, settings.prompts).version({}) for name in template_names()},
        "seed": seed,
        "fitted with seed": simulator.seed,
        "members": None if simulator.members is None else list(simulator.members),
        "without": list(simulator.without),
        "data": dataset.digest,
        "pairs": pairs.hexdigest(),
        "profiles": given.hexdigest() if timelines else None,
    }
