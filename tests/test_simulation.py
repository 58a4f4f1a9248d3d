"""Simulations with a language model over real HTTP: what is asked, what is learned, what stays exactly as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm_minds import item_quality, json_in
from llm_server import DEAD_ADDRESS, LoopbackLLM, always, rating_mind
from small_worlds import world_with_new_items

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import NetworkError, RunError, SettingsError
from hybrid_sim.core.settings import LLMSettings, RatingSettings, RunSettings
from hybrid_sim.core.types import Pairs, RatingScale
from hybrid_sim.core.user_state import Histories, Timeline, UserProfile
from hybrid_sim.llm.batch import Polling
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.profiles.writers import Draft
from hybrid_sim.simulation.interviewer import Interviewer, LLMRatings, interviewer, profile_author
from hybrid_sim.simulation.llm_value import LLM_SOURCE, pairs_to_ask
from hybrid_sim.simulation.session import identity
from hybrid_sim.simulation.simulate import (
    UserStates,
    advance,
    calibration_requests,
    simulate,
    users_before,
)
from hybrid_sim.simulation.simulator import Simulator


@pytest.fixture(scope="module")
def world() -> tuple[Dataset, Dataset]:
    return world_with_new_items(seed=3)


@pytest.fixture(scope="module")
def fitted(world: tuple[Dataset, Dataset]) -> Simulator:
    return Simulator(members=("biases", "content_gp")).fit(world[0])


def settings(url: str, **rating: Any) -> RunSettings:
    temperature = 0.7 if "samples" in rating else 0.0
    llm = LLMSettings(model="loopback", base_url=url, temperature=temperature, attempts=2)
    return RunSettings(llm=llm, rating=RatingSettings(**rating))


@contextmanager
def door(run: RunSettings, folder: Path, **options: Any) -> Iterator[LLM]:
    budget = Budget(max_calls=options.pop("max_calls", None))
    with (
        Journal(folder / "journal.sqlite", replay=options.get("replay", False)) as journal,
        LLM(run.llm, journal, budget, **options) as llm,
    ):
        yield llm


def test_a_model_that_knows_new_items_makes_their_ratings_better(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset, held = world
    users, items = dataset.users.index[held.user], dataset.items.index[held.item]
    with LoopbackLLM(mind=rating_mind(noise=0.3, opinion=item_quality(dataset, held))) as server:
        run = settings(server.url, learn_from=80)
        with door(run, tmp_path) as llm:
            simulation = simulate(fitted, dataset, users, items, interviewer(dataset, run, llm))
    error_with, error_without = (
        np.sqrt(np.mean((distribution.mean() - held.rating) ** 2))
        for distribution in (simulation.prediction.distribution, simulation.statistical)
    )
    assert simulation.asked.all()
    assert (simulation.prediction.source == LLM_SOURCE).all()
    assert error_with < 0.97 * error_without


def test_a_model_that_guesses_is_not_believed(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset, held = world
    users, items = dataset.users.index[held.user], dataset.items.index[held.item]
    with LoopbackLLM(mind=rating_mind(noise=5.0, opinion=lambda item, about: 0.5)) as server:
        run = settings(server.url, learn_from=80)
        with door(run, tmp_path) as llm:
            simulation = simulate(fitted, dataset, users, items, interviewer(dataset, run, llm))
    shift = simulation.prediction.distribution.mean() - simulation.statistical.mean()
    assert np.sqrt(np.mean(shift**2)) < 0.12
    assert not simulation.llm.answered.any()  # It is found to be worth nothing, and not asked about the pairs.


def test_with_a_dead_endpoint_every_row_is_the_statistical_one_to_the_last_bit(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset = world[0]
    users, items = dataset.users.index[:60].repeat(2), dataset.items.index[:120]
    alone = simulate(fitted, dataset, users, items)
    run = settings(DEAD_ADDRESS, learn_from=5)
    with door(run, tmp_path) as llm:
        down = simulate(fitted, dataset, users, items, interviewer(dataset, run, llm))
        assert isinstance(llm.stopped, NetworkError)
    for name in ("low", "high", "source"):
        assert (getattr(down.prediction, name) == getattr(alone.prediction, name)).all()
    assert np.array_equal(down.prediction.distribution.probs, alone.prediction.distribution.probs)
    assert np.array_equal(down.ratings, alone.ratings)
    assert not down.llm.answered.any()


def test_rows_that_the_model_does_not_answer_stay_as_they_were(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset = world[0]
    users, items = dataset.users.index[:40].repeat(3), dataset.items.index[:120]
    with LoopbackLLM(mind=rating_mind(noise=0.3, opinion=item_quality(*world))) as server:
        run = settings(server.url, learn_from=80, share=0.25)
        with door(run, tmp_path) as llm:
            simulation = simulate(fitted, dataset, users, items, interviewer(dataset, run, llm))
    silent = ~simulation.llm.answered
    assert simulation.asked.sum() == 30
    assert (simulation.asked == simulation.llm.answered).all()
    assert np.array_equal(simulation.prediction.distribution.probs[silent], simulation.statistical.probs[silent])
    assert (simulation.prediction.source[silent] == "stat").all()
    assert (simulation.prediction.source[~silent] == LLM_SOURCE).all()


@pytest.mark.parametrize("concurrency", [1, 64])
def test_a_finished_run_replays_without_a_call_and_byte_for_byte(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path, concurrency: int
) -> None:
    dataset = world[0]
    users, items = dataset.users.index[:20].repeat(3), dataset.items.index[:60]
    with LoopbackLLM() as server:
        run = settings(server.url, learn_from=30)
        with door(run, tmp_path) as llm:
            first = simulate(fitted, dataset, users, items, interviewer(dataset, run, llm))
        n_requests = server.n_requests
        again = run.model_copy(update={"llm": run.llm.model_copy(update={"concurrency": concurrency})})
        with door(again, tmp_path) as llm:
            second = simulate(fitted, dataset, users, items, interviewer(dataset, again, llm))
        assert server.n_requests == n_requests
    with door(again, tmp_path, replay=True) as llm:
        third = simulate(fitted, dataset, users, items, interviewer(dataset, again, llm))
    for other in (second, third):
        assert other.prediction.to_frame().to_csv() == first.prediction.to_frame().to_csv()
        assert {user: state.timeline for user, state in other.users.items()} == {
            user: state.timeline for user, state in first.users.items()
        }


def test_a_replay_that_lacks_an_answer_is_an_error(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset = world[0]
    run = settings(DEAD_ADDRESS, learn_from=9)
    with door(run, tmp_path):
        pass
    with door(run, tmp_path, replay=True) as llm, pytest.raises(RunError, match="lacks 9 of the answers"):
        simulate(fitted, dataset, ["u0001"], ["f0001"], interviewer(dataset, run, llm))


def test_what_is_missing_of_a_reply_is_asked_about_once_more(world: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    dataset = world[0]

    def forgetful(body: dict[str, Any]) -> str:
        """Leaves the last item out as long as there is more than one."""
        reply = json.loads(rating_mind()(body))
        reply["ratings"] = reply["ratings"][: max(len(reply["ratings"]) - 1, 1)]
        return json.dumps(reply)

    with LoopbackLLM(mind=forgetful) as server:
        run = settings(server.url, items_per_call=5)
        run = run.model_copy(update={"profile": run.profile.model_copy(update={"writer": "statistics"})})
        with door(run, tmp_path) as llm:
            ask = interviewer(dataset, run, llm)
            requests = calibration_requests(UserStates(dataset, {}), 3, 5, seed=0)
            answers = ask.ask(requests)
        n_items = [len(next(iter(_numbered(body)))) for body in server.bodies]
    sizes = [len(request.items) for request in requests]
    assert sorted(n_items) == sorted([*sizes, 1, 1, 1])
    assert min(sizes) > 1
    assert not np.isnan(answers.ratings).any()


def _numbered(body: dict[str, Any]) -> Iterator[list[Any]]:
    """The numbered lists in the last message of a request."""
    for value in json_in(body["messages"][-1]["content"]):
        if isinstance(value, list) and value and "item" in value[0]:
            yield value


def test_no_request_holds_a_rating_that_is_asked_for_or_another_users_data(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    """What a request shows with ratings is of one user alone, and none of it is asked for; it holds no ids."""
    dataset = world[0]
    titles = dataset.items["title"].tolist()
    users, items = dataset.users.index[:10].repeat(6), dataset.items.index[:60]
    with LoopbackLLM(mind=rating_mind(noise=0.3, opinion=item_quality(*world))) as server:
        run = settings(server.url, learn_from=20)
        with door(run, tmp_path) as llm:
            simulate(fitted, dataset, users, items, interviewer(dataset, run, llm))
        bodies = server.bodies
    histories = Histories(dataset)
    own = [
        {titles[item]: rating for item, rating in zip(h.item.tolist(), h.rating.tolist(), strict=True)}
        for h in map(histories.of, range(dataset.n_users))
    ]
    assert len(bodies) > 60
    for body in bodies:
        content = body["messages"][-1]["content"]
        values = [value for value in json_in(content) if isinstance(value, list)]
        rated = [row for value in values for row in value if isinstance(row, dict) and "rating" in row]
        asked = [row for value in values for row in value if isinstance(row, dict) and "item" in row]
        shown = {row["title"].rsplit(" (", 1)[0]: row["rating"] for row in rated}
        assert any(shown.items() <= of_user.items() for of_user in own)
        assert not shown.keys() & {row["title"].rsplit(" (", 1)[0] for row in asked}
        assert not any(f'"{user}"' in content for user in dataset.users.index)
        assert not any(f'"{item}"' in content for item in dataset.items.index)


def test_users_are_asked_about_their_last_ratings_as_if_these_were_not_known(world: tuple[Dataset, Dataset]) -> None:
    dataset = world[0]
    histories = Histories(dataset)
    for inquiry in calibration_requests(UserStates(dataset, {}), 25, 10, seed=1):
        whole = histories.of(inquiry.state.user)
        assert whole.item.tolist() == [*inquiry.state.history.item.tolist(), *inquiry.items.tolist()]
        assert len(inquiry.state.history) >= len(inquiry.items) > 0


def test_a_share_of_nothing_asks_nothing_and_of_everything_asks_about_each_pair_once(
    world: tuple[Dataset, Dataset], fitted: Simulator
) -> None:
    dataset = world[0]
    users = [*dataset.users.index[:30], "stranger", *dataset.users.index[:5]]
    items = [*dataset.items.index[:30], dataset.items.index[0], *dataset.items.index[:5]]
    prediction, pairs = fitted.predict(users, items), dataset.encode(users, items)
    rows = [pairs_to_ask(fitted, dataset, pairs, prediction.distribution, share) for share in (0.0, 0.5, 1.0)]
    assert [len(r) for r in rows] == [0, 15, 30]
    assert set(rows[1]) <= set(rows[2]) == set(range(30))


def test_simulated_ratings_enter_history_and_profile_and_are_marked(
    world: tuple[Dataset, Dataset], fitted: Simulator
) -> None:
    dataset = world[0]
    run = RunSettings()
    users, items = np.repeat(dataset.users.index[:2], 25), np.tile(dataset.items.index[:25], 2)
    simulation = simulate(fitted, dataset, users, items)
    author = profile_author(dataset, run, None)
    before = users_before(simulation, dataset, author, run.profile)
    after = advance(before, simulation, dataset, author, run.profile)
    for old, new in zip(before, after, strict=True):
        assert new.history.simulated.tolist() == [False] * len(old.history) + [True] * 25
        assert new.history.rating[-25:].tolist() == simulation.ratings[simulation.pairs.user == old.user].tolist()
        assert new.timeline.versions[: len(old.timeline.versions)] == old.timeline.versions
        assert len(new.timeline.versions) == len(old.timeline.versions) + 2  # 25 ratings, an update after every ten
        assert new.profile is not None
        assert new.profile.evidence == tuple(dataset.items.index[10:20])


def test_a_profile_that_a_user_had_when_asked_about_is_not_written_again(
    world: tuple[Dataset, Dataset], fitted: Simulator
) -> None:
    class NoWriter:
        def write(self, drafts: Sequence[Draft]) -> list[UserProfile]:
            assert not drafts
            return []

    dataset, settings = world[0], RunSettings().profile
    simulation = simulate(fitted, dataset, dataset.users.index[:2], dataset.items.index[:2])
    asked = users_before(simulation, dataset, profile_author(dataset, RunSettings(), None), settings)
    simulation = replace(simulation, users={state.user: state for state in asked})
    assert users_before(simulation, dataset, NoWriter(), settings) == asked


def test_frequencies_of_samples_are_the_distribution() -> None:
    scale = RatingScale((1, 2, 3))
    ratings = np.array([[1.0, np.nan], [3.0, np.nan], [3.0, np.nan], [3.0, np.nan]])
    answers = LLMRatings(Pairs(np.array([0, 0]), np.array([4, 5])), ratings, np.array(["", ""], dtype=object))
    distribution = answers.distribution(scale)
    assert distribution.probs[0].tolist() == [0.25, 0.0, 0.75]
    assert not distribution.answered[1]
    assert len(LLMRatings.none_yet([], 1).distribution(scale)) == 0


def test_another_dataset_than_the_simulator_was_fitted_to_is_refused(
    world: tuple[Dataset, Dataset], fitted: Simulator
) -> None:
    with pytest.raises(SettingsError, match="fitted to other data"):
        simulate(fitted, world[1], ["u0001"], ["f0001"])


def test_the_identity_of_a_run_tells_what_its_answers_depend_on(
    world: tuple[Dataset, Dataset], fitted: Simulator
) -> None:
    run = RunSettings()
    same = identity(world[0], run, fitted, ["a"], ["b"])
    quicker = run.model_copy(update={"llm": run.llm.model_copy(update={"concurrency": 3, "deadline": 5.0})})
    assert identity(world[0], quicker, fitted, ["a"], ["b"]) == same
    warmer = run.model_copy(update={"llm": run.llm.model_copy(update={"temperature": 1.0})})
    assert identity(world[0], warmer, fitted, ["a"], ["b"]) != same
    shorter = run.model_copy(update={"rating": RatingSettings(reason_length=50)})
    assert identity(world[0], shorter, fitted, ["a"], ["b"]) != same
    assert (
        same["rating"].keys().isdisjoint({"history", "overview_length", "reason_length"})
    )  # as runs were before these
    assert identity(world[1], run, fitted, ["a"], ["b"]) != same
    assert identity(world[0], run, fitted, ["a"], ["c"]) != same


def test_refusals_leave_the_statistical_answer(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset = world[0]
    with LoopbackLLM(faults=always("refusal")) as server:
        run = settings(server.url, learn_from=3)
        with door(run, tmp_path) as llm:
            simulation = simulate(fitted, dataset, ["u0001"], ["f0001"], interviewer(dataset, run, llm))
            assert llm.stopped is None
            assert set(llm.journal.failures()) == {"refused"}
    assert simulation.asked.all()
    assert not simulation.llm.answered.any()
    assert simulation.prediction.source.tolist() == ["stat"]


def test_samples_are_asked_for_one_by_one(world: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    dataset = world[0]
    with LoopbackLLM() as server:
        run = settings(server.url, samples=4, items_per_call=5)
        with door(run, tmp_path) as llm:
            author = profile_author(dataset, run, None)
            ask: Interviewer = interviewer(dataset, run, llm)
            ask = Interviewer(ask.model, author, ask.template, dataset, run)
            requests = calibration_requests(UserStates(dataset, {}), 2, 5, seed=0)
            answers = ask.ask(requests)
        assert server.n_requests == 8
    assert answers.ratings.shape == (4, sum(len(request.items) for request in requests))


def test_a_run_by_batches_gives_the_same_table_as_one_by_calls(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset = world[0]
    users, items = dataset.users.index[:12].repeat(2), dataset.items.index[:24]
    tables = []
    for batch in (False, True):
        with LoopbackLLM() as server:
            run = settings(server.url, learn_from=12)
            with door(run, tmp_path / str(batch), batch=batch, polling=Polling(poll=0.02)) as llm:
                simulation = simulate(fitted, dataset, users, items, interviewer(dataset, run, llm, dataset.n_users))
            assert (server.n_requests == 0) == batch
        tables.append(simulation.prediction.to_frame().to_csv())
    assert tables[0] == tables[1]


def test_profiles_that_users_have_already_are_not_written_again_and_never_know_the_future(
    world: tuple[Dataset, Dataset], fitted: Simulator, tmp_path: Path
) -> None:
    dataset = world[0]
    users, items = dataset.users.index[:4].tolist(), dataset.items.index[:4].tolist()
    past = UserStates(dataset, {})
    last = {user: past.now(k).history.timestamp for k, user in enumerate(dataset.users.index)}
    known = {
        user: Timeline((UserProfile(user, 1, f"Summary of {user}.", at=int(at[-1])),))
        for user, at in last.items()
        if at is not None and len(at)
    }
    with LoopbackLLM() as server:
        run = settings(server.url, learn_from=5)
        with door(run, tmp_path) as llm:
            simulation = simulate(fitted, dataset, users, items, interviewer(dataset, run, llm), 0, known)
        shown = [body["messages"][-1]["content"] for body in server.bodies]
    ratings = [content for content in shown if "to rate" in content]
    assert (
        sum("Summary of" in content for content in ratings) == 4
    )  # those who learn must not see what is still to come
    assert sum("Summary of" in content for content in shown) == 4
    assert [state.timeline for state in simulation.users.values()] == [known[user] for user in users]
