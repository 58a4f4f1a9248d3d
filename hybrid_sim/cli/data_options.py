"""Options that say which data is meant and what is fitted, and what they stand for: a dataset, a simulator."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hybrid_sim as hs
from hybrid_sim.cli.parsing import AddOption, Parser, one_of, refuse_options, whole_number, words_list
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest

if TYPE_CHECKING:
    from hybrid_sim.core.settings import EnsembleSettings

TRUTH_COLUMNS = ("user", "item", "rating")
"""Columns of a table of held-out ratings, which are named by the same options."""

COLUMNS = {
    "user": "column of user ids in --ratings (default user_id)",
    "item": "column of item ids in --ratings (default item_id)",
    "rating": "column of ratings (default rating)",
    "timestamp": "column of times (default timestamp); '' reads none",
    "title": "column of titles in --items (default title)",
    "year": "column of years in --items (default year)",
    "genres": "column of genres in --items (default genres)",
    "overview": "column of descriptions in --items (default overview)",
    "items_id": "column of ids in --items (default as in --ratings)",
    "users_id": "column of ids in --users (default as in --ratings)",
}
"""What the column options `--user-col` ... name, with their help."""

DELIMITERS = {"tab": "\t", "\\t": "\t", "blank": " ", "space": " "}
"""Delimiters by names that are easy to write in a shell."""


def add_data_options(parser: Parser) -> None:
    """Options that choose a known data set or a table of the user's own."""
    known = parser.group("a known data set")
    known("--dataset NAME", _dataset_names)
    known("--data DIR", "where it is (else HYBRID_SIM_DATA, else the cache)", Path)
    own = parser.group("or your own tables (CSV, Parquet, JSON; packed or not)")
    own("--ratings FILE", "a row per rating: user_id, item_id, rating[, timestamp]", Path)
    own("--items FILE", "a row per item: item_id, title, year, genres, overview", Path)
    own("--users FILE", "a row per user: user_id, age, gender, occupation", Path)
    own("--scale SCALE", "low:high, low:high:step or levels as in 1,2,3; else detected (--scale=-1,1)")
    duplicates = one_of(("last", "mean", "error"))
    own("--duplicates last|mean|error", "what counts where a pair is repeated", duplicates, default="last")
    own("--encoding ENCODING", "of text files (default utf-8)", default="utf-8")
    own("--delimiter MARK", "between fields of text (default: detected)", _delimiter)
    unrated = "ratings that stand for none: such rows are left out (nan: empty cells)"
    own("--unrated 0,99", unrated, _numbers, default=())
    own("--round", "ratings between levels of --scale are the nearest level")
    missing = one_of(("refuse", "drop", "keep"))
    own("--missing-ids refuse|drop|keep", "rows with an id such as nan, NULL or nothing", missing, default="refuse")
    untitled = "the first row of --ratings is a rating: user, item, rating[, timestamp]"
    own("--no-header", untitled, action="store_const", const=[], dest="header")
    columns = "names of the columns of --{}, which has no header"
    own("--columns NAME,...", columns.format("ratings"), words_list, dest="header")
    for table in ("items", "users"):
        own(f"--{table}-columns NAME,...", columns.format(table), words_list)
    own("--genres-delimiter MARK", "between genres (default: detected)", _delimiter)
    for column, meaning in COLUMNS.items():
        own(f"--{column.replace('_', '-')}-col NAME", meaning)
    own("--item-feature COL", "a further column of --items", action="append", default=[])
    own("--user-feature COL", "a further column of --users", action="append", default=[])
    texts = parser.group("texts of films")
    texts(
        "--tmdb FILE|none",
        "a table of TMDB texts to add (movie_id, overview, ...); default: the movies_tmdb.parquet that lies with a "
        "known data set, if any",
        default="auto",
    )
    texts("--tmdb-votes", "also TMDB's votes, gathered after the ratings (a leak)")


def add_run_options(option: AddOption, without: bool = True) -> None:
    """Options of everything that is fitted; those that leave out components by themselves have no `without`."""
    option("--seed SEED", "of everything random (default 0)", whole_number(0), default=0)
    option("--members svd,...", _members_help, _members)
    if without:
        option("--without boosted,...", _without_help, _without)
    option("--jobs N", "parallel workers (default: all CPUs)", whole_number(1))
    option("--no-cache", "fit anew: read no fit from the user's cache folder (or HYBRID_SIM_CACHE) and keep none there")


def _members(text: str) -> list[str]:
    """Names of members, checked before anything is read or fitted."""
    from hybrid_sim.ensemble.components import LIGHT, with_sets
    from hybrid_sim.models.registry import registered_members

    words, names = words_list(text), [member.name for _, member in registered_members()]
    for word in with_sets(words) or ():
        if word not in names:
            raise SettingsError(f"--members: there is no member {word!r}; {nearest(word, [*names, LIGHT])}")
    return words


def _without(text: str) -> list[str]:
    """Names of components or members, checked before anything is read or fitted."""
    from hybrid_sim.ensemble.components import switched
    from hybrid_sim.models.registry import registered_members

    words = words_list(text)
    switched([member.name for _, member in registered_members()], words)
    return words


def _delimiter(word: str) -> str:
    return DELIMITERS.get(word, word)


def _numbers(word: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        return tuple(float(part) for part in word.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is no list of numbers, as in 0 or -1,99") from error


def _dataset_names() -> str:
    from hybrid_sim.data.sources import DATASETS

    return f"one of {', '.join(DATASETS)}; world is synthetic"


def _members_help() -> str:
    from hybrid_sim.models.registry import registered_members

    members = [member for _, member in registered_members()]
    names, further = (", ".join(m.name for m in members if m.default is default) for default in (True, False))
    light = ", ".join(member.name for member in members if member.light)
    return f"raters of the hybrid's ensemble, of {names} (default all) and {further}; light stands for {light}"


def _without_help() -> str:
    from hybrid_sim.ensemble.components import WITH_LLM, components

    names = ", ".join(name for name in components() if name not in WITH_LLM)
    return f"components or raters to leave out: {names}"


def new_simulator(options: argparse.Namespace, ensemble: EnsembleSettings | None = None) -> hs.Simulator:
    """A simulator as the options say, else as the settings do; it is not fitted yet."""
    members = options.members or (ensemble.members if ensemble else None)
    without = options.without or (ensemble.without if ensemble else ())
    return hs.Simulator(options.seed, members and tuple(members), n_jobs=options.jobs, without=tuple(without))


def chosen_simulator(options: argparse.Namespace, ensemble: EnsembleSettings) -> hs.Simulator:
    """The fitted simulator that --fitted names, else a new one.

    Raises:
        SettingsError: a fitted simulator cannot have the members that the options name.
    """
    from hybrid_sim.ensemble.components import WITH_LLM

    new = new_simulator(options, ensemble)
    if options.fitted is None:
        return new
    if new.members is not None or set(new.without) - set(WITH_LLM):
        raise SettingsError("--fitted: what is saved has its members; leave --members and --without out")
    fitted = hs.load(options.fitted)
    fitted.without, fitted.n_jobs = (*fitted.without, *new.without), options.jobs
    return fitted


def read_data(options: argparse.Namespace) -> hs.Dataset:
    """The dataset that the options name, else the synthetic world.

    Raises:
        SettingsError: they name two, or a folder alone, or the dataset is not found.
        DataError: a file is damaged.
    """
    if options.dataset is None and options.ratings is None and options.data is None:
        options.dataset = "world"
    if (options.ratings is None) == (options.dataset is None):
        raise SettingsError("name the data: either --dataset NAME (for example world) or --ratings FILE")
    if options.tmdb_votes and options.tmdb in ("auto", "none"):
        raise SettingsError("--tmdb-votes needs the table: --tmdb FILE")
    return _read_known(options) if options.ratings is None else _read_own(options)


def truth_columns(options: argparse.Namespace) -> dict[str, str]:
    """Names of the columns of --truth: those of --ratings, as --user-col, --item-col and --rating-col name them."""
    named = {column: getattr(options, f"{column}_col") for column in TRUTH_COLUMNS}
    return {column: name for column, name in named.items() if name}


def read_named_data(options: argparse.Namespace) -> hs.Dataset | None:
    """The dataset that the options name; None where they name none."""
    return read_data(options) if options.dataset is not None or options.ratings is not None else None


def _read_known(options: argparse.Namespace) -> hs.Dataset:
    of_tables = ("items", "users", "scale", "duplicates", "missing_ids", "item_feature", "user_feature", "delimiter",
                 "unrated", "round", "header", "items_columns", "users_columns", "genres_delimiter")  # fmt: skip
    of_truth = TRUTH_COLUMNS if getattr(options, "truth", None) else ()
    columns = [f"{column}_col" for column in COLUMNS if column not in of_truth]
    refuse_options(options, [*of_tables, *columns], "belongs to --ratings FILE, not to --dataset")
    tmdb = None if options.tmdb == "none" else options.tmdb
    return hs.load_dataset(options.dataset, options.data, tmdb=tmdb, tmdb_votes=options.tmdb_votes)


def _read_own(options: argparse.Namespace) -> hs.Dataset:
    from hybrid_sim.data.scales import parse_scale
    from hybrid_sim.data.tmdb import add_tmdb, read_tmdb

    dataset = hs.read_dataset(
        options.ratings,
        options.items,
        options.users,
        _column_map(options),
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


def _column_map(options: argparse.Namespace) -> hs.ColumnMap:
    named = {column: getattr(options, f"{column}_col") for column in COLUMNS}
    columns: dict[str, Any] = {column: name or None for column, name in named.items() if name is not None}
    for column, name in columns.items():
        if name is None and column != "timestamp":
            raise SettingsError(f"--{column}-col is empty; name the column")
    columns |= {"genres_delimiter": options.genres_delimiter, "item_features": tuple(options.item_feature)}
    column_map = replace(hs.ColumnMap(), **columns)
    return replace(column_map, user_features=tuple(options.user_feature)) if options.user_feature else column_map
