"""How receptions of new items look: a row of a table each, and lines on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybrid_sim.core.files import printable, shortened

if TYPE_CHECKING:
    import pandas as pd

    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.new_items.forecast import Fan, Reception

SHOWN_ITEMS = 20
"""Items that are shown on the screen; the files have them all."""

BAR = 40
"""Characters of a bar that stands for certainty."""


def table(receptions: Sequence[Reception]) -> pd.DataFrame:
    """A row per item."""
    import pandas as pd

    plain = ("item_id", "title", "n_users", "mean", "low", "high", "likes", "like_from", "panel", "shift")
    rows = [
        {
            **{name: getattr(reception, name) for name in plain},
            **{f"p_{level}": prob for level, prob in reception.probs.items()},
            "fans": " ".join(fan.user_id for fan in reception.fans),
            "keywords": " ".join(reception.keywords),
            "similar": " ".join(other.item_id for other in reception.similar),
            "fits": " ".join(fit.user_id for fit in reception.fits),
        }
        for reception in receptions
    ]
    return pd.DataFrame(rows)


def page(receptions: Sequence[Reception], whole: Dataset) -> str:
    """The answers on a screen; foreign text is escaped."""
    source = f"{whole.name}{' (synthetic data)' if whole.synthetic else ''}"
    lines = [f"{len(receptions)} new items, users of {source}, expected ratings are not rounded"]
    for reception in receptions[:SHOWN_ITEMS]:
        lines += ["", *_item_lines(reception)]
    if len(receptions) > SHOWN_ITEMS:
        lines += ["", f"{len(receptions) - SHOWN_ITEMS} more are in the files"]
    return "".join(f"{printable(line)}\n" for line in lines)


def _item_lines(reception: Reception) -> list[str]:
    span = ""
    if reception.low is not None and reception.high is not None:
        span = f", {reception.level:.0%} sure that its ratings will average {reception.low:.2f} to {reception.high:.2f}"
    lines = [
        f"item {shortened(reception.item_id)}: {shortened(reception.title)}",
        f"  expected {reception.mean:.2f}{span}",
        *_panel_line(reception),
        f"  {reception.likes:.0%} of ratings by {reception.n_users:,} users would be {reception.like_from:g} or more",
    ]
    lines += [f"  {level:>5} {prob:6.1%} {'#' * round(BAR * prob)}".rstrip() for level, prob in reception.probs.items()]
    for fan in reception.fans:
        lines.append(f"  fan {fan.user_id}: {fan.mean:.2f}, {fan.above_usual:+.2f} to the own usual{_because(fan)}")
    if reception.keywords:
        lines.append(f"  in common with what they liked: {', '.join(reception.keywords)}")
    for segment in [*reception.segments[:2], *reception.segments[2:][-1:]]:
        lines.append(
            f"  {segment.column} {segment.group}: {segment.difference:+.2f} to the others "
            f"[{segment.low:+.2f}, {segment.high:+.2f}], {segment.n_users} users"
        )
    if reception.similar:
        alike = ", ".join(f"{shortened(other.title)} ({other.mean_rating:.2f})" for other in reception.similar[:3])
        lines.append(f"  resembles: {alike}")
    if reception.fits:
        lines.append(f"  fits the profiles of: {', '.join(fit.user_id for fit in reception.fits)}")
    return lines


def _panel_line(reception: Reception) -> list[str]:
    moved = f"its word moves the expected rating by {reception.shift:+.2f}"
    return [f"  a language model answered for {reception.panel} users; {moved}"] if reception.panel else []


def _because(fan: Fan) -> str:
    """The ratings of the fan's own that speak most for the item."""
    cited = [cited for cited in fan.explanation.evidence if cited.contribution > 0][:2]
    words = " and ".join(f"{one.rating:g} for {shortened(one.title)}" for one in cited)
    return f", because of {words}" if cited else ""
