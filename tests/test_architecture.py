"""The picture of the architecture is true, the layers are complete, and nothing heavy is imported before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hybrid_sim
from hybrid_sim.cli import main
from hybrid_sim.cli.parsing import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hybrid_sim"
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


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert "--quiet" in capsys.readouterr().out
