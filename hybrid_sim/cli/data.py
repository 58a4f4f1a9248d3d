"""`hybrid-sim data`: fetch known data sets, and say where they are."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import hybrid_sim as hs
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser
from hybrid_sim.cli.terminal import show
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest

DESCRIPTION = """\
get NAME downloads a data set, texts NAME gathers its films' overviews from TMDB (key in TMDB_API_KEY), list says which
data sets are there, where names the folder.
"""

_log = logging.getLogger("hybrid_sim")


def _add_options(parser: Parser) -> None:
    parser.option("action get|texts|list|where", "what to do")
    parser.option("name NAME", "of the data set, for example ml-100k", nargs="?")
    parser.option("--data DIR", "the folder (else HYBRID_SIM_DATA, else the cache)", Path)
    parser.option("--mirror URL", "get or gather from another server")
    parser.option("--md5 HEX", "the checksum that the archive must have")


def run(options: argparse.Namespace) -> int:
    """Do what `action` says."""
    actions = {"get": _get, "texts": _texts, "list": _list, "where": _where}
    if options.action not in actions:
        raise SettingsError(f"data {options.action!r} is not known; {nearest(options.action, actions)}")
    needs_name = options.action in ("get", "texts")
    if needs_name != (options.name is not None):
        reason = "needs a name, for example ml-100k" if needs_name else f"takes no name, got {options.name!r}"
        raise SettingsError(f"data {options.action} {reason}")
    actions[options.action](options)
    return 0


def _get(options: argparse.Namespace) -> None:
    from hybrid_sim.data.download import download
    from hybrid_sim.data.sources import DATASETS

    folder = download(options.name, options.data, mirror=options.mirror, md5=options.md5)
    _log.info("%s", DATASETS[options.name].licence)
    show(str(folder))


def _texts(options: argparse.Namespace) -> None:
    """Gather the texts of a set's films into its folder, where `load` finds them."""
    from hybrid_sim.core.files import cache_folder
    from hybrid_sim.data.sources import TMDB_FILE, data_folder, find_folder
    from hybrid_sim.data.tmdb import write_tmdb
    from hybrid_sim.data.tmdb_client import BASE_URL, TmdbClient

    place = find_folder(options.name, data_folder(options.data)) / TMDB_FILE
    client = TmdbClient.from_environment(cache_folder("tmdb"), base_url=options.mirror or BASE_URL)
    dataset = hs.load_dataset(options.name, options.data, tmdb=None)
    texts = client.fetch(dataset)
    write_tmdb(texts, place)
    _log.info("%d of %d films have texts; TMDB asks to be named where its texts are used", len(texts), dataset.n_items)
    show(str(place))


def _list(options: argparse.Namespace) -> None:
    from hybrid_sim.data.sources import DATASETS, download_folder, find_folder

    root = download_folder(options.data)
    for name, source in DATASETS.items():
        place = "synthetic, needs no files"
        if source.marker:
            try:
                place = str(find_folder(name, root))
            except SettingsError:
                place = f"not in {root}"
        show(f"{name:18} {place}")


def _where(options: argparse.Namespace) -> None:
    from hybrid_sim.data.sources import download_folder

    show(str(download_folder(options.data)))


COMMANDS.add("data", Command("fetch known data sets and say where they are", DESCRIPTION, _add_options, run, "set up"))
