"""The data sets that the project knows by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.data import anime_amazon, movielens
from hybrid_sim.data.locate import data_folder
from hybrid_sim.data.tmdb import add_tmdb, read_tmdb
from hybrid_sim.data.world import make_world

_READERS: dict[str, tuple[str, Callable[[Path, str], Dataset]]] = {
    "ml-100k": ("u.data", movielens.read_100k),
    "ml-1m": ("ratings.dat", movielens.read_1m),
    "ml-latest-small": ("ratings.csv", movielens.read_csv_layout),
    "ml-25m": ("ratings.csv", movielens.read_csv_layout),
    "anime": ("anime_ratings.dat", anime_amazon.read_anime),
}
"""Per name: the file that shows that a folder holds the set, and its reader."""

TMDB_FILE = "movies_tmdb.parquet"

_log = logging.getLogger("hybrid_sim")

KNOWN = ("world", *_READERS, "amazon-<category>")


def load(
    name: str, folder: Path | str | None = None, *, tmdb: Path | str | None = "auto", tmdb_votes: bool = False
) -> Dataset:
    """The data set called `name`, read from `folder`.

    `folder` holds the set itself, or a folder named as the set or beginning with its name
    (`ml-1m-users1-2999`); the dataset is then called as that folder. Without `folder` the places of
    `hybrid_sim.data.locate` are searched. `world` is the synthetic world and needs no folder;
    `amazon-<category>` (`amazon-musical-instruments`) any file `reviews_<Category>_5*.json`. `tmdb` is a
    table of film texts to add (Parquet or CSV with `movie_id`); "auto" takes the one called `movies_tmdb.parquet` in
    the set's folder or in a folder `*/<name>` beside it, if there is one, and says so in the log. `tmdb_votes` adds its
    vote averages and counts, which were gathered decades after the ratings.

    Raises:
        SettingsError: the name is not known or nothing is found.
        DataError: a file is damaged.
    """
    if name == "world":
        return make_world().dataset
    root = data_folder(folder)
    if name.split("-")[0] == "amazon":
        place = root / "amazon" if (root / "amazon").is_dir() else root
        dataset = anime_amazon.read_amazon(anime_amazon.find_reviews(place, name.partition("-")[2]), name)
    else:
        dataset = _read_known(name, root)
        tmdb = _find_tmdb(name, root) if tmdb == "auto" else tmdb
    return dataset if tmdb in (None, "auto") else add_tmdb(dataset, read_tmdb(tmdb), votes=tmdb_votes)


def _find_tmdb(name: str, root: Path) -> Path | None:
    """The table of film texts that lies with the set or beside it."""
    folder = find_folder(name, root)
    found = [folder / TMDB_FILE, *sorted(root.glob(f"*/{_family(name)}/{TMDB_FILE}"))]
    table = next((path for path in found if path.is_file()), None)
    if table is not None:
        _log.info("item texts are those of %s (TMDB)", table.relative_to(root))
    return table


def find_folder(name: str, root: Path) -> Path:
    """The folder of a known set: `root` itself, `root/name`, or the only `root/name-*`.

    Raises:
        SettingsError: the name is not known, or the set is not there.
    """
    family = _family(name)
    marker = _READERS[family][0]
    if (root / marker).is_file():
        return root
    if (root / name / marker).is_file():
        return root / name
    found = sorted(path.parent for path in root.glob(f"{name}-*/{marker}") if _family(path.parent.name) == family)
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(
            f"{root} holds {', '.join(path.name for path in found)}: name one of them instead of {name}"
        )
    raise SettingsError(
        f"{name} is not in {root}: neither {marker} nor a folder {name} with it; get it with: "
        f"hybrid-sim data get {name}, or name its folder with --data DIR"
    )


def _read_known(name: str, root: Path) -> Dataset:
    folder = find_folder(name, root)
    title = folder.name if folder.name.startswith(f"{name}-") else name
    return _READERS[_family(name)][1](folder, title)


def _family(name: str) -> str:
    matches = [known for known in _READERS if name == known or name.startswith(f"{known}-")]
    if not matches:
        raise SettingsError(f"data set {name!r} is not known; known are {', '.join(KNOWN)}")
    return max(matches, key=len)
