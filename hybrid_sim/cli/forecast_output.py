"""Forecasts of new items on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybrid_sim.core.files import printable, shortened

if TYPE_CHECKING:
    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.new_items.forecast import Fan, ItemForecast

SHOWN_ITEMS = 20
"""Items that are shown on the screen; the files have them all."""

BAR = 40
"""Characters of the bar of a probability of 1."""


def page(forecasts: Sequence[ItemForecast], whole: Dataset) -> str:
    """The forecasts as lines; foreign text is escaped."""
    source = f"{whole.name}{' (synthetic data)' if whole.synthetic else ''}"
    lines = [f"{len(forecasts)} new items, users of {source}, expected ratings are not rounded"]
    for item in forecasts[:SHOWN_ITEMS]:
        lines += ["", *_item_lines(item)]
    if len(forecasts) > SHOWN_ITEMS:
        lines += ["", f"{len(forecasts) - SHOWN_ITEMS} more are in the files"]
    return "".join(f"{printable(line)}\n" for line in lines)


def _item_lines(item: ItemForecast) -> list[str]:
    span = ""
    if item.low is not None and item.high is not None:
        span = f", {item.level:.0%} sure that its ratings will average {item.low:.2f} to {item.high:.2f}"
    lines = [
        f"item {shortened(item.item_id)}: {shortened(item.title)}",
        f"  expected {item.mean:.2f}{span}",
        *_panel_line(item),
        f"  {item.likes:.0%} of ratings by {item.n_users:,} users would be {item.like_from:g} or more",
    ]
    lines += [f"  {level:>5} {prob:6.1%} {'#' * round(BAR * prob)}".rstrip() for level, prob in item.probs.items()]
    for fan in item.fans:
        lines.append(f"  fan {fan.user_id}: {fan.mean:.2f}, {fan.above_usual:+.2f} to the own usual{_because(fan)}")
    if item.keywords:
        lines.append(f"  in common with what they liked: {', '.join(item.keywords)}")
    for segment in [*item.segments[:2], *item.segments[2:][-1:]]:
        lines.append(
            f"  {segment.column} {segment.group}: {segment.difference:+.2f} to the others "
            f"[{segment.low:+.2f}, {segment.high:+.2f}], {segment.n_users} users"
        )
    if item.similar:
        alike = ", ".join(f"{shortened(other.title)} ({other.mean_rating:.2f})" for other in item.similar[:3])
        lines.append(f"  resembles: {alike}")
    if item.fits:
        lines.append(f"  fits the profiles of: {', '.join(fit.user_id for fit in item.fits)}")
    return lines


def _panel_line(item: ItemForecast) -> list[str]:
    moved = f"its correction moves the expected rating by {item.shift:+.2f}"
    return [f"  a language model answered for {item.panel} users; {moved}"] if item.panel else []


def _because(fan: Fan) -> str:
    """The ratings of the fan's own that speak most for the item."""
    cited = [cited for cited in fan.explanation.evidence if cited.contribution > 0][:2]
    words = " and ".join(f"{one.rating:g} for {shortened(one.title)}" for one in cited)
    return f", because of {words}" if cited else ""
