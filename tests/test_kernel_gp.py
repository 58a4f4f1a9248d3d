"""The joint Gaussian process equals the textbook, and speaks about items that nobody has rated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, Pairs
from hybrid_sim.data.world import make_world
from hybrid_sim.models.features import SideEncoder
from hybrid_sim.models.kernel_gp import KernelGP, KernelWeights
from hybrid_sim.retrieval.tfidf import TfidfSVD
from hybrid_sim.testing import check_rater, tiny_dataset


def embedder(dataset: Dataset) -> TfidfSVD:
    return TfidfSVD(dim=8).fit(item_texts(dataset))


def grid(dataset: Dataset) -> Pairs:
    """Every user with every item."""
    user, item = np.divmod(np.arange(dataset.n_users * dataset.n_items), dataset.n_items)
    return Pairs(user, item)


def biases_only(tolerance: float, noise_factor: float = 0.24) -> KernelGP:
    """A process without interactions, side information and exposure."""
    return KernelGP(
        user=KernelWeights(),
        item=KernelWeights(),
        user_bias=KernelWeights(identity=0.2),
        item_bias=KernelWeights(identity=0.1),
        noise_factor=noise_factor,
        tolerance=tolerance,
    )


def unit(block: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    return np.asarray(block / np.where(lengths > 0, lengths, 1))


def kernel(weights: KernelWeights, kinds: dict[str, FloatArray]) -> FloatArray:
    """The weighted sum of kernels of one side, written down."""
    n_rows = len(kinds["side"])
    return np.asarray(weights.identity * np.eye(n_rows) + sum(getattr(weights, kind) * k for kind, k in kinds.items()))


def kinds_of(dataset: Dataset, by_user: bool) -> dict[str, FloatArray]:
    met = np.zeros((dataset.n_users, dataset.n_items))
    met[dataset.user, dataset.item] = 1.0
    met, frame = (met, dataset.users) if by_user else (met.T, dataset.items)
    exposure = unit(met / np.sqrt(np.maximum(met.sum(axis=0), 1)))
    side = np.hstack([unit(block) for block in SideEncoder().fit(frame).encode_columns(frame).values()])
    kinds = {"side": side @ side.T, "exposure": exposure @ exposure.T}
    if not by_user:
        vectors = embedder(dataset).embed(item_texts(dataset)).astype(float)
        text = unit(vectors - vectors.mean(axis=0))
        kinds["text"] = text @ text.T
    return kinds


def user_noise(dataset: Dataset, support: float) -> FloatArray:
    """Mean squared residual of shrunk item and then user means, shrunk towards that of all, one user at a time."""
    rest = dataset.rating - dataset.rating.mean()
    for rows_of, n_rows in ((dataset.item, dataset.n_items), (dataset.user, dataset.n_users)):
        means = [rest[rows_of == row].sum() / ((rows_of == row).sum() + 5) for row in range(n_rows)]
        rest = rest - np.array(means)[rows_of]
    squares = rest**2
    own = [squares[dataset.user == row] for row in range(dataset.n_users)]
    return np.array([(s.sum() + support * squares.mean()) / (len(s) + support) for s in own])


def textbook(gp: KernelGP, dataset: Dataset, asked: Pairs) -> FloatArray:
    """The posterior mean with every covariance written down and every system solved."""
    users, items = kinds_of(dataset, by_user=True), kinds_of(dataset, by_user=False)
    variance = dataset.rating.var()

    def covariance(one: Pairs, other: Pairs) -> FloatArray:
        u, i = np.ix_(one.user, other.user), np.ix_(one.item, other.item)
        joint = kernel(gp.user, users)[u] * kernel(gp.item, items)[i]
        return np.asarray(variance * (joint + kernel(gp.user_bias, users)[u] + kernel(gp.item_bias, items)[i]))

    noise = gp.noise_factor * user_noise(dataset, gp.noise_support)[dataset.user]
    system = covariance(dataset.pairs, dataset.pairs) + np.diag(noise)
    mean = dataset.rating.mean()
    return np.asarray(mean + covariance(asked, dataset.pairs) @ np.linalg.solve(system, dataset.rating - mean))


def test_it_equals_the_textbook() -> None:
    dataset = tiny_dataset(n_users=12, n_items=15, density=0.5)
    gp = KernelGP(embedder=embedder(dataset), tolerance=1e-7).fit(dataset)
    asked = grid(dataset)
    assert gp.expect(asked) == pytest.approx(textbook(gp, dataset, asked), abs=1e-3)


def test_the_default_tolerance_and_rank_are_near_the_textbook() -> None:
    dataset = tiny_dataset(n_users=60, n_items=70, density=0.3)
    gp = KernelGP(embedder=embedder(dataset)).fit(dataset)
    asked = grid(dataset)
    assert np.abs(gp.expect(asked) - textbook(gp, dataset, asked)).max() < 0.05


@pytest.mark.parametrize("shape", [(15, 60), (60, 15)], ids=["more items", "more users"])
def test_a_process_of_biases_alone_is_solved_whatever_side_is_larger(shape: tuple[int, int]) -> None:
    """Here the preconditioner is the inverse of the covariance, so that a wrong one shows most."""
    dataset = tiny_dataset(*shape, density=0.6)
    gp = biases_only(tolerance=1e-9).fit(dataset)
    asked = grid(dataset)
    assert gp.expect(asked) == pytest.approx(textbook(gp, dataset, asked), abs=1e-4)


def test_biases_of_many_precise_ratings_are_solved() -> None:
    """Biases alone are a ridge regression; without its preconditioner the solver would stop far from it."""
    whole = tiny_dataset(300, 400, density=0.3)
    popularity = (1 + whole.item % 40) ** -0.7 * (1 + whole.user % 30) ** -0.5
    dataset = whole.take(np.random.default_rng(0).random(len(whole)) < popularity)
    gp = biases_only(noise_factor=1e-4, tolerance=1e-9).fit(dataset)
    design = np.zeros((len(dataset), 700))
    design[np.arange(len(dataset)), dataset.user] = 1.0
    design[np.arange(len(dataset)), 300 + dataset.item] = 1.0
    precision = 1e4 / user_noise(dataset, gp.noise_support)[dataset.user]
    prior = np.repeat([1 / 0.2, 1 / 0.1], [300, 400]) / dataset.rating.var()
    mean = dataset.rating.mean()
    system = design.T @ (precision[:, None] * design) + np.diag(prior)
    biases = np.linalg.solve(system, design.T @ (precision * (dataset.rating - mean)))
    assert gp.expect(dataset.pairs) == pytest.approx(mean + design @ biases, abs=1e-4)


def test_a_cold_item_is_rated_by_its_text_and_side_information() -> None:
    world = make_world(seed=3, n_users=100, n_items=150, ratings_per_user=40).dataset
    cold = world.item % 5 == 0
    train, held = world.take(~cold), world.take(cold)
    blank = replace(train, items=train.items[[]])
    without, side, text = (
        gp.fit(dataset).expect(held.pairs)
        for gp, dataset in (
            (KernelGP(), blank),
            (KernelGP(), train),
            (KernelGP(embedder=embedder(train)), train),
        )
    )
    error = [float(np.sqrt(np.mean((mean - held.rating) ** 2))) for mean in (without, side, text)]
    assert error[1] < error[0] - 0.02
    assert error[2] < error[0] - 0.04
    own = [mean[held.user == 0] for mean in (without, text)]
    assert own[0].std() == pytest.approx(0, abs=1e-6)
    assert own[1].std() > 0.05


def test_unknown_users_and_items() -> None:
    dataset = tiny_dataset()
    gp = KernelGP().fit(dataset)
    some, nobody = np.arange(10), np.full(10, -1)
    by_item, by_user = gp.expect(Pairs(nobody, some)), gp.expect(Pairs(some, nobody))
    assert np.isfinite(by_item).all()
    assert by_item.std() > 0.05
    assert by_user.std() > 0.05
    assert np.isnan(gp.expect(Pairs(nobody, nobody))).all()
    assert not gp.rate(Pairs(nobody, nobody)).answered.any()


def test_users_who_are_erratic_have_wider_opinions() -> None:
    dataset = tiny_dataset(density=0.6)
    erratic = dataset.user == 0
    rating = np.where(erratic, np.random.default_rng(0).choice([1.0, 5.0], len(dataset)), 3.0)
    gp = KernelGP().fit(replace(dataset, rating=np.where(dataset.user < 20, rating, dataset.rating)))
    item = np.arange(dataset.n_items)
    wide, narrow = (gp.rate(Pairs(np.full(len(item), user), item)).std().mean() for user in (0, 1))
    assert wide > 1.5 * narrow


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(SettingsError, match="noise_factor of KernelGP must be a positive number, got 0"):
        KernelGP(noise_factor=0.0)
    with pytest.raises(SettingsError, match="tolerance of KernelGP must be a positive number, got -1"):
        KernelGP(tolerance=-1.0)


@pytest.mark.parametrize("with_text", [False, True])
def test_conforms(with_text: bool) -> None:
    texts = embedder(tiny_dataset()) if with_text else None
    check_rater(lambda: KernelGP(rank=16, embedder=texts))
