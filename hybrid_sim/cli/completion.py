"""`hybrid-sim completion`: a script that lets a shell complete commands, options and the names that options take."""

from __future__ import annotations

import argparse
import sys

from hybrid_sim.cli.info import LISTS
from hybrid_sim.cli.parsing import COMMANDS, Command, Parser, command_parser, one_of

DESCRIPTION = """\
A script for bash or zsh; it completes commands, their options, and the names of members, models, components, protocols
and data sets. Once, or in ~/.bashrc or ~/.zshrc:

  source <(hybrid-sim completion bash)
"""

NAMED = {"--members": "members", "--models": "models", "--without": "components", "--components": "components",
         "--protocol": "protocols", "--dataset": "datasets"}  # fmt: skip
"""Options whose values are names that can be listed."""

SCRIPT = """\
{zsh}_hybrid_sim() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" names
    case "$before" in
{values}
    esac
    case "${{COMP_CWORD}}:${{COMP_WORDS[1]}}" in
        1:*) names="{commands}" ;;
{options}
    esac
    COMPREPLY=($(compgen -W "$names" -- "$word"))
    [[ ${{#COMPREPLY[@]}} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _hybrid_sim hybrid-sim
"""


def _add_options(parser: Parser) -> None:
    parser.option("shell bash|zsh", "for which shell", one_of(("bash", "zsh")))


def run(options: argparse.Namespace) -> int:
    """Write the script to the screen."""
    values = []
    for option, noun in NAMED.items():
        names = " ".join(name for name, _ in LISTS[noun]())
        values.append(f'        {option}) COMPREPLY=($(compgen -W "{names}" -- "$word")); return ;;')
    per_command = [
        f'        *:{name}) names="{" ".join(command_parser(name).long_options)}" ;;' for name in sorted(COMMANDS)
    ]
    script = SCRIPT.format(
        zsh="autoload -Uz bashcompinit && bashcompinit\n" if options.shell == "zsh" else "",
        values="\n".join(values),
        commands=" ".join(sorted(COMMANDS)),
        options="\n".join(per_command),
    )
    sys.stdout.write(script)
    return 0


COMMANDS.add("completion", Command("completion of commands in a shell", DESCRIPTION, _add_options, run, "set up"))
