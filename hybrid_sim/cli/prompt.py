"""`hybrid-sim prompt`: the exact prompt that a language model would get."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, read_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser
from hybrid_sim.cli.settings import add_settings_options, read_settings
from hybrid_sim.cli.terminal import show
from hybrid_sim.core.errors import SettingsError

if TYPE_CHECKING:
    from hybrid_sim.core.settings import RunSettings
    from hybrid_sim.core.user_state import UserState
    from hybrid_sim.llm.question import Question

_log = logging.getLogger("hybrid_sim")

DESCRIPTION = """\
What a language model would be asked about how a user rates items: both messages, the schema of the reply and how many
tokens this takes. Nothing is sent. The user's profile is the newest in RUN_DIR, else what the ratings themselves say.

  hybrid-sim prompt --dataset world --user u0001 --item f0001 --item f0002
"""


def _add_options(parser: Parser) -> None:
    parser.option("--user ID", "whose ratings are asked for", required=True)
    parser.option("--item ID", "an item; again for more", required=True, action="append")
    parser.option("--run RUN_DIR", "a run whose profiles are used", Path, dest="folder")
    parser.option("--json", "one JSON object per question")
    add_settings_options(parser)
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the questions to the screen."""
    settings = read_settings(options)
    dataset = read_data(options)
    asked = dataset.encode([options.user] * len(options.item), options.item)
    for option, id_, row in [
        ("--user", options.user, asked.user[0]),
        *zip(["--item"] * len(asked), options.item, asked.item, strict=True),
    ]:
        if row < 0:
            raise SettingsError(f"{option} {id_}: {dataset.name} has no {option[2:]} of this id; ids are exact")
    state = _state(dataset, int(asked.user[0]), settings, options.folder)
    size = settings.rating.items_per_call
    from hybrid_sim.prompts.rating import history_index, rating_question
    from hybrid_sim.prompts.templates import load_template

    template, index = load_template("rate", settings.prompts), history_index(dataset, settings.rating)
    for start in range(0, len(asked), size):
        items = asked.item[start : start + size]
        question = rating_question(template, dataset, state, items, settings.rating, index=index)
        if options.json:
            sys.stdout.write(_as_json(question))
        else:
            show(*_as_lines(question, settings.llm.model or "any model"))
    if state.profile is not None:
        _log.info("version %d of the profile, by %s, is used", state.profile.version, state.profile.writer)
    return 0


def _state(dataset: hs.Dataset, user: int, settings: RunSettings, folder: Path | None) -> UserState:
    """The user with the newest profile of the run, else with one written from the ratings."""
    from hybrid_sim.core.user_state import Histories, Timeline, UserState
    from hybrid_sim.profiles.statistical_writer import StatisticalWriter
    from hybrid_sim.profiles.timelines import PROFILES_FILE, read_timelines
    from hybrid_sim.profiles.writers import write_profiles

    timelines = {} if folder is None else read_timelines(folder / PROFILES_FILE)
    timeline = timelines.get(str(dataset.users.index[user]), Timeline())
    state = UserState(user, Histories(dataset).of(user), timeline)
    return write_profiles(StatisticalWriter().fit(dataset), [state], settings.profile)[0]


def _as_json(question: Question) -> str:
    content = {
        "prompt": question.prompt,
        "messages": [{"role": message.role, "content": message.content} for message in question.messages],
        "schema": question.schema,
        "max_tokens": question.max_tokens,
    }
    return f"{json.dumps(content)}\n"


def _as_lines(question: Question, model: str) -> list[str]:
    from hybrid_sim.llm.tokens import TokenEstimates, most_prompt_tokens

    parts = [(f"{message.role} message", message.content) for message in question.messages]
    parts.append(("schema of the reply", json.dumps(question.schema, indent=1)))
    estimates = TokenEstimates()
    about = (
        f"{question.prompt} for {model}: about {estimates.prompt_tokens(question):,.0f} tokens and surely fewer than "
        f"{most_prompt_tokens(question):,}; the reply may have {question.max_tokens:,}"
    )
    return [*(line for title, text in parts for line in (f"--- {title} ---", *text.split("\n"), "")), about]


COMMANDS.add("prompt", Command("show what a language model would be asked", DESCRIPTION, _add_options, run, "inspect"))
