"""The predictions of every member for a fold, computed once and stored: all subsets of members are made from them."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import ModelFileError, SettingsError, StorageError
from hybrid_sim.core.files import nearest, write_whole
from hybrid_sim.core.parallel import as_done
from hybrid_sim.core.provenance import package_versions
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.serialization import Arrays, read_arrays, write_arrays
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.ensemble.components import default_members, shapes_among
from hybrid_sim.ensemble.ensemble import BATCH, Ensemble
from hybrid_sim.ensemble.out_of_fold import MemberPredictions
from hybrid_sim.evaluation.protocols import Fold
from hybrid_sim.models.hold_outs import HoldOut, hold_outs
from hybrid_sim.models.means import GlobalMean
from hybrid_sim.models.support import Support
from hybrid_sim.retrieval.embedder import embedder_for

FORMAT = "hybrid-sim answers 3"

SOURCES = ("models", "retrieval", "core")
"""Parts of the package whose code, beside the versions of packages, decides whether stored answers still hold."""

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class MemberAnswers:
    """One member's answers about some pairs.

    Means have shape `(n_pairs, 2)`: the expectation as the member computes it, which may lie beyond the scale, and the
    mean of its distribution. Distributions have shape `(n_pairs, n_levels)`. `seconds` is CPU time, of fitting and of
    rating; where answers were joined, of all fits, of rating the out-of-fold pairs and of rating the held-out ones.
    """

    means: FloatArray
    probs: NDArray[np.float32]
    seconds: FloatArray


@dataclass(frozen=True)
class StackedAnswers:
    """All members' answers about some pairs: `means` `(n_pairs, n_members, 2)` as in `MemberAnswers`, and `probs`."""

    means: FloatArray
    probs: NDArray[np.float32]
    support: Support

    def predictions(self, columns: Sequence[int], shapes: Sequence[int]) -> MemberPredictions:
        """The predictions of the members `columns`, as an ensemble gathers them that uses distributions of `shapes`."""
        means = np.stack([self.means[:, k, int(k in shapes)] for k in columns], axis=1)
        return MemberPredictions(means, self.probs[:, shapes], self.support)


@dataclass(frozen=True)
class FoldAnswers:
    """All members' answers about one fold: `out_of_fold` about the training `ratings`, `test` about held-out pairs.

    `of_new` marks ratings of users who were left a few, as in `hybrid_sim.ensemble.out_of_fold`.

    `fallback` answers the held-out pairs where the ensemble has nothing to say, or knows neither user nor item
    (`known`), as in `hybrid_sim.simulation.simulator`.
    """

    members: tuple[str, ...]
    out_of_fold: StackedAnswers
    ratings: FloatArray
    of_new: NDArray[np.bool_]
    test: StackedAnswers
    known: NDArray[np.bool_]
    fallback: RatingDistribution
    seconds: Mapping[str, FloatArray]
    embedder: str

    def of(self, members: Sequence[str]) -> tuple[MemberPredictions, MemberPredictions]:
        """Out-of-fold and test predictions of these members alone, as a simulator of just these would gather them.

        Where no member whose shape is used is left, the distributions of all are used.
        """
        columns = [self.members.index(name) for name in members]
        shapes = [self.members.index(name) for name in shapes_among(members)] or columns
        return self.out_of_fold.predictions(columns, shapes), self.test.predictions(columns, shapes)


@dataclass(frozen=True)
class Inputs:
    """What predictions on one fold depend on: raters not yet fitted, the training ratings, and the held-out pairs."""

    raters: Mapping[str, Rater]
    embedder: Embedder
    train: Dataset
    plans: Sequence[HoldOut]
    pairs: Pairs

    def key(self, name: str) -> str:
        """A hash of all that the answers of a member depend on, the code of its rater included."""
        rater = self.raters[name]
        fields = [f for f in dataclasses.fields(rater) if f.init and f.name != "embedder"]  # type: ignore[arg-type]  # every rater is a dataclass
        content = {
            "format": FORMAT,
            "member": [name, type(rater).__name__, *(f"{f.name}={getattr(rater, f.name)!r}" for f in fields)],
            "embedder": self.embedder.fingerprint,
            "train": self.train.digest,
            "plans": _hashed(*(plan.held_rows for plan in self.plans)),
            "pairs": _hashed(self.pairs.user, self.pairs.item),
            "packages": package_versions(),
            "code": [_code_digest(package) for package in ("hybrid_sim", type(rater).__module__.partition(".")[0])],
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def gather(
    fold: Fold,
    members: Sequence[str] | None,
    *,
    seed: int = 0,
    embedder: Embedder | None = None,
    answer_folder: Path | None = None,
    n_jobs: int | None = None,
) -> FoldAnswers:
    """Fit and query the members (None: all of the ensemble) as fitting a simulator with this seed would.

    Answers that are stored in `answer_folder` are not computed again; new ones are stored there, member by member.

    Raises:
        DataError: there are too few ratings to hold any out.
        SettingsError: a member's name is not known, or `answer_folder` is no folder.
        StorageError: the disk is full or not writable.
    """
    embedder = embedder_for(fold.train, embedder)
    raters = default_members(fold.train.scale, embedder, seed, members or ())
    names = tuple(raters) if members is None else tuple(members)
    for name in names:
        if name not in raters:
            raise SettingsError(f"there is no member {name!r}; {nearest(name, raters)}")
    plans = hold_outs(fold.train, Ensemble.n_warm, Ensemble.n_cold, Ensemble.cold_share, seed, Ensemble.n_new)
    inputs = Inputs({name: raters[name] for name in names}, embedder, fold.train, plans, fold.held_out.pairs)
    answers = _stored_or_computed(inputs, answer_folder, n_jobs)
    supports = [Support.of(fold.train.take(p.train_rows), fold.train.pairs.take(p.held_rows)) for p in plans]
    rows = np.concatenate([plan.held_rows for plan in plans])
    means, probs = (np.stack([getattr(one, part) for one in answers], axis=1) for part in ("means", "probs"))
    n = len(rows)
    return FoldAnswers(
        names,
        StackedAnswers(means[:n], probs[:n], Support.concatenate(supports)),
        fold.train.rating[rows],
        np.concatenate([np.full(len(plan.held_rows), plan.of_new) for plan in plans]),
        StackedAnswers(means[n:], probs[n:], Support.of(fold.train, inputs.pairs)),
        _known(fold.train, inputs.pairs),
        GlobalMean().fit(fold.train).rate(inputs.pairs),
        {name: one.seconds for name, one in zip(names, answers, strict=True)},
        embedder.name,
    )


def _known(train: Dataset, pairs: Pairs) -> NDArray[np.bool_]:
    """Whether user or item of each pair is known from ratings, or the item from its text."""
    item_known = (train.item_counts > 0) | (np.array(item_texts(train), dtype=object) != "")
    return np.asarray(item_known[pairs.item] | (train.user_counts > 0)[pairs.user])


def _stored_or_computed(inputs: Inputs, answer_folder: Path | None, n_jobs: int | None) -> list[MemberAnswers]:
    keys = {name: inputs.key(name) for name in inputs.raters}
    answers: dict[str, MemberAnswers] = {}
    for name, key in keys.items():
        arrays = None if answer_folder is None else stored_answers(answer_folder, name, key)
        if arrays is not None:
            answers[name] = MemberAnswers(**arrays)
    missing = [name for name in inputs.raters if name not in answers]
    for name, answer in _compute(inputs, missing, n_jobs):
        answers[name] = answer
        if answer_folder is not None:
            store_answers(answer_folder, name, keys[name], vars(answer))
    return [answers[name] for name in inputs.raters]


def _compute(inputs: Inputs, names: Sequence[str], n_jobs: int | None) -> Iterator[tuple[str, MemberAnswers]]:
    """Fit each named member on every plan and on all training ratings, `n_jobs` fits at a time; as each is done."""
    train = inputs.train
    parts = [train.take(plan.train_rows) for plan in inputs.plans] + [train]
    pairs = [train.pairs.take(plan.held_rows) for plan in inputs.plans] + [inputs.pairs]
    waiting = [(name, k) for name in reversed(names) for k in reversed(range(len(parts)))]
    done: dict[str, dict[int, MemberAnswers]] = {name: {} for name in names}
    tasks = [(inputs.raters[name], parts[k], pairs[k]) for name, k in waiting]
    for place, part in as_done(_answer, tasks, n_jobs, "asking members", [name for name, _ in waiting]):
        name, k = waiting[place]
        done[name][k] = part
        if len(done[name]) == len(parts):
            yield name, _joined([done[name][k] for k in range(len(parts))])


def _joined(parts: Sequence[MemberAnswers]) -> MemberAnswers:
    """The answers about all out-of-fold pairs, then those about the held-out pairs, which are the last part."""
    fit, rate = np.array([part.seconds for part in parts]).T
    means, probs = np.concatenate([part.means for part in parts]), np.concatenate([part.probs for part in parts])
    return MemberAnswers(means, probs, np.array([fit.sum(), rate[:-1].sum(), rate[-1]]))


def _answer(rater: Rater, train: Dataset, pairs: Pairs) -> MemberAnswers:
    """Fit a copy of the rater and let it rate the pairs, some at a time."""
    started = time.thread_time()
    fitted = copy.deepcopy(rater).fit(train)
    between = time.thread_time()
    means, probs = np.empty((len(pairs), 2)), np.empty((len(pairs), train.scale.n_levels), dtype=np.float32)
    for first in range(0, len(pairs), BATCH):
        rows = slice(first, first + BATCH)
        distribution = fitted.rate(pairs.take(rows))
        probs[rows] = distribution.probs
        means[rows] = np.column_stack([expected(fitted, pairs.take(rows)), distribution.mean()])
    return MemberAnswers(means, probs, np.array([between - started, time.thread_time() - between]))


@cache
def _code_digest(package: str) -> str:
    """A hash of the code of a package that has raters, as it is in its files: yesterday's answers are not today's.

    Code without files (typed into a console) has another hash in every process.
    """
    module, content = sys.modules[package], hashlib.sha256()
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    if package == "hybrid_sim":
        folders = [folder / part for folder in folders for part in SOURCES]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not files and getattr(module, "__file__", None):
        files = [Path(str(module.__file__))]
    for file in files:
        content.update(file.name.encode() + b"\0" + file.read_bytes())
    return content.hexdigest() if files else os.urandom(16).hex()


def _hashed(*columns: IntArray) -> str:
    content = hashlib.sha256()
    for column in columns:
        content.update(len(column).to_bytes(8, "little"))
        content.update(np.ascontiguousarray(column).tobytes())
    return content.hexdigest()


def store_answers(folder: Path, name: str, key: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Keep the arrays in a folder under a name and a key, replacing what was there.

    Raises:
        SettingsError: `folder` is no folder.
        StorageError: the disk is full or not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingsError(f"{folder} is no folder; name another for the members' answers") from error
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror}); name another folder") from error
    content = io.BytesIO()
    write_arrays(content, dict(arrays))
    write_whole(_file(folder, name, key), content.getvalue())


def stored_answers(folder: Path, name: str, key: str) -> Arrays | None:
    """The arrays kept under this name and key; None where there are none, or only damaged ones, which the log says.

    Raises:
        SettingsError: `folder` is no folder, or a file in it cannot be read.
    """
    path = _file(folder, name, key)
    try:
        return read_arrays(io.BytesIO(path.read_bytes()), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name another folder") from error
    except ModelFileError:  # the checksums of the archive tell
        _log.warning("%s is damaged; the member is asked again", path.name)
        return None


def _file(folder: Path, name: str, key: str) -> Path:
    return folder / f"{name}-{key}.npz"
