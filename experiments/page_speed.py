"""How large and how quick the page of a large run is: python experiments/page_speed.py [FILE].

Every user of the synthetic world rates every item (120,000 ratings); `hybrid-sim report` makes the page, with the real
ratings beside the simulated ones, and headless Chromium opens it. Writes experiments/results/page_speed.json. Needs
chromium and chromedriver for the first paint.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd

import hybrid_sim as hs
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from pages_browser import CHROMIUM, DRIVER, browser

OUT = Path(__file__).parent / "results" / "page_speed.json"
PROGRAM = [sys.executable, "-m", "hybrid_sim"]


def main(out: Path = OUT) -> None:
    """Simulate, make the page, open it, print and write."""
    world = hs.load_dataset("world")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        truth = pd.DataFrame(
            {
                "user_id": world.users.index[world.user],
                "item_id": world.items.index[world.item],
                "rating": world.rating,
                "timestamp": world.timestamp,
            }
        )
        truth.to_csv(folder / "truth.csv", index=False)
        run = ["simulate", "--user", "all", "--item", "all", "--members", "biases,content_gp,svd"]
        subprocess.run([*PROGRAM, *run, "-o", str(folder / "run"), "--quiet"], check=True)
        page = folder / "run.html"
        started = time.perf_counter()
        report = ["report", str(folder / "run"), "--truth", str(folder / "truth.csv"), "--dataset", "world"]
        subprocess.run([*PROGRAM, *report, "--html", str(page), "--quiet"], check=True)
        found = {
            "n_ratings": world.n_users * world.n_items,
            "megabytes": page.stat().st_size / 1e6,
            "seconds_to_build": time.perf_counter() - started,
            **(painted(page) if CHROMIUM and DRIVER else {}),
        }
    found["provenance"] = asdict(provenance(sys.argv, 0, world))
    write_whole(out, json.dumps(found, indent=1).encode() + b"\n")
    sys.stdout.write(json.dumps({name: value for name, value in found.items() if name != "provenance"}) + "\n")


def painted(page: Path) -> dict[str, float]:
    """Seconds to the first paint, the worst of five, with other requests and console messages counted."""
    seconds, requests, complaints = [], 0, 0
    with browser() as window:
        for _ in range(5):
            window.open(page)
            seconds.append(window.ask("performance.getEntriesByName('first-paint')[0].startTime") / 1000)
            requests += len([address for address in window.requests() if not address.startswith(page.as_uri())])
            complaints += len(window.complaints())
    return {"seconds_to_first_paint": max(seconds), "other_requests": requests, "console_messages": complaints}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
