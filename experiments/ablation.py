"""Runs the ablations that are reported: python experiments/ablation.py [NAME ...]

Writes experiments/results/ablation-NAME.json. First the members are fitted, unless they are in the cache that
HYBRID_SIM_FITS names (default: a temporary folder); then everything is made from the cached answers, which is timed
(ablation-seconds.json). Real data is looked for in HYBRID_SIM_DATA.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import hybrid_sim as hs
from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.fit_cache import caching_fits
from hybrid_sim.data.recordings import read_recordings
from hybrid_sim.evaluation.ablation import AblationResult, ablate, ablation_text, write_ablation
from hybrid_sim.evaluation.ablation.member_answers import gather
from hybrid_sim.evaluation.protocols import Protocol, make_protocol

RESULTS = Path(__file__).parent / "results"
SECONDS = RESULTS / "ablation-seconds.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
RECORDED = DATA / "lusifer" / "ml-100k"
"""Recorded LLM ratings of the test rows of the genuine folds 1 to 3."""


@dataclass(frozen=True)
class Plan:
    """One ablation: data, protocol, folds, and whether the recorded LLM ratings are a component."""

    dataset: str
    protocol: str
    folds: tuple[int, ...]
    with_llm: bool = False


PLANS = {
    "world": Plan("world", "user-temporal", (1,)),
    "ml-100k-last40": Plan("ml-100k", "last40", (1, 2, 3), with_llm=True),
    "ml-100k-full": Plan("ml-100k", "full", (1, 2, 3), with_llm=True),
    "ml-100k-cold-items": Plan("ml-100k", "cold-items", (1, 2, 3), with_llm=True),
}


def prepared(plan: Plan) -> tuple[Dataset, Protocol]:
    """The data and its folds, with all members' answers in the cache."""
    data = None if plan.dataset == "world" else DATA
    dataset = hs.load_dataset(plan.dataset, data)
    protocol = make_protocol(plan.protocol, dataset, folds=plan.folds, data=data, shuffle_untimed=True)
    for fold in protocol.folds():
        gather(fold, None)
    return dataset, protocol


def ablated(plan: Plan, dataset: Dataset, protocol: Protocol) -> AblationResult:
    """Take the ensemble apart, from the cached answers."""
    recording = read_recordings([RECORDED], dataset) if plan.with_llm else None
    command = ["python", "experiments/ablation.py", *sys.argv[1:]]
    return ablate(dataset, protocol, recording=recording, command=command)


def main(names: list[str]) -> int:
    """Run the named ablations, by default all, and keep what each took."""
    for name in names:
        if name not in PLANS:
            raise SettingsError(f"there is no ablation {name!r}; choose among {', '.join(PLANS)}")
    folder = os.environ.get("HYBRID_SIM_FITS")
    with tempfile.TemporaryDirectory() as temporary, caching_fits(folder or temporary):
        for name in names or PLANS:
            dataset, protocol = prepared(PLANS[name])
            started, used, load = time.perf_counter(), time.process_time(), os.getloadavg()[0]
            report = ablated(PLANS[name], dataset, protocol)
            taken = {
                "subsets": len(report.subsets),
                "folds": report.folds,
                "seconds_per_fold": (time.perf_counter() - started) / len(PLANS[name].folds),
                "cpu_seconds_per_fold": (time.process_time() - used) / len(PLANS[name].folds),
                "cpus": os.cpu_count(),
                "load_before": load,
                "commit": report.provenance.commit,
            }
            write_ablation(report, RESULTS / f"ablation-{name}.json")
            known = json.loads(SECONDS.read_text()) if SECONDS.is_file() else {}
            SECONDS.write_text(json.dumps({**known, name: taken}, indent=1) + "\n")
            sys.stdout.write(f"{ablation_text(report)}\n\nFrom cached answers: {json.dumps(taken)}\n\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
