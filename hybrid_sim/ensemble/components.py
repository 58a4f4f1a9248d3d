"""The parts of the ensemble by name: its default members, and what can be left out, for ablations and settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.core.types import RatingScale
from hybrid_sim.models.registry import registered_members

BASE = "biases"
"""The member that is in every ablation: something must answer."""

LIGHT = "light"
"""The name of a set of members that fits in a tenth of the time, among the names of members."""

GROUPS: dict[str, str] = {
    "embeddings": "members that compare texts, and those for new items",
    "neighbours": "neighbours and collaborative filtering",
    "factorization": "factorization machines",
    "profile": "what users with similar profiles gave, and the profiles that a language model reads",
}
"""Components that are groups of members, and what they are; raters of other packages may name further ones."""

STEPS: dict[str, str] = {
    "combiner": "learned weights of the members; without it their plain average",
    "boosted": "small trees on what the weights leave over, where user and item have been rated",
    "calibration": "learned shares of the levels; without it the members' average distribution, moved to the mean",
}
"""Components that are steps after the members, and what they do."""

WITH_LLM: dict[str, str] = {
    "llm": "the correction by a language model's ratings",
}
"""Components that exist only where a language model is asked, or was."""


def default_members(
    scale: RatingScale, embedder: Embedder, seed: int, further: Collection[str] = ()
) -> dict[str, Rater]:
    """The default members of the ensemble, and `further` ones by name, not fitted yet, in the order of combination.

    Each default member is there because leaving it out costs accuracy (see experiments). A member's seed is derived
    from its rater's name, and from its place among the members of that rater where there are several.
    """
    members = {}
    for entry, member in registered_members():
        if not member.default and member.name not in further:
            continue
        place = entry.members.index(member)
        keys = (entry.name, place) if len(entry.members) > 1 else (entry.name,)
        member_seed = derive_seed(seed, *keys) % 2**31
        members[member.name] = entry.suited_to(scale, embedder, member_seed, **member.settings(scale))
    return members


def with_sets(names: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """The names of members, `LIGHT` replaced by the members of that set; None stays None.

    >>> with_sets(["light", "knn"])
    ('biases', 'svd', 'content_gp', 'knn')
    """
    if names is None:
        return None
    light = [member.name for _, member in registered_members() if member.light]
    listed = [names] if isinstance(names, str) else names
    return tuple(dict.fromkeys(one for name in listed for one in (light if name == LIGHT else [name])))


def shapes_among(members: Collection[str]) -> list[str]:
    """Those of the members whose whole distributions are used, not only their expected ratings."""
    return [member.name for _, member in registered_members() if member.shape and member.name in members]


def members_of() -> dict[str, tuple[str, ...]]:
    """The members of each component that is a group of members; all but `BASE` are in one."""
    component_of = {member.name: member.component or entry.component for entry, member in registered_members()}
    names = [name for name in dict.fromkeys([*GROUPS, *component_of.values()]) if name is not None]
    return {name: tuple(member for member, its in component_of.items() if its == name) for name in names}


def components() -> dict[str, str]:
    """All components that can be left out, and what each is."""
    groups = {name: GROUPS.get(name, f"the members {', '.join(members)}") for name, members in members_of().items()}
    return {**groups, **STEPS, **WITH_LLM}


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
    names = dict.fromkeys([*components(), *members])
    for name in without:
        if name not in names:
            raise SettingsError(f"there is no component or member {name!r}; {nearest(name, names)}")
    groups = members_of()
    out = {member for name in without for member in groups.get(name, (name,))}
    left = tuple(member for member in members if member not in out)
    if members and not left:
        raise SettingsError(f"without {', '.join(without)} no member is left; keep {BASE!r} at least")
    return Switches(left, **{name: name not in without for name in (*STEPS, *WITH_LLM, "profile")})
