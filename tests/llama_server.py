"""llama.cpp's `llama-server` as a subprocess on the loopback interface, for tests and for `experiments/smollm2.py`."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = os.environ.get("HYBRID_SIM_LLAMA_SERVER")
MODEL = os.environ.get("HYBRID_SIM_LLAMA_MODEL")
ALIAS = "local"
"""The name under which the server knows its model."""


@contextmanager
def llama_server(model: Path | str, log: Path, context: int, n_slots: int = 1) -> Iterator[str]:
    """The address, up to `/v1`, of a server that has loaded `model`; `context` tokens for each of `n_slots` replies.

    Raises:
        RuntimeError: it did not start; the message holds the end of its `log`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("-m", model, "--port", port, "-c", context * n_slots, "-np", n_slots, "-t", 1, "--alias", ALIAS)
    with (
        log.open("wb") as output,
        subprocess.Popen([str(SERVER), *map(str, options)], stdout=output, stderr=output) as process,
    ):
        try:
            _wait_until_loaded(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def _wait_until_loaded(health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError(f"llama-server did not start: {log.read_text(errors='replace')[-2000:]}")
