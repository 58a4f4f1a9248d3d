"""Provenance of a result: command, commit, seed, data hash and package versions."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hybrid_sim.core.dataset import Dataset

PACKAGES = (
    "hybrid-sim",
    "numpy",
    "scipy",
    "pandas",
    "numba",
    "scikit-learn",
    "scikit-surprise",
    "lightgbm",
    "faiss-cpu",
    "sentence-transformers",
    "torch",
)
"""Packages whose versions belong to the provenance of a figure."""


@dataclass(frozen=True)
class Provenance:
    """What is needed to make a figure again; holds no secrets and no folders of the machine."""

    command: str
    commit: str | None
    seed: int
    dataset: str
    synthetic: bool
    data_hash: str
    n_users: int
    n_items: int
    n_ratings: int
    embedder: str | None
    python: str
    platform: str
    versions: Mapping[str, str]

    def facts(self) -> dict[str, str]:
        """Names and values for the foot of a page."""
        packages = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return {
            "command": self.command,
            "commit": self.commit or "not known",
            "seed": str(self.seed),
            "data": f"{dataset_label(self)}: {self.n_ratings:,} ratings of {self.n_users:,} users, "
            f"{self.n_items:,} items in the catalogue",
            "data hash": self.data_hash,
            "embedder": self.embedder or "none named",
            "made with": f"Python {self.python} on {self.platform}",
            "packages": packages or "not known",
        }


def provenance(command: Sequence[str], seed: int, dataset: Dataset, embedder: str | None = None) -> Provenance:
    """Where a result comes from; what cannot be found out (no git, a missing package) is None or left out.

    `command` is the command line, an argument per entry. Absolute paths in it become relative to the working folder or,
    outside it, `.../name`; user names and passwords are taken out of addresses. `embedder` names the text
    embedder, if any.
    """
    return Provenance(
        command=shlex.join([Path(command[0]).name, *map(_shareable, command[1:])]) if command else "",
        commit=_commit(),
        seed=seed,
        dataset=dataset.name,
        synthetic=dataset.synthetic,
        data_hash=dataset.digest,
        n_users=dataset.n_users,
        n_items=dataset.n_items,
        n_ratings=len(dataset),
        embedder=embedder,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        versions=package_versions(),
    )


def _shareable(argument: str) -> str:
    """An argument of a command without credentials and without folders of this machine."""
    option, equals, value = argument.partition("=")
    if Path(argument).is_absolute() or not equals:
        option, equals, value = "", "", argument
    value = re.sub(r"(?<=//)[^/@\s]+@", "", value)
    path = Path(value)
    if path.is_absolute():
        value = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else f".../{path.name}"
    home = os.path.expanduser("~")
    return (option + equals + value).replace(home, "~" if len(home) > 1 else home)


def _commit() -> str | None:
    """The commit of the repository that tracks this file, "-dirty" after it if the package was changed since."""
    package = Path(__file__).parents[1]
    git = ["git", "-C", str(package)]
    try:  # a package installed inside somebody else's repository is not tracked there
        for question in (["ls-files", "--error-unmatch", "__init__.py"], ["rev-parse", "HEAD"]):
            answer = subprocess.run([*git, *question], capture_output=True, check=True, timeout=10, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() + ("-dirty" if changed.stdout else "")


def package_versions() -> dict[str, str]:
    """The versions of those of `PACKAGES` that are installed."""
    versions = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def dataset_label(source: Provenance) -> str:
    """The name of the data, marked as synthetic where it is."""
    return f"{source.dataset} (synthetic data)" if source.synthetic else source.dataset
