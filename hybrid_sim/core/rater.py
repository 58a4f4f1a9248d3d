"""The contract of raters: models that predict rating distributions.

A rater is a dataclass: its fields are its settings, `fit` sets attributes with a trailing underscore, once, and `rate`
changes nothing. Saving writes exactly these two things (see `hybrid_sim.core.model_files`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution


@runtime_checkable
class Rater(Protocol):
    """Predicts rating distributions.

    `fit` learns from the ratings of a dataset and may use the side information of *all* its users and items, rated or
    not. `rate` takes row numbers of that dataset's users and items; -1 stands for an unknown one. Where a rater has no
    prediction, it abstains with a row of NaN. The answer to a pair does not depend on the other pairs of the batch.
    """

    def fit(self, dataset: Dataset) -> Self:
        """Learn from `dataset`; returns the rater itself.

        Raises:
            DataError: there are no ratings; many raters refuse such a dataset.
        """

    def rate(self, pairs: Pairs) -> RatingDistribution:
        """The predicted distribution of each pair, in order."""


def expected(rater: Rater, pairs: Pairs) -> FloatArray:
    """The expected rating of each pair, shape `(n_pairs,)`, NaN where the rater abstains.

    Raters whose answer is built around an expectation offer it as `expect(pairs)`, which is quicker and not yet moved
    into the scale; for all others it is the mean of `rate(pairs)`.
    """
    expect = getattr(rater, "expect", None)
    return rater.rate(pairs).mean() if expect is None else np.asarray(expect(pairs), dtype=float)


class FitCost(NamedTuple):
    """What fitting takes: bytes beside the data set at the peak, and seconds of one core. Both are rough."""

    memory: float
    seconds: float


def fit_cost(rater: Rater, dataset: Dataset) -> FitCost:
    """An estimate of what `rater.fit(dataset)` takes; nothing is fitted.

    Raters whose memory or time grows faster than a few columns of numbers per rating offer `fit_cost(dataset)`.
    """
    of_rater = getattr(rater, "fit_cost", None)
    return FitCost(100.0 * len(dataset), 2e-6 * len(dataset)) if of_rater is None else FitCost(*of_rater(dataset))
