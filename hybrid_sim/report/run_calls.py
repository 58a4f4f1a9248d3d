"""What a run asked of a language model: calls, failures, tokens and money, in all and by prompt."""

from __future__ import annotations

from hybrid_sim.core.document import Block, Chart, Column, KeyFigure, Section, Table
from hybrid_sim.llm.budget import Ledger, PromptUsage, dollars
from hybrid_sim.llm.journal import Journal
from hybrid_sim.simulation.run_folder import FinishedRun


def calls_section(run: FinishedRun) -> Section:
    """The section on calls, from the journal of the run.

    Raises:
        RunError: the journal is damaged.
    """
    if not run.folder.journal.is_file():
        return Section("calls", "Calls and money", "No language model was asked: the run cost no calls.")
    with Journal(run.folder.journal, replay=True) as journal:
        ledger, failures, seen = journal.ledger(), journal.failures(), journal.usage_by_prompt()
    blocks: tuple[Block, ...] = (*_figures(ledger, len(run)), *_prompts(seen), *_failures(failures))
    finding = (
        f"{ledger.calls:,} calls were sent, {ledger.answered:,} were answered and {ledger.failed:,} failed; "
        f"known costs are {dollars(ledger.money)}."
    )
    notes = []
    if ledger.possibly_paid:
        notes.append(f"{ledger.possibly_paid:,} calls without an answer may have been paid all the same.")
    if ledger.unknown_cost:
        worst = f"at most {dollars(ledger.at_worst)}" if not ledger.unpriced else "without a known price"
        notes.append(f"{ledger.unknown_cost:,} calls have a cost that is not known, {worst}.")
    return Section("calls", "Calls and money", finding, blocks, tuple(notes))


def _figures(ledger: Ledger, n_pairs: int) -> tuple[KeyFigure, ...]:
    to = "#table-calls-prompts"
    per_thousand = dollars(round(ledger.money * 1000 / max(n_pairs, 1)))
    return (
        KeyFigure("calls", f"{ledger.calls:,}", f"{ledger.failed:,} failed", to),
        KeyFigure("tokens in", f"{ledger.prompt_tokens:,}", "", to),
        KeyFigure("tokens out", f"{ledger.completion_tokens:,}", "", to),
        KeyFigure("money", dollars(ledger.money), f"{per_thousand} per 1,000 pairs", to),
    )


def _prompts(seen: list[PromptUsage]) -> tuple[Block, ...]:
    title = "Calls by prompt"
    columns = (
        Column("prompt", "prompt"), Column("attempts", "attempts"), Column("answers", "answers"),
        Column("size", "bytes sent"), Column("prompt_tokens", "tokens in"), Column("completion_tokens", "tokens out"),
        Column("money", "money"),
    )  # fmt: skip
    rows = tuple(
        (s.prompt, s.attempts, s.answers, s.size, s.prompt_tokens, s.completion_tokens, dollars(s.cost)) for s in seen
    )
    note = "Bytes, tokens and money are of the calls whose tokens the server counted."
    chart = Chart("counts", title, "prompts", "prompt", ("attempts",))
    table = Table("prompts", title, columns, rows, note)
    return (chart, table) if seen else (table,)


def _failures(failures: dict[str, int]) -> tuple[Block, ...]:
    if not failures:
        return ()
    title = "Failed calls by kind"
    rows = tuple(sorted(failures.items(), key=lambda entry: -entry[1]))
    table = Table("failures", title, (Column("kind", "kind"), Column("calls", "calls")), rows)
    return Chart("counts", title, "failures", "kind", ("calls",)), table
