"""Which (user, item) pairs are asked about: a file of them, or chosen users times chosen items."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.parsing import AddOption
from hybrid_sim.core.errors import DataError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Ids = NDArray[np.object_]

_log = logging.getLogger("hybrid_sim")

MAX_PAIRS = 20_000_000


def add_pairs_file(option: AddOption, required: bool) -> None:
    """The option that names a file of pairs, and those that name its columns."""
    option("--pairs FILE", "CSV, Parquet or JSON lines", Path, required=required)
    option("--pairs-user-col NAME", "default user_id", default="user_id")
    option("--pairs-item-col NAME", "default item_id", default="item_id")


def add_pair_choice(option: AddOption) -> None:
    """Options that choose users and items by id instead."""
    option("--user ID", "a user, again for more; all; or random:N", action="append")
    option("--item ID", "an item, again for more; all; or random:N", action="append")


def read_pairs(options: argparse.Namespace) -> tuple[Ids, Ids]:
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


def choose_pairs(options: argparse.Namespace, dataset: hs.Dataset) -> tuple[Ids, Ids]:
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
        users = _ids("--user", options.user, dataset.users, options.seed)
        items = _ids("--item", options.item, dataset.items, options.seed)
        if len(users) * len(items) > MAX_PAIRS:
            raise SettingsError(f"more than {MAX_PAIRS:,} pairs at once; name fewer users or items")
        users, items = np.repeat(users, len(items)), np.tile(items, len(users))
    if not len(users):
        raise DataError(f"{options.pairs or 'the data set'}: holds no pairs, so there is nothing to simulate")
    return users, items


def _ids(option: str, words: Sequence[str], frame: pd.DataFrame, seed: int) -> Ids:
    """The ids in the index of the frame that the words stand for: ids themselves, `all`, or `random:N`."""
    import numpy as np

    from hybrid_sim.core.seeding import stream

    ids = frame.index.to_numpy(dtype=object)
    if words == ["all"]:
        return ids
    for word in words:
        if len(words) > 1 and (word == "all" or word.startswith("random:")):
            raise SettingsError(f"{option} {word}: stands alone; name ids, or all, or random:N")
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise SettingsError(f"{option} {word!r}: is no valid Unicode; ids are texts")
    if len(words) == 1 and words[0].startswith("random:"):
        number = words[0].removeprefix("random:")
        if not (number.isascii() and number.isdigit() and 0 < int(number) <= len(ids)):
            raise SettingsError(f"{option} {words[0]}: is written random:N with N from 1 to {len(ids)}")
        rows = stream(seed, "chosen", option).choice(len(ids), int(number), replace=False)
        return np.asarray(ids[np.sort(rows)])
    unknown = [word for word in words if word not in frame.index]
    if unknown:
        raise SettingsError(
            f"{option} {unknown[0]}: the data has no such id, it has for example {ids[0]}; ids that it does not "
            "know can be named in a file (--pairs FILE)"
        )
    return np.array(list(dict.fromkeys(words)), dtype=object)


def report_sources(sources: Ids) -> None:
    """Say how many answers rest on less than user and item."""
    weaker = {name: n for name in ("user", "item", "global") if (n := int((sources == name).sum()))}
    if weaker:
        _log.warning(
            "%d of %d pairs hold an id that the model does not know; answered from: %s",
            sum(weaker.values()),
            len(sources),
            ", ".join(f"{source} {count:,}" for source, count in weaker.items()),
        )
