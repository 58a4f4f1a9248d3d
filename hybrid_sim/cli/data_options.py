"""Options that say which data is meant, and reading it; shared by `bench` and `fit`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_sim.cli.parsing import Parser, one_of, whole_number, words_list
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.core.settings import EnsembleSettings
    from hybrid_sim.data.tables import ColumnMap
    from hybrid_sim.simulation.simulator import Simulator

COLUMNS = ("user", "item", "rating", "timestamp", "title", "year", "genres", "overview", "items_id", "users_id")
"""What the column options `--user-col` ... name."""

COLUMN_HELP = {
    "user": "name of a column; likewise --item-col, --rating-col, --title-col, --year-col, --genres-col, "
    "--overview-col",
    "timestamp": "likewise; '' reads no times",
    "items_id": "the ids in --items, where they are called otherwise than in --ratings; likewise --users-id-col",
}
"""One line of help for all column options and one for what is special."""


def add_data_options(parser: Parser) -> None:
    """Options that choose a known data set or a table of the user's own."""
    known: Any = parser.add_argument_group("a known data set")  # argparse declares no functions as help
    known.add_argument("--dataset", metavar="NAME", help=_dataset_names)
    known.add_argument("--data", metavar="DIR", type=Path, help="where it is (else HYBRID_SIM_DATA, else the cache)")
    own = parser.add_argument_group("or your own tables (CSV, Parquet, JSON; packed or not)")
    own.add_argument(
        "--ratings", metavar="FILE", type=Path, help="a row per rating: user_id, item_id, rating[, timestamp]"
    )
    own.add_argument(
        "--items", metavar="FILE", type=Path, help="a row per item: item_id, title, year, genres, overview"
    )
    own.add_argument("--users", metavar="FILE", type=Path, help="a row per user: user_id, age, gender, occupation")
    own.add_argument("--scale", help="low:high, low:high:step or levels as in 1,2,3; else detected (--scale=-1,1)")
    own.add_argument("--duplicates", type=one_of(("last", "mean", "error")), default="last",
                     metavar="last|mean|error", help="what counts where a pair is repeated")  # fmt: skip
    own.add_argument("--encoding", default="utf-8", help="of text files (default utf-8)")
    own.add_argument("--delimiter", metavar="MARK", type=_delimiter, help="between fields of text (default: detected)")
    own.add_argument("--unrated", metavar="0,99", type=_numbers, default=(),
                     help="ratings that stand for none: such rows are left out (nan: empty cells)")  # fmt: skip
    own.add_argument("--round", action="store_true", help="ratings between levels of --scale are the nearest level")
    own.add_argument("--missing-ids", type=one_of(("refuse", "drop", "keep")), default="refuse",
                     metavar="refuse|drop|keep", help="rows with an id such as nan, NULL or nothing")  # fmt: skip
    own.add_argument("--no-header", action="store_const", const=[], dest="header",
                     help="the first row of --ratings is a rating: user, item, rating[, timestamp]")  # fmt: skip
    own.add_argument("--columns", metavar="NAME,...", type=words_list, dest="header",
                     help="names of the columns of --ratings, which has no header; likewise --items-columns, "
                     "--users-columns")  # fmt: skip
    for table in ("items", "users"):
        own.add_argument(f"--{table}-columns", metavar="NAME,...", type=words_list, help=argparse.SUPPRESS)
    own.add_argument("--genres-delimiter", metavar="MARK", type=_delimiter, help="between genres (default: detected)")
    for column in COLUMNS:
        option = f"--{column.replace('_', '-')}-col"
        own.add_argument(option, metavar="NAME", help=COLUMN_HELP.get(column, argparse.SUPPRESS))
    own.add_argument("--item-feature", metavar="COL", action="append", default=[], help="a further column of --items")
    own.add_argument("--user-feature", metavar="COL", action="append", default=[], help="a further column of --users")
    texts = parser.add_argument_group("texts of films")
    texts.add_argument(
        "--tmdb",
        metavar="FILE|none",
        default="auto",
        help="a table of TMDB texts to add (movie_id, overview, ...); default: the movies_tmdb.parquet that lies with "
        "a known data set, if any",
    )
    texts.add_argument(
        "--tmdb-votes", action="store_true", help="also TMDB's votes, gathered after the ratings (a leak)"
    )


def add_run_options(parser: Any, without: bool = True) -> None:
    """Options of everything that is fitted; those that leave out components by themselves have no `without`."""
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of everything random (default 0)")
    parser.add_argument("--members", metavar="svd,...", type=words_list, help=_members_help)
    if without:
        parser.add_argument("--without", metavar="boosted,...", type=words_list, help=_without_help)
    parser.add_argument("--jobs", metavar="N", type=whole_number(1), help="parallel workers (default: all CPUs)")


def _members_help() -> str:
    from hybrid_sim.models.registry import registered_members

    members = [member for _, member in registered_members()]
    names, further = (", ".join(m.name for m in members if m.default is default) for default in (True, False))
    return f"raters of the hybrid's ensemble, of {names} (default all) and {further}"


def _without_help() -> str:
    from hybrid_sim.ensemble.components import WITH_LLM, components

    names = ", ".join(name for name in components() if name not in WITH_LLM)
    return f"components or raters to leave out: {names}"


def new_simulator(options: argparse.Namespace, ensemble: EnsembleSettings | None = None) -> Simulator:
    """A simulator as the options say, else as the settings do; it is not fitted yet."""
    from hybrid_sim.simulation.simulator import Simulator

    members = options.members or (ensemble.members if ensemble else None)
    without = options.without or (ensemble.without if ensemble else ())
    return Simulator(options.seed, members and tuple(members), n_jobs=options.jobs, without=tuple(without))


def chosen_simulator(options: argparse.Namespace, ensemble: EnsembleSettings) -> Simulator:
    """The fitted simulator that --fitted names, else a new one.

    Raises:
        SettingsError: a fitted simulator cannot have the members that the options name.
    """
    from hybrid_sim.ensemble.components import WITH_LLM
    from hybrid_sim.simulation.simulator import Simulator

    new = new_simulator(options, ensemble)
    if options.fitted is None:
        return new
    if new.members is not None or set(new.without) - set(WITH_LLM):
        raise SettingsError("--fitted: what is saved has its members; leave --members and --without out")
    fitted = Simulator.load(options.fitted)
    fitted.without, fitted.n_jobs = (*fitted.without, *new.without), options.jobs
    return fitted


def read_data(options: argparse.Namespace, default: str | None = None) -> Dataset:
    """The dataset that the options name; `default` is the known one that is meant where they name none.

    Raises:
        SettingsError: they name none or two, or it is not found.
        DataError: a file is damaged.
    """
    if options.dataset is None and options.ratings is None and options.data is None:
        options.dataset = default
    if (options.ratings is None) == (options.dataset is None):
        raise SettingsError("name the data: either --dataset NAME (for example world) or --ratings FILE")
    if options.tmdb_votes and options.tmdb in ("auto", "none"):
        raise SettingsError("--tmdb-votes needs the table: --tmdb FILE")
    return _read_known(options) if options.ratings is None else _read_own(options)


def _delimiter(word: str) -> str:
    """A delimiter, which may be named where a shell makes it hard to write."""
    return {"tab": "\t", "\\t": "\t", "blank": " ", "space": " "}.get(word, word)


def _numbers(word: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        return tuple(float(part) for part in word.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is no list of numbers, as in 0 or -1,99") from error


def _dataset_names() -> str:
    from hybrid_sim.data.sources import DATASETS

    return f"one of {', '.join(DATASETS)}; world is synthetic"


def _read_known(options: argparse.Namespace) -> Dataset:
    from hybrid_sim.data.sources import load

    of_tables = ("items", "users", "scale", "item_feature", "user_feature", "delimiter", "unrated", "round", "header",
                 "items_columns", "users_columns", "genres_delimiter")  # fmt: skip
    for option in (*of_tables, *(f"{column}_col" for column in COLUMNS)):
        if getattr(options, option) not in (None, [], (), False):
            raise SettingsError(f"--{option.replace('_', '-')} belongs to --ratings FILE, not to --dataset")
    tmdb = None if options.tmdb == "none" else options.tmdb
    return load(options.dataset, options.data, tmdb=tmdb, tmdb_votes=options.tmdb_votes)


def _read_own(options: argparse.Namespace) -> Dataset:
    from hybrid_sim.data.scales import parse_scale
    from hybrid_sim.data.tables import read_dataset
    from hybrid_sim.data.tmdb import add_tmdb, read_tmdb

    columns = _column_map(options)
    dataset = read_dataset(
        options.ratings,
        options.items,
        options.users,
        columns,
        None if options.scale is None else parse_scale(options.scale),
        options.duplicates,
        encoding=options.encoding,
        delimiter=options.delimiter,
        header=options.header,
        items_header=options.items_columns,
        users_header=options.users_columns,
        unrated=options.unrated,
        rounded=options.round,
        missing_ids=options.missing_ids,
    )
    if options.item_feature:
        from hybrid_sim.new_items.leakage import warn_of_leaks

        warn_of_leaks(dataset, options.item_feature)
    if options.tmdb in ("auto", "none"):
        return dataset
    return add_tmdb(dataset, read_tmdb(options.tmdb), votes=options.tmdb_votes)


def _column_map(options: argparse.Namespace) -> ColumnMap:
    from hybrid_sim.data.tables import ColumnMap

    named = {column: getattr(options, f"{column}_col") for column in COLUMNS}
    chosen: dict[str, Any] = {column: name or None for column, name in named.items() if name is not None}
    for column, name in chosen.items():
        if name is None and column != "timestamp":
            raise SettingsError(f"--{column}-col is empty; name the column")
    chosen |= {"genres_delimiter": options.genres_delimiter, "item_features": tuple(options.item_feature)}
    columns = replace(ColumnMap(), **chosen)
    return replace(columns, user_features=tuple(options.user_feature)) if options.user_feature else columns
