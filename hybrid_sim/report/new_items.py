"""The page of forecasts of new items, for readers who are no statisticians: all items first, then each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybrid_sim.core.document import Block, Column, KeyFigure, Link, Page, Prose, Section, Table, interval_columns
from hybrid_sim.new_items.forecast import LIMITS, Forecasts, ItemForecast

MAX_ITEMS = 50
"""Items that have a section of their own; the table has all of them."""

MEAN_COLUMNS = (
    Column("title", "item"), Column("mean", "expected", 2), Column("low", "at least", 2), Column("high", "at most", 2),
)  # fmt: skip
USER_COLUMNS = (
    Column("user_id", "user"), Column("mean", "rating", 2), Column("above_usual", "beyond usual", 2, sign=True),
    Column("own_ratings", "own ratings that speak for it"),
)  # fmt: skip
GROUP_COLUMNS = (
    Column("group", "group"), Column("difference", "difference", 2, sign=True), *interval_columns(2, sign=True),
    Column("n_users", "users"),
)  # fmt: skip
SIMILAR_COLUMNS = (
    Column("title", "known item"), Column("similarity", "similarity", 2), Column("mean_rating", "mean rating", 2),
    Column("n_ratings", "ratings"),
)  # fmt: skip


def new_items_page(forecasts: Forecasts) -> Page:
    """The page of all forecasts, the item with the highest expected rating first."""
    scale = forecasts.prediction.distribution.scale
    items = sorted(forecasts, key=lambda item: -item.mean)
    names = [f"item-{place + 1}" for place in range(len(items))]
    shown = list(zip(names, items, strict=True))[:MAX_ITEMS]
    return Page(
        title=f"How users of {forecasts.dataset} would rate new items",
        context=f"{len(items)} new items, {items[0].n_users:,} users; ratings from {scale.low:g} to {scale.high:g}",
        sections=(_overview(names, items), *(_item(name, item) for name, item in shown), _reading(items[0])),
        synthetic=forecasts.synthetic,
    )


def _overview(names: Sequence[str], items: Sequence[ItemForecast]) -> Section:
    first = items[0]
    more = Column("likes", "like it", 2), Column("similar", "most similar known item"), Column("more", "more")
    rows = tuple(
        (
            *(item.title, item.mean, item.low, item.high, item.likes),
            item.similar[0].title if item.similar else None,
            Link("who and why", f"#{name}") if place < MAX_ITEMS else None,
        )
        for place, (name, item) in enumerate(zip(names, items, strict=True))
    )
    note = f"Like it: the share of ratings of {first.like_from:g} or more. At least, at most: {_promise(first)}."
    table = Table("items", "All items, highest expected rating first", (*MEAN_COLUMNS, *more), rows, note)
    means = Table.of(
        "means", "Expected rating, and where the mean of its ratings will probably be", MEAN_COLUMNS, items
    )
    charted = means.charted("bars", "title", "mean", low="low", high="high", y_label="mean rating")
    finding = f"{first.title} has the highest expected rating: {first.mean:.2f}{_span(first)}."
    return Section("overview", "All new items", finding, (table, *charted), (LIMITS,))


def _promise(item: ItemForecast) -> str:
    return f"the mean of an item's ratings will lie between the two for about {item.level * 10:.0f} of 10 items"


def _span(item: ItemForecast) -> str:
    return "" if item.low is None or item.high is None else f" (probably between {item.low:.2f} and {item.high:.2f})"


def _item(name: str, item: ItemForecast) -> Section:
    figures = [
        KeyFigure("expected rating", f"{item.mean:.2f}", f"mean over {item.n_users:,} users"),
        KeyFigure("would like it", f"{item.likes:.0%}", f"ratings of {item.like_from:g} or more"),
    ]
    if item.low is not None and item.high is not None:
        between = f"{item.low:.2f} to {item.high:.2f}"
        figures.insert(1, KeyFigure("mean of its ratings", between, f"right for {item.level * 10:.0f} of 10 items"))
    if item.panel:
        moved = f"moved the expected rating by {item.shift:+.2f}"
        figures.append(KeyFigure("language model", str(item.panel), f"users for whom it answered; {moved}"))
    shares = Table(
        "shares",
        "Share of users by rating",
        (Column("rating", "rating"), Column("share", "share", 2)),
        tuple(item.probs.items()),
    )
    blocks: list[Block] = [*figures, *shares.charted("counts", "rating", "share"), *_users(item), *_relations(item)]
    finding = f"Expected rating {item.mean:.2f}{_span(item)}; {item.likes:.0%} would give {item.like_from:g} or more."
    return Section(name, item.title, finding, tuple(blocks))


def _users(item: ItemForecast) -> Iterator[Block]:
    for name, title, users in (
        ("highest", "Who would rate it highest", item.highest),
        ("fans", "Who would like it more than they usually like items", item.fans),
    ):
        if users:
            yield Table.of(name, title, USER_COLUMNS, users)


def _relations(item: ItemForecast) -> Iterator[Block]:
    """The groups that differ and the most similar items."""
    if item.segments:
        rows = tuple(
            (f"{one.column} {one.group}", one.difference, one.low, one.high, one.n_users) for one in item.segments
        )
        note = (
            "In rating units, beyond how these users rate other items. Listed are groups that differ from the others "
            "by more than chance among the users explains, all groups of the item taken together (95%)."
        )
        yield Table("groups", "Groups who would like it more or less than others", GROUP_COLUMNS, rows, note)
    else:
        yield Prose("No group of users would clearly like it more or less than the others.")
    if item.similar:
        note = "Similarity: 1 is the same text, 0 has nothing in common (cosine)."
        yield Table.of("similar", "Known items with the most similar texts", SIMILAR_COLUMNS, item.similar, note)


def _reading(item: ItemForecast) -> Section:
    texts = (
        "Expected rating: the mean of the ratings that all the users would give, in rating units. Some would give "
        "more, others less: the bars of an item show how many would give which rating.",
        f"At least, at most: {_promise(item)}. This was tried on known items that were hidden as if they were new. It "
        "is narrower for items about which the forecast is surer.",
        "Compared with the user's usual: a user who rates everything highly is no fan. Who would like an item more "
        "than usual is whom to show it to; who would rate it highest may rate everything highly.",
    )
    return Section("reading", "How to read this", "What the numbers mean.", tuple(map(Prose, texts)), (LIMITS,))
