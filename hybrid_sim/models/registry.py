"""The raters by name. A rater's own file registers it; the ensemble, its components, explanations and help derive.

A rater of another package is registered in the same way, in a module that the package names as an entry point of the
group `hybrid_sim.raters`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.registry import Registry

if TYPE_CHECKING:
    from hybrid_sim.core.embedder import Embedder
    from hybrid_sim.core.rater import Rater
    from hybrid_sim.core.types import RatingScale

TASTE, OTHERS = "taste", "others' ratings"
"""Groups of members in explanations: by the user's ratings of similar items, or by other users' ratings."""

SettingsForScale = Callable[["RatingScale"], Mapping[str, Any]]
R = TypeVar("R", bound=type)


@dataclass(frozen=True)
class Member:
    """A member of the ensemble: a default one, or (`default` False) one that is there only where it is named.

    `settings` of its rater may depend on the rating scale. `component` is the part of the ensemble that it is left out
    with (None: that of its rater). With `shape` its whole distributions are used, not only its expected ratings. With
    `light` it is also in the set of members that takes little time.
    """

    name: str
    component: str | None = None
    shape: bool = False
    settings: SettingsForScale = lambda scale: {}
    default: bool = True
    light: bool = False


@dataclass(frozen=True)
class RaterEntry:
    """What is known of a rater before one is made; see `rater` for the fields."""

    name: str
    rater_class: type[Any]
    order: float
    component: str | None
    group: str
    settings: SettingsForScale
    members: tuple[Member, ...]

    @property
    def setting_names(self) -> list[str]:
        """The fields that the class takes."""
        return [field.name for field in fields(self.rater_class) if field.init]

    def make(self, **settings: Any) -> Rater:
        """A rater that is not fitted yet.

        Raises:
            SettingsError: the class has no setting of a name in `settings`, or one is missing.
        """
        for setting in settings:
            if setting not in self.setting_names:
                raise SettingsError(
                    f"rater {self.name!r} has no setting {setting!r}; {nearest(setting, sorted(self.setting_names))}"
                )
        try:
            return cast("Rater", self.rater_class(**settings))
        except TypeError as error:
            names = ", ".join(sorted(self.setting_names)) or "none"
            raise SettingsError(f"rater {self.name!r} cannot be made: {error}; its settings are {names}") from error

    def unusual_settings(self, scale: RatingScale) -> dict[str, Any]:
        """The settings that suit the scale, where they are not the defaults of the class."""
        defaults = {field.name: field.default for field in fields(self.rater_class)}
        return {name: value for name, value in self.settings(scale).items() if value != defaults[name]}

    def suited_to(self, scale: RatingScale, embedder: Embedder | None, seed: int, **settings: Any) -> Rater:
        """An unfitted rater for ratings on `scale`, with this embedder (if any) and seed where it has such settings."""
        general = {"seed": seed} if embedder is None else {"embedder": embedder, "seed": seed}
        taken = {name: value for name, value in general.items() if name in self.setting_names}
        return self.make(**{**taken, **self.settings(scale), **settings})


RATERS: Registry[RaterEntry] = Registry(
    "rater", "raters", ("hybrid_sim.models", "hybrid_sim.retrieval"), sort_by=lambda entry: entry.order
)


def rater(
    name: str,
    *,
    order: float = 1000.0,
    component: str | None = None,
    group: str = "",
    settings: SettingsForScale = lambda scale: {},
    members: Sequence[Member] = (),
) -> Callable[[R], R]:
    """Register the dataclass below as the rater `name`.

    Raters, and so the ensemble's members, are sorted by `order`, the plain and quick ones first. `component` is the
    part of the ensemble that its members belong to. `group` names what its expectations come from, `TASTE`, `OTHERS` or
    another, as in "raised by 0.3 by the median": explanations give one contribution for all members of a group; without
    one its members count as an adjustment. `settings` are those that suit a rating scale, `members` the members of the
    ensemble that the rater provides.
    """

    def register(rater_class: R) -> R:
        entry = RaterEntry(name, rater_class, order, component, group, settings, tuple(members))
        RATERS.add(name, entry)
        return rater_class

    return register


def make_rater(name: str, **settings: Any) -> Rater:
    """A rater that is not fitted yet; `settings` are the fields of its class.

    >>> make_rater("biases", reg_user=8.0)
    Biases(reg_user=8.0, reg_item=2.5)
    >>> make_rater("biases", reg_users=8.0)
    Traceback (most recent call last):
    hybrid_sim.core.errors.SettingsError: rater 'biases' has no setting 'reg_users'; did you mean 'reg_user'?

    Raises:
        SettingsError: no rater has this name, or it has no setting of a name in `settings`, or one is missing.
    """
    return RATERS[name].make(**settings)


def registered_members() -> Iterator[tuple[RaterEntry, Member]]:
    """All members that the ensemble can have, with their raters, in the order in which they are combined."""
    return ((entry, member) for _, entry in RATERS.items() for member in entry.members)


def foreign_modules() -> tuple[str, ...]:
    """The modules of the raters that other installed packages have registered: saved models may hold their classes."""
    modules = {entry.rater_class.__module__ for _, entry in RATERS.items()}
    return tuple(sorted(module for module in modules if not module.startswith("hybrid_sim.")))
