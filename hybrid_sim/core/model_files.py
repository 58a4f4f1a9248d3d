"""Saving and loading fitted raters: a folder of `arrays.npz`, `model.json` and `manifest.json`.

The manifest holds sizes, checksums and the versions of the packages that saved. Nothing that is loaded can run code:
there is no pickle, and a class is looked up only in this package and those that the caller trusts.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from hybrid_sim.core.errors import ModelFileError, SettingsError, StorageError
from hybrid_sim.core.files import checked_size, read_json_file
from hybrid_sim.core.provenance import package_versions
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.serialization import from_structure, parse_structure, read_arrays, to_structure, write_arrays

if sys.platform != "win32":
    import fcntl

FORMAT = "hybrid-sim model"
FORMAT_VERSION = 6
MANIFEST, MODEL, ARRAYS = "manifest.json", "model.json", "arrays.npz"
NEW, OLD = "new", "old"
"""In the working folder of a writer: the model being written, and the earlier one between the two renames."""


def save(rater: Rater, folder: str | Path, trust: Sequence[str] = (), about: Mapping[str, Any] | None = None) -> None:
    """Write a rater (its settings and its attributes that end in `_`) into `folder`, all of it or nothing.

    An earlier saved model in `folder` is replaced; any other folder that is not empty is left alone. `trust` names
    further packages whose raters may be saved; name them again to `load`. `about` is JSON for the manifest.

    Raises:
        SettingsError: `folder` holds something else, or the rater holds something that cannot be saved.
        StorageError: the disk is full or not writable; an earlier model in `folder` is still there.
    """
    folder = Path(folder).resolve()
    refuse_other_content(folder)
    structure, arrays = to_structure(rater, trust)
    model = json.dumps(structure, allow_nan=False).encode()
    with _storage_errors(folder), _working_folder(folder) as work:
        new = work / NEW
        new.mkdir()
        _write(new / ARRAYS, lambda file: write_arrays(file, arrays))
        _write(new / MODEL, lambda file: file.write(model))
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "packages": {"python": platform.python_version(), **package_versions()},
            "about": dict(about or {}),
            "files": {name: _fingerprint((new / name).read_bytes()) for name in (ARRAYS, MODEL)},
        }
        _write(new / MANIFEST, lambda file: file.write(json.dumps(manifest, indent=2).encode()))
        _swap(work, folder)


def load(folder: str | Path, trust: Sequence[str] = ()) -> Rater:
    """Read what `save` wrote. Sizes and checksums are compared before any reader sees the bytes.

    Raises:
        ModelFileError: the folder is not a saved model, or is damaged, or is of another format version, or names a
            class outside `hybrid_sim.core.serialization.PACKAGES` and `trust`.
    """
    folder = Path(folder)
    if not folder.exists():
        _recover(folder.resolve())
    files = read_manifest(folder)["files"]
    contents = {name: _read_checked(folder / name, files.get(name)) for name in (ARRAYS, MODEL)}
    try:
        structure = parse_structure(contents[MODEL])
    except ValueError as error:
        raise ModelFileError(
            f"{folder / MODEL} is not the description of a saved model ({error}); save it again"
        ) from error
    arrays = read_arrays(io.BytesIO(contents[ARRAYS]), folder / ARRAYS)
    return from_structure(structure, arrays, folder / MODEL, trust)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a saved model: `format_version`, `packages`, `about`, and `files` with sizes and checksums.

    Raises:
        ModelFileError: the folder is not a saved model, or is damaged, or is of another format version.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json_file(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFileError(
            f"{folder} is not a saved model: {MANIFEST} is missing; name a folder that `hybrid-sim fit` wrote"
        ) from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    except ValueError as error:
        raise ModelFileError(f"{path} is not JSON; copy the folder again, or save the model again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFileError(f"{path} is not the manifest of a saved model; name a folder that `hybrid-sim fit` wrote")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {manifest.get('format_version')!r}, this release {FORMAT_VERSION}; "
            "save the model again with this release, or load it with the one that wrote it"
        )
    manifest.setdefault("about", {})
    if not all(isinstance(manifest.get(name), dict) for name in ("files", "packages", "about")):
        raise ModelFileError(f"{path} lacks 'files' or 'packages'; copy the folder again, or save the model again")
    return manifest


def _read_checked(path: Path, expected: object) -> bytes:
    cure = "copy the folder again, or save the model again"
    try:
        size = checked_size(path)
        content = path.read_bytes() if isinstance(expected, dict) and size == expected.get("bytes") else b""
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}; {cure}") from error
    if _fingerprint(content) != expected:
        raise ModelFileError(f"{path} is damaged: its {size} bytes are not what {MANIFEST} says; {cure}")
    return content


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def refuse_other_content(folder: Path) -> None:
    """Check that a model may be saved in the folder.

    Raises:
        SettingsError: it is a file, or holds something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SettingsError(f"{folder} is a file; choose another name for the folder of the saved model")
    entries = {entry.name for entry in folder.iterdir()}
    if entries and not (MANIFEST in entries and entries <= {MANIFEST, MODEL, ARRAYS}):
        raise SettingsError(f"{folder} is not a saved model and will not be overwritten; choose a new folder")


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, locked while its writer lives, in which a model is written and an earlier one kept."""
    _recover(folder)
    work = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    work.mkdir(parents=True)
    with _lock(work):
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Put back the earlier model that a killed writer had moved out of the way, and remove its working folder."""
    for work in folder.parent.glob(f".{glob.escape(folder.name)}.{'[0-9a-f]' * 32}"):
        with _lock(work) as is_left:
            if is_left:
                with suppress(OSError):  # as before, where nothing can be changed
                    if (work / OLD).is_dir() and not folder.exists():
                        (work / OLD).rename(folder)
                    shutil.rmtree(work)


@contextmanager
def _lock(work: Path) -> Iterator[bool]:
    """Lock a working folder until the end or the death of the process; False where a writer holds it."""
    opened, is_ours = None, False
    if sys.platform != "win32":  # there folders cannot be locked: leftovers stay
        with suppress(OSError):
            opened = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
    try:
        yield is_ours
    finally:
        if opened is not None:
            os.close(opened)


def _swap(work: Path, folder: Path) -> None:
    new, old = work / NEW, work / OLD
    if not folder.exists():
        new.rename(folder)
        return
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise


def _write(path: Path, produce: Callable[[BinaryIO], object]) -> None:
    with path.open("xb") as file:
        produce(file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "free some space" if full else "check that the folder above it exists and is writable"
        raise StorageError(f"the model cannot be saved in {folder}: {error.strerror or error}; {cure}") from error
