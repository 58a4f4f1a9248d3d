"""Raters fitted by Surprise: `SVD`, `SVDpp` (also counts which items a user rated), `NMF` (non-negative) and `KNN`.

Surprise takes NaN and ratings off the scale in silence and predicts pair by pair in Python. Here only ratings on the
scale reach it, its training set is built from sorted columns, and compiled kernels give what `algo.test` gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numba
import numpy as np
import pandas as pd
from scipy import sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, SettingsError
from hybrid_sim.core.rater import FitCost
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingScale
from hybrid_sim.models.registry import OTHERS, Member, rater
from hybrid_sim.models.training import BellRater, require_positive, require_ratings, require_seed, residual_spread

PER_RATING = 350.0
"""Bytes per rating of Surprise's training set: lists of tuples of Python numbers, by user and by item."""


@dataclass(frozen=True)
class SurpriseData:
    """A data set as Surprise wants it, which numbers users and items in the order of their first ratings.

    `user`, `item` and `rating` have a row per rating, in Surprise's numbers and order. `user_place` of shape
    `(n_users,)` and `item_place` of shape `(n_items,)` are the numbers of the rows of the catalogue, -1 where there is
    no rating.
    """

    trainset: Any
    user: IntArray
    item: IntArray
    rating: FloatArray
    user_place: IntArray
    item_place: IntArray

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The training set that Surprise's own loader would build from these ratings, ordered by user and item.

        Stochastic gradient descent depends on the order of the ratings; ordered, the same ratings give the same model
        whatever file they came from. It is the order of the genuine folds of MovieLens 100K.

        Raises:
            DataError: there are no ratings.
            ScaleError: a rating is not on the scale.
        """
        from surprise import Trainset

        require_ratings(dataset)
        dataset.scale.index(dataset.rating)
        dataset = dataset.take(np.lexsort((dataset.item, dataset.user)))
        user, user_rows = pd.factorize(dataset.user)
        item, item_rows = pd.factorize(dataset.item)
        trainset = Trainset(
            ur=_grouped(user, item, dataset.rating),
            ir=_grouped(item, user, dataset.rating),
            n_users=len(user_rows),
            n_items=len(item_rows),
            n_ratings=len(dataset),
            rating_scale=(dataset.scale.low, dataset.scale.high),
            raw2inner_id_users={},
            raw2inner_id_items={},
        )
        places = _places(user_rows, dataset.n_users), _places(item_rows, dataset.n_items)
        return cls(trainset, user.astype(np.int64), item.astype(np.int64), dataset.rating, *places)


@dataclass
class SurpriseRater(BellRater):
    """Global mean + user bias + item bias + what the method adds, fitted by an algorithm of Surprise.

    Everything fitted has a row per rated user and item; `*_place_`, shape `(n_users,)` and `(n_items,)`, say which.
    """

    scale_: RatingScale = field(init=False, repr=False)
    global_mean_: float = field(init=False, repr=False)
    user_place_: IntArray = field(init=False, repr=False)
    item_place_: IntArray = field(init=False, repr=False)
    user_bias_: FloatArray = field(init=False, repr=False)
    item_bias_: FloatArray = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Let Surprise fit.

        Raises:
            DataError: there are no ratings, or the method cannot learn from this scale or these ratings.
            SettingsError: the descent diverged.
        """
        data = SurpriseData.of(dataset)
        self.scale_, self.global_mean_ = dataset.scale, float(data.trainset.global_mean)
        self.user_place_, self.item_place_ = data.user_place, data.item_place
        self._fit(data, dataset)
        self.spread_ = residual_spread(dataset.scale, dataset.rating - self.expect(dataset.pairs))
        return self

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        user, item = _places_of(self.user_place_, pairs.user), _places_of(self.item_place_, pairs.item)
        return self._biases(user, item) + self._beyond_biases(user, item)

    def _fit(self, data: SurpriseData, dataset: Dataset) -> None:
        """Run the algorithm and keep its arrays, the biases among them."""
        raise NotImplementedError

    def _beyond_biases(self, user: IntArray, item: IntArray) -> FloatArray:
        """What the method adds to the biases of each pair, in Surprise's numbers; zero where one side is -1."""
        raise NotImplementedError

    def _biases(self, user: IntArray, item: IntArray) -> FloatArray:
        """Global mean plus the biases of what is known, in Surprise's numbers; NaN where neither is known."""
        mean = self.global_mean_ + np.where(user >= 0, self.user_bias_[user], 0.0)
        mean = mean + np.where(item >= 0, self.item_bias_[item], 0.0)
        return np.where((user >= 0) | (item >= 0), mean, np.nan)


@numba.njit(nogil=True)
def factor_products(user_factors: FloatArray, item_factors: FloatArray, user: IntArray, item: IntArray) -> FloatArray:
    """The inner product of the factors of each pair, in Surprise's numbers; zero where one side is -1."""
    products = np.zeros(len(user))
    for pair in range(len(user)):
        u, i = user[pair], item[pair]
        if u >= 0 and i >= 0:
            total = 0.0
            for factor in range(user_factors.shape[1]):
                total += user_factors[u, factor] * item_factors[i, factor]
            products[pair] = total
    return products


def require_converged(rater: object, dataset: Dataset, *arrays: FloatArray) -> None:
    """Refuse arrays that are not finite.

    Raises:
        SettingsError: the steps were too long for this scale.
    """
    if not all(np.isfinite(array).all() for array in arrays):
        raise SettingsError(
            f"{rater} diverged on the scale {dataset.scale}; use a smaller learning rate, or a narrower scale"
        )


def _places_of(place: IntArray, rows: IntArray) -> IntArray:
    """Surprise's numbers for row numbers of the catalogue; -1 for an unknown row and one without ratings."""
    return np.where(rows >= 0, place[rows], -1)


def _grouped(keys: IntArray, others: IntArray, ratings: FloatArray) -> dict[int, list[tuple[int, float]]]:
    order = np.argsort(keys, kind="stable")
    entries = list(zip(others[order].tolist(), ratings[order].tolist(), strict=True))
    ends = np.cumsum(np.bincount(keys)).tolist()
    return {key: entries[start:end] for key, (start, end) in enumerate(zip([0, *ends], ends, strict=False))}


def _places(rows: IntArray, n_rows: int) -> IntArray:
    places = np.full(n_rows, -1)
    places[rows] = np.arange(len(rows))
    return places


@dataclass
class _Factorization(SurpriseRater):
    """Biases plus the product of user and item factors."""

    user_factors_: FloatArray = field(init=False, repr=False)
    item_factors_: FloatArray = field(init=False, repr=False)

    def _fit(self, data: SurpriseData, dataset: Dataset) -> None:
        self._keep(self._algorithm().fit(data.trainset), data)
        require_converged(self, dataset, self.user_bias_, self.item_bias_, self.user_factors_, self.item_factors_)

    def _algorithm(self) -> Any:
        raise NotImplementedError

    def _keep(self, algorithm: Any, data: SurpriseData) -> None:
        self.user_bias_, self.item_bias_ = algorithm.bu, algorithm.bi
        self.user_factors_, self.item_factors_ = algorithm.pu, algorithm.qi

    def _beyond_biases(self, user: IntArray, item: IntArray) -> FloatArray:
        return np.asarray(factor_products(self.user_factors_, self.item_factors_, user, item))


@rater("svd", order=21, component="neighbours", group=OTHERS, members=[Member("svd", light=True)])
@dataclass
class SVD(_Factorization):
    """Predicts global mean + user bias + item bias + product of factors (Koren et al. 2009, equation 5).

    A user or item without ratings counts with zero bias and factors, as in Surprise. A pair of which neither is known,
    for which Surprise answers the global mean, is abstained from.
    """

    n_factors: int = 100
    n_epochs: int = 20
    learning_rate: float = 0.005
    regularization: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_epochs=self.n_epochs, learning_rate=self.learning_rate)
        require_seed(self, self.seed)

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Surprise's lists, and factors; one pass over the factors per rating and epoch."""
        n_rows = dataset.n_users + dataset.n_items
        seconds = 4e-9 * len(dataset) * self.n_epochs * self.n_factors
        return FitCost(PER_RATING * len(dataset) + 16.0 * n_rows * self.n_factors, seconds)

    def _algorithm(self) -> Any:
        import surprise

        return surprise.SVD(**self._options())

    def _options(self) -> dict[str, Any]:
        """The settings by Surprise's names."""
        return {
            "n_factors": self.n_factors,
            "n_epochs": self.n_epochs,
            "lr_all": self.learning_rate,
            "reg_all": self.regularization,
            "random_state": self.seed,
        }


@rater("svdpp", order=22)
@dataclass
class SVDpp(SVD):
    """SVD with p_u + |I_u|^-1/2 Σ y_j as a user's factors, I_u being the items that the user rated (Koren 2008)."""

    n_factors: int = 20
    learning_rate: float = 0.007

    def _algorithm(self) -> Any:
        import surprise

        return surprise.SVDpp(**self._options(), cache_ratings=True)

    def _keep(self, algorithm: Any, data: SurpriseData) -> None:
        super()._keep(algorithm, data)
        rated = sparse.csr_array((np.ones(len(data.user)), (data.user, data.item)))
        n_rated = np.bincount(data.user)
        self.user_factors_ = algorithm.pu + np.asarray(rated @ algorithm.yj) / np.sqrt(n_rated)[:, None]


@rater("nmf", order=23)
@dataclass
class NMF(_Factorization):
    """Predicts the product of non-negative user and item factors (Luo et al. 2014, without biases).

    Where the user or the item has no ratings, Surprise calls the prediction impossible and answers the global
    mean; here such a pair is abstained from.
    """

    n_factors: int = 15
    n_epochs: int = 50
    regularization: float = 0.06
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, n_factors=self.n_factors, n_epochs=self.n_epochs, regularization=self.regularization)
        require_seed(self, self.seed)

    def fit(self, dataset: Dataset) -> Self:
        """Let Surprise fit.

        Raises:
            DataError: there are no ratings, or the scale has negative levels.
            SettingsError: the factors are not finite.
        """
        if dataset.scale.low < 0:
            raise DataError(
                f"NMF cannot learn from the scale {dataset.scale} of data set {dataset.name!r}, which has "
                "negative levels; use svd, or shift the ratings"
            )
        return super().fit(dataset)

    def _algorithm(self) -> Any:
        import surprise

        return surprise.NMF(
            n_factors=self.n_factors,
            n_epochs=self.n_epochs,
            reg_pu=self.regularization,
            reg_qi=self.regularization,
            random_state=self.seed,
        )

    def _keep(self, algorithm: Any, data: SurpriseData) -> None:
        self.global_mean_, self.user_factors_, self.item_factors_ = 0.0, algorithm.pu, algorithm.qi
        self.user_bias_, self.item_bias_ = np.zeros(len(algorithm.pu)), np.zeros(len(algorithm.qi))

    def expect(self, pairs: Pairs) -> FloatArray:
        """The predicted mean of each pair before it is moved into the scale, NaN where the rater abstains."""
        both = np.append(self.user_place_ >= 0, False)[pairs.user] & np.append(self.item_place_ >= 0, False)[pairs.item]
        return np.where(both, super().expect(pairs), np.nan)


SIMILARITIES = ("cosine", "msd", "pearson", "pearson_baseline")


@rater(
    "knn",
    order=20,
    component="neighbours",
    group=OTHERS,
    settings=lambda scale: {"similarity": "msd" if 0.0 in scale.levels else "cosine"},  # cosine: undefined at 0
    members=[Member("knn")],
)
@dataclass
class KNN(SurpriseRater):
    """Predicts biases + the weighted mean residual of the `k` nearest neighbours (Koren 2010, eq. 3).

    Neighbours are users who rated the item, or with `user_based=False` items that the user rated. Equal similarities
    are settled as Surprise does: whoever comes first in the ratings is nearer. With fewer than `min_k` neighbours of
    positive similarity the biases alone answer, also for a pair with one side unknown; with both unknown the rater
    abstains. Memory: five square matrices of the number of rated users (or items) while fitting, one afterwards.
    """

    k: int = 40
    user_based: bool = True
    similarity: str = "cosine"
    min_k: int = 1
    similarity_: FloatArray = field(init=False, repr=False)
    starts_: IntArray = field(init=False, repr=False)
    neighbours_: IntArray = field(init=False, repr=False)
    residuals_: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_positive(self, k=self.k, min_k=self.min_k)
        if self.similarity not in SIMILARITIES:
            raise SettingsError(f"similarity of KNN is one of {', '.join(SIMILARITIES)}, got {self.similarity!r}")

    def fit_cost(self, dataset: Dataset) -> FitCost:
        """Five square matrices of users (or items); every two who rated the same add to three of them."""
        own, other = (
            (dataset.n_users, dataset.item_counts) if self.user_based else (dataset.n_items, dataset.user_counts)
        )
        memory = PER_RATING * len(dataset) + 5 * 8.0 * own**2
        return FitCost(memory, 2.5e-8 * float(np.square(other, dtype=float).sum()) + 5e-8 * own**2)

    def _fit(self, data: SurpriseData, dataset: Dataset) -> None:
        """Keep per item (or user) the ratings' neighbours and residuals, in the order of the ratings."""
        import surprise

        algorithm = surprise.KNNBaseline(
            k=self.k,
            min_k=self.min_k,
            sim_options={"name": self.similarity, "user_based": self.user_based},
            bsl_options={},
            verbose=False,
        )
        try:
            algorithm.fit(data.trainset)
        except ZeroDivisionError as error:
            raise DataError(
                f"the {self.similarity} similarity of KNN is undefined on data set {dataset.name!r}: the "
                "common ratings of some neighbours are all zero or equal their biases; pass similarity='msd'"
            ) from error
        self.user_bias_, self.item_bias_, self.similarity_ = algorithm.bu, algorithm.bi, algorithm.sim
        side, neighbours = (data.item, data.user) if self.user_based else (data.user, data.item)
        order = np.argsort(side, kind="stable")
        self.starts_ = np.concatenate([[0], np.cumsum(np.bincount(side))]).astype(np.int64)
        self.neighbours_ = neighbours[order]
        self.residuals_ = (data.rating - self._biases(data.user, data.item))[order]

    def _beyond_biases(self, user: IntArray, item: IntArray) -> FloatArray:
        who, side = (user, item) if self.user_based else (item, user)
        ratings = self.starts_, self.neighbours_, self.residuals_
        return np.asarray(_mean_residual(who, side, self.similarity_, *ratings, self.k, self.min_k))


@numba.njit(nogil=True)
def _mean_residual(
    who: IntArray,
    side: IntArray,
    similarity: FloatArray,
    starts: IntArray,
    neighbours: IntArray,
    residuals: FloatArray,
    k: int,
    min_k: int,
) -> FloatArray:
    """Per pair the mean residual of the k most similar neighbours, weighted by similarity; zero without enough of them.

    The nearest so far are kept sorted; a newcomer goes behind its equals, so that the first met wins a tie.
    """
    result = np.zeros(len(who))
    nearest, values = np.empty(k), np.empty(k)
    for pair in range(len(who)):
        if who[pair] < 0 or side[pair] < 0:
            continue
        n_found = 0
        for entry in range(starts[side[pair]], starts[side[pair] + 1]):
            closeness = similarity[who[pair], neighbours[entry]]
            if not closeness > 0.0 or (n_found == k and closeness <= nearest[k - 1]):
                continue
            n_found = min(n_found + 1, k)
            position = n_found - 1
            while position > 0 and nearest[position - 1] < closeness:
                nearest[position], values[position] = nearest[position - 1], values[position - 1]
                position -= 1
            nearest[position], values[position] = closeness, residuals[entry]
        if n_found >= min_k:
            weighted, total = 0.0, 0.0
            for position in range(n_found):
                weighted += nearest[position] * values[position]
                total += nearest[position]
            result[pair] = weighted / total
    return result
