"""The conformance suite catches every broken promise: one deliberately broken rater for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError
from hybrid_sim.core.types import FloatArray, Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.biases import Biases
from hybrid_sim.testing import check_odd_data, check_rater, tiny_dataset


class Honest(Biases):
    """Biases as they are; the broken raters below change one thing each."""


class FitsToNothing(Biases):
    def fit(self, dataset: Dataset) -> Self:
        super().fit(dataset)
        return None  # type: ignore[return-value]  # this is the fault


class WritesToTheData(Biases):
    def fit(self, dataset: Dataset) -> Self:
        dataset.users["generous"] = dataset.user_counts
        return super().fit(dataset)


class SwallowsARow(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        return super().rate(pairs).take(slice(1, None))


class OwnScale(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        return RatingDistribution(RatingScale((0, 1, 2, 3, 4)), super().rate(pairs).probs)


class HalfPrecision(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        rounded = super().rate(pairs).probs.astype(np.float32)
        return RatingDistribution(self.scale_, rounded)  # type: ignore[arg-type]  # this is the fault


class HalfAbstains(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        answer = super().rate(pairs)
        answer.probs[:, 0] = np.nan
        return answer


class GoesNegative(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        answer = super().rate(pairs)
        answer.probs[:, 0] -= 0.5
        answer.probs[:, 1] += 0.5
        return answer


class SumsToLess(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        return RatingDistribution(self.scale_, 0.99 * super().rate(pairs).probs)


class ThrowsDice(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        drawn = super().rate(pairs).sample(np.random.default_rng())
        return RatingDistribution.from_mean(self.scale_, drawn, 1.0)


class LooksAtThePosition(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        mean = super().rate(pairs).mean() + 0.01 * np.arange(len(pairs))
        return RatingDistribution.from_mean(self.scale_, mean, 1.0)


class CentresTheBatch(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        mean = super().rate(pairs).mean()
        centre = np.nanmean(mean) if len(mean) else 0.0
        return RatingDistribution.from_mean(self.scale_, mean - centre + 3, 1.0)


class ChokesOnNothing(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        assert pairs.user[0] >= -1
        return super().rate(pairs)


class ChokesOnTheUnknown(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        if (pairs.user < 0).any():
            raise KeyError(-1)
        return super().rate(pairs)


class DependsOnTheBatchByABit(Biases):
    """As a matrix product does, whose order of summation goes by its shape."""

    def rate(self, pairs: Pairs) -> RatingDistribution:
        answer = super().rate(pairs)
        return answer if len(pairs) % 2 else RatingDistribution(self.scale_, np.nextafter(answer.probs, 1.0))


class DependsOnTheThreads(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        n_threads = max(library["num_threads"] for library in threadpool_info())
        answer = super().rate(pairs)
        return answer if n_threads == 1 else RatingDistribution(self.scale_, np.nextafter(answer.probs, 1.0))


class TakesTheLastUser(Biases):
    def expect(self, pairs: Pairs) -> FloatArray:
        return super().expect(Pairs(pairs.user % len(self.user_bias_), pairs.item))


class TakesTheLastItem(Biases):
    def expect(self, pairs: Pairs) -> FloatArray:
        return super().expect(Pairs(pairs.user, pairs.item % len(self.item_bias_)))


@dataclass
class CountsCalls(Biases):
    calls_: int = field(default=0, init=False)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        self.calls_ += 1
        return super().rate(pairs)


class KeepsStateElsewhere(Biases):
    def fit(self, dataset: Dataset) -> Self:
        self.offset = 0.3
        return super().fit(dataset)

    def expect(self, pairs: Pairs) -> FloatArray:
        return super().expect(pairs) + getattr(self, "offset", 0.0)


class ForgetsToSave(Biases):
    def fit(self, dataset: Dataset) -> Self:
        self.offset = 0.3
        return super().fit(dataset)

    def rate(self, pairs: Pairs) -> RatingDistribution:
        return RatingDistribution.from_mean(self.scale_, self.expect(pairs) + self.offset, 1.0)


class HoldsAFunction(Biases):
    def fit(self, dataset: Dataset) -> Self:
        self.link_ = np.exp
        return super().fit(dataset)


class FitsByTheClock(Biases):
    def fit(self, dataset: Dataset) -> Self:
        super().fit(dataset)
        self.item_bias_ = self.item_bias_ + np.random.default_rng().normal(0, 0.01, dataset.n_items)
        return self


class FitsByTheGlobalState(Biases):
    def fit(self, dataset: Dataset) -> Self:
        super().fit(dataset)
        self.item_bias_ = self.item_bias_ + np.random.normal(0, 0.01, dataset.n_items)  # noqa: NPY002
        return self


class RemembersByName(Biases):
    """A cache keyed by less than what it depends on: figures of the whole data set serve for its parts."""

    means: ClassVar[dict[tuple[str, int], FloatArray]] = {}

    def fit(self, dataset: Dataset) -> Self:
        super().fit(dataset)
        sums = np.bincount(dataset.item, weights=dataset.rating, minlength=dataset.n_items)
        self.item_bias_ = self.means.setdefault((dataset.name, dataset.n_items), sums / len(dataset))
        return self


class PeeksAtTheWhole(Biases):
    """Finds held-out ratings in memory: the last data set that anyone was fitted on, if it is larger."""

    seen: ClassVar[list[Dataset]] = []

    def fit(self, dataset: Dataset) -> Self:
        self.seen.append(dataset)
        whole = self.seen[-2] if len(self.seen) > 1 and len(self.seen[-2]) > len(dataset) else dataset
        return super().fit(whole if whole.n_items == dataset.n_items else dataset)


BROKEN = [
    (FitsToNothing, "fit returns the rater itself"),
    (WritesToTheData, "fit leaves the data set as it was"),
    (SwallowsARow, "one row per pair: 183 pairs, 182 rows"),
    (OwnScale, "answers on the data set's scale 1, 2, 3, 4, 5, not on 0, 1, 2, 3, 4"),
    (HalfPrecision, "float64 probabilities, not float32"),
    (HalfAbstains, r"a row is all NaN or has none: row \d+ is \[ *nan"),
    (GoesNegative, r"probabilities are finite and not negative: row \d+ is \[-0"),
    (SumsToLess, r"a row sums to one: row \d+ is"),
    (ThrowsDice, "the same question has the same answer, asked again"),
    (LooksAtThePosition, "the order of pairs does not matter"),
    (CentresTheBatch, "the answer to a pair does not depend on its batch"),
    (DependsOnTheBatchByABit, "not even in its last bit"),
    (DependsOnTheThreads, "does not depend on the number of threads"),
    (ChokesOnNothing, "an empty batch: the rater raised IndexError"),
    (ChokesOnTheUnknown, r"known and unknown users and items: the rater raised KeyError\(-1\)"),
    (TakesTheLastUser, "user -1 is unknown, not the last user"),
    (TakesTheLastItem, "item -1 is unknown, not the last item"),
    (CountsCalls, "rate changes nothing"),
    (KeepsStateElsewhere, "a loaded rater answers as the saved one did"),
    (ForgetsToSave, "saving and loading: the rater raised AttributeError"),
    (HoldsAFunction, "saving and loading: .*link_ is a ufunc, which cannot be saved"),
    (FitsByTheClock, "two fits give the same rater"),
    (FitsByTheGlobalState, "two fits give the same rater"),
    (RemembersByName, "fitting never sees what is held out, not even through an earlier fit"),
    (PeeksAtTheWhole, "fitting never sees what is held out, not even through an earlier fit"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_every_broken_promise_is_named(broken: type[Biases], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_rater(broken)


def test_an_honest_rater_passes_also_on_a_data_set_of_the_caller() -> None:
    check_rater(Honest)
    check_rater(Honest, tiny_dataset(n_users=9, n_items=5, levels=(0.5, 1, 1.5), seed=5))


class DividesByItems(Biases):
    def fit(self, dataset: Dataset) -> Self:
        self.offset_ = 1 / (dataset.n_items - 1)
        return super().fit(dataset)


class RefusesWithoutReason(Biases):
    def fit(self, dataset: Dataset) -> Self:
        if dataset.scale.n_levels != 5:
            raise DataError("no")
        return super().fit(dataset)


class DividesByTheSpread(Biases):
    def rate(self, pairs: Pairs) -> RatingDistribution:
        answer = super().rate(pairs)
        if self.spread_ == 0.25:
            answer.probs[:, 0] = np.nan
        return answer


class RefusesWithReason(Biases):
    def fit(self, dataset: Dataset) -> Self:
        if dataset.n_users < 10 or dataset.n_items < 10:
            raise DataError(f"data set {dataset.name!r} is too small to learn from; pass one with ten users and items")
        return super().fit(dataset)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (DividesByItems, "a data set with one item: the rater raised ZeroDivisionError"),
        (RefusesWithoutReason, "a data set with two levels: .* a refusal says why, not only 'no'"),
        (DividesByTheSpread, "a data set with one rating: .*a row is all NaN or has none"),
    ],
)
def test_odd_data_must_work_or_be_explained(broken: type[Biases], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_odd_data(broken)
    check_odd_data(RefusesWithReason)
