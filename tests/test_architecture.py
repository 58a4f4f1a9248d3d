"""The documents tell the truth, the layers are complete, and nothing heavy is imported before it is used."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hybrid_sim
from hybrid_sim.cli import main

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hybrid_sim"
COMMANDS = (
    *("bench", "ablate", "validate", "simulate", "plan", "cold", "fit", "predict"),
    *("why", "report", "compare", "profile", "prompt", "settings", "doctor", "data"),
)
HEAVY = (
    "numpy",
    "pandas",
    "scipy",
    "numba",
    "torch",
    "sklearn",
    "lightgbm",
    "surprise",
    "faiss",
    "matplotlib",
)


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def commands(document: Path) -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("hybrid-sim ")]


def cpu_seconds(*command: str) -> float:
    """Time on the processor, which other work on the machine does not lengthen much."""
    before = os.times()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_importing_and_help_are_quick() -> None:
    assert min(cpu_seconds("-c", "import hybrid_sim") for _ in range(3)) < 0.5
    assert min(cpu_seconds("-m", "hybrid_sim", "--help") for _ in range(3)) < 0.4


MAIN = "from hybrid_sim.cli import main; main"


@pytest.mark.parametrize("statement", ["import hybrid_sim", f"{MAIN}([])", f"{MAIN}(['why'])"])
def test_nothing_heavy_is_imported_before_it_is_used(statement: str) -> None:
    code = f"import sys; {statement}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("name", hybrid_sim.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(hybrid_sim, name) is not None
    assert name in dir(hybrid_sim)


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulate_everything'"):
        _ = hybrid_sim.simulate_everything


def test_architecture_names_every_module_of_the_picture_and_only_real_ones() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for path in re.findall(r"`((?:hybrid_sim|tests)/[\w/]*(?:\.py)?)`", text):
        assert (ROOT / path).exists(), path
    picture = text.split("```")[1]
    drawn = set(re.findall(r"\w+(?:\.py|/)", picture))
    top = {path.name if path.suffix else f"{path.name}/" for path in PACKAGE.iterdir() if path.name[0] not in "_."}
    assert drawn == top - {"py.typed"} | {"validity/", "ablation/"}


def test_every_module_is_in_a_layer() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers")
    layered = {name.strip() for layer in layers for name in re.split("[:|]", layer)}
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    lost = [name for name in modules if not any(f"{name}.".startswith(f"{layer}.") for layer in layered)]
    assert lost == []


def test_code_in_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(ROOT / "README.md")
    assert len(blocks) == 1
    assert "Simulator(seed=0)" in blocks[0]
    quick = blocks[0].replace("Simulator(seed=0)", "Simulator(seed=0, members=('biases', 'svd'))")
    exec(compile(quick, "README.md", "exec"), {})
    assert "a stranger" in capsys.readouterr().out
    assert (tmp_path / "model").is_dir()


def test_commands_in_the_readme_are_understood() -> None:
    from hybrid_sim.cli.parsing import parse

    found = commands(ROOT / "README.md")
    assert {words[0] for words in found} == set(COMMANDS)
    for words in found:
        assert callable(parse(words).run)


def test_set_up_commands_are_marked_for_ci() -> None:
    text = (ROOT / "README.md").read_text()
    for name in ("run", "test"):
        assert re.search(rf"^<!-- command: {name} -->\n```bash\n.*-c constraints.txt -e", text, re.MULTILINE)
    assert "@" not in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert "--quiet" in capsys.readouterr().out
