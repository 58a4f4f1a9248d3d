"""One owner per run folder: a lock that the kernel frees when its owner dies, however it dies."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import BinaryIO

from hybrid_sim.core.errors import RunError, StorageError

if sys.platform == "win32":
    import msvcrt

    def _take(file: BinaryIO) -> None:
        file.seek(1 << 30)  # Windows locks bytes against reading too: one far behind the owner's name
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """Holds `path` locked until `close`, or until the process is gone.

    The file holds the owner's process number and host, for the message that a second process gets. It is never
    deleted: two processes could then hold locks on two files of one name.

    Raises:
        RunError: another process, or another lock in this one, holds it.
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        except OSError as error:
            raise StorageError(f"{path} cannot be written ({error.strerror}); name another folder") from error
        try:
            _take(self._file)
        except OSError as error:
            owner = self._file.read(300).decode("utf-8", "replace").strip() or "another process"
            self._file.close()
            raise RunError(f"{path.parent} is in use by {owner}; wait for it to end, or use another folder") from error
        try:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError as error:
            self._file.close()
            raise StorageError(f"{path} cannot be written ({error.strerror}); free some space") from error

    def close(self) -> None:
        """Free the lock; a second call does nothing."""
        self._file.close()
