"""Files, written whole or not at all and looked at before they are read, and text that is safe on a screen."""

from __future__ import annotations

import difflib
import errno
import json
import os
import stat
import uuid
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.core.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_LINE = 1_000_000
"""Length of a line of stored JSON, which has a few thousand bytes; parsed JSON takes up to 50 times its size."""

_MAX_JSON = 16_000_000
"""Bytes of a manifest or of a description of a run, which have a few thousand."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: what was there before stays until the new content is safe on disk.

    A link of that name is replaced, not followed.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            with unfinished.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise SettingsError(
            f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from error
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}); free some space or name another folder"
        ) from error


def require_writable(target: Path) -> None:
    """Check, before any work, that a file or folder of this name can be written or made.

    Raises:
        SettingsError: it is below a file.
        StorageError: the folder above it is not writable.
    """
    place = next(place for place in (target.absolute(), *target.absolute().parents) if place.exists())
    if place.is_file() and place != target.absolute():
        raise SettingsError(f"{target}: {place} is a file; name another folder")
    if not os.access(place, os.W_OK):
        raise StorageError(f"{target}: {place} is not writable; name another folder")


def cache_folder(part: str) -> Path:
    """The folder of this package's cache called `part`: in `$HYBRID_SIM_CACHE`, else in the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("HYBRID_SIM_CACHE") or platformdirs.user_cache_dir("hybrid-sim", appauthor=False)) / part


def checked_size(path: Path) -> int:
    """The size of a file in bytes, looked at before it is read.

    Raises:
        OSError: it cannot be read, is a pipe or a device (which may never end), or has next to no content for its size.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    on_disk = 512 * getattr(about, "st_blocks", about.st_size)
    if about.st_size > 8 * on_disk + 1_000_000:  # file systems that compress reach less than 8, small files take none
        raise OSError(errno.EINVAL, "a sparse file, mostly holes")
    return about.st_size


def read_json_file(path: Path) -> Any:
    """The content of a small JSON file.

    Raises:
        OSError: it cannot be read, or is no plain file.
        ValueError: it is not JSON, or much too large.
    """
    if checked_size(path) > _MAX_JSON:
        raise ValueError(f"more than {_MAX_JSON:,} bytes")
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_json_file(path: Path, content: Any) -> None:
    """Write strict JSON, whole or not at all: numpy's numbers become plain ones, and what is not finite null."""
    write_whole(path, json.dumps(_strict(content), indent=1, allow_nan=False).encode() + b"\n")


def _strict(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _strict(item) for key, item in value.items()}
        case list() | tuple():
            return [_strict(item) for item in value]
        case float() if not isfinite(value):
            return None
    return _strict(value.item()) if hasattr(value, "item") else value


def first_mistake(error: ValidationError, whole: str) -> str:
    """The first mistake that pydantic found: the field (`whole` where it is none) and the reason."""
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


def printable(text: str) -> str:
    """The text with control characters, right-to-left marks and lone surrogates escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, length: int = 60) -> str:
    """The text as it can be printed, its end replaced by an ellipsis where it is longer.

    >>> shortened("The Good, the Bad and the Ugly", 12)
    'The Good, t…'
    """
    text = printable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint, for an error message, about a name that is none of `names`: the most similar one, else all of them.

    >>> nearest("bnech", ["bench", "fit"])
    "did you mean 'bench'?"
    """
    choices = list(names)
    close = difflib.get_close_matches(name.partition("=")[0], choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(choices)}"
