"""The rules of judgement (`rules.toml`) and how measured values are judged, described and tabulated.

A demand to be better than something is judged by the less favourable end of the 95% interval, a tolerance by the
estimate; "worse" is said only where the whole interval says so; where chance alone could exceed a tolerance (the worst
of many groups), by the distance of the interval from zero.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from typing import Any, Literal

import numpy as np

from hybrid_sim.core.document import Column, Sense, Table, Verdict, VerdictState
from hybrid_sim.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Rule:
    """A question with its threshold; `judged_by` says whether the estimate, the interval's worse end or both decide."""

    name: str
    question: str
    passed: str
    failed: str
    threshold: float
    sense: Sense
    reason: str
    judged_by: Literal["estimate", "interval", "whole interval"] = "estimate"


MIN_USERS = 10
"""Users with held-out ratings below which nothing is told: a bootstrap of so few groups is far too sure of itself."""

RULES = {
    name: Rule(name, **fields)
    for name, fields in tomllib.loads(resources.files(__package__).joinpath("rules.toml").read_text("utf-8")).items()
}


def judge(name: str, measured: Interval, words: str) -> Verdict:
    """The verdict of the rule `name` on a measured value, which `words` name; an undefined value fails. Of a
    rule for the whole interval, one that only its better end meets is unknown.
    """
    rule = RULES[name]
    worse, better = (measured.high, measured.low) if rule.sense == "at most" else (measured.low, measured.high)
    by_interval = rule.judged_by != "estimate" and bool(np.isfinite(worse))

    def is_met(value: float) -> bool:
        if by_interval and value == rule.threshold == 0.0:
            return False  # equal is not better
        good = value <= rule.threshold if rule.sense == "at most" else value >= rule.threshold
        return bool(good and np.isfinite(value))

    state: VerdictState = "pass" if is_met(worse if by_interval else measured.estimate) else "fail"
    is_open = not by_interval or (state == "fail" and is_met(better))
    if rule.judged_by == "whole interval" and np.isfinite(measured.estimate) and is_open:
        state = "unknown"
    bound = f"{rule.sense} {rule.threshold:g} is required"
    bound += "" if rule.judged_by == "estimate" else " of its worse end"
    shown = describe(measured) if np.isfinite(measured.estimate) else "undefined"
    answer = {"pass": rule.passed, "fail": rule.failed, "unknown": "The ratings are too few to tell"}[state]
    return _verdict(rule, state, f"{answer}: {words} {shown}; {bound}.", measured)


def undecided(name: str, why: str) -> Verdict:
    """The verdict of the rule `name` where the evidence cannot be had; `why` is a sentence."""
    return _verdict(RULES[name], "unknown", why, without_interval(np.nan))


def _verdict(rule: Rule, state: VerdictState, sentence: str, measured: Interval) -> Verdict:
    value, low, high = map(_plain, measured.values)
    return Verdict(rule.name, rule.question, state, sentence, value, low, high, rule.threshold, rule.sense, rule.reason)


def describe(measured: Interval, decimals: int = 3) -> str:
    """An estimate with its interval in words."""
    if not np.isfinite(measured.estimate):
        return "an undefined amount"
    shown = f"{measured.estimate:.{decimals}f}"
    if not np.isfinite(measured.low):
        return shown
    return f"{shown} [{measured.low:.{decimals}f}, {measured.high:.{decimals}f}]"


def lower_bound_of_abs(measured: Interval) -> float:
    """Distance from zero of the interval's nearer end, 0 if it holds zero; the estimate's where there is no interval.

    >>> lower_bound_of_abs(Interval(-0.3, -0.4, -0.1, 0.95))
    0.1
    """
    if not np.isfinite(measured.low):
        return abs(measured.estimate)
    return max(0.0, measured.low, -measured.high)


def without_interval(value: float) -> Interval:
    """A value that has no interval."""
    return Interval(float(value), float("nan"), float("nan"), 0.95)


def table(name: str, title: str, columns: Sequence[Column], rows: Iterable[Iterable[Any]], note: str = "") -> Table:
    """A table of plain values: an interval takes three cells (estimate, low, high), what is not finite is None."""
    flat = (chain.from_iterable(v.values if isinstance(v, Interval) else (v,) for v in row) for row in rows)
    return Table(name, title, tuple(columns), tuple(tuple(map(_plain, row)) for row in flat), note)


def _plain(value: Any) -> Any:
    """The value, as a number of Python if it is one of numpy; None if it is a number that is not finite."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain
