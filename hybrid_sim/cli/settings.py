"""`hybrid-sim settings`, and the options that make settings of a TOML file and single changes."""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.cli.parsing import COMMANDS, Command, Parser
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.core.settings import RunSettings


def run(options: argparse.Namespace) -> int:
    """Write the settings to the screen."""
    sys.stdout.write("\n".join(_as_toml(read_settings(options))) + "\n")
    return 0


def _as_toml(settings: Any, table: str = "") -> Iterator[str]:
    """Lines of TOML with a comment before each setting that has one; settings that are None are commented out."""
    tables = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if hasattr(type(value), "model_fields"):
            tables[name] = value
            continue
        if field.description:
            yield f"# {' '.join(field.description.split())}"
        yield f"# {name} =" if value is None else f"{name} = {json.dumps(value, default=str)}"
    for name, value in tables.items():
        yield ""
        yield f"[{table}{name}]"
        yield from _as_toml(value, f"{table}{name}.")


def add_settings_options(parser: Parser) -> None:
    """Options of everything that needs to know how a language model is or would be asked."""
    model = parser.group("the language model (the key is read from OPENAI_API_KEY)")
    model("--model NAME", "ask this model, for example gpt-4o-mini")
    model("--base-url URL", "an OpenAI-compatible endpoint (else OPENAI_BASE_URL)")
    model("--settings FILE", "a TOML file, see `hybrid-sim settings`", Path)
    one = "one setting, for example rating.items_per_call=5 (see `hybrid-sim settings`)"
    model("--set NAME=VALUE", one, action="append", default=[], dest="changes")


def require_model(settings: RunSettings) -> None:
    """Check that a language model is named.

    Raises:
        SettingsError: none is.
    """
    if not settings.llm.model:
        raise SettingsError("no language model is named; add --model NAME, for example --model gpt-4o-mini")


def read_settings(options: argparse.Namespace) -> RunSettings:
    """The settings of the file, changed by the options.

    Raises:
        SettingsError: the file is not readable, a name is not known or a value is refused.
    """
    from hybrid_sim.core.settings import read_toml, settings_from

    content = {} if options.settings is None else read_toml(options.settings)
    llm = content.setdefault("llm", {})
    for name in ("model", "base_url"):
        if getattr(options, name) and isinstance(llm, dict):
            llm[name] = getattr(options, name)
    for change in options.changes:
        _change(content, change)
    settings = settings_from(content)
    if settings.llm.base_url:
        from hybrid_sim.llm.transport import refuse_address

        refuse_address(settings.llm.base_url, "llm.base_url")
    return settings


def _change(content: dict[str, Any], change: str) -> None:
    """Apply `table.name=value`, the value read as TOML, else taken as text."""
    name, sign, text = change.partition("=")
    if not sign or not name:
        raise SettingsError(f"--set {change}: is written as NAME=VALUE, for example rating.items_per_call=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = None if text.lower() == "none" else text
    *tables, last = name.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise SettingsError(f"--set {change}: {table} is no table of settings")
    content[last] = value


DESCRIPTION = "All settings with what they mean, as a TOML file: those of FILE and --set, else the defaults."
COMMANDS.add("settings", Command("show all settings, as a TOML file", DESCRIPTION, add_settings_options, run, "set up"))
