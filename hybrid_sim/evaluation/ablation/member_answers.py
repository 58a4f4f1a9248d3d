"""The predictions of every member for a fold, computed once and stored: all subsets of members are made from them."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.parallel import as_done
from hybrid_sim.core.provenance import package_versions
from hybrid_sim.core.rater import Rater, expected
from hybrid_sim.core.texts import item_texts
from hybrid_sim.core.types import FloatArray, IntArray, Pairs, RatingDistribution
from hybrid_sim.ensemble.components import default_members, shapes_among
from hybrid_sim.ensemble.ensemble import BATCH, Ensemble
from hybrid_sim.ensemble.out_of_fold import MemberPredictions
from hybrid_sim.evaluation.ablation.answer_store import FORMAT, store_answers, stored_answers
from hybrid_sim.evaluation.protocols import Fold
from hybrid_sim.models.hold_outs import HoldOut, hold_outs
from hybrid_sim.models.means import GlobalMean
from hybrid_sim.models.support import Support
from hybrid_sim.retrieval.embedder import embedder_for

SOURCES = ("models", "retrieval", "core")
"""Parts of the package whose code, beside the versions of packages, decides whether stored answers still hold."""


@dataclass(frozen=True)
class MemberAnswers:
    """One member's answers: out of fold about training ratings, and about the held-out pairs.

    Means have shape `(n_pairs, 2)`: the expectation as the member computes it, which may lie beyond the scale, and the
    mean of its distribution. Distributions have shape `(n_pairs, n_levels)`. `seconds` is CPU time of all fits, of
    rating all out-of-fold pairs, and of rating the held-out pairs.
    """

    out_of_fold_means: FloatArray
    out_of_fold_probs: NDArray[np.float32]
    test_means: FloatArray
    test_probs: NDArray[np.float32]
    seconds: FloatArray


@dataclass(frozen=True)
class StackedAnswers:
    """All members' answers about some pairs: `means` `(n_pairs, n_members, 2)` as in `MemberAnswers`, and `probs`."""

    means: FloatArray
    probs: NDArray[np.float32]
    support: Support

    def opinions(self, columns: Sequence[int], shapes: Sequence[int]) -> MemberPredictions:
        """The opinions of the members `columns`, as an ensemble gathers them that uses distributions of `shapes`."""
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
        shapes = [self.members.index(name) for name in shapes_among(members)]
        columns = [self.members.index(name) for name in members]
        return self.out_of_fold.opinions(columns, shapes or columns), self.test.opinions(columns, shapes or columns)


@dataclass(frozen=True)
class Inputs:
    """What predictions on one fold depend on: raters not yet fitted, the training ratings, and the held-out pairs."""

    raters: Mapping[str, Rater]
    embedder: Embedder
    train: Dataset
    plans: Sequence[HoldOut]
    pairs: Pairs

    def key(self, name: str) -> str:
        """A hash of all that the answers of a member depend on."""
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
            "code": _code_digest(),
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
    return FoldAnswers(
        names,
        _together([(one.out_of_fold_means, one.out_of_fold_probs) for one in answers], Support.concatenate(supports)),
        fold.train.rating[rows],
        np.concatenate([np.full(len(plan.held_rows), plan.of_new) for plan in plans]),
        _together([(one.test_means, one.test_probs) for one in answers], Support.of(fold.train, inputs.pairs)),
        _known(fold.train, inputs.pairs),
        GlobalMean().fit(fold.train).rate(inputs.pairs),
        {name: one.seconds for name, one in zip(names, answers, strict=True)},
        embedder.name,
    )


def _together(answers: Sequence[tuple[FloatArray, NDArray[np.float32]]], support: Support) -> StackedAnswers:
    means, probs = zip(*answers, strict=True)
    return StackedAnswers(np.stack(means, axis=1), np.stack(probs, axis=1), support)


def _known(train: Dataset, pairs: Pairs) -> NDArray[np.bool_]:
    """Whether user or item of each pair is known from ratings, or the item from its text."""
    item_known = (train.item_counts > 0) | (np.array(item_texts(train), dtype=object) != "")
    return np.asarray(item_known[pairs.item] | (train.user_counts > 0)[pairs.user])


def _stored_or_computed(inputs: Inputs, answer_folder: Path | None, n_jobs: int | None) -> list[MemberAnswers]:
    keys = {name: inputs.key(name) for name in inputs.raters}
    stored = (
        {} if answer_folder is None else {name: stored_answers(answer_folder, name, key) for name, key in keys.items()}
    )
    answers = {name: MemberAnswers(**arrays) for name, arrays in stored.items() if arrays is not None}
    missing = [name for name in inputs.raters if name not in answers]
    for name, answer in _compute(inputs, missing, n_jobs):
        answers[name] = answer
        if answer_folder is not None:
            store_answers(answer_folder, name, keys[name], dataclasses.asdict(answer))
    return [answers[name] for name in inputs.raters]


@dataclass(frozen=True)
class _Part:
    """The predictions of one fit of a member, and its CPU seconds of fitting and of rating."""

    means: FloatArray
    probs: NDArray[np.float32]
    seconds: tuple[float, float]


def _compute(inputs: Inputs, names: Sequence[str], n_jobs: int | None) -> Iterator[tuple[str, MemberAnswers]]:
    """Fit each named member on every plan and on all training ratings, `n_jobs` fits at a time; as each is done."""
    train = inputs.train
    parts = [train.take(plan.train_rows) for plan in inputs.plans] + [train]
    pairs = [train.pairs.take(plan.held_rows) for plan in inputs.plans] + [inputs.pairs]
    waiting = [(name, k) for name in reversed(names) for k in reversed(range(len(parts)))]
    done: dict[str, dict[int, _Part]] = {name: {} for name in names}
    tasks = [(inputs.raters[name], parts[k], pairs[k]) for name, k in waiting]
    for place, part in as_done(_answer, tasks, n_jobs, "asking members", [name for name, _ in waiting]):
        name, k = waiting[place]
        done[name][k] = part
        if len(done[name]) == len(parts):
            yield name, _joined([done[name][k] for k in range(len(parts))])


def _joined(parts: Sequence[_Part]) -> MemberAnswers:
    *out_of_fold, test = parts
    fit, rate = sum(part.seconds[0] for part in parts), sum(part.seconds[1] for part in out_of_fold)
    return MemberAnswers(
        np.concatenate([part.means for part in out_of_fold]),
        np.concatenate([part.probs for part in out_of_fold]),
        test.means,
        test.probs,
        np.array([fit, rate, test.seconds[1]]),
    )


def _answer(rater: Rater, train: Dataset, pairs: Pairs) -> _Part:
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
    return _Part(means, probs, (between - started, time.thread_time() - between))


@cache
def _code_digest() -> str:
    """A hash of the code that members are made of: answers of yesterday's code are not today's."""
    root, content = Path(__file__).parents[2], hashlib.sha256()
    for part in SOURCES:
        for path in sorted((root / part).rglob("*.py")) or [root / part]:
            content.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def _hashed(*columns: IntArray) -> str:
    content = hashlib.sha256()
    for column in columns:
        content.update(len(column).to_bytes(8, "little"))
        content.update(np.ascontiguousarray(column).tobytes())
    return content.hexdigest()
