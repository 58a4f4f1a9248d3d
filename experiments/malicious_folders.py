"""Do malicious folders run code, write elsewhere, hang, fill memory? python experiments/malicious_folders.py [FILE].

150 model and run folders hold planted code, links, pipes, devices, sparse files, bombs, wrong types or huge counts, 200
run folders are damaged by bytes. Each is read by the commands `predict`, `why`, `report` and `simulate` in a process of
its own. Writes experiments/results/malicious_folders.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybrid_sim.cli import main as command
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.data.world import make_world

OUT = Path(__file__).parent / "results" / "malicious_folders.json"
N_MALICIOUS, N_DAMAGED, SEED = 150, 200, 0
SECONDS, MEGABYTES = 30, 1000
MODEL_FILES = ("manifest.json", "model.json", "arrays.npz")
RUN_FILES = ("ratings.csv", "run.json", "explanations.jsonl", "profiles.jsonl")
LINKED = ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite.lock", "journal.sqlite.ballast", "simulator")
BOMBS = (b"[" * 200_000, b"[" + b"{}," * 9_000_000 + b"{}]", b'{"a":' * 100_000, b"9" * 400_000)
CODE = ("os:system", "hybrid_sim.retrieval.minilm:MiniLM", "builtins:eval", "planted:Planted")
ODD: tuple[Any, ...] = (None, [], {}, "x", -1, 1e300, 10**400, True, ["\x1b[31m"], {"a": {"b": []}}, [[]] * 1000)


def main(out: Path = OUT) -> None:
    """Make the folders, use each, count, print and write."""
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _quietly("fit", "--members", "biases", "-o", str(root / "model"))
        _quietly("simulate", "--members", "biases", "--user", "random:3", "--item", "random:3", "-o", str(root / "run"))
        malicious = [_trial(root, rng, number, _make_malicious) for number in range(N_MALICIOUS)]
        damaged = [_trial(root, rng, number, _make_damaged) for number in range(N_DAMAGED)]
    report = {
        "malicious": _counts(malicious),
        "damaged": _counts(damaged),
        "wrong": [one for one in (*malicious, *damaged) if _is_wrong(one)][:20],
        "provenance": asdict(provenance(sys.argv, SEED, make_world().dataset)),
    }
    write_whole(out, json.dumps(report, indent=1).encode() + b"\n")
    sys.stdout.write(f"malicious: {report['malicious']}\ndamaged: {report['damaged']}\n")


def _counts(trials: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "folders": len(trials),
        "code_run": sum(trial["code_run"] for trial in trials),
        "foreign_files_written": sum(trial["foreign"] for trial in trials),
        "hangs_over_30_s": sum(trial["seconds"] > SECONDS for trial in trials),
        "over_1_gb": sum(trial["mb"] > MEGABYTES for trial in trials),
        "tracebacks": sum(bool(trial["traceback"]) for trial in trials),
        "slowest_s": max(trial["seconds"] for trial in trials),
        "most_mb": max(trial["mb"] for trial in trials),
        "statuses": dict(Counter(str(trial["status"]) for trial in trials)),
        "kinds": dict(Counter(trial["kind"] for trial in trials)),
    }


def _is_wrong(trial: dict[str, Any]) -> bool:
    return bool(
        trial["code_run"] or trial["foreign"] or trial["traceback"] or trial["seconds"] > SECONDS
        or trial["mb"] > MEGABYTES
    )  # fmt: skip


def _trial(
    root: Path, rng: random.Random, number: int, make: Callable[[Path, random.Random, int], str]
) -> dict[str, Any]:
    """What one command does with one folder, in a forked process that is killed after `SECONDS`."""
    place = root / "trial"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in ("model", "run"):
        shutil.copytree(root / name, place / name)
    (place / "foreign").write_bytes(b"" if rng.random() < 0.5 else b"mine")
    before = (place / "foreign").read_bytes()
    kind = make(place, rng, number)
    words = _words(place, kind, rng)
    receiver, sender = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.close(receiver)
        os.write(sender, json.dumps(_use(words)).encode())
        os._exit(0)
    os.close(sender)
    ended = False
    while not ended and time.monotonic() - started <= SECONDS + 1:
        ended = os.waitpid(child, os.WNOHANG)[0] != 0
        time.sleep(0.01)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    answer = os.read(receiver, 60_000)
    os.close(receiver)
    used = json.loads(answer) if answer else {"status": "died", "traceback": "" if not ended else "died", "mb": 0}
    changed = not (place / "foreign").is_file() or (place / "foreign").read_bytes() != before
    seconds = round(time.monotonic() - started, 2)
    return {**used, "kind": kind, "command": words[0], "seconds": seconds, "foreign": changed,
            "code_run": (place / "mark").exists()}  # fmt: skip


def _use(words: list[str]) -> dict[str, Any]:
    """The status of a command, the end of its traceback, and the memory that it took more than before."""
    before, trace, status = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "", 1
    try:
        status = _quietly(*words)
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:  # noqa: BLE001  every other error is what is looked for
        trace = traceback.format_exc()[-1500:]
    mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return {"status": status, "traceback": trace, "mb": mb}


def _quietly(*words: str) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return command(list(words))


def _words(place: Path, kind: str, rng: random.Random) -> list[str]:
    pair = ["--user", "u0001", "--item", "f0001"]
    if kind.startswith("model"):
        return ["why", str(place / "model"), *pair]
    run, page = str(place / "run"), str(place / "page.html")
    again = ["simulate", "--members", "biases", *pair, "-o", run, "--quiet", "--model", "m", "--base-url",
             "http://127.0.0.1:9/v1", "--max-calls", "1"]  # fmt: skip
    if kind == "run link":
        return again
    return rng.choice([["report", run, "--html", page], ["compare", run, run], ["why", run, *pair]])


def _make_malicious(place: Path, rng: random.Random, number: int) -> str:
    kinds = ("model code", "model special", "model bomb", "model types", "run link", "run special", "run bomb",
             "run types")  # fmt: skip
    kind = kinds[number % len(kinds)]
    folder = place / kind.split()[0]
    file = folder / rng.choice(MODEL_FILES if folder.name == "model" else RUN_FILES)
    match kind.split()[1]:
        case "code":
            _plant(folder, place / "mark", rng)
        case "special":
            _special(file, rng)
        case "bomb" if folder.name == "model":
            _seal(folder, rng.choice(MODEL_FILES[1:]), rng.choice(BOMBS))
        case "bomb":
            file.write_bytes(rng.choice(BOMBS))
        case "link":
            target = folder / rng.choice(LINKED + RUN_FILES)
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            target.symlink_to(place / "foreign")
        case "types":
            file = folder / ("model.json" if folder.name == "model" else rng.choice(RUN_FILES[1:]))
            lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
            changed = "\n".join(json.dumps(_mistyped(json.loads(line), rng)) for line in lines).encode()
            if folder.name == "model":
                _seal(folder, file.name, changed)
            else:
                file.write_bytes(changed)
    return kind


def _plant(folder: Path, mark: Path, rng: random.Random) -> None:
    """Code beside the model, and a class or an embedder's folder that leads to it."""
    code = f"import os\nos.mkdir({str(mark)!r})\nclass Planted: pass\n"
    (folder.parent / "planted.py").write_text(code)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "planted.Planted"}]
    (folder.parent / "modules.json").write_text(json.dumps(modules))
    content = json.loads((folder / "model.json").read_text())
    local = {"folder": str(folder.parent), "weights_sha256": hashlib.sha256(b"").hexdigest()}
    content["settings"]["embedder"] = {"class": rng.choice(CODE), "settings": local, "fitted": {}}
    _seal(folder, "model.json", json.dumps(content).encode())


def _special(file: Path, rng: random.Random) -> None:
    file.unlink()
    kind = rng.choice(("pipe", "zero", "sparse"))
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as opened:
            opened.truncate(20 * 10**9)


def _seal(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a model, with a manifest that fits."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _mistyped(value: Any, rng: random.Random) -> Any:
    """The same with one value, anywhere in it, of another type or size."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        return {**value, key: _mistyped(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return [*value[:place], _mistyped(value[place], rng), *value[place + 1 :]]
    return rng.choice(ODD)


def _make_damaged(place: Path, rng: random.Random, number: int) -> str:
    file = place / "run" / RUN_FILES[number % len(RUN_FILES)]
    content = file.read_bytes()
    at = rng.randrange(len(content))
    pieces = (b"", bytes([rng.randrange(256)]), b"\x00\xff", b'"', b"\n", b",,", content[at : at + 50] * 3)
    file.write_bytes(content[:at] + rng.choice(pieces) + content[at + rng.choice((0, 1, 30, len(content))) :])
    return f"run damaged {file.name}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
