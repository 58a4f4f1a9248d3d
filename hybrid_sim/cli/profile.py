"""`hybrid-sim profile`: a user's profile, version by version, with what each was made from."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, read_data, read_named_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, add_option, whole_number
from hybrid_sim.cli.terminal import show
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybrid_sim.core.user_state import Timeline

DESCRIPTION = """\
The profile comes from a run folder (--run), from a table of recorded profiles (--recorded), or, if neither
is named, it is written from the user's ratings without a language model. Where data is named, the
evidence is shown by title and rating. What is new in a version has a + before it.
"""


def _add_options(parser: Parser) -> None:
    number = whole_number(1)
    parser.option("--user ID", "the user's id in the data", required=True)
    source = partial(add_option, parser.add_mutually_exclusive_group())
    source("--run RUN_DIR", "what `simulate` wrote", Path, dest="folder")
    source("--recorded FILE", "a row per version: user_id, summary[, version, likes, ...]", Path)
    parser.option("--at TIME", "only what was known before: 1997-12-31, or seconds", _moment)
    parser.option("--n-recent N", "last ratings that count (default 40)", number)
    parser.option("--per-version N", "ratings per version that is written (default 10)", number)
    parser.option("--similar N", "name N users of the data with the most similar profiles", number)
    parser.option("--json", "print JSON")
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Find the timeline and print it."""
    stored = options.folder is not None or options.recorded is not None
    if stored and (options.n_recent or options.per_version):
        raise SettingsError("--n-recent and --per-version say how a profile is written; this one is written already")
    if stored:
        dataset = read_named_data(options)
        timeline = _stored(options)
    else:
        dataset = read_data(options)
        timeline = _from_ratings(options, dataset)
    timeline = _as_of(timeline, options)
    from hybrid_sim.profiles.timelines import timeline_lines, timeline_record

    items = {} if dataset is None else _items(dataset, options.user)
    similar = {} if options.similar is None else _similar_users(dataset, timeline, options)
    if options.json:
        record = {"user_id": options.user, "versions": timeline_record(timeline, items)}
        record |= {} if options.similar is None else {"similar_users": similar}
        sys.stdout.write(f"{json.dumps(record, indent=2)}\n")
    else:
        show(f"user {options.user}", *timeline_lines(timeline, items))
        show(*(f"similar profile: user {user} ({similarity:.2f})" for user, similarity in similar.items()))
    return 0


def _similar_users(dataset: hs.Dataset | None, timeline: Timeline, options: argparse.Namespace) -> dict[str, float]:
    """The users whose profiles, written from all their ratings, are most similar to the newest of the timeline."""
    import numpy as np

    from hybrid_sim.profiles.statistical_writer import statistical_profiles
    from hybrid_sim.retrieval.embedder import embedder_for
    from hybrid_sim.retrieval.index import ProfileIndex

    if dataset is None:
        raise SettingsError("--similar: compares with the users of some data; name it with --dataset or --ratings")
    own = _row(dataset, options.user)
    others = [None if row == own else profile for row, profile in enumerate(statistical_profiles(dataset))]
    index = ProfileIndex().fit([*others, timeline.latest], embedder_for(dataset))
    similar = index.similar(np.array([len(others)]), options.similar)
    rows = similar.rows[similar.found].tolist()
    return {str(dataset.users.index[row]): float(s) for row, s in zip(rows, similar.similarities[0], strict=False)}


def _stored(options: argparse.Namespace) -> Timeline:
    from hybrid_sim.profiles.recorded import read_recorded_profiles
    from hybrid_sim.profiles.timelines import PROFILES_FILE, read_timelines

    of_run = options.folder is not None
    place = options.folder / PROFILES_FILE if of_run else options.recorded
    timelines = read_timelines(place) if of_run else read_recorded_profiles(place)
    if options.user not in timelines:
        raise SettingsError(f"{place} has no profile of user {options.user!r}; {_others(options.user, timelines)}")
    return timelines[options.user]


def _from_ratings(options: argparse.Namespace, dataset: hs.Dataset) -> Timeline:
    from hybrid_sim.core.settings import ProfileSettings
    from hybrid_sim.core.user_state import Histories, UserState
    from hybrid_sim.profiles.statistical_writer import StatisticalWriter
    from hybrid_sim.profiles.writers import write_profiles

    user = _row(dataset, options.user)
    if user < 0:
        others = _others(options.user, dataset.users.index)
        raise SettingsError(f"{dataset.name} has no user {options.user!r}; {others}")
    n_recent = options.n_recent or 40
    settings = ProfileSettings(
        writer="statistics", n_recent=n_recent, batch=options.per_version or 10, update_every=min(10, n_recent)
    )
    history = Histories(dataset).of(user)
    return write_profiles(StatisticalWriter().fit(dataset), [UserState(user, history)], settings)[0].timeline


def _row(dataset: hs.Dataset, user: str) -> int:
    """The user's row number, -1 where the data does not know the user."""
    return int(dataset.encode([user], [""]).user[0])


def _others(user: str, ids: Iterable[str]) -> str:
    """What to say about a user who is not there, without listing thousands."""
    names = [str(name) for name in ids]
    return nearest(user, names) if len(names) <= 20 else f"there are {len(names)}, for example {names[0]!r}"


def _as_of(timeline: Timeline, options: argparse.Namespace) -> Timeline:
    """Only the versions that rest on what happened before `--at`."""
    if options.at is None:
        return timeline
    times = [version.at for version in timeline.versions if version.at is not None]
    if not times:
        raise SettingsError(f"--at: the profile of user {options.user!r} has no times; leave the option out")
    earlier = timeline.before(options.at)
    if not earlier.versions:
        first = datetime.fromtimestamp(times[0], UTC)
        raise SettingsError(
            f"--at: user {options.user!r} had no profile then; the first rests on what was rated up to {first:%Y-%m-%d}"
        )
    return earlier


def _items(dataset: hs.Dataset, user: str) -> dict[str, str]:
    """How each item of the data is called, with the user's last rating of it where there is one."""
    from hybrid_sim.core.user_state import Histories

    ids = [str(item) for item in dataset.items.index]
    titles = [title or item for title, item in zip(dataset.items.get("title", ids), ids, strict=True)]
    names = dict(zip(ids, titles, strict=True))
    history = Histories(dataset).of(_row(dataset, user))
    for row, rating in zip(history.item, history.rating, strict=True):
        names[ids[row]] = f"{titles[row]} ({rating:g})"
    return names


def _moment(text: str) -> int:
    """Seconds UTC of a date, of a date and time, or as they are given."""
    if text.isascii() and text.isdigit() and len(text) > 4:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 1997-12-31, or seconds since 1970") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


COMMANDS.add("profile", Command("show a user's profile and how it changed", DESCRIPTION, _add_options, run, "inspect"))
