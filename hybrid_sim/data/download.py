"""Download of data sets into the data folder: checked, atomic, unpacked within bounds."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from hybrid_sim.core.errors import NetworkError, SettingsError, StorageError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.progress import track
from hybrid_sim.data.http import RetryPolicy, fetch, fetch_bytes
from hybrid_sim.data.sources import DATASETS, Archive, download_folder

MAX_EXPANSION = 20
"""How many times the archive's limit the unpacked files may take; MovieLens text shrinks about fivefold."""


def download(
    name: str,
    folder: Path | str | None = None,
    *,
    mirror: str | None = None,
    md5: str | None = None,
    policy: RetryPolicy | None = None,
) -> Path:
    """Fetch a data set into `folder` (else where data is looked for) and return the folder of the set.

    A set that is there already is left alone. Nothing appears under its name before it is complete. `mirror` is another
    server's folder with the same archive; `md5` replaces the pinned or published checksum.

    Raises:
        SettingsError: the name is not known.
        NetworkError: the server cannot be reached or sends something else.
        StorageError: the disk is full or not writable.
    """
    archives = {known: source.archive for known, source in DATASETS.items() if source.archive is not None}
    if name not in archives:
        raise SettingsError(f"{name!r} cannot be downloaded; {nearest(name, archives)}")
    root = download_folder(folder)
    target = root / name
    if target.is_dir():
        return target
    archive = archives[name]
    policy = policy or RetryPolicy(deadline=1800.0)
    address = archive.address
    if mirror:
        address = f"{mirror.rstrip('/')}/{address.rpartition('/')[2]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as work:
            path = Path(work) / "archive.zip"
            expected = md5 or archive.md5 or _published_md5(address, policy)
            with path.open("w+b") as file:
                fetch(address, policy, archive.max_bytes, file, label=f"download {name}")
            _check(path, expected, address)
            os.replace(_unpack(path, Path(work) / "unpacked", name, archive, address), target)
    except OSError as error:
        raise StorageError(
            f"{root} cannot be written: {error.strerror or error}; free space or choose --data DIR"
        ) from error
    return target


def _published_md5(address: str, policy: RetryPolicy) -> str:
    published = fetch_bytes(f"{address}.md5", policy, 4096).decode("ascii", "replace")
    checksum = re.search(r"\b[0-9a-fA-F]{32}\b", published)
    if checksum is None:
        raise NetworkError(f"{address}.md5 holds no MD5 checksum; pass md5=... or try again later")
    return checksum[0]


def _check(path: Path, expected: str, address: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "md5").hexdigest()
    if actual != expected.lower():
        raise NetworkError(
            f"{address}: the checksum is {actual} instead of {expected}: the file is damaged or another one; try again"
        )


def _unpack(path: Path, folder: Path, name: str, archive: Archive, address: str) -> Path:
    """The unpacked folder `name`; an archive with entries that lead outside, or too large, is refused as a whole.

    An entry never unpacks to more than the size that the archive states of it: `zipfile` reads no further.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = bundle.infolist()
            for entry in entries:
                target = PurePosixPath(entry.filename.replace("\\", "/"))
                if target.is_absolute() or ".." in target.parts or target.parts[:1] != (name,):
                    raise NetworkError(
                        f"{address}: the entry {entry.filename!r} leads outside the folder {name}; not unpacked"
                    )
            if sum(entry.file_size for entry in entries) > archive.max_bytes * MAX_EXPANSION:
                raise NetworkError(f"{address} unpacks to more than is expected of {name}; not unpacked")
            with track(f"unpack {name}", len(entries)) as task:
                for entry in entries:
                    bundle.extract(entry, folder)
                    task.advance(1, entry.filename)
    except zipfile.BadZipFile as error:
        raise NetworkError(f"{address} is not a zip file ({error}); try again") from error
    if not (folder / name).is_dir():
        raise NetworkError(f"{address} holds no folder {name}")
    return folder / name
