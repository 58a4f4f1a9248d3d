"""Policies and agents, in an environment and on the log; planted faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import run_command

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.env import Population, open_population
from hybrid_sim.environments.correlation import Correlation
from hybrid_sim.environments.folder import Population as People
from hybrid_sim.environments.off_policy import off_policy_estimate
from hybrid_sim.environments.rank import Ranking, rank


@pytest.fixture(scope="module")
def true_population(world_env: Path) -> Population:
    """People whose held-out ratings were drawn from the environment itself, as a perfect simulator's would be."""
    from hybrid_sim.environments.episodes import Episodes, Rules

    population = replace(open_population(world_env), correlation=Correlation(0.1, 0.2))
    n_users, n_items = len(population.user_ids), len(population.item_ids)
    episodes = Episodes(population, n_users, Rules(max_steps=99))
    episodes.reset(range(n_users), range(n_users))
    for row in range(n_users):
        episodes.reset([row], [row], population.user_ids[row])
    rng = np.random.default_rng(0)
    items = [rng.permutation(np.flatnonzero(mask))[:30] for mask in episodes.action_masks()]
    levels = []
    for step in range(30):
        episodes.step(np.array([own[step] for own in items])[:, None])
        levels.append(episodes.results.outcomes[:, 1].copy())
    held_out = replace(
        population.train,
        user=np.repeat(np.arange(n_users), 30),
        item=np.concatenate(items).astype(np.int64),
        rating=population.scale.values[np.stack(levels, axis=1).ravel()],
        timestamp=None,
    )
    assert n_items == 80
    return replace(population, held_out=held_out)


@pytest.fixture(scope="module")
def honest(true_population: Population) -> Ranking:
    return rank(true_population, n_boot=200)


def test_an_environment_that_is_right_has_no_gap(honest: Ranking) -> None:
    by_name = {result.name: result for result in honest.policies}
    assert honest.kendall_tau.estimate > 0.7
    assert 0.75 < honest.spread_ratio.estimate < 1.3
    for result in honest.policies:
        assert abs(result.gap.estimate) < 0.06, result.name
        assert result.gap.low < result.gap.estimate < result.gap.high
    assert by_name["greedy"].real.estimate > by_name["random"].real.estimate + 0.03
    assert by_name["greedy, upside down"].real.estimate < by_name["random"].real.estimate - 0.03
    assert by_name["random"].gap_beyond_random.estimate == 0
    assert {verdict.name: verdict.passed for verdict in honest.verdicts}["level"]


@pytest.mark.parametrize("fault", ["generous-items", "users-shuffled", "constant", "independent"])
def test_a_planted_fault_is_found_out(true_population: Population, honest: Ranking, fault: str) -> None:
    ranking = rank(true_population, planted=fault, n_boot=100)
    failed = {verdict.name for verdict in ranking.verdicts if not verdict.passed}
    assert failed - {verdict.name for verdict in honest.verdicts if not verdict.passed}, ranking.verdicts
    assert not ranking.believable
    assert ranking.planted == fault


def test_off_policy_estimates_of_the_logging_policy_are_the_logs_mean(true_population: People) -> None:
    """A policy like the propensity model has weights near one, a policy that shows one item hardly any overlap."""
    population = true_population
    n_users, n_items = len(population.user_ids), len(population.item_ids)
    counts = np.broadcast_to(np.log(population.train.item_counts + 1.0), (n_users, n_items))
    near = off_policy_estimate(population, counts)
    mean = (population.held_out.rating.mean() - 1) / 4
    assert near.snips == pytest.approx(mean, abs=0.05)
    assert near.enough_overlap
    far = off_policy_estimate(population, 100.0 * np.eye(n_items)[np.arange(n_users) % n_items])
    assert far.overlap < near.overlap / 3


def test_mistakes_of_rank_are_refused_in_one_line(world_env: Path, tmp_path: Path) -> None:
    population = open_population(world_env)
    with pytest.raises(SettingsError, match=r"0 users have 20 held-out ratings, and 20 are needed; build"):
        rank(population)
    with pytest.raises(SettingsError, match="there is no planted fault 'generous'; did you mean 'generous-items'"):
        rank(population, planted="generous")
    foreign = tmp_path / "ppo-0.zip"
    foreign.write_bytes(b"no agent")
    for name, message in (
        ("ppo-0.zip", "is not an agent of this environment"),
        ("x.zip", "does not begin with the name"),
    ):
        done = run_command("rank", world_env, "--agents", tmp_path / name)
        assert done.status == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    done = run_command("rank", tmp_path)
    assert done.status == 2
    assert "is not an environment: manifest.json is missing" in done.stderr


@pytest.mark.parametrize("algorithm", ["a2c", "dqn", "ppo", "trpo", "maskable-ppo"])
def test_agents_are_trained_resumed_and_tried(
    algorithm: str, world_env: Path, true_population: Population, tmp_path: Path
) -> None:
    from hybrid_sim.environments.agents import read_agent

    options = ["--steps", "2100", "--seeds", "0", "--checkpoint-every", "1000", "-o", tmp_path / "agents", "--quiet"]
    done = run_command("train", algorithm, world_env, *options)
    assert done.status == 0, done.stderr
    result = json.loads((tmp_path / "agents" / "result.json").read_text())
    (agent,) = result["agents"]
    assert 0 < agent["reward"] < 1
    assert len(agent["satisfaction"]) > 10
    progress = tmp_path / "agents" / "progress.json"
    assert json.loads(progress.read_text())["done"] == {"0": 2100}
    again = run_command("train", algorithm, world_env, *options)
    assert again.stdout == done.stdout
    progress.write_text(progress.read_text().replace("2100\n", "1000\n", 1).replace('"0": 2100', '"0": 1000'))
    assert run_command("train", algorithm, world_env, *options).status == 0
    other = run_command("train", algorithm, world_env, "--steps", "5", "-o", tmp_path / "agents")
    assert other.status == 2
    assert "holds agents of another algorithm, environment or number of steps" in other.stderr
    scores = read_agent(tmp_path / "agents" / agent["file"], true_population)
    if algorithm == "ppo":
        names = [result.name for result in rank(true_population, {"ppo": scores}, n_boot=20).policies]
        assert names[-1] == "ppo"
