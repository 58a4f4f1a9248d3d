"""`hybrid-sim ablate`: what each component of the ensemble is worth, over all subsets of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import hybrid_sim as hs
from hybrid_sim.cli.data_options import add_data_options, add_run_options, read_data
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, check_output, words_list
from hybrid_sim.cli.protocol_options import add_protocol_options, add_recording_options, read_protocol, read_recording
from hybrid_sim.cli.terminal import report_written, show

DESCRIPTION = """\
Leaves out every subset of the ensemble's components (groups of members, and the steps after them) and compares what is
left on the same held-out ratings. The component llm needs recorded LLM ratings (--llm-ratings); the member biases
always stays. Members are fitted once per fold and cached, so that another run of the same folds takes seconds. Without
options: the synthetic world.
"""


def _add_options(parser: Parser) -> None:
    what = parser.group("what is run")
    add_protocol_options(what)
    what("--components boosted,...", _components_help, words_list)
    add_run_options(what, without=False)
    add_data_options(parser)
    recorded = parser.group("recorded LLM ratings")
    add_recording_options(recorded)
    of_profile = "those of a run without profiles, for the component profile: a table of the same form"
    recorded("--llm-ratings-without-profile FILE", of_profile, Path, nargs="+", default=[])
    parser.group("what is written")("--json OUT", "all figures with their provenance", Path)


def _components_help() -> str:
    from hybrid_sim.ensemble.components import components, members_of

    groups = members_of()
    names = [f"{name} ({', '.join(groups[name])})" if name in groups else name for name in components()]
    return f"switch only these, the others stay (default all): {', '.join(names)}"


def run(options: argparse.Namespace) -> int:
    """Take the ensemble apart, print the tables and write the file."""
    check_output("--json", options.json)
    from hybrid_sim.evaluation.ablation import ablation_text, write_ablation

    dataset = read_data(options)
    report = hs.ablate(
        dataset,
        read_protocol(options, dataset),
        options.components or None,
        seed=options.seed,
        recording=read_recording(options, dataset),
        without_profile=read_recording(options, dataset, options.llm_ratings_without_profile),
        members=options.members or None,
        n_jobs=options.jobs,
        command=options.command,
    )
    if options.json is not None:
        write_ablation(report, options.json)
    show(*ablation_text(report).split("\n"))
    report_written(options.json)
    return 0


COMMANDS.add("ablate", Command("what each component is worth", DESCRIPTION, _add_options, run, "evaluate"))
