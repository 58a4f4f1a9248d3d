"""`hybrid-sim why`: why a user is expected to rate an item as predicted."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, read_named_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser
from hybrid_sim.cli.terminal import show
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import shortened

if TYPE_CHECKING:
    from hybrid_sim.simulation.run_folder import RunFolder

DESCRIPTION = """\
The distribution of the rating, what each member of the ensemble adds to the expected rating, which of the user's own
ratings speak for it and against it, and a reason in words. FOLDER is what `fit` saved, or the folder of a run of
`simulate`, with the ratings of a language model in it:

  hybrid-sim why model --user 17 --item 50 --dataset ml-100k
  hybrid-sim why run --user 17 --item 50

A saved model holds no texts and no ratings: name the data that it was fitted to, and ratings are cited.
"""
BAR = 40
"""Characters of the bar of a probability of 1."""

MANY_LEVELS = 20
"""A scale with more levels is shown without those that have less than half a percent."""

LEAST_SHOWN = 0.0005
"""A smaller contribution has only zeros in three decimals."""

WIDTH = 100

_log = logging.getLogger("hybrid_sim")


def _add_options(parser: Parser) -> None:
    parser.option("folder FOLDER", "what `fit` saved, or the folder of a run", Path)
    parser.option("--user ID", "whose rating", required=True)
    parser.option("--item ID", "of what", required=True)
    parser.option("--json", "everything as JSON")
    add_data_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read or make the prediction and its explanation, and show both."""
    from hybrid_sim.simulation.run_folder import RunFolder, read_explanations, read_run

    folder, pair = RunFolder(options.folder), (options.user, options.item)
    if not folder.ratings.is_file():
        simulator, value = hs.load(options.folder), []
        prediction = simulator.predict([options.user], [options.item])
        explanation = _explained(simulator, prediction, options)
    else:
        finished = read_run(options.folder)
        prediction = finished.prediction_of(*pair)
        value = [row["sentence"] for row in finished.about.get("llm_value", ())]
        stored = (e for e in read_explanations(folder.explanations) if (e["user_id"], e["item_id"]) == pair)
        explanation = next(stored, {}) or _explained(_simulator_of(folder), prediction, options)
    content = {**_answer(prediction), **explanation, "llm_value": value}
    if options.json:
        sys.stdout.write(f"{json.dumps(content, indent=1)}\n")
    else:
        show(*_page(content))
    return 0


def _simulator_of(folder: RunFolder) -> hs.Simulator:
    if not folder.simulator.is_dir():
        raise SettingsError(
            f"the run in {folder.path} holds no explanation of this pair, and no simulator to make one; run "
            "`hybrid-sim simulate` again with --explain all"
        )
    return hs.load(folder.simulator)


def _explained(simulator: hs.Simulator, prediction: hs.Prediction, options: argparse.Namespace) -> dict[str, Any]:
    dataset = read_named_data(options)
    if dataset is None:
        _log.warning("no ratings are cited: name the data that the simulator was fitted to, for example --dataset NAME")
    return hs.explain(simulator, prediction, dataset)[0].to_json()


def _answer(prediction: hs.Prediction) -> dict[str, Any]:
    distribution = prediction.distribution
    levels = (f"{level:g}" for level in distribution.scale.levels)
    return {
        "mean": float(distribution.mean()[0]),
        "sd": float(distribution.std()[0]),
        "low": float(prediction.low[0]),
        "high": float(prediction.high[0]),
        "source": str(prediction.source[0]),
        "distribution": dict(zip(levels, distribution.probs[0].tolist(), strict=True)),
    }


def _page(content: dict[str, Any]) -> Iterator[str]:
    yield f"user {content['user_id']}, item {content['item_id']}"
    interval = f"90% interval {content['low']:g} to {content['high']:g}"
    yield f"expected {content['mean']:.2f}, {interval}, source {content['source']}"
    yield from ("", *_bars(content["distribution"]))
    yield from ("", "What adds up to the expected rating", *_parts(content["contributions"]))
    if content["evidence"]:
        yield from ("", "The user's ratings that speak for it (+) and against it (-), and by how much")
        for cited in content["evidence"]:
            yield f"{cited['contribution']:+8.3f}  {cited['rating']:g} for {shortened(cited['title'])}"
    for heading, key in (("In common with those for it", "keywords"), ("In common with those against it", "against")):
        if content[key]:
            yield from ("", f"{heading}: {', '.join(content[key])}")
    if content["llm_value"]:
        yield from ("", *content["llm_value"])
    author = "the language model" if content["by"] == "llm" else "made from the numbers"
    yield from ("", f"Reason ({author})", *textwrap.wrap(content["reason"], WIDTH))


def _bars(distribution: dict[str, float]) -> list[str]:
    """One line per level with a bar as long as it is probable."""
    least = 0.005 if len(distribution) > MANY_LEVELS else 0.0
    shown = {level: prob for level, prob in distribution.items() if prob >= least}
    width = max(map(len, shown))
    return [f"{level:>{width}} {prob:6.1%} {'#' * round(BAR * prob)}".rstrip() for level, prob in shown.items()]


def _parts(contributions: dict[str, float]) -> list[str]:
    """The base first, then the others by size, as far as they can be seen."""
    order = sorted(contributions, key=lambda name: (name != "base", -abs(contributions[name])))
    order = [name for name in order if name == "base" or abs(contributions[name]) >= LEAST_SHOWN]
    width = max(map(len, order))
    return [f"{name:<{width}} {contributions[name]:{'' if name == 'base' else '+'}8.3f}" for name in order]


COMMANDS.add("why", Command("why a rating is predicted", DESCRIPTION, _add_options, run, "inspect"))
