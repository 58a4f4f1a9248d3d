"""The raters fitted by Surprise answer as Surprise does, faster, and abstain where it only shrugs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import surprise

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import DataError, ScaleError, SettingsError
from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
from hybrid_sim.models import make_rater
from hybrid_sim.models.surprise_raters import KNN, NMF, SVD, SVDpp
from hybrid_sim.models.training import bell
from hybrid_sim.testing import check_rater, tiny_dataset

Fold = Callable[[int, str], tuple[Dataset, Dataset]]


def _surprise_knn(**options: object) -> surprise.AlgoBase:
    return surprise.KNNBaseline(sim_options={"name": "cosine", **options}, verbose=False)


TWINS = {
    "svd": (SVD(seed=3), lambda: surprise.SVD(random_state=3)),
    "svdpp": (SVDpp(seed=3), lambda: surprise.SVDpp(random_state=3)),
    "nmf": (NMF(seed=3), lambda: surprise.NMF(random_state=3)),
    "knn users": (KNN(), _surprise_knn),
    "knn items": (KNN(user_based=False), lambda: _surprise_knn(user_based=False)),
    "knn msd": (KNN(similarity="msd"), lambda: _surprise_knn(name="msd")),
    "knn pearson": (KNN(similarity="pearson"), lambda: _surprise_knn(name="pearson")),
    "knn pearson_baseline": (
        KNN(similarity="pearson_baseline"),
        lambda: _surprise_knn(name="pearson_baseline"),
    ),
    "knn k=3": (KNN(k=3), lambda: surprise.KNNBaseline(k=3, sim_options={"name": "cosine"}, verbose=False)),
    "knn min_k=8": (
        KNN(min_k=8),
        lambda: surprise.KNNBaseline(min_k=8, sim_options={"name": "cosine"}, verbose=False),
    ),
}


def _surprise_answers(make: Callable[[], surprise.AlgoBase], train: Dataset, pairs: Pairs) -> pd.DataFrame:
    """What Surprise's own loader, `fit` and `test` say of the ratings ordered by user and item.

    Unknown rows get ids it has never seen.
    """
    train = train.take(np.lexsort((train.item, train.user)))
    user_ids = np.array([*train.users.index, "nobody"], dtype=object)
    item_ids = np.array([*train.items.index, "nothing"], dtype=object)
    frame = pd.DataFrame(
        {"user": user_ids[train.user], "item": item_ids[train.item], "rating": train.rating}, dtype=object
    )
    reader = surprise.Reader(rating_scale=(train.scale.low, train.scale.high))
    trainset = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()
    asked = [(user, item, 0.0) for user, item in zip(user_ids[pairs.user], item_ids[pairs.item], strict=True)]
    answers = make().fit(trainset).test(asked)
    impossible = [answer.details["was_impossible"] for answer in answers]
    return pd.DataFrame({"mean": [answer.est for answer in answers], "impossible": impossible})


def _all_pairs(dataset: Dataset) -> Pairs:
    user, item = np.meshgrid(np.arange(-1, dataset.n_users), np.arange(-1, dataset.n_items))
    return Pairs(user.ravel().astype(np.int64), item.ravel().astype(np.int64))


@pytest.mark.parametrize("name", TWINS)
def test_every_pair_is_answered_as_surprise_does(name: str, tiny: Dataset) -> None:
    rater, make = TWINS[name]
    pairs = _all_pairs(tiny)
    answer = rater.fit(tiny).rate(pairs)
    expected = _surprise_answers(make, tiny, pairs)
    rated_user = np.append(tiny.user_counts > 0, False)[pairs.user]
    rated_item = np.append(tiny.item_counts > 0, False)[pairs.item]
    nothing_known = ~rated_user & ~rated_item
    np.testing.assert_array_equal(~answer.answered, expected["impossible"].to_numpy() | nothing_known)
    got = answer.mean()[answer.answered]
    np.testing.assert_allclose(got, expected["mean"].to_numpy()[answer.answered], rtol=0, atol=1e-9)


def test_equal_similarities_are_settled_by_the_order_of_users_and_items() -> None:
    """With one common item every cosine is 1, so that k=2 of 30 neighbours must be the first two met."""
    dataset = tiny_dataset(n_users=31, n_items=4, density=0.9)
    only_two_items = dataset.take((dataset.item < 2) & (dataset.user < 29))
    pairs = _all_pairs(only_two_items)
    twin = _surprise_answers(
        lambda: surprise.KNNBaseline(k=2, sim_options={"name": "cosine"}, verbose=False),
        only_two_items,
        pairs,
    )
    answer = KNN(k=2).fit(only_two_items).rate(pairs)
    seen = answer.answered
    np.testing.assert_allclose(answer.mean()[seen], twin["mean"].to_numpy()[seen], rtol=0, atol=1e-9)
    shuffled = only_two_items.take(np.random.default_rng(0).permutation(len(only_two_items)))
    np.testing.assert_array_equal(KNN(k=2).fit(shuffled).rate(pairs).probs, answer.probs)


@pytest.mark.parametrize("name", ["svd", "svdpp", "nmf"])
def test_the_order_of_the_ratings_does_not_matter(name: str, tiny: Dataset) -> None:
    shuffled = tiny.take(np.random.default_rng(0).permutation(len(tiny)))
    pairs = _all_pairs(tiny)
    rater = TWINS[name][0]
    answer = copy.deepcopy(rater).fit(tiny).rate(pairs)
    np.testing.assert_array_equal(copy.deepcopy(rater).fit(shuffled).rate(pairs).probs, answer.probs)


@pytest.mark.parametrize("name", ["svd", "knn", "nmf"])
def test_real_fold_is_answered_as_surprise_does(name: str, ml100k_fold: Fold) -> None:
    train, test = ml100k_fold(1, "A")
    makers = {
        "svd": lambda: surprise.SVD(random_state=0),
        "nmf": lambda: surprise.NMF(random_state=0),
        "knn": _surprise_knn,
    }
    answer = make_rater(name).fit(train).rate(test.pairs)
    expected = _surprise_answers(makers[name], train, test.pairs)
    seen = answer.answered
    assert seen.mean() > 0.99
    np.testing.assert_allclose(answer.mean()[seen], expected["mean"].to_numpy()[seen], rtol=0, atol=1e-9)


PUBLISHED = {
    ("knn", "A"): 0.985,
    ("svd", "A"): 0.992,
    ("nmf", "A"): 1.063,
    ("knn", "B"): 0.936,
    ("svd", "B"): 0.938,
}


@pytest.mark.parametrize(("name", "protocol"), PUBLISHED)
def test_known_figures_on_the_genuine_folds_of_movielens_100k(name: str, protocol: str, ml100k_fold: Fold) -> None:
    errors = []
    for fold in range(1, 6):
        train, test = ml100k_fold(fold, protocol)
        mean = make_rater(name).fit(train).rate(test.pairs).mean()
        mean = np.where(np.isnan(mean), train.rating.mean(), mean)
        errors.append(np.sqrt(np.mean((mean - test.rating) ** 2)))
    assert np.mean(errors) == pytest.approx(PUBLISHED[name, protocol], abs=0.002)


@pytest.mark.parametrize("make", [SVD, SVDpp, NMF, KNN, lambda: KNN(user_based=False, similarity="msd")])
def test_conforms(make: Callable[[], SVD]) -> None:
    check_rater(make)


def test_seed_decides_and_the_global_generator_does_not(tiny: Dataset) -> None:
    one, same, other = (SVD(seed=seed).fit(tiny).rate(tiny.pairs).probs for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.001


def test_rating_off_the_scale_never_reaches_surprise(tiny: Dataset) -> None:
    for wrong in (np.nan, np.inf, 9.0):
        rating = tiny.rating.copy()
        rating[7] = wrong
        with pytest.raises(ScaleError, match="is not on the scale 1, 2, 3, 4, 5"):
            SVD().fit(replace(tiny, rating=rating))


def test_divergence_is_an_error_and_not_silence() -> None:
    wide = tiny_dataset(levels=range(101))
    with pytest.raises(
        SettingsError, match=r"diverged on the scale 0, 1, 2, \.\.\., 99, 100; use a smaller learning rate"
    ):
        SVD(learning_rate=5.0).fit(wide)


def test_undefined_similarity_is_explained() -> None:
    binary = tiny_dataset(levels=(0, 1))
    with pytest.raises(
        DataError, match=r"cosine similarity of KNN is undefined on data set 'tiny'.*pass similarity='msd'"
    ):
        KNN().fit(binary)
    assert KNN(similarity="msd").fit(binary).rate(binary.pairs).answered.all()


def test_nmf_refuses_negative_levels() -> None:
    with pytest.raises(DataError, match="NMF cannot learn from the scale -2, -1, 0, 1, 2"):
        NMF().fit(tiny_dataset(levels=(-2, -1, 0, 1, 2)))


def test_empty_training_data_is_refused(tiny: Dataset) -> None:
    with pytest.raises(DataError, match="'tiny' has no ratings to learn from"):
        SVD().fit(tiny.take(np.array([], dtype=np.int64)))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sdv", {}, "there is no rater 'sdv'; did you mean 'svd'"),
        ("zzz", {}, "there is no rater .zzz.; choose one of global_mean, .*biases"),
        ("svd", {"n_factor": 5}, "rater 'svd' has no setting 'n_factor'; did you mean 'n_factors'"),
        ("svd", {"scale_": 5}, "rater 'svd' has no setting 'scale_'"),
        ("recorded", {}, "rater 'recorded' cannot be made.*its settings are table"),
        ("svd", {"n_epochs": 0}, "n_epochs of SVD must be a positive number, got 0"),
        ("svd", {"seed": 2**32}, "seed of SVD must be a whole number from 0 to"),
        ("nmf", {"seed": 1.5}, "seed of NMF must be a whole number from 0 to"),
        ("knn", {"similarity": "cosin"}, "similarity of KNN is one of cosine, msd"),
    ],
)
def test_misspelt_raters_and_settings_are_errors(name: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_rater(name, **settings)


@pytest.mark.parametrize(("levels", "off_by"), [((1, 2, 3, 4, 5), 1e-5), ((0.5, 1, 4), 1e-4), (range(101), 5e-3)])
def test_bell_keeps_the_mean_and_stays_near_the_exact_law(levels: tuple[float, ...], off_by: float) -> None:
    scale = RatingScale(tuple(levels))
    drawn = np.random.default_rng(0).uniform(scale.low - 0.2, scale.high + 0.2, 5000)
    mean, spread = np.append(drawn, [np.nan, scale.low, scale.high]), 0.2 * (scale.high - scale.low)
    quick, exact = bell(scale, mean, spread), RatingDistribution.from_mean(scale, mean, spread)
    np.testing.assert_allclose(quick.mean(), scale.clip(mean), atol=1e-10 * scale.high)
    np.testing.assert_allclose(quick.probs, exact.probs, rtol=0, atol=off_by)
