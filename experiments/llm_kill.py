"""Is anything lost when a run is killed: python experiments/llm_kill.py [N_RUNS] [N_QUESTIONS] [FILE].

Each run asks N_QUESTIONS questions (default 2,000) of a loopback server that spoils 20% of the requests, and is killed
with SIGKILL again and again, until the last process may finish: at random moments (while the journal is opened and the
answers are looked up, too), and at named points of the journal, exactly there or a fraction of a millisecond later, so
that commits are hit half-way. A process notes what it does in a file of its own, before and after each commit; every
reply carries a number of its own. Then these are counted:

- answers lost: committed replies (nothing is handed out before) that the journal does not hold at the end;
- committed calls repeated: requests for an answer that had been committed;
- repeats per kill: questions whose call was in flight at the kill and that were asked again, and were calls in flight;
- unrecorded requests: what the server received beyond the attempts that the journal knows.

Writes experiments/results/llm_kill.json.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from llm_provenance import source_of
from llm_server import FaultPlan, LoopbackLLM

from hybrid_sim.core.errors import ReplyError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.settings import LLMSettings
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Answer, Failure, Message, Question
from hybrid_sim.llm.sending import Backoff

OUT = Path(__file__).parent / "results" / "llm_kill.json"
SEED = 0
KILLS_PER_RUN = 4
CONCURRENCY = 16
FAULTS = 4 * (
    "500", "502", "503", "504", "html", "html_502", "drop", "drop_after_work", "short_body", "truncated_body",
    "empty", "prose", "not_json", "cut",
) + ("429_short",)  # fmt: skip
"""Few of the last kind, since each makes all workers pause."""

POINTS = ("opened", "before start", "after start", "before finish", "after finish", "before fail", "after fail")
SCHEMA = {"type": "object", "properties": {"question": {"type": "integer"}, "reply": {"type": "integer"}}}


@dataclass(frozen=True)
class Plan:
    """When a process dies: `after` so many requests or, if there is a `point`, passages of it; then `delay` seconds."""

    point: str | None
    after: int
    delay: float


def question(number: int) -> Question:
    """Question `number`, whose answer says which question it belongs to and which reply it is."""

    def check(text: str) -> dict[str, int]:
        try:
            reply: dict[str, int] = json.loads(text)
        except ValueError as error:
            raise ReplyError("no JSON") from error
        if not isinstance(reply, dict) or reply.get("question") != number:
            raise ReplyError("not the answer to the question")
        return reply

    return Question("kill", (Message("user", f"question {number}"),), SCHEMA, check, max_tokens=100)


class NotingJournal(Journal):
    """A journal that notes each step in a file, before or after it, and dies at a named point."""

    def __init__(self, file: Path, notes: Path, numbers: dict[str, int], plan: Plan | None) -> None:
        self._notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._numbers, self._plan = numbers, plan
        self._passed: Counter[str] = Counter()
        self._number_of: dict[int, int] = {}
        super().__init__(file)
        self._pass("opened")

    def start(self, key: str, prompt: str, worst: int | None, *, size: int = 0) -> int:
        self._write_down("start", self._numbers[key])
        self._pass("before start")
        attempt = super().start(key, prompt, worst, size=size)
        self._number_of[attempt] = self._numbers[key]
        self._pass("after start")
        return attempt

    def finish(self, attempt: int, answer: Answer, cost: int | None) -> None:
        self._pass("before finish")
        super().finish(attempt, answer, cost)
        self._write_down("commit", self._number_of[attempt], answer.value["reply"])
        self._pass("after finish")

    def fail(self, attempt: int, failure: Failure, cost: int | None, *, possibly_paid: bool) -> None:
        self._pass("before fail")
        super().fail(attempt, failure, cost, possibly_paid=possibly_paid)
        self._write_down("fail", self._number_of[attempt])
        self._pass("after fail")

    def _write_down(self, *words: str | int) -> None:
        os.write(self._notes, (" ".join(map(str, words)) + "\n").encode())

    def _pass(self, point: str) -> None:
        self._passed[point] += 1
        if self._plan is None or point != self._plan.point or self._passed[point] != self._plan.after:
            return
        if not self._plan.delay:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=self._die_soon, args=(self._plan.delay,), daemon=True).start()

    def _die_soon(self, delay: float) -> None:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)


def work(url: str, folder: Path, n_questions: int, plan: Plan | None) -> None:
    """One process of a run."""
    os.environ["OPENAI_API_KEY"] = "none"
    questions = [question(number) for number in range(n_questions)]
    settings = LLMSettings(model="loopback", base_url=url, concurrency=CONCURRENCY, attempts=8, deadline=20.0)
    numbers = {each.key(settings.sampling): number for number, each in enumerate(questions)}
    with NotingJournal(folder / "journal.sqlite", folder / "notes", numbers, plan) as journal:
        budget = Budget(ledger=journal.ledger())
        with LLM(settings, journal, budget, backoff=Backoff(0.01, 0.1)) as llm:
            answers = llm.ask(questions)
            if llm.stopped:
                raise llm.stopped
        for number, answer in enumerate(answers):
            if isinstance(answer, Answer):
                journal._write_down("handed", number, answer.value["reply"])


@dataclass
class Figures:
    """What is counted over all runs."""

    kills: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    spoilt: int = 0
    committed: int = 0
    answers_lost: int = 0
    committed_calls_repeated: int = 0
    repeats: list[int] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    repeats_not_in_flight: int = 0
    unrecorded_requests: int = 0
    questions_without_answer: int = 0
    damaged_journals: int = 0


@dataclass
class Life:
    """What one process did: its notes, and the questions that the server received of it."""

    open: set[int]
    commits: list[tuple[int, int]]
    repeated: int
    received: list[int]
    killed: bool


def one_run(seed: int, n_questions: int, figures: Figures) -> None:
    """Ask, kill, resume, and compare."""
    rng, replies = random.Random(seed), itertools.count()

    def mind(body: dict[str, Any]) -> str:
        number = int(re.findall(r"question (\d+)", body["messages"][-1]["content"])[0])
        return json.dumps({"question": number, "reply": next(replies)})

    plan = FaultPlan(seed=seed, share=0.2, kinds=FAULTS)
    with tempfile.TemporaryDirectory() as name, LoopbackLLM(mind=mind, faults=plan, latency=0.002) as server:
        folder = Path(name)
        lives = [_live(server, folder, n_questions, each) for each in [*_plans(rng, n_questions), None]]
        for life, planned in zip(lives, _plans(random.Random(seed), n_questions), strict=False):
            figures.kills[(planned.point or "random moment") if life.killed else "none: had finished"] += 1
        _compare(folder, lives, server, n_questions, figures)


def _plans(rng: random.Random, n_questions: int) -> Iterator[Plan]:
    share = n_questions // (KILLS_PER_RUN + 2)
    for _ in range(KILLS_PER_RUN):
        point = rng.choice([None, None, *POINTS])
        delay = rng.choice([0.0, rng.uniform(0, 0.0005), rng.uniform(0, 0.02)])
        few = point == "opened" or (point is not None and "fail" in point)
        least, most = (0 if point is None else 1), (1 if point == "opened" else share // (8 if few else 1))
        yield Plan(point, rng.randint(least, most), delay)


def _live(server: LoopbackLLM, folder: Path, n_questions: int, plan: Plan | None) -> Life:
    """Run one process to its end."""
    notes = folder / "notes"
    n_before, n_noted = server.n_requests, notes.stat().st_size if notes.exists() else 0
    process = multiprocessing.get_context("forkserver").Process(
        target=work, args=(server.url, folder, n_questions, plan)
    )
    process.start()
    if plan is not None and plan.point is None:
        while process.is_alive() and server.n_requests < n_before + plan.after:
            time.sleep(0.0005)
        time.sleep(plan.delay)
        process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a process ended with status {process.exitcode}")
    n_after = -1
    while n_after != server.n_requests:  # requests that were on their way when the process died
        n_after = server.n_requests
        time.sleep(0.03)
    received = [_number(each.body) for each in server.requests[n_before:]]
    lines = notes.read_bytes()[n_noted:].decode().splitlines() if notes.exists() else []
    return _life(lines, received, process.exitcode != 0)


def _number(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split()[1])


def _life(lines: list[str], received: list[int], killed: bool) -> Life:
    life = Life(set(), [], 0, received, killed)
    done = set()
    for word, number, *reply in (line.split() for line in lines):
        if word == "start":
            life.repeated += number in done
            life.open.add(int(number))
        elif word == "handed":
            life.commits.append((int(number), int(reply[0])))
        else:
            life.open.discard(int(number))
            if word == "commit":
                done.add(number)
                life.commits.append((int(number), int(reply[0])))
    return life


def _compare(folder: Path, lives: list[Life], server: LoopbackLLM, n_questions: int, figures: Figures) -> None:
    sampling = LLMSettings(model="loopback").sampling
    keys = [question(number).key(sampling) for number in range(n_questions)]
    with Journal(folder / "journal.sqlite", replay=True) as journal:
        stored, ledger = journal.find(keys), journal.ledger()
    held = {n: json.loads(stored[key].text)["reply"] for n, key in enumerate(keys) if key in stored}
    committed: set[int] = set()
    for at, life in enumerate(lives):
        figures.committed_calls_repeated += life.repeated + sum(number in committed for number in life.received)
        figures.answers_lost += sum(held.get(number) != reply for number, reply in life.commits)
        committed |= {number for number, _ in life.commits}
        if life.killed:
            later = {number for other in lives[at + 1 :] for number in other.received}
            sent = Counter(life.received)
            figures.in_flight.append(len(life.open))
            figures.repeats.append(len(life.open & sent.keys() & later))
    figures.committed += len(held)
    figures.requests += server.n_requests
    figures.spoilt += sum(count for outcome, count in server.counts.items() if outcome in FAULTS)
    figures.unrecorded_requests += max(0, server.n_requests - ledger.calls)
    figures.questions_without_answer += n_questions - len(held)
    figures.damaged_journals += len(list(folder.glob("*.damaged-*")))


def main(n_runs: int = 50, n_questions: int = 2000, out: Path = OUT) -> None:
    """Kill, count, print and write."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["hybrid_sim.llm.client", "openai", "aiohttp"])
    figures, start = Figures(), time.monotonic()
    for seed in range(SEED, SEED + n_runs):
        one_run(seed, n_questions, figures)
    n_kills = sum(count for why, count in figures.kills.items() if not why.startswith("none"))
    report = {
        "runs": n_runs,
        "questions_per_run": n_questions,
        "concurrency": CONCURRENCY,
        "kills": n_kills,
        "kills_by_point": dict(sorted(figures.kills.items())),
        "requests": figures.requests,
        "requests_spoilt": figures.spoilt,
        "answers_committed": figures.committed,
        "answers_lost": figures.answers_lost,
        "committed_calls_repeated": figures.committed_calls_repeated,
        "most_calls_in_flight_at_a_kill": max(figures.in_flight, default=0),
        "most_repeats_of_a_kill": max(figures.repeats, default=0),
        "mean_repeats_of_a_kill": round(sum(figures.repeats) / max(1, n_kills), 2),
        "unrecorded_requests": figures.unrecorded_requests,
        "questions_without_answer": figures.questions_without_answer,
        "damaged_journals": figures.damaged_journals,
        "seconds": round(time.monotonic() - start, 1),
        "provenance": source_of(SEED),
    }
    write_whole(out, json.dumps(report, indent=1).encode())
    sys.stdout.write(
        f"{n_runs} runs of {n_questions:,} questions, {n_kills} kills: {figures.answers_lost} answers lost, "
        f"{figures.committed_calls_repeated} committed calls repeated, at most {report['most_repeats_of_a_kill']} "
        f"repeats per kill of {CONCURRENCY} calls in flight; {report['seconds']} s\n"
    )


if __name__ == "__main__":
    n_runs, n_questions, *path = [*sys.argv[1:], *("50", "2000")[len(sys.argv) - 1 :]]
    main(int(n_runs), int(n_questions), *map(Path, path))
