"""Options of commands that judge: which ratings are held out, and recorded LLM ratings of them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.parsing import AddOption, refuse_options, whole_number
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.evaluation.protocols import Fold, Protocol
    from hybrid_sim.models.recorded import RecordedRatings

DEFAULT, DEFAULT_UNTIMED = "user-temporal", "kfold"
"""The protocol where none is named, and where a table has no times either."""

_log = logging.getLogger("hybrid_sim")


def protocols_help() -> str:
    """A line per protocol."""
    from hybrid_sim.evaluation.protocols import PROTOCOLS

    needs = {True: "; needs timestamps", False: ""}
    return "\n".join(f"  {name:17} {entry.help}{needs[entry.needs_times]}" for name, entry in PROTOCOLS.items())


def add_protocol_options(option: AddOption, folds: str | None = None, also: Sequence[str] = ()) -> None:
    """Options that say what is held out; `folds` is what is meant where no folds are named (None: all).

    `also` are further names that --protocol takes, which are no protocols.
    """
    option("--protocol NAME", _protocol_help, lambda name: name if name in also else _protocol(name))
    option("--folds 1,2", f"only these folds (default {folds or 'all'})", default=folds)
    option("--known N", _known_help, whole_number(0))


def _protocol(name: str) -> str:
    """A name that is registered; the registry is not loaded for the default, so that mistakes are answered at once."""
    if name != DEFAULT:
        from hybrid_sim.evaluation.protocols import PROTOCOLS

        _ = PROTOCOLS[name]
    return name


def _protocol_help() -> str:
    from hybrid_sim.evaluation.protocols import PROTOCOLS

    return f"one of {', '.join(PROTOCOLS)} (default {DEFAULT}, without times {DEFAULT_UNTIMED})"


def _known_help() -> str:
    return f"{_protocols_with('known')}: ratings known of a held-out user (default 0)"


def _protocols_with(option: str) -> str:
    from hybrid_sim.evaluation.protocols import PROTOCOLS

    return ", ".join(name for name, entry in PROTOCOLS.items() if option in entry.options)


def read_protocol(options: argparse.Namespace, dataset: hs.Dataset) -> Protocol:
    """The protocol that the options name, on this dataset.

    Raises:
        SettingsError: a fold is not known, or an option belongs to another protocol.
        DataError: the data has no times and the protocol needs them.
    """
    from hybrid_sim.evaluation.protocols import PROTOCOLS, make_protocol, parse_folds

    name = options.protocol
    if name is None:
        name = DEFAULT_UNTIMED if options.ratings and dataset.timestamp is None else DEFAULT
        if name != DEFAULT:
            _log.warning("%s has no times: the protocol is %s; name times with --timestamp-col", dataset.name, name)
    if options.known is not None and "known" not in PROTOCOLS[name].options:
        raise SettingsError(f"--known belongs to the protocol {_protocols_with('known')}, not to {name}; leave it out")
    return make_protocol(
        name,
        dataset,
        folds=None if options.folds is None else parse_folds(options.folds),
        data=options.data,
        known=options.known or 0,
        seed=options.seed,
        shuffle_untimed=options.ratings is None,
    )


def read_fold(options: argparse.Namespace, dataset: hs.Dataset) -> tuple[Protocol, Fold]:
    """The protocol and the single fold of it that the options name.

    Raises:
        SettingsError: they name several, or as `read_protocol`.
        DataError: the data has no times and the protocol needs them.
    """
    protocol = read_protocol(options, dataset)
    if len(protocol.splits) != 1:
        raise SettingsError(f"--folds {options.folds}: one fold is meant; name one")
    return protocol, next(protocol.folds())


def add_recording_options(option: AddOption) -> None:
    """Options that name recorded LLM ratings."""
    tables = "tables with user_id, item_id and rating, or a folder of ratings_u<k>.csv"
    option("--llm-ratings FILE", tables, Path, nargs="+", action="extend", default=[])
    for column in ("user", "item", "rating"):
        option(f"--llm-{column}-col NAME", "name of the column, where it is not found")
    option("--llm-model VALUE", "only rows with this value in the column model")


def read_recording(
    options: argparse.Namespace, dataset: hs.Dataset, files: Sequence[Path] | None = None
) -> RecordedRatings | None:
    """The recorded LLM ratings in `files` (None: those that the options name), None where there are none."""
    files = options.llm_ratings if files is None else files
    if not options.llm_ratings:
        named = ("llm_user_col", "llm_item_col", "llm_rating_col", "llm_model")
        refuse_options(options, named, "belongs to --llm-ratings FILE")
    if not files:
        return None
    from hybrid_sim.data.recordings import RecordingColumns, read_recordings

    columns = RecordingColumns(options.llm_user_col, options.llm_item_col, options.llm_rating_col, options.llm_model)
    return read_recordings(files, dataset, columns)
