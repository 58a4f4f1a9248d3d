"""The raters by name: `make_rater("svd", n_factors=50)`.

Adding a rater is its file and one line in `RATERS`; a rater's file, and what it needs, is imported when the
rater is made.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields
from importlib import import_module
from typing import Any, cast

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.rater import Rater

RATERS: dict[str, str] = {
    "global_mean": "hybrid_sim.models.means:GlobalMean",
    "user_mean": "hybrid_sim.models.means:UserMean",
    "item_mean": "hybrid_sim.models.means:ItemMean",
    "biases": "hybrid_sim.models.biases:Biases",
    "knn": "hybrid_sim.models.knn:KNN",
    "svd": "hybrid_sim.models.svd:SVD",
    "svdpp": "hybrid_sim.models.svdpp:SVDpp",
    "nmf": "hybrid_sim.models.nmf:NMF",
    "factorization": "hybrid_sim.models.factorization:BayesianFactorization",
    "kernel_gp": "hybrid_sim.models.kernel_gp:KernelGP",
    "content_gp": "hybrid_sim.retrieval.content_gp:ContentGP",
    "neighbours": "hybrid_sim.retrieval.neighbours:HistoryNeighbours",
    "facets": "hybrid_sim.retrieval.facets:SignedFacets",
    "boosted": "hybrid_sim.models.boosted_levels:BoostedLevels",
    "recorded": "hybrid_sim.models.recorded:Recorded",
}
"""Short name of every rater and where its class is, as `module:Class`."""


def make_rater(name: str, **settings: Any) -> Rater:
    """A rater that is not fitted yet; `settings` are the fields of its class.

    >>> make_rater("biases", reg_user=8.0)
    Biases(reg_user=8.0, reg_item=2.5)
    >>> make_rater("bias")
    Traceback (most recent call last):
    hybrid_sim.core.errors.SettingsError: there is no rater 'bias'; did you mean 'biases'?

    Raises:
        SettingsError: no rater has this name, or it has no setting of a name in `settings`, or a setting is
            missing.
    """
    if name not in RATERS:
        raise SettingsError(f"there is no rater {name!r}; {_suggest(name, RATERS)}")
    module, _, class_name = RATERS[name].partition(":")
    rater_class = getattr(import_module(module), class_name)
    known = {field.name for field in fields(rater_class) if field.init}
    for setting in settings:
        if setting not in known:
            raise SettingsError(f"rater {name!r} has no setting {setting!r}; {_suggest(setting, known)}")
    try:
        return cast(Rater, rater_class(**settings))
    except TypeError as error:
        raise SettingsError(f"rater {name!r} cannot be made: {error}; its settings are {_listed(known)}") from error


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {_listed(known)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
