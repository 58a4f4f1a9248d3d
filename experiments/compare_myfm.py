"""Our Bayesian factorization beside myFM (Ohtsuki), the public Bayesian factorization machine, in one run.

    python experiments/compare_myfm.py [RANK] [N_ITERATIONS]

On folds 1 to 3 of MovieLens 100K, looked for in HYBRID_SIM_DATA, both get the same training ratings, the
same rank, the same number of Gibbs sweeps and the same features: who rated what (rows of length one), how
often, age, gender, occupation, genres and year, no times, no texts. Both run on one thread. Writes
experiments/results/compare_myfm.json and prints a table.

myFM is no dependency of the project; install it beside it in an environment of its own:

    pip install myfm "setuptools<81"
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.provenance import provenance
from hybrid_sim.core.types import FloatArray, Pairs
from hybrid_sim.data import load
from hybrid_sim.evaluation.bootstrap import paired_bootstrap
from hybrid_sim.evaluation.protocols import Fold, make_protocol
from hybrid_sim.evaluation.resources import measured
from hybrid_sim.models.factorization import BayesianFactorization
from hybrid_sim.models.features import SideEncoder
from hybrid_sim.testing import tiny_dataset

try:
    import myfm
except ImportError as error:
    sys.exit(f"myFM cannot be imported ({error}); pip install myfm 'setuptools<81'")

DATA = Path(os.environ.get("HYBRID_SIM_DATA", "data"))
OUT = Path(__file__).parent / "results" / "compare_myfm.json"
FOLDS = (1, 2, 3)
PROTOCOLS = ("last40", "full")


@dataclass(frozen=True)
class Row:
    """One fold: accuracy of both on the held-out ratings, and the seconds it took."""

    protocol: str
    fold: int
    n: int
    rmse_ours: float
    rmse_myfm: float
    fit_seconds_ours: float
    fit_seconds_myfm: float
    ask_seconds_ours: float
    ask_seconds_myfm: float


def main(rank: int = 10, n_iterations: int = 200) -> None:
    """Compare, print and write."""
    dataset = load("ml-100k", DATA)
    BayesianFactorization(n_iterations=40, burn_in=1, n_draws=20).fit(tiny_dataset())  # compiles the kernels
    rows: list[Row] = []
    differences: dict[str, dict[str, float]] = {}
    for name in PROTOCOLS:
        losses: dict[str, list[FloatArray]] = {"ours": [], "myfm": []}
        users, labels = [], []
        for fold in make_protocol(name, dataset, folds=FOLDS, data=DATA).folds():
            row, ours, theirs = compare(name, fold, rank, n_iterations)
            rows.append(row)
            losses["ours"].append(ours)
            losses["myfm"].append(theirs)
            users.append(fold.held_out.user)
            labels.append(np.full(row.n, fold.number))
            print_row(row)
        interval = paired_bootstrap(
            np.concatenate(losses["ours"]),
            np.concatenate(losses["myfm"]),
            np.concatenate(users),
            folds=np.concatenate(labels),
        )
        differences[name] = asdict(interval)
        print_summary(name, [row for row in rows if row.protocol == name], differences[name])
    source = provenance(sys.argv, 0, dataset)
    report = {
        "settings": {"rank": rank, "n_iterations": n_iterations, "myfm": version("myfm")},
        "results": [asdict(row) for row in rows],
        "ours_minus_myfm_rmse": differences,
        "provenance": asdict(source),
    }
    write_whole(OUT, json.dumps(report, indent=1).encode())


def compare(protocol: str, fold: Fold, rank: int, n_iterations: int) -> tuple[Row, FloatArray, FloatArray]:
    """Both models on one fold; the squared error of each held-out rating by ours and by myFM."""
    train = replace(fold.train, timestamp=None)
    pairs, truth = fold.held_out.pairs, fold.held_out.rating
    with threadpool_limits(1):
        with measured() as fit_ours:
            ours = BayesianFactorization(n_factors=rank, n_iterations=n_iterations).fit(train)
        with measured() as ask_ours:
            squares_ours = (ours.expect(pairs) - truth) ** 2
        with measured() as fit_theirs:
            theirs = fit_myfm(train, rank, n_iterations)
        with measured() as ask_theirs:
            squares_theirs = (train.scale.clip(theirs(pairs)) - truth) ** 2
    row = Row(
        protocol=protocol,
        fold=fold.number,
        n=len(truth),
        rmse_ours=float(np.sqrt(squares_ours.mean())),
        rmse_myfm=float(np.sqrt(squares_theirs.mean())),
        fit_seconds_ours=fit_ours.seconds,
        fit_seconds_myfm=fit_theirs.seconds,
        ask_seconds_ours=ask_ours.seconds,
        ask_seconds_myfm=ask_theirs.seconds,
    )
    return row, squares_ours, squares_theirs


def fit_myfm(train: Dataset, rank: int, n_iterations: int) -> Callable[[Pairs], FloatArray]:
    """myFM with relation blocks of users and items, its fast way; each kind of feature is its own group."""
    by_user, user_groups = blocks(train, by_user=True)
    by_item, item_groups = blocks(train, by_user=False)

    def relations(asked: Pairs) -> list[Any]:
        return [myfm.RelationBlock(asked.user, by_user), myfm.RelationBlock(asked.item, by_item)]

    model = myfm.MyFMRegressor(rank=rank, random_seed=0)
    model.fit(
        sp.csr_matrix((len(train), 0)),
        train.rating,
        X_rel=relations(train.pairs),
        group_shapes=[*user_groups, *item_groups],
        n_iter=n_iterations,
        n_kept_samples=n_iterations - BayesianFactorization.burn_in,
    )
    return lambda asked: np.asarray(model.predict(sp.csr_matrix((len(asked), 0)), relations(asked)))


def blocks(train: Dataset, by_user: bool) -> tuple[sp.csr_matrix, list[int]]:
    """Identity, rated partners, how often, and side information of users (or items), and their widths."""
    own, other = (train.user, train.item) if by_user else (train.item, train.user)
    counts = train.user_counts if by_user else train.item_counts
    frame = train.users if by_user else train.items
    n_other = train.n_items if by_user else train.n_users
    met = sp.csr_matrix((1.0 / np.sqrt(counts[own]), (own, other)), shape=(len(counts), n_other))
    how_often = np.log1p(counts) if by_user else np.sqrt(counts)
    how_often = (how_often - how_often.mean()) / how_often.std()
    side = SideEncoder().fit(frame).encode_columns(frame).values()
    parts = [sp.identity(len(counts)), met, how_often[:, None], *side]
    return sp.csr_matrix(sp.hstack([sp.csr_matrix(part) for part in parts])), [part.shape[1] for part in parts]


def print_row(row: Row) -> None:
    """One line of the table."""
    sys.stdout.write(
        f"{row.protocol:<8} fold {row.fold}  RMSE {row.rmse_ours:.4f} / myFM {row.rmse_myfm:.4f}   "
        f"fit {row.fit_seconds_ours:.1f} s / {row.fit_seconds_myfm:.1f} s   "
        f"ask {row.ask_seconds_ours:.2f} s / {row.ask_seconds_myfm:.2f} s\n"
    )


def print_summary(name: str, rows: list[Row], difference: dict[str, float]) -> None:
    """Means over folds and the difference with its interval."""
    ours, theirs = np.mean([row.rmse_ours for row in rows]), np.mean([row.rmse_myfm for row in rows])
    ratio = sum(row.fit_seconds_ours for row in rows) / sum(row.fit_seconds_myfm for row in rows)
    sys.stdout.write(
        f"{name:<8} mean    RMSE {ours:.4f} / myFM {theirs:.4f}, difference {difference['estimate']:+.4f} "
        f"[{difference['low']:+.4f}, {difference['high']:+.4f}], {ratio:.2f} of its time to fit\n"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
