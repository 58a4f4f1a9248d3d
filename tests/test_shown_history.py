"""Which of a user's past ratings a language model is shown: the last ones, those of similar items, or both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm_server import LoopbackLLM

from hybrid_sim.cli import main
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.settings import LLMSettings, RatingSettings, RunSettings
from hybrid_sim.core.user_state import Histories, History, UserState
from hybrid_sim.data.world import make_world
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template
from hybrid_sim.retrieval.embedder import embedder_for
from hybrid_sim.retrieval.index import item_index
from hybrid_sim.simulation.interviewer import RatingRequest, interviewer
from hybrid_sim.simulation.session import identity
from hybrid_sim.simulation.simulator import Simulator

N_SHOWN = 6
USER = 4


@pytest.fixture(scope="module")
def world() -> Dataset:
    return make_world(seed=3, n_users=40, n_items=80, ratings_per_user=30).dataset


@pytest.fixture(scope="module")
def asked(world: Dataset) -> list[int]:
    rated = Histories(world).of(USER).item
    return [*np.setdiff1d(np.arange(world.n_items), rated)[:2].tolist(), int(rated[3])]


def past(prompt: str) -> list[dict[str, Any]]:
    """The rated items that a prompt shows."""
    (block,) = re.findall("<rated>\n(.*?)\n</rated>", prompt, re.DOTALL)
    return list(json.loads(block))


def shown(dataset: Dataset, asked: list[int], rule: str, folder: Path) -> list[tuple[str, float]]:
    """Titles and ratings of the past in the prompt that came over the wire."""
    with LoopbackLLM() as server:
        llm_settings = LLMSettings(model="loopback", base_url=server.url)
        rating = RatingSettings.model_validate({"history": rule, "n_history": N_SHOWN})
        run = RunSettings(llm=llm_settings, rating=rating)
        with Journal(folder / "journal.sqlite") as journal, LLM(run.llm, journal, Budget()) as llm:
            state = UserState(USER, Histories(dataset).of(USER))
            interviewer(dataset, run, llm, without=["profile"]).ask([RatingRequest(state, np.array(asked))])
        (body,) = server.bodies
    return [(record["title"], record["rating"]) for record in past(body["messages"][1]["content"])]


def expected(dataset: Dataset, history: History, places: list[int]) -> list[tuple[str, float]]:
    titles, years = dataset.items["title"], dataset.items["year"]
    items = history.item[places].tolist()
    return [
        (f"{titles.iloc[item]} ({years.iloc[item]:g})", rating)
        for item, rating in zip(items, history.rating[places].tolist(), strict=True)
    ]


def test_the_prompt_shows_the_past_ratings_that_the_setting_names(
    world: Dataset, asked: list[int], tmp_path: Path
) -> None:
    history = Histories(world).of(USER)
    vectors = item_index(world, embedder_for(world)).vectors_
    others = [place for place in range(len(history)) if history.item[place] not in asked]
    similarity = (vectors[history.item] @ vectors[asked].T).max(axis=1)
    by_similarity = sorted(others, key=lambda place: -similarity[place])
    half = N_SHOWN // 2
    older = [place for place in by_similarity if place not in others[-half:]]
    wanted = {
        "recent": others[-N_SHOWN:],
        "similar": sorted(by_similarity[:N_SHOWN]),
        "both": sorted(older[: N_SHOWN - half]) + others[-half:],
    }
    assert wanted["recent"] != wanted["similar"] != wanted["both"]
    for rule, places in wanted.items():
        (tmp_path / rule).mkdir()
        assert shown(world, asked, rule, tmp_path / rule) == expected(world, history, places)


@pytest.mark.parametrize("n_history", [0, 5, 100])
def test_any_number_of_ratings_can_be_shown(world: Dataset, n_history: int) -> None:
    index, template = item_index(world, embedder_for(world)), load_template("rate")
    simulated = Histories(world).of(USER).then(np.array([-1, 5]), np.array([3.0, 4.0]))
    for state in (UserState(USER, simulated), UserState(-1, Histories(world).of(-1))):
        for rule in ("similar", "both"):
            settings = RatingSettings.model_validate({"history": rule, "n_history": n_history})
            question = rating_question(template, world, state, np.array([0, -1]), settings, index=index)
            n_others = int((~np.isin(state.history.item, [0, -1])).sum())
            assert len(past(question.messages[1].content)) == min(n_history, n_others)


def test_without_an_index_similar_ratings_are_not_replaced_by_the_last(world: Dataset) -> None:
    state = UserState(USER, Histories(world).of(USER))
    with pytest.raises(SettingsError, match="needs the index of item texts"):
        rating_question(load_template("rate"), world, state, np.array([0]), RatingSettings(history="similar"))


def test_a_run_of_before_the_choice_is_resumed_and_another_rule_is_another_run(world: Dataset) -> None:
    """The settings stored in a run folder of an earlier release have no rating.history."""
    simulator, ids = Simulator(members=("biases",)), (["u0001"], ["f0001"])
    before = identity(world, RunSettings(), simulator, *ids)["rating"]
    assert "history" not in before
    similar = RunSettings(rating=RatingSettings(history="similar"))
    assert identity(world, similar, simulator, *ids)["rating"] == {**before, "history": "similar"}


def test_the_command_that_shows_a_prompt_follows_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prompt", "--dataset", "world", "--user", "u0001", "--item", "f0001"]
    assert main(words) == 0
    recent = capsys.readouterr().out
    assert main([*words, "--set", 'rating.history="similar"']) == 0
    assert capsys.readouterr().out != recent


def test_settings_document_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert 'history = "recent"' in printed
    assert "most similar to the items" in printed
