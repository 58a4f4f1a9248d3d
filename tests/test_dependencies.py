"""Every prescribed package is reached by something that users call, which fails without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from llm_server import LoopbackLLM

from hybrid_sim.retrieval.embedder import MiniLM

ASK = """
import os
from pathlib import Path
import hybrid_sim.llm.client as client
from hybrid_sim.core.user_state import Histories
from hybrid_sim.core.settings import LLMSettings, RatingSettings
from hybrid_sim.core.user_state import UserState
from hybrid_sim.llm.budget import Budget
from hybrid_sim.llm.journal import Journal
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template
from hybrid_sim.testing import tiny_dataset
import numpy as np
tiny = tiny_dataset()
state = UserState(0, Histories(tiny).of(0))
question = rating_question(load_template("rate"), tiny, state, np.array([1]), RatingSettings())
settings = LLMSettings(model="loopback", base_url=os.environ["LOOPBACK"])
file = Path(os.environ["HYBRID_SIM_CACHE"], "journal.sqlite")
with Journal(file) as journal, client.LLM(settings, journal, Budget()) as llm:
    (answer,) = llm.ask([question])
    assert answer.value.ratings.shape == (1,)
"""
FITTED = """
from hybrid_sim.models import make_rater
from hybrid_sim.testing import tiny_dataset
from hybrid_sim.retrieval.tfidf import TfidfSVD
tiny = tiny_dataset()
rater = make_rater({}).fit(tiny)
assert rater.rate(tiny.pairs).answered.any()
"""
LOADED = "import hybrid_sim; assert len(hybrid_sim.load_dataset('world'))"
EMBEDDED = "import hybrid_sim.retrieval.embedder as e; assert e.default_embedder().embed(['a text']).any()"
TESTED = "import runpy, sys; sys.argv = ['pytest', '--collect-only', '-q', '-p', 'no:cacheprovider', {!r}]; "
TESTED += "runpy.run_module('pytest', run_name='__main__')"

REACHED_BY = {
    "openai": ASK,  # LLM.ask
    "tenacity": ASK,  # LLM.ask
    "sentence_transformers": EMBEDDED,  # default_embedder().embed
    "faiss": FITTED.format('"neighbours", embedder=TfidfSVD(), k=2'),  # make_rater("neighbours")
    "surprise": FITTED.format('"svd"'),  # make_rater("svd")
    "lightgbm": FITTED.format('"boosted"'),  # make_rater("boosted")
    "pandas": LOADED,  # load_dataset
    "numpy": LOADED,  # load_dataset
    "pytest": TESTED.format(str(Path(__file__).with_name("test_types.py"))),  # the tests, as README runs them
}
"""Import name of each prescribed package, and a program that needs it."""


RUN = """
import json, sys
programs, package = json.loads(sys.argv[1])
if package:
    sys.modules[package] = None
for name, program in programs.items():
    try:
        exec(program, {})
    finally:
        print("loaded" if sys.modules.get(name) else "not loaded", name)
"""


def run(programs: Mapping[str, str], folder: Path, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run programs by their package, where a package cannot be imported."""
    with LoopbackLLM() as server:
        environment = {**os.environ, "HYBRID_SIM_CACHE": str(folder), "LOOPBACK": server.url}
        command = [sys.executable, "-c", RUN, json.dumps([programs, without])]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """All programs where every package can be imported."""
    return run(REACHED_BY, tmp_path_factory.mktemp("with"))


@pytest.mark.parametrize("package", REACHED_BY)
def test_a_prescribed_package_is_reached_and_needed(
    package: str, whole: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    if package == "sentence_transformers" and MiniLM().locate() is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not on this machine")
    assert f"\nloaded {package}\n" in f"\n{whole.stdout}", whole.stderr
    done = run({package: REACHED_BY[package]}, tmp_path, without=package)
    assert done.returncode != 0, done.stdout
    assert package in done.stderr
