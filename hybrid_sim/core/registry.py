"""Registries: raters, data sets, protocols, metrics and commands by name, open to other packages."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest

T = TypeVar("T")


@dataclass
class Registry(Generic[T]):
    """Entries by name, in order of registration: those of this package, then those of installed packages.

    `noun` is what an entry is called in messages. `homes` are the modules that register entries when they are imported;
    a package stands for all of its modules. Another package adds entries by an entry point of the group
    `hybrid_sim.<plural>`, whose value is a module that registers them. Nothing is imported before the first look-up.
    `sort_by` gives an entry's key where another order than that of registration is wanted.

    >>> colours = Registry[int]("colour", "colours")
    >>> colours.add("red", 0xFF0000)
    >>> colours["red"], list(colours)
    (16711680, ['red'])
    >>> colours["rad"]
    Traceback (most recent call last):
    hybrid_sim.core.errors.SettingsError: there is no colour 'rad'; did you mean 'red'?
    """

    noun: str
    plural: str
    homes: Sequence[str] = ()
    sort_by: Callable[[T], float] | None = None
    _entries: dict[str, T] = field(default_factory=dict, init=False, repr=False)
    _loaded: bool = field(default=False, init=False, repr=False)

    def add(self, name: str, entry: T) -> None:
        """Register an entry.

        Raises:
            SettingsError: another entry has that name.
        """
        if self._entries.get(name, entry) is not entry:
            raise SettingsError(f"two {self.plural} are called {name!r}; rename one of them")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        """The entry of that name.

        Raises:
            SettingsError: there is none; the message names the nearest.
        """
        self._load()
        if name not in self._entries:
            raise SettingsError(f"there is no {self.noun} {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """Names and entries."""
        self._load()
        return list(self._entries.items())

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for home in self.homes:
            module = import_module(home)
            for part in pkgutil.iter_modules(getattr(module, "__path__", ())):
                import_module(f"{home}.{part.name}")
        for point in entry_points(group=f"hybrid_sim.{self.plural.replace(' ', '_')}"):
            try:
                point.load()
            except ImportError as error:
                raise SettingsError(
                    f"the installed package of {point.value} cannot be imported ({error}); mend or uninstall it"
                ) from error
        if self.sort_by is not None:
            key = self.sort_by
            self._entries = dict(sorted(self._entries.items(), key=lambda entry: key(entry[1])))
