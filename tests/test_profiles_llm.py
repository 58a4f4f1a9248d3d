"""Profiles written over real HTTP: the client, the journal and the writer together."""

from __future__ import annotations

from pathlib import Path

from llm_server import FaultPlan, LoopbackLLM, always

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.settings import LLMSettings, ProfileSettings
from hybrid_sim.core.user_state import Histories, Timeline, UserState
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.sending import Backoff
from hybrid_sim.profiles.checks import RATINGS
from hybrid_sim.profiles.llm_writer import LLMWriter
from hybrid_sim.profiles.statistical_writer import StatisticalWriter
from hybrid_sim.profiles.writers import write_profiles
from hybrid_sim.prompts.profile import ProfilePrompts

SETTINGS = ProfileSettings(n_recent=20)


def written(dataset: Dataset, url: str, folder: Path, n_users: int = 6) -> tuple[list[UserState], LLM]:
    """The profiles of the first users, as the model behind `url` writes them."""
    histories = Histories(dataset)
    states = [UserState(user, histories.of(user)) for user in range(n_users)]
    settings = LLMSettings(model="loopback", base_url=url)
    with (
        Journal(folder / "journal.sqlite") as journal,
        LLM(settings, journal, Budget(), backoff=Backoff(0.01)) as llm,
    ):
        author = LLMWriter(llm, dataset, ProfilePrompts(SETTINGS), StatisticalWriter().fit(dataset))
        return write_profiles(author, states, SETTINGS), llm


def timelines(states: list[UserState]) -> list[Timeline]:
    return [state.timeline for state in states]


def test_a_second_run_asks_nothing_and_writes_the_same(tiny: Dataset, tmp_path: Path) -> None:
    with LoopbackLLM() as server:
        first, _ = written(tiny, server.url, tmp_path)
        n_requests = server.n_requests
        again, _ = written(tiny, server.url, tmp_path)
    assert n_requests >= 6 * 2
    assert server.n_requests == n_requests
    assert timelines(again) == timelines(first)
    assert {state.profile.writer for state in first if state.profile} != {"statistics"}


def test_passing_faults_lose_no_profile(tiny: Dataset, tmp_path: Path) -> None:
    with LoopbackLLM() as calm, LoopbackLLM(faults=FaultPlan(3, 0.3, kinds=("500", "429_short", "drop"))) as troubled:
        expected, _ = written(tiny, calm.url, tmp_path / "calm")
        found, _ = written(tiny, troubled.url, tmp_path / "troubled")
    assert timelines(found) == timelines(expected)


def test_row_19_a_profile_that_quotes_ratings_is_asked_for_once_more_and_flagged(tiny: Dataset, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("quotes_ratings")) as server:
        states, _ = written(tiny, server.url, tmp_path, n_users=2)
        n_requests = server.n_requests
        written(tiny, server.url, tmp_path, n_users=2)
    assert server.n_requests == n_requests  # what broke the rules is in the journal too, and is not paid for again
    versions = [version for state in states for version in state.timeline.versions]
    assert all(RATINGS in version.flags for version in versions)
    assert n_requests == 2 * len(versions)


def test_with_the_endpoint_refusing_everyone_has_a_profile_of_statistics(tiny: Dataset, tmp_path: Path) -> None:
    with LoopbackLLM(faults=always("401")) as server:
        states, llm = written(tiny, server.url, tmp_path)
    assert llm.stopped is not None
    assert {state.profile.writer for state in states if state.profile} == {"statistics"}
