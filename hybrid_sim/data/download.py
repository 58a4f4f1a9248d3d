"""Download of the MovieLens sets into the data folder: checked, atomic, unpacked within bounds."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from hybrid_sim.core.errors import NetworkError, SettingsError, StorageError
from hybrid_sim.core.progress import track
from hybrid_sim.data.http import Patience, chunks, opened, with_retries
from hybrid_sim.data.locate import download_folder

BASE_URL = "https://files.grouplens.org/datasets/movielens"

PINNED_MD5 = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
}
"""Sets that never change. The others are checked against the `.md5` file beside them, which finds
damage, not forgery."""

MAX_BYTES = {"ml-100k": 20 << 20, "ml-1m": 40 << 20, "ml-latest-small": 20 << 20, "ml-25m": 500 << 20}
"""Sizes of the archives at most."""

MAX_EXPANSION = 20
"""How many times the archive's limit the unpacked files may take; MovieLens text shrinks about fivefold."""


def download(
    name: str,
    folder: Path | str | None = None,
    *,
    base_url: str = BASE_URL,
    md5: str | None = None,
    patience: Patience | None = None,
) -> Path:
    """Fetch a MovieLens set into `folder` (else where data is looked for) and return the folder of the set.

    A set that is there already is left alone. Nothing appears under its name before it is complete. `md5`
    replaces the pinned or published checksum.

    Raises:
        SettingsError: the name is not known.
        NetworkError: the server cannot be reached or sends something else.
        StorageError: the disk is full or not writable.
    """
    if name not in MAX_BYTES:
        raise SettingsError(f"{name!r} cannot be downloaded; choose one of {', '.join(MAX_BYTES)}")
    root = download_folder(folder)
    target = root / name
    if target.is_dir():
        return target
    patience = patience or Patience(deadline=1800.0)
    address = f"{base_url.rstrip('/')}/{name}.zip"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as work:
            archive = Path(work) / f"{name}.zip"
            expected = md5 or PINNED_MD5.get(name) or _published_md5(address, patience)
            with_retries(lambda: _fetch(address, archive, name, patience), patience)
            _check(archive, expected, address)
            unpacked = _unpack(archive, Path(work) / "unpacked", name, address)
            os.replace(unpacked, target)
    except OSError as error:
        raise StorageError(
            f"{root} cannot be written: {error.strerror or error}; free space or choose --data DIR"
        ) from error
    return target


def _fetch(address: str, archive: Path, name: str, patience: Patience) -> None:
    with opened(address, patience) as response, archive.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        with track(f"download {name}", total) as task:
            for piece in chunks(response, patience, address, MAX_BYTES[name]):
                file.write(piece)
                task.advance(len(piece))


def _published_md5(address: str, patience: Patience) -> str:
    def fetch() -> bytes:
        with opened(f"{address}.md5", patience) as response:
            return b"".join(chunks(response, patience, f"{address}.md5", 4096))

    found = re.search(r"\b[0-9a-fA-F]{32}\b", with_retries(fetch, patience).decode("ascii", "replace"))
    if found is None:
        raise NetworkError(f"{address}.md5 holds no MD5 checksum; pass md5=... or try again later")
    return found[0].lower()


def _check(archive: Path, expected: str, address: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != expected.lower():
        raise NetworkError(
            f"{address}: the checksum is {found} instead of {expected}: the file is damaged or another one; try again"
        )


def _unpack(archive: Path, folder: Path, name: str, address: str) -> Path:
    """The unpacked folder `name`; entries that lead outside are refused, sizes counted while unpacking."""
    left = MAX_BYTES[name] * MAX_EXPANSION
    try:
        with zipfile.ZipFile(archive) as bundle, track(f"unpack {name}", len(bundle.infolist())) as task:
            for entry in bundle.infolist():
                left -= _unpack_entry(bundle, entry, folder, name, left, address)
                task.advance(1, entry.filename)
    except zipfile.BadZipFile as error:
        raise NetworkError(f"{address} is not a zip file ({error}); try again") from error
    if not (folder / name).is_dir():
        raise NetworkError(f"{address} holds no folder {name}")
    return folder / name


def _unpack_entry(
    bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, name: str, left: int, address: str
) -> int:
    """Unpack one entry of at most `left` bytes; returns its size."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != (name,):
        raise NetworkError(f"{address}: the entry {entry.filename!r} leads outside the folder {name}; not unpacked")
    if entry.is_dir():
        return 0
    target = folder.joinpath(*path.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with bundle.open(entry) as source, target.open("wb") as file:
        while piece := source.read(1 << 20):
            size += len(piece)
            if size > left:
                raise NetworkError(f"{address} unpacks to more than is expected of {name}; not unpacked")
            file.write(piece)
    return size
