"""Where data is found: the folder that is named, else HYBRID_SIM_DATA, else the user cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from hybrid_sim.core.errors import SettingsError

ENVIRONMENT = "HYBRID_SIM_DATA"


def data_folder(folder: Path | str | None = None) -> Path:
    """The folder in which data is looked for.

    Raises:
        SettingsError: there is no such folder.
    """
    chosen = _chosen(folder)
    if chosen.is_dir():
        return chosen
    raise SettingsError(
        f"there is no data folder {chosen}; data is looked for in --data DIR, else in the environment "
        f"variable {ENVIRONMENT}, "
        f"else in {cache_folder()}; fill the last with: hybrid-sim data get ml-100k"
    )


def download_folder(folder: Path | str | None = None) -> Path:
    """The folder into which downloads go; it need not exist yet."""
    return _chosen(folder)


def cache_folder() -> Path:
    """The data folder in the user's cache."""
    return Path(platformdirs.user_cache_dir("hybrid-sim", appauthor=False)) / "data"


def _chosen(folder: Path | str | None) -> Path:
    named = folder or os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else cache_folder()
