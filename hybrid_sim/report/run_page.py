"""The page of a run: what was simulated, how near it came to the real ratings, one user, calls, rows, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.document import Block, Cell, Chart, Column, KeyFigure, Page, Section, Table
from hybrid_sim.core.seeding import stream
from hybrid_sim.evaluation import metrics
from hybrid_sim.report.run_accuracy import accuracy_section
from hybrid_sim.report.run_calls import calls_section
from hybrid_sim.report.run_map import map_section
from hybrid_sim.report.run_user import course_section, most_rated_user, profile_section, reason_section, row_cell
from hybrid_sim.simulation.run_folder import FinishedRun, Truth, flat
from hybrid_sim.simulation.simulator import Simulator

MAX_SAMPLE = 200
"""Rows of `ratings.csv` that are shown of each kind."""

SOURCES = {
    "llm+stat": "a language model's word corrected the statistical answer",
    "llm-item+stat": "a language model was asked about the new item for others, and this corrected the answer",
    "stat": "statistics: user and item are known",
    "user": "statistics: only the user is known",
    "item": "statistics: only the item is known",
    "global": "the mean of all ratings: neither is known",
}


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
    user = most_rated_user(run, truth) if user_id is None else run.user_of(user_id)
    titles = _titles(dataset)
    sections = [
        _overview(run, truth),
        _ratings(run, truth),
        None if truth is None else accuracy_section(run, truth),
        profile_section(run, str(run.user_ids[user]), titles),
        course_section(run, user, truth, titles, beside),
        reason_section(run, user, titles),
        map_section(run, user, simulator, titles),
        calls_section(run),
        _rows(run, truth, titles, beside),
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


def _titles(dataset: Dataset | None) -> Mapping[str, str]:
    if dataset is None or "title" not in dataset.items:
        return {}
    titles = zip(dataset.items.index, dataset.items["title"], strict=True)
    return {str(item): str(title) for item, title in titles if title}


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
    columns = (
        Column("source", "source"), Column("meaning", "what it means"), Column("n", "pairs"),
        Column("share", "share", 3),
    )  # fmt: skip
    chart = Chart("counts", title, "sources", "source", ("n",))
    most, n = counts.most_common(1)[0]
    finding = f"{len(run):,} ratings were simulated; {n / len(run):.0%} of the answers have the source {most!r}."
    return Section("overview", "Overview", finding, (*figures, chart, Table("sources", title, columns, rows)))


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
            f"spread within users is {spread[0]}, really {spread[1]}."
        )
    title = "Shares of the ratings"
    columns = (Column("rating", "rating"), *(Column(name, name, 4) for name in series))
    shares = np.column_stack(list(series.values())).tolist()
    rows = tuple((f"{level:g}", *of_level) for level, of_level in zip(scale.levels, shares, strict=True))
    note = "Drawn: one rating per pair. Expected: the mean of the distributions."
    chart = Chart("histograms", title, "shares", "rating", tuple(series), y_label="share")
    return Section("ratings", "Ratings", finding, (chart, Table("shares", title, columns, rows, note)))


def _or_dash(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _rows(run: FinishedRun, truth: Truth | None, titles: Mapping[str, str], beside: bool) -> Section:
    """A sample of the table: rows drawn at random, and where the truth is known also the largest errors."""
    expected = run.distribution.mean()
    n = min(MAX_SAMPLE, len(run))
    sample = np.sort(stream(0, "rows").choice(len(run), n, replace=False))
    columns = (
        Column("row", "row"), Column("user", "user"), Column("item", "item"), Column("title", "title"),
        Column("drawn", "drawn"), Column("expected", "expected", 3), Column("low", "low"), Column("high", "high"),
        Column("real", "real"), Column("source", "source"), Column("llm", "language model", 2),
    )  # fmt: skip

    def cells(row: int) -> tuple[Cell, ...]:
        item = str(run.item_ids[run.item[row]])
        said, real = float(run.llm_rating[row]), None if truth is None else float(truth.rating[row])
        numbers = (float(run.rating[row]), float(expected[row]), float(run.low[row]), float(run.high[row]))
        user = str(run.user_ids[run.user[row]])
        return (row_cell(row, beside), user, item, titles.get(item, ""), *numbers, real, str(run.source[row]), said)

    note = "Row: of ratings.csv, the header is row 1."
    title = f"{n:,} of {len(run):,} rows, drawn at random" if n < len(run) else f"All {n:,} rows"
    blocks: list[Block] = [Table("sample", title, columns, tuple(map(cells, sample.tolist())), note)]
    if truth is not None:
        known = np.flatnonzero(truth.known)
        error = np.abs(expected[known] - truth.rating[known])
        worst = known[np.argsort(-error, kind="stable")[:MAX_SAMPLE]]
        title = f"The {len(worst):,} largest errors of {len(known):,} pairs with a real rating"
        blocks.insert(0, Table("errors", title, columns, tuple(map(cells, worst.tolist())), note))
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
