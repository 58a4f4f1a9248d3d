"""Other packages add commands, data sets and raters: by one module and one entry point, found by name everywhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Done

RATER = """
from dataclasses import dataclass, field
import numpy as np
from hybrid_sim.core.types import RatingDistribution, RatingScale
from hybrid_sim.models.registry import Member, rater

@rater("middle", component="guesses", group="a guess at the middle", members=[Member("middle")])
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
from hybrid_sim.core.types import RatingScale
from hybrid_sim.retrieval.evidence import Grounds
from hybrid_sim.simulation.explain import Facts, plain_reason
from hybrid_sim.simulation.simulator import Simulator
from hybrid_sim.testing import tiny_dataset

data = tiny_dataset()
simulator = Simulator(members=("biases", "middle")).fit(data)
simulator.save("model")
before, after = (one.predict_pairs(data.pairs).distribution.probs for one in (simulator, Simulator.load("model")))
assert (before == after).all()
facts = Facts(RatingScale((1, 2, 3, 4, 5)), "Alien", 4.3, 4.0, 5.0, True, True, True)
group = "a guess at the middle"
assert f"raised by 0.5 by {group}" in plain_reason(facts, {"base": 3.5, group: 0.5}, Grounds())
"""

COMMANDS = """
import dataclasses, json, sys
from command_line import run_command

commands, script = json.loads(sys.argv[1])
done = [dataclasses.astuple(run_command(*words)) for words in commands]
exec(script)
print(json.dumps(done))
"""

Install = Callable[[str, str], Callable[..., list[Done]]]


@pytest.fixture
def extended(tmp_path: Path) -> Install:
    """Installs a package outside this one, by its entry-point group and its source.

    What comes back runs commands, and then a script, in one process that has the package.
    """

    def install(group: str, source: str) -> Callable[..., list[Done]]:
        info = tmp_path / "extension-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extension\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[hybrid_sim.{group}]\nextension = extension\n")
        (tmp_path / "extension.py").write_text(source)

        def run(*commands: str, script: str = "") -> list[Done]:
            path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
            work = json.dumps([[shlex.split(command) for command in commands], script])
            process = subprocess.run(
                [sys.executable, "-c", COMMANDS, work],
                capture_output=True,
                text=True,
                timeout=120,
                env={**os.environ, "PYTHONPATH": path, "COLUMNS": "500"},
                cwd=tmp_path,
            )
            assert process.returncode == 0, process.stderr
            return [Done(*one) for one in json.loads(process.stdout)]

        return run

    return install


def test_a_command_is_found_in_the_help_and_run(extended: Install) -> None:
    run = extended(
        "commands",
        "from hybrid_sim.cli.parsing import COMMANDS, Command\n"
        "def add_options(parser): parser.add_argument('--times', type=int, default=1)\n"
        "def run(options):\n    print('beep ' * options.times)\n    return 0\n"
        "COMMANDS.add('beep', Command('make a noise', 'Beeps.', add_options, run))\n",
    )
    shown, done, misspelt = run("--help", "beep --times 2", "bepe")
    assert "beep       make a noise" in shown.stdout
    assert done.stdout == "beep beep \n"
    assert "did you mean 'beep'?" in misspelt.stderr


def test_an_extension_that_cannot_be_imported_is_named(extended: Install) -> None:
    (done,) = extended("commands", "import no_such_module\n")("data where")
    assert done.status == 2
    assert "extension" in done.stderr
    assert "no_such_module" in done.stderr


def test_a_rater_is_found_in_helps_benchmark_ablation_explanations_and_saved_models(
    extended: Install,
) -> None:
    fit, ablate, bench = extended("raters", RATER)(
        "fit --help", "ablate --help", "bench --models middle --folds 1 --figure none", script=USE_OF_RATER
    )
    assert "levels_content, middle (default all)" in fit.stdout
    assert "guesses (middle)" in ablate.stdout
    assert "middle" in bench.stdout, bench.stderr


def test_a_data_set_is_found_in_the_help_and_usable_by_name(extended: Install, tmp_path: Path) -> None:
    run = extended(
        "datasets",
        "from hybrid_sim.data.sources import DATASETS, DataSource\n"
        "from hybrid_sim.data.tables import read_dataset\n"
        "def read(folder, name): return read_dataset(folder / 'plays.csv', name=name)\n"
        "DATASETS.add('plays', DataSource(read, 'plays.csv'))\n",
    )
    (tmp_path / "plays").mkdir()
    rows = [f"u{user},i{item},{1 + (user * item) % 5},{100 * item + user}" for user in range(12) for item in range(12)]
    (tmp_path / "plays" / "plays.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")
    shown, listed, done = run(
        "bench --help",
        "data list --data .",
        "bench --dataset plays --data . --models user_mean --figure none",
    )
    assert "plays" in shown.stdout
    assert re.search(r"^plays +plays$", listed.stdout, re.MULTILINE)
    assert done.status == 0, done.stderr
    assert "plays, protocol" in done.stdout


def test_a_protocol_is_found_in_helps_and_its_folds_are_scored(extended: Install) -> None:
    run = extended(
        "protocols",
        "import numpy as np\n"
        "from hybrid_sim.evaluation.protocols import Folds, protocol\n"
        "from hybrid_sim.evaluation.splits import Split\n"
        "@protocol('odd-items', 'hold out every second item', groups='items', options=('known',))\n"
        "def odd_items(dataset, options):\n"
        "    odd = dataset.item % 2 == options.known\n"
        "    return Folds([Split('odd', np.flatnonzero(~odd), np.flatnonzero(odd))], ('odd items are held out.',))\n",
    )
    bench, ablate, validate, done, misspelt = run(
        *(f"{command} --help" for command in ("bench", "ablate", "validate")),
        "bench --protocol odd-items --known 1 --models user_mean,biases --figure none",
        "bench --protocol odd-item",
    )
    assert all("odd-items" in shown.stdout for shown in (bench, ablate, validate))
    assert "odd-items         hold out every second item" in bench.stdout
    assert "cold-users, odd-items: ratings known of a held-out user" in bench.stdout
    assert "protocol odd-items" in done.stdout, done.stderr
    assert "Note: odd items are held out." in done.stdout
    assert "did you mean 'odd-items'?" in misspelt.stderr


def test_a_metric_is_found_in_the_tables_and_records_of_bench_ablate_and_report(
    extended: Install, tmp_path: Path
) -> None:
    run = extended(
        "metrics",
        "import numpy as np\n"
        "from hybrid_sim.evaluation.scores import METRICS, Metric\n"
        "def beyond(p): return (np.abs(p.expected - p.truth) > 1).astype(float)\n"
        "def mean_beyond(p): return float(beyond(p).mean())\n"
        "METRICS.add('far_off', Metric('far off', mean_beyond, 3, losses=beyond, ablated=True))\n",
    )
    bench, report, ablate = run(
        "bench --models user_mean,biases --figure none --json bench.json",
        "report bench.json --html bench.html",
        "ablate --members biases,knn --components neighbours --no-cache --json ablation.json",
    )
    assert "far off" in bench.stdout, bench.stderr
    saved = (tmp_path / "bench.json").read_text()
    assert all(0 < row["far_off"] < 1 for row in json.loads(saved)["results"])
    assert report.status == 0
    assert "far off" in (tmp_path / "bench.html").read_text()
    assert "far off is 0." in ablate.stdout, ablate.stderr
    effects = json.loads((tmp_path / "ablation.json").read_text())["effects"]
    assert {row["metric"] for row in effects} == {"rmse", "log_loss", "far_off"}
    (tmp_path / "other.json").write_text(saved.replace('"far_off": 0.', '"far_off": 0.0'))
    assert "far_off: biases" in run("compare bench.json other.json")[0].stdout
