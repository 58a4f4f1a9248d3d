"""`hybrid-sim info` and `hybrid-sim list`: what a saved model holds, and which members, models, ... there are."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, one_of
from hybrid_sim.cli.terminal import screen_width, show
from hybrid_sim.core.errors import SettingsError

INFO = """\
What a saved model holds: the data that it was fitted to, its members and settings, its accuracy out of fold (on
training ratings that it had not learned from), and the versions of the packages that saved it. MODEL_DIR is what `fit`
saved, or the folder of a run of `simulate` or `cold`, which holds a model.

  hybrid-sim info model
"""


def _add_info_options(parser: Parser) -> None:
    parser.option("model MODEL_DIR", "what `fit` saved, or the folder of a run", Path)
    parser.option("--json", "everything as JSON")


def _info(options: argparse.Namespace) -> int:
    """Read the model and show its facts."""
    import hybrid_sim as hs
    from hybrid_sim.core.model_files import MANIFEST, read_manifest

    folders = [options.model, options.model / "simulator", *sorted(options.model.glob("refitted-*"))]
    folder = next((place for place in folders if (place / MANIFEST).is_file()), options.model)
    facts: dict[str, Any] = {**hs.load(folder).facts(), "packages": read_manifest(folder)["packages"]}
    if options.json:
        sys.stdout.write(f"{json.dumps({'model': str(folder), **facts}, indent=1)}\n")
    else:
        show(f"model: {folder}", *(line for name, value in facts.items() for line in _lines(name, value)))
    return 0


def _lines(name: str, value: Any) -> list[str]:
    """One fact, wrapped at the width of the terminal."""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {amount:.4f}" if isinstance(amount, float) else f"{key} {amount}"
                          for key, amount in value.items())  # fmt: skip
    text = ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}" if type(value) is int else str(value)
    return textwrap.wrap(f"{name}: {text or 'none'}", screen_width(), subsequent_indent="  ")


def _members() -> Iterator[tuple[str, str]]:
    from hybrid_sim.ensemble.components import members_of
    from hybrid_sim.models.registry import registered_members

    owner = {member: name for name, members in members_of().items() for member in members}
    for entry, member in registered_members():
        component = f"component {owner[member.name]}" if member.name in owner else "always there"
        use = "" if member.default else ", only where it is named"
        yield member.name, f"{component}{use}: {_summary(entry.rater_class)}"


def _models() -> Iterator[tuple[str, str]]:
    from hybrid_sim.evaluation.bench import BASELINES, HYBRID, LLM_NOTES
    from hybrid_sim.models import RATERS

    yield from ((name, _summary(RATERS[name].rater_class)) for name in BASELINES)
    yield HYBRID, "the ensemble of all members"
    yield from LLM_NOTES.items()


def _components() -> Iterator[tuple[str, str]]:
    from hybrid_sim.ensemble.components import components

    yield from components().items()


def _protocols() -> Iterator[tuple[str, str]]:
    from hybrid_sim.evaluation.protocols import PROTOCOLS

    for name, entry in PROTOCOLS.items():
        yield name, f"{entry.help}{'; needs timestamps' if entry.needs_times else ''}"


def _datasets() -> Iterator[tuple[str, str]]:
    from hybrid_sim.data.sources import DATASETS

    for name, source in DATASETS.items():
        how = "made up, needs no files" if not source.marker else f"from files: {source.marker}"
        yield name, "fetched by `hybrid-sim data get`" if source.archive else how


def _summary(thing: Any) -> str:
    """The first sentence of a docstring."""
    return " ".join((thing.__doc__ or "").partition("\n\n")[0].split())


LISTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "members": _members,
    "models": _models,
    "components": _components,
    "protocols": _protocols,
    "datasets": _datasets,
}
"""What can be listed: names and what they are."""

LIST = f"""\
Names that options take, and what they are: {", ".join(LISTS)}.

  hybrid-sim list members      for --members and --without
  hybrid-sim list models       for bench --models
  hybrid-sim list components   for --without and ablate --components
  hybrid-sim list protocols    for --protocol
  hybrid-sim list datasets     for --dataset
"""


def _add_list_options(parser: Parser) -> None:
    parser.option("what NAME", f"one of {', '.join(LISTS)}", one_of(tuple(LISTS)))


def _list(options: argparse.Namespace) -> int:
    """Show the names, each with what it is."""
    rows = list(LISTS[options.what]())
    if not rows:
        raise SettingsError(f"there are no {options.what}")
    indent = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        show(*textwrap.wrap(f"{name:<{indent}}{text}", screen_width(), subsequent_indent=" " * indent))
    return 0


COMMANDS.add("info", Command("what a saved model holds", INFO, _add_info_options, _info, "inspect"))
COMMANDS.add("list", Command("names of members, models, protocols, ...", LIST, _add_list_options, _list, "set up"))
