"""Principal axes of features: few columns that keep nearly all inner products between rows."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, svds

from hybrid_sim.core.types import FloatArray

Features: TypeAlias = FloatArray | sp.csr_array


def leading_axes(features: Features, rank: int, centre: FloatArray | None = None) -> FloatArray:
    """Orthonormal directions of the largest singular values, strongest first, shape `(n_features, <= rank)`.

    `features` has shape `(n_rows, n_features)`; `centre` is taken from every row first. Directions in which the rows do
    not differ are left out. Exact for arrays and small sparse matrices, by Lanczos steps for large ones.
    """
    middle = np.zeros(features.shape[1]) if centre is None else centre
    if isinstance(features, np.ndarray):
        strengths, axes = np.linalg.eigh((features - middle).T @ (features - middle))
    elif min(features.shape) <= max(2 * rank, 64):
        _, singular, right = np.linalg.svd(features.toarray() - middle, full_matrices=False)
        strengths, axes = singular[::-1] ** 2, right[::-1].T
    else:
        _, singular, right = svds(_centred(features, middle), k=rank, v0=_start(min(features.shape)), tol=1e-4)
        strengths, axes = singular**2, right.T
    strengths, axes = strengths[::-1][:rank], axes[:, ::-1][:, :rank]
    return np.ascontiguousarray(axes[:, strengths > 1e-10 * max(strengths.max(initial=0.0), 1e-12)])


def _start(size: int) -> FloatArray:
    """A first Lanczos vector that is the same in every run."""
    return np.asarray(1.0 + np.arange(size) % 7, dtype=float)


def _centred(features: sp.csr_array, middle: FloatArray) -> LinearOperator:
    transposed = features.T.tocsr()
    return LinearOperator(
        features.shape,
        matvec=lambda v: features @ v.ravel() - middle @ v.ravel(),
        rmatvec=lambda w: transposed @ w.ravel() - middle * w.sum(),
        matmat=lambda v: features @ v - middle @ v,
        rmatmat=lambda w: transposed @ w - np.outer(middle, w.sum(axis=0)),
        dtype=np.float64,
    )
