"""Runs: simulations that are planned, made, resumed and read back in a folder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import RunError, SettingsError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.progress import report_to
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.settings import RatingSettings, RunSettings, settings_from
from hybrid_sim.core.user_state import Timeline, UserState
from hybrid_sim.llm.budget import Budget, Ledger, parse_budget
from hybrid_sim.llm.client import LLM, endpoint_and_price
from hybrid_sim.llm.journal import Journal, describe_differences
from hybrid_sim.llm.prices import price_of
from hybrid_sim.llm.question import LanguageModel
from hybrid_sim.llm.tokens import SECONDS_PER_CALL, Forecast, Planner, TokenEstimates, forecast
from hybrid_sim.llm.transport import address_of
from hybrid_sim.profiles.recorded import read_recorded_profiles
from hybrid_sim.profiles.timelines import PROFILES_FILE, read_timelines, write_timelines
from hybrid_sim.prompts.templates import load_template, template_names
from hybrid_sim.simulation.explain import explain
from hybrid_sim.simulation.interviewer import USERS_AT_A_TIME, Interviewer, interviewer, profile_author
from hybrid_sim.simulation.run_folder import FinishedRun, RunFolder, csv_bytes, json_lines, read_explanations, read_run
from hybrid_sim.simulation.simulate import LLMUse, Simulation, advance, simulate, users_before
from hybrid_sim.simulation.simulator import Simulator, pair_ids

MAX_EXPLAINED = 20_000
"""Pairs up to which explanations are written unless they are asked for."""

LATER_SETTINGS = ("history", "overview_length", "reason_length")
"""Settings of ratings that came later than the first runs: with the default they are no part of a run's identity."""

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class Limits:
    """What a run may spend on a language model in all, resumed or not; None: no limit.

    `budget` is a text such as "1usd", or a number of nano-dollars; `max_calls` counts requests, `max_minutes` the
    minutes in which requests are sent.
    """

    budget: str | int | None = None
    max_calls: int | None = None
    max_minutes: float | None = None

    def after(self, ledger: Ledger) -> Budget:
        """What is left of the limits after the calls that the run has made already."""
        money = parse_budget(self.budget) if isinstance(self.budget, str) else self.budget
        return Budget(max_money=money, max_calls=self.max_calls, max_minutes=self.max_minutes, ledger=ledger)


@dataclass(frozen=True)
class Plan:
    """What a run would still ask a language model: its forecast, and the number of questions by prompt.

    `calibrated` says that tokens, retries and pace are estimated from answers that the run has already, not from the
    length of the texts.
    """

    model: str
    forecast: Forecast
    questions: Mapping[str, int]
    calibrated: bool

    def __str__(self) -> str:
        basis = "calibrated on the answers that the run has" if self.calibrated else "estimated from the texts' length"
        parts = ", ".join(f"{name} {count:,}" for name, count in self.questions.items())
        return f"{self.model}: {self.forecast}\n({basis}; questions: {parts or 'none'}; nothing was sent)"

    __repr__ = __str__


class FolderRun:
    """What `Run` and `NewItemRun` share: a simulator and settings, and a language model behind the folder's journal.

    `kind` is the name of the command that does the same. `wanted` is the simulator to use, fitted or not; an unfitted
    one is fitted when it is needed and kept in the folder.
    """

    kind: str

    def __init__(
        self,
        folder: Path | str,
        dataset: Dataset | None,
        simulator: Simulator | Path | str | None,
        settings: RunSettings | Mapping[str, Any] | Path | str | None,
        model: str | None,
        seed: int,
        overwrite: bool,
    ) -> None:
        self.folder, self.seed, self._dataset, self._overwrite = RunFolder(Path(folder)), seed, dataset, overwrite
        self.folder.require_kind(self.kind)
        self._settings = settings_from(settings, model)
        if simulator is None:
            ensemble = self._settings.ensemble
            simulator = Simulator(seed, ensemble.members, without=ensemble.without)
        self.wanted = Simulator.load(simulator) if isinstance(simulator, (str, Path)) else simulator
        if dataset is not None and hasattr(self.wanted, "ensemble_"):
            self._require_fitted(dataset)

    def _require_fitted(self, dataset: Dataset) -> None:
        """Check what the simulator was fitted to."""
        self.wanted.require_fitted_to(dataset)

    @property
    def dataset(self) -> Dataset:
        """The data that the run is about.

        Raises:
            SettingsError: the run was opened without any.
        """
        if self._dataset is None:
            raise SettingsError(f"{self.folder.path} was opened to be read; hs.Run(folder, dataset) simulates")
        return self._dataset

    @property
    def asks(self) -> bool:
        """Whether a language model is asked."""
        return bool(self._settings.llm.model) and "llm" not in self.wanted.without

    @cached_property
    def simulator(self) -> Simulator:
        """The fitted simulator."""
        return self.wanted if hasattr(self.wanted, "ensemble_") else self.folder.fitted(self.wanted, self.dataset)

    def _interviewer(self, model: LanguageModel, users_at_a_time: int = USERS_AT_A_TIME) -> Interviewer:
        """What asks `model` about this dataset; without the component `profile` it shows no profiles."""
        return interviewer(self.dataset, self._settings, model, users_at_a_time, self.wanted.without)

    @contextmanager
    def _open_llm(
        self, identity: Mapping[str, Any], limits: Limits, *, replay: bool = False, batch: bool = False
    ) -> Iterator[LLM | None]:
        """The language model behind the journal of the folder; None where none is asked.

        Raises:
            SettingsError: none is asked, but the folder holds answers of one, or the key or the price is missing.
            RunError: the folder is in use, or holds a run of another `identity`.
        """
        if not self.asks and self.folder.journal.exists():
            raise SettingsError(
                f"{self.folder.path} holds answers of a language model; name the model again, or another folder"
            )
        self._require_same(identity)
        if not self.asks:
            yield None
            return
        if not replay and not self.folder.journal.exists():
            endpoint_and_price(self._settings.llm, limits.after(Ledger()), batch)
        if "simulator" not in self.__dict__:
            with Journal(self.folder.journal, settings=identity, replay=replay):
                self.simulator  # noqa: B018 - fitted now: the minutes of the limits are counted from the next opening
        with (
            Journal(self.folder.journal, settings=identity, replay=replay) as journal,
            LLM(self._settings.llm, journal, limits.after(journal.ledger()), replay=replay, batch=batch) as llm,
        ):
            yield llm

    def _require_same(self, identity: Mapping[str, Any]) -> None:
        """Check that the folder can be used, and that a finished run in it is this one, unless it may be replaced.

        Raises:
            SettingsError: it is another, or the folder holds something else.
            RunError: it is another, with answers of a language model.
            StorageError: the folder is not writable.
        """
        self.folder.require_usable(self.kind)
        finished = None if self._overwrite else self.folder.finished_identity()
        if finished is not None and (differences := describe_differences(finished, identity)):
            what = f"{self.folder.path} holds another finished run ({'; '.join(differences[:3])})"
            if self.folder.journal.exists():
                raise RunError(f"{what}; use the settings of the run, or name another folder")
            raise SettingsError(f"{what}; name another folder, or replace the run with --overwrite")

    def _plan(self, identity: Mapping[str, Any], ask: Callable[[Planner], object], batch: bool = False) -> Plan:
        """What `ask`, which puts its questions to the planner it is given, would still take; nothing is sent.

        Raises:
            SettingsError: no language model is named, or the folder holds another finished run.
        """
        if not self.asks:
            raise SettingsError("there is nothing to plan: no language model is asked; add --model NAME")
        self._require_same(identity)
        llm, file = self._settings.llm, self.folder.journal
        with Journal(file, settings=identity, replay=True) if file.is_file() else nullcontext() as journal:
            planner = Planner(llm.sampling, journal)
            ask(planner)
            seen, ledger = ([], Ledger()) if journal is None else (journal.usage_by_prompt(), journal.ledger())
        pace = ledger.seconds * llm.concurrency / ledger.calls if ledger.calls else SECONDS_PER_CALL
        price = price_of(llm.model, address_of(llm), llm.prices, batch=batch)
        expected = forecast(
            planner.questions.values(), TokenEstimates(seen), price, concurrency=llm.concurrency, seconds_per_call=pace
        )
        kinds = Counter(question.prompt.partition("@")[0] for question in planner.questions.values())
        return Plan(llm.model, expected, dict(kinds.most_common()), bool(seen))

    def _about(self, simulation: Simulation, identity: Mapping[str, Any], command: Sequence[str]) -> dict[str, Any]:
        """Provenance, settings and counts of what was simulated, in plain JSON; `command` is the command line."""
        use, embedder = simulation.use, self.simulator.embedder_name_
        return {
            "provenance": asdict(provenance(command, self.seed, self.dataset, embedder)),
            "kind": self.kind,
            "identity": identity,
            "settings": self._settings.model_dump(mode="json"),
            "members": list(self.simulator.ensemble_.members),
            "sources": dict(Counter(simulation.prediction.source.tolist())),
            "asked": int(simulation.asked.sum()),
            "answered": int(simulation.llm.answered.sum()),
            "llm_value": list(simulation.value),
            "llm_shift": simulation.llm_shift(),
            "titles": self._titles(simulation),
            "ledger": None if use is None else asdict(use.ledger),
            "failures": None if use is None else use.failures,
        }

    def _titles(self, simulation: Simulation) -> dict[str, str]:
        """Titles of the items of a simulation by item id, as far as they have one."""
        items = self.dataset.items
        known = np.unique(simulation.pairs.item[simulation.pairs.item >= 0])
        titles = items["title"].iloc[known] if "title" in items else pd.Series(dtype=object)
        return {str(item): str(title) for item, title in titles.items() if title}


class Run(FolderRun):
    """A simulation that is kept in a folder: plan it, simulate, resume it, read it back.

    `simulator` is a `Simulator`, fitted or not, the folder of a saved one, or None for the default one with `seed`.
    `settings` are `RunSettings`, the same as a (partial) dict, or a TOML file; `model` names the language model that is
    asked, None asks none unless the settings name one. `profiles` are profiles that users have already: timelines by
    user id, the folder of another run, or a table (user_id, version, summary, ...). A finished run in the folder is
    replaced by another one only with `overwrite`.

        run = hs.Run("run", dataset, model="gpt-4o-mini")
        run.plan(pairs)                            # calls, tokens, money; nothing is sent
        run.simulate(pairs, budget="1usd")         # again, and it goes on; no answer is paid for twice
        hs.Run.open("run").ratings                 # a DataFrame, later and elsewhere

    Raises:
        SettingsError: the folder holds something else, the simulator was fitted to other data, or a setting is wrong.
    """

    kind = "simulate"

    def __init__(
        self,
        folder: Path | str,
        dataset: Dataset | None = None,
        *,
        simulator: Simulator | Path | str | None = None,
        settings: RunSettings | Mapping[str, Any] | Path | str | None = None,
        model: str | None = None,
        seed: int = 0,
        profiles: Mapping[str, Timeline] | Path | str | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__(folder, dataset, simulator, settings, model, seed, overwrite)
        if isinstance(profiles, (str, Path)):
            place = Path(profiles)
            profiles = read_timelines(place / PROFILES_FILE) if place.is_dir() else read_recorded_profiles(place)
        self._timelines = profiles or {}

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """A finished run, to be read; `simulate` needs the dataset: `Run(folder, dataset)`.

        Raises:
            SettingsError: there is no run in the folder.
            DataError: a file of the run is damaged.
        """
        run = cls(folder)
        run.results  # noqa: B018 - damage is reported here and not at the first use
        return run

    def __repr__(self) -> str:
        if not self.folder.ratings.is_file():
            return f"Run({str(self.folder.path)!r}, not simulated yet)"
        return f"Run({str(self.folder.path)!r}, {len(self.results):,} ratings, {self.results.dataset})"

    def _repr_html_(self) -> str:
        return self.results._repr_html_() if self.folder.ratings.is_file() else repr(self)

    def plan(
        self,
        user_ids: Iterable[str] | pd.DataFrame,
        item_ids: Iterable[str] | None = None,
        *,
        advance: bool = False,
        batch: bool = False,
    ) -> Plan:
        """What `simulate` with the same arguments would ask the language model; nothing is sent.

        Raises:
            SettingsError: no language model is named.
        """
        users, items = (ids.tolist() for ids in pair_ids(user_ids, item_ids))

        def ask(planner: Planner) -> None:
            simulation = self._simulated(users, items, self._interviewer(planner))
            if advance:
                self._users(simulation, planner, advance)

        return self._plan(self._identity(users, items), ask, batch)

    def simulate(
        self,
        user_ids: Iterable[str] | pd.DataFrame,
        item_ids: Iterable[str] | None = None,
        *,
        budget: str | int | None = None,
        max_calls: int | None = None,
        max_minutes: float | None = None,
        advance: bool = False,
        explained: bool | None = None,
        replay: bool = False,
        batch: bool = False,
        on_progress: Callable[[str, int, int], None] | None = None,
        command: Sequence[str] = (),
    ) -> Simulation:
        """How each user rates the item beside it; the files of the run are written. Called again it resumes.

        `user_ids` and `item_ids` are two lists of one length, or the first is a DataFrame with `user_id` and `item_id`.
        `budget`, `max_calls`, `max_minutes` limit the whole run (`Limits`): pairs beyond them stay statistical, and
        `Simulation.use.stopped` says why. With `advance` the simulated ratings enter histories and profiles.
        `explained` writes explanations (None: of up to 20,000 pairs). `replay` sends nothing: a missing answer is an
        error. `batch` uses the Batch API (half the price, within a day). `on_progress` is called with what is done, the
        steps done and all steps (0: not known).

        Raises:
            SettingsError: the ids are no pairs, or the folder holds answers of another language model.
            RunError: the folder is in use, holds a run with other settings, or lacks an answer that a replay needs.
        """
        users, items = (ids.tolist() for ids in pair_ids(user_ids, item_ids))
        limits, identity = Limits(budget, max_calls, max_minutes), self._identity(users, items)
        # A batch may take a day: as few of them as there can be.
        at_once = self.dataset.n_users if batch else USERS_AT_A_TIME
        with (
            report_to(on_progress) if on_progress else nullcontext(),
            self._open_llm(identity, limits, replay=replay, batch=batch) as llm,
        ):
            asking = None if llm is None else self._interviewer(llm, at_once)
            simulation = self._simulated(users, items, asking)
            states = self._users(simulation, llm, advance)
            simulation = replace(simulation, use=None if llm is None else LLMUse.of(llm))
        self._write(simulation, states, explained, identity, command)
        return simulation

    def _identity(self, users: Sequence[str], items: Sequence[str]) -> dict[str, Any]:
        return identity(self.dataset, self._settings, self.wanted, users, items, self._timelines, self.seed)

    def _simulated(self, users: Sequence[str], items: Sequence[str], asking: Interviewer | None) -> Simulation:
        return simulate(self.simulator, self.dataset, users, items, asking, self.seed, self._timelines)

    def _users(self, simulation: Simulation, model: LanguageModel | None, advances: bool) -> list[UserState]:
        """The users before the simulated ratings or, with `advances`, after them."""
        dataset, settings = self.dataset, self._settings
        author = profile_author(dataset, settings, None)
        states = users_before(simulation, dataset, author, settings.profile, self._timelines)
        if not advances:
            return states
        author = profile_author(dataset, settings, None if "profile" in self.wanted.without else model)
        return advance(states, simulation, dataset, author, settings.profile)

    def _write(
        self,
        simulation: Simulation,
        states: list[UserState],
        explained: bool | None,
        identity: Mapping[str, Any],
        command: Sequence[str],
    ) -> None:
        self.folder.make()
        write_whole(self.folder.ratings, csv_bytes(simulation.to_frame()))
        write_timelines(self.folder.profiles, [state.timeline for state in states])
        if explained is None and len(simulation.pairs) > MAX_EXPLAINED:
            _log.info(
                "no explanations are written of more than %s pairs; --explain all writes them", f"{MAX_EXPLAINED:,}"
            )
        elif explained is not False:
            reasons = simulation.reasons.tolist()
            explanations = explain(self.simulator, simulation.prediction, self.dataset, reasons)
            write_whole(self.folder.explanations, json_lines(one.to_json() for one in explanations))
        self.folder.write_about(self._about(simulation, identity, command), self.folder.tables)
        self.__dict__.pop("results", None)
        if n_known := int(np.isfinite(simulation.known).sum()):
            _log.warning(
                "%d of the pairs are rated in the data already (known_rating), and the simulator learned from that: "
                "what it says of them is no forecast",
                n_known,
            )

    @cached_property
    def results(self) -> FinishedRun:
        """What the run has written, as columns.

        Raises:
            SettingsError: the folder holds no run.
            DataError: a file of it is damaged.
        """
        return read_run(self.folder.path)

    @property
    def ratings(self) -> pd.DataFrame:
        """A row per pair: user_id, item_id, rating (drawn), the prediction's columns, llm_rating, known_rating."""
        return self.results.to_frame()

    @property
    def profiles(self) -> pd.DataFrame:
        """A row per version of each user's profile: user_id, version, summary, likes, dislikes, change, ..."""
        timelines = read_timelines(self.folder.profiles).values()
        return pd.DataFrame([asdict(version) for timeline in timelines for version in timeline.versions])

    @property
    def explanations(self) -> pd.DataFrame:
        """A row per explained pair: user_id, item_id, reason, by, contributions, evidence, keywords, against."""
        return pd.DataFrame(list(read_explanations(self.folder.explanations)))

    @property
    def settings(self) -> RunSettings:
        """The settings that the run was made with; before it is made, those that it will be."""
        stored = self.results.about.get("settings") if self.folder.about.is_file() else None
        return settings_from(stored) if stored else self._settings

    @property
    def calls(self) -> pd.DataFrame:
        """A row per prompt: calls, answers, tokens and dollars; no rows where no language model was asked."""
        columns = ["prompt", "calls", "answers", "prompt_tokens", "completion_tokens", "dollars"]
        if not self.folder.journal.is_file():
            return pd.DataFrame(columns=columns)
        with Journal(self.folder.journal, replay=True) as journal:
            rows = [
                (s.prompt, s.attempts, s.answers, s.prompt_tokens, s.completion_tokens, s.cost * 1e-9)
                for s in journal.usage_by_prompt()
            ]
        return pd.DataFrame(rows, columns=columns)


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
    # Runs from before there were these settings say nothing of them.
    pairs = hashlib.sha256(json.dumps([list(user_ids), list(item_ids)]).encode())
    given = hashlib.sha256(
        repr(sorted((timelines or {}).items(), key=itemgetter(0))).encode("utf-8", "backslashreplace")
    )
    return {
        "llm": settings.llm.sampling,
        "profile": settings.profile.model_dump(),
        "rating": {
            name: value
            for name, value in settings.rating.model_dump(exclude_none=True).items()
            if name not in LATER_SETTINGS or value != RatingSettings.model_fields[name].default
        },
        "prompts": {name: load_template(name, settings.prompts).version({}) for name in template_names()},
        "seed": seed,
        "fitted with seed": simulator.seed,
        "members": None if simulator.members is None else list(simulator.members),
        "without": list(simulator.without),
        "data": dataset.digest,
        "pairs": pairs.hexdigest(),
        "profiles": given.hexdigest() if timelines else None,
    }
