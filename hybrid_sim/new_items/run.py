"""A forecast of new items that is kept in a folder: planned, made, resumed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.model_files import MANIFEST
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.settings import RunSettings
from hybrid_sim.core.types import IntArray, like_level
from hybrid_sim.data.columns import Frame
from hybrid_sim.data.new_items import add_items, read_new_items
from hybrid_sim.ensemble.correction import N_PANEL
from hybrid_sim.llm.question import LanguageModel
from hybrid_sim.new_items.forecast import Forecasts, forecast_items
from hybrid_sim.simulation.refit import refitted, require_same_ratings
from hybrid_sim.simulation.run_folder import csv_bytes, json_lines, load_saved
from hybrid_sim.simulation.session import FolderRun, Limits, Plan, identity
from hybrid_sim.simulation.simulate import LLMUse
from hybrid_sim.simulation.simulator import Simulator

MAX_PAIRS = 2_000_000
"""Pairs of new items and users that are predicted together."""

_log = logging.getLogger("hybrid_sim")


def forecast_new_items(
    dataset: Dataset,
    new_items: Frame | Path | str,
    *,
    simulator: Simulator | None = None,
    n_users: int | None = None,
    like_from: float | None = None,
    n_shown: int = 5,
    seed: int = 0,
) -> Forecasts:
    """How the users of `dataset` would rate items that nobody has rated yet (cold start), without a language model.

    `new_items` is a table or file with the columns item_id, title, year, genres, overview (and others that the items of
    `dataset` have). A fitted `simulator` is refitted to include them; None fits one with them. `n_users` users are
    asked, chosen by `seed` (None: all that have ratings). Ratings from `like_from` upwards are likes (None: those in
    the upper 40% of the scale). `NewItemRun` can ask a language model too and is kept in a folder.

        forecasts = hs.forecast_new_items(data, "new.csv", simulator=simulator)
        forecasts.to_frame()       # a row per item: expected rating, interval, share of likes, ...

    Raises:
        SettingsError: the simulator was fitted to other data, or `like_from` is beyond the scale.
        DataError: a row of the new items is refused.
    """
    whole = with_new_items(dataset, new_items)
    if simulator is not None:
        require_same_ratings(simulator, dataset)
    fitted = Simulator(seed).fit(whole) if simulator is None else _with_items(simulator, whole)
    users = sampled_users(dataset, n_users, seed)
    items = np.arange(dataset.n_items, whole.n_items)
    return forecast_items(fitted, whole, items, users, like_from=like_from, n_shown=n_shown, seed=seed)


def with_new_items(
    dataset: Dataset, new_items: Frame | Path | str, column: str = "item_id", encoding: str = "utf-8"
) -> Dataset:
    """The dataset with the new items at the end of its catalogue; `column` holds their ids.

    Raises:
        DataError: a row of the new items is refused.
    """
    if isinstance(new_items, pd.DataFrame) and column not in new_items:
        new_items = new_items.rename_axis(column)
    return add_items(dataset, read_new_items(new_items, dataset, column, encoding))


def _with_items(simulator: Simulator, whole: Dataset, n_jobs: int | None = None) -> Simulator:
    """The simulator itself where it was fitted to `whole`, else refitted to it."""
    return simulator if simulator.dataset_digest_ == whole.digest else refitted(simulator, whole, n_jobs)


def sampled_users(dataset: Dataset, n: int | None, seed: int) -> IntArray:
    """All users with ratings (None), or `n` of them, drawn by `seed`."""
    users = np.flatnonzero(dataset.user_counts).astype(np.int64)
    if n is not None and n > len(users):
        _log.warning("--audience %d: %s has %d users with ratings; all are asked", n, dataset.name, len(users))
    if n is None or n >= len(users):
        return users
    return np.sort(stream(seed, "audience").choice(users, n, replace=False))


class NewItemRun(FolderRun):
    """A forecast of new items in a folder, with or without a language model; the same one again resumes it.

    `simulator` is fitted to `dataset`, maybe with new items beside it, as an earlier run saved it, or not fitted yet;
    `saved` is the folder it was loaded from, so that what is refitted from it can be kept. `n_panel` users are those
    for whom a language model is asked about every item. Other arguments as in `forecast_new_items` and `hs.Run`.
    """

    kind = "cold"

    def __init__(
        self,
        folder: Path | str,
        dataset: Dataset,
        new_items: Frame | Path | str,
        *,
        simulator: Simulator | None = None,
        saved: Path | None = None,
        settings: RunSettings | Mapping[str, Any] | Path | str | None = None,
        model: str | None = None,
        n_users: int | None = None,
        n_panel: int | None = None,
        like_from: float | None = None,
        n_shown: int = 5,
        seed: int = 0,
        column: str = "item_id",
        encoding: str = "utf-8",
        overwrite: bool = False,
    ) -> None:
        super().__init__(folder, dataset, simulator, settings, model, seed, overwrite)
        self._dataset, self._saved = with_new_items(dataset, new_items, column, encoding), saved
        self.is_fitted = hasattr(self.wanted, "ensemble_")
        self.is_refitted = self.is_fitted and self.wanted.dataset_digest_ != self.dataset.digest
        self.items = np.arange(dataset.n_items, self.dataset.n_items)
        self.like_from, self.n_shown = like_level(dataset.scale, like_from), n_shown
        self.users, self.n_panel = sampled_users(dataset, n_users, seed), n_panel or N_PANEL
        if len(self.items) * len(self.users) > MAX_PAIRS:
            raise SettingsError(
                f"{len(self.items):,} items times {len(self.users):,} users are too many at once; choose --audience N"
            )

    def _require_fitted(self, dataset: Dataset) -> None:
        require_same_ratings(self.wanted, dataset)

    @cached_property
    def simulator(self) -> Simulator:
        """The simulator that has the new items: kept from an earlier run, refitted, or fitted now."""
        if not self.is_fitted:
            return self.folder.fitted(self.wanted, self.dataset)
        if self._saved is None or not self.is_refitted:
            return _with_items(self.wanted, self.dataset)
        fingerprint = hashlib.sha256((self._saved / MANIFEST).read_bytes()).hexdigest()
        place = self.folder.path / f"refitted-{fingerprint[:8]}"
        kept = load_saved(place, self.dataset)
        if kept is None:
            kept = refitted(self.wanted, self.dataset, self.wanted.n_jobs)
            self.folder.make()
            kept.save(place)
        return kept

    def plan(self) -> Plan:
        """What the language model would be asked; nothing is sent."""
        return self._plan(self._identity(), self._forecast)

    def forecast(
        self,
        *,
        budget: str | int | None = None,
        max_calls: int | None = None,
        max_minutes: float | None = None,
        replay: bool = False,
        command: Sequence[str] = (),
    ) -> Forecasts:
        """The forecasts of all new items; writes items.csv, items.jsonl, pairs.csv and run.json.

        Arguments as in `Run.simulate`.
        """
        limits = Limits(budget, max_calls, max_minutes)
        identity = self._identity()
        with self._open_llm(identity, limits, replay=replay) as llm:
            forecasts = self._forecast(llm)
            if llm is not None:
                forecasts = forecasts.with_use(LLMUse.of(llm))
        self._write(forecasts, identity, command)
        return forecasts

    def _identity(self) -> dict[str, Any]:
        ids = self.dataset.users.index[self.users].tolist(), self.dataset.items.index[self.items].tolist()
        made_of = identity(self.dataset, self._settings, self.wanted, *ids, seed=self.seed)
        return {**made_of, "panel": self.n_panel}

    def _forecast(self, model: LanguageModel | None) -> Forecasts:
        return forecast_items(
            self.simulator,
            self.dataset,
            self.items,
            self.users,
            like_from=self.like_from,
            n_shown=self.n_shown,
            interviewer=None if model is None else self._interviewer(model),
            n_panel=self.n_panel,
            seed=self.seed,
        )

    def _write(self, forecasts: Forecasts, identity: Mapping[str, Any], command: Sequence[str]) -> None:
        self.folder.make()
        simulation = forecasts.simulation
        about = self._about(simulation, identity, command)
        about |= {
            "new_items": len(forecasts),
            "members": "refitted to the new items" if self.is_refitted else "fitted with the new items",
            "settings": None if simulation.use is None else about["settings"],
        }
        contents = {
            "items.csv": csv_bytes(forecasts.to_frame()),
            "items.jsonl": json_lines(one.to_json() for one in forecasts),
            "pairs.csv": csv_bytes(forecasts.prediction.to_frame()),
        }
        for name, content in contents.items():
            write_whole(self.folder.path / name, content)
        self.folder.write_about(about, (self.folder.path / name for name in contents))
        _log.info("written: %s", ", ".join(str(self.folder.path / name) for name in (*contents, "run.json")))
