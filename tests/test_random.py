"""Random numbers depend on what is asked, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from hybrid_sim.core.seeding import derive_seed, pair_uniforms, stream

USERS = np.array([f"u{number % 200}" for number in range(20_000)], dtype=object)
ITEMS = np.array([f"i{number // 200}" for number in range(20_000)], dtype=object)


def test_seeds_are_the_same_in_every_release() -> None:
    """A change of these numbers would change every simulated rating that anybody has published."""
    assert derive_seed(0, "svd", 1) == 6343619416266885632
    assert pair_uniforms(7, USERS[:2], ITEMS[:2], 3).tolist() == [0.2591097319351535, 0.9493770996756848]


def test_seeds_differ_by_every_key_and_by_where_keys_part() -> None:
    seeds = [
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, "a"),
        derive_seed(0, "a", "b"),
        derive_seed(0, "ab"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert stream(3, "x").random() == stream(3, "x").random() != stream(3, "y").random()


def test_a_pair_has_its_number_in_any_order_and_batch() -> None:
    whole = pair_uniforms(5, USERS, ITEMS)
    order = np.random.default_rng(0).permutation(len(USERS))
    assert (pair_uniforms(5, USERS[order], ITEMS[order]) == whole[order]).all()
    parts = [
        pair_uniforms(5, USERS[start : start + 777], ITEMS[start : start + 777]) for start in range(0, 20_000, 777)
    ]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_numbers_are_uniform_and_independent_along_users_and_items(seed: int) -> None:
    numbers = pair_uniforms(seed, USERS, ITEMS)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert kstest(numbers, "uniform").pvalue > 1e-4
    grid = numbers.reshape(100, 200) - 0.5
    for neighbours in (grid[1:] * grid[:-1], grid[:, 1:] * grid[:, :-1]):
        assert abs(neighbours.mean()) < 4 / 12 / np.sqrt(neighbours.size)


def test_seed_replicate_user_and_item_each_change_the_number() -> None:
    ids = np.array(["a"], dtype=object), np.array(["b"], dtype=object)
    asked = [
        pair_uniforms(0, *ids),
        pair_uniforms(1, *ids),
        pair_uniforms(0, *ids, 1),
        pair_uniforms(0, *ids[::-1]),
    ]
    assert len({float(numbers[0]) for numbers in asked}) == 4
    replicates = np.stack([pair_uniforms(0, USERS, ITEMS, replicate) for replicate in range(3)])
    assert np.abs(np.corrcoef(replicates) - np.eye(3)).max() < 0.03


def test_any_id_has_a_number() -> None:
    odd = np.array(["", "é", "x\x00y", "名", "a" * 3000], dtype=object)
    numbers = pair_uniforms(0, odd, odd)
    assert len(set(numbers.tolist())) == len(odd)
