"""Optional packages: which extra installs them."""

from __future__ import annotations

from importlib.util import find_spec

from hybrid_sim.core.errors import SettingsError


def require(package: str, extra: str) -> None:
    """Check that a package is installed.

    Raises:
        SettingsError: it is not; the message has the command that installs it.
    """
    if find_spec(package) is None:
        raise SettingsError(f"{package} is not installed; run: pip install 'hybrid-sim[{extra}]'")
