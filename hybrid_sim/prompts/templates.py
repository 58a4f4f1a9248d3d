"""Templates of prompts, from text files in this package or in a folder of the user's.

A file holds the system message, a line `---`, and the user message. `{{name}}` is a placeholder. The system message is
the same for all questions of a run, so that a provider can cache it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.llm.question import BOUNDS, Message, without

_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")
_DIVIDER = re.compile(r"^---[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Template:
    """The prompt `name`: a system message and a user message with placeholders.

    >>> template = Template("greet", "Answer in JSON.", "Greet {{person}}.")
    >>> [message.content for message in template.messages(person="Ada {{person}}")]
    ['Answer in JSON.', 'Greet Ada {{person}}.']
    """

    name: str
    system: str
    user: str

    def messages(self, **values: str) -> tuple[Message, Message]:
        """The two messages with every placeholder replaced once; placeholders in `values` stay as they are.

        Raises:
            KeyError: a placeholder has no value.
        """
        filled = [_PLACEHOLDER.sub(lambda match: values[match[1]], text) for text in (self.system, self.user)]
        return Message("system", filled[0]), Message("user", filled[1])

    def version(self, schema: Mapping[str, Any]) -> str:
        """Twelve hexadecimal digits of SHA-256 over both messages and the schema of the reply without bounds."""
        content = json.dumps([self.system, self.user, without(schema, BOUNDS)], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode("ascii")).hexdigest()[:12]

    def label(self, schema: Mapping[str, Any]) -> str:
        """Name and version, as in `Question.prompt`."""
        return f"{self.name}@{self.version(schema)}"


def load_template(name: str, folder: Path | None = None) -> Template:
    """The template of the prompt `name`: from `folder/<name>.txt` where that exists, else from the package.

    Files of a user's folder are named as those of the package and use the same placeholders in the same messages.
    Hidden files are passed over.

    Raises:
        SettingsError: `folder` cannot be read or holds a file of another name, or a file is not UTF-8, has not two
            messages, or lacks or adds a placeholder.
    """
    packaged = resources.files(__package__).joinpath(f"{name}.txt")
    original = _parsed(name, packaged.read_text(encoding="utf-8"), f"{name}.txt of the package")
    file = None if folder is None else _file_in(folder, name)
    if file is None:
        return original
    try:
        template = _parsed(name, file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror})") from error
    _check_placeholders(file, "system", template.system, original.system)
    _check_placeholders(file, "user", template.user, original.user)
    return template


def template_names() -> list[str]:
    """The names of all prompts."""
    names = (entry.name for entry in resources.files(__package__).iterdir())
    return sorted(name.removesuffix(".txt") for name in names if name.endswith(".txt"))


def _file_in(folder: Path, name: str) -> Path | None:
    """The user's file for a prompt, None where there is none; all files of the folder must have known names."""
    expected = [f"{prompt}.txt" for prompt in template_names()]
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise SettingsError(f"prompts = {folder}: cannot be read ({error.strerror}); name a folder") from error
    for other in names:
        if other not in expected:
            raise SettingsError(f"{folder / other}: there is no prompt of this name; {nearest(other, expected)}")
    return folder / f"{name}.txt" if f"{name}.txt" in names else None


def _parsed(name: str, text: str, source: str) -> Template:
    parts = [part.strip() for part in _DIVIDER.split(text.removeprefix("\ufeff"))]
    if len(parts) != 2 or not all(parts):
        raise SettingsError(f"{source}: expected the system message, one line ---, and the user message")
    return Template(name, *parts)


def _check_placeholders(file: Path, role: str, text: str, original: str) -> None:
    """Refuse a message that does not use exactly the placeholders of the message that it replaces."""
    used, expected = (dict.fromkeys(_PLACEHOLDER.findall(message)) for message in (text, original))
    for name in used:
        if name not in expected:
            hint = nearest(name, expected)
            raise SettingsError(f"{file}: the {role} message has no placeholder {{{{{name}}}}}; {hint}")
    for name in expected:
        if name not in used:
            raise SettingsError(f"{file}: the {role} message lacks the placeholder {{{{{name}}}}}; put it in")
