"""How fast the client is: python experiments/llm_throughput.py [ROUNDS] [FILE].

Real rating questions of ten items go to the loopback server, which runs in a process of its own. Measured are requests
per second at a latency of 200 ms against a raw aiohttp client that does nothing with the replies, in turns with it; CPU
per call against openai's own client; and ratings per second from a journal that holds all answers. Each figure is the
median of ROUNDS (default 3). Writes experiments/results/llm_throughput.json.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import numpy as np
import openai
from llm_provenance import source_of

import hybrid_sim as hs
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.settings import LLMSettings, RatingSettings
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.client import LLM
from hybrid_sim.llm.dialect import Dialect
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Answer, Question
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from llm_server import apart

OUT = Path(__file__).parent / "results" / "llm_throughput.json"
LATENCY, SECONDS, SEED, ITEMS = 0.2, 6, 0, 10
N_CPU, N_WARM = 1500, 4000
Bodies = Sequence[dict[str, Any]]


def main(rounds: int = 3, out: Path = OUT) -> None:
    """Measure, print and write."""
    asked = questions(max(N_WARM, int(200 * SECONDS / LATENCY)))
    report = {
        "requests_per_second": [throughput(asked, concurrency, rounds) for concurrency in (50, 200)],
        "cpu": cpu(asked[:N_CPU], rounds),
        "warm_journal": warm(asked[:N_WARM], rounds),
        "settings": {"latency": LATENCY, "rounds": rounds, "items_per_question": ITEMS},
        "provenance": source_of(SEED),
    }
    write_whole(out, json.dumps(report, indent=1).encode())
    sys.stdout.write(f"{json.dumps({name: report[name] for name in list(report)[:3]}, indent=1)}\n")


def questions(n: int) -> list[Question]:
    """Different rating questions about users and items of the synthetic world."""
    world, words, rng = hs.load_dataset("world"), load_template("rate"), np.random.default_rng(SEED)
    histories, settings = Histories(world), RatingSettings()
    states = [UserState(user, histories.of(user)) for user in range(world.n_users)]
    return [
        rating_question(
            words, world, states[number % len(states)], rng.choice(world.n_items, ITEMS, replace=False), settings
        )
        for number in range(n)
    ]


def throughput(asked: Sequence[Question], concurrency: int, rounds: int) -> dict[str, Any]:
    """Requests per second of the client and of a raw client, in turns."""
    asked = asked[: int(concurrency * SECONDS / LATENCY)]
    bodies = bodies_of(asked)
    raw, ours = [], []
    with apart(latency=LATENCY) as url:
        for _ in range(rounds):
            raw.append(len(asked) / timed(lambda: asyncio.run(raw_client(url, bodies, concurrency)))[0])
            ours.append(len(asked) / timed(lambda: through_the_door(url, asked, concurrency))[0])
    return {
        "concurrency": concurrency,
        "raw": round(statistics.median(raw), 1),
        "ours": round(statistics.median(ours), 1),
        "share": round(statistics.median(mine / other for mine, other in zip(ours, raw, strict=True)), 3),
        "share_per_round": [round(mine / other, 3) for mine, other in zip(ours, raw, strict=True)],
    }


def cpu(asked: Sequence[Question], rounds: int) -> dict[str, Any]:
    """Milliseconds of CPU per call at concurrency 16 without latency."""
    bodies = bodies_of(asked)
    with apart() as url:
        clients: dict[str, Callable[[], Any]] = {
            "raw_aiohttp": lambda: asyncio.run(raw_client(url, bodies, 16)),
            "bare_openai": lambda: asyncio.run(bare_openai(url, bodies, 16)),
            "ours": lambda: through_the_door(url, asked, 16),
        }
        found: dict[str, list[float]] = {name: [] for name in clients}
        for _ in range(rounds):
            for name, work in clients.items():
                found[name].append(1000 * timed(work)[1] / len(asked))
    medians = {f"{name}_ms": round(statistics.median(values), 3) for name, values in found.items()}
    return medians | {"ours_above_bare_openai_ms": round(medians["ours_ms"] - medians["bare_openai_ms"], 3)}


def warm(asked: Sequence[Question], rounds: int) -> dict[str, Any]:
    """Ratings per second when every answer is in the journal."""
    with tempfile.TemporaryDirectory() as folder, apart() as url:
        file = Path(folder) / "journal.sqlite"
        through_the_door(url, asked, 64, file)
        seconds = [timed(lambda: through_the_door("http://127.0.0.1:9/v1", asked, 64, file))[0] for _ in range(rounds)]
    return {"ratings_per_second": round(len(asked) * ITEMS / statistics.median(seconds)), "questions": len(asked)}


def through_the_door(url: str, asked: Sequence[Question], concurrency: int, file: Path | None = None) -> None:
    """Ask all questions; a new journal unless one is named."""
    with tempfile.TemporaryDirectory() as folder, Journal(file or Path(folder) / "journal.sqlite") as journal:
        with LLM(settings(url, concurrency), journal, Budget()) as llm:
            results = llm.ask(asked)
        if not all(isinstance(result, Answer) for result in results):
            raise RuntimeError(f"{llm.stopped or 'some questions have no answer'}: the figures would mean nothing")


async def raw_client(url: str, bodies: Bodies, concurrency: int) -> None:
    """Send all bodies with aiohttp alone."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send(body: dict[str, Any]) -> None:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        await at_once(send, bodies, concurrency)


async def bare_openai(url: str, bodies: Bodies, concurrency: int) -> None:
    """Send all bodies with openai's client and its aiohttp transport."""
    http = openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=64, max_keepalive_connections=64))
    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=http) as client:
        await at_once(lambda body: client.chat.completions.create(**body), bodies, concurrency)


async def at_once(send: Callable[[dict[str, Any]], Coroutine[Any, Any, Any]], bodies: Bodies, concurrency: int) -> None:
    """Send all bodies, so many at a time."""
    left = iter(bodies)

    async def work() -> None:
        for body in left:
            await send(body)

    await asyncio.gather(*[work() for _ in range(concurrency)])


def bodies_of(asked: Sequence[Question]) -> Bodies:
    """The requests as the client makes them."""
    dialect = Dialect(settings("http://127.0.0.1/v1", 1), is_openai=False)
    return [dialect.body(question, question.max_tokens) for question in asked]


def settings(url: str, concurrency: int) -> LLMSettings:
    """The settings of the client."""
    return LLMSettings(model="loopback", base_url=url, concurrency=concurrency)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the clock and of this process's CPU."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *map(Path, sys.argv[2:3]))
