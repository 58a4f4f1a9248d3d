"""`hybrid-sim settings`, and the options that make settings of a TOML file and single changes."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.cli.parsing import COMMANDS, Command, Parser
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest

if TYPE_CHECKING:
    from hybrid_sim.core.settings import RunSettings

PATHS = (("prompts",), ("llm", "prices"))
"""Settings that name a file or folder; in a settings file they are relative to it."""


def add_options(parser: Parser) -> None:
    """Add the options of the command."""
    add_settings_options(parser)


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
    group = parser.add_argument_group("the language model (the key is read from OPENAI_API_KEY)")
    group.add_argument("--model", metavar="NAME", help="ask this model, for example gpt-4o-mini")
    group.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible endpoint (else OPENAI_BASE_URL)")
    group.add_argument("--settings", metavar="FILE", type=Path, help="a TOML file, see `hybrid-sim settings`")
    group.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="changes",
        help="one setting, for example rating.items_per_call=5 (see `hybrid-sim settings`)",
    )


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
        SettingsError: the file is not readable, a name is unknown or a value is invalid.
    """
    from pydantic import ValidationError

    from hybrid_sim.core.settings import RunSettings

    content = _read_file(options.settings)
    llm = content.setdefault("llm", {})
    for name in ("model", "base_url"):
        if getattr(options, name) and isinstance(llm, dict):
            llm[name] = getattr(options, name)
    for change in options.changes:
        _change(content, change)
    try:
        settings = RunSettings.model_validate(content)
    except ValidationError as error:
        raise SettingsError(_describe(error)) from None
    if settings.llm.base_url:
        from hybrid_sim.llm.transport import refuse_address

        refuse_address(settings.llm.base_url, "llm.base_url")
    return settings


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--settings {path}: cannot be read ({error.strerror}); name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--settings {path}: is not TOML: {error}") from error
    for *tables, name in PATHS:
        table = content.get(tables[0], {}) if tables else content
        if isinstance(table, dict) and isinstance(table.get(name), str):
            table[name] = os.path.join(path.parent, table[name])
    return content


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


def _describe(error: Any) -> str:
    """The first validation error in one line, with the nearest name where the name is unknown."""
    from hybrid_sim.core.settings import RunSettings

    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model: Any = RunSettings
        for part in first["loc"][:-1]:
            model = model.model_fields[part].annotation
        return f"there is no setting {name!r}; {nearest(str(first['loc'][-1]), model.model_fields)}"
    if first["type"] == "value_error":
        return f"settings: {first['ctx']['error']}"
    return f"setting {name}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"


COMMANDS.add(
    "settings",
    Command(
        "show all settings, as a TOML file",
        "All settings with what they mean, as a TOML file: those of FILE and --set, else the defaults.",
        add_options,
        run,
        "set up",
    ),
)
