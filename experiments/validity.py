"""What validation says of the simulator on MovieLens 100K, and of simulators that are bad on purpose.

    python experiments/validity.py PROTOCOL-FOLD ...    for example last40-1 cold-items-2; writes results/validity.json
    python experiments/validity.py law                  how often the law of a synthetic world fails, 20 worlds
    python experiments/validity.py disjoint             simulator and recommenders learn from different halves

Results are added to what the file holds. Real data is looked for in HYBRID_SIM_DATA; a simulator that was saved in
HYBRID_SIM_FITS/PROTOCOL_fFOLD is loaded instead of fitted. Three things of what is measured were changed after looking
at a first fold. After cold-items fold 1: recommenders that cannot tell items apart are left out of the ranking and
others stand in for them, and the intervals of groups are widened for their number. After last40 fold 1: personal signal
is given the biases of user and item instead of their plain means. The other folds confirm. Thresholds were set before
any figure was seen; when verdicts came to be decided by where the whole interval lies, those whose reason had been the
simulator's own values were replaced by ones with a reason from outside (accuracy, personal-signal, ranking, drift).
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.seeding import stream
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import RatingDistribution
from hybrid_sim.data.recordings import read_recordings
from hybrid_sim.data.sources import load
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation.protocols import Fold, Protocol, make_protocol
from hybrid_sim.evaluation.scores import draw
from hybrid_sim.evaluation.splits import kfold
from hybrid_sim.evaluation.validity import inputs
from hybrid_sim.evaluation.validity.inputs import SimulatorOutput, ValidationData
from hybrid_sim.evaluation.validity.recommenders import scores
from hybrid_sim.evaluation.validity.references import NEGATIVE_CONTROLS, negative_control, over_positive
from hybrid_sim.evaluation.validity.report import ValidityReport
from hybrid_sim.evaluation.validity.validate import validate_data, validation_data
from hybrid_sim.retrieval.embedder import TfidfSVD, default_embedder
from hybrid_sim.simulation.simulator import Simulator

RESULTS = Path(__file__).parent / "results" / "validity.json"
DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
FITS = os.environ.get("HYBRID_SIM_FITS")
DOSES = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Rating units of over-positivity on the scale 1 to 5, to see from which one on it is noticed."""

SHOWN = ("accuracy", "information", "coverage", "signal", "recommenders", "taus", "picks")
"""Tables that are kept."""

N_WORLDS = 20


def main(names: list[str]) -> int:
    """Make the named results."""
    for name in names:
        made = {"law": law, "disjoint": disjoint}.get(name)
        found = on_fold(*name.rsplit("-", 1)) if made is None else made()
        stored = json.loads(RESULTS.read_bytes()) if RESULTS.is_file() else {}
        stored[name] = found
        text = json.dumps(dict(sorted(stored.items())), indent=1, allow_nan=False)
        write_whole(RESULTS, text.encode() + b"\n")
        sys.stdout.write(f"{name}: {json.dumps(found.get('summary', found), indent=1)}\n")
    return 0


def on_fold(name: str, number: str) -> dict[str, Any]:
    """The simulator, the simulator with recorded LLM ratings, and the planted ones, on one fold."""
    dataset = load("ml-100k", DATA)
    protocol = make_protocol(name, dataset, folds=[int(number)], data=DATA)
    fold = next(protocol.folds())
    simulator = fitted(fold.train, f"{name}_f{number}")
    embedder = default_embedder().fit(item_texts(dataset))
    started = time.perf_counter()
    answers = inputs.fitted(simulator, fold.held_out, 0)
    data = validation_data(fold, answers, protocol, embedder)
    report = validate_data(data, protocol.name, number)
    seconds = time.perf_counter() - started
    tables = {table.name: table for section in report.sections for table in section.tables}
    found = {
        "provenance": asdict(provenance(sys.argv, 0, dataset, embedder.name)),
        "protocol": protocol.name,
        "fold": number,
        "summary": report.summary,
        "seconds_beyond_fitting": seconds,
        "n_held_out": len(fold.held_out),
        "verdicts": figures(report),
        "tables": {key: _plain(tables[key]) for key in SHOWN if key in tables},
        "planted": {
            bad: caught(data, negative_control(bad, simulator, fold.train, fold.held_out)) for bad in NEGATIVE_CONTROLS
        },
        "over_positive_by_rating_units": {str(dose): caught(data, too_high(simulator, data, dose)) for dose in DOSES},
    }
    recorded = DATA / "lusifer" / "ml-100k"
    if recorded.is_dir() and name != "cold-items" and int(number) <= 3:
        corrected = inputs.with_recording(answers, read_recordings([recorded], fold.held_out), 0)
        of_llm = validate_data(replace(data, simulator=corrected.simulator), protocol.name, number)
        found["with_recorded_llm"] = {"summary": of_llm.summary, "verdicts": figures(of_llm)}
    return found


def fitted(train: Dataset, name: str) -> Simulator:
    """The simulator that was saved under this name, else one fitted now."""
    if FITS is not None and (Path(FITS) / name).is_dir():
        saved = Simulator.load(Path(FITS) / name)
        saved.require_fitted_to(train)
        return saved
    return Simulator(seed=0).fit(train)


def too_high(simulator: Simulator, data: ValidationData, units: float) -> SimulatorOutput:
    """The honest simulator, too high by a few tenths of a rating unit."""
    rater = over_positive(simulator, units / (data.scale.high - data.scale.low))
    distribution = rater.rate(data.held_out.pairs)
    return SimulatorOutput(f"{units} too high", distribution, data.drawn_from(distribution), rater=rater)


def caught(data: ValidationData, bad: SimulatorOutput) -> list[str]:
    """The verdicts that a bad simulator fails."""
    report = validate_data(replace(data, simulator=bad), "planted", "")
    return [verdict.name for verdict in report.verdicts if verdict.state == "fail"]


def figures(report: ValidityReport) -> dict[str, dict[str, Any]]:
    """What was measured, by the name of the verdict."""
    kept = ("state", "value", "low", "high", "threshold", "sense")
    return {verdict.name: {key: getattr(verdict, key) for key in kept} for verdict in report.verdicts}


def _plain(table: Any) -> dict[str, Any]:
    return {"columns": [column.name for column in table.columns], "rows": [list(row) for row in table.rows]}


def law() -> dict[str, Any]:
    """The law that a world's ratings were drawn from, as the simulator: whatever it fails is a false alarm."""
    failed: dict[str, list[str]] = {}
    for seed in range(100, 100 + N_WORLDS):
        world = make_world(seed=seed)
        split = kfold(world.dataset, 3, seed=1)[0]
        train, held_out = world.dataset.take(split.train_rows), world.dataset.take(split.test_rows)
        assert held_out.timestamp is not None
        distribution: RatingDistribution = world.distribution(held_out.pairs, held_out.timestamp)
        subject = SimulatorOutput("law", distribution, draw(distribution, held_out, held_out.pairs, seed))
        protocol = Protocol("kfold", world.dataset, ())
        data = validation_data(Fold(1, train, held_out), inputs.Answers(subject, held_out), protocol, _tfidf(train))
        failed[str(seed)] = caught(data, subject)
    n_bad = sum(bool(names) for names in failed.values())
    return {
        "provenance": asdict(provenance(sys.argv, 0, make_world(seed=100).dataset)),
        "summary": f"{n_bad} of {N_WORLDS} synthetic worlds in which their own law fails a verdict",
        "failed": failed,
    }


def disjoint() -> dict[str, Any]:
    """Ranking of recommenders where simulator and recommenders share no training rating (last40, fold 1)."""
    dataset = load("ml-100k", DATA)
    protocol = make_protocol("last40", dataset, folds=[1], data=DATA)
    fold = next(protocol.folds())
    half = stream(0, "disjoint halves").random(len(fold.train)) < 0.5
    parts = fold.train.take(half), fold.train.take(~half)
    simulator = fitted(parts[0], "last40_f1_half")
    embedder = default_embedder().fit(item_texts(dataset))
    answers = inputs.fitted(simulator, fold.held_out, 0)
    found: dict[str, Any] = {"provenance": asdict(provenance(sys.argv, 0, dataset, embedder.name))}
    shared = validation_data(Fold(1, parts[0], fold.held_out), answers, protocol, embedder)
    for name, train in (("same half", parts[0]), ("other half", parts[1])):
        data = replace(shared, recommenders=scores(train, fold.held_out.pairs, embedder, 0))
        verdicts = figures(validate_data(data, "last40", "1"))
        found[name] = {key: verdicts[key] for key in ("ranking", "good-against-bad")}
    found["summary"] = {name: found[name]["ranking"] for name in ("same half", "other half")}
    return found


def _tfidf(dataset: Dataset) -> Embedder:
    return TfidfSVD().fit(item_texts(dataset))


if __name__ == "__main__":
    np.seterr(invalid="raise", over="raise")
    raise SystemExit(main(sys.argv[1:]))
