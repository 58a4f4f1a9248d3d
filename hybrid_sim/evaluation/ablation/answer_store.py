"""Arrays stored in a folder, one file with a checksum per member and key: a rerun need not compute them again."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hybrid_sim.core.errors import SettingsError, StorageError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.serialization import Arrays, read_arrays, write_arrays

FORMAT = "hybrid-sim answers 2"

_log = logging.getLogger("hybrid_sim")


def store_answers(folder: Path, name: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep the arrays under a name and a key, replacing what was there.

    Raises:
        SettingsError: `folder` is no folder.
        StorageError: the disk is full or not writable.
    """
    content = io.BytesIO()
    write_arrays(content, dict(arrays))
    body = content.getvalue()
    head = {"format": FORMAT, "key": key, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingsError(f"{folder} is no folder; name another for the members' answers") from error
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror}); name another folder") from error
    write_whole(_file(folder, name, key), json.dumps(head).encode() + b"\n" + body)


def stored_answers(folder: Path, name: str, key: str) -> Arrays | None:
    """The arrays kept under this name and key; None where there are none, or only damaged ones, which the log says.

    Raises:
        SettingsError: `folder` is no folder, or a file in it cannot be read.
    """
    path = _file(folder, name, key)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name another folder") from error
    head, _, body = content.partition(b"\n")
    expected = {"format": FORMAT, "key": key, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    if head == json.dumps(expected).encode():
        return read_arrays(io.BytesIO(body), path)
    _log.warning("%s is damaged; the member is asked again", path.name)
    return None


def _file(folder: Path, name: str, key: str) -> Path:
    return folder / f"{name}-{key[:16]}.answers"
