"""Parsing of words into options: mistakes are answered with the nearest thing that exists."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of leaving the program, and never guesses abbreviations."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(message if message.endswith("?") else f"{message}; see {self.prog} --help")

    def option_names(self) -> list[str]:
        """All options that this command knows."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """The options, with `run` set to what the command does.

    Raises:
        SettingsError: the command or an option is not known, or a value is refused.
    """
    commands = _commands(parser)
    command = next((word for word in words if not word.startswith("-")), None)
    if command is not None and command not in commands:
        raise SettingsError(f"there is no command {command!r}; {nearest(command, commands)}")
    options, unknown = parser.parse_known_args(words)
    if unknown:
        asked = parser if options.command is None else commands[options.command]
        raise SettingsError(f"there is no option {unknown[0]!r}; {nearest(unknown[0], asked.option_names())}")
    return options if command else argparse.Namespace(run=lambda _: _show_help(parser), quiet=False)


def add_common(parser: Parser) -> None:
    """Options of every command."""
    parser.add_argument("--quiet", action="store_true", help="show warnings and errors only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """A converter that lets only `known` words pass."""

    def convert(word: str) -> str:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is not known; {nearest(word, known)}")
        return word

    return convert


def whole_number(low: int) -> Callable[[str], int]:
    """A converter for whole numbers from `low` upwards."""

    def convert(word: str) -> int:
        if not (word.isascii() and word.isdigit() and int(word) >= low):
            raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from {low} upwards")
        return int(word)

    return convert


def words_list(text: str) -> list[str]:
    """Words between commas, without spaces around them."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _commands(parser: Parser) -> dict[str, Parser]:
    action = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


def _show_help(parser: Parser) -> int:
    parser.print_help()
    return 0
