"""The conformance suite of raters, installed with the package: `check_rater(MyRater)`.

A rater of yours passes when no assertion fails; each failure says in a sentence what was promised and what
was seen.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from hybrid_sim.core import model_files
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import HybridSimError
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.types import IntArray, Pairs, RatingDistribution, RatingScale

GENRES = ("Adventure", "Comedy", "Drama", "Horror", "Romance", "Western")
TOLERANCE = 1e-12
"""By how much two answers to the same question may differ."""

_WORDS = ("river", "letter", "storm", "garden", "engine", "mask", "winter", "orchard", "signal", "harbour")

MakeRater = Callable[[], Rater]


def check_rater(make: MakeRater, dataset: Dataset | None = None) -> None:
    """Try a rater against everything the contract in `hybrid_sim.core.rater` promises; takes about twelve fits.

    `make` gives a new unfitted rater with the same settings each time it is called. `dataset` replaces the
    made-up one for all checks but that of odd data sets. Saving allows the package of the rater's class,
    wherever it comes from.

    >>> from hybrid_sim.models.means import ItemMean
    >>> check_rater(ItemMean)

    Raises:
        AssertionError: the rater breaks a promise, which the message names.
    """
    dataset = tiny_dataset() if dataset is None else dataset
    rater = make()
    digest = replace(dataset).digest  # of a copy: the digest is cached
    _promise(rater.fit(dataset) is rater, "fit returns the rater itself")
    _promise(replace(dataset).digest == digest, "fit leaves the data set as it was")
    pairs = _questions(dataset)
    with _described("known and unknown users and items"):
        answer = rater.rate(pairs)
        check_answer(answer, pairs, dataset.scale)
    _check_batches(rater, pairs, answer)
    _check_unknown(rater, dataset)
    with _described("saving and loading"):
        _check_saving(rater, pairs, answer)
    _check_repeated_fit(make, dataset, pairs, answer)
    _check_held_out(make, dataset, pairs)
    check_odd_data(make)


def check_answer(answer: RatingDistribution, pairs: Pairs, scale: RatingScale) -> None:
    """One row per pair on the data set's scale; each row is all NaN, or probabilities that sum to one."""
    _promise(len(answer) == len(pairs), f"one row per pair: {len(pairs)} pairs, {len(answer)} rows")
    _promise(answer.scale == scale, f"answers on the data set's scale {scale}, not on {answer.scale}")
    _promise(answer.probs.dtype == np.float64, f"float64 probabilities, not {answer.probs.dtype}")
    missing = np.isnan(answer.probs)
    mixed = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
    _promise(len(mixed) == 0, f"a row is all NaN or has none: {_row(answer, mixed)}")
    wrong = np.flatnonzero(((answer.probs < 0) | np.isinf(answer.probs)).any(axis=1))
    _promise(len(wrong) == 0, f"probabilities are finite and not negative: {_row(answer, wrong)}")
    uneven = np.flatnonzero(np.abs(answer.probs.sum(axis=1) - 1) > 1e-9)
    _promise(len(uneven) == 0, f"a row sums to one: {_row(answer, uneven)}")


def check_odd_data(make: MakeRater) -> None:
    """On tiny data sets and other scales the rater works, or raises a HybridSimError that explains itself."""
    everyday = tiny_dataset(n_users=12, n_items=15)
    odd = {
        "one user": tiny_dataset(n_users=1),
        "one item": tiny_dataset(n_items=1),
        "one rating": everyday.take(np.array([0])),
        "no ratings": everyday.take(np.array([], dtype=np.int64)),
        "equal ratings": replace(everyday, rating=np.full(len(everyday), 3.0)),
        "two levels": tiny_dataset(n_users=12, n_items=15, levels=(0, 1)),
        "half stars": tiny_dataset(n_users=12, n_items=15, levels=np.arange(0.5, 5.5, 0.5).tolist()),
        "0 to 100": tiny_dataset(n_users=12, n_items=15, levels=range(101)),
    }
    for name, dataset in odd.items():
        with _described(f"a data set with {name}"):
            pairs = _questions(dataset)
            try:
                check_answer(make().fit(dataset).rate(pairs), pairs, dataset.scale)
            except HybridSimError as refusal:
                _promise(len(str(refusal)) > 20, f"a refusal says why, not only {str(refusal)!r}")


@contextmanager
def _described(situation: str) -> Iterator[None]:
    """Say in which situation a promise was broken; any other exception breaks one, too."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{situation}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{situation}: the rater raised {error!r}") from error


def _promise(kept: bool, promise: str) -> None:
    if not kept:
        raise AssertionError(f"the contract of raters is broken: {promise}")


def _row(answer: RatingDistribution, rows: IntArray) -> str:
    return f"row {rows[0]} is {answer.probs[rows[0]]}" if len(rows) else ""


def _same(one: RatingDistribution, other: RatingDistribution) -> bool:
    return np.allclose(one.probs, other.probs, rtol=0, atol=TOLERANCE, equal_nan=True)


def _equal(one: RatingDistribution, other: RatingDistribution) -> bool:
    return np.array_equal(one.probs, other.probs, equal_nan=True)


def _questions(dataset: Dataset) -> Pairs:
    """Rated pairs, pairs at random, users and items without ratings, and mixtures of known and unknown."""
    rng = np.random.default_rng(0)
    rated = rng.permutation(len(dataset))[:60]
    user = np.concatenate([dataset.user[rated], rng.integers(-1, dataset.n_users, 120), [-1, -1, 0]])
    item = np.concatenate([dataset.item[rated], rng.integers(-1, dataset.n_items, 120), [-1, 0, -1]])
    return Pairs(user.astype(np.int64), item.astype(np.int64))


def _check_batches(rater: Rater, pairs: Pairs, answer: RatingDistribution) -> None:
    """A pair's answer has the same bits in every batch, order and number of BLAS threads."""
    _promise(_equal(rater.rate(pairs), answer), "the same question has the same answer, asked again")
    rng = np.random.default_rng(1)
    order = rng.permutation(len(pairs))
    _promise(_same(rater.rate(pairs.take(order)), answer.take(order)), "the order of pairs does not matter")
    cuts = np.sort(rng.choice(len(pairs), min(6, len(pairs)), replace=False))
    singles = np.arange(min(60, len(pairs)))[:, None]
    for promise, batches in {
        "the answer to a pair does not depend on its batch, not even in its last bit": [order, *np.split(order, cuts)],
        "a pair asked alone has the same answer as in a batch, to the last bit": list(singles),
    }.items():
        rows = np.concatenate(batches)
        parts = np.concatenate([rater.rate(pairs.take(batch)).probs for batch in batches])
        _promise(_equal(RatingDistribution(answer.scale, parts), answer.take(rows)), promise)
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            _promise(_equal(rater.rate(pairs), answer), "the answer does not depend on the number of threads")
    with _described("an empty batch"):
        _promise(len(rater.rate(pairs.take(slice(0, 0)))) == 0, "the answer is empty, too")


def _check_unknown(rater: Rater, dataset: Dataset) -> None:
    """-1 must not pick the last user or item, as a plain array lookup would."""
    for side, counts, n_others in (
        ("user", dataset.user_counts, dataset.n_items),
        ("item", dataset.item_counts, dataset.n_users),
    ):
        if len(counts) > 1 and counts[-1]:
            others = np.arange(n_others)
            columns = ((np.full(n_others, row), others) for row in (len(counts) - 1, 0, -1))
            last, first, unknown = (rater.rate(Pairs(*(c if side == "user" else c[::-1]))) for c in columns)
            _promise(_same(last, first) or not _same(unknown, last), f"{side} -1 is unknown, not the last {side}")


def _check_saving(rater: Rater, pairs: Pairs, answer: RatingDistribution) -> None:
    trust = (type(rater).__module__,)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        model_files.save(rater, before, trust=trust)
        rater.rate(pairs)
        model_files.save(rater, after, trust=trust)
        _promise(_content(before) == _content(after), "rate changes nothing")
        loaded = model_files.load(before, trust=trust)
        _promise(type(loaded) is type(rater), "a loaded rater is of the class that was saved")
        _promise(_same(loaded.rate(pairs), answer), "a loaded rater answers as the saved one did")


def _content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _check_repeated_fit(make: MakeRater, dataset: Dataset, pairs: Pairs, answer: RatingDistribution) -> None:
    with _global_random_state(1):
        again = make().fit(dataset).rate(pairs)
    _promise(_same(again, answer), "two fits give the same rater: randomness comes from a seed in its settings")


@contextmanager
def _global_random_state(seed: int) -> Iterator[None]:
    """Put numpy's global generator elsewhere, as code around a rater may."""
    before = np.random.get_state()  # noqa: NPY002  the legacy state is what a rater must not depend on
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _check_held_out(make: MakeRater, dataset: Dataset, pairs: Pairs) -> None:
    """Shuffled held-out ratings, which another rater was fitted on just before, must not move an answer.

    The true and the shuffled data set have names of their own, so that a cache by name leaks to each its own.
    """
    rng = np.random.default_rng(2)
    held_out = rng.random(len(dataset)) < 0.3
    shuffled = dataset.rating.copy()
    shuffled[held_out] = rng.permutation(shuffled[held_out])
    answers = []
    for name, rating in (("true", dataset.rating.copy()), ("shuffled", shuffled)):
        whole = replace(dataset, name=f"{dataset.name}, held-out ratings {name}", rating=rating)
        make().fit(whole)
        answers.append(make().fit(whole.take(~held_out)).rate(pairs))
    _promise(_same(*answers), "fitting never sees what is held out, not even through an earlier fit")


def tiny_dataset(
    n_users: int = 40,
    n_items: int = 60,
    levels: Sequence[float] = (1, 2, 3, 4, 5),
    density: float = 0.4,
    seed: int = 0,
) -> Dataset:
    """Made-up ratings with a little taste in them, and all the side information that the raters know of.

    Users have age, gender and occupation; items have title, year (NaN for one), genres (none for one) and
    overview ("" for one). Ratings follow user and item biases and a liking for genres, and come with
    timestamps. Where there are more than four users and items, the last but one user and item have no
    ratings; the last of each is rated as low as possible.
    """
    rng = np.random.default_rng(seed)
    users, items = _people(n_users, rng), _films(n_items, rng)
    taste = np.array([[genre in own for genre in GENRES] for own in items["genres"]]) @ rng.normal(
        size=(len(GENRES), n_users)
    )
    liking = (
        0.6 * taste.T
        + rng.normal(size=(n_users, 1))
        + rng.normal(size=(1, n_items))
        + rng.normal(size=(n_users, n_items))
    )
    rated = rng.random((n_users, n_items)) < density
    if n_users > 4:
        rated[-2] = False
        liking[-1] = -10.0
    if n_items > 4:
        rated[:, -2] = False
        liking[:, -1] = -10.0
    rated[0, 0] = True
    user, item = np.nonzero(rated)
    order = rng.permutation(len(user))
    user, item = user[order], item[order]
    scale = RatingScale(tuple(levels))
    position = np.clip((liking + 3) / 6, 0, 1) * (scale.high - scale.low) + scale.low
    return Dataset(
        name="tiny",
        scale=scale,
        users=users,
        items=items,
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        rating=scale.round(position[user, item]),
        timestamp=rng.integers(900_000_000, 990_000_000, len(user)),
        synthetic=True,
    )


def _people(n_users: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": rng.integers(15, 70, n_users).astype(float),
            "gender": rng.choice(["F", "M"], n_users).astype(object),
            "occupation": rng.choice(["baker", "nurse", "pilot", "student"], n_users).astype(object),
        },
        index=pd.Index([f"u{row:02d}" for row in range(n_users)], dtype=object),
    )


def _films(n_items: int, rng: np.random.Generator) -> pd.DataFrame:
    words = rng.choice(_WORDS, (n_items, 6))
    genres = [tuple(sorted(rng.choice(GENRES, rng.integers(1, 4), replace=False).tolist())) for _ in range(n_items)]
    years = rng.integers(1950, 2020, n_items).astype(float)
    overviews = [
        f"{' and '.join(own)}: of a {row[2]}, a {row[3]} and a {row[4]}, and how the {row[5]} ends."
        for row, own in zip(words, genres, strict=True)
    ]
    if n_items > 4:
        genres[1], years[2], overviews[3] = (), np.nan, ""
    return pd.DataFrame(
        {
            "title": [f"The {row[0]} and the {row[1]}".title() for row in words],
            "year": years,
            "genres": genres,
            "overview": overviews,
        },
        index=pd.Index([f"i{row:02d}" for row in range(n_items)], dtype=object),
    )
