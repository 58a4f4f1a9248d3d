"""The fixed words of a prompt, from a text file in this package or one of the user's own.

A file holds the system message, a line `---`, and the user message. `{{name}}` stands for what is filled in. The system
message is the same for all questions of a run, so that a provider can cache it.
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
from hybrid_sim.llm.question import Message

_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")
_DIVIDER = re.compile(r"^---[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Words:
    """The words of the prompt `name`: a system message and a user message with placeholders.

    >>> words = Words("greet", "Answer in JSON.", "Greet {{person}}.")
    >>> [message.content for message in words.messages(person="Ada {{person}}")]
    ['Answer in JSON.', 'Greet Ada {{person}}.']
    """

    name: str
    system: str
    user: str

    def messages(self, **values: str) -> tuple[Message, Message]:
        """The two messages with every placeholder replaced once; what is filled in is not looked at again.

        Raises:
            KeyError: a placeholder has no value.
        """
        return Message("system", _filled(self.system, values)), Message("user", _filled(self.user, values))

    def version(self, schema: Mapping[str, Any]) -> str:
        """Twelve hexadecimal digits of SHA-256 over the words and the schema of the reply."""
        content = json.dumps([self.system, self.user, schema], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode("ascii")).hexdigest()[:12]

    def label(self, schema: Mapping[str, Any]) -> str:
        """Name and version, which is how a question names the prompt that made it."""
        return f"{self.name}@{self.version(schema)}"


def load_words(name: str, folder: Path | None = None) -> Words:
    """The words of the prompt `name`: from `folder/<name>.txt` where that exists, else from the package.

    Files of a user's folder are named as those of the package and use the same placeholders in the same messages.
    Hidden files are passed over.

    Raises:
        SettingsError: `folder` cannot be read or holds a file of another name, or a file is not UTF-8, has not two
            messages, or lacks or adds a placeholder.
    """
    file = resources.files(__package__).joinpath(f"{name}.txt")
    own = _parsed(name, file.read_text(encoding="utf-8"), f"{name}.txt of the package")
    place = None if folder is None else _place(name, folder)
    if place is None:
        return own
    words = _parsed(name, _read(place), str(place))
    for part in ("system", "user"):
        _compare(place, part, getattr(words, part), getattr(own, part))
    return words


def known_words() -> list[str]:
    """The names of all prompts."""
    names = (entry.name for entry in resources.files(__package__).iterdir())
    return sorted(name.removesuffix(".txt") for name in names if name.endswith(".txt"))


def _place(name: str, folder: Path) -> Path | None:
    """The user's file for a prompt, None where there is none; all files of the folder must have known names."""
    expected = [f"{known}.txt" for known in known_words()]
    try:
        found = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise SettingsError(f"prompts = {folder}: cannot be read ({error.strerror}); name a folder") from error
    for other in found:
        if other not in expected:
            raise SettingsError(f"{folder / other}: there is no prompt of this name; {nearest(other, expected)}")
    return folder / f"{name}.txt" if f"{name}.txt" in found else None


def _read(place: Path) -> str:
    try:
        return place.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{place}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise SettingsError(f"{place}: cannot be read ({error.strerror})") from error


def _parsed(name: str, text: str, place: str) -> Words:
    parts = [part.strip() for part in _DIVIDER.split(text.removeprefix("\ufeff"))]
    if len(parts) != 2 or not all(parts):
        raise SettingsError(f"{place}: expected the system message, one line ---, and the user message")
    return Words(name, *parts)


def _compare(place: Path, part: str, text: str, original: str) -> None:
    """A message of the user's uses exactly the placeholders of the message that it replaces."""
    used, expected = (dict.fromkeys(_PLACEHOLDER.findall(words)) for words in (text, original))
    for name in used:
        if name not in expected:
            raise SettingsError(
                f"{place}: the {part} message has no placeholder {{{{{name}}}}}; {nearest(name, expected)}"
            )
    for name in expected:
        if name not in used:
            raise SettingsError(f"{place}: the {part} message lacks the placeholder {{{{{name}}}}}; put it in")


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
