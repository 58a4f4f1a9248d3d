"""The rules of judgement (`rules.toml`), the one function that judges, and how measured values become cells."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from math import inf, isfinite
from typing import Any, Literal

import numpy as np

from hybrid_sim.core.document import Column, Sense, Table, Verdict, VerdictState
from hybrid_sim.core.types import RatingScale
from hybrid_sim.evaluation.bootstrap import Interval

TOO_FEW = "The ratings are too few to tell"


@dataclass(frozen=True)
class Rule:
    """A question, what is measured to answer it, and the limit that the measured value must keep to.

    `threshold` is in `unit`s; in rating units it is a part of the range of the rating scale.
    """

    name: str
    question: str
    passed: str
    failed: str
    measure: str
    threshold: float
    sense: Sense
    unit: Literal["rating units", "nats", "share", "correlation", "ratio"]
    reason: str

    def limit(self, scale: RatingScale) -> float:
        """The threshold on this scale."""
        return self.threshold * (scale.high - scale.low if self.unit == "rating units" else 1.0)


RULES = {
    name: Rule(name, **fields)
    for name, fields in tomllib.loads(resources.files(__package__).joinpath("rules.toml").read_text("utf-8")).items()
}


def judge(name: str, measured: Interval, scale: RatingScale, detail: str = "") -> Verdict:
    """The verdict of the rule `name`: pass if the whole interval keeps to the limit, fail if all of it is beyond, else
    unknown, which is also the verdict on a value without an interval.

    The limit itself is beyond: equal is not better. `detail` says in a few words what the value was measured on.
    """
    rule = RULES[name]
    limit = rule.limit(scale)
    lowest, highest = {"at least": (limit, inf), "at most": (-inf, limit), "within": (-limit, limit)}[rule.sense]
    state: VerdictState = "unknown"
    if lowest < measured.low and measured.high < highest:
        state = "pass"
    elif measured.high <= lowest or measured.low >= highest:
        state = "fail"
    answer = {"pass": rule.passed, "fail": rule.failed, "unknown": TOO_FEW}[state]
    return _verdict(rule, state, f"{answer}{detail and f' ({detail})'}.", measured, scale)


def undecided(name: str, why: str, scale: RatingScale) -> Verdict:
    """The verdict of the rule `name` where the evidence cannot be had; `why` is a sentence."""
    return _verdict(RULES[name], "unknown", why, without_interval(np.nan), scale)


def _verdict(rule: Rule, state: VerdictState, sentence: str, measured: Interval, scale: RatingScale) -> Verdict:
    value, low, high = map(_plain, measured.values)
    of_rule = rule.reason, rule.measure, rule.unit
    return Verdict(rule.name, rule.question, state, sentence, value, low, high, rule.limit(scale), rule.sense, *of_rule)


def describe(measured: Interval, decimals: int = 3) -> str:
    """An estimate with its interval in words."""
    if not isfinite(measured.estimate):
        return "an undefined amount"
    shown = f"{measured.estimate:.{decimals}f}"
    if not isfinite(measured.low):
        return shown
    return f"{shown} [{measured.low:.{decimals}f}, {measured.high:.{decimals}f}]"


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
    return None if isinstance(plain, float) and not isfinite(plain) else plain
