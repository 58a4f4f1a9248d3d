"""The rating scale of foreign data: declared in a few characters, or detected from the ratings."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import numpy as np

from hybrid_sim.core.errors import ScaleError
from hybrid_sim.core.types import MAX_LEVELS, FloatArray, RatingScale

KNOWN_SCALES = ("0,1", "1:5", "0.5:5:0.5", "0:5", "1:10", "0:10", "0:100")
"""Scales in common use, the one with the fewest levels first among those that share their ends."""

MAX_SPARSE = 30
"""Distinct ratings above which they must be a good part of evenly spaced levels; else they are reals or counts."""


def parse_scale(text: str) -> RatingScale:
    """A scale from `low:high`, `low:high:step` or a list of levels `a,b,c`.

    >>> parse_scale("0.5:5:0.5").n_levels, str(parse_scale("1:3")), str(parse_scale("-1,1"))
    (10, '1, 2, 3', '-1, 1')

    Raises:
        ScaleError: the text has another form, or its levels are no scale.
    """
    if ":" not in text:
        return RatingScale(tuple(sorted({float(_number(part, text)) for part in text.split(",")})))
    parts = [_number(part, text) for part in text.split(":")]
    if len(parts) not in (2, 3):
        raise _malformed(text)
    low, high, step = [*parts, Decimal(1)][:3]
    if step <= 0 or high <= low or (high - low) % step != 0:
        raise ScaleError(f"scale {text!r}: steps of {step} do not lead up from {low} to {high}; write low:high:step")
    n_levels = int((high - low) / step) + 1
    if n_levels > MAX_LEVELS:
        raise ScaleError(f"scale {text!r} has {n_levels} levels, at most {MAX_LEVELS} are possible; use a larger step")
    return RatingScale(tuple(float(low + step * position) for position in range(n_levels)))


def detect_scale(ratings: FloatArray) -> tuple[RatingScale, bool]:
    """The scale that these ratings suggest, and whether it is one in common use.

    A scale of `KNOWN_SCALES` is taken where it holds every rating and both of its ends occur; else the levels
    are the distinct ratings themselves.

    Raises:
        ScaleError: all ratings are equal, or there are too many distinct ones.
    """
    distinct = np.unique(ratings)
    if len(distinct) == 1:
        raise ScaleError(
            f"all {len(ratings)} ratings are {distinct[0]:g}, so nothing can be learned from them: a simulator needs "
            "two levels; to events alone (plays, purchases, clicks) add those that were offered and not taken, as "
            "rating 0, or name a column that tells ratings apart (--rating-col)"
        )
    for text in KNOWN_SCALES:
        scale = parse_scale(text)
        if distinct[0] == scale.low and distinct[-1] == scale.high and scale.contains(distinct).all():
            return scale, True
    if len(distinct) > MAX_LEVELS or (len(distinct) > MAX_SPARSE and not _is_dense(distinct)):
        raise ScaleError(
            f"{len(distinct)} distinct ratings between {distinct[0]:g} and {distinct[-1]:g} are no scale; declare one, "
            "of which they become the nearest level: --scale low:high:step --round; counts (plays, clicks) are no "
            "ratings"
        )
    return RatingScale(tuple(distinct.tolist())), False


def _is_dense(distinct: FloatArray) -> bool:
    """Whether half of the evenly spaced levels from the first to the last number are there."""
    places = (distinct - distinct[0]) / np.diff(distinct).min()
    return bool((np.abs(places - np.round(places)) < 1e-3).all() and len(distinct) > places[-1] / 2)


def _number(text: str, scale: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation as error:
        raise _malformed(scale) from error
    if not number.is_finite() or abs(number.adjusted()) > 12:
        raise _malformed(scale)
    return number


def _malformed(text: str) -> ScaleError:
    return ScaleError(f"scale {text!r} is not understood; write low:high, low:high:step or levels as in 1,2,3")
