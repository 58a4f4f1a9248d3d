"""A small version of experiments/llm_kill.py: runs that are killed again and again lose and repeat nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "llm_kill.py"


def test_row_27_killed_runs_lose_no_committed_answer_and_repeat_no_committed_call(tmp_path: Path) -> None:
    out = tmp_path / "kill.json"
    run = subprocess.run([sys.executable, EXPERIMENT, "2", "160", out], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads(out.read_text())
    assert report["kills"] >= 4, "too few kills to test anything"
    assert report["requests_spoilt"] > 30
    assert (report["answers_lost"], report["committed_calls_repeated"], report["unrecorded_requests"]) == (0, 0, 0)
    assert 0 < report["most_repeats_of_a_kill"] <= report["most_calls_in_flight_at_a_kill"] <= report["concurrency"]
    assert report["answers_committed"] + report["questions_without_answer"] == 320
    assert report["damaged_journals"] == 0
