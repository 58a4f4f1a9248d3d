"""Every command and every Python block of README.md and docs/ runs, in order, on the synthetic world.

A block under the comment `<!-- needs: data -->`, `<!-- needs: key -->` or `<!-- needs: shell -->` is only parsed, and
one under `<!-- command: NAME -->` is run by `.ci/run`. The documents share a folder with the files that they speak of:
the tables of a small synthetic world, pairs, new items, and simulators of few members.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from llm_server import LoopbackLLM
from small_worlds import write_tables

from hybrid_sim.cli import main
from hybrid_sim.cli.parsing import COMMANDS, parse
from hybrid_sim.data.world import make_world

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[\w: ]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.M | re.S)
TABLES = ["--ratings", "ratings.csv", "--items", "items.csv", "--users", "users.csv"]
FEW = ["--members", "biases,svd", "--without", "boosted"]

NEW_ITEMS = """item_id,title,year,genres,overview
n1,The Lamp Below,2026,Drama|Mystery,A lighthouse keeper finds letters that were never sent.
n2,Orbit Nine,2026,Science Fiction|Action,A crew of nine must land a ship that no longer answers.
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the mark in the comment above it ("" without one)."""

    language: str
    text: str
    mark: str

    def commands(self) -> list[list[str]]:
        """The words of every `hybrid-sim` command in a block of the shell."""
        if self.language != "bash":
            return []
        lines = [shlex.split(line, comments=True) for line in self.text.replace("\\\n", " ").splitlines()]
        return [words[1:] for words in lines if words and words[0] == "hybrid-sim"]


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [Block(found["language"], found["text"], found["mark"] or "") for found in BLOCK.finditer(text)]


@pytest.fixture(scope="session")
def files(world_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all documents share, with the files that they speak of."""
    folder = tmp_path_factory.mktemp("docs")
    world = make_world(n_users=100, n_items=80, ratings_per_user=25).dataset
    write_tables(world, folder)
    world.items[["year"]].rename_axis("item_id").to_csv(folder / "items.csv")  # texts would take an embedder
    pairs = "user_id,item_id\nu0001,f0010\nu0001,f0077\nu0018,f0077\na stranger,f0077\n"
    (folder / "pairs.csv").write_text(pairs)
    (folder / "held_out.csv").write_text("user_id,item_id,rating\nu0001,f0010,2\nu0018,f0077,3\n")
    (folder / "new.csv").write_text(NEW_ITEMS)
    shutil.copytree(world_model, folder / "world-model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *TABLES, *FEW, "-o", "model", "--quiet"]) == 0
    return folder


@pytest.fixture
def place(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Works in the folder of `files`; gives the address of a language model on this machine."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-documents")
    with LoopbackLLM() as server:
        yield server.url


@pytest.fixture(scope="session")
def done() -> set[tuple[str, ...]]:
    """The commands that have run: one that several documents show need not run again."""
    return set()


def quick(words: list[str], url: str) -> list[str]:
    """The command on few data with few members, where a whole fit is not the point; its language model is local."""
    command, asks = words[0], "--model" in words
    more = ["--base-url", url] if asks else []
    if command in ("simulate", "plan", "cold"):
        more += ["--fitted", "world-model", *(["--set", "rating.learn_from=6"] if asks else [])]
    if command in ("bench", "validate", "ablate"):
        is_fitted = {"--fitted", "--run", "--simulated"} & set(words)
        more += [] if is_fitted else FEW[:2] if command == "ablate" else FEW
        named = words.index("--dataset") if "--dataset" in words else len(words)
        words = [*words[:named], *words[named + 2 :]]
        more += [] if "--ratings" in words else TABLES
        more += ["--no-cache"] if command == "ablate" else []
    if command == "fit" and "--teach" not in words:
        more += FEW
    if command == "env":
        more += [*FEW, *TABLES]
    return [*words, *more]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_a_document_shows_run(
    document: str, place: str, done: set[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [words for block in blocks(document) if not block.mark for words in block.commands()]
    for words in shown:
        if tuple(words) not in done:
            status = main(quick(words, place))
            assert status == 0, f"{document}: hybrid-sim {shlex.join(words)}: {capsys.readouterr().err}"
            done.add(tuple(words))


def test_python_that_documents_show_runs(place: str) -> None:
    """The blocks of a document are one program; all programs run in one process, which need not be started again."""
    small, names = "hs.make_world(n_users=100, n_items=80, ratings_per_user=25).dataset", []
    for document in DOCUMENTS:
        code = "".join(b.text for b in blocks(document) if b.language == "python" and not b.mark)
        if code:
            names.append(Path(document).stem)
            Path(f"{names[-1]}.py").write_text(code.replace('hs.load_dataset("world")', small))
    run = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", run, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_need_more_are_understood(document: str) -> None:
    for block in blocks(document):
        for words in block.commands():
            if block.mark:
                assert callable(parse(words).run)


def test_the_readme_shows_the_main_commands_and_the_guides_show_all() -> None:
    shown = {words[0] for document in DOCUMENTS for block in blocks(document) for words in block.commands()}
    assert shown == set(COMMANDS)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_set_up_commands_are_marked_for_ci() -> None:
    marked = {block.mark: block.text for block in blocks("README.md") if block.mark.startswith("command: ")}
    assert marked.keys() == {"command: run", "command: test"}
    assert all("-c constraints.txt -e" in text for text in marked.values())
    assert "hybrid-sim bench" in marked["command: run"]
    assert "@" not in (ROOT / "constraints.txt").read_text()


def test_links_lead_somewhere() -> None:
    for document in (*DOCUMENTS, "ARCHITECTURE.md"):
        text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?://)([^)#\s]+)", text):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"


def test_the_results_page_is_what_the_stored_results_say() -> None:
    script = ROOT / "experiments" / "results_page.py"
    assert subprocess.run([sys.executable, script, "check"], check=False).returncode == 0


@pytest.mark.skipif(importlib.util.find_spec("furo") is None, reason="the extra `docs` is not installed")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-W", "-q", "-d", tmp_path / "doctrees", ROOT / "docs", tmp_path / "site"]
    subprocess.run(build, check=True)
    loading = re.compile(
        r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=.https?:|@import|url\(.?https?:", re.IGNORECASE
    )
    for path in (tmp_path / "site").rglob("*"):
        if path.suffix in (".html", ".css"):
            assert loading.search(path.read_text(encoding="utf-8")) is None, path


def test_the_notebook_holds_what_its_cells_return() -> None:
    """docs/first-steps.ipynb, which `python experiments/notebook.py` runs."""
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "experiments" / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)
    stored = json.loads(notebook.NOTEBOOK.read_text(encoding="utf-8"))
    assert any(cell.get("outputs") for cell in stored["cells"])
    assert notebook.executed(stored) == stored
