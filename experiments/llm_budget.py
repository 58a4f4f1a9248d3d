"""Is a budget ever exceeded: python experiments/llm_budget.py [N_RUNS] [FILE].

Each run (default 200) has 16 workers in one event loop, a cap, a journal and, now and then, a restart that rebuilds the
budget from the journal, with calls in flight. Prices, sizes, costs and fates of the calls are drawn from the run's
seed: answered, answered without usage, failed and paid, failed and free, never sent, or lost with the process. What the
calls truly cost is kept apart. Overshoot is what they cost beyond the cap, at any moment.

Writes experiments/results/llm_budget.json.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from llm_provenance import source_of

from hybrid_sim.core.errors import BudgetError
from hybrid_sim.core.files import write_whole
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.prices import Price
from hybrid_sim.llm.question import Answer, Failure, Usage

OUT = Path(__file__).parent / "results" / "llm_budget.json"
SEED = 0
N_WORKERS = 16
FATES = ("answered", "answered without usage", "failed and paid", "failed and free", "never sent", "lost")


@dataclass
class Run:
    """One run: its cap, its price, and what its calls truly cost, in nano-dollars."""

    rng: random.Random
    cap: int
    price: Price
    paid: int = 0
    overshoot: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    used_up: bool = False

    async def worker(self, journal: Journal, budget: Budget, n_calls: int) -> None:
        """Make calls until the budget is used up or the process ends."""
        for _ in range(n_calls):
            most = self.rng.randrange(100, 5000), self.rng.randrange(50, 1000)
            worst = self.price.worst(*most)
            try:
                reservation = budget.reserve(worst)
            except BudgetError:
                self.used_up = True
                return
            self.overshoot = max(self.overshoot, budget.committed - self.cap)
            fate = self.rng.choices(FATES, (60, 5, 10, 10, 5, 2))[0]
            self.fates[fate] += 1
            if fate == "never sent":
                budget.release(reservation)
                continue
            attempt = journal.start(f"{self.rng.random()}", "p", worst, size=most[0])
            usage = Usage(self.rng.randint(1, most[0]), self.rng.randint(0, most[1]))
            cost = self.price.cost(usage) or 0
            if fate != "failed and free":
                self.paid += cost
                self.overshoot = max(self.overshoot, self.paid - self.cap)
            await asyncio.sleep(self.rng.choice([0, 0, 0.0005]))
            match fate:
                case "answered":
                    journal.finish(attempt, Answer("{}", None, usage), cost)
                    budget.settle(reservation, cost)
                case "answered without usage":
                    journal.finish(attempt, Answer("{}", None), None)
                    budget.settle(reservation, None)
                case "failed and paid":
                    journal.fail(attempt, Failure("passing", "timed out"), None, possibly_paid=True)
                    budget.settle(reservation, None)
                case "failed and free":
                    journal.fail(attempt, Failure("passing", "refused"), 0, possibly_paid=False)
                    budget.settle(reservation, 0)
                case _:  # The process dies: neither the journal nor anybody else hears of the end.
                    return


def one_run(seed: int) -> Run:
    """Restart with calls in flight until the budget is used up."""
    rng = random.Random(seed)
    price = Price(*(1000 * rng.randrange(1, 5000) for _ in range(3)))
    run = Run(rng, price.worst(5000, 1000) * rng.randrange(1, 60), price)
    with tempfile.TemporaryDirectory() as folder:
        while not run.used_up:
            with Journal(Path(folder) / "journal.sqlite") as journal:
                budget = Budget(max_money=run.cap, ledger=journal.ledger())
                asyncio.run(_all_workers(run, journal, budget))
                run.fates["restart"] += 1
    return run


async def _all_workers(run: Run, journal: Journal, budget: Budget) -> None:
    n_calls = run.rng.choice([3, 20, 1000])
    await asyncio.gather(*(run.worker(journal, budget, n_calls) for _ in range(N_WORKERS)))


def main(n_runs: int = 200, out: Path = OUT) -> None:
    """Spend, count, print and write."""
    start = time.monotonic()
    runs = [one_run(seed) for seed in range(SEED, SEED + n_runs)]
    fates = sum((run.fates for run in runs), Counter[str]())
    report = {
        "runs": n_runs,
        "workers": N_WORKERS,
        "calls": sum(fates[fate] for fate in FATES),
        "fates": dict(sorted(fates.items())),
        "runs_over_the_cap": sum(run.overshoot > 0 for run in runs),
        "greatest_overshoot_nano_dollars": max(run.overshoot for run in runs),
        "mean_share_of_the_cap_that_was_paid": round(sum(run.paid / run.cap for run in runs) / n_runs, 3),
        "seconds": round(time.monotonic() - start, 1),
        "provenance": source_of(SEED),
    }
    write_whole(out, json.dumps(report, indent=1).encode())
    sys.stdout.write(
        f"{n_runs} runs with {N_WORKERS} workers, {report['calls']:,} calls, {fates['restart']} starts: "
        f"{report['runs_over_the_cap']} runs over the cap, overshoot {report['greatest_overshoot_nano_dollars']}\n"
    )


if __name__ == "__main__":
    n_runs, *path = sys.argv[1:] or ["200"]
    main(int(n_runs), *map(Path, path))
