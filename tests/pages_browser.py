"""A real browser for the tests of pages: headless Chromium, driven by chromedriver over HTTP on this machine.

Both are Debian's packages `chromium` and `chromium-driver`; tests that need them are skipped where they are not there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1000,900",
)  # fmt: skip


@dataclass(frozen=True)
class Browser:
    """One open window."""

    address: str

    def open(self, page: Path) -> None:
        """Load a file from disk and wait until it is there."""
        self._logs("performance")
        self._logs("browser")
        self._call("POST", "url", {"url": page.absolute().as_uri()})

    def check(self, page: Path) -> None:
        """Open a page; it asks for nothing besides, complains of nothing, runs no script, and fits into the window."""
        self.open(page)
        assert self.requests() == [page.absolute().as_uri()]
        assert self.complaints() == []
        assert self.ask("window.hacked") is None
        assert self.ask("document.documentElement.scrollWidth <= window.innerWidth") is True

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self._call("POST", "execute/sync", {"script": f"return {expression}", "args": []})

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self._logs("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Everything in the console since the page was opened."""
        return [entry["message"] for entry in self._logs("browser")]

    def dark(self, on: bool) -> None:
        """What the system says about dark colours."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        body = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self._call("POST", "goog/cdp/execute", body)

    def _logs(self, kind: str) -> list[dict[str, Any]]:
        return list(self._call("POST", "se/log", {"type": kind}))

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return called(method, f"{self.address}/{path}", body)


def called(method: str, address: str, body: dict[str, Any] | None = None) -> Any:
    """One WebDriver call."""
    content = None if body is None else json.dumps(body).encode()
    request = Request(address, content, {"Content-Type": "application/json"}, method=method)
    with urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())["value"]


@contextmanager
def browser(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser that is open inside the `with`."""
    assert DRIVER is not None
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert driver.stdout is not None
            port = next(m[1] for line in driver.stdout if (m := re.search(r"successfully on port (\d+)", line)))
            options = {"binary": CHROMIUM, "args": [*QUIET, f"--user-data-dir={profile}", *arguments]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"}}
            root = f"http://127.0.0.1:{port}/session"
            session = f"{root}/{called('POST', root, {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
            called("POST", f"{session}/url", {"url": "about:blank"})  # away from the browser's own first page
            yield Browser(session)
            called("DELETE", session)
        finally:
            driver.terminate()
            driver.communicate(timeout=20)
