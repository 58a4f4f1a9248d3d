"""The folder of an environment: a fitted simulator, its distributions of all pairs, and what was held out from it.

It holds `model/` (see `hybrid_sim.core.model_files`), `cutpoints.npy`, which is mapped into memory, `arrays.npz`,
`catalogue.json` and, written last, `manifest.json` with sizes and checksums. Nothing that is read can run code.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ModelFileError, SettingsError, StorageError
from hybrid_sim.core.files import checked_size, nearest, read_json_file, write_json_file
from hybrid_sim.core.provenance import package_versions
from hybrid_sim.core.serialization import parse_structure, read_arrays, write_arrays
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.environments.belief import CutArray
from hybrid_sim.environments.correlation import Correlation
from hybrid_sim.simulation.simulator import Simulator

FORMAT, FORMAT_VERSION = "hybrid-sim environment", 1
MANIFEST, MODEL, CUTPOINTS, ARRAYS, CATALOGUE = (
    *("manifest.json", "model", "cutpoints.npy", "arrays.npz", "catalogue.json"),
)
CHECKED = (CUTPOINTS, ARRAYS, CATALOGUE)
RATINGS = ("user", "item", "rating", "timestamp")
CURE = "copy the folder again, or build it again with `hybrid-sim env build`"


@dataclass(frozen=True)
class Population:
    """People and items of an environment: who rated what, and how anybody would rate anything.

    `train` and `held_out` share one catalogue. `cutpoints`, shape `(n_users, n_items, n_levels - 1)`, are the latent
    cutpoints of the simulator's distributions (see `hybrid_sim.environments.belief`), `features` those of the items,
    shape `(n_items, 1 + n_tastes)`. `protocol` says what was held out.
    """

    train: Dataset
    held_out: Dataset
    cutpoints: CutArray
    features: FloatArray
    correlation: Correlation
    protocol: str
    folder: Path | None = None

    @property
    def scale(self) -> RatingScale:
        """The rating scale."""
        return self.train.scale

    @cached_property
    def prior(self) -> FloatArray:
        """The diagonal of the belief's covariance before any answer."""
        return self.correlation.prior(self.features.shape[1] - 1)

    @cached_property
    def user_ids(self) -> list[str]:
        """Ids by row."""
        return [str(user) for user in self.train.users.index]

    @cached_property
    def item_ids(self) -> list[str]:
        """Ids by row."""
        return [str(item) for item in self.train.items.index]

    def user_row(self, user_id: str) -> int:
        """The row of a user.

        Raises:
            SettingsError: there is no such user.
        """
        return _row("user", user_id, self._user_rows)

    def item_row(self, item_id: str) -> int:
        """The row of an item.

        Raises:
            SettingsError: there is no such item.
        """
        return _row("item", item_id, self._item_rows)

    @cached_property
    def _user_rows(self) -> dict[str, int]:
        return {user: row for row, user in enumerate(self.user_ids)}

    @cached_property
    def _item_rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    def distribution(self, pairs: Pairs) -> RatingDistribution:
        """The simulator's distribution of each pair, before any answer; all ids are known."""
        below = normal_cdfs(self.cutpoints[pairs.user, pairs.item].astype(float))
        return RatingDistribution(self.scale, np.diff(below, axis=1, prepend=0.0, append=1.0))

    def distributions_of(self, user: int) -> RatingDistribution:
        """The simulator's distribution of every item for the user in this row, before any answer."""
        items = np.arange(len(self.item_ids))
        return self.distribution(Pairs(np.full(len(items), user), items))

    @cached_property
    def means(self) -> FloatArray:
        """The simulator's expected rating of every item for every user, before any answer, `(n_users, n_items)`."""
        return np.array([self.distributions_of(user).mean() for user in range(len(self.user_ids))])

    def simulator(self) -> Simulator:
        """The fitted simulator.

        Raises:
            ModelFileError: it is damaged.
            SettingsError: the population is in no folder.
        """
        if self.folder is None:
            raise SettingsError("this population was not opened from a folder; open one that `env build` wrote")
        return Simulator.load(self.folder / MODEL)


def normal_cdfs(x: FloatArray) -> FloatArray:
    """Φ of each number."""
    from scipy.special import ndtr

    return np.asarray(ndtr(x), dtype=float)


def _row(noun: str, name: str, rows: dict[str, int]) -> int:
    if name not in rows:
        hint = nearest(str(name), rows) if len(rows) <= 20 else f"ids are texts such as {next(iter(rows))!r}"
        raise SettingsError(f"there is no {noun} {name!r} in this environment; {hint}")
    return rows[name]


def refuse_other_content(folder: Path) -> None:
    """Check that an environment may be written here.

    Raises:
        SettingsError: the folder is a file, or holds something else.
    """
    if folder.is_file():
        raise SettingsError(f"{folder} is a file; choose another name for the folder of the environment")
    entries = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if not entries <= {MANIFEST, MODEL, *CHECKED} or (entries and not entries & {MANIFEST, CUTPOINTS, MODEL}):
        raise SettingsError(f"{folder} is not an environment and will not be overwritten; choose a new folder")


def write_population(
    population: Population, simulator: Simulator, folder: Path, write_cutpoints: Callable[[Path], None]
) -> None:
    """Write an environment into `folder`, the manifest last, so that what was interrupted is not taken for whole.

    `write_cutpoints` writes the cutpoints into the file that it is given; `population.cutpoints` is not used.

    Raises:
        SettingsError: `folder` holds something else.
        StorageError: the disk is full or not writable.
    """
    refuse_other_content(folder)
    train, held_out = population.train, population.held_out
    arrays: dict[str, NDArray[Any]] = {"features": population.features}
    for part, ratings in (("train", train), ("held_out", held_out)):
        columns = {name: getattr(ratings, name) for name in RATINGS}
        arrays |= {f"{part}_{name}": column for name, column in columns.items() if column is not None}
    catalogue = {
        "name": train.name,
        "synthetic": train.synthetic,
        "protocol": population.protocol,
        "scale": list(train.scale.levels),
        "correlation": asdict(population.correlation),
        "users": _columns_of(train.users),
        "items": _columns_of(train.items),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        simulator.save(folder / MODEL)
        write_cutpoints(folder / CUTPOINTS)
        with (folder / ARRAYS).open("wb") as file:
            write_arrays(file, arrays)
        write_json_file(folder / CATALOGUE, catalogue)
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "packages": {"python": platform.python_version(), **package_versions()},
            "files": {name: _fingerprint(folder / name) for name in CHECKED},
        }
        write_json_file(folder / MANIFEST, manifest)
    except OSError as error:
        raise StorageError(
            f"the environment cannot be written in {folder}: {error.strerror or error}; free some space, or name a "
            "folder that is writable"
        ) from error


def open_population(folder: str | Path) -> Population:
    """The environment that `hybrid-sim env build` wrote; sizes and checksums are compared first.

    Raises:
        ModelFileError: a file is missing or damaged, or of another format version.
    """
    folder = Path(folder)
    _check_files(folder)
    with (folder / ARRAYS).open("rb") as file:
        arrays = read_arrays(file, folder / ARRAYS)
    try:
        catalogue = parse_structure((folder / CATALOGUE).read_bytes())
        users, items = (_frame_of(catalogue[noun]) for noun in ("users", "items"))
        scale = RatingScale(tuple(catalogue["scale"]))

        def ratings(part: str) -> Dataset:
            columns = {name: arrays.get(f"{part}_{name}") for name in RATINGS}
            return Dataset(catalogue["name"], scale, users, items, synthetic=catalogue["synthetic"], **columns)  # type: ignore[arg-type]  # a missing column is a KeyError below

        cuts = np.load(folder / CUTPOINTS, mmap_mode="r", allow_pickle=False)
        if cuts.shape != (len(users), len(items), scale.n_levels - 1) or cuts.dtype != np.float32:
            raise ValueError(f"cutpoints of shape {cuts.shape}")
        return Population(
            ratings("train"),
            ratings("held_out"),
            cuts.view(np.ndarray),
            arrays["features"],
            Correlation(**catalogue["correlation"]),
            catalogue["protocol"],
            folder,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{folder} does not describe an environment of this release ({error}); {CURE}") from error


def _check_files(folder: Path) -> None:
    try:
        manifest = read_json_file(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFileError(
            f"{folder} is not an environment: {MANIFEST} is missing; name a folder that `hybrid-sim env build` wrote"
        ) from error
    except OSError as error:
        raise ModelFileError(f"{folder / MANIFEST} cannot be read: {error.strerror}; {CURE}") from error
    except ValueError as error:
        raise ModelFileError(f"{folder / MANIFEST} is not JSON; {CURE}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFileError(
            f"{folder / MANIFEST} is not that of an environment; name a folder that `hybrid-sim env build` wrote"
        )
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{folder} has format version {manifest.get('format_version')!r}, this release {FORMAT_VERSION}; build it "
            "again with this release"
        )
    expected = manifest.get("files")
    for name in CHECKED:
        try:
            checked_size(folder / name)
            fingerprint = _fingerprint(folder / name)
        except OSError as error:
            raise ModelFileError(f"{folder / name} cannot be read: {error.strerror}; {CURE}") from error
        if not isinstance(expected, dict) or fingerprint != expected.get(name):
            raise ModelFileError(f"{folder / name} is damaged: it is not what {MANIFEST} says; {CURE}")


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _columns_of(frame: pd.DataFrame) -> dict[str, Any]:
    columns = {name: {"dtype": str(column.dtype), "values": column.tolist()} for name, column in frame.items()}
    return {"ids": frame.index.tolist(), "columns": columns}


def _frame_of(stored: dict[str, Any]) -> pd.DataFrame:
    index = pd.Index(stored["ids"], dtype=object)
    columns = {}
    for name, column in stored["columns"].items():
        values = [tuple(value) if isinstance(value, list) else value for value in column["values"]]
        columns[name] = pd.Series(values, index, dtype=column["dtype"])
    return pd.DataFrame(columns, index=index)
