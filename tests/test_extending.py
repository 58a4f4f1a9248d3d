"""Other packages add commands, data sets and raters: by one module and one entry point, found by name everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

RATER = """
from dataclasses import dataclass, field
import numpy as np
from hybrid_sim.core.types import RatingDistribution, RatingScale
from hybrid_sim.models.registry import Member, rater

@rater("middle", component="guesses", explanation="a guess at the middle", members=[Member("middle")])
@dataclass
class Middle:
    spread: float = 1.0
    scale_: RatingScale = field(init=False)

    def fit(self, dataset):
        self.scale_ = dataset.scale
        return self

    def rate(self, pairs):
        middle = (self.scale_.low + self.scale_.high) / 2
        return RatingDistribution.from_mean(self.scale_, np.full(len(pairs), middle), self.spread)
"""

USE_OF_RATER = """
from hybrid_sim.core.types import Pairs, RatingScale
from hybrid_sim.retrieval.evidence import Grounds
from hybrid_sim.simulation.explain import Facts, plain_reason
from hybrid_sim.simulation.simulator import Simulator
from hybrid_sim.testing import tiny_dataset

data = tiny_dataset()
simulator = Simulator(members=("biases", "middle")).fit(data)
simulator.save("model")
before, after = (one.predict_pairs(data.pairs).distribution.probs for one in (simulator, Simulator.load("model")))
print("equal", (before == after).all())
facts = Facts(RatingScale((1, 2, 3, 4, 5)), "Alien", 4.3, 4.0, 5.0, True, True, True)
print(plain_reason(facts, {"base": 3.5, "middle": 0.5}, Grounds()))
"""


@pytest.fixture
def extended(tmp_path: Path) -> Callable[[str, str], Cli]:
    """Install a package outside this one: its entry-point group and its source; returns the command line with it."""

    def install(group: str, source: str) -> Cli:
        info = tmp_path / "extension-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extension\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[hybrid_sim.{group}]\nextension = extension\n")
        (tmp_path / "extension.py").write_text(source)

        def cli(*words: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
            path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
            return subprocess.run(
                [sys.executable, *(["-m", "hybrid_sim", *words] if script is None else ["-c", script])],
                capture_output=True,
                text=True,
                timeout=120,
                env={**os.environ, "PYTHONPATH": path, "COLUMNS": "500"},
                cwd=tmp_path,
            )

        return cli

    return install


def test_a_command_is_found_in_the_help_and_run(extended: Callable[[str, str], Cli]) -> None:
    cli = extended(
        "commands",
        "from hybrid_sim.cli.parsing import COMMANDS, Command\n"
        "def add_options(parser): parser.add_argument('--times', type=int, default=1)\n"
        "def run(options):\n    print('beep ' * options.times)\n    return 0\n"
        "COMMANDS.add('beep', Command('make a noise', 'Beeps.', add_options, run))\n",
    )
    assert "beep       make a noise" in cli("--help").stdout
    assert cli("beep", "--times", "2").stdout == "beep beep \n"
    assert "did you mean 'beep'?" in cli("bepe").stderr


def test_an_extension_that_cannot_be_imported_is_named(extended: Callable[[str, str], Cli]) -> None:
    done = extended("commands", "import no_such_module\n")("data", "where")
    assert done.returncode == 2
    assert "extension" in done.stderr
    assert "no_such_module" in done.stderr


def test_a_rater_is_found_in_helps_benchmark_ablation_explanations_and_saved_models(
    extended: Callable[[str, str], Cli],
) -> None:
    cli = extended("raters", RATER)
    assert "levels_content, middle (default all)" in cli("fit", "--help").stdout
    assert "guesses (middle)" in cli("ablate", "--help").stdout
    bench = cli("bench", "--models", "middle", "--folds", "1", "--figure", "none")
    assert "middle" in bench.stdout, bench.stderr
    used = cli(script=USE_OF_RATER)
    assert "equal True" in used.stdout, used.stderr
    assert "raised by 0.5 by a guess at the middle" in used.stdout


def test_a_data_set_is_found_in_the_help_and_usable_by_name(
    extended: Callable[[str, str], Cli], tmp_path: Path
) -> None:
    cli = extended(
        "datasets",
        "from hybrid_sim.data.sources import DATASETS, DataSource\n"
        "from hybrid_sim.data.tables import read_dataset\n"
        "def read(folder, name): return read_dataset(folder / 'plays.csv', name=name)\n"
        "DATASETS.add('plays', DataSource(read, 'plays.csv'))\n",
    )
    (tmp_path / "plays").mkdir()
    rows = [f"u{user},i{item},{1 + (user * item) % 5},{100 * item + user}" for user in range(12) for item in range(12)]
    (tmp_path / "plays" / "plays.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")
    assert "plays" in cli("bench", "--help").stdout
    assert str(tmp_path / "plays") in cli("data", "list", "--data", str(tmp_path)).stdout
    words = ["--dataset", "plays", "--data", str(tmp_path), "--models", "user_mean", "--figure", "none"]
    done = cli("bench", *words)
    assert done.returncode == 0, done.stderr
    assert "plays, protocol" in done.stdout


def test_a_protocol_is_found_in_helps_and_its_folds_are_scored(extended: Callable[[str, str], Cli]) -> None:
    cli = extended(
        "protocols",
        "import numpy as np\n"
        "from hybrid_sim.evaluation.protocols import Folds, protocol\n"
        "from hybrid_sim.evaluation.splits import Split\n"
        "@protocol('odd-items', 'hold out every second item', groups='items', options=('known',))\n"
        "def odd_items(dataset, options):\n"
        "    odd = dataset.item % 2 == options.known\n"
        "    return Folds([Split('odd', np.flatnonzero(~odd), np.flatnonzero(odd))], ('odd items are held out.',))\n",
    )
    for command in ("bench", "ablate", "validate"):
        assert "odd-items" in cli(command, "--help").stdout
    assert "odd-items         hold out every second item" in cli("bench", "--help").stdout
    assert "cold-users, odd-items: ratings known of a held-out user" in cli("bench", "--help").stdout
    words = ["--protocol", "odd-items", "--known", "1", "--models", "user_mean,biases", "--figure", "none"]
    done = cli("bench", *words)
    assert "protocol odd-items" in done.stdout, done.stderr
    assert "Note: odd items are held out." in done.stdout
    assert "did you mean 'odd-items'?" in cli("bench", "--protocol", "odd-item").stderr


def test_a_metric_is_found_in_the_tables_and_records_of_bench_ablate_and_report(
    extended: Callable[[str, str], Cli], tmp_path: Path
) -> None:
    cli = extended(
        "metrics",
        "import numpy as np\n"
        "from hybrid_sim.evaluation.scores import METRICS, Metric\n"
        "def beyond(p): return (np.abs(p.expected - p.truth) > 1).astype(float)\n"
        "def mean_beyond(p): return float(beyond(p).mean())\n"
        "METRICS.add('far_off', Metric('far off', mean_beyond, 3, losses=beyond, ablated=True))\n",
    )
    done = cli("bench", "--models", "user_mean,biases", "--figure", "none", "--json", "bench.json")
    assert "far off" in done.stdout, done.stderr
    rows = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert all(0 < row["far_off"] < 1 for row in rows)
    assert cli("report", "bench.json", "--html", "bench.html").returncode == 0
    assert "far off" in (tmp_path / "bench.html").read_text()
    (tmp_path / "other.json").write_text(
        (tmp_path / "bench.json").read_text().replace('"far_off": 0.', '"far_off": 0.0')
    )
    assert "far_off: biases" in cli("compare", "bench.json", "other.json").stdout
    words = ["--members", "biases,knn", "--components", "neighbours", "--answers", "none", "--json", "ablation.json"]
    done = cli("ablate", *words)
    assert "far off: 0." in done.stdout, done.stderr
    effects = json.loads((tmp_path / "ablation.json").read_text())["effects"]
    assert {row["metric"] for row in effects} == {"rmse", "log_loss", "far_off"}
