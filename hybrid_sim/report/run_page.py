"""The page of a run: what was simulated, how near it came to the real ratings, one user, calls, rows, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Block, Column, KeyFigure, Page, Prose, Section, Table
from hybrid_sim.core.seeding import stream
from hybrid_sim.evaluation import metrics
from hybrid_sim.llm.budget import Ledger, PromptUsage, dollars
from hybrid_sim.llm.journal import Journal
from hybrid_sim.report.run_accuracy import accuracy_section
from hybrid_sim.report.run_user import RunView, course_section, map_section, profile_section, reason_section
from hybrid_sim.simulation.run_folder import FinishedRun, Truth, flat
from hybrid_sim.simulation.simulator import Simulator

MAX_SAMPLE = 200
"""Rows of `ratings.csv` that are shown of each kind."""

MAX_ITEMS = 40
"""Items that are shown: of more, half of them the best and half the worst."""

LIKED = 0.6
"""Part of the scale's range from which on a rating is one of liking: 4 and 5 of 1 to 5."""

ITEM_COLUMNS = (
    Column("item", "item"), Column("n", "users"), Column("mean", "expected rating", 2),
    Column("lowest", "lowest of a user", 2), Column("highest", "highest of a user", 2),
    Column("liked", "share who would like it", 2),
)  # fmt: skip

SOURCES = {
    "llm+stat": "a language model's rating of the pair corrected the statistical answer",
    "llm-item+stat": "a language model was asked about the new item for others, and this corrected the answer",
    "stat": "statistics: user and item are known",
    "user": "statistics: only the user is known",
    "item": "statistics: only the item is known",
    "global": "the mean of all ratings: neither is known",
}

SOURCE_COLUMNS = (
    Column("source", "source"), Column("meaning", "what it means"), Column("n", "pairs"), Column("share", "share", 3),
)  # fmt: skip
ROW_COLUMNS = (
    Column("row", "row"), Column("user", "user"), Column("item", "item"), Column("title", "title"),
    Column("drawn", "drawn"), Column("expected", "expected", 3), Column("low", "low"), Column("high", "high"),
    Column("real", "real"), Column("source", "source"), Column("llm", "language model", 2),
)  # fmt: skip

PROMPT_COLUMNS = (
    Column("prompt", "prompt"), Column("attempts", "attempts"), Column("answers", "answers"),
    Column("size", "bytes sent"), Column("prompt_tokens", "tokens in"), Column("completion_tokens", "tokens out"),
    Column("money", "money"),
)  # fmt: skip


def run_page(
    run: FinishedRun,
    truth: Truth | None = None,
    dataset: Dataset | None = None,
    simulator: Simulator | None = None,
    user_id: str | None = None,
    beside: bool = False,
) -> Page:
    """The page of a run.

    `truth` are the real ratings, `dataset` has the titles of the items, `simulator` is the fitted one (for the map),
    `user_id` is the user whose profile and ratings are shown (None: the one with most). `beside`: the page is a file of
    the run's folder, so that it may link to the table of ratings.

    Raises:
        SettingsError: the run has no such user.
        DataError: a file of the run is damaged.
    """
    user = _most_rated_user(run, truth) if user_id is None else run.user_of(user_id)
    view = RunView(run, truth, _titles(run, dataset), user, beside)
    sections = [
        _items(view),
        _overview(run, truth),
        _ratings(run, truth),
        None if truth is None else accuracy_section(run, truth),
        profile_section(view),
        course_section(view),
        reason_section(view),
        map_section(view, simulator),
        _calls(run),
        _rows(view),
        _settings(run),
    ]
    notes = [] if run.about else ["The run has not come to its end: it has left no run.json."]
    if n_known := int(np.isfinite(run.known_rating).sum()):
        notes.append(
            f"{n_known:,} of the pairs are rated in the data that the simulator learned from: what it says of them is "
            "no forecast, and it is not judged by them."
        )
    return Page(
        title=f"Simulation on {run.dataset}",
        context=f"{run.dataset}, seed {run.seed}; {len(run):,} pairs of {len(run.user_ids):,} users and "
        f"{len(run.item_ids):,} items, rating scale {run.scale}",
        sections=tuple(section for section in sections if section is not None),
        synthetic=run.synthetic,
        notes=tuple(notes),
        provenance=_provenance(run),
    )


def _most_rated_user(run: FinishedRun, truth: Truth | None) -> int:
    """The user with most pairs whose real rating is known, or with most pairs; the first of equals."""
    rows = np.ones(len(run), dtype=bool) if truth is None else truth.known
    return int(np.bincount(run.user[rows], minlength=len(run.user_ids)).argmax())


def _titles(run: FinishedRun, dataset: Dataset | None) -> Mapping[str, str]:
    """Titles by item id: those of the dataset, else those that the run has kept."""
    if dataset is None or "title" not in dataset.items:
        kept = run.about.get("titles")
        return {str(item): str(title) for item, title in kept.items()} if isinstance(kept, dict) else {}
    titles = zip(dataset.items.index, dataset.items["title"], strict=True)
    return {str(item): str(title) for item, title in titles if title}


def _items(view: RunView) -> Section:
    """What the users of the run would think of its items, the best first."""
    run = view.run
    expected, n_items = run.distribution.mean(), len(run.item_ids)
    likes = run.distribution.probs[:, run.scale.values >= run.scale.low + LIKED * (run.scale.high - run.scale.low)]
    count = np.bincount(run.item, minlength=n_items)
    mean, liked = (np.bincount(run.item, column, minlength=n_items) / count for column in (expected, likes.sum(axis=1)))
    order = np.argsort(-mean, kind="stable").tolist()
    names = [view.titles.get(item, item) for item in run.item_ids.tolist()]
    shown = order if n_items <= MAX_ITEMS else [*order[: MAX_ITEMS // 2], *order[-MAX_ITEMS // 2 :]]
    rows = tuple(
        (names[k], int(count[k]), float(mean[k]), float(expected[run.item == k].min()),
         float(expected[run.item == k].max()), float(liked[k]))
        for k in shown
    )  # fmt: skip
    best, worst = order[0], order[-1]
    users = f"{len(run.user_ids):,} user{'s' * (len(run.user_ids) > 1)}"
    finding = f"The {users} would give {names[best]} {mean[best]:.2f} on average, on the scale {run.scale}."
    if n_items > 1:
        finding = (
            f"Of {n_items:,} items the {users} would like {names[best]} most, {mean[best]:.2f} on average on the scale "
            f"{run.scale}, and {names[worst]} least, {mean[worst]:.2f}."
        )
    cut = "" if n_items <= MAX_ITEMS else f", the {MAX_ITEMS // 2} best and the {MAX_ITEMS // 2} worst of {n_items:,}"
    blocks = Table("items", f"Expected rating of each item{cut}", ITEM_COLUMNS, rows).charted(
        "bars", "item", "mean", low="lowest", high="highest", y_label="expected rating, mean over users",
        caption="Lines reach from the user who would like it least to the one who would like it most.",
    )  # fmt: skip
    return Section("items", "What these users would think of these items", finding, (*blocks, *_of_llm(run)))


def _of_llm(run: FinishedRun) -> tuple[Block, ...]:
    """How far a language model moved the answers, and what its ratings were found to be worth."""
    shift = run.about.get("llm_shift")
    words = [f"What its ratings were found to be worth: {row['sentence']}." for row in run.about.get("llm_value", ())]
    if shift:
        moved = f"The language model moved {shift['pairs']:,} of {len(run):,} expected ratings, by {shift['mean']:.2f} "
        words.insert(0, f"{moved}rating units on average and {shift['largest']:.2f} at most.")
    elif np.isfinite(run.llm_rating).any():
        words.insert(0, "The language model moved no expected rating.")
    return tuple(Prose(sentence) for sentence in words)


def _overview(run: FinishedRun, truth: Truth | None) -> Section:
    n_llm = int((~np.isnan(run.llm_rating)).sum())
    figures = [
        KeyFigure("pairs", f"{len(run):,}", f"{len(run.user_ids):,} users, {len(run.item_ids):,} items", "#rows"),
        KeyFigure("mean drawn rating", f"{run.rating.mean():.2f}", f"scale {run.scale}", "#ratings"),
        KeyFigure("interval width", f"{metrics.interval_width(run.low, run.high):.2f}", "mean, in rating units"),
        KeyFigure("language model", f"{n_llm:,}", "pairs that it rated", "#table-overview-sources"),
    ]
    if truth is not None:
        known = truth.known
        error = metrics.rmse(truth.rating[known], run.distribution.mean()[known])
        detail = f"raw, {int(known.sum()):,} pairs with a real rating"
        figures.append(KeyFigure("RMSE", f"{error:.4f}", detail, "#accuracy"))
    counts = Counter(run.source.tolist())
    order = [*SOURCES, *sorted(set(counts) - set(SOURCES))]
    rows = tuple((name, SOURCES.get(name, ""), counts[name], counts[name] / len(run)) for name in order if counts[name])
    title = "What the answers rest on"
    chart, table = Table("sources", title, SOURCE_COLUMNS, rows).charted("counts", "source", "n")
    most, n = counts.most_common(1)[0]
    finding = f"{len(run):,} ratings were simulated; {n / len(run):.0%} of the answers have the source {most!r}."
    return Section("overview", "Answers and their sources", finding, (*figures, chart, table))


def _ratings(run: FinishedRun, truth: Truth | None) -> Section:
    """Drawn, expected and real shares of each level, all on the same pairs."""
    pairs = np.ones(len(run), dtype=bool) if truth is None else truth.known
    n, scale = int(pairs.sum()), run.scale
    series = {
        "drawn": np.bincount(scale.index(run.rating[pairs]), minlength=scale.n_levels) / n,
        "expected": run.distribution.probs[pairs].mean(axis=0),
    }
    finding = f"Shares of the ratings drawn for {n:,} pairs."
    if truth is not None:
        real, drawn, user = truth.rating[pairs], run.rating[pairs], run.user[pairs]
        series = {"real": np.bincount(scale.index(real), minlength=scale.n_levels) / n, **series}
        spread = [_or_dash(metrics.within_user_sd(ratings, user)) for ratings in (drawn, real)]
        finding = (
            f"On {n:,} pairs the drawn ratings are {metrics.wasserstein(drawn, real, scale):.3f} rating units "
            f"(Wasserstein) and {metrics.kl_divergence(drawn, real, scale):.4f} nats (KL) away from the real ones; the "
            f"standard deviation within users is {spread[0]}, really {spread[1]} rating units."
        )
    columns = (Column("rating", "rating"), *(Column(name, name, 4) for name in series))
    shares = np.column_stack(list(series.values())).tolist()
    rows = tuple((f"{level:g}", *of_level) for level, of_level in zip(scale.levels, shares, strict=True))
    note = "Drawn: one rating per pair. Expected: the mean of the distributions."
    table = Table("shares", "Shares of the ratings", columns, rows, note)
    return Section("ratings", "Ratings", finding, table.charted("histograms", "rating", *series, y_label="share"))


def _or_dash(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _calls(run: FinishedRun) -> Section:
    """The section on calls, from the journal of the run.

    Raises:
        RunError: the journal is damaged.
    """
    if not run.folder.journal.is_file():
        return Section("calls", "Calls and money", "No language model was asked: the run cost no calls.")
    with Journal(run.folder.journal, replay=True) as journal:
        ledger, failures, seen = journal.ledger(), journal.failures(), journal.usage_by_prompt()
    blocks: tuple[Block, ...] = (*_key_figures(ledger, len(run)), *_prompts(seen), *_failures(failures))
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


def _key_figures(ledger: Ledger, n_pairs: int) -> tuple[KeyFigure, ...]:
    to = "#table-calls-prompts"
    per_thousand = dollars(round(ledger.money * 1000 / max(n_pairs, 1)))
    return (
        KeyFigure("calls", f"{ledger.calls:,}", f"{ledger.failed:,} failed", to),
        KeyFigure("tokens in", f"{ledger.prompt_tokens:,}", "", to),
        KeyFigure("tokens out", f"{ledger.completion_tokens:,}", "", to),
        KeyFigure("money", dollars(ledger.money), f"{per_thousand} per 1,000 pairs", to),
    )


def _prompts(seen: list[PromptUsage]) -> tuple[Block, ...]:
    rows = tuple(
        (s.prompt, s.attempts, s.answers, s.size, s.prompt_tokens, s.completion_tokens, dollars(s.cost)) for s in seen
    )
    note = "Bytes, tokens and money are of the calls whose tokens the server counted."
    table = Table("prompts", "Calls by prompt", PROMPT_COLUMNS, rows, note)
    return table.charted("counts", "prompt", "attempts") if seen else (table,)


def _failures(failures: dict[str, int]) -> tuple[Block, ...]:
    if not failures:
        return ()
    rows = tuple(sorted(failures.items(), key=lambda entry: -entry[1]))
    columns = Column("kind", "kind"), Column("calls", "calls")
    return Table("failures", "Failed calls by kind", columns, rows).charted("counts", "kind", "calls")


def _rows(view: RunView) -> Section:
    """A sample of the table: rows drawn at random, and where the truth is known also the largest errors."""
    run, truth = view.run, view.truth
    n = min(MAX_SAMPLE, len(run))
    sample = np.sort(stream(0, "rows").choice(len(run), n, replace=False))
    title = f"{n:,} of {len(run):,} rows, drawn at random" if n < len(run) else f"All {n:,} rows"
    blocks = [view.table("sample", title, ROW_COLUMNS, sample)]
    if truth is not None:
        known = np.flatnonzero(truth.known)
        error = np.abs(run.distribution.mean()[known] - truth.rating[known])
        worst = known[np.argsort(-error, kind="stable")[:MAX_SAMPLE]]
        title = f"The {len(worst):,} largest errors of {len(known):,} pairs with a real rating"
        blocks.insert(0, view.table("errors", title, ROW_COLUMNS, worst))
    return Section("rows", "Rows", "All rows are in ratings.csv in the folder of the run.", tuple(blocks))


def _settings(run: FinishedRun) -> Section | None:
    settings = flat(run.about.get("settings", {}))
    if not settings:
        return None
    columns = (Column("setting", "setting"), Column("value", "value"))
    table = Table("settings", "Settings", columns, tuple(settings.items()))
    return Section("settings", "Settings", "All settings of the run.", (table,))


def _provenance(run: FinishedRun) -> dict[str, str]:
    made = flat(run.about.get("provenance", {}))
    packages = {name: value for name, value in made.items() if name.startswith("versions.")}
    facts = {name.replace("_", " "): value for name, value in made.items() if name not in packages}
    if packages:
        facts["packages"] = ", ".join(f"{name.removeprefix('versions.')} {value}" for name, value in packages.items())
    return facts
