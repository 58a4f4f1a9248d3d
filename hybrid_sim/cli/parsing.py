"""Commands by name, and parsing of the command line; mistakes are answered with the nearest name."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any, NoReturn

from hybrid_sim import __version__
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.registry import Registry

TOPICS = ("evaluate", "simulate", "inspect", "set up", "other packages")
"""Sections of `hybrid-sim --help`, in order."""

EPILOG = """\
Options of a command: hybrid-sim COMMAND --help. Try first: hybrid-sim bench

Exit status: 0 done, 1 a defect of the program, 2 bad input or settings, 3 an endpoint or the network,
4 a budget or quota, 5 the disk, 6 done but some pairs failed, 130 interrupted.
"""


COLUMNS = re.compile(r" *\S.*?\S {2,}(?=\S)")
"""The first column of a line of two, with the space behind it."""

AddOption = Callable[..., None]
"""`add_option` for a parser or for a group of its options."""


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs and lines of two columns to the terminal; other indented lines (commands) stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled: list[str] = []
        for is_prose, group in groupby(text.splitlines(), key=lambda line: bool(line) and "  " not in line):
            lines = list(group)
            for line in [" ".join(lines)] if is_prose else lines:
                columns = COLUMNS.match(line)
                if columns is None and not is_prose:
                    filled.append(line)
                else:
                    hanging = " " * (columns.end() if columns else 0)
                    filled += wrap(line, width, subsequent_indent=hanging, break_on_hyphens=False)
        return "\n".join(f"{indent}{line}" for line in filled)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of leaving the program, and accepts no abbreviations.

    `help` of an argument, and the description, may be functions: they are called when the help is shown, so that names
    out of a registry are listed without importing its modules (and numpy) in every run.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **settings)
        self.option: AddOption = partial(add_option, self)

    def group(self, title: str) -> AddOption:
        """What adds options under this title of the help."""
        return partial(add_option, self.add_argument_group(title))

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(message if message.endswith("?") else f"{message}; see {self.prog} --help")

    def format_help(self) -> str:
        """The help text, with the functions in it called."""
        if callable(self.description):
            self.description = self.description()
        for action in self._actions:
            if callable(action.help):
                action.help = action.help()
        return super().format_help()

    @property
    def long_options(self) -> list[str]:
        """The options by their long names."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options.

        Raises:
            SettingsError: an option is not known, or a value is refused.
        """
        options, unknown = self.parse_known_args(words)
        if unknown:
            raise SettingsError(f"there is no option {unknown[0]!r}; {nearest(unknown[0], self.long_options)}")
        options.given = {
            action.dest: action.option_strings[-1]
            for action in self._actions
            if action.option_strings and getattr(options, action.dest, action.default) != action.default
        }
        return options


def add_option(
    group: Any, usage: str, help: str | Callable[[], str], type: Callable[[str], Any] | None = None, **settings: Any
) -> None:
    """Add an option as a usage line shows it: `-o --output DIR` has a value, `--replay` is a flag, `folder DIR` has no
    name on the command line. `settings` are further arguments of `add_argument`.
    """
    *names, last = usage.split()
    if last.startswith("-"):
        group.add_argument(*names, last, help=help, **{"action": "store_true", **settings})
    else:
        group.add_argument(*names, metavar=last, help=help, type=type, **settings)


@dataclass(frozen=True)
class Command:
    """A command: `help` is its line in `hybrid-sim --help`; `run` returns the exit status."""

    help: str
    description: str | Callable[[], str]
    add_options: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]
    topic: str = TOPICS[-1]


COMMANDS: Registry[Command] = Registry("command", "commands", ["hybrid_sim.cli"])
"""Each command is registered at the end of its module."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options of the command that `words` name, with `run` set to what it does.

    Only the parser of that command is built. Without a command, `run` shows the commands.

    Raises:
        SettingsError: the command or an option is not known, or a value is refused.
    """
    place = next((place for place, word in enumerate(words) if not word.startswith("-")), None)
    if place is None:
        parser = _overview()
        parser.parse(words)
        return argparse.Namespace(run=lambda _: _show(parser.format_help()), quiet=False)
    options = command_parser(words[place]).parse([*words[:place], *words[place + 1 :]])
    options.run = COMMANDS[words[place]].run
    return options


def command_parser(name: str) -> Parser:
    """The parser of a command.

    Raises:
        SettingsError: there is no such command.
    """
    command = COMMANDS[name]
    parser = Parser(prog=f"hybrid-sim {name}", description=command.description)
    command.add_options(parser)
    parser.add_argument("--quiet", action="store_true", help="show warnings and errors only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _overview() -> Parser:
    parser = Parser(
        prog="hybrid-sim",
        usage="hybrid-sim [-h] [--version] COMMAND ...",
        description="Simulate how users would rate items: a calibrated ensemble with a statistical fallback.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"hybrid-sim {__version__}")
    for topic in TOPICS:
        lines = [f"{name:10} {command.help}" for name, command in sorted(COMMANDS.items()) if command.topic == topic]
        if lines:
            parser.add_argument_group(topic, "\n".join(lines))
    return parser


def _show(text: str) -> int:
    sys.stdout.write(text)
    return 0


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """A converter that accepts only `names`."""

    def convert(word: str) -> str:
        if word not in names:
            raise argparse.ArgumentTypeError(f"{word!r} is not known; {nearest(word, names)}")
        return word

    return convert


def whole_number(low: int) -> Callable[[str], int]:
    """A converter for whole numbers from `low` upwards."""

    def convert(word: str) -> int:
        if not (word.isascii() and word.isdigit() and int(word) >= low):
            raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from {low} upwards")
        return int(word)

    return convert


def size_in_bytes(word: str) -> float:
    """A converter for sizes of memory.

    >>> size_in_bytes("8gb"), size_in_bytes("1.5 GiB")
    (8000000000.0, 1610612736.0)
    """
    parts = re.fullmatch(r"(\d+\.?\d*) ?([kmgt])(i?)b?", word.strip().lower(), re.ASCII)
    if parts is None or not float(parts[1]):
        raise argparse.ArgumentTypeError(f"{word!r} is no size of memory, as in 8GB or 500MB")
    unit = 1024.0 if parts[3] else 1000.0
    return float(parts[1]) * float(unit ** ("kmgt".index(parts[2]) + 1))


def check_output(option: str, target: Path | None, *sources: Path) -> None:
    """Refuse at once what cannot be written, or would replace what it is made from; nothing for None.

    Raises:
        SettingsError: there can be no such file, or it is one of `sources`.
    """
    if target is None:
        return
    folder = target.absolute().parent
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(f"{option} {target}: cannot be written; name a file in a folder that exists")
    if target.exists() and any(source.exists() and target.samefile(source) for source in sources):
        raise SettingsError(f"{option} {target}: would replace what it is made from; name another file")


def refuse_options(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Refuse options that would do nothing; `names` are their attributes, `reason` says what they belong to.

    Raises:
        SettingsError: one of them was given.
    """
    for name in names:
        if name in options.given:
            raise SettingsError(f"{options.given[name]} {reason}; leave it out")


def words_list(text: str) -> list[str]:
    """Words between commas, without spaces around them."""
    return [word.strip() for word in text.split(",") if word.strip()]
