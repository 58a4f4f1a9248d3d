"""The parts of the ensemble that can be left out, by name: for ablations, and for settings that switch them off."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest

BASE = "biases"
"""The member that is always there: something must answer."""

MEMBERS_OF: dict[str, tuple[str, ...]] = {
    "embeddings": ("facets", "content_gp", "kernel_gp", "levels_content"),
    "neighbours": ("knn", "svd", "neighbours"),
    "factorization": ("factorization_1", "factorization_2", "levels"),
}
"""The members of each component that has some; with `BASE` they are all of `default_members`, each once."""

STEPS: dict[str, str] = {
    "combiner": "learned weights of the members; without it their plain average",
    "boosted": "small trees on what the weights leave over, where user and item have been rated",
    "calibration": "learned shares of the levels; without it the members' average distribution, moved to the mean",
}
"""Components that are steps after the members, and what they do."""

WITH_LLM: dict[str, str] = {
    "llm": "the correction by a language model's ratings",
    "profile": "updates of the profiles that a language model reads",
}
"""Components that exist only where a language model is asked, or was."""

COMPONENTS = (*MEMBERS_OF, *STEPS, *WITH_LLM)


@dataclass(frozen=True)
class Switches:
    """What is left of the ensemble: its members, in the order given, and which steps follow them."""

    members: tuple[str, ...]
    combiner: bool = True
    boosted: bool = True
    calibration: bool = True
    llm: bool = True
    profile: bool = True


def switched(members: Sequence[str], without: Collection[str] = ()) -> Switches:
    """The ensemble of `members` without what is named: components, or members one by one.

    >>> switched(["biases", "svd", "facets"], without=["embeddings", "boosted"])
    Switches(members=('biases', 'svd'), combiner=True, boosted=False, calibration=True, llm=True, profile=True)

    Raises:
        SettingsError: a name is not known, or no member is left.
    """
    for name in without:
        if name not in COMPONENTS and name not in members:
            known = list(dict.fromkeys([*COMPONENTS, *members]))
            raise SettingsError(f"there is no component or member {name!r}; {nearest(name, known)}")
    out = {member for name in without for member in MEMBERS_OF.get(name, (name,))}
    left = tuple(member for member in members if member not in out)
    if members and not left:
        raise SettingsError(f"without {', '.join(without)} no member is left; keep {BASE!r} at least")
    steps = {name: name not in without for name in (*STEPS, *WITH_LLM)}
    return Switches(left, **steps)
