"""Environments: what is built, the person in an episode, and the single and the vector environment for Gymnasium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from command_line import run_command
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from hybrid_sim.core.errors import InputError, ModelFileError, SettingsError
from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
from hybrid_sim.env import Population, RecommenderEnv, RecommenderVectorEnv, SB3VecEnv, open_population
from hybrid_sim.environments.belief import cutpoints, sequential_probabilities
from hybrid_sim.environments.correlation import Correlation, Sequences, item_features, learn_correlation
from hybrid_sim.environments.episodes import Episodes, Rules

EFFECTS: dict[str, Any] = {"boredom": 0.4, "drift": 0.05, "leave": 0.025, "patience": 6}


@pytest.fixture(scope="module")
def population(world_env: Path) -> Population:
    return open_population(world_env)


def open_items(env: RecommenderEnv) -> list[int]:
    return [int(row) for row in np.flatnonzero(env.action_masks())]


# What is built


def test_a_built_environment_has_the_simulators_distributions_and_the_ratings(world_env: Path) -> None:
    population = open_population(world_env)
    simulator = population.simulator()
    pairs = Pairs(np.array([3, 7, 7]), np.array([5, 0, 79]))
    expected = simulator.predict_pairs(pairs).distribution.probs
    np.testing.assert_allclose(population.distribution(pairs).probs, expected, atol=1e-6)
    simulator.require_fitted_to(population.train)
    assert population.protocol == "user-temporal"
    assert len(population.held_out) == pytest.approx(len(population.train) / 4, rel=0.1)
    assert not np.isin(population.held_out.pairs.keys(80), population.train.pairs.keys(80)).any()


@pytest.mark.parametrize("name", ["cutpoints.npy", "arrays.npz", "catalogue.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_environment_is_refused_in_one_line(world_env: Path, tmp_path: Path, name: str, damage: str) -> None:
    shutil.copytree(world_env, tmp_path / "env")
    path = tmp_path / "env" / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 255
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    with pytest.raises(ModelFileError) as refused:
        open_population(tmp_path / "env")
    assert "\n" not in str(refused.value)
    assert "hybrid-sim env build" in str(refused.value)


def test_an_environment_of_another_format_version_is_refused(world_env: Path, tmp_path: Path) -> None:
    shutil.copytree(world_env, tmp_path / "env")
    manifest = tmp_path / "env" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(ModelFileError, match="format version 99, this release 1; build it again"):
        open_population(tmp_path / "env")


def test_a_folder_with_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = run_command("env", "build", "-o", tmp_path, "--quiet")
    assert done.status == 2
    assert "is not an environment and will not be overwritten" in done.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_command_builds_with_a_fitted_simulator_and_without_a_protocol(tmp_path: Path, world_model: Path) -> None:
    done = run_command("env", "build", "--protocol", "none", "--model", world_model, "-o", tmp_path / "env", "--quiet")
    assert done.status == 0, done.stderr
    assert "0 ratings held out" in done.stdout
    with pytest.raises(SettingsError, match="a replay needs held-out ratings: build with --protocol user-temporal"):
        RecommenderEnv("replay", folder=tmp_path / "env")
    done = run_command("env", "build", "--model", world_model, "-o", tmp_path / "other", "--quiet")
    assert done.status == 2
    assert "the simulator was fitted to other data" in done.stderr


def test_actions_of_the_command_are_known(tmp_path: Path) -> None:
    done = run_command("env", "biuld", "-o", tmp_path / "env")
    assert done.status == 2
    assert "env 'biuld' is not known; did you mean 'build'?" in done.stderr


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    for package, extra, use in (
        ("gymnasium", "rl", "hybrid_sim.env"),
        ("stable_baselines3", "agents", "hybrid_sim.env; hybrid_sim.env.SB3VecEnv"),
    ):
        code = f"import sys; sys.modules[{package!r}] = None; import {use}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"{package} is not installed; run: pip install 'hybrid-sim[{extra}]'" in done.stderr


# The person


def test_cutpoints_give_back_the_distribution() -> None:
    probs = np.array([[0.2, 0.0, 0.5, 0.3], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    cuts = cutpoints(RatingDistribution(RatingScale((1, 2, 3, 4)), probs))
    features = np.eye(1, 3)
    found = sequential_probabilities(
        np.array([0, 3]), np.zeros(3, dtype=np.int64), np.array([2, 0, 3]), cuts, features, np.zeros(3), -1
    )
    np.testing.assert_allclose(found, probs, atol=1e-6)


def planted(n_users: int, level: float, taste: float, seed: int) -> tuple[Sequences, np.ndarray]:
    """Ratings of people whose latent ratings have these shares of level and taste, each distribution uniform."""
    rng = np.random.default_rng(seed)
    features = item_features(rng.normal(size=(50, 4)))
    people = rng.normal(size=(n_users, features.shape[1])) * np.sqrt(np.append(level, np.full(4, taste)))
    item = np.concatenate([rng.permutation(50)[:20] for _ in range(n_users)])
    user = np.repeat(np.arange(n_users), 20)
    own = np.einsum("nd,nd->n", people[user], features[item])
    latent = own + rng.normal(size=len(user)) * np.sqrt(1 - level - taste)
    scale = RatingScale((1, 2, 3, 4))
    cuts = cutpoints(RatingDistribution(scale, np.full((len(user), 4), 0.25)))
    answers = np.sum(latent[:, None] > cuts, axis=1)
    starts = np.arange(n_users + 1) * 20
    return Sequences(np.arange(len(user)), starts, item, answers, cuts), features


def test_planted_correlations_are_recovered() -> None:
    sequences, features = planted(400, 0.15, 0.3, seed=1)
    learned = learn_correlation(sequences, features)
    assert learned.level == pytest.approx(0.15, abs=0.05)
    assert learned.taste == pytest.approx(0.3, abs=0.06)
    independent, features = planted(400, 0.0, 0.0, seed=2)
    learned = learn_correlation(independent, features)
    assert learned.level + learned.taste < 0.04


def test_own_earlier_ratings_help_and_those_of_a_stranger_do_not() -> None:
    sequences, features = planted(400, 0.15, 0.3, seed=3)
    rng = np.random.default_rng(0)
    correlation = Correlation(0.15, 0.3)
    strangers = Sequences(
        sequences.rows, sequences.starts, sequences.item, rng.permutation(sequences.level), sequences.cuts
    )
    static = np.log(4)
    assert sequences.log_loss(features, correlation) < static - 0.05
    assert strangers.log_loss(features, correlation) > static + 0.05


def test_answers_of_episodes_have_the_simulators_distribution_and_hang_together(population: Population) -> None:
    """Marginals are kept whatever was answered before; the sum of a person's answers varies more than if they were
    independent."""
    strong = Population(
        population.train, population.held_out, population.cutpoints, population.features, Correlation(0.3, 0.3), ""
    )
    user, n = population.user_ids[4], 4000
    items = np.flatnonzero(RecommenderEnv(folder=population, users=[user]).episodes.people.closed_to[4] == 0)[:6]
    episodes = Episodes(strong, n, Rules())
    episodes.reset(range(n), range(n), user)
    answers = []
    for item in items:
        episodes.step(np.full((n, 1), item))
        answers.append(episodes.results.outcomes[:, 1].copy())
    expected = population.distribution(Pairs(np.full(6, 4), items))
    for place in range(6):
        shares = np.bincount(answers[place], minlength=5) / n
        np.testing.assert_allclose(shares, expected.probs[place], atol=0.035)
    alone = np.sqrt((expected.std() ** 2).sum())
    assert np.sum(answers, axis=0).std() > 1.25 * alone


def test_a_real_answer_changes_predictions_of_like_items_and_no_others_users(population: Population) -> None:
    env = RecommenderEnv(folder=population)
    env.reset(seed=0, options={"user_id": "u0003"})
    items = [population.item_ids[row] for row in open_items(env)[:10]]
    before = env.predict(items)
    env.observe(items[0], 1)
    env.observe(items[1], 1)
    after = env.predict(items)
    values = population.scale.values
    assert (after[2:] @ values).mean() < (before[2:] @ values).mean()
    np.testing.assert_allclose(after.sum(axis=1), 1.0)
    assert not env.action_masks()[population.item_row(items[0])]
    env.reset(options={"user_id": "u0003"})
    np.testing.assert_array_equal(env.predict(items), before)


def test_the_first_prediction_is_the_simulators_own(population: Population) -> None:
    env = RecommenderEnv(folder=population)
    env.reset(seed=0, options={"user_id": "u0007"})
    predicted = env.predict(population.item_ids)
    pairs = Pairs(np.full(80, population.user_row("u0007")), np.arange(80))
    np.testing.assert_allclose(predicted, population.distribution(pairs).probs, atol=1e-7)


# Gymnasium


@pytest.mark.parametrize("kind", ["Recommend", "Slate"])
@pytest.mark.parametrize("effects", [{}, {**EFFECTS, "explain": True, "repeats": "allow"}])
def test_both_checkers_have_nothing_to_say(world_env: Path, kind: str, effects: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(f"HybridSim/{kind}-v0", folder=world_env, **effects)
        check_env(env.unwrapped, skip_render_check=True)
        check_env_for_sb3(env.unwrapped)


def test_environments_are_made_by_their_full_name(world_env: Path) -> None:
    env = gymnasium.make("hybrid_sim.env:HybridSim/Recommend-v0", folder=world_env)
    _, info = env.reset(seed=1, options={"user_id": "u0011"})
    assert info["user_id"] == "u0011"
    observation, reward, terminated, truncated, info = env.step(open_items(env.unwrapped)[0])
    assert set(info) == {"user_id", "item_id", "rating", "p", "source", "repeat", "cost_usd"}
    assert info["source"] == "stat"
    assert reward == (info["rating"] - 1) / 4
    assert not terminated
    assert not truncated
    assert observation["shown"][-1] == open_items(env.unwrapped)[0] or observation["shown"][-1] > 0
    assert observation["answers"][-1] == info["rating"] - 1


@pytest.mark.parametrize(("kind", "size"), [("Recommend", 1), ("Slate", 3), ("Replay", 1)])
@pytest.mark.parametrize("effects", [{}, EFFECTS])
def test_a_row_of_the_vector_environment_is_the_single_environment(
    world_env: Path, kind: str, size: int, effects: dict[str, Any]
) -> None:
    """Whatever the batch: rows of 5 and of 2 agree with single environments, over the ends of episodes."""
    more = {"slate_size": size} if kind == "Slate" else {}
    options = {"folder": world_env, "max_steps": 7, **effects, **more}
    actions = np.random.default_rng(1).integers(0, 80, size=(30, 5, size))
    seen: dict[int, list[Any]] = {}
    for n in (5, 2):
        many = gymnasium.make_vec(f"HybridSim/{kind}-v0", num_envs=n, **options)
        many.reset(seed=10)
        rows: list[list[Any]] = [[] for _ in range(n)]
        for step in actions:
            observed, reward, terminated, truncated, info = many.step(step[:n] if size > 1 else step[:n, 0])
            for row in range(n):
                ended = terminated[row] or truncated[row]
                last = info["final_obs"][row] if ended else {key: value[row] for key, value in observed.items()}
                rows[row].append((*(last[key].tolist() for key in sorted(last)), reward[row], info["item_id"][row]))
        seen |= dict(enumerate(rows)) if n == 5 else {}
        assert all(rows[row] == seen[row] for row in range(n))
    for row in range(5):
        single = gymnasium.make(f"HybridSim/{kind}-v0", disable_env_checker=True, **options)
        single.reset(seed=10 + row)
        for step, expected in zip(actions, seen[row], strict=True):
            last, reward, terminated, truncated, info = single.step(step[row] if size > 1 else int(step[row, 0]))
            assert (*(last[key].tolist() for key in sorted(last)), reward, info["item_id"]) == expected
            if terminated or truncated:
                single.reset()


def test_options_that_are_off_change_nothing(population: Population) -> None:
    def run(**options: Any) -> list[Any]:
        env = RecommenderEnv(folder=population, **options)
        env.reset(seed=5)
        return [env.step(item)[4]["p"].tolist() for item in open_items(env)[:8]]

    plain = run()
    assert run(boredom=0.0, drift=0.0, leave=0.0, patience=None) == plain
    assert run(boredom=1.0) != plain
    assert run(drift=0.5) != plain


def test_a_closed_item_gives_no_answer(population: Population) -> None:
    env = RecommenderEnv(folder=population)
    env.reset(seed=0, options={"user_id": "u0002"})
    rated = int(population.train.item[population.train.user == population.user_row("u0002")][0])
    fresh = open_items(env)[0]
    env.step(fresh)
    for closed in (rated, fresh):
        observation, reward, _, _, info = env.step(closed)
        assert reward == 0
        assert np.isnan(info["rating"])
        assert info["repeat"] is True
        assert observation["shown"][-1] == fresh + 1
    allowed = RecommenderEnv(folder=population, repeats="allow")
    allowed.reset(seed=0, options={"user_id": "u0002"})
    assert allowed.action_masks().all()
    assert allowed.step(rated)[4]["repeat"] is False


def test_episodes_end_as_the_options_say(population: Population) -> None:
    def steps(**options: Any) -> tuple[int, bool, bool]:
        env = RecommenderEnv(folder=population, **options)
        env.reset(seed=2)
        for n in range(1, 200):
            _, _, terminated, truncated, _ = env.step(open_items(env)[0])
            if terminated or truncated:
                return n, terminated, truncated
        raise AssertionError("the episode did not end")

    assert steps(max_steps=5) == (5, False, True)
    assert steps(leave=1.0) == (1, True, False)
    assert steps(reward="like", like_at=5, patience=2)[1]
    n, terminated, truncated = steps(max_steps=500)
    assert (terminated, truncated) == (True, False)
    assert n < 80


def test_rewards_are_ratings_likes_or_cautious_means(population: Population) -> None:
    infos = {}
    for reward in ("rating", "like", "cautious"):
        env = RecommenderEnv(folder=population, reward=reward, like_at=3, caution=1.0)
        env.reset(seed=4)
        _, value, _, _, info = env.step(open_items(env)[0])
        infos[reward] = (value, info)
    rating = infos["rating"][1]["rating"]
    assert infos["rating"][0] == (rating - 1) / 4
    assert infos["like"][0] == float(rating >= 3)
    mean = (infos["cautious"][1]["p"] @ population.scale.values - 1) / 4
    share = population.correlation.level + population.correlation.taste
    assert mean - 0.5 * share**0.5 < infos["cautious"][0] < mean


def test_a_replay_answers_with_the_held_out_ratings(population: Population) -> None:
    env = RecommenderEnv("replay", folder=population)
    env.reset(seed=3)
    held_out = population.held_out
    user = population.user_row(env.user_id)
    rows = np.flatnonzero(held_out.user == user)
    assert set(open_items(env)) == set(held_out.item[rows].tolist())
    for row in rows:
        _, _, terminated, _, info = env.step(int(held_out.item[row]))
        assert info["rating"] == held_out.rating[row]
        assert info["source"] == "real"
    assert terminated


def test_a_person_takes_the_better_item_of_a_slate_more_often(population: Population) -> None:
    env = RecommenderEnv("slate", folder=population, slate_size=2, temperature=0.05)
    taken = []
    user = population.user_row("u0005")
    env.reset(seed=0, options={"user_id": "u0005"})
    order = [int(row) for row in np.argsort(population.distributions_of(user).mean()) if env.action_masks()[row]]
    worst, best = order[0], order[-1]
    for seed in range(60):
        env.reset(seed=seed, options={"user_id": "u0005"})
        taken.append(env.step(np.array([worst, best]))[4]["item_id"])
    best_id, worst_id = population.item_ids[best], population.item_ids[worst]
    assert taken.count(best_id) > 30
    assert taken.count(worst_id) < 15
    env.reset(seed=0, options={"user_id": "u0005"})
    again = [env.step(np.array([best, best]))[4]["item_id"] for _ in range(20)]
    assert again.count(best_id) == 1, "what was taken is closed"


def test_a_snapshot_brings_everything_back(population: Population) -> None:
    env = RecommenderEnv(folder=population, **EFFECTS)
    env.reset(seed=8)
    env.step(open_items(env)[0])
    snapshot = env.snapshot()
    first = [env.step(item) for item in open_items(env)[:4]]
    env.restore(snapshot)
    again = [env.step(item) for item in open_items(env)[:4]]
    assert [(step[1], step[4]["rating"]) for step in first] == [(step[1], step[4]["rating"]) for step in again]
    other = RecommenderEnv(folder=population)
    other.reset(seed=0)
    for foreign in (snapshot, b"", snapshot[:-1]):
        with pytest.raises(SettingsError, match="the snapshot is not of this environment with these options"):
            other.restore(foreign)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boredem": 1}, "there is no option 'boredem'; did you mean 'boredom'?"),
        ({"reward": "likes"}, "reward='likes' is not known; did you mean 'like'?"),
        ({"like_at": 3.5}, "like_at=3.5 is not on the scale 1, 2, 3, 4, 5"),
        ({"max_steps": 0}, "max_steps=0 is no whole number from 1 upwards"),
        ({"patience": 0}, "patience=0 is no whole number from 1 upwards"),
        ({"leave": 2}, "leave=2 is no number from 0 to 1"),
        ({"drift": float("nan")}, "drift=nan is no number from 0 to 1"),
        ({"users": ["nobody"]}, "there is no user 'nobody' in this environment; ids are texts such as 'u0001'"),
        ({"users": []}, "no user has an item that is open; name other users"),
        ({"slate_size": 3}, "slate_size belongs to HybridSim/Slate-v0; leave it out"),
    ],
)
def test_mistaken_options_are_refused_with_a_cure(
    population: Population, options: dict[str, Any], message: str
) -> None:
    for make in (RecommenderEnv, RecommenderVectorEnv):
        with pytest.raises(SettingsError) as refused:
            make(folder=population, **options)
        assert str(refused.value) == message


@pytest.mark.parametrize("action", [-1, 80, 2.5, "3", None])
def test_actions_that_name_no_item_are_refused_and_change_nothing(population: Population, action: Any) -> None:
    env = RecommenderEnv(folder=population)
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(SettingsError, match=r"action .* names no item; items are 0 to 79|action .* is not Discrete"):
        env.step(action)
    assert env.snapshot() == before
    many = RecommenderVectorEnv(2, folder=population)
    many.reset(seed=0)
    with pytest.raises(SettingsError, match=r"names no item; items are 0 to 79|are not MultiDiscrete"):
        many.step([0, action])


def test_unknown_users_and_items_and_steps_before_the_first_reset_are_refused(population: Population) -> None:
    env = RecommenderEnv(folder=population)
    with pytest.raises(SettingsError, match="no episode has begun; call reset first"):
        env.step(0)
    with pytest.raises(SettingsError, match="there is no user 'x' in this environment"):
        env.reset(options={"user_id": "x"})
    with pytest.raises(SettingsError, match="reset has no option 'user'; choose user_id"):
        env.reset(options={"user": "u0001"})
    env.reset(seed=0)
    with pytest.raises(SettingsError, match="there is no item 'x' in this environment"):
        env.predict(["x"])
    with pytest.raises(InputError, match="rating 7 is not on the scale"):
        env.observe("f0001", 7)


def test_stable_baselines_gets_last_observations_and_masks(population: Population) -> None:
    many = SB3VecEnv(RecommenderVectorEnv(3, folder=population, max_steps=2))
    many.seed(4)
    first = many.reset()
    many.step(np.array([0, 1, 2]))
    _, rewards, dones, infos = many.step(np.array([3, 4, 5]))
    assert dones.all()
    assert rewards.dtype == np.float32
    assert [info["TimeLimit.truncated"] for info in infos] == [True] * 3
    assert [info["terminal_observation"]["step"].tolist() for info in infos] == [[2]] * 3
    assert many.env_method("action_masks")[0].shape == (80,)
    many.seed(4)
    np.testing.assert_array_equal(many.reset()["user"], first["user"])
