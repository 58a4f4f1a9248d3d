"""Every prescribed package is reached by something that users call, which fails without it."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.parametrize("package", REACHED_BY)
def test_a_prescribed_package_is_reached_and_needed(package: str, tmp_path: Path) -> None:
    if package == "sentence_transformers" and MiniLM().locate() is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not on this machine")
    program = f"""
import sys
if sys.argv[1] == "without":
    sys.modules[{package!r}] = None
try:
    exec({REACHED_BY[package]!r})
finally:
    print("loaded" if sys.modules.get({package!r}) else "not loaded")
"""
    runs = {}
    for how in ("with", "without"):
        (tmp_path / how).mkdir()
        with LoopbackLLM() as server:
            environment = {**os.environ, "HYBRID_SIM_CACHE": str(tmp_path / how), "LOOPBACK": server.url}
            command = [sys.executable, "-c", program, how]
            runs[how] = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert runs["with"].stdout.endswith("loaded\n"), runs["with"].stderr
    assert not runs["with"].stdout.endswith("not loaded\n"), runs["with"].stderr
    assert runs["with"].returncode == 0, runs["with"].stderr
    assert runs["without"].returncode != 0, runs["without"].stdout
    assert package in runs["without"].stderr
