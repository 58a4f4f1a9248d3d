"""Every page of the synthetic world in a real browser: python experiments/pages.py [FOLDER] writes results/pages.json.

Makes the pages of a benchmark, a validation, an ablation, a run with a language model (the tests' loopback server), a
comparison of two runs, and new items; or measures the pages that FOLDER holds already. Chromium opens each at 1280 and
420 pixels, light and dark. Measured are the smallest text, pairs of texts that overlap, how far the page is wider than
the window, and errors in the console; with screenshots in FOLDER/shots. Needs Debian's `chromium`, and Playwright, a
tool of this experiment alone: `pip install playwright`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, sync_playwright

import hybrid_sim as hs
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from llm_server import LoopbackLLM

OUT = Path(__file__).parent / "results" / "pages.json"
PROGRAM = [sys.executable, "-m", "hybrid_sim"]
WIDTHS, SCHEMES = (1280, 420), ("light", "dark")
FEW = ["--members", "biases,content_gp,svd"]

NEW_ITEMS = """item_id,title,year,genres,overview
n1,The Lamp Below,2026,Drama|Mystery,A lighthouse keeper finds letters that were never sent.
n2,Orbit Nine,2026,Science Fiction|Action,A crew of nine must land a ship that no longer answers.
n3,A Quiet Harvest,2026,Drama,Two sisters keep a farm through a winter without snow.
"""

MEASURE = """() => {
  for (const box of document.querySelectorAll('details')) box.open = true;
  const boxes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let smallest = Infinity, small = '';
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest('title, style, .skip')) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const drawn = parent.closest('svg') ? parent.getScreenCTM() : null;
    const size = parseFloat(getComputedStyle(parent).fontSize) * (drawn ? Math.hypot(drawn.a, drawn.b) : 1);
    for (const r of range.getClientRects()) {
      if (r.width < 1 || r.height < 1) continue;
      if (size < smallest) { smallest = size; small = node.data; }
      const inset = Math.max(0, (r.height - size) / 2);  // the line is higher than its letters
      boxes.push({left: r.left, right: r.right, top: r.top + inset, bottom: r.bottom - inset, text: node.data.trim()});
    }
  }
  boxes.sort((a, b) => a.top - b.top);
  const overlaps = [];
  boxes.forEach((a, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].top < a.bottom - 1; j++) {
      const b = boxes[j], across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      if (across > 1 && Math.min(a.bottom, b.bottom) - b.top > 1) overlaps.push(`${a.text} | ${b.text}`);
    }
  });
  return {texts: boxes.length, smallest, small, overlaps,
          overflow: Math.max(0, document.documentElement.scrollWidth - window.innerWidth)};
}"""


def main(place: Path | None) -> None:
    """Make the pages, measure them, print and write."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = place or Path(temporary)
        if not list(folder.glob("*.html")):
            make_pages(folder)
        measured = measure(folder)
    worst = {
        "pages": len(measured),
        "smallest_text_px": min(view["smallest"] for views in measured.values() for view in views.values()),
        "overlaps": sum(len(view["overlaps"]) for views in measured.values() for view in views.values()),
        "overflow_px": max(view["overflow"] for views in measured.values() for view in views.values()),
        "console_errors": sum(len(view["errors"]) for views in measured.values() for view in views.values()),
    }
    made = asdict(provenance(sys.argv, 0, hs.load_dataset("world")))
    write_whole(OUT, json.dumps({"worst": worst, "pages": measured, "provenance": made}, indent=1).encode() + b"\n")
    sys.stdout.write(f"{json.dumps(worst)}\n")


def make_pages(folder: Path) -> None:
    """Write bench.html, validate.html, ablate.html, run.html, compare.html and cold.html."""

    def run(*words: str) -> None:
        subprocess.run([*PROGRAM, *words, "--quiet"], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    run("fit", *FEW, "-o", "model")
    run("bench", *FEW, "--json", "bench.json")
    run("report", "bench.json", "--html", "bench.html")
    run("validate", *FEW, "--html", "validate.html")
    run("ablate", *FEW, "--json", "ablation.json")
    run("report", "ablation.json", "--html", "ablate.html")
    pairs = ["--dataset", "world", "--user", "random:40", "--item", "random:12", "--fitted", "model"]
    with LoopbackLLM() as server:
        run("simulate", *pairs, "--model", "loopback", "--base-url", server.url, "-o", "first")
    run("simulate", *pairs, "-o", "second")
    shutil.copytree(folder / "model", folder / "first" / "simulator")
    ratings = pd.read_csv(folder / "first" / "ratings.csv", dtype={"user_id": str, "item_id": str})
    real = np.clip(np.round(ratings["mean"] + np.random.default_rng(0).normal(0.0, 0.8, len(ratings))), 1, 5)
    ratings.assign(rating=real)[["user_id", "item_id", "rating"]].to_csv(folder / "truth.csv", index=False)
    run("report", "first", "--truth", "truth.csv", "--html", "run.html")
    run("compare", "first", "second", "--truth", "truth.csv", "--html", "compare.html")
    (folder / "new.csv").write_text(NEW_ITEMS, encoding="utf-8")
    run("cold", "--new", "new.csv", "--dataset", "world", "--fitted", "model", "-o", "cold")
    for page in (folder / "cold").glob("*.html"):
        shutil.copy(page, folder / "cold.html")


def measure(folder: Path) -> dict[str, dict[str, Any]]:
    """What is measured of every page, by its name, then by width and scheme."""
    (folder / "shots").mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        measured = {
            page.stem: {
                f"{width} {scheme}": view(browser, page, width, scheme) for width in WIDTHS for scheme in SCHEMES
            }
            for page in sorted(folder.glob("*.html"))
        }
        browser.close()
    return measured


def view(browser: Browser, file: Path, width: int, scheme: str) -> dict[str, Any]:
    """What is measured of a page at this width and in this scheme."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(300_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.absolute().as_uri())
    page.screenshot(path=file.parent / "shots" / f"{file.stem}-{width}-{scheme}.png", full_page=True)
    found: dict[str, Any] = page.evaluate(MEASURE)
    page.close()
    return {**found, "errors": errors}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
