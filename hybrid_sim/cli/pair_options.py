"""Which (user, item) pairs are asked about: a file of them, or chosen users times chosen items."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.core.errors import DataError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from hybrid_sim.core.dataset import Dataset

_log = logging.getLogger("hybrid_sim")

MAX_PAIRS = 20_000_000


def add_pairs_file(parser: Any, required: bool) -> None:
    """The option that names a file of pairs, and those that name its columns."""
    parser.add_argument("--pairs", metavar="FILE", type=Path, required=required, help="CSV, Parquet or JSON lines")
    parser.add_argument("--pairs-user-col", metavar="NAME", default="user_id", help="default user_id")
    parser.add_argument("--pairs-item-col", metavar="NAME", default="item_id", help="default item_id")


def add_pair_choice(parser: Any) -> None:
    """Options that choose users and items by id instead."""
    for noun in ("user", "item"):
        parser.add_argument(
            f"--{noun}",
            metavar="ID",
            action="append",
            help=f"{'an' if noun == 'item' else 'a'} {noun}, again for more; all; or random:N",
        )


def read_pairs(options: argparse.Namespace) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """The ids of the pairs file, row by row, exactly as they stand.

    Raises:
        DataError: a column is missing or a row is damaged.
    """
    from hybrid_sim.data.columns import read_table

    columns = {"--pairs-user-col": options.pairs_user_col, "--pairs-item-col": options.pairs_item_col}
    table = read_table(options.pairs, wanted=list(columns.values()))
    for option, column in columns.items():
        table.require(column, option)
    users, items = (table.ids(column) for column in columns.values())
    return users.names[users.codes], items.names[items.codes]


def choose_pairs(options: argparse.Namespace, dataset: Dataset) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """The pairs of the file, or every chosen user with every chosen item.

    Raises:
        SettingsError: neither or both were given, or there are too many pairs.
        DataError: the file is damaged, or empty.
    """
    import numpy as np

    if options.pairs is not None:
        if options.user or options.item:
            raise SettingsError("name the pairs once: either --pairs FILE, or --user and --item")
        users, items = read_pairs(options)
    else:
        if not (options.user and options.item):
            raise SettingsError("say which pairs: --pairs FILE, or --user and --item (an id, all, random:20)")
        chosen = (
            _ids("--user", options.user, dataset.users, options),
            _ids("--item", options.item, dataset.items, options),
        )
        if len(chosen[0]) * len(chosen[1]) > MAX_PAIRS:
            raise SettingsError(f"more than {MAX_PAIRS:,} pairs at once; name fewer users or items")
        users, items = np.repeat(chosen[0], len(chosen[1])), np.tile(chosen[1], len(chosen[0]))
    if not len(users):
        raise DataError(f"{options.pairs or 'the data set'}: holds no pairs, so there is nothing to simulate")
    return users, items


def _ids(option: str, words: Sequence[str], frame: pd.DataFrame, options: argparse.Namespace) -> NDArray[np.object_]:
    import numpy as np

    from hybrid_sim.core.seeding import stream

    known = frame.index.to_numpy(dtype=object)
    if words == ["all"]:
        return known
    for word in words:
        if len(words) > 1 and (word == "all" or word.startswith("random:")):
            raise SettingsError(f"{option} {word}: stands alone; name ids, or all, or random:N")
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise SettingsError(f"{option} {word!r}: is no valid Unicode; ids are texts")
    if len(words) == 1 and words[0].startswith("random:"):
        number = words[0].removeprefix("random:")
        if not (number.isascii() and number.isdigit() and 0 < int(number) <= len(known)):
            raise SettingsError(f"{option} {words[0]}: is written random:N with N from 1 to {len(known)}")
        rows = stream(options.seed, "chosen", option).choice(len(known), int(number), replace=False)
        return np.asarray(known[np.sort(rows)])
    return np.array(list(dict.fromkeys(words)), dtype=object)


def report_sources(sources: NDArray[np.object_]) -> None:
    """Say how many answers rest on less than user and item."""
    weaker = {name: n for name in ("user", "item", "global") if (n := int((sources == name).sum()))}
    if weaker:
        _log.warning(
            "%d of %d pairs hold an id that the model does not know; answered from: %s",
            sum(weaker.values()),
            len(sources),
            ", ".join(f"{source} {count:,}" for source, count in weaker.items()),
        )
