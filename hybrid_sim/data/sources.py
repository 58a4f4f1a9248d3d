"""The data sets that are known by name, and where they are found."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import cache_folder
from hybrid_sim.core.registry import Registry
from hybrid_sim.data.tmdb import add_tmdb, read_tmdb

ENVIRONMENT = "HYBRID_SIM_DATA"
TMDB_FILE = "movies_tmdb.parquet"

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class Archive:
    """A zip file on the web that holds one folder, named as the data set.

    `max_bytes` bounds its size. `md5` is pinned for a file that never changes; without it the checksum is read from the
    address with `.md5` appended, which detects damage, not forgery.
    """

    address: str
    max_bytes: int
    md5: str | None = None


@dataclass(frozen=True)
class DataSource:
    """How a data set is read: `read(folder, name)`, where `folder` holds a file that matches the pattern `marker`.

    A source without a marker needs no files. `licence` is shown after a download.
    """

    read: Callable[[Path, str], Dataset]
    marker: str = ""
    archive: Archive | None = None
    licence: str = ""


DATASETS: Registry[DataSource] = Registry("data set", "datasets", ["hybrid_sim.data"])
"""Data sets by name, registered at the end of their modules. `amazon-<category>` stands for all names that begin with
`amazon`."""


def load(
    name: str, folder: Path | str | None = None, *, tmdb: Path | str | None = "auto", tmdb_votes: bool = False
) -> Dataset:
    """The data set called `name`, read from `folder`.

    `folder` holds the set itself, or a folder named as the set or beginning with its name
    (`ml-1m-users1-2999`); the dataset is then called as that folder. Without `folder`, data is looked for in the folder
    of the environment variable HYBRID_SIM_DATA, else in the user's cache. `world` is the synthetic world and needs no
    folder; `amazon-<category>` (`amazon-musical-instruments`) any file `reviews_<Category>_5*.json`. `tmdb` is a table
    of film texts to add (Parquet or CSV with `movie_id`); "auto" takes the one called `movies_tmdb.parquet` in the
    set's folder or in a folder `*/<name>` beside it, if there is one, and logs this. `tmdb_votes` adds its vote
    averages and counts, which were gathered decades after the ratings.

    Raises:
        SettingsError: the name is not known or nothing is found.
        DataError: a file is damaged.
    """
    family, stem = _family(name)
    source = DATASETS[family]
    if not source.marker:
        return source.read(Path(), name)
    root = data_folder(folder)
    place = find_folder(name, root)
    is_part = stem == family and place.name.startswith(f"{name}-")
    dataset = source.read(place, place.name if is_part else name)
    if tmdb == "auto":
        candidates = [place / TMDB_FILE, *sorted(root.glob(f"*/{stem}/{TMDB_FILE}"))]
        tmdb = next((path for path in candidates if path.is_file()), None)
        if tmdb is not None:
            _log.info("item texts are those of %s (TMDB)", tmdb.relative_to(root))
    return dataset if tmdb is None else add_tmdb(dataset, read_tmdb(tmdb), votes=tmdb_votes)


def find_folder(name: str, root: Path) -> Path:
    """The folder of a known set: `root` itself, `root/name`, or the only `root/name-*`.

    Raises:
        SettingsError: the name is not known, or the set is not there.
    """
    family, stem = _family(name)
    marker = DATASETS[family].marker
    for folder in dict.fromkeys([root, root / name, *([] if stem == family else [root / stem])]):
        if any(folder.glob(marker)):
            return folder
    parts = {path.parent for path in root.glob(f"{name}-*/{marker}")}
    if len(parts) == 1:
        return parts.pop()
    if parts:
        raise SettingsError(
            f"{root} holds {', '.join(sorted(path.name for path in parts))}: name one of them instead of {name}"
        )
    raise SettingsError(
        f"{name} is not in {root}: neither {marker} nor a folder {name} with it; get it with: "
        f"hybrid-sim data get {name}, or name its folder with --data DIR"
    )


def _family(name: str) -> tuple[str, str]:
    """The registered name that `name` belongs to, and how all names of it begin.

    `ml-1m-users1-2999` belongs to `ml-1m`, `amazon-books` to `amazon-<category>`.
    """
    stems = {registered.partition("-<")[0]: registered for registered in DATASETS}
    matches = [stem for stem in stems if name == stem or name.startswith(f"{stem}-")]
    if not matches:
        DATASETS[name]  # raises, and names the nearest
    stem = max(matches, key=len)
    return stems[stem], stem


def data_folder(folder: Path | str | None = None) -> Path:
    """The folder in which data is looked for.

    Raises:
        SettingsError: there is no such folder.
    """
    root = download_folder(folder)
    if root.is_dir():
        return root
    raise SettingsError(
        f"there is no data folder {root}; data is looked for in --data DIR, else in the environment "
        f"variable {ENVIRONMENT}, else in {cache_folder('data')}; fill the last with: hybrid-sim data get ml-100k"
    )


def download_folder(folder: Path | str | None = None) -> Path:
    """The folder into which downloads go; it need not exist yet."""
    named = folder or os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else cache_folder("data")
