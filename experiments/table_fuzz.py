"""Is every damaged table read or refused with one sentence: python experiments/table_fuzz.py [N] [FILE].

Damages N (default 2,000) tables of ratings and items, one to three times each: bytes (flipped, cut, repeated,
inserted) and structure (cells that are none, columns and rows that are lost, repeated or swapped). Each is read and,
where it is accepted, held out and predicted by two baselines. Writes experiments/results/table_fuzz.json.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import logging
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from hybrid_sim.core.errors import HybridSimError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.data import read_dataset
from hybrid_sim.data.world import make_world
from hybrid_sim.evaluation.bench import bench

OUT = Path(__file__).parent / "results" / "table_fuzz.json"
SEED = 0
WORLD = make_world(SEED, n_users=12, n_items=15, ratings_per_user=6).dataset
CELLS = (
    "", " ", "nan", "NULL", "\\N", "-1", "99", "1e308", "-1e308", "inf", "1e-320", "3,5", "4/5", "True", "0x10",
    "\x00", "\x1b[31m", "\u202e", "9999-12-31", "0000-00-00", "20170828", "2017-08-28T12:00:00+02:00[Europe/Berlin]",
    "1503921600000", "42975.5", "1.23457E+12", "['a', 'b'", "[{'id': 1}]", "{", '"', "'", "a" * 5000, "[" * 3000,
    "9" * 400, "=1+1", "\uff11\uff12", "\U0001f600", "--1",
)  # fmt: skip


def main(n_tables: int = 2000, out: Path = OUT) -> None:
    """Damage, read, print and write."""
    report = {**fuzz(n_tables), "provenance": asdict(provenance(sys.argv, SEED, WORLD))}
    write_whole(out, json.dumps(report, indent=1).encode())
    sys.stdout.write(
        f"{n_tables:,} damaged tables: {report['outcomes']}; slowest {report['slowest_seconds']} s, "
        f"peak {report['peak_mb']} MB; tracebacks: {len(report['tracebacks'])}\n"
    )


def fuzz(n_tables: int) -> dict[str, Any]:
    """What became of damaged tables, the longest time and the most memory of the process."""
    rng = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    tracebacks: list[dict[str, str]] = []
    seconds: list[float] = []
    logging.getLogger("hybrid_sim").addHandler(logging.NullHandler())
    logging.getLogger("hybrid_sim").propagate = False
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n_tables):
            form = rng.choice(list(FORMS))
            paths = [_write(Path(folder), stem, form, rng, damage=stem == "ratings" or rng.random() < 0.25)
                     for stem in ("ratings", "items")]  # fmt: skip
            forms[form] += 1
            started = time.perf_counter()
            try:
                outcome = _use(paths[0], paths[1], rng)
            except Exception:  # noqa: BLE001  every other error is what is looked for
                outcome = "traceback"
                tracebacks.append({"form": form, "number": str(number), "error": traceback.format_exc()[-1500:]})
            seconds.append(time.perf_counter() - started)
            outcomes[outcome] += 1
    return {
        "tables": n_tables,
        "outcomes": dict(outcomes),
        "forms": dict(forms),
        "tracebacks": tracebacks,
        "slowest_seconds": round(max(seconds), 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _use(ratings: Path, items: Path, rng: random.Random) -> str:
    """Read the tables as one of the ways that options offer, and predict where they are accepted."""
    options: dict[str, Any] = rng.choice(
        [{}, {}, {"unrated": (0.0, float("nan"))}, {"missing_ids": "drop"}, {"missing_ids": "keep"}, {"header": []}]
    )
    try:
        dataset = read_dataset(ratings, items, **options)
    except HybridSimError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    try:
        bench(dataset, "kfold", ["global_mean", "user_mean"])
    except HybridSimError:
        return "read, too few to hold out"
    return "read"


def _write(folder: Path, stem: str, form: str, rng: random.Random, damage: bool) -> Path:
    suffix, pack = FORMS[form]
    frame = _frame(stem)
    kind = rng.choice(("structure", "bytes")) if damage else ""
    for _ in range(rng.randint(1, 3) if kind == "structure" else 0):
        frame = rng.choice(STRUCTURE)(frame, rng)
    content = pack(frame)
    for _ in range(rng.randint(1, 3) if kind == "bytes" else 0):
        content = rng.choice(BYTES)(content, rng)
    path = folder / f"{stem}{suffix}"
    path.write_bytes(content)
    return path


def _frame(stem: str) -> pd.DataFrame:
    """The world's ratings or items as text."""
    if stem == "items":
        items = WORLD.items.rename_axis("item_id").reset_index()
        return items.assign(genres=items["genres"].map("|".join)).astype(str).astype(object)
    columns = {
        "user_id": WORLD.users.index[WORLD.user],
        "item_id": WORLD.items.index[WORLD.item],
        "rating": WORLD.rating.astype(int),
        "timestamp": WORLD.timestamp,
    }
    return pd.DataFrame(columns).astype(str).astype(object)


def _delimited(delimiter: str) -> Callable[[pd.DataFrame], bytes]:
    def pack(frame: pd.DataFrame) -> bytes:
        text = frame.to_csv(index=False, sep=delimiter[0])
        return text.replace(delimiter[0], delimiter).encode("utf-8", "surrogatepass")

    return pack


def _parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.loc[:, ~frame.columns.duplicated()].to_parquet(stream, index=False)
    return stream.getvalue()


def _lines(frame: pd.DataFrame) -> bytes:
    return "\n".join(map(json.dumps, _records(frame))).encode()


def _records(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The rows as objects; a column name that occurs twice is written twice only by the damage of bytes."""
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.to_numpy().tolist()]


FORMS: dict[str, tuple[str, Callable[[pd.DataFrame], bytes]]] = {
    "comma": (".csv", _delimited(",")),
    "tab": (".tsv", _delimited("\t")),
    "double colon": (".dat", _delimited("::")),
    "semicolon": (".csv", _delimited(";")),
    "UTF-16": (".txt", lambda frame: _delimited("\t")(frame).decode().encode("utf-16")),
    "JSON lines": (".jsonl", _lines),
    "JSON array": (".json", lambda frame: json.dumps(_records(frame), indent=1).encode()),
    "Parquet": (".parquet", _parquet),
    "gzip": (".csv.gz", lambda frame: gzip.compress(_delimited(",")(frame))),
    "bzip2": (".jsonl.bz2", lambda frame: bz2.compress(_lines(frame))),
}
"""Suffix and writer of each form of a table."""


def _place(content: bytes, rng: random.Random) -> int:
    """Near the beginning in half of the cases: headers and magic numbers are there."""
    return rng.randrange(min(len(content), 100) if rng.random() < 0.5 else len(content)) if content else 0


def _flip(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _lose(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at + rng.randint(1, 40) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at : at + 60] * rng.randint(2, 50) + content[at:]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    strange = [
        b"\x00",
        b"\xff\xfe",
        b'"',
        b"\r",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"::",
        b"[",
        b"{}",
        b"\x1f\x8b",
    ]
    return content[:at] + rng.choice(strange) + content[at:]


def _cell(frame: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    frame = frame.copy()
    if frame.size:
        frame.iloc[rng.randrange(len(frame)), rng.randrange(frame.shape[1])] = rng.choice(CELLS)
    return frame


def _column(frame: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    frame = frame.copy()
    if frame.size:
        frame[rng.choice(list(frame.columns))] = rng.choice(CELLS)
    return frame


def _drop_column(frame: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    return frame.drop(columns=rng.choice(list(frame.columns))) if frame.shape[1] else frame


def _rename(frame: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    return frame.rename(columns={rng.choice(list(frame.columns)): rng.choice(CELLS)}) if frame.shape[1] else frame


def _rows(frame: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    rows = rng.choice([[], [0], list(range(len(frame))) * 2, list(range(len(frame)))[::-1]])
    return frame.iloc[[row for row in rows if row < len(frame)]]


def _swap(frame: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    names = list(frame.columns)
    rng.shuffle(names)
    return frame.set_axis(names, axis=1)


BYTES = (_flip, _cut, _lose, _repeat, _insert)
STRUCTURE = (_cell, _cell, _column, _drop_column, _rename, _rows, _swap)

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, Path(sys.argv[2]) if len(sys.argv) > 2 else OUT)
