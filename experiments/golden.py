"""Fingerprints of what the program says, to show that a change of its structure changes no answer.

    python experiments/golden.py write DIR       run every command on three data sets, keep what it wrote in DIR
    python experiments/golden.py compare A B     name the files that differ between two such folders
    python experiments/golden.py digest DIR      SHA-256 of every file, into experiments/results/golden.json
    python experiments/golden.py check DIR       name the files whose digest is not the stored one

Needs HYBRID_SIM_DATA. Predictions are compared to the last bit (`repr` of each float), the bodies of all requests to
a loopback language model by their sorted SHA-256. Times, versions, commits, commands and addresses are
left out, and so are the pages of benchmarks, ablations and validations, which show times.
Digests hold for one machine: another processor may round sums differently.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import hybrid_sim as hs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from llm_server import LoopbackLLM

STORED = Path(__file__).parent / "results" / "golden.json"
PROGRAM = [sys.executable, "-m", "hybrid_sim"]
VOLATILE = re.compile(
    "seconds|seconds_.*|commit|command|versions|packages|python|platform|created|at|elapsed|base_url|minutes|peak_mb|digest"
)
"""Names of fields that differ from run to run or from release to release."""

COMMANDS = (
    *("", "bench", "fit", "predict", "simulate", "plan", "why", "profile", "prompt", "settings", "doctor", "validate"),
    *("ablate", "report", "compare", "cold", "data"),
)
DATA = {
    "world": ("world", "user-temporal"),
    "ml-100k": ("ml-100k", "last40"),
    "music": ("amazon-musical-instruments", "user-temporal"),
}
"""Per folder: data set and protocol."""

LIGHT = "biases,neighbours,facets,content_gp,factorization_1"
"""Members of the simulator that the slower commands use; `fit` of the world and every `bench` use all."""


def main(words: list[str]) -> int:
    """Do as the words say; the status is 1 where files differ."""
    match words:
        case ["write", folder]:
            write(Path(folder))
            return 0
        case ["compare", first, second]:
            return _told(_differing(digests(Path(first)), digests(Path(second))))
        case ["digest", folder]:
            STORED.write_text(json.dumps(digests(Path(folder)), indent=1) + "\n")
            return 0
        case ["check", folder]:
            return _told(_differing(json.loads(STORED.read_text()), digests(Path(folder))))
    raise SystemExit(__doc__)


def write(folder: Path) -> None:
    """Run everything; `folder` holds what came out, cleaned of what may differ."""
    for command in COMMANDS:
        _keep(folder / "help" / f"{command or 'main'}.txt", _run(*command.split(), "--help"))
    _keep(folder / "settings.txt", _run("settings"))
    for name, (dataset, protocol) in DATA.items():
        _write_one(folder / name, dataset, protocol)


def _write_one(folder: Path, dataset: str, protocol: str) -> None:
    data, place = ["--dataset", dataset], folder / "raw"
    place.mkdir(parents=True, exist_ok=True)
    fold = [*data, "--protocol", protocol, "--folds", "1"]
    members = [] if dataset == "world" else ["--members", LIGHT]
    _say(f"{dataset}: bench")
    _run("bench", *fold, "--models", "biases,knn,svd,hybrid", "--json", str(place / "bench.json"))
    _say(f"{dataset}: fit and predict")
    _run("fit", *data, *members, "-o", str(place / "model"))
    pairs = place / "pairs.csv"
    _pairs(dataset).to_csv(pairs, index=False)
    _run("predict", str(place / "model"), "--pairs", str(pairs), "-o", str(place / "predictions.csv"))
    asked = ["simulate", *data, "--fitted", str(place / "model"), "--user", "random:6", "--item", "random:5"]
    _say(f"{dataset}: simulate")
    _run(*asked, "--advance", "-o", str(place / "run"))
    bodies = _with_model(*asked, "--set", "rating.learn_from=40", "--advance", "-o", str(place / "run-llm"))
    _keep(folder / "prompts.txt", "".join(f"{line}\n" for line in bodies))
    _run("report", str(place / "run-llm"), *data, "--html", str(place / "run.html"))
    _say(f"{dataset}: cold")
    new = place / "new.csv"
    _new_items().to_csv(new, index=False)
    cold = ["cold", "--new", str(new), *data, "--fitted", str(place / "model"), "--audience", "200"]
    bodies = _with_model(*cold, "--set", "rating.learn_from=40", "-o", str(place / "cold"))
    _keep(folder / "prompts-cold.txt", "".join(f"{line}\n" for line in bodies))
    _say(f"{dataset}: validate and ablate")
    light = ["--members", LIGHT]
    _run("validate", *fold, *light, "--json", str(place / "validity.json"))
    _run("ablate", *fold, *light, "--no-cache", "--json", str(place / "ablation.json"))
    _collect(place, folder)


def _pairs(dataset: str) -> pd.DataFrame:
    """2,000 pairs drawn by chance, and pairs of a stranger."""
    known = hs.load_dataset(dataset)
    chance = pd.Series(range(2000))
    users = known.users.index[(chance * 7919) % known.n_users]
    items = known.items.index[(chance * 104729) % known.n_items]
    strangers = pd.DataFrame({"user_id": ["a stranger"] * 3, "item_id": [*known.items.index[:2], "never seen"]})
    return pd.concat([pd.DataFrame({"user_id": users, "item_id": items}), strangers], ignore_index=True)


def _new_items() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": ["new-1", "new-2", "new-3"],
            "title": ["The Silent Harbour", "Robots of Tomorrow", "A Summer Romance"],
            "year": [1996, 1997, 1998],
            "genres": ["Drama", "Sci-Fi|Action", "Romance|Comedy"],
            "overview": [
                "A widow keeps a lighthouse.",
                "Machines rise against their makers.",
                "Two cooks fall in love.",
            ],
        }
    )


def _with_model(*words: str) -> list[str]:
    """Run a command that asks the loopback model; SHA-256 of the body of every request, sorted."""
    with LoopbackLLM() as server:
        _run(*words, "--model", "loopback", "--base-url", server.url)
        return sorted(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() for body in server.bodies)


def _collect(place: Path, folder: Path) -> None:
    """Copy what can be compared out of `place`, cleaned."""
    for path in sorted(place.rglob("*")):
        within = path.relative_to(place)
        if not path.is_file() or any(re.fullmatch("model|refitted-.*", part) for part in within.parts[:-1]):
            continue
        if path.suffix == ".json":
            _keep(folder / within, json.dumps(_without_volatile(json.loads(path.read_text())), indent=1))
        elif path.suffix in {".csv", ".jsonl", ".html"}:
            _keep(folder / within, _cleaned(path.read_text(), place))


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("name") == "cost":  # a section of validity: times alone
            return {"name": "cost"}
        return {name: _without_volatile(part) for name, part in value.items() if not VOLATILE.fullmatch(name)}
    return [_without_volatile(part) for part in value] if isinstance(value, list) else value


def _cleaned(text: str, place: Path) -> str:
    text = text.replace(str(place), "DIR")
    text = re.sub(r"http://(127\.0\.0\.1|localhost):\d+", "URL", text)
    text = re.sub(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+00:00|Z| UTC)?", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{40}(-dirty)?\b", "COMMIT", text)
    return re.sub(r"\b[\d.,]+ (s|seconds|minutes|min)\b", "SECONDS", text)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _run(*words: str) -> str:
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every kept file, by its path in the folder."""
    kept = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kept
        if "raw" not in path.relative_to(folder).parts
    }


def _differing(first: dict[str, str], second: dict[str, str]) -> list[str]:
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _told(names: list[str]) -> int:
    sys.stdout.write("".join(f"differs: {name}\n" for name in names) or "all equal\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
